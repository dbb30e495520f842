"""The rows of the table of targets, each a function that yields samples."""

from collections.abc import Callable, Iterator

from bench.plan import Run, Sample
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

SCENARIOS: dict[str, Callable[[Run], Iterator[Sample]]] = {
    burst.NAME: burst.measure,
    lone.NAME: lone.measure,
    memory.NAME: memory.measure,
    joins.NAME: joins.measure,
    cold.NAME: cold.measure,
    lists.NAME: lists.measure,
    slow.NAME: slow.measure,
    growth.CLIENTS: growth.measure_clients,
    growth.SERVERS: growth.measure_servers,
    crowd.NAME: crowd.measure,
    awaited.NAME: awaited.measure,
    start.NAME: start.measure,
}
