"""The tables of ``d-back.toml`` as structs: every key with its type, default and meaning.

The docstrings are also the comments that ``d-back init`` writes, and the tables of the page
Configuration (``python -m tools.reference``).
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from d_back_core.chain.layers import Mode
from d_back_core.chain.policy import NAMES, Policy
from d_back_core.config.decoding import Duration, File, Timeout

MAX_PORT = 65535

Field = Literal["username", "status", "roleColor", "extra", "name", "id", "default"]


def _seconds(default: float, kind: type[Duration] = Duration) -> Any:  # noqa: ANN401  as field
    return msgspec.field(default_factory=lambda: kind(default))


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``gateway.tls``: PEM files."""

    cert: File
    """PEM file with the certificate and those that lead to its root."""
    key: File
    """PEM file with its key, without a passphrase."""


class GatewayConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[gateway]``: where clients connect."""

    host: str = "localhost"
    """The name or address to listen on; ``"0.0.0.0"`` is every IPv4 address, ``""`` every address.
    If a name has several addresses and the machine lacks one (``::1`` in a container without
    IPv6), d-back uses the others and logs a warning."""
    port: Annotated[int, Meta(ge=0, le=MAX_PORT)] = 3000
    """0 to 65535; 0 takes a free port, which the log names."""
    path: File | None = None
    """Listen on this Unix socket, instead of host and port; only its user may connect (mode 0600),
    or who a default ACL of the folder names; the folder must not be writable for other users; the
    file is removed when d-back stops."""
    tls: Tls | None = None
    """Certificate and key. With it clients connect to ``wss://``."""
    origins: tuple[str, ...] = ()
    """Web origins whose pages may connect and read the API: ``"https://example.org"``,
    ``"https://*.example.org"`` (subdomains), ``"null"`` (pages without one). Empty: any. Written
    in any way that names the same origin; the gateway's own is always allowed. Programs that are
    not browsers send no origin, and may connect."""
    extra: Annotated[frozenset[str], NAMES["text"]] = frozenset()
    """Keys of extra texts of users that clients receive, such as ``"avatar"`` or ``"activity"``.
    Nothing else of what providers know about a person leaves the gateway."""
    static_dir: File | None = None
    """A directory that is served at ``/``, instead of the built-in page."""
    http: Annotated[tuple[str, ...], NAMES["provider"]] = ()
    """Providers that serve HTTP paths; they precede the files and the built-in page, in this
    order. If this and ``static_dir`` are unset, ``d-back`` shows the page if it is installed; name
    other providers, or ``[]``, to change that."""
    history: Annotated[int, Meta(ge=0)] = 1024
    """Changes that are kept per server, for clients that resume."""
    drain_time: Duration = _seconds(0)
    """Time over which the client connections are closed when the gateway stops."""
    control: File | None = None
    """A Unix socket on which ``d-back explain`` and ``d-back check --live`` ask the running
    process."""


class LimitsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``: what a client may use.

    Limits per address do not apply to loopback and Unix peers, unless ``trusted_proxies`` names
    the proxy that sends the real address.
    """

    connections: Annotated[int, Meta(ge=1)] = 10_000
    """Connections in total, from the accept on, HTTP included; more get 503, and with ``tls`` are
    closed before their handshake. An idle HTTP connection is closed first. If the process may not
    have as many open files, a warning says so at the start."""
    connections_per_address: Annotated[int, Meta(ge=1)] = 100
    """Connections of one address; more get 429. Behind a trusted proxy a request counts while it
    is answered. There is also a fixed limit of requests and new connections: 50 per second of one
    address after 500 at once, and 2,000 per second in all after 10,000; probes of ``/healthz`` and
    ``/readyz`` do not count."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks (``"10.0.0.0/8"``) of reverse proxies whose ``X-Forwarded-For`` header
    is used."""
    handshake_timeout: Timeout = _seconds(10, Timeout)
    """Time in which a new connection must send its request, and a kept one the rest of it;
    otherwise 408. A TLS handshake has the same time."""
    keep_alive: Timeout = _seconds(75, Timeout)
    """How long an HTTP connection without a request is kept."""
    body_size: Annotated[int, Meta(ge=0)] = 65_536
    """Bytes of the body of an HTTP request; more get 413."""
    body_timeout: Timeout = _seconds(10, Timeout)
    """Time in which the body must arrive; otherwise 408."""
    message_size: Annotated[int, Meta(ge=1024)] = 65_536
    """Bytes of one message of a client; larger ones close the connection with 1009."""
    messages_per_second: Annotated[float, Meta(gt=0)] = 5.0
    """Messages of one connection, after ``message_burst`` at once; more get an error."""
    message_burst: Annotated[int, Meta(ge=1)] = 20
    """See ``messages_per_second``."""
    failed_joins: Annotated[int, Meta(ge=1)] = 5
    """Refused credentials of one address; each further one doubles its wait, from one minute to
    one hour."""
    write_buffer: Annotated[int, Meta(ge=1024)] = 65_536
    """Unsent bytes of a client above which its changes are held back and folded."""
    slow_client_timeout: Timeout = _seconds(10, Timeout)
    """Time after which a client that does not read is closed with 1013, and an HTTP answer of
    which nothing is read is cut off."""
    chat_per_minute: Annotated[float, Meta(gt=0)] = 30.0
    """Chat messages and edits sent per channel and minute, after ``chat_burst`` at once; more are
    dropped and counted. An edit that is dropped takes its message back: clients get the deletion.
    Deletions have no limit."""
    chat_burst: Annotated[int, Meta(ge=1)] = 20
    """See ``chat_per_minute``."""


class ChainConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[chain]``: the providers, and how they take over from each other."""

    order: Annotated[tuple[str, ...], NAMES["provider"]] = ("mock",)
    """Names of providers, highest priority first."""
    recorders: Annotated[tuple[str, ...], NAMES["provider"]] = ()
    """Providers that store the state of those above them in the order; one that is not in the
    order stores the state of all."""
    idle: Duration = _seconds(300)
    """How long a server without clients is kept in memory."""
    startup_timeout: Timeout = _seconds(10, Timeout)
    """Listening begins when every provider is ready or has failed, or after this time. A first
    ``start`` that takes longer fails, and is tried again. A join that names an unknown server
    waits at most this long for providers that have not listed their servers yet."""
    failback_after: Duration = _seconds(5)
    """How long a provider that had failed must be ready before it replaces a lower one again."""


class ProviderConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.NAME]``: the keys of the core; all others belong to the plugin."""

    use: Annotated[str, NAMES["plugin"]]
    """The plugin's name, if it differs: one plugin can be used for two providers."""
    mode: Mode | None = None
    """When it is asked, and what it adds. Unset: the plugin's own, which is ``"fallback"`` unless
    its documentation names another one."""
    servers: Annotated[frozenset[str] | None, NAMES["server"]] = None
    """It lists and answers these server_ids only. Unset: all."""
    fields: frozenset[Field] | None = None
    """It supplies these fields only, and no chat. Unset: all. Protection and disabling of a server
    always count."""
    timeout: Timeout = _seconds(5, Timeout)
    """Time limit of one call."""
    grace: Duration = _seconds(30)
    """How long its last data stays in use after it has failed."""
    refresh: Timeout | None = None
    """Interval at which everything is fetched again. Unset: the plugin's own; otherwise 30 seconds
    for a provider without events, and never for one with events."""
    max_age: Duration | None = None
    """Age from which a join fetches an answer again before it uses it; ``0`` is every join. Unset:
    the plugin's own; otherwise answers do not age."""


class Provider(Struct, frozen=True, kw_only=True):
    """One configured provider: the core's keys decoded, the plugin's as they are in TOML."""

    name: str
    core: ProviderConfig
    options: dict[str, Any]

    def __repr__(self) -> str:
        return f"Provider({self.name!r}, {self.core!r}, options={sorted(self.options)})"


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration, decoded and checked."""

    source: str = "built-in defaults"
    """The file's name, for messages."""
    path: Path | None = None
    gateway: GatewayConfig = GatewayConfig()
    limits: LimitsConfig = LimitsConfig()
    chain: ChainConfig = ChainConfig()
    providers: dict[str, Provider] = {}
    servers: dict[str, Policy] = {}
    places: dict[str, str] = {}
    """Key of ``[gateway]`` → the flag or variable that overrides the file, for messages."""

    def place(self, key: str) -> str:
        """Return where a key of ``[gateway]`` was set, for messages."""
        return self.places.get(key, f"{self.source}: gateway.{key}")

    @property
    def folder(self) -> Path:
        """The directory that relative paths start from."""
        return Path() if self.path is None else self.path.parent

    @property
    def names(self) -> tuple[str, ...]:
        """The providers that run: those of ``order``, then other recorders and HTTP providers."""
        return tuple(dict.fromkeys((*self.chain.order, *self.chain.recorders, *self.gateway.http)))

    def provider(self, name: str) -> Provider:
        """Return the provider; without a table, the plugin of that name with its defaults."""
        core = ProviderConfig(use=name)
        return self.providers.get(name) or Provider(name=name, core=core, options={})
