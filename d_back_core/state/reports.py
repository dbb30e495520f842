"""What providers report: events, their health, and what of them is out of date."""

from collections.abc import Callable, Iterator
from typing import Any

from d_back_core.models import (
    GUARDS,
    AccessRevoked,
    Chat,
    Credentials,
    Event,
    Grant,
    Message,
    MessageDeleted,
    MessageEdited,
    Reload,
    ServerChanged,
    ServerRemoved,
    UserChanged,
    UserRemoved,
)
from d_back_core.providers.validation import checked_event
from d_back_core.state.admissions import person_id
from d_back_core.state.joins import Joins
from d_back_core.state.parts import Parts
from d_back_core.state.resolver import Resolver
from d_back_core.state.server_state import ServerState
from d_back_core.state.unresolved_names import UnresolvedNames
from d_back_core.stats import Stats


class Reports:
    """The listener of all supervisors. An event changes the layer of its provider only."""

    def __init__(
        self,
        parts: Parts,
        joins: Joins,
        unresolved_names: UnresolvedNames,
        stats: Callable[[], Stats],
    ) -> None:
        self.stats = stats
        self._unresolved_names = unresolved_names
        self._parts = parts
        self._joins = joins

    def on_event(self, name: str, event: Event) -> None:
        """Apply an event of a provider's stream; what is invalid in it is dropped (R5)."""
        parts = self._parts
        parts.changes.touch()
        checked = checked_event(event, parts.providers.validation_logs[name])
        server = None if checked is None else parts.registry.servers.get(checked.server_id or "")
        match checked:
            case UserChanged() | UserRemoved() if server is not None:
                server.resolver.apply(name, checked.uid, checked)
            case ServerChanged() | ServerRemoved():
                parts.list_resolver.apply(name, checked.server_id, checked)
                # Now, not at the flush: a later event of this turn may remove the record, and
                # protection is sticky (R6).
                layers = parts.list_resolver.layers
                parts.server_list.note_protection(layers, name, checked.server_id)
            case Message() | MessageEdited() | MessageDeleted() if server is not None:
                self._pass_on(name, server, checked)
            case AccessRevoked():
                self._joins.revoke(name, checked.server_id, checked.person)
                if server is not None:
                    server.record_access(person_id(name, checked.person))
            case Reload(server_id=None):
                self.invalidate(name)
            case Reload() if server is not None:
                server.resolver.refetch(name)

    def on_health_changed(self, name: str) -> None:  # noqa: ARG002  every resolver decides itself
        """Let every resolver decide again."""
        self._parts.changes.touch()
        for resolver in self.resolvers():
            resolver.reconsider()

    def invalidate(self, name: str, failing_since: float | None = None) -> None:
        """Fetch everything of the provider again; see `Resolver.refetch`."""
        self._parts.changes.touch()
        for resolver in self.resolvers():
            resolver.refetch(name, failing_since)

    def on_names_reported(self, name: str) -> None:
        """Log the names of the configuration that the provider does not know."""
        self._unresolved_names.on_reported(name)

    def problems(self) -> list[str]:
        """Return what is wrong although no provider has failed."""
        return list(self._problems())

    def _problems(self) -> Iterator[str]:
        providers = self._parts.providers
        # A provider that is only probed may not list its servers: Discord does not connect for it.
        probed = any(each.plugin.probe for each in providers.supervisors.values())
        for name in self._unresolved_names.find():
            if name.is_certain or not probed:
                yield str(name)
        for provider, validation_log in providers.validation_logs.items():
            for path in validation_log.counts:
                closed = GUARDS.get(path.rpartition(".")[2])
                if closed is not None:
                    effect = "protected" if closed else "disabled"
                    yield f"provider {provider}: {path}: cannot be read; the server is {effect}"
        for provider in self._parts.list_resolver.layers.stale:
            yield f"provider {provider}: has failed; the servers that only it listed stay"
        for state in self._parts.registry.servers.values():
            if state.resolver.stale:
                yield f"server {state.server_id}: no provider answers; its last state stays"

    def holds(self, server_id: str) -> bool:
        """Return True if the users of that server are held."""
        return server_id in self._parts.registry.servers

    async def authorize(
        self, server_id: str, credentials: Credentials, address: str
    ) -> Grant | bool:
        """Return by what a client at that address could join with these credentials; False: it
        could not."""
        return await self._joins.checks.grant(server_id, credentials, address)

    async def reauthorize(self, server_id: str, person: str) -> bool | None:
        """Return True if that grant of `authorize` still holds; None: it cannot be said now."""
        return await self._joins.checks.renews(server_id, person)

    def resolvers(self) -> Iterator[Resolver[Any, Any]]:
        """Yield that of the list, and those of the servers that are held."""
        yield self._parts.list_resolver
        for server in self._parts.registry.servers.values():
            yield server.resolver

    def _pass_on(self, name: str, server: ServerState, chat: Chat) -> None:
        link = self._parts.providers.links.get(name)
        in_use = name in server.resolver.layers.in_use
        if link is not None and link.fields is None and in_use:  # R11
            server.pass_on(name, chat)
