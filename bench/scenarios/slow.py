"""Clients that do not read: what the others notice, and what memory they take."""

import time
from collections.abc import Iterator

from bench.plan import Run, Sample, Scale
from bench.scenarios import lone
from bench.turn import Turn, failing_alone, started

NAME = "slow"
REST = 0.5
ALONE, TOGETHER = "p99 ms without", "p99 ms with 10 that do not read"
HELD = "MiB per client that does not read"
GROWTH = "MiB more of each later"
"""Than when it had filled its buffers: it receives nothing, and goes on missing events."""


def measure(run: Run) -> Iterator[Sample]:
    """Our gateway in turn, with and without them."""
    users = run.scale.slow_users
    for turn in run.turns(run.ours()):
        with failing_alone(run, NAME, turn), started(NAME, turn, users=users) as each:
            yield from _one(run.scale, each)


def _one(scale: Scale, turn: Turn) -> Iterator[Sample]:
    """They ask to join and stop reading at once: what the snapshot does not fill, nothing would
    in the time that they are given."""
    turn.join(scale.clients - scale.slow_clients)
    yield turn.sample(ALONE, _p99(scale, turn))
    empty = turn.server.memory()
    for _ in range(scale.slow_clients):
        turn.crowd.connect_deaf("s0")
    time.sleep(REST)
    before = turn.server.memory()
    yield turn.sample(TOGETHER, _p99(scale, turn))
    after = turn.server.memory()
    yield turn.sample(HELD, (before - empty) / scale.slow_clients / 2**20)
    yield turn.sample(GROWTH, (after - before) / scale.slow_clients / 2**20)


def _p99(scale: Scale, turn: Turn) -> float:
    timed = lone.timed(turn, scale.slow_events, scale.lone_interval)
    return next(sample.value for sample in list(timed) if sample.metric == lone.P99)
