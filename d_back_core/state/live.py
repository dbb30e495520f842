"""The live state: chain, worlds and sessions, put together.

    providers ──events──▶ `Reports` ──▶ resolvers ──▶ list, worlds ──▶ `Changes` ──flush──┐
    sessions ──requests─▶ `Joins` ◀──────────────── list updates, deltas ◀────────────────┘

There is one way in (a layer changes) and one way out (a delta with a sequence number). Each part
gets what it needs when it is made; none is changed from outside afterwards.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from d_back_core.chain.server_list import ServerList
from d_back_core.clock import Clock
from d_back_core.config import Config
from d_back_core.models import Server
from d_back_core.providers.loader import Plugin
from d_back_core.state.access import Access
from d_back_core.state.changes import Changes
from d_back_core.state.joins import Joins
from d_back_core.state.layer_source import Subject
from d_back_core.state.lookup import Lookup
from d_back_core.state.parts import Parts
from d_back_core.state.provider_set import ProviderSet
from d_back_core.state.recorders import ListRecorder
from d_back_core.state.reports import Reports
from d_back_core.state.resolver import Resolver
from d_back_core.state.server_registry import ServerRegistry
from d_back_core.state.server_state import ServerState, Shared
from d_back_core.state.unresolved_names import UnresolvedNames
from d_back_core.stats import Counters, Health, Stats
from d_back_core.tasks import Tasks
from d_back_core.wire.frames import Body

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

QUIET_TURNS = 10
"""Turns of the loop without any change after which `Live.settle` returns."""

log = logging.getLogger("d_back.live")


class Live:
    """The state of all servers. All methods belong to the event loop that `start` ran on."""

    def __init__(self, config: Config, plugins: Sequence[Plugin], clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.counters = Counters()
        self.providers = ProviderSet(clock)
        self.plugins = plugins
        """The providers of the configuration, with the defaults of their classes."""
        self._applying = asyncio.Lock()
        self._stopped = False
        self._changes = Changes(self._deliver)
        self._tasks = Tasks(log, ended=self._changes.touch)
        self.server_list = ServerList(config.servers, self._changes.add_list)
        self._list_recorder = ListRecorder(
            self.providers.recorder_queues, self.server_list, self._changes.add_list
        )
        subject = Subject(kind=Server, server_id=None, clock=clock, spawn=self._tasks.start)
        self.list_resolver: Resolver[Server, Server] = Resolver(
            subject, self.server_list, self._list_recorder, decided=self._on_list_decided
        )
        shared = Shared(
            history=config.gateway.history,
            counters=self.counters,
            clock=clock,
            queues=self.providers.recorder_queues,
            changed=self._changes.add_server,
            decided=self._on_users_decided,
            spawn=self._tasks.start,
            listed_by=self._listed_by,
        )
        self.registry = ServerRegistry(config, self.providers, self.server_list, shared)
        parts = Parts(
            clock=clock,
            counters=self.counters,
            providers=self.providers,
            server_list=self.server_list,
            list_resolver=self.list_resolver,
            registry=self.registry,
            changes=self._changes,
            spawn=self._tasks.start,
        )
        self._access = Access(clock, config.limits.failed_joins)
        self._lookup = Lookup(parts, config.chain.startup_timeout)
        self.joins = Joins(parts, self._access, self._lookup)
        self.unresolved_names = UnresolvedNames(parts, config)
        self.reports = Reports(parts, self.joins, self.unresolved_names, self.stats)

    @property
    def servers(self) -> Mapping[str, ServerState]:
        """The servers that are held: watched, or eager."""
        return self.registry.servers

    @property
    def is_ready(self) -> bool:
        """True if a provider has returned its list of servers."""
        return bool(self.list_resolver.layers.in_use)

    async def start(self) -> None:
        """Start the providers. Returns when each is ready or has failed and the list of servers
        is known, or after ``chain.startup_timeout`` (R8)."""
        await self.providers.adopt(self.config, self.plugins, self.reports)
        # At once, not after the starts: each list counts from its own answer on.
        self.registry.set_chain(self.list_resolver, None)
        timeout = self.config.chain.startup_timeout
        try:
            async with self.clock.timeout(timeout):
                for supervisor in self.providers.supervisors.values():
                    await supervisor.settled()
                await self.list_resolver.ready.wait()
        except TimeoutError:
            log.warning("not every provider has answered within %g s; continuing", timeout)
        self._changes.flush()

    async def apply(self, config: Config, plugins: Sequence[Plugin]) -> None:
        """Use another configuration; the differences reach the sessions as deltas."""
        async with self._applying:
            if self._stopped:
                return
            recorders = self.providers.recorders  # before `adopt` changes them
            await self.providers.adopt(config, plugins, self.reports)
            # Recorders receive again what is in use if it may be new to one of them.
            former = self.config
            repoliced = (config.servers, config.gateway.extra) != (
                former.servers,
                former.gateway.extra,
            )
            repoliced = repoliced and self.providers.records_public
            report_all = repoliced or self.providers.recorders != recorders
            # No await from here on: policy, chain and list change in one turn of the loop.
            self.config, self.plugins = config, plugins
            self._access.throttle.free = config.limits.failed_joins
            self._lookup.patience = config.chain.startup_timeout
            self.server_list.policies.adopt(config.servers)
            self.unresolved_names.adopt(config)
            self.registry.apply(config, report_all=report_all)
            self.registry.set_chain(self.list_resolver, None, report_all=report_all)
            self._changes.add_list()  # a policy may change the list without any new answer
            self.registry.record_access()

    async def stop(self) -> None:
        """Stop the providers; may be called twice."""
        self._stopped = True
        # Resolvers before providers: calls that the end of a provider breaks off are no failures.
        self.registry.close()
        self.list_resolver.close()
        self._changes.close()
        await self._tasks.close()
        async with self._applying:  # a reload that is stopping providers starts others after it
            await self.providers.end()

    def flush(self) -> None:
        """Deliver what has changed now, rather than at the end of this turn of the loop."""
        if self._changes.pending:
            self._changes.flush()

    async def settle(self) -> None:
        """Return when there is nothing left to do but to wait for time, providers or clients."""
        quiet = 0
        while quiet < QUIET_TURNS:
            before = self._changes.count
            await asyncio.sleep(0)
            same = before == self._changes.count and not self._changes.pending
            quiet = quiet + 1 if same else 0

    async def settled(self, server_id: str | None = None) -> None:
        """Return when every call about that server (None: about all, and the list) has been
        answered, or has failed."""
        resolvers: list[Resolver[Any, Any]] = [
            server.resolver for key, server in self.servers.items() if server_id in {key, None}
        ]
        if server_id is None:
            resolvers.append(self.list_resolver)
        await asyncio.gather(*(resolver.settled() for resolver in resolvers))
        self._changes.flush()  # the caller expects that clients have been written to

    def routes(self) -> "Sequence[Sequence[BaseRoute]]":
        """Return the routes of each provider that serves HTTP, in order."""
        from d_back_core.providers.routes import routes_of  # noqa: PLC0415  imports Starlette

        supervisors = self.providers.supervisors
        serving = [supervisors[name] for name in self.config.gateway.http if name in supervisors]
        return [routes_of(each) for each in serving if each.plugin.implements("routes")]

    def provider_problem(self, name: str) -> str:
        """Return why the provider is not ready, "" if it is; it is public, so without its error.

        Raises `KeyError` if no provider has this name."""
        provider = {each.name: each for each in self.stats().providers}[name]
        is_ready = provider.health == "ready"
        return "" if is_ready else f"{provider.health} for {provider.since:.0f} s"

    def health(self) -> bytes:
        """Return the states of the providers as JSON; it is public."""
        return msgspec.json.encode(Health(providers=self.stats().providers))

    def server_data(self, wanted: str | None) -> bytes:
        """Return the servers as JSON; see `Joins.server_data`."""
        return self.joins.server_data(wanted)

    async def users_of(self, wanted: str, authorization: str, address: str) -> tuple[Body, bool]:
        """Return the users of a server; see `Joins.users_of`."""
        return await self.joins.users_of(wanted, authorization, address)

    def stats(self) -> Stats:
        """Return the counters, and the state of providers and servers."""
        providers = self.providers.stats(list(self.reports.resolvers()))
        return Stats(
            counters=self.counters,
            sessions=len(self.joins.sessions),
            servers=len(self.servers),
            users=sum(len(server.world.users) for server in self.servers.values()),
            providers=providers,
            queued={each.supervisor.name: each.waiting for each in self.providers.recorder_queues},
            held=[server.stats() for server in self.servers.values()],
            errors=self.providers.errors(),
        )

    def _deliver(self, list_changed: bool, servers: Collection[ServerState]) -> None:  # noqa: FBT001
        if list_changed:  # first: a session that it ends must not receive what came after
            before = self.server_list.servers
            unanswered = self.list_resolver.unanswered
            changed = self.server_list.refresh(
                self.list_resolver.layers,
                unanswered,
                complete=self.list_resolver.have_all_answered,
            )
            self.registry.renew_policies()
            self.unresolved_names.on_list_refreshed()
            # After the refresh, which assigns the public ids that recorders store (R12).
            self._list_recorder.flush(self.list_resolver.layers)
            self.registry.hold_eager()
            self.joins.on_list_refreshed(before, changed=changed)
            for server in self.servers.values():
                server.on_list_changed()
        for server in servers:
            server.deliver()

    def _listed_by(self, server_id: str) -> frozenset[str]:
        return self.list_resolver.layers.holders(server_id)

    def _on_list_decided(self) -> None:
        """A provider has answered, or failed: servers that waited for it can be shown now."""
        self._changes.touch()
        waiting = self.server_list.policies.closes_others or self._lookup.is_waiting
        if self.server_list.deferred or waiting:
            self._changes.add_list()

    def _on_users_decided(self, server: ServerState) -> None:
        self.unresolved_names.on_users_decided(server)
