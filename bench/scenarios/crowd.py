"""A crowd of idle clients that watch a server on which much happens."""

import time
from collections.abc import Iterator

from bench.plan import Run, Sample, Scale
from bench.summary import percentile
from bench.turn import Turn, failing_alone, started

NAME = "crowd"
SHARE = "% of a core"
P99 = "p99 ms"
TIMEOUT = 120.0
WARM_UP = 1.0


def measure(run: Run) -> Iterator[Sample]:
    """Our gateway in turn. The floor cannot take part: it would need several cores."""
    turns = run.turns(run.ours(), run.scale.growth_rounds, run.scale.columns[:1])
    for turn in turns:
        with failing_alone(run, NAME, turn), started(NAME, turn) as each:
            each.join(run.scale.growth_clients[1])
            yield from _one(run.scale, each)


def _one(scale: Scale, turn: Turn) -> Iterator[Sample]:
    _events(turn, scale.crowd_interval, WARM_UP)
    turn.crowd.settle()
    begin = turn.server.rested_cpu_ns()
    took = _events(turn, scale.crowd_interval, scale.crowd_time)
    cpu = turn.server.rested_cpu_ns() - begin
    latencies = turn.crowd.latencies
    yield turn.sample(SHARE, 100 * cpu / 1e9 / took)
    yield turn.sample("p50 ms", percentile(latencies, 0.50) / 1e6)
    yield turn.sample(P99, percentile(latencies, 0.99) / 1e6)


def _events(turn: Turn, interval: float, seconds: float) -> float:
    """Let an event happen at this interval; return the seconds until all have arrived."""
    sent_at: list[int] = []
    turn.crowd.time_events(sent_at)
    goal = turn.crowd.deliveries
    begin = at = time.monotonic()
    while at < begin + seconds:
        while (wait := at - time.monotonic()) > 0:
            turn.crowd.pump(wait)
        sent_at.append(time.monotonic_ns())
        turn.server.lone()
        goal += len(turn.crowd)
        at += interval
        turn.crowd.pump(0)
    turn.crowd.reach(goal, TIMEOUT)
    return time.monotonic() - begin
