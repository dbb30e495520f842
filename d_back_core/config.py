"""``d-back.toml`` → structs, with errors that name file, table, key, value and the nearest
valid one."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from d_back_core.chain import Mode
from d_back_core.decoding import Duration, File, Timeout, decode
from d_back_core.errors import ConfigError, nearest
from d_back_core.models import is_id, is_public_id
from d_back_core.policy import Policy, PublicIds
from d_back_core.secret import Secret

FILE_NAME = "d-back.toml"
ENVIRONMENT = {
    "D_BACK_HOST": "host",
    "D_BACK_PORT": "port",
    "D_BACK_STATIC_DIR": "static_dir",
}

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
    mode: Mode = "fallback"
    servers: frozenset[str] | None = None
    """Asked for these server_ids only."""
    fields: frozenset[Field] | None = None
    """Supplies these fields only, and no chat."""
    timeout: Timeout = _seconds(5, Timeout)
    """The longest that one call may take."""
    grace: Duration = _seconds(30)
    """How long what it last said is kept in use after it has failed."""
    refresh: Timeout | None = None
    """Ask again so often. Default: 30 s for a provider without events, never with them."""


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


def find(flag: str | None, user_folder: Path, environ: Mapping[str, str]) -> Path | None:
    """The configuration file to read, or None where there is none."""
    for named, where in ((flag, "--config"), (environ.get("D_BACK_CONFIG"), "$D_BACK_CONFIG")):
        if named:
            if not os.path.isfile(named):  # noqa: PTH113  Path's raises for a name too long
                raise ConfigError(f"{where}: there is no file '{named}'")
            return Path(named)
    candidates = (Path(FILE_NAME), user_folder / FILE_NAME)
    return next((path for path in candidates if os.path.isfile(path)), None)  # noqa: PTH113


def load(
    path: Path | None, environ: Mapping[str, str], *, page: str | None = None, **flags: object
) -> Config:
    """Read, check and decode the configuration; ``flags`` override its ``[gateway]``. ``page`` is
    the provider of the page at ``/``, for an operator who has not said what is served there."""
    table: dict[str, Any] = {}
    if path is not None:
        import tomllib  # noqa: PLC0415  a start without a file does not need it

        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from error
    overrides: dict[str, object] = {}
    for variable, key in ENVIRONMENT.items():
        text = environ.get(variable)
        if text and key == "port":
            overrides[key] = _port(text, variable)
        elif text:
            overrides[key] = text
    overrides |= {key: value for key, value in flags.items() if value is not None}
    if "static_dir" in overrides:  # relative to where it was typed, not to the file
        overrides["static_dir"] = str(Path(str(overrides["static_dir"])).absolute())
    return parse(table, path, overrides, page)


def parse(
    table: Mapping[str, Any],
    path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    page: str | None = None,
) -> Config:
    """The tables of a ``d-back.toml`` as a checked `Config`; the rest is as for `load`."""
    source = str(path) if path is not None else Config().source
    folder = path.parent if path is not None else Path()
    known = {"gateway", "limits", "chain", "providers", "servers"}
    for key in table:
        if key not in known:
            raise ConfigError(f"{source}: unknown table '{key}'{nearest(key, known)}")
    gateway = _table(table, "gateway", source) | dict(overrides or {})
    if page is not None and not {"http", "static_dir"} & gateway.keys():
        own = _table(_table(table, "providers", source), page, f"{source}: providers")
        if own.get("use", page) == page:  # another provider's name it may be as well
            gateway["http"] = [page]
    config = Config(
        source=source,
        path=path,
        gateway=decode(GatewayConfig, gateway, f"{source}: gateway", folder),
        limits=decode(LimitsConfig, _table(table, "limits", source), f"{source}: limits", folder),
        chain=decode(ChainConfig, _table(table, "chain", source), f"{source}: chain", folder),
        providers={
            name: _provider(name, entry, source, folder)
            for name, entry in _table(table, "providers", source).items()
        },
        servers={
            server_id: decode(Policy, entry, f"{source}: servers.{server_id}", folder)
            for server_id, entry in _table(table, "servers", source).items()
        },
    )
    _check_order(config)
    _check_policies(config)
    return config


def _port(text: str, variable: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > MAX_PORT:
        raise ConfigError(f"${variable} '{text}': is no port (0 to {MAX_PORT})")
    return int(text)


def _table(table: Mapping[str, Any], key: str, source: str) -> dict[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{source}: {key}: expected a table")
    return found


class _Tables(Struct, forbid_unknown_fields=True):
    gateway: GatewayConfig | UnsetType = UNSET
    limits: LimitsConfig | UnsetType = UNSET
    chain: ChainConfig | UnsetType = UNSET
    providers: dict[str, ProviderConfig] | UnsetType = UNSET
    servers: dict[str, Policy] | UnsetType = UNSET


def schema() -> dict[str, Any]:
    """The JSON Schema of ``d-back.toml``; the keys of plugins are not described in it."""
    number_or_text: dict[str, Any] = {"type": ["number", "string"]}
    shapes: dict[type, dict[str, Any]] = {
        Duration: number_or_text,
        Timeout: number_or_text,
        File: {"type": "string"},
        Secret: {"type": ["string", "object"]},
    }
    described = msgspec.json.schema(_Tables, schema_hook=shapes.__getitem__)
    provider = described["$defs"][ProviderConfig.__name__]
    del provider["additionalProperties"], provider["required"]
    return described


def _provider(name: str, entry: object, source: str, folder: Path) -> Provider:
    where = f"{source}: providers.{name}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected a table")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConfigError(f"{where}: '{name}' is no name (letters, digits, _ and -)")
    ours = set(ProviderConfig.__struct_fields__)
    core = {"use": name} | {key: value for key, value in entry.items() if key in ours}
    return Provider(
        name=name,
        core=decode(ProviderConfig, core, where, folder),
        options={key: value for key, value in entry.items() if key not in ours},
    )


def _check_order(config: Config) -> None:
    order = config.chain.order
    if not order:
        raise ConfigError(f"{config.source}: chain.order names no provider")
    for key, names in (("order", order), ("recorders", config.chain.recorders)):
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{config.source}: chain.{key} names '{name}' twice")
    if order[0] in config.chain.recorders:
        where = f"{config.source}: chain.recorders names '{order[0]}'"
        raise ConfigError(f"{where}, which is first in chain.order: nobody is above it to record")


def _check_policies(config: Config) -> None:
    aliases: dict[str, str] = {}
    for server_id, policy in config.servers.items():
        where = f"{config.source}: servers.{server_id}"
        if not is_id(server_id):
            raise ConfigError(f"{where}: '{server_id}' is no server_id")
        alias = policy.alias
        if alias is None:
            continue
        if not is_public_id(alias) or alias in PublicIds.RESERVED:
            wanted = "1 to 64 of A-Z a-z 0-9 _ -, and not 'default' or 'null'"
            raise ConfigError(f"{where}.alias: '{alias}' cannot be a public id ({wanted})")
        if alias in aliases or (alias in config.servers and alias != server_id):
            other = aliases.get(alias, alias)
            raise ConfigError(f"{where}.alias: '{alias}' is that of servers.{other} already")
        aliases[alias] = server_id
    chosen = [server_id for server_id, policy in config.servers.items() if policy.default]
    if len(chosen) > 1:
        names = ", ".join(chosen)
        raise ConfigError(f"{config.source}: servers: more than one default ({names})")
