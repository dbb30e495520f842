"""How large a run is, and what it yields."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.contestants import Contestant


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Counts, and times in seconds."""

    rounds: int
    """Every round starts every server again; the servers take turns within it."""
    columns: tuple[bool, ...]
    """Whether the clients offer permessage-deflate: each a measurement of its own."""
    clients: int
    bursts: int
    """Of one round, at least; and until the server has used ``burst_cpu``."""
    burst_cpu: float
    burst_events: int = 100
    lone_events: int
    lone_interval: float = 0.020
    memory_clients: int
    join_users: int
    """Of the one server that is joined while it lives."""
    join_rate: float = 20.0
    join_time: float
    idle_time: float
    """In which events come but no client joins, to tell their cost from the joins'."""
    old_joins: int
    """Joins of d-back 0.0.18, one after another: it cannot keep up with ``join_rate``."""
    event_interval: float = 0.005
    slow_users: int = 60_000
    """So many that one snapshot (6 MB) is more than the kernel buffers for a connection."""
    slow_clients: int = 10
    slow_events: int
    growth_rounds: int
    growth_clients: tuple[int, int]
    growth_servers: tuple[int, int]
    growth_deliveries: int
    """At each of the two sizes."""
    cold_users: tuple[int, int]
    lists: int
    """Requests of one kind, of the server with ``join_users``."""
    changed_lists: int
    """Requests that need a new snapshot: the gateway pauses between two of these."""
    crowd_interval: float = 0.010
    """Between two events for the larger of ``growth_clients``."""
    crowd_time: float
    awaited_clients: int
    awaited_broadcasts: int
    awaited_cpu: float
    starts: int
    """Of each command, in every round."""


FULL = Scale(
    rounds=5,
    columns=(True, False),
    clients=500,
    bursts=4,
    burst_cpu=0.5,
    lone_events=100,
    memory_clients=500,
    join_users=100_000,
    join_time=30.0,
    idle_time=10.0,
    old_joins=6,
    slow_events=250,
    growth_rounds=3,
    growth_clients=(100, 10_000),
    growth_servers=(10, 10_000),
    growth_deliveries=100_000,
    cold_users=(100_000, 500_000),
    lists=40,
    changed_lists=3,
    crowd_time=10.0,
    awaited_clients=200,
    awaited_broadcasts=1_000,
    awaited_cpu=1.0,
    starts=5,
)
QUICK = Scale(
    rounds=1,
    columns=(True,),
    clients=100,
    bursts=4,
    burst_cpu=0.1,
    lone_events=25,
    memory_clients=150,
    join_users=10_000,
    join_time=1.5,
    idle_time=1.0,
    old_joins=3,
    slow_events=25,
    growth_rounds=1,
    growth_clients=(50, 500),
    growth_servers=(10, 200),
    growth_deliveries=5_000,
    cold_users=(5_000, 20_000),
    lists=5,
    changed_lists=1,
    crowd_time=1.0,
    awaited_clients=20,
    awaited_broadcasts=100,
    awaited_cpu=0.1,
    starts=2,
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One number, of one round."""

    scenario: str
    server: str
    deflate: bool
    """Whether the clients offered it."""
    round: int
    metric: str
    """What it is, with its unit: ``deliveries/s`` is per second of the server's CPU."""
    value: float


@dataclass(kw_only=True)
class Run:
    """One run of the comparison, as it proceeds."""

    scale: Scale
    contestants: Sequence[Contestant]
    notes: list[str] = field(default_factory=list)
    """What is missing from it, and why."""

    def ours(self) -> list[Contestant]:
        """Our gateway, once for each loop."""
        return [each for each in self.contestants if each.ours]

    def with_users(self) -> list[Contestant]:
        """Those whose joins carry users: our gateway and d-back 0.0.18."""
        return [each for each in self.contestants if each.has_users]

    def turns(
        self,
        contestants: Sequence[Contestant],
        rounds: int | None = None,
        columns: Sequence[bool] | None = None,
    ) -> Iterator[tuple[int, Contestant, bool]]:
        """Rounds, in which every server has its turn in every column; each round begins with
        another one, so that none always follows the same."""
        for number in range(rounds or self.scale.rounds):
            shift = number % max(1, len(contestants))
            for contestant in [*contestants[shift:], *contestants[:shift]]:
                for deflate in columns or self.scale.columns:
                    yield number, contestant, deflate
