"""Explain the live state to operators: which provider supplies what. Contains no secrets."""

from typing import Any

from msgspec import Struct

from d_back_core.chain.policy import resolve
from d_back_core.errors import DBackError, JoinError, meant
from d_back_core.models import EffectiveUser
from d_back_core.state.live import Live
from d_back_core.stats import ProviderStats


class ProviderReport(Struct, frozen=True, kw_only=True):
    """One provider: its configuration and its health."""

    plugin: str
    recorder: bool
    lists: bool
    """True if it lists servers; False: it only supplies data of servers that others list."""
    error: str
    """The last error. It may name hosts and files, so only operators see it."""
    stats: ProviderStats


class Supplied(Struct, frozen=True, kw_only=True):
    """One field of a record: its value, the provider that supplies it, and what it overrides."""

    value: Any
    provider: str | None
    """None: no provider; the value is the default."""
    lost: dict[str, Any]
    """Provider of lower priority → its value."""


class ServerReport(Struct, frozen=True, kw_only=True):
    """One server, and the providers of its users."""

    server_id: str
    public_id: str
    name: str
    default: bool
    passworded: bool
    fields: dict[str, Supplied]
    providers: list[str]
    """Providers whose layers of users are in use; empty if the server is not in memory."""
    stale: bool
    """True if no provider answers and the last state is kept."""
    users: int | None
    """None if the server is not in memory: it has no sessions and is not eager."""
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
    """The users of the requested server."""
    problems: list[str] = []
    """What is wrong: a sentence for each."""


def explain(live: Live, wanted: str | None = None, uid: str | None = None) -> Explanation:
    """Explain all servers; or one server and its users, or one of them.

    Raises `DBackError` if there is no such server or user.
    """
    reports, problems = providers(live), live.reports.problems()
    if wanted is None:
        servers = [_server(live, server_id) for server_id in live.server_list.servers]
        return Explanation(providers=reports, servers=servers, problems=problems)
    found = live.server_list.servers
    server = resolve(found, wanted)
    if server is None:
        names = {
            name: name for each in found.values() for name in (each.server_id, each.public_id)
        }
        near = meant(wanted, names)
        raise JoinError("unknown_server", f"there is no server '{wanted}'{near}")
    state = live.servers.get(server.server_id)
    shown = {} if state is None else {user.uid: user for user in state.world.users.values()}
    if uid is not None and uid not in shown:
        names = {user.username: user.uid for user in shown.values()} | {key: key for key in shown}
        near = meant(uid, names)
        raise DBackError(f"there is no user '{uid}' in server '{server.public_id}'{near}")
    users = []
    for key in sorted(shown) if uid is None else [uid]:
        supplied = live.servers[server.server_id].resolver.layers.explain(key)
        values = {name: _value_of(shown[key], name) for name in supplied}
        users.append(UserReport(uid=key, fields=_supplied(supplied, values)))
    servers = [_server(live, server.server_id)]
    return Explanation(providers=reports, servers=servers, users=users, problems=problems)


def providers(live: Live) -> list[ProviderReport]:
    """Return the configuration and health of every provider."""
    reports = []
    for stats in live.stats().providers:
        supervisor = live.providers.supervisors[stats.name]
        reports.append(
            ProviderReport(
                plugin=supervisor.core.use,
                recorder=stats.name in live.config.chain.recorders,
                lists=supervisor.plugin.implements("servers"),
                error=supervisor.health.last_error if stats.health != "ready" else "",
                stats=stats,
            )
        )
    return reports


def _server(live: Live, server_id: str) -> ServerReport:
    server = live.server_list.servers[server_id]
    state = live.servers.get(server_id)
    values = {"name": server.name, "id": server.public_id, "default": server.default}
    return ServerReport(
        server_id=server_id,
        public_id=server.public_id,
        name=server.name,
        default=server.default,
        passworded=server.passworded,
        fields=_supplied(live.list_resolver.layers.explain(server_id), values),
        providers=[] if state is None else list(state.resolver.layers.in_use),
        stale=state is not None and state.resolver.stale,
        users=None if state is None else len(state.world.users),
        sessions=0 if state is None else len(state.sessions),
    )


def _value_of(user: EffectiveUser, field: str) -> str | None:
    """Return what clients see of that field; None: an extra text that the operator does not
    name."""
    name, _, key = field.partition(".")
    if not key:
        return str(getattr(user, name))
    return user.extra.get(key)


def _supplied(
    found: dict[str, list[tuple[str, object]]], values: dict[str, Any]
) -> dict[str, Supplied]:
    return {
        field: Supplied(
            value=value,
            provider=found[field][0][0] if found[field] else None,
            lost=dict(found[field][1:]),
        )
        for field, value in values.items()
    }
