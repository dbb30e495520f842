"""Bursts of presence events: deliveries per second of the server's CPU."""

import time
from collections.abc import Iterator

from bench.plan import Run, Sample
from bench.summary import percentile
from bench.turn import Turn, failing_alone, started

NAME = "burst"
TIMEOUT = 60.0
RATE = "deliveries/s"
"""Of the server's CPU."""
P99 = "p99 ms"
MAX_BURSTS = 40


def measure(run: Run) -> Iterator[Sample]:
    """Every server in turn, in both columns."""
    for turn in run.turns(run.contestants):
        with failing_alone(run, NAME, turn), started(NAME, turn) as each:
            yield from _one(run, each)


def _one(run: Run, turn: Turn) -> Iterator[Sample]:
    scale = run.scale
    turn.join(scale.clients)
    deliveries = scale.burst_events * len(turn.crowd)
    turn.server.burst(scale.burst_events)  # a first one, to warm up
    turn.crowd.expect(deliveries, TIMEOUT)
    sent_at: list[int] = []
    turn.crowd.time_events(sent_at)
    own_before = time.process_time()
    begin = cpu = turn.server.rested_cpu_ns()
    bursts = 0
    while bursts < scale.bursts or (cpu - begin < scale.burst_cpu * 1e9 and bursts < MAX_BURSTS):
        sent_at += [time.monotonic_ns()] * scale.burst_events
        turn.server.burst(scale.burst_events)
        turn.crowd.expect(deliveries, TIMEOUT)
        cpu = turn.server.rested_cpu_ns()
        bursts += 1
    latencies = turn.crowd.latencies
    yield turn.sample(RATE, bursts * deliveries / ((cpu - begin) / 1e9))
    yield turn.sample("p50 ms", percentile(latencies, 0.50) / 1e6)
    yield turn.sample(P99, percentile(latencies, 0.99) / 1e6)
    own = (time.process_time() - own_before) * 1e9
    yield turn.sample("clients' CPU", own / (cpu - begin))
