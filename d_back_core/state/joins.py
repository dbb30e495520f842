"""What sessions and HTTP requests ask of the live state: the list, a join, the users of a server.

A join is answered from memory. It waits only for what it needs: a newer list or layer, if answers
age; the authorization; a snapshot, if there is none. After each wait the answer is checked again
against the present list, and the subscription and the snapshot happen in one step without an
await, at one sequence number (R26).
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from d_back_core.chain.layers import Layers
from d_back_core.chain.policy import means_default
from d_back_core.chain.server_list import ServerList
from d_back_core.clock import Clock
from d_back_core.errors import ErrorCode, JoinError
from d_back_core.models import (
    GRANT_LASTS,
    Credentials,
    EffectiveServer,
    Grant,
    Server,
    is_id,
)
from d_back_core.providers.supervisor import Supervisor
from d_back_core.secret import Secret
from d_back_core.state.access import Access, credentials_of, requirement
from d_back_core.state.admissions import (
    OPERATORS,
    Admissions,
    Granted,
    Grounds,
    grant_of,
    password_id,
)
from d_back_core.state.changes import Changes
from d_back_core.state.layer_source import Spawn
from d_back_core.state.provider_set import ProviderSet
from d_back_core.state.resolver import Resolver
from d_back_core.state.server_registry import ServerRegistry
from d_back_core.state.server_state import ServerState
from d_back_core.state.snapshot import CachedSnapshot
from d_back_core.state.subscribers import Subscriber
from d_back_core.stats import Counters
from d_back_core.wire import protocol
from d_back_core.wire.frames import Body, Framed


class Parts(Struct, frozen=True, kw_only=True):
    """The parts of the live state that joins use."""

    clock: Clock
    counters: Counters
    providers: ProviderSet
    server_list: ServerList
    list_resolver: Resolver[Server, Server]
    registry: ServerRegistry
    changes: Changes
    spawn: Spawn


class _Authorized(Struct, frozen=True):
    """What a join was authorized by, to be compared with what is there after its last wait."""

    grounds: Grounds
    password: Secret | None
    """The server's password at that moment, also if it was not given."""
    revocations: int
    """The number of revocations before the authorization began."""


class Joins:
    """The sessions, and the server that each has joined."""

    def __init__(self, parts: Parts, access: Access, startup_timeout: float) -> None:
        self.sessions: set[Subscriber] = set()
        self.patience = startup_timeout
        """Seconds for which a join waits for a server that is not known yet (R8)."""
        self._parts = parts
        self._access = access
        self._joined: dict[Subscriber, ServerState] = {}
        self._admissions = Admissions(parts.clock, parts.spawn, self._end_access)
        self._list_frame: Framed | None = None
        """The list as every new session receives it."""
        self._list_waiters: set[asyncio.Future[None]] = set()

    @property
    def counters(self) -> Counters:
        return self._parts.counters

    @property
    def is_waiting(self) -> bool:
        """True if a join waits for the list of servers."""
        return bool(self._list_waiters)

    def attach(self, session: Subscriber) -> None:
        """Send the session the list of servers, and later its changes."""
        # Before the session is added: it receives the list as it is then, not the update as well.
        self._parts.changes.flush()
        self.sessions.add(session)
        if self._list_frame is None:
            servers = self._parts.server_list.servers.values()
            self._list_frame = Framed.of(protocol.server_list(servers))
        session.write(self._list_frame.fit(deflate=session.deflates))

    def detach(self, session: Subscriber) -> None:
        """Forget the session."""
        self.sessions.discard(session)
        self._leave(session)

    async def join(
        self,
        session: Subscriber,
        wanted: str | None,
        credentials: Credentials,
        address: str,
        resume: protocol.Resume | None = None,
    ) -> None:
        """Subscribe the session to a server, and send it the snapshot, or what it has missed since
        ``resume``. Ends its former subscription. Raises `JoinError`."""
        found = await self._find(wanted)
        with self._parts.registry.watching(found.server_id) as server:
            # The layer before the authorization: a provider without a list contributes to a server
            # by its users (R24).
            await server.resolver.fresh()
            authorized = await self._authorize(found, credentials, address)
            users = await server.snapshot.ready()
            # No await from here on: list, snapshot and subscription are of one moment (R26).
            now = self._still_open(found, authorized)
            # After the last check: a join that is refused leaves the former subscription as it is.
            self._leave(session)
            self._joined[session] = server
            self._admissions.admit(session, authorized.grounds)
            missed = None
            if resume is not None and resume.epoch == server.world.epoch:
                missed = server.world.since(resume.seq)
            if resume is not None and missed is not None:
                self._parts.counters.resumes += 1
                server.resume(session, resume.seq, missed)
            else:
                self._parts.counters.joins += 1
                server.join(session, now, users)

    def stop_direct_writes(self, session: Subscriber) -> None:
        """Do not write to the session's descriptor any more."""
        server = self._joined.get(session)
        if server is not None:
            server.stop_direct_writes(session)

    def catch_up(self, session: Subscriber) -> None:
        """Send the session what it missed while its client did not read."""
        server = self._joined.get(session)
        if server is not None:
            server.catch_up(session)

    async def user_data(self, session: Subscriber, wanted: str) -> Sequence[bytes]:
        """Return the answer to ``get_user_data`` as a frame, in pieces; of a protected server only
        for a session that has joined it. Raises `JoinError`."""
        await self.renewed_list()
        if self._is_unlisted(wanted):
            users = await self._unlisted_users(wanted)
            return users.user_data(deflate=session.deflates)
        found = await self._find(wanted)
        with self._parts.registry.watching(found.server_id) as server:
            await server.resolver.fresh()
            users = await server.snapshot.current()
            self._parts.changes.flush()
            now = self._parts.server_list.servers.get(found.server_id)
            if now is None:
                raise JoinError("gone", protocol.UNKNOWN_SERVER)
            if now.passworded and session not in server.sessions:
                raise JoinError("unauthorized", self._requirement(found.server_id))
            return users.user_data(deflate=session.deflates)

    async def users_of(self, wanted: str, authorization: str, address: str) -> tuple[Body, bool]:
        """Return the users of a server as the body of an HTTP answer, and True if every client may
        have it. For a protected server the header ``Authorization`` has the credentials: a bearer
        token of Discord, or basic with the password. Raises `JoinError`."""
        found = await self._find(wanted)
        with self._parts.registry.watching(found.server_id) as server:
            await server.resolver.fresh()
            offered = credentials_of(authorization)
            authorized = await self._authorize(found, offered, address)
            users = await server.snapshot.current()
            now = self._still_open(found, authorized)
            return users.http(), not now.passworded

    def server_data(self, wanted: str | None) -> bytes:
        """Return the answer to ``get_server_data``. Raises `JoinError`."""
        listed = self._parts.server_list.servers.values()
        servers = [self._resolved(wanted)] if wanted else list(listed)
        return protocol.server_data(servers)

    async def hold(self, wanted: str) -> None:
        """Fetch a server as a join would. Raises `JoinError`."""
        found = await self._find(wanted)
        with self._parts.registry.watching(found.server_id) as server:
            await server.resolver.ready.wait()

    def has_old_list(self) -> bool:
        """Return True if `renewed_list` would wait."""
        return self._parts.list_resolver.old

    async def renewed_list(self) -> None:
        """Return when the list of servers is as new as a join needs it."""
        if self.has_old_list():
            await self._parts.list_resolver.fresh()
            self._parts.changes.flush()

    async def grant(self, server_id: str, credentials: Credentials, address: str) -> Grant | bool:
        """Return by what a client at that address could join with these credentials; False: it
        could not."""
        self._parts.changes.flush()
        found = self._parts.server_list.servers.get(server_id)
        if found is None or not found.passworded:
            return found is not None
        with self._parts.registry.watching(server_id) as server:
            # As for a join: a provider without a list contributes to a server by its users.
            await server.resolver.fresh()
            try:
                authorized = await self._authorize(found, credentials, address)
                self._still_open(found, authorized)
            except JoinError:
                return False
        return grant_of(server_id, authorized.grounds)

    async def renews(self, server_id: str, person: str) -> bool | None:
        """Return True if a grant by that id still holds, see `grant`; None if that cannot be said
        now, as the server or its provider is not known yet."""
        self._parts.changes.flush()
        found = self._parts.server_list.servers.get(server_id)
        if found is None or not found.passworded:
            return None if found is None else True
        if person.startswith(OPERATORS):
            password = self._parts.registry.policy(server_id).password
            return password is not None and password_id(server_id, password) == person
        provider, _, own = person.partition(":")
        supervisor = self._parts.providers.supervisors.get(provider)
        if supervisor is None:  # without an ":" it was shortened: it expires
            return False if own else None
        granted = Granted(
            supervisor=supervisor, server_id=server_id, person=own, lasts=GRANT_LASTS
        )
        verdict = await self._admissions.verdict(granted, GRANT_LASTS)
        # Another process may have missed the revocation, and the provider's answer may be older
        # than it, or None for want of a hook.
        return False if self._admissions.has_lost(granted) else verdict

    def announce(self, frame: bytes, server_id: str | None) -> None:
        """Send a frame that changes nothing to the sessions of that server (None: to all)."""
        self._parts.changes.flush()
        receivers: Iterable[Subscriber] = self.sessions
        if server_id is not None:
            server = self._parts.registry.servers.get(server_id)
            receivers = () if server is None else server.sessions
        for session in [*receivers]:
            session.send(frame)

    def on_list_refreshed(self, before: Mapping[str, EffectiveServer], *, changed: bool) -> None:
        """Send all sessions what has changed in the list, and end the subscriptions to servers
        that are gone, or protected from now on (R25)."""
        # Also if nothing has changed: a provider that answered without the server ends the wait.
        for waiter in self._list_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._end_old_passwords()
        self._admissions.check_providers(self._parts.providers.supervisors)
        if not changed:
            return
        self._list_frame = None  # a session that connects from now on gets the new list
        now = self._parts.server_list.servers
        # The list first: a client that is unsubscribed next can join another server of it.
        update = protocol.server_list_update(before, now)
        if update is not None:
            frame = Framed.of(update)
            for session in self.sessions:
                session.write(frame.fit(deflate=session.deflates))
        for server in self._parts.registry.servers.values():
            former, present = before.get(server.server_id), now.get(server.server_id)
            if present is None:
                self._unsubscribe(server, "gone", protocol.UNKNOWN_SERVER)
            elif former is not None:
                self._compare(server, former, present)

    def revoke(self, provider: str, server_id: str, person: str) -> None:
        """End the access of a person whom that provider has let into that server (R25)."""
        self._admissions.revoke(provider, server_id, person)

    def _end_access(self, session: Subscriber) -> None:
        server = self._joined[session]
        self._unsubscribe(server, "unauthorized", self._requirement(server.server_id), [session])

    def _compare(
        self, server: ServerState, former: EffectiveServer, present: EffectiveServer
    ) -> None:
        if present.passworded and not former.passworded:
            self._unsubscribe(server, "unauthorized", self._requirement(server.server_id))
        elif present.client_id != former.client_id:
            client_id = protocol.update_client_id(server.server_id, present.client_id)
            for session in [*server.sessions]:
                session.send(client_id)

    def _end_old_passwords(self) -> None:
        """End the subscriptions that rest on a password that is not the server's any more (R25).
        If a server becomes protected, all end; see `_compare`."""
        ended: dict[ServerState, list[Subscriber]] = {}
        for session, password in self._admissions.passwords.items():
            server = self._joined[session]
            present = self._parts.server_list.servers.get(server.server_id)
            policy = self._parts.registry.policy(server.server_id)
            if present is not None and present.passworded and policy.password != password:
                ended.setdefault(server, []).append(session)
        for server, sessions in ended.items():
            requirement = self._requirement(server.server_id)
            self._unsubscribe(server, "unauthorized", requirement, sessions)

    def _unsubscribe(
        self,
        server: ServerState,
        code: ErrorCode,
        message: str,
        sessions: Iterable[Subscriber] | None = None,
    ) -> None:
        """End the subscriptions of these sessions; by default, of all."""
        for session in list(server.sessions if sessions is None else sessions):
            # The error first, then silence: no delta of the server may follow it (R25).
            session.send(protocol.error(code, message))
            self._joined.pop(session, None)
            self._admissions.forget(session)
            server.leave(session)
        self._parts.registry.restart_idle_timer(server)

    def _leave(self, session: Subscriber) -> None:
        self._admissions.forget(session)
        server = self._joined.pop(session, None)
        if server is not None:
            server.leave(session)
            self._parts.registry.restart_idle_timer(server)

    # Which server is meant

    async def _find(self, wanted: str | None) -> EffectiveServer:
        """Return the server that a client means. While a provider may still list it, wait for it
        (R8). Raises `JoinError`."""
        await self.renewed_list()
        found = self._parts.server_list.find(wanted)
        if found is None:
            try:
                async with self._parts.clock.timeout(self.patience):
                    while found is None and self._is_list_incomplete():
                        await self._list_refreshed()
                        found = self._parts.server_list.find(wanted)
            except TimeoutError:
                pass  # the provider is late; `_resolved` answers as if it did not know the server
        return found or self._resolved(wanted)

    def _is_list_incomplete(self) -> bool:
        awaited = self._parts.list_resolver.awaited(self.patience)
        return bool(awaited) or self._parts.server_list.deferred

    async def _list_refreshed(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._list_waiters.add(waiter)
        try:
            await waiter
        finally:
            self._list_waiters.discard(waiter)

    def _resolved(self, wanted: str | None) -> EffectiveServer:
        found = self._parts.server_list.find(wanted)
        if found is None:
            code: ErrorCode = "no_server" if means_default(wanted) else "unknown_server"
            raise JoinError(code, protocol.UNKNOWN_SERVER)
        return found

    def _still_open(self, server: EffectiveServer, authorized: _Authorized) -> EffectiveServer:
        """Return the server as it is now, after an await. Raises `JoinError` if it is gone, or
        protected since, or no longer by the password that was checked, or if the grant has been
        revoked."""
        self._parts.changes.flush()
        now = self._parts.server_list.servers.get(server.server_id)
        # No longer held although a join waits: the gateway stops, and the world may be empty.
        if now is None or server.server_id not in self._parts.registry.servers:
            raise JoinError("gone", protocol.UNKNOWN_SERVER)
        policy = self._parts.registry.policy(server.server_id)
        same = server.passworded and policy.password == authorized.password
        revoked = self._admissions.is_revoked(authorized.grounds, authorized.revocations)
        if now.passworded and (not same or revoked):
            raise JoinError("unauthorized", self._requirement(server.server_id))
        return now

    # A server that no provider lists

    def _is_unlisted(self, wanted: str) -> bool:
        """Return True if it may be a server that is on no list, rather than one that is hidden
        from clients."""
        if not self._parts.providers.answers_unlisted or not is_id(wanted):
            return False
        server_list = self._parts.server_list
        if server_list.find(wanted) is not None or server_list.is_known(wanted):
            return False
        policy = self._parts.registry.policy(wanted)
        return policy.enabled and not policy.protects

    async def _unlisted_users(self, server_id: str) -> CachedSnapshot:
        with self._parts.registry.watching(server_id) as server:
            await server.resolver.fresh()
            self._parts.changes.flush()
            if not server.resolver.layers.keys():  # an empty `Overlay` is in use for any id
                raise JoinError("unknown_server", protocol.UNKNOWN_SERVER)
            return await server.snapshot.current()

    # Who decides about a join

    async def _authorize(
        self, server: EffectiveServer, credentials: Credentials, address: str
    ) -> _Authorized:
        """Raise `JoinError` if they may not join."""
        policy = self._parts.registry.policy(server.server_id)
        contributors = self._contributors(server.server_id) if server.passworded else []
        revocations = self._admissions.revocations  # before the provider looks at the person
        authorize = self._access.authorize
        grounds = await authorize(server, credentials, address, policy, contributors)
        if isinstance(grounds, Granted) and not self._admissions.is_revoked(grounds, revocations):
            self._admissions.note_authorized(grounds)
        return _Authorized(grounds, policy.password, revocations)

    def _requirement(self, server_id: str) -> str:
        contributors = self._contributors(server_id)
        return requirement(self._parts.registry.policy(server_id), contributors)

    def _contributors(self, server_id: str) -> list[Supervisor]:
        """Return the providers that contribute to that server, in order."""
        lists: Layers[Server] = self._parts.list_resolver.layers
        names = {link.name for link, _ in lists.contributors(server_id)}
        server = self._parts.registry.servers.get(server_id)
        if server is not None:
            names |= server.resolver.layers.in_use.keys()
        providers = self._parts.providers
        return [providers.supervisors[name] for name in providers.links if name in names]
