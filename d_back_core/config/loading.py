"""Find, read and check ``d-back.toml``.

Errors name the file, table, key and value, and the nearest valid one.
"""

import inspect
import logging
import os
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType, structs

from d_back_core.chain.policy import Policy, PublicIds
from d_back_core.config.decoding import Duration, File, Timeout, decode, unknown_key
from d_back_core.config.reading import (
    Fingerprint,
    TomlError,
    fingerprint,
    read_toml,
    secret_files,
)
from d_back_core.config.tables import (
    MAX_PORT,
    ChainConfig,
    Config,
    GatewayConfig,
    LimitsConfig,
    Provider,
    ProviderConfig,
)
from d_back_core.errors import ConfigError, closest, nearest
from d_back_core.models import is_given_id, is_public_id
from d_back_core.secret import Secret

FILE_NAME = "d-back.toml"
ENVIRONMENT = {
    "D_BACK_HOST": "host",
    "D_BACK_PORT": "port",
    "D_BACK_STATIC_DIR": "static_dir",
}
SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://.*")
"""What Kubernetes writes into ``D_BACK_PORT`` if a Service is called ``d-back``."""

log = logging.getLogger("d_back")


def find(flag: str | None, user_folder: Path, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file to read, or None if there is none.

    Raises `ConfigError` if the flag or the environment names a file that does not exist.
    """
    for named, where in ((flag, "--config"), (environ.get("D_BACK_CONFIG"), "$D_BACK_CONFIG")):
        if named:
            if not os.path.isfile(named):  # noqa: PTH113  Path's raises for a name too long
                raise ConfigError(f"{where} '{named}': {_not_a_file(named)}")
            return Path(named)
    candidates = (Path(FILE_NAME), user_folder / FILE_NAME)
    # A link that leads nowhere counts: defaults would open what its file protects.
    return next((path for path in candidates if os.path.lexists(path)), None)


def _not_a_file(name: str) -> str:
    if os.path.isdir(name):  # noqa: PTH112  as above
        return "is a directory (expected a file)"
    return "is not a regular file" if os.path.lexists(name) else "does not exist"


class Source:
    """The configuration of this process: its file, the environment, and the flags.

    The file is chosen once. `load` reads this file again for a reload and never another one, and
    never falls back to the defaults: a file that is missing or empty would open protected servers
    (R44).
    """

    def __init__(
        self,
        path: Path | None,
        environ: Mapping[str, str],
        *,
        page: str | None = None,
        **flags: object,
    ) -> None:
        self.path = path
        self.seen: dict[Path, Fingerprint | None] = {}
        """The files as they were before `load` read them: the configuration and its secrets."""
        self._environ = environ
        self._page = page
        self._flags = {key: value for key, value in flags.items() if value is not None}
        self._had_content = False

    def load(self) -> Config:
        """Read, decode and check the configuration; raises `ConfigError`."""
        table = self._read()
        overrides, places = self._overrides()
        config = parse(table, self.path, overrides, self._page)
        return structs.replace(config, places=places)

    def current(self) -> dict[Path, Fingerprint | None]:
        """Return the files as they are now; another state than `seen` is a change."""
        return {path: fingerprint(path) for path in self.seen}

    def _read(self) -> dict[str, Any]:
        if self.path is None:
            return {}
        # Before the files are read: a change while they are read is then a change from `seen`.
        self.seen = {path: fingerprint(path) for path in {*self.seen, self.path}}
        try:
            table = read_toml(self.path)
        except ValueError as error:
            excerpt = error.excerpt if isinstance(error, TomlError) else ()
            raise ConfigError(f"{self.path}: {error}", excerpt) from None
        if not table and self._had_content:
            raise ConfigError(f"{self.path}: is empty (to use the defaults, restart d-back)")
        self._had_content = bool(table)
        files = {self.path, *secret_files(table, self.path.parent)}
        self.seen = {path: self.seen.get(path) or fingerprint(path) for path in files}
        return table

    def _overrides(self) -> tuple[dict[str, object], dict[str, str]]:
        """Return the keys of ``[gateway]`` that the environment and the flags set, and the name
        of the variable or flag for each."""
        overrides: dict[str, object] = {}
        places: dict[str, str] = {}
        for variable, key in ENVIRONMENT.items():
            text = self._environ.get(variable)
            if text and key == "port" and SERVICE_LINK.fullmatch(text):
                hint = "Kubernetes sets it for a Service named d-back; enableServiceLinks: false"
                log.warning("$%s '%s': is not a port and is ignored (%s)", variable, text, hint)
            elif text:
                overrides[key] = _port(text, variable) if key == "port" else text
                places[key] = f"${variable}"
        for key, value in self._flags.items():
            overrides[key] = value
            places[key] = f"--{key.replace('_', '-')}"
        if "static_dir" in overrides:  # relative to the working directory, not to the file
            if not overrides["static_dir"]:
                raise ConfigError(f"{places['static_dir']}: is empty (expected a directory)")
            overrides["static_dir"] = str(Path(str(overrides["static_dir"])).absolute())
        return overrides, places


def load(
    path: Path | None, environ: Mapping[str, str], *, page: str | None = None, **flags: object
) -> Config:
    """Read, decode and check the configuration; raises `ConfigError`.

    ``flags`` override environment variables, which override ``[gateway]``. ``page`` is the
    provider of the page at ``/`` if the configuration sets neither ``http`` nor ``static_dir``.
    """
    return Source(path, environ, page=page, **flags).load()


def parse(
    table: Mapping[str, Any],
    path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    page: str | None = None,
) -> Config:
    """Decode and check the tables of a ``d-back.toml``; raises `ConfigError`.

    ``overrides`` replace keys of ``[gateway]``. ``page`` is as in `load`.
    """
    source = str(path) if path is not None else Config().source
    folder = path.parent if path is not None else Path()
    for key, value in table.items():
        if key not in TABLES:
            raise ConfigError(f"{source}: {_unknown(key, value, table)}")
    gateway = _table(table, "gateway", source) | dict(overrides or {})
    if page is not None and not {"http", "static_dir"} & gateway.keys():
        own = _table(_table(table, "providers", source), page, f"{source}: providers")
        if own.get("use", page) == page:  # not a provider of this name that uses another plugin
            gateway["http"] = [page]
    config = Config(
        source=source,
        path=path,
        gateway=decode_ours(GatewayConfig, gateway, f"{source}: gateway", folder),
        limits=decode_ours(
            LimitsConfig, _table(table, "limits", source), f"{source}: limits", folder
        ),
        chain=decode_ours(ChainConfig, _table(table, "chain", source), f"{source}: chain", folder),
        providers={
            name: _provider(name, entry, source, folder)
            for name, entry in _table(table, "providers", source).items()
        },
        servers={
            server_id: decode_ours(Policy, entry, f"{source}: servers.{server_id}", folder)
            for server_id, entry in _table(table, "servers", source).items()
        },
    )
    _check_order(config)
    _check_policies(config)
    return config


def _unknown(key: str, value: object, table: Mapping[str, Any]) -> str:
    """Return the message for a key at the top of the file that is not one of the tables."""
    if isinstance(value, dict):
        chain = table.get("chain")
        order = chain.get("order") if isinstance(chain, dict) else None
        if isinstance(order, list) and key in order:
            return f"unknown table '{key}' (the table of a provider is [providers.{key}])"
        return f"unknown table '{key}'{nearest(key, TABLES)}"
    if any(key in _keys(kind) for kind in OWNERS.values()):
        return f"{key}: {misplaced_key(key, value)}"
    owners = {each: name for name, kind in OWNERS.items() for each in _keys(kind)}
    near = closest(key, {each: each for each in owners})
    if near is not None:
        return f"unknown key '{key}' (did you mean '{near}' of [{owners[near]}]?)"
    return f"unknown key '{key}' (options of a plugin belong to [providers.NAME])"


def misplaced_key(key: str, value: object, known: Iterable[str] = ()) -> str:
    """Return the text of the error for a key that is not one of ``known``, those of its table."""
    if key in TABLES and isinstance(value, dict):
        return f"is a table of its own: [{key}]"
    owners = [name for name, kind in OWNERS.items() if key in _keys(kind)]
    if owners:
        return f"belongs to {' or '.join(f'[{name}]' for name in owners)}"
    return unknown_key(key, value, known)


def _keys(kind: type[Struct]) -> set[str]:
    return {field.encode_name for field in structs.fields(kind)}


def _port(text: str, variable: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > MAX_PORT:
        raise ConfigError(f"${variable} '{text}': is not a valid port (0 to {MAX_PORT})")
    return int(text)


def _table(table: Mapping[str, Any], key: str, source: str) -> dict[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        hint = f" ([{key}], not [[{key}]])" if isinstance(found, list) and found else ""
        raise ConfigError(f"{source}: {key}: expected a table{hint}")
    return found


TABLES = frozenset({"gateway", "limits", "chain", "providers", "servers"})
OWNERS: dict[str, type[Struct]] = {
    "gateway": GatewayConfig,
    "limits": LimitsConfig,
    "chain": ChainConfig,
    "providers.NAME": ProviderConfig,
    "servers.ID": Policy,
}
"""Table → its keys, to name the table that a key belongs to."""
decode_ours = partial(decode, unknown=misplaced_key)


class _Tables(Struct, forbid_unknown_fields=True):
    gateway: GatewayConfig | UnsetType = UNSET
    limits: LimitsConfig | UnsetType = UNSET
    chain: ChainConfig | UnsetType = UNSET
    providers: dict[str, ProviderConfig] | UnsetType = UNSET
    servers: dict[str, Policy] | UnsetType = UNSET


def schema() -> dict[str, Any]:
    """Return the JSON Schema of ``d-back.toml``, without the keys of plugins."""
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
    for definition in described["$defs"].values():
        if "description" in definition:  # a docstring; Python 3.13 has removed its indentation
            definition["description"] = inspect.cleandoc(definition["description"])
    return described


def _provider(name: str, entry: object, source: str, folder: Path) -> Provider:
    where = f"{source}: providers.{name}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected a table")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConfigError(f"{where}: '{name}' is not a valid name (letters, digits, _ and -)")
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
        raise ConfigError(f"{config.source}: chain.order: is empty (expected a provider)")
    for key, names in (("order", order), ("recorders", config.chain.recorders)):
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{config.source}: chain.{key}: names '{name}' twice")
    if order[0] in config.chain.recorders:
        where = f"{config.source}: chain.recorders '{order[0]}'"
        raise ConfigError(f"{where}: is first in chain.order, so there is no provider to record")


def _check_policies(config: Config) -> None:
    aliases: dict[str, str] = {}
    for server_id, policy in config.servers.items():
        where = f"{config.source}: servers.{server_id}"
        if not is_given_id(server_id):
            raise ConfigError(f"{where}: '{server_id}' is not a valid server_id or public id")
        alias = policy.alias
        if alias is None:
            continue
        if not is_public_id(alias) or alias in PublicIds.RESERVED:
            wanted = "1 to 64 of A-Z a-z 0-9 _ -, and not 'default' or 'null'"
            raise ConfigError(f"{where}.alias '{alias}': is not a valid public id ({wanted})")
        if alias in aliases or (alias in config.servers and alias != server_id):
            other = aliases.get(alias, alias)
            raise ConfigError(f"{where}.alias '{alias}': is already used by servers.{other}")
        aliases[alias] = server_id
    chosen = [server_id for server_id, policy in config.servers.items() if policy.default]
    if len(chosen) > 1:
        names = ", ".join(chosen)
        raise ConfigError(f"{config.source}: servers: more than one has default = true ({names})")
