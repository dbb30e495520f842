"""What a client costs that has joined and does nothing."""

import time
from collections.abc import Iterator

from bench.plan import Run, Sample
from bench.turn import failing_alone, started

NAME = "memory"
SIZE = "KiB/client"
FIRST = 50
"""Clients before the first look, so that what is loaded once is not counted."""
REST = 0.5


def measure(run: Run) -> Iterator[Sample]:
    """Every server in turn, in both columns."""
    for turn in run.turns(run.contestants):
        with failing_alone(run, NAME, turn), started(NAME, turn) as each:
            each.join(FIRST)
            time.sleep(REST)
            before = each.server.memory()
            each.join(run.scale.memory_clients)
            time.sleep(REST)
            more = each.server.memory() - before
            yield each.sample(SIZE, more / run.scale.memory_clients / 1024)
