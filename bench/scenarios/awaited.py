"""Awaited broadcasts of an embedding program.

One program, which is written for d-back 0.0.18, runs on 0.0.18 and on d-back-compat: it awaits
``broadcast_presence`` in a loop.
"""

import sys
from collections.abc import Iterator

from bench.contestants import OLD, Contestant
from bench.plan import Run, Sample, Scale
from bench.turn import Turn, failing_alone, started

NAME = "awaited"
COMPAT = Contestant("d-back-compat", [sys.executable, "-m", "bench.peers.d_back_0018"])
RATE = "deliveries/s"
"""Of the server's CPU."""
TIMEOUT = 120.0


def measure(run: Run) -> Iterator[Sample]:
    """The two in turn."""
    scale = run.scale
    old = [each for each in run.contestants if each.name == OLD]
    contestants = [*old, COMPAT] if old and run.ours() else []
    turns = run.turns(contestants, min(3, scale.rounds), scale.columns[:1])
    for turn in turns:
        users = scale.awaited_broadcasts
        with failing_alone(run, NAME, turn), started(NAME, turn, users=users) as each:
            yield each.sample(RATE, _rate(scale, each))


def _rate(scale: Scale, turn: Turn) -> float:
    turn.join(scale.awaited_clients)
    deliveries = scale.awaited_broadcasts * len(turn.crowd)
    turn.server.burst(scale.awaited_broadcasts)  # a first one, to warm up
    turn.crowd.expect(deliveries, TIMEOUT)
    begin = cpu = turn.server.rested_cpu_ns()
    loops = 0
    while cpu - begin < scale.awaited_cpu * 1e9:
        turn.server.burst(scale.awaited_broadcasts)
        turn.crowd.expect(deliveries, TIMEOUT)
        cpu = turn.server.rested_cpu_ns()
        loops += 1
    return loops * deliveries / ((cpu - begin) / 1e9)
