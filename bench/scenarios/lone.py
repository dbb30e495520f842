"""Lone events, one every 20 ms: nothing can be joined, and latency is what counts."""

import time
from collections.abc import Iterator

from bench.plan import Run, Sample
from bench.summary import percentile
from bench.turn import Turn, failing_alone, started

NAME = "lone"
TIMEOUT = 60.0
RATE = "deliveries/s"
"""Of the server's CPU."""
P99 = "p99 ms"
WARM_UP = 10


def measure(run: Run) -> Iterator[Sample]:
    """Every server in turn, in both columns."""
    for turn in run.turns(run.contestants):
        with failing_alone(run, NAME, turn), started(NAME, turn) as each:
            each.join(run.scale.clients)
            yield from timed(each, run.scale.lone_events, run.scale.lone_interval)


def timed(turn: Turn, events: int, interval: float) -> Iterator[Sample]:
    """Send lone events at this interval in seconds to those who have joined."""
    send(turn, WARM_UP, interval, [])
    turn.crowd.settle()
    sent_at: list[int] = []
    turn.crowd.time_events(sent_at)
    own_before = time.process_time()
    begin = turn.server.rested_cpu_ns()
    send(turn, events, interval, sent_at)
    cpu = turn.server.rested_cpu_ns() - begin
    own = (time.process_time() - own_before) * 1e9
    latencies = turn.crowd.latencies
    yield turn.sample(RATE, events * len(turn.crowd) / (cpu / 1e9))
    yield turn.sample("p50 ms", percentile(latencies, 0.50) / 1e6)
    yield turn.sample(P99, percentile(latencies, 0.99) / 1e6)
    yield turn.sample("clients' CPU", own / cpu)


def send(turn: Turn, events: int, interval: float, sent_at: list[int]) -> None:
    """Send them in time and return when all have arrived everywhere; ``sent_at`` gets the times
    (nanoseconds)."""
    goal = turn.crowd.deliveries
    at = time.monotonic()
    for _ in range(events):
        while (wait := at - time.monotonic()) > 0:
            turn.crowd.pump(wait)
        sent_at.append(time.monotonic_ns())
        turn.server.lone()
        goal += len(turn.crowd)
        at += interval
    turn.crowd.reach(goal, TIMEOUT)
