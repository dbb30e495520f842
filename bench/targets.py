"""The targets of the comparison, and whether they are reached.

Most are ratios between servers of the same run. A target that ends with ``ABSOLUTE`` is a figure
of this machine in this hour: another machine, or a busier one, has another.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median

from bench.contestants import FLOOR, OLD, OURS, OURS_UVLOOP, PICOWS
from bench.plan import Scale
from bench.scenarios import (
    awaited,
    burst,
    cold,
    crowd,
    growth,
    joins,
    lists,
    lone,
    memory,
    slow,
    start,
)
from bench.summary import Key, Samples

ABSOLUTE = "(absolute)"
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

    def absolute(self, target: str, scenario: str, metric: str, most: float) -> Verdict:
        value = self.median(scenario, metric)
        target = f"{target} ≤ {most:g} {ABSOLUTE}"
        return self.verdict(target, value, lambda it: it <= most, "{:.3g}")

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
    for peer, least in ((FLOOR, 0.85), (PICOWS, 1)):
        yield judge.at_least(lone.NAME, lone.RATE, peer, least)


def _memory(judge: _Judge, _: Scale) -> Iterator[Verdict]:
    yield judge.absolute("memory: KiB per idle client", memory.NAME, memory.SIZE, 14)


def _joins(judge: _Judge, _: Scale) -> Iterator[Verdict]:
    key, old = judge.key(joins.NAME, joins.COST), judge.key(joins.NAME, joins.COST, OLD)
    target, least = f"joins: {OLD} costs ≥ 50 times", 50
    ratio = judge.samples.ratio(old, key)
    yield judge.verdict(target, ratio, lambda value: value >= least, "{:.1f}")
    plain = replace(judge, deflate=False)
    yield plain.absolute("joins without deflate: CPU ms", joins.NAME, joins.COST, 5)
    yield plain.absolute("joins without deflate: p99 ms", joins.NAME, joins.P99, 100)


def _cold(judge: _Judge, scale: Scale) -> Iterator[Verdict]:
    few, many = scale.cold_users
    for users, most in zip(scale.cold_users, (0.35, 2), strict=True):
        yield judge.absolute(
            f"cold join, {users:,} users: CPU s", cold.NAME, cold.COST.format(users), most
        )
    keys = (judge.key(cold.NAME, cold.COST.format(users)) for users in (many, few))
    target = f"cold join, {few:,} to {many:,} users: growth of CPU by that of users"
    ratio = judge.samples.ratio(*keys)
    per_user = None if ratio is None else ratio / (many / few)
    yield judge.at_most(target, per_user, 1.05, "{:.2f}")  # 1, and what the clock leaves open
    size = cold.SIZE.format(few)
    yield judge.absolute("memory: bytes per user", cold.NAME, size, 400)


def _lists(judge: _Judge, _: Scale) -> Iterator[Verdict]:
    changed = judge.key(lists.NAME, lists.CHANGED)
    for metric in (lists.CACHED, lists.COMPRESSED, lists.KNOWN):
        what = metric.removeprefix("CPU ms/")
        share = judge.samples.ratio(judge.key(lists.NAME, metric), changed)
        target = f"lists: a {what}, as a share of a new snapshot,"
        yield judge.at_most(target, share, 1 / 50, "{:.3f}")


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
    few, many = scale.growth_clients
    lone_growth = _growth(judge, growth.LONE, scale)
    target = f"growth: lone, {few} to {many} clients: times {FLOOR}'s own"
    floor_growth = _growth(judge, growth.LONE, scale, FLOOR)
    both = None if lone_growth is None or floor_growth is None else lone_growth / floor_growth
    yield judge.at_most(target, both, 1, "{:.2f}")
    target = f"growth: burst, {few} to {many} clients: times"
    yield judge.at_most(target, _growth(judge, growth.BURSTS, scale), 1.5, "{:.2f}")


def _growth(judge: _Judge, metric: str, scale: Scale, server: str | None = None) -> float | None:
    few, many = (
        judge.key(growth.CLIENTS, metric.format(size), server) for size in scale.growth_clients
    )
    return judge.samples.ratio(many, few)


def _crowd(judge: _Judge, scale: Scale) -> Iterator[Verdict]:
    what = f"crowd: {scale.growth_clients[1]} clients, {1 / scale.crowd_interval:.0f} events/s:"
    yield judge.absolute(f"{what} {crowd.SHARE}", crowd.NAME, crowd.SHARE, 45)
    yield judge.absolute(f"{what} {crowd.P99}", crowd.NAME, crowd.P99, 150)


def _awaited(judge: _Judge, _: Scale) -> Iterator[Verdict]:
    if judge.ours == OURS:
        new, old = (
            judge.key(awaited.NAME, awaited.RATE, server) for server in (awaited.COMPAT.name, OLD)
        )
        ratio, least = judge.samples.ratio(new, old), 150
        target = f"awaited broadcasts: ≥ {least} times {OLD}"
        yield judge.verdict(target, ratio, lambda value: value >= least, "{:.0f}")


def _start(judge: _Judge, _: Scale) -> Iterator[Verdict]:
    if judge.ours == OURS:
        keys = (judge.key(start.NAME, metric) for metric in (start.VERSION, start.IMPORTS))
        target = "start: --version by the import of its libraries"
        yield judge.at_most(target, judge.samples.ratio(*keys), 1.3, "{:.2f}")


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
    (cold.NAME, _cold),
    (lists.NAME, _lists),
    (slow.NAME, _slow),
    (growth.CLIENTS, _clients),
    (growth.SERVERS, _servers),
    (crowd.NAME, _crowd),
    (awaited.NAME, _awaited),
    (start.NAME, _start),
)
