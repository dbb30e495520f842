"""The live state: composes chain, worlds and sessions.

There is one way in (a layer changes) and one way out (a delta with a sequence number).
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from d_back_core import protocol
from d_back_core.access import ClientIds, authorized
from d_back_core.border import Complaints, checked_event
from d_back_core.chain import Link, R
from d_back_core.clock import Clock
from d_back_core.config import Config, Provider
from d_back_core.errors import ErrorCode, JoinError
from d_back_core.feed import E, Feed, Sink
from d_back_core.listing import Listing
from d_back_core.live_server import LiveServer, Subscriber
from d_back_core.models import (
    ClientIdChanged,
    Credentials,
    EffectiveServer,
    EffectiveUser,
    Event,
    Message,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_core.plugins import Plugin
from d_back_core.policy import NO_POLICY, means_default, resolve
from d_back_core.source import Source, Subject
from d_back_core.supervisor import Supervisor

QUIET_TURNS = 10
"""Turns of the loop without any news after which `Live.settle` believes it."""

log = logging.getLogger("d_back.live")


class Live:
    """The state of all servers, from the providers to the sessions.

    All methods are to be called on the event loop that `start` ran on.
    """

    def __init__(self, config: Config, plugins: Sequence[Plugin], clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._supervisors = {
            plugin.name: Supervisor(plugin, config.chain, clock, self) for plugin in plugins
        }
        self._complaints = {name: Complaints(name) for name in self._supervisors}
        self._links = {plugin.name: _link(plugin.settings) for plugin in plugins}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions: set[Subscriber] = set()
        self._servers: dict[str, tuple[LiveServer, Feed[User, EffectiveUser]]] = {}
        self._changed: dict[LiveServer, None] = {}
        self._relist = False
        self._flushing: asyncio.Handle | None = None
        self._news = 0
        self._client_ids = ClientIds()
        self._listing = Listing(config.servers, self._list_changed)
        self._list_feed = self._feed(Server, None, self._listing)

    async def start(self) -> None:
        """Start the providers. Returns when each is ready or has failed and the list of servers
        is known, or after ``chain.startup_timeout``."""
        for supervisor in self._supervisors.values():
            supervisor.begin()
        self._list_feed.turn()
        timeout = self._config.chain.startup_timeout
        try:
            async with self._clock.timeout(timeout):
                for supervisor in self._supervisors.values():
                    await supervisor.settled()
                await self._list_feed.ready.wait()
        except TimeoutError:
            log.warning("not every provider has answered within %g s; going on", timeout)
        self.flush()

    async def stop(self) -> None:
        """Stop the providers; may be called twice."""
        for _, feed in self._servers.values():
            feed.close()
        self._list_feed.close()
        if self._flushing is not None:
            self._flushing.cancel()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        ends = [asyncio.create_task(each.end()) for each in self._supervisors.values()]
        if ends:
            await asyncio.wait(ends)

    async def settle(self) -> None:
        """Return when nothing is left to do but to wait: for time, providers and clients."""
        quiet = 0
        while quiet < QUIET_TURNS:
            before = self._news
            await asyncio.sleep(0)
            quiet = quiet + 1 if before == self._news and self._flushing is None else 0

    # What sessions ask

    def attach(self, session: Subscriber) -> None:
        """Send the session the list of servers, and later changes of it."""
        self.flush()
        self._sessions.add(session)
        session.send(protocol.server_list(self._listing.servers.values()))

    def detach(self, session: Subscriber) -> None:
        """Forget the session."""
        self._sessions.discard(session)
        self._leave(session)

    async def join(
        self, session: Subscriber, wanted: str | None, credentials: Credentials, address: str
    ) -> None:
        """Subscribe the session to a server and send it the snapshot, at one and the same
        sequence number; raises `JoinError`. Ends its former subscription."""
        server = self._resolved(wanted)
        live, feed = self._watched(server.server_id)
        await feed.ready.wait()
        contributors = self._contributors(server.server_id)
        await self._authorize(server, credentials, address)
        await self._client_ids.ask(server.server_id, contributors, self._complaints)
        self.flush()
        now = self._listing.servers.get(server.server_id)
        if now is None:
            raise JoinError("gone", protocol.UNKNOWN_SERVER)
        if now.passworded and not server.passworded:  # since it was asked for
            raise JoinError("unauthorized", protocol.UNAUTHORIZED)
        self._leave(session)
        client_id = self._client_id(server.server_id)
        session.send(protocol.server_join(now, live.world, client_id))
        live.sessions[session] = live.world.seq

    async def user_data(self, session: Subscriber, wanted: str) -> bytes:
        """The answer to ``get_user_data``; a protected server's only for who joined it."""
        server = self._resolved(wanted)
        live, feed = self._watched(server.server_id)
        if server.passworded and session not in live.sessions:
            raise JoinError("unauthorized", protocol.UNAUTHORIZED)
        await feed.ready.wait()
        return protocol.user_data(server.server_id, live.world.shown())

    def server_data(self, wanted: str | None) -> bytes:
        """The answer to ``get_server_data``."""
        servers = [self._resolved(wanted)] if wanted else list(self._listing.servers.values())
        return protocol.server_data(servers)

    # What supervisors report

    def heard(self, name: str, event: Event) -> None:
        """An event of a provider's stream: it changes that provider's layer only."""
        self._news += 1
        checked = checked_event(event, self._complaints[name])
        match checked:
            case None:
                pass
            case UserChanged() | UserRemoved():
                if checked.server_id in self._servers:
                    _, feed = self._servers[checked.server_id]
                    feed.apply(name, checked.uid, checked)
            case ServerChanged() | ServerRemoved():
                self._list_feed.apply(name, checked.server_id, checked)
            case Message():
                self._pass_on(name, checked)
            case ClientIdChanged():
                self._change_client_id(name, checked)
            case Reload(server_id=None):
                self.outdated(name)
            case Reload(server_id=str(server_id)) if server_id in self._servers:
                _, feed = self._servers[server_id]
                feed.refetch(name)

    def turned(self, name: str) -> None:  # noqa: ARG002  every feed decides for itself
        """A provider's health may have changed."""
        for feed in self._feeds():
            feed.turn()

    def outdated(self, name: str) -> None:
        """All that is held of the provider is to be fetched again."""
        for feed in self._feeds():
            feed.refetch(name)

    def _leave(self, session: Subscriber) -> None:
        for live, _ in self._servers.values():
            live.sessions.pop(session, None)

    # From a change to the clients

    def flush(self) -> None:
        """Send every session what changed since the last call."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        changed, self._changed = self._changed, {}
        for live in changed:
            live.deliver()
        if self._relist:
            self._relist = False
            self._refresh_list()

    def _server_changed(self, live: LiveServer) -> None:
        self._changed[live] = None
        self._flush_soon()

    def _list_changed(self) -> None:
        self._relist = True
        self._flush_soon()

    def _flush_soon(self) -> None:
        self._news += 1
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self.flush)

    def _refresh_list(self) -> None:
        before = self._listing.servers
        if not self._listing.refresh(self._list_feed.layers):
            return
        frame = protocol.server_list(self._listing.servers.values(), update=True)
        for session in self._sessions:
            session.send(frame)
        for server_id, (live, _) in self._servers.items():
            was, now = before.get(server_id), self._listing.servers.get(server_id)
            if now is None:
                self._turn_out(live, protocol.error("gone", protocol.UNKNOWN_SERVER))
            elif now.passworded and was is not None and not was.passworded:
                self._turn_out(live, protocol.error("unauthorized", protocol.UNAUTHORIZED))

    def _turn_out(self, live: LiveServer, frame: bytes) -> None:
        for session in live.sessions:
            session.send(frame)
        live.sessions.clear()

    def _pass_on(self, name: str, message: Message) -> None:
        live, feed = self._servers.get(message.server_id, (None, None))
        if live is None or feed is None or name not in feed.layers.in_use:
            return
        if self._links[name].fields is None:
            live.say(message)

    def _change_client_id(self, name: str, event: ClientIdChanged) -> None:
        before = self._client_id(event.server_id)
        self._client_ids.put(event.server_id, name, event.client_id)
        after = self._client_id(event.server_id)
        if after != before and event.server_id in self._servers:
            live, _ = self._servers[event.server_id]
            frame = protocol.update_client_id(event.server_id, after)
            for session in live.sessions:
                session.send(frame)

    # Who is asked what

    def _resolved(self, wanted: str | None) -> EffectiveServer:
        server = resolve(self._listing.servers, wanted)
        if server is None:
            code: ErrorCode = "no_server" if means_default(wanted) else "unknown_server"
            raise JoinError(code, protocol.UNKNOWN_SERVER)
        return server

    def _watched(self, server_id: str) -> tuple[LiveServer, Feed[User, EffectiveUser]]:
        if server_id not in self._servers:
            policy = self._config.servers.get(server_id, NO_POLICY)
            live = LiveServer(server_id, policy, self._server_changed)
            feed = self._feed(User, server_id, live)
            self._servers[server_id] = live, feed
            feed.turn()
        return self._servers[server_id]

    def _feed(self, kind: type[R], server_id: str | None, sink: Sink[R, E]) -> Feed[R, E]:
        subject: Subject[R] = Subject(
            kind=kind, server_id=server_id, clock=self._clock, spawn=self._spawn
        )
        sources = [
            Source(subject, link, self._supervisors[name], self._complaints[name])
            for name, link in self._links.items()
            if server_id is None or link.admits(server_id)
        ]
        return Feed(subject, sources, sink, self._config.chain.failback_after)

    def _feeds(self) -> Iterator[Feed[Any, Any]]:
        yield self._list_feed
        for _, feed in self._servers.values():
            yield feed

    def _contributors(self, server_id: str) -> list[Supervisor]:
        """The providers that say something of that server, in order."""
        _, feed = self._watched(server_id)
        listed = {link.name for link, _ in self._list_feed.layers.contributors(server_id)}
        names = listed | feed.layers.in_use.keys()
        return [each for name, each in self._supervisors.items() if name in names]

    def _client_id(self, server_id: str) -> str | None:
        names = [supervisor.name for supervisor in self._contributors(server_id)]
        return self._client_ids.first(server_id, names)

    async def _authorize(
        self, server: EffectiveServer, credentials: Credentials, address: str
    ) -> None:
        if not server.passworded:
            return
        policy = self._config.servers.get(server.server_id, NO_POLICY)
        contributors = self._contributors(server.server_id)
        if await authorized(server.server_id, credentials, address, policy, contributors):
            return
        if credentials.discord_token is not None:
            raise JoinError("authentication_failed", protocol.AUTHENTICATION_FAILED)
        raise JoinError("unauthorized", protocol.UNAUTHORIZED)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._news += 1
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the live state failed", exc_info=error)


def _link(provider: Provider) -> Link:
    core = provider.core
    fields = None
    if core.fields is not None:
        fields = frozenset("role_color" if name == "roleColor" else name for name in core.fields)
    return Link(name=provider.name, mode=core.mode, servers=core.servers, fields=fields)
