"""The long run: programs of new seeds until the time is over, and what they showed."""

import asyncio
import time
from collections import Counter

import click
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from promise.program import Program, chains, lines
from promise.run import run

AT_ONCE = 25
"""Programs of one seed."""
COUNTS = ("programs", "events", "reloads", "stalls", "cuts", "resumes", "resyncs", "comparisons")


@click.command()
@click.option("--minutes", default=10.0, help="How long it runs.")
@click.option("--first-seed", default=1, help="The seed that it begins with.")
@click.option("--shrink/--no-shrink", default=True, help="Make what differs small.")
def main(minutes: float, first_seed: int, shrink: bool) -> None:  # noqa: FBT001 # click's
    """Look for a client that does not end with the truth."""
    end = time.monotonic() + minutes * 60
    counts: Counter[str] = Counter()
    found: list[str] = []
    number = first_seed
    while time.monotonic() < end:
        for name, programs in (("lines", lines), ("chains", chains)):
            if difference := _try(programs, number, counts, end, shrink=shrink):
                found.append(difference)
                click.echo(f"seed {number}, {name}: {difference}\n")
        number += 1
    parts = [f"{counts[key]} {key}" for key in COUNTS]
    click.echo(f"{minutes:g} minutes, {', '.join(parts)}, {len(found)} differences")
    raise SystemExit(1 if found else 0)


def _try(
    programs: st.SearchStrategy[Program],
    number: int,
    counts: Counter[str],
    end: float,
    *,
    shrink: bool,
) -> str:
    """Run programs of this seed; the smallest that was found to differ, or an empty text."""
    smallest = ""

    @seed(number)
    @settings(
        max_examples=AT_ONCE,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(programs)
    def kept(program: Program) -> None:
        nonlocal smallest
        if time.monotonic() > end:
            return
        report = asyncio.run(run(program))
        counts.update(report.counts)
        if report.differences:
            text = "\n    ".join([repr(program), *report.differences[:5]])
            smallest = min(smallest or text, text, key=len)
        assert not report.differences  # so that hypothesis learns of it

    try:
        kept()
    except Exception:  # also "flaky": sockets are not the same every time
        if not smallest:
            raise
    return smallest


if __name__ == "__main__":
    main()
