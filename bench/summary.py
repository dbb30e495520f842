"""From samples to medians, spreads and ratios."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench.plan import Sample


@dataclass(frozen=True, order=True)
class Key:
    """What samples of several rounds have in common."""

    scenario: str
    metric: str
    server: str
    deflate: bool


@dataclass(frozen=True)
class Summary:
    """Of all rounds."""

    median: float
    lowest: float
    highest: float
    rounds: int


class Samples:
    """All samples of a run."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._rounds: dict[Key, dict[int, float]] = {}
        for each in samples:
            key = Key(each.scenario, each.metric, each.server, each.deflate)
            self._rounds.setdefault(key, {})[each.round] = each.value

    def __iter__(self) -> Iterator[Key]:
        """In the order in which they were measured."""
        return iter(self._rounds)

    def __contains__(self, key: object) -> bool:
        return key in self._rounds

    def summary(self, key: Key) -> Summary:
        """The median and the spread."""
        values = list(self._rounds[key].values())
        return Summary(median(values), min(values), max(values), len(values))

    def paired(self, one: Key, other: Key) -> list[tuple[float, float]]:
        """The values of both in each round that both have."""
        first, second = self._rounds.get(one, {}), self._rounds.get(other, {})
        return [(first[number], second[number]) for number in first if number in second]

    def ratio(self, one: Key, other: Key) -> float | None:
        """The median of the rounds' ratios; None where no round has both."""
        ratios = [first / second for first, second in self.paired(one, other) if second]
        return median(ratios) if ratios else None


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of these, at least one, do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
