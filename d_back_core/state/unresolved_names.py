"""Names in the configuration that match nothing (R45).

A misspelt name protects and hides nothing. Which names exist is known only when providers have
answered: the servers with their lists, the users of a server and their texts when it is held, the
channels and what else plugins have options for when a plugin reports them. Then each name is
logged once.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial

from msgspec import Struct

from d_back_core.chain.policy import Policy, bare_names
from d_back_core.config import Config
from d_back_core.errors import meant
from d_back_core.models import Server, User
from d_back_core.providers.supervisor import Supervisor
from d_back_core.state.parts import Parts
from d_back_core.state.server_state import ServerState

log = logging.getLogger("d_back.names")


class UnresolvedName(Struct, frozen=True, kw_only=True):
    """One name that matches nothing."""

    place: str
    name: str
    problem: str
    known: Callable[[], Mapping[str, str]]
    """What people see → what to write, for the nearest one."""
    is_certain: bool = True
    """False while a provider may still bring it."""

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}{meant(self.name, self.known())}"


class UnresolvedNames:
    """Finds and logs them."""

    def __init__(self, parts: Parts, config: Config) -> None:
        self._parts = parts
        self._policies = parts.server_list.policies
        self._config = config
        self._logged: set[str] = set()

    def adopt(self, config: Config) -> None:
        """Use another configuration; what is still wrong in it is logged again."""
        self._config = config
        # What was logged before may still be wrong, and the operator has just looked at it.
        self._logged.clear()
        for server in self._parts.registry.servers.values():
            self.on_users_decided(server)

    def find(self) -> Iterator[UnresolvedName]:
        """Yield all, also those that a provider may still bring."""
        yield from self._tables()
        yield from self._channels()
        yield from self._gateway_extra(self._config.gateway.extra)
        for server in self._parts.registry.servers.values():
            yield from self._users(server)
        for supervisor in self._parts.providers.supervisors.values():
            yield from self._options(supervisor)

    def on_list_refreshed(self) -> None:
        """The list of servers may be complete."""
        self._log(self._tables())
        self._log(self._channels())

    def on_users_decided(self, server: ServerState) -> None:
        """The users of a server may be known."""
        if server.policy.ignore_users or server.policy.extra:
            self._log(self._users(server))
            # Without those that are logged: to miss a key is to read every user of every server.
            keys = self._config.gateway.extra
            unlogged = [key for key in keys if _extra_place("gateway", key) not in self._logged]
            self._log(self._gateway_extra(unlogged))

    def on_reported(self, name: str) -> None:
        """That provider has reported names."""
        supervisor = self._parts.providers.supervisors.get(name)
        if supervisor is not None:
            self._log(self._options(supervisor))
            self._log(self._channels())

    def _log(self, found: Iterable[UnresolvedName]) -> None:
        for each in found:
            # The place first: the nearest name costs time, and may be another one by now.
            if each.is_certain and each.place not in self._logged:
                self._logged.add(each.place)
                log.warning("%s: %s", self._config.source, each)

    def _tables(self) -> Iterator[UnresolvedName]:
        # A table that no provider uses is not decoded: its keys, such as a token, have no effect.
        names = self._config.names
        for name in self._config.providers:
            if name not in names:
                yield UnresolvedName(
                    place=f"providers.{name}",
                    name=name,
                    problem="no provider of that name is used",
                    known=partial(_as_written, names),
                )
        complete = self._parts.list_resolver.have_all_answered
        # Without a list it cannot be known whether a provider has users of that server.
        unresolved = () if self._parts.providers.answers_unlisted else self._policies.unresolved
        for name in sorted(unresolved):
            problem = "matches no server"
            if not complete:
                problem += " yet"
            if self._policies.closes_others:
                problem += "; servers without a table are closed until all providers have answered"
            yield UnresolvedName(
                place=f"servers.{name}",
                name=name,
                problem=problem,
                known=self._public_ids,
                is_certain=complete,
            )
        for source in self._parts.list_resolver.sources.values():
            # A filter may name a server of another provider, which this one knows as well.
            for name in sorted(source.link.servers or ()):
                if not self._parts.server_list.is_known(name):
                    yield UnresolvedName(
                        place=f"providers.{source.link.name}.servers '{name}'",
                        name=name,
                        problem="matches no server_id",
                        known=partial(_server_ids, source.records or {}),
                        is_certain=complete and not self._parts.providers.answers_unlisted,
                    )

    def _public_ids(self) -> dict[str, str]:
        servers = self._parts.server_list.servers.values()
        names = {server.name: server.public_id for server in servers}
        return names | _as_written(server.public_id for server in servers)

    def _users(self, server: ServerState) -> Iterator[UnresolvedName]:
        layers = _answers(server)
        if not layers:
            return

        def known() -> dict[str, str]:
            users = [each for records in layers for each in records.items()]
            by_name = {str(user.username): uid for uid, user in users}
            return by_name | {uid: uid for uid, _ in users}

        for table, policy in self._tables_of(server.server_id):
            for name in sorted(policy.ignore_users):
                if not any(name in records for records in layers):
                    yield UnresolvedName(
                        place=f"servers.{table}.ignore_users '{name}'",
                        name=name,
                        problem="matches no uid",
                        known=known,
                    )
            yield from _extra(f"servers.{table}", policy.extra or (), layers)

    def _gateway_extra(self, keys: Iterable[str]) -> Iterator[UnresolvedName]:
        servers = self._parts.registry.servers.values()
        return _extra("gateway", keys, [records for each in servers for records in _answers(each)])

    def _channels(self) -> Iterator[UnresolvedName]:
        for table, policy in self._policies.tables.items():
            # Messages do not count: a channel without a message exists, too.
            server_id = self._policies.server_of(table) or table
            known: frozenset[str] = frozenset().union(
                *(
                    supervisor.channels.get(server_id, ())
                    for supervisor in self._parts.providers.supervisors.values()
                )
            )
            if not known:  # no provider knows which channels there are
                continue
            bare = bare_names(known)
            for key in ("ignore_channels", "listen_channels"):
                for name in sorted(getattr(policy, key) or ()):
                    if not bare_names([name]) & bare:
                        yield UnresolvedName(
                            place=f"servers.{table}.{key} '{name}'",
                            name=name.removeprefix("#"),
                            problem="matches no channel",
                            known=partial(_as_written, bare),
                        )

    def _tables_of(self, server_id: str) -> list[tuple[str, Policy]]:
        return [
            (table, policy)
            for table, policy in self._policies.tables.items()
            if (self._policies.server_of(table) or table) == server_id
        ]

    def _options(self, supervisor: Supervisor) -> Iterator[UnresolvedName]:
        for key, (names, known) in supervisor.unresolved.items():
            for name in names:
                yield UnresolvedName(
                    place=f"providers.{supervisor.name}.{key} '{name}'",
                    name=name,
                    problem="matches nothing",
                    known=partial(_as_written, known),
                )


def _answers(server: ServerState) -> list[Mapping[str, User]]:
    """Return the users that each provider supplies; none while they are not known.

    Not those of the world: there the policy has hidden users and texts.
    """
    resolver = server.resolver
    layers = resolver.layers.in_use
    failing = any(resolver.sources[name].failing for name in layers)
    return [] if failing or not resolver.ready.is_set() else list(layers.values())


def _extra(
    table: str, keys: Iterable[str], layers: Collection[Mapping[str, User]]
) -> Iterator[UnresolvedName]:
    if not any(layers):
        return

    def known() -> dict[str, str]:
        texts = (user.extra or {} for records in layers for user in records.values())
        return _as_written({key for each in texts for key in each})

    for key in sorted(keys):
        # A user may have it later, such as an activity: a key is not wrong for certain, but one
        # that is misspelt would hide its text in silence.
        users = (user for records in layers for user in records.values())
        if not any((user.extra or {}).get(key) is not None for user in users):
            yield UnresolvedName(
                place=_extra_place(table, key),
                name=key,
                problem="no user has such a text so far",
                known=known,
            )


def _extra_place(table: str, key: str) -> str:
    return f"{table}.extra '{key}'"


def _as_written(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


def _server_ids(servers: Mapping[str, Server]) -> dict[str, str]:
    named = {str(server.name): server_id for server_id, server in servers.items()}
    public = {str(server.id): server_id for server_id, server in servers.items()}
    return named | public | _as_written(servers)
