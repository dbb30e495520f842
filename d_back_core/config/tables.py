"""The tables of ``d-back.toml`` as structs: every key with its type, default and meaning.

The docstrings are also the comments that ``d-back init`` writes.
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
    key: File


class GatewayConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[gateway]``: where clients connect."""

    host: str = "localhost"
    port: Annotated[int, Meta(ge=0, le=MAX_PORT)] = 3000
    """0: any free port."""
    origins: tuple[str, ...] = ()
    """Web origins whose pages may connect: ``https://example.org``, ``https://*.example.org``
    (subdomains), ``null`` (no origin). Empty: any."""
    tls: Tls | None = None
    history: Annotated[int, Meta(ge=0)] = 1024
    """Deltas kept per server, for clients that resume."""
    http: Annotated[tuple[str, ...], NAMES["provider"]] = ()
    """Providers that serve HTTP paths; they precede the built-in page, in this order."""
    drain_time: Duration = _seconds(0)
    """Time over which the client connections are closed when the gateway stops."""
    control: File | None = None
    """Unix socket on which ``d-back explain`` asks the running process."""
    path: File | None = None
    """Unix socket to listen on, instead of host and port."""
    extra: Annotated[frozenset[str], NAMES["text"]] = frozenset()
    """Keys of ``User.extra`` that clients receive, such as ``avatar``. Default: none."""
    static_dir: File | None = None
    """Directory to serve at ``/``, instead of the built-in page."""


class LimitsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``: what a client may use.

    Limits per address do not apply to loopback and Unix peers, unless ``trusted_proxies`` names
    the proxy that sends the real address.
    """

    connections: Annotated[int, Meta(ge=1)] = 10_000
    """Connections in total, from the accept on."""
    connections_per_address: Annotated[int, Meta(ge=1)] = 100
    """Connections of one IPv4 address, or of one /64 network of IPv6."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose ``X-Forwarded-For`` header is used."""
    handshake_timeout: Timeout = _seconds(10, Timeout)
    """Time in which a new connection must send its request."""
    keep_alive: Timeout = _seconds(75, Timeout)
    """Time for which an HTTP connection without a request is kept."""
    body_size: Annotated[int, Meta(ge=0)] = 65_536
    """Bytes of the body of an HTTP request."""
    body_timeout: Timeout = _seconds(10, Timeout)
    """Time in which the body of a request must arrive."""
    message_size: Annotated[int, Meta(ge=1024)] = 65_536
    """Bytes of one message of a client."""
    messages_per_second: Annotated[float, Meta(gt=0)] = 5.0
    """Messages of one session per second, after a burst of ``message_burst``."""
    message_burst: Annotated[int, Meta(ge=1)] = 20
    failed_joins: Annotated[int, Meta(ge=1)] = 5
    """Refused credentials of one address; each further one doubles its wait, from one minute to
    one hour."""
    write_buffer: Annotated[int, Meta(ge=1024)] = 65_536
    """Unsent bytes of a client above which its deltas are conflated."""
    slow_client_timeout: Timeout = _seconds(10, Timeout)
    """Time after which a client that does not read is closed with 1013."""
    chat_per_minute: Annotated[float, Meta(gt=0)] = 30.0
    """Messages and edits sent per channel and minute, after a burst of ``chat_burst``: d-zone
    plays them one after another."""
    chat_burst: Annotated[int, Meta(ge=1)] = 20


class ChainConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[chain]``: the providers, and how they take over from each other."""

    order: Annotated[tuple[str, ...], NAMES["provider"]] = ("mock",)
    """Providers, highest priority first."""
    recorders: Annotated[tuple[str, ...], NAMES["provider"]] = ()
    """Providers that store the state of those above them in the order; one that is not in the
    order stores the state of all."""
    idle: Duration = _seconds(300)
    """Time for which a server without clients is kept in memory."""
    startup_timeout: Timeout = _seconds(10, Timeout)
    """Listening begins when every provider is ready or failed, or after this time. A first
    ``start`` that takes longer fails."""
    failback_after: Duration = _seconds(5)
    """Time for which a recovered fallback provider must be ready before it takes over again."""


class ProviderConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.NAME]``: the keys of the core; all others belong to the plugin."""

    use: Annotated[str, NAMES["plugin"]]
    """The plugin's name, if it differs from the provider's."""
    mode: Mode | None = None
    """Default: the plugin's own, which is ``fallback`` unless it sets another one."""
    servers: Annotated[frozenset[str] | None, NAMES["server"]] = None
    """Ask for these server_ids only."""
    fields: frozenset[Field] | None = None
    """Use these fields only, and no chat."""
    timeout: Timeout = _seconds(5, Timeout)
    """Time limit of one call."""
    grace: Duration = _seconds(30)
    """Time for which the last data of a failed provider stays in use."""
    refresh: Timeout | None = None
    """Interval at which everything is fetched again. Default: the plugin's own; otherwise 30 s for
    a provider without events, and never with them."""
    max_age: Duration | None = None
    """Age from which a join fetches an answer again before it uses it. Default: the plugin's own;
    otherwise an answer does not age."""


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
