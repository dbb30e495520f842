"""The figures that the core publishes; they contain no user data."""

from collections import Counter
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Seconds = Annotated[float, Meta(extra_json_schema={"minimum": 0})]
Count = Annotated[int, Meta(extra_json_schema={"minimum": 0})]

CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1013})
"""The close codes that are counted apart. Clients choose among thousands."""


class Counters(Struct, kw_only=True):
    """Totals since the start; they only grow."""

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
    """Deltas that were held back from clients that read too slowly; the client gets the result."""
    slow_clients: int = 0
    """Clients that were closed because they read too slowly."""
    chat_dropped: int = 0
    """Chat messages that were dropped because their channel was over its rate."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Errors sent to clients, by code."""
    rejections: Counter[str] = field(default_factory=Counter)
    """Connections that were refused, by reason."""
    closes: Counter[int] = field(default_factory=Counter)
    """Ended sessions, by close code; 0: any other than `CLOSE_CODES`."""

    def count_close(self, code: int | None) -> None:
        """Count a session that has ended."""
        self.closes[code if code in CLOSE_CODES else 0] += 1


class ProviderStats(Struct, frozen=True, kw_only=True):
    """The state of one provider."""

    name: str
    mode: Literal["fallback", "merge", "enrich", ""]
    """``fallback``, ``merge``, ``enrich``; "" if it is not in the chain."""
    health: Literal["starting", "ready", "degraded", "failed"]
    """``starting``, ``ready``, ``degraded`` or ``failed``."""
    since: Seconds
    """Seconds for which it has had this health."""
    next_retry: Seconds | None
    """Seconds until it is started again; None: it runs, or is not started again."""
    calls: Count
    failures: Count
    latency: Seconds | None
    """Seconds that its last answer took; None: it has not answered yet."""
    records: Count
    refused: Count
    """Invalid values, which count as not supplied."""
    gauges: dict[str, float]
    """The provider's own numbers, by name; see `Context.gauge`."""


class Health(Struct, frozen=True, kw_only=True):
    """The answer of ``/api/health``: the states of the providers, without anything
    confidential."""

    providers: list[ProviderStats]


class Exchange(Struct, frozen=True, kw_only=True):
    """The layers of a server's users were replaced by those of other providers, in one step."""

    age: float
    """Seconds ago."""
    before: tuple[str, ...]
    """The providers that were in use, highest priority first."""
    after: tuple[str, ...]
    epoch: str
    """The epoch that ``first`` and ``last`` belong to."""
    first: int
    """``seq`` of the first delta that it brought."""
    last: int
    """``seq`` of the last one; lower than ``first`` if no user differed."""


class ServerStats(Struct, frozen=True, kw_only=True):
    """One server that is held. For operators: servers that clients do not see are included."""

    server_id: str
    providers: tuple[str, ...]
    """The providers whose layers of its users are in use, highest priority first."""
    since: float
    """Seconds for which these have been in use."""
    stale: bool
    """True if they have failed since and no other provider answers."""
    users: int
    sessions: int
    exchanges: list[Exchange]
    """The last ones, the newest one last."""


class Stats(Struct, frozen=True, kw_only=True):
    """The counters, and the present state."""

    counters: Counters = field(default_factory=Counters)
    sessions: int = 0
    servers: int = 0
    """Servers that are held."""
    users: int = 0
    providers: list[ProviderStats] = []
    queued: dict[str, int] = {}
    """Number of changes that wait for each recorder."""
    held: list[ServerStats] = []
    errors: dict[str, str] = {}
    """The last error of each provider that is not ready. It may contain the names of hosts and
    files: show it to operators only."""
