"""``python -m bench``: run the comparison, print it, and write it down."""

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import report
from bench.contestants import NAMES, prepare
from bench.plan import FULL, QUICK, Run, Sample
from bench.plot import svg
from bench.scenarios import SCENARIOS
from bench.summary import Samples
from bench.targets import verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 where something failed on the way, 0 even where a target is missed."""
    options = _options(arguments)
    _raise_file_limit()
    contestants, notes = prepare(options.server)
    scale = QUICK if options.quick else FULL
    if options.rounds:
        scale = replace(scale, rounds=options.rounds, growth_rounds=options.rounds)
    if options.quick:
        notes.append(
            "--quick: smaller than the targets mean; it says little of those that need the size"
        )
    run = Run(scale=scale, contestants=contestants, notes=notes)
    left_out = len(notes)
    samples: list[Sample] = []
    try:
        for name in options.scenario or SCENARIOS:
            for sample in SCENARIOS[name](run):
                samples.append(sample)
                _progress(sample)
    except KeyboardInterrupt:
        run.notes.append("interrupted")
    _publish(run, samples, options.out)
    return 1 if len(run.notes) > left_out else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, in some two minutes")
    parser.add_argument(
        "--scenario", action="append", choices=list(SCENARIOS), help="only this; may be repeated"
    )
    parser.add_argument(
        "--server", action="append", choices=NAMES, help="only this; may be repeated"
    )
    parser.add_argument("--rounds", type=int, help="how often every server has its turn")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results",
        help="folder for bench.json and bench.svg",
    )
    return parser.parse_args(arguments)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _progress(sample: Sample) -> None:
    offered = "deflate" if sample.deflate else "plain"
    words = (time.strftime("%H:%M:%S"), sample.scenario, f"round {sample.round + 1}")
    value = report.figure(sample.value)
    sys.stderr.write("  ".join((*words, sample.server, offered, sample.metric, value)) + "\n")


def _publish(run: Run, samples: list[Sample], out: Path) -> None:
    summaries = Samples(samples)
    found = verdicts(summaries, run.scale)
    lines = [*report.table(summaries), "", *report.judgement(found), "", *run.notes]
    sys.stdout.write("\n".join(lines) + "\n")
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(report.as_json(run, samples, found))
    (out / "bench.svg").write_text(svg(summaries))


if __name__ == "__main__":
    sys.exit(main())
