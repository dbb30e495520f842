"""A run as a drawing: one panel of bars for each metric that is compared, as SVG."""

from collections.abc import Iterator
from html import escape
from math import log10

from bench.report import figure
from bench.scenarios import burst, joins, lone, memory
from bench.summary import Key, Samples

PANELS = (
    (burst.NAME, burst.RATE, "Bursts: deliveries per second of CPU (more is better)"),
    (lone.NAME, lone.RATE, "Lone events: deliveries per second of CPU (more is better)"),
    (lone.NAME, lone.P99, "Lone events: p99 latency in ms (less is better)"),
    (memory.NAME, memory.SIZE, "Memory of an idle client in KiB (less is better)"),
    (joins.NAME, joins.COST, "A join of the large server: CPU in ms (less is better)"),
)
WIDTH, LABEL, VALUE = 900, 150, 120
ROW, BAR, TITLE, MARGIN = 34, 12, 30, 16
COLORS = {True: "#2b6cb0", False: "#90cdf4"}
"""With deflate offered, and without."""
STEEP = 20
"""From this ratio of the longest bar to the shortest on, the scale is logarithmic."""


def svg(samples: Samples) -> str:
    """The drawing; of panels without samples nothing is shown."""
    parts: list[str] = []
    top = MARGIN + TITLE
    for scenario, metric, title in PANELS:
        keys = [key for key in samples if (key.scenario, key.metric) == (scenario, metric)]
        if keys:
            parts += _panel(samples, keys, title, top)
            top += TITLE + ROW * len({key.server for key in keys}) + MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}"'
    legend = _text(MARGIN, MARGIN + 8, "dark: permessage-deflate offered; light: not. Medians.")
    return "\n".join(
        (
            f'{head} font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{top}" fill="white"/>',
            legend,
            *parts,
            "</svg>\n",
        )
    )


def _panel(samples: Samples, keys: list[Key], title: str, top: int) -> Iterator[str]:
    values = {key: max(samples.summary(key).median, 0.0) for key in keys}
    positive = [value for value in values.values() if value > 0] or [1.0]
    low, high = min(positive), max(positive)
    steep = high / low > STEEP
    note = " (logarithmic)" if steep else ""
    yield _text(MARGIN, top + 16, title + note, weight="bold")
    servers = dict.fromkeys(key.server for key in keys)
    for row, server in enumerate(servers):
        y = top + TITLE + row * ROW
        yield _text(MARGIN, y + 16, server)
        for key in keys:
            if key.server == server:
                share = _share(values[key], low, high, steep=steep)
                yield _bar(y + (0 if key.deflate else BAR + 1), share, values[key], key.deflate)


def _share(value: float, low: float, high: float, *, steep: bool) -> float:
    if value <= 0:
        return 0.0
    if steep:  # the shortest bar is a tenth of the longest
        return 0.1 + 0.9 * log10(value / low) / log10(high / low)
    return value / high


def _bar(y: int, share: float, value: float, deflate: bool) -> str:  # noqa: FBT001
    length = round((WIDTH - LABEL - VALUE - 2 * MARGIN) * share)
    bar = f'<rect x="{LABEL}" y="{y}" width="{length}" height="{BAR}" fill="{COLORS[deflate]}"/>'
    return bar + _text(LABEL + length + 6, y + 10, figure(value))


def _text(x: int, y: int, words: str, weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" font-weight="{weight}">{escape(words)}</text>'
