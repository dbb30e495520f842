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
