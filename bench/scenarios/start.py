"""What it costs to start the command, beside importing the libraries that it is made of."""

import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from statistics import median

from bench.plan import Run, Sample

NAME = "start"
VERSION, IMPORTS = "CPU ms, --version", "CPU ms, its libraries"
COMMANDS: dict[str, Sequence[str]] = {
    VERSION: ("-m", "d_back_core", "--version"),
    IMPORTS: ("-c", "import asyncio, websockets.asyncio.server, pluggy, msgspec, click"),
}


def measure(run: Run) -> Iterator[Sample]:
    """Both in turn; the loop of the gateway makes no difference to it."""
    contestants = run.ours()[:1]
    for number, contestant, deflate in run.turns(contestants, columns=run.scale.columns[:1]):
        used: dict[str, list[float]] = {metric: [] for metric in COMMANDS}
        for _ in range(run.scale.starts):
            for metric, arguments in COMMANDS.items():
                used[metric].append(_cpu(arguments))
        for metric, values in used.items():
            yield Sample(
                scenario=NAME,
                server=contestant.name,
                deflate=deflate,
                round=number,
                metric=metric,
                value=median(values) * 1000,
            )


def _cpu(arguments: Sequence[str]) -> float:
    """Return the seconds of CPU of one Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(  # noqa: S603  what stands above
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
