"""The live state: composes chain, worlds and sessions.

There is one way in (a layer changes) and one way out (a delta with a sequence number).
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from d_back_core.chain.policy import means_default, resolve
from d_back_core.chain.server_list import ServerList
from d_back_core.clock import Clock
from d_back_core.config import Config
from d_back_core.errors import ErrorCode, JoinError, ProviderError
from d_back_core.models import (
    ClientIdChanged,
    Credentials,
    EffectiveServer,
    Event,
    Message,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    UserChanged,
    UserRemoved,
    is_id,
)
from d_back_core.providers.loader import Plugin
from d_back_core.providers.supervisor import Supervisor
from d_back_core.providers.validation import checked_event
from d_back_core.secret import Secret
from d_back_core.state.access import Access, ClientIds, credentials_of
from d_back_core.state.layer_source import Subject
from d_back_core.state.provider_set import ProviderSet
from d_back_core.state.recorders import ListObserver
from d_back_core.state.resolver import Resolver
from d_back_core.state.server_registry import ServerRegistry
from d_back_core.state.server_state import ServerState, Shared
from d_back_core.state.subscribers import Subscriber
from d_back_core.stats import Counters, Stats
from d_back_core.web import HttpRequest, HttpResponse
from d_back_core.wire import protocol
from d_back_core.wire.frames import Framed

QUIET_TURNS = 10
"""Turns of the loop without any news after which `Live.settle` believes it."""

log = logging.getLogger("d_back.live")


class Live:
    """The state of all servers, from the providers to the sessions.

    All methods are to be called on the event loop that `start` ran on.
    """

    def __init__(self, config: Config, plugins: Sequence[Plugin], clock: Clock) -> None:
        self.config = config
        self.provider_set = ProviderSet(clock, self)
        self.server_list = ServerList(config.servers, self._list_changed)
        self._plugins = plugins
        self.clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions: set[Subscriber] = set()
        self._joined: dict[Subscriber, ServerState] = {}
        self._changed: dict[ServerState, None] = {}
        self._list_frame: Framed | None = None
        """The list of servers as every new session is sent it."""
        self._relist = False
        self._flushing: asyncio.Handle | None = None
        self._news = 0
        self.knows_unlisted: Callable[[], bool] = lambda: False
        """Whether a provider may be asked for the users of a server that nobody lists."""
        self._access = Access(clock, config.limits.failed_joins)
        self._client_ids = ClientIds(clock)
        self._applying = asyncio.Lock()
        self.counters = Counters()
        shared = Shared(
            history=config.gateway.history,
            counters=self.counters,
            clock=clock,
            changed=self._server_changed,
            spawn=self._spawn,
        )
        self.held = ServerRegistry(config, self.provider_set, self.server_list, shared)
        subject = Subject(kind=Server, server_id=None, clock=clock, spawn=self._spawn)
        self.list_resolver: Resolver[Server, Server] = Resolver(subject, self.server_list)
        self._list_observer = ListObserver(
            self.provider_set.recorder_queues,
            self.server_list,
            self.list_resolver,
            self._list_changed,
        )
        self.list_resolver.observer = self._list_observer

    @property
    def servers(self) -> Mapping[str, ServerState]:
        """Those that are held: watched, or eager."""
        return self.held.servers

    async def start(self) -> None:
        """Start the providers. Returns when each is ready or has failed and the list of servers
        is known, or after ``chain.startup_timeout``."""
        await self.provider_set.adopt(self.config, self._plugins)
        self.held.relink(self.list_resolver, None)
        timeout = self.config.chain.startup_timeout
        try:
            async with self.clock.timeout(timeout):
                for supervisor in self.provider_set.supervisors.values():
                    await supervisor.settled()
                await self.list_resolver.ready.wait()
        except TimeoutError:
            log.warning("not every provider has answered within %g s; going on", timeout)
        self.flush()

    async def apply(self, config: Config, plugins: Sequence[Plugin]) -> None:
        """Go on with another configuration; what differs reaches the sessions as deltas."""
        async with self._applying:
            recorders = self.provider_set.recorders()
            for name in await self.provider_set.adopt(config, plugins):
                self._client_ids.invalidate(name)
            # Recorders hear again what is in use where it may be news to one of them.
            repoliced = config.servers != self.config.servers and self.provider_set.records_public
            retell = repoliced or self.provider_set.recorders() != recorders
            self.config = config
            self._access.throttle.free = config.limits.failed_joins
            self.server_list.policies = config.servers
            self.held.apply(config, retell=retell)
            self.held.relink(self.list_resolver, None, retell=retell)
            self._list_changed()
            if retell:
                for server_id in self.servers:
                    self._record_client_id(server_id, again=True)

    async def stop(self) -> None:
        """Stop the providers; may be called twice."""
        self.held.close()
        self.list_resolver.close()
        if self._flushing is not None:
            self._flushing.cancel()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.provider_set.end()

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
        if self._list_frame is None:
            self._list_frame = Framed.of(protocol.server_list(self.server_list.servers.values()))
        session.write(self._list_frame.fit(deflate=session.deflates))

    def detach(self, session: Subscriber) -> None:
        """Forget the session."""
        self._sessions.discard(session)
        self._leave(session)

    async def join(
        self,
        session: Subscriber,
        wanted: str | None,
        credentials: Credentials,
        address: str,
        resume: protocol.Resume | None = None,
    ) -> None:
        """Subscribe the session to a server and send it the snapshot, at one and the same
        sequence number, or what it missed since ``resume``; raises `JoinError`. Ends its former
        subscription."""
        await self.renewed_list()
        server = self._resolved(wanted)
        with self.held.watching(server.server_id) as live:
            await live.resolver.fresh()
            password = await self._authorize(server, credentials, address)
            await self._renew_client_id(server.server_id)
            users = await live.snapshot.ready()
            now = self._still_open(server, password)
            self._leave(session)
            self._joined[session] = live
            missed = None
            if resume is not None and resume.epoch == live.world.epoch:
                missed = live.world.since(resume.seq)
            if resume is not None and missed is not None:
                self.counters.resumes += 1
                live.resume(session, resume.seq, missed)
            else:
                self.counters.joins += 1
                live.join(session, now, users, self._client_id(server.server_id))

    def _still_open(self, server: EffectiveServer, password: Secret | None) -> EffectiveServer:
        """The server as it is now, after something was waited for; raises `JoinError` where it
        is gone, or protected since, or no longer by the password that was asked for."""
        self.flush()
        now = self.server_list.servers.get(server.server_id)
        if now is None:
            raise JoinError("gone", protocol.UNKNOWN_SERVER)
        same = server.passworded and self.held.policy(server.server_id).password == password
        if now.passworded and not same:
            raise JoinError("unauthorized", protocol.UNAUTHORIZED)
        return now

    def stop_direct_writes(self, session: Subscriber) -> None:
        """Use the session's descriptor no more."""
        live = self._joined.get(session)
        if live is not None:
            live.stop_direct_writes(session)

    def catch_up(self, session: Subscriber) -> None:
        """Send the session what waited for it: its client reads again."""
        live = self._joined.get(session)
        if live is not None:
            live.catch_up(session)

    async def user_data(self, session: Subscriber, wanted: str) -> bytes:
        """The answer to ``get_user_data``; a protected server's only for who joined it."""
        await self.renewed_list()
        if self._is_unlisted(wanted):
            return await self._unlisted_user_data(wanted)
        server = self._resolved(wanted)
        with self.held.watching(server.server_id) as live:
            await live.resolver.fresh()
            self.flush()
            now = self.server_list.servers.get(server.server_id)
            if now is None:
                raise JoinError("gone", protocol.UNKNOWN_SERVER)
            if now.passworded and session not in live.sessions:
                raise JoinError("unauthorized", protocol.UNAUTHORIZED)
            return protocol.user_data(server.server_id, live.world.shown())

    async def _unlisted_user_data(self, server_id: str) -> bytes:
        with self.held.watching(server_id) as live:
            await live.resolver.fresh()
            self.flush()
            if not live.resolver.layers.in_use:
                raise JoinError("unknown_server", protocol.UNKNOWN_SERVER)
            return protocol.user_data(server_id, live.world.shown())

    def has_old_list(self) -> bool:
        """Whether there is anything to wait for in `renewed_list`."""
        return self.list_resolver.old

    async def renewed_list(self) -> None:
        """Return when the list of servers is as new as a join wants it."""
        if self.has_old_list():
            await self.list_resolver.fresh()
            self.flush()

    async def settled(self, server_id: str | None = None) -> None:
        """Return when all that was asked about that server (None: about all, and the list) is
        answered, or has failed."""
        lives = [live for key, live in self.servers.items() if server_id in {key, None}]
        resolvers: list[Resolver[Any, Any]] = [live.resolver for live in lives]
        if server_id is None:
            resolvers.append(self.list_resolver)
        await asyncio.gather(*(resolver.settled() for resolver in resolvers))
        self.flush()

    async def hold(self, wanted: str) -> None:
        """Fetch a server as a join would; raises `JoinError`."""
        with self.held.watching(self._resolved(wanted).server_id) as live:
            await live.resolver.ready.wait()

    def server_data(self, wanted: str | None) -> bytes:
        """The answer to ``get_server_data``."""
        servers = [self._resolved(wanted)] if wanted else list(self.server_list.servers.values())
        return protocol.server_data(servers)

    def announce(self, frame: bytes, server_id: str | None) -> None:
        """Send a frame that changes nothing to who joined that server (None: to everybody)."""
        self.flush()
        if server_id is None:
            audience: Iterable[Subscriber] = self._sessions
        else:
            live = self.servers.get(server_id)
            audience = () if live is None else live.sessions
        for session in [*audience]:
            session.send(frame)

    async def users_of(self, wanted: str, authorization: str, address: str) -> bytes:
        """The users of a server as JSON, for the credentials of an ``Authorization`` header: a
        bearer token of Discord's, or basic with the password; raises `JoinError`."""
        await self.renewed_list()
        server = self._resolved(wanted)
        with self.held.watching(server.server_id) as live:
            await live.resolver.fresh()
            offered = credentials_of(authorization)
            self._still_open(server, await self._authorize(server, offered, address))
            return protocol.user_data(server.server_id, live.world.shown())

    async def page(self, request: HttpRequest) -> HttpResponse | None:
        """The answer of the first HTTP provider that serves this path."""
        for name in self.config.gateway.http:
            supervisor = self.provider_set.supervisors.get(
                name
            )  # a reload may have taken it meanwhile
            if supervisor is None or not supervisor.plugin.implements("http"):
                continue
            try:
                answer = await supervisor.call("http", request=request)
            except ProviderError as error:
                log.warning("%s", error)
                continue
            if isinstance(answer, HttpResponse):
                return answer
        return None

    @property
    def is_ready(self) -> bool:
        """Whether somebody has answered what servers there are."""
        return bool(self.list_resolver.layers.in_use)

    def health(self) -> bytes:
        """The states of the providers, as JSON that anybody may see."""
        return msgspec.json.encode({"providers": self.stats().providers})

    # What supervisors ask and report

    def stats(self) -> Stats:
        """What is counted, and how every provider is."""
        providers = self.provider_set.stats(list(self._resolvers()))
        return Stats(
            counters=self.counters,
            sessions=len(self._sessions),
            servers=len(self.servers),
            users=sum(len(live.world.users) for live in self.servers.values()),
            providers=providers,
            queued={
                each.supervisor.name: each.waiting for each in self.provider_set.recorder_queues
            },
            held=[live.stats() for live in self.servers.values()],
            errors=self.provider_set.errors(providers),
        )

    def holds(self, server_id: str) -> bool:
        """Whether that server's users are held."""
        return server_id in self.servers

    async def authorize(self, server_id: str, credentials: Credentials, address: str) -> bool:
        """Whether a client of that address would be let in with these credentials."""
        self.flush()
        server = self.server_list.servers.get(server_id)
        if server is None:
            return False
        try:
            self._still_open(server, await self._authorize(server, credentials, address))
        except JoinError:
            return False
        return True

    def on_event(self, name: str, event: Event) -> None:
        """An event of a provider's stream: it changes that provider's layer only."""
        self._news += 1
        checked = checked_event(event, self.provider_set.validation_logs[name])
        live = None if checked is None else self.servers.get(checked.server_id or "")
        match checked:
            case UserChanged() | UserRemoved() if live is not None:
                live.resolver.apply(name, checked.uid, checked)
            case ServerChanged() | ServerRemoved():
                self.list_resolver.apply(name, checked.server_id, checked)
                self.server_list.note(self.list_resolver.layers, name, checked.server_id)
            case Message() if live is not None:
                self._pass_on(name, live, checked)
            case ClientIdChanged():
                self._change_client_id(name, checked)
            case Reload(server_id=None):
                self.invalidate(name)
            case Reload() if live is not None:
                live.resolver.refetch(name)

    def on_health_changed(self, name: str) -> None:  # noqa: ARG002  every resolver decides for itself
        """A provider's health may have changed."""
        self._news += 1
        for resolver in self._resolvers():
            resolver.turn()

    def invalidate(self, name: str) -> None:
        """All that is held of the provider is to be fetched again."""
        self._news += 1
        for resolver in self._resolvers():
            resolver.refetch(name)

    # From a change to the clients

    def flush(self) -> None:
        """Send every session what changed since the last call."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._relist:  # first: whom it turns out is not to hear what came after
            self._relist = False
            self._refresh_list()
        changed, self._changed = self._changed, {}
        for live in changed:
            live.deliver()

    def _server_changed(self, live: ServerState) -> None:
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
        before = self.server_list.servers
        changed = self.server_list.refresh(self.list_resolver.layers)
        self._list_observer.flush()
        self.held.hold_eager()
        if self.provider_set.recorder_queues:
            self._spawn(self._renew_client_ids())
        if not changed:
            return
        self._list_frame = None
        frame = Framed.of(protocol.server_list(self.server_list.servers.values(), update=True))
        for session in self._sessions:
            session.write(frame.fit(deflate=session.deflates))
        for live in self.servers.values():
            was, now = before.get(live.server_id), self.server_list.servers.get(live.server_id)
            if now is None:
                self._turn_out(live, protocol.error("gone", protocol.UNKNOWN_SERVER))
            elif now.passworded and was is not None and not was.passworded:
                self._turn_out(live, protocol.error("unauthorized", protocol.UNAUTHORIZED))

    def _turn_out(self, live: ServerState, frame: bytes) -> None:
        for session in list(live.sessions):
            session.send(frame)
            self._joined.pop(session, None)
            live.leave(session)
        self.held.let_idle(live)

    def _pass_on(self, name: str, live: ServerState, message: Message) -> None:
        link = self.provider_set.links.get(name)
        if link is None or link.fields is not None or name not in live.resolver.layers.in_use:
            return
        if live.say(message):
            self._record(name, live, message)

    def _change_client_id(self, name: str, event: ClientIdChanged) -> None:
        before = self._client_id(event.server_id)
        self._client_ids.put(event.server_id, name, event.client_id)
        live = self.servers.get(event.server_id)
        if self._tell_client_id(event.server_id, before) and live is not None:
            live.recorded_client_id = event.client_id
            self._record(name, live, event)

    async def _renew_client_id(self, server_id: str) -> None:
        before = self._client_id(server_id)
        asked = self._contributors(server_id)
        await self._client_ids.ask(server_id, asked, self.provider_set.validation_logs)
        self._tell_client_id(server_id, before)

    async def _renew_client_ids(self) -> None:
        """Ask for those of servers that are recorded: nobody may ever join them here."""
        for server_id in [*self.server_list.servers]:
            if self.held.records(server_id):
                await self._renew_client_id(server_id)
                self._record_client_id(server_id)

    def _record_client_id(self, server_id: str, *, again: bool = False) -> None:
        live, client_id = self.servers.get(server_id), self._client_id(server_id)
        givers = [each.name for each in self._contributors(server_id)]
        name = self._client_ids.giver(server_id, givers)
        if live is None or name is None or (client_id == live.recorded_client_id and not again):
            return
        live.recorded_client_id = client_id
        self._record(name, live, ClientIdChanged(server_id=server_id, client_id=client_id))

    def _tell_client_id(self, server_id: str, before: str | None) -> bool:
        """Send the client id to who joined that server if it is another one than before."""
        after = self._client_id(server_id)
        if after == before:
            return False
        self.announce(protocol.update_client_id(server_id, after), server_id)
        return True

    def _record(self, name: str, live: ServerState, change: Message | ClientIdChanged) -> None:
        for queue in self.provider_set.recorder_queues:
            wanted = queue.public or not isinstance(change, Message)
            if not wanted or not queue.link.admits(live.server_id):
                continue
            if live.resolver.layers.is_above(name, queue.above):
                queue.put([change])

    def _leave(self, session: Subscriber) -> None:
        live = self._joined.pop(session, None)
        if live is not None:
            live.leave(session)
            self.held.let_idle(live)

    # Who is asked what

    def _resolved(self, wanted: str | None) -> EffectiveServer:
        server = resolve(self.server_list.servers, wanted)
        if server is None:
            code: ErrorCode = "no_server" if means_default(wanted) else "unknown_server"
            raise JoinError(code, protocol.UNKNOWN_SERVER)
        return server

    def _is_unlisted(self, wanted: str) -> bool:
        """Whether it may be a server that is in no list, rather than one that is kept from
        clients."""
        if not self.knows_unlisted() or not is_id(wanted):
            return False
        if resolve(self.server_list.servers, wanted) is not None or self.server_list.is_known(
            wanted
        ):
            return False
        policy = self.held.policy(wanted)
        return policy.enabled and not policy.protects

    def _resolvers(self) -> Iterator[Resolver[Any, Any]]:
        yield self.list_resolver
        for live in self.servers.values():
            yield live.resolver

    def _contributors(self, server_id: str) -> list[Supervisor]:
        """The providers that say something of that server, in order."""
        live = self.servers.get(server_id)
        names = {link.name for link, _ in self.list_resolver.layers.contributors(server_id)}
        if live is not None:
            names |= live.resolver.layers.in_use.keys()
        names |= {
            name for name, each in self.provider_set.supervisors.items() if _everywhere(each)
        }
        return [
            self.provider_set.supervisors[name]
            for name in self.provider_set.links
            if name in names
        ]

    def _client_id(self, server_id: str) -> str | None:
        names = [supervisor.name for supervisor in self._contributors(server_id)]
        return self._client_ids.first(server_id, names)

    async def _authorize(
        self, server: EffectiveServer, credentials: Credentials, address: str
    ) -> Secret | None:
        """Raise `JoinError` where they may not join; returns the password that was asked for."""
        policy, asked = self.held.policy(server.server_id), self._contributors(server.server_id)
        await self._access.authorize(server, credentials, address, policy, asked)
        return policy.password

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


def _everywhere(supervisor: Supervisor) -> bool:
    return supervisor.plugin.capabilities.everywhere
