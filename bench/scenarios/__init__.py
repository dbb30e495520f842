"""The rows of the table of targets, each a function that yields samples."""

from collections.abc import Callable, Iterator

from bench.plan import Run, Sample
from bench.scenarios import burst, growth, joins, lone, memory, slow

SCENARIOS: dict[str, Callable[[Run], Iterator[Sample]]] = {
    burst.NAME: burst.measure,
    lone.NAME: lone.measure,
    memory.NAME: memory.measure,
    joins.NAME: joins.measure,
    slow.NAME: slow.measure,
    growth.CLIENTS: growth.measure_clients,
    growth.SERVERS: growth.measure_servers,
}
