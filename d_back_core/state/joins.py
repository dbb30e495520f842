"""What sessions and HTTP requests ask of the live state: the list, a join, the users of a server.

A join is answered from memory. It waits only for what it needs: a newer list or layer, if answers
age; the authorization; a snapshot, if there is none. After each wait the answer is checked again
against the present list, and the subscription and the snapshot happen in one step without an
await, at one sequence number (R26).
"""

from collections.abc import Iterable, Mapping, Sequence

from d_back_core.errors import ErrorCode, JoinError
from d_back_core.models import Credentials, EffectiveServer
from d_back_core.state.access import Access, credentials_of
from d_back_core.state.admissions import Admissions
from d_back_core.state.join_checks import JoinChecks
from d_back_core.state.lookup import Lookup
from d_back_core.state.parts import Parts
from d_back_core.state.server_state import ServerState
from d_back_core.state.snapshot import CachedSnapshot
from d_back_core.state.subscribers import Subscriber
from d_back_core.stats import Counters
from d_back_core.wire import protocol
from d_back_core.wire.frames import Body, Framed


class Joins:
    """The sessions, and the server that each has joined."""

    def __init__(self, parts: Parts, access: Access, lookup: Lookup) -> None:
        self.sessions: set[Subscriber] = set()
        self._lookup = lookup
        self._parts = parts
        self._joined: dict[Subscriber, ServerState] = {}
        self._admissions = Admissions(parts.clock, parts.spawn, self._end_access)
        self.checks = JoinChecks(parts, access, self._admissions)
        self._list_frame: Framed | None = None
        """The list as every new session receives it."""

    @property
    def counters(self) -> Counters:
        return self._parts.counters

    def has_old_list(self) -> bool:
        """Return True if `renewed_list` would wait."""
        return self._lookup.has_old_list()

    async def renewed_list(self) -> None:
        """Return when the list of servers is as new as a join needs it."""
        await self._lookup.renewed_list()

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
        found = await self._lookup.find(wanted)
        with self._parts.registry.watching(found.server_id) as server:
            # The layer before the authorization: a provider without a list contributes to a server
            # by its users (R24).
            await server.resolver.fresh()
            authorized = await self.checks.authorize(found, credentials, address)
            users = await server.snapshot.ready()
            # No await from here on: list, snapshot and subscription are of one moment (R26).
            now = self.checks.still_open(found, authorized)
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
        await self._lookup.renewed_list()
        if self._lookup.is_unlisted(wanted):
            users = await self._unlisted_users(wanted)
            return users.user_data(deflate=session.deflates)
        found = await self._lookup.find(wanted)
        with self._parts.registry.watching(found.server_id) as server:
            await server.resolver.fresh()
            users = await server.snapshot.current()
            self._parts.changes.flush()
            now = self._parts.server_list.servers.get(found.server_id)
            if now is None:
                raise JoinError("gone", protocol.UNKNOWN_SERVER)
            if now.passworded and session not in server.sessions:
                raise JoinError("unauthorized", self.checks.requirement(found.server_id))
            return users.user_data(deflate=session.deflates)

    async def users_of(self, wanted: str, authorization: str, address: str) -> tuple[Body, bool]:
        """Return the users of a server as the body of an HTTP answer, and True if every client may
        have it. For a protected server the header ``Authorization`` has the credentials: a bearer
        token of Discord, or basic with the password. Raises `JoinError`."""
        found = await self._lookup.find(wanted)
        with self._parts.registry.watching(found.server_id) as server:
            await server.resolver.fresh()
            offered = credentials_of(authorization)
            authorized = await self.checks.authorize(found, offered, address)
            users = await server.snapshot.current()
            now = self.checks.still_open(found, authorized)
            return users.http(), not now.passworded

    def server_data(self, wanted: str | None) -> bytes:
        """Return the answer to ``get_server_data``. Raises `JoinError`."""
        listed = self._parts.server_list.servers.values()
        servers = [self._lookup.resolved(wanted)] if wanted else list(listed)
        return protocol.server_data(servers)

    async def hold(self, wanted: str) -> None:
        """Fetch a server as a join would. Raises `JoinError`."""
        found = await self._lookup.find(wanted)
        with self._parts.registry.watching(found.server_id) as server:
            await server.resolver.ready.wait()

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
        self._lookup.on_list_refreshed()
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
        requirement = self.checks.requirement(server.server_id)
        self._unsubscribe(server, "unauthorized", requirement, [session])

    def _compare(
        self, server: ServerState, former: EffectiveServer, present: EffectiveServer
    ) -> None:
        if present.passworded and not former.passworded:
            self._unsubscribe(server, "unauthorized", self.checks.requirement(server.server_id))
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
            requirement = self.checks.requirement(server.server_id)
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

    # A server that no provider lists

    async def _unlisted_users(self, server_id: str) -> CachedSnapshot:
        with self._parts.registry.watching(server_id) as server:
            await server.resolver.fresh()
            self._parts.changes.flush()
            if not server.resolver.layers.keys():  # an empty `Overlay` is in use for any id
                raise JoinError("unknown_server", protocol.UNKNOWN_SERVER)
            return await server.snapshot.current()
