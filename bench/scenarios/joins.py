"""Joins of one large server that is alive: what one join costs, less what the events cost."""

import time
from collections.abc import Iterator

from bench.contestants import OLD
from bench.errors import BenchError
from bench.plan import Run, Sample, Scale
from bench.summary import percentile
from bench.turn import Turn, failing_alone, started

NAME = "joins"
MAX_WAITING = 8
"""Joins under way at once; of d-back 0.0.18, one."""
TIMEOUT = 120.0
COST = "CPU ms/join"
P99 = "p99 ms"


def measure(run: Run) -> Iterator[Sample]:
    """Our gateway and d-back 0.0.18 in turn."""
    users = run.scale.join_users
    for turn in run.turns(run.with_users(), rounds=min(3, run.scale.rounds)):
        with failing_alone(run, NAME, turn), started(NAME, turn, users=users) as each:
            yield from _one(run.scale, each)


def _one(scale: Scale, turn: Turn) -> Iterator[Sample]:
    turn.join(1)  # who is there all the time
    begin, cpu = time.monotonic(), turn.server.cpu_ns()
    _live(scale, turn, seconds=scale.idle_time, joins=0, most=0)
    idle = (turn.server.cpu_ns() - cpu) / (time.monotonic() - begin)
    old = turn.contestant.name == OLD
    joins = scale.old_joins if old else round(scale.join_time * scale.join_rate)
    begin, cpu = time.monotonic(), turn.server.cpu_ns()
    times = _live(scale, turn, seconds=0, joins=joins, most=1 if old else MAX_WAITING)
    used = turn.server.cpu_ns() - cpu - idle * (time.monotonic() - begin)
    yield turn.sample(COST, used / len(times) / 1e6)
    yield turn.sample("events' CPU ms/s", idle / 1e6)
    yield turn.sample("p50 ms", percentile(times, 0.50) * 1e3)
    yield turn.sample(P99, percentile(times, 0.99) * 1e3)


def _live(scale: Scale, turn: Turn, *, seconds: float, joins: int, most: int) -> list[float]:
    """Let events happen for that time and until that many clients have joined and left, no more
    than ``most`` at once; returns how many seconds each join took."""
    crowd = turn.crowd
    begin = time.monotonic()
    event_at, join_at, made = begin, begin, 0
    since: dict[int, float] = {}
    times: list[float] = []
    while len(times) < joins or time.monotonic() < begin + seconds:
        now = time.monotonic()
        if now > begin + TIMEOUT:
            raise BenchError(f"{joins - len(times)} joins are missing after {TIMEOUT:g} s")
        if now >= event_at:
            turn.server.lone()
            event_at += scale.event_interval
        if made < joins and now >= join_at and len(since) < most:
            since[id(crowd.connect("s0"))] = now
            join_at = max(join_at + 1 / scale.join_rate, now - 1)
            made += 1
        crowd.pump(max(0.0, event_at - time.monotonic()))
        for client in crowd.joined:
            times.append(time.monotonic() - since.pop(id(client)))
            crowd.leave(client)
        crowd.joined.clear()
    return times
