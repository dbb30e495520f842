"""What the live state is, and why: for operators. Nothing secret is in it."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from d_back_core.chain.layers import FIELDS, Layers
from d_back_core.chain.policy import resolve
from d_back_core.errors import JoinError
from d_back_core.models import User
from d_back_core.state.live import Live
from d_back_core.stats import ProviderStats


class ProviderReport(Struct, frozen=True, kw_only=True):
    """One provider: what it is configured as and how it is."""

    plugin: str
    recorder: bool
    error: str
    """The last error; it may name hosts and files, and goes to operators only."""
    stats: ProviderStats


class Supplied(Struct, frozen=True, kw_only=True):
    """A field of one record: the value, who supplied it, and what lost."""

    value: Any
    provider: str | None
    """None: nobody did; the value is the default."""
    lost: dict[str, Any]


class ServerReport(Struct, frozen=True, kw_only=True):
    """One server, and who answers for it."""

    server_id: str
    public_id: str
    name: str
    default: bool
    passworded: bool
    fields: dict[str, Supplied]
    providers: list[str]
    """Whose layers of its users are in use; empty where nobody watches."""
    stale: bool
    users: int | None
    """None where nobody watches: it is not held."""
    sessions: int


class UserReport(Struct, frozen=True, kw_only=True):
    """One user of a server."""

    uid: str
    fields: dict[str, Supplied]


class Explanation(Struct, frozen=True, kw_only=True):
    """The answer to ``d-back explain``."""

    providers: list[ProviderReport]
    servers: list[ServerReport]
    users: list[UserReport] | None = None
    """Of the server that was asked for."""


def explain(live: Live, wanted: str | None = None, uid: str | None = None) -> Explanation:
    """All servers; or one server with its users (or one of them)."""
    if wanted is None:
        servers = [_server(live, server_id) for server_id in live.server_list.servers]
        return Explanation(providers=providers(live), servers=servers)
    server = resolve(live.server_list.servers, wanted)
    if server is None:
        raise JoinError("unknown_server", f"there is no server '{wanted}'")
    users = []
    held = live.servers.get(server.server_id)
    if held is not None:
        shown = {user.uid: user for user in held.world.users.values()}
        asked: Iterable[str] = sorted(shown) if uid is None else [uid] if uid in shown else []
        for key in asked:
            values = {name: getattr(shown[key], name) for name in FIELDS[User]}
            users.append(UserReport(uid=key, fields=_supplied(held.resolver.layers, key, values)))
    return Explanation(
        providers=providers(live), servers=[_server(live, server.server_id)], users=users
    )


def providers(live: Live) -> list[ProviderReport]:
    """How every provider is."""
    states = []
    for stats in live.stats().providers:
        supervisor = live.providers.supervisors[stats.name]
        states.append(
            ProviderReport(
                plugin=supervisor.core.use,
                recorder=stats.name in live.config.chain.recorders,
                error=supervisor.last_error if stats.health != "ready" else "",
                stats=stats,
            )
        )
    return states


def _server(live: Live, server_id: str) -> ServerReport:
    server = live.server_list.servers[server_id]
    held = live.servers.get(server_id)
    values = {"name": server.name, "id": server.public_id, "default": server.default}
    return ServerReport(
        server_id=server_id,
        public_id=server.public_id,
        name=server.name,
        default=server.default,
        passworded=server.passworded,
        fields=_supplied(live.list_resolver.layers, server_id, values),
        providers=[] if held is None else list(held.resolver.layers.in_use),
        stale=held is not None and held.resolver.stale,
        users=None if held is None else len(held.world.users),
        sessions=0 if held is None else len(held.sessions),
    )


def _supplied(layers: Layers[Any], key: str, values: dict[str, Any]) -> dict[str, Supplied]:
    found = layers.explain(key)
    return {
        field: Supplied(
            value=value,
            provider=found[field][0][0] if found[field] else None,
            lost=dict(found[field][1:]),
        )
        for field, value in values.items()
    }
