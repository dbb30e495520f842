"""A run as a table and as JSON."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from bench.plan import Run, Sample
from bench.summary import Key, Samples, Summary
from bench.targets import Verdict

WIDTHS = (20, 34, 18)
"""Of the columns that hold words."""
NUMBERS = 30


def table(samples: Samples) -> Iterator[str]:
    """A line for every server and metric of every scenario: the median and, in brackets, the
    lowest and the highest round; first with deflate offered, then without."""
    yield _line("", "", "", "deflate offered", "no deflate")
    rows = dict.fromkeys((key.scenario, key.metric, key.server) for key in samples)
    scenario, metric = "", ""
    for row in sorted(rows, key=lambda row: _place(row, list(rows))):
        if row[0] != scenario:
            yield ""
        cells = [_cell(samples, Key(*row, deflate=deflate)) for deflate in (True, False)]
        new = row[:2] != (scenario, metric)
        yield _line(row[0] if row[0] != scenario else "", row[1] if new else "", row[2], *cells)
        scenario, metric = row[:2]


def judgement(found: Sequence[Verdict]) -> Iterator[str]:
    """A line for every target."""
    words = {True: "reached", False: "MISSED", None: "-"}
    for each in found:
        yield f"{words[each.reached]:8} {each.target:66} {each.measured:20} {each.server}"


def as_json(run: Run, samples: Sequence[Sample], found: Sequence[Verdict]) -> str:
    """Everything, for other programs."""
    summaries = Samples(samples)
    document = {
        "machine": {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
        },
        "scale": asdict(run.scale),
        "notes": run.notes,
        "verdicts": [asdict(each) for each in found],
        "summaries": [asdict(key) | asdict(summaries.summary(key)) for key in summaries],
        "samples": [asdict(each) for each in samples],
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def figure(value: float) -> str:
    """Three digits that count, and thousands set apart."""
    size = abs(value)
    if size >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"  # noqa: PLR2004


def _place(row: tuple[str, str, str], rows: list[tuple[str, str, str]]) -> tuple[int, int, int]:
    """Rounds begin with another server each; the table keeps the metrics of one together."""
    scenarios = [each[0] for each in rows]
    metrics = [each[:2] for each in rows]
    return scenarios.index(row[0]), metrics.index(row[:2]), rows.index(row)


def _cell(samples: Samples, key: Key) -> str:
    return "" if key not in samples else _spread(samples.summary(key))


def _spread(summary: Summary) -> str:
    middle = figure(summary.median)
    if summary.rounds == 1:
        return middle
    return f"{middle} ({figure(summary.lowest)}-{figure(summary.highest)})"


def _line(*cells: str) -> str:
    words = "".join(f"{cell:{width}}" for cell, width in zip(cells, WIDTHS, strict=False))
    return words + "".join(f"{cell:>{NUMBERS}}" for cell in cells[len(WIDTHS) :])
