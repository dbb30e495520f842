"""The targets of the comparison: ratios between servers of the same run, and whether they are
reached."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from bench.contestants import FLOOR, OLD, OURS, OURS_UVLOOP, PICOWS
from bench.plan import Scale
from bench.scenarios import burst, growth, joins, lone, memory, slow
from bench.summary import Key, Samples

MAX_LATER_GROWTH = 1.0
"""MiB that a client which does not read may cost more after five seconds of events."""


@dataclass(frozen=True)
class Verdict:
    """Of one target, for our gateway on one loop."""

    target: str
    server: str
    measured: str
    reached: bool | None
    """None: what it is compared with was not measured."""


def verdicts(samples: Samples, scale: Scale) -> list[Verdict]:
    """For all targets whose scenarios were run; clients offer deflate."""
    measured = {key.scenario for key in samples}
    deflate = scale.columns[0]
    found: list[Verdict] = []
    for ours in (OURS, OURS_UVLOOP):
        judge = _Judge(samples, ours, deflate=deflate)
        for scenario, rule in _RULES:
            if scenario in measured:
                found += rule(judge, scale)
    return [each for each in found if each.reached is not None or each.server == OURS]


@dataclass(frozen=True)
class _Judge:
    samples: Samples
    ours: str
    deflate: bool

    def key(self, scenario: str, metric: str, server: str | None = None) -> Key:
        return Key(scenario, metric, server or self.ours, self.deflate)

    def at_least(self, scenario: str, metric: str, peer: str, least: float) -> Verdict:
        ratio = self.samples.ratio(self.key(scenario, metric), self.key(scenario, metric, peer))
        target = f"{scenario}: ≥ {least:g} times {peer}"
        return self.verdict(target, ratio, lambda value: value >= least, "{:.2f}")

    def at_most(self, target: str, value: float | None, most: float, form: str) -> Verdict:
        return self.verdict(f"{target} ≤ {most:g}", value, lambda it: it <= most, form)

    def verdict(
        self, target: str, value: float | None, reached: Callable[[float], bool], form: str
    ) -> Verdict:
        if value is None:
            return Verdict(target, self.ours, "not measured", None)
        return Verdict(target, self.ours, form.format(value), reached(value))

    def median(self, scenario: str, metric: str) -> float | None:
        key = self.key(scenario, metric)
        return self.samples.summary(key).median if key in self.samples else None


def _burst(judge: _Judge, _: Scale) -> Iterator[Verdict]:
    for peer, least in ((OLD, 40), (PICOWS, 5), (FLOOR, 1)):
        yield judge.at_least(burst.NAME, burst.RATE, peer, least)


def _lone(judge: _Judge, _: Scale) -> Iterator[Verdict]:
    for peer, least in ((FLOOR, 0.75), (PICOWS, 1)):
        yield judge.at_least(lone.NAME, lone.RATE, peer, least)


def _memory(judge: _Judge, _: Scale) -> Iterator[Verdict]:
    size = judge.median(memory.NAME, memory.SIZE)
    yield judge.at_most("memory: KiB per idle client", size, 14, "{:.1f}")


def _joins(judge: _Judge, _: Scale) -> Iterator[Verdict]:
    key, old = judge.key(joins.NAME, joins.COST), judge.key(joins.NAME, joins.COST, OLD)
    target, least = f"joins: {OLD} costs ≥ 50 times", 50
    ratio = judge.samples.ratio(old, key)
    yield judge.verdict(target, ratio, lambda value: value >= least, "{:.1f}")


def _slow(judge: _Judge, _: Scale) -> Iterator[Verdict]:
    pairs = judge.samples.paired(
        judge.key(slow.NAME, slow.TOGETHER), judge.key(slow.NAME, slow.ALONE)
    )
    target = "slow: p99 of the others ≤ 1.2 times, or + 2 ms"
    if not pairs:
        yield Verdict(target, judge.ours, "not measured", None)
        return
    ratio = median(together / alone for together, alone in pairs)
    more = median(together - alone for together, alone in pairs)
    reached = ratio <= 1.2 or more <= 2  # noqa: PLR2004  as the target says
    yield Verdict(target, judge.ours, f"{ratio:.2f}, {more:+.1f} ms", reached)
    growth_of_each = judge.median(slow.NAME, slow.GROWTH)
    target = "slow: MiB that each goes on growing"
    yield judge.at_most(target, growth_of_each, MAX_LATER_GROWTH, "{:.2f}")


def _clients(judge: _Judge, scale: Scale) -> Iterator[Verdict]:
    for metric in (growth.LONE, growth.BURSTS):
        few, many = (
            judge.key(growth.CLIENTS, metric.format(size)) for size in scale.growth_clients
        )
        what = (
            f"{metric.split()[0]}, {scale.growth_clients[0]} to {scale.growth_clients[1]} clients:"
        )
        yield judge.at_most(f"growth: {what} times", judge.samples.ratio(many, few), 1.5, "{:.2f}")


def _servers(judge: _Judge, scale: Scale) -> Iterator[Verdict]:
    few, many = (
        judge.key(growth.SERVERS, growth.EACH.format(size)) for size in scale.growth_servers
    )
    what = f"{scale.growth_servers[0]} to {scale.growth_servers[1]} servers:"
    yield judge.at_most(f"growth: {what} times", judge.samples.ratio(many, few), 1.5, "{:.2f}")


_RULES: tuple[tuple[str, Callable[[_Judge, Scale], Iterator[Verdict]]], ...] = (
    (burst.NAME, _burst),
    (lone.NAME, _lone),
    (memory.NAME, _memory),
    (joins.NAME, _joins),
    (slow.NAME, _slow),
    (growth.CLIENTS, _clients),
    (growth.SERVERS, _servers),
)
