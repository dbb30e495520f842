"""What the core counts: since its start, and without any user data."""

from collections import Counter

from msgspec import Struct, field


class Counters(Struct, kw_only=True):
    """Totals that only grow."""

    sessions: int = 0
    joins: int = 0
    resumes: int = 0
    deltas: int = 0
    """Changes of worlds."""
    deliveries: int = 0
    """Deltas written to sessions."""
    bytes: int = 0
    """Bytes of deltas written to sessions."""
    conflated: int = 0
    """Deltas that were held back from clients that read too slowly."""
    slow_clients: int = 0
    """Clients that were ended since they stayed behind."""
    chat_dropped: int = 0
    """Messages over the rate of their channel."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Errors told to clients, by code."""
    rejections: Counter[str] = field(default_factory=Counter)
    """Connections that were not accepted, by reason."""
    closes: Counter[int] = field(default_factory=Counter)
    """Ended sessions, by close code."""


class ProviderStats(Struct, frozen=True, kw_only=True):
    """How one provider is."""

    name: str
    mode: str
    """``fallback``, ``merge``, ``enrich``; "" where it is not in the chain."""
    health: str
    """``starting``, ``ready``, ``degraded`` or ``failed``."""
    since: float
    """Seconds in this health."""
    next_retry: float | None
    """Seconds until its start or its stream is tried again."""
    calls: int
    failures: int
    latency: float | None
    """Seconds that its last answer took."""
    records: int
    refused: int
    """Values that were not valid."""
    gauges: dict[str, float] = {}
    """What the provider tells of itself, by name; see `Context.gauge`."""


class Exchange(Struct, frozen=True, kw_only=True):
    """The layers of a server's users were exchanged for those of others, in one step."""

    age: float
    """Seconds ago."""
    before: tuple[str, ...]
    """The providers that were in use, highest priority first."""
    after: tuple[str, ...]
    epoch: str
    """What ``first`` and ``last`` are numbers of."""
    first: int
    """``seq`` of the first delta that it brought."""
    last: int
    """``seq`` of the last one; lower than ``first`` where nobody differed."""


class ServerStats(Struct, frozen=True, kw_only=True):
    """One server that is held. For operators: it is told of servers that clients do not see."""

    server_id: str
    providers: tuple[str, ...]
    """Whose layers of its users are in use, highest priority first."""
    since: float
    """Seconds that these are in use."""
    stale: bool
    """Whether they have failed since, and nobody is there in their place."""
    users: int
    sessions: int
    exchanges: list[Exchange]
    """The last ones, the newest one last."""


class Stats(Struct, frozen=True, kw_only=True):
    """The counters, and what is at the moment."""

    counters: Counters = field(default_factory=Counters)
    sessions: int = 0
    servers: int = 0
    """Servers that are held."""
    users: int = 0
    providers: list[ProviderStats] = []
    queued: dict[str, int] = {}
    """Changes that wait for each recorder."""
    held: list[ServerStats] = []
    errors: dict[str, str] = {}
    """The last error of each provider that is not ready. It may name hosts and files: show it to
    operators only."""
