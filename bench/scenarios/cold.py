"""The first join of a large server: what its users cost in CPU, and in memory from then on."""

import time
from collections.abc import Iterator
from dataclasses import replace

from bench.plan import Run, Sample
from bench.turn import failing_alone, started

NAME = "cold joins"
COST = "CPU s, {:,} users"
SIZE = "bytes/user, {:,} users"
"""Beside the provider's own records: layer, world, and the snapshot in both forms."""
REST = 2.0
"""Seconds until the memory that was freed is back at the system."""


def measure(run: Run) -> Iterator[Sample]:
    """Our gateway in turn. Its provider has made its records before the first join."""
    scale = run.scale
    for number, contestant, deflate in run.turns(
        run.ours(), min(3, scale.rounds), scale.columns[:1]
    ):
        prepared = replace(contestant, command=[*contestant.command, "--prepared"])
        turn = number, prepared, deflate
        for users in scale.cold_users:
            with failing_alone(run, NAME, turn), started(NAME, turn, users=users) as each:
                begin = each.server.rested_cpu_ns()
                empty = each.server.memory()
                each.join(1)
                cpu = each.server.rested_cpu_ns() - begin
                yield each.sample(COST.format(users), cpu / 1e9)
                time.sleep(REST)
                yield each.sample(SIZE.format(users), (each.server.memory() - empty) / users)
