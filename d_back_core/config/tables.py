"""The tables of ``d-back.toml`` as structs: every key, its type, its default and what it means."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from d_back_core.chain.layers import Mode
from d_back_core.chain.policy import Policy
from d_back_core.config.decoding import Duration, File, Timeout

MAX_PORT = 65535

Field = Literal["username", "status", "roleColor", "name", "id", "default"]


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
    """0 takes a free port."""
    origins: tuple[str, ...] = ()
    """Web origins whose pages may connect: ``https://example.org``, ``https://*.example.org``
    (subdomains), ``null`` (no origin). Empty: any."""
    tls: Tls | None = None
    history: Annotated[int, Meta(ge=0)] = 1024
    """Deltas that are kept per server, for clients that resume."""
    http: tuple[str, ...] = ()
    """Providers that serve HTTP paths, asked in this order before the built-in pages."""
    drain_time: Duration = _seconds(0)
    """Over how long the clients are sent away when it stops."""
    control: File | None = None
    """A Unix socket on which ``d-back explain`` asks the running process."""
    path: File | None = None
    """Listen on this Unix socket, in place of host and port."""
    static_dir: File | None = None
    """A folder to serve at ``/`` in place of the built-in page."""


class LimitsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``: what a client may cost. Those per address do not hold for loopback and Unix
    peers, unless ``trusted_proxies`` says where the real address is."""

    connections: Annotated[int, Meta(ge=1)] = 10_000
    """All of them."""
    connections_per_address: Annotated[int, Meta(ge=1)] = 100
    """Of one IPv4 address, or of one /64 of IPv6."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks whose ``X-Forwarded-For`` is believed."""
    handshake_timeout: Timeout = _seconds(10, Timeout)
    """How long a client may take to ask for something."""
    message_size: Annotated[int, Meta(ge=1024)] = 65_536
    """Bytes of one message of a client."""
    messages_per_second: Annotated[float, Meta(gt=0)] = 5.0
    """Of one session, after ``message_burst`` at once."""
    message_burst: Annotated[int, Meta(ge=1)] = 20
    failed_joins: Annotated[int, Meta(ge=1)] = 5
    """Refused credentials of one address; after these each one costs a longer wait, from one
    minute to one hour."""
    write_buffer: Annotated[int, Meta(ge=1024)] = 65_536
    """Bytes that may wait for a client before its deltas are conflated."""
    slow_client_timeout: Timeout = _seconds(10, Timeout)
    """How long a client may stay behind before it is closed with 1013."""
    chat_per_minute: Annotated[float, Meta(gt=0)] = 30.0
    """Messages of one channel that are passed on, after ``chat_burst`` at once: d-zone plays them
    one after another."""
    chat_burst: Annotated[int, Meta(ge=1)] = 20


class ChainConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[chain]``: who is asked, highest priority first."""

    order: tuple[str, ...] = ("mock",)
    recorders: tuple[str, ...] = ()
    """Providers that store what those above them in the order say (or everybody, if they are not
    in it)."""
    idle: Duration = _seconds(300)
    """How long a server that nobody watches is kept."""
    startup_timeout: Timeout = _seconds(10, Timeout)
    """Listening begins when every provider is ready or has failed, or after this time; a first
    ``start`` that takes longer has failed."""
    failback_after: Duration = _seconds(5)
    """A better fallback comes back into use after it has been ready for so long."""


class ProviderConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.NAME]``: the keys of the core; all others are the plugin's."""

    use: str
    """The plugin's name, where it is not the provider's own."""
    mode: Mode | None = None
    """Default: the plugin's own, which is ``fallback`` unless it sets another one."""
    servers: frozenset[str] | None = None
    """Asked for these server_ids only."""
    fields: frozenset[Field] | None = None
    """Supplies these fields only, and no chat."""
    timeout: Timeout = _seconds(5, Timeout)
    """The longest that one call may take."""
    grace: Duration = _seconds(30)
    """How long what it last said is kept in use after it has failed."""
    refresh: Timeout | None = None
    """Fetch everything again at this interval. Default: the plugin's own; otherwise 30 s for a
    provider without events, and never with them."""
    max_age: Duration | None = None
    """A join fetches an answer that is older than this again, before it is answered. Default: the
    plugin's own; otherwise an answer does not age."""


class Provider(Struct, frozen=True, kw_only=True):
    """One configured provider: the core's keys, and the plugin's still as they are in TOML."""

    name: str
    core: ProviderConfig
    options: dict[str, Any]

    def __repr__(self) -> str:
        return f"Provider({self.name!r}, {self.core!r}, options={sorted(self.options)})"


class Config(Struct, frozen=True, kw_only=True):
    """Everything that the operator said."""

    source: str = "built-in defaults"
    """The file's name, for messages."""
    path: Path | None = None
    """The file."""
    gateway: GatewayConfig = GatewayConfig()
    limits: LimitsConfig = LimitsConfig()
    chain: ChainConfig = ChainConfig()
    providers: dict[str, Provider] = {}
    servers: dict[str, Policy] = {}

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return Path() if self.path is None else self.path.parent

    @property
    def names(self) -> tuple[str, ...]:
        """The providers that run: those of the order, then the recorders and the HTTP providers
        that are not in it."""
        return tuple(dict.fromkeys((*self.chain.order, *self.chain.recorders, *self.gateway.http)))

    def provider(self, name: str) -> Provider:
        """The provider of that name; without a table it is the plugin with its defaults."""
        core = ProviderConfig(use=name)
        return self.providers.get(name) or Provider(name=name, core=core, options={})
