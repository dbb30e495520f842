"""What becomes of a change: the rows are fetched again, and told as events."""

from collections.abc import AsyncGenerator

from msgspec import Struct

from d_back_core import (
    Context,
    Event,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_postgres.failure import FAILURES
from d_back_postgres.odd import taken_back
from d_back_postgres.pending import Batch, Pending
from d_back_postgres.reading import Reading


class Asked(Struct):
    """What the core was last told of the users of one server."""

    listed: bool | None = None
    """Whether the server was there; None while the first answer is on its way."""
    touched: bool = False
    """Whether something changed since the last question."""


class Changes:
    """The stream of one run. Only what was asked for is fetched again when it changes: of
    everything else the core holds nothing. So what a recorder writes for a source that is in use
    comes back as nothing."""

    def __init__(self, context: Context, reading: Reading, pending: Pending) -> None:
        self._context = context
        self._reading = reading
        self._pending = pending
        self._asked: dict[str, Asked] = {}
        self._list_asked = False

    async def servers(self) -> dict[str, Server]:
        """All servers."""
        self._list_asked = True
        return await self._reading.servers()

    async def users(self, server_id: str) -> dict[str, User] | None:
        """The users of a server; None where it is neither listed here nor has any, or where it
        is disabled."""
        asked = self._asked.setdefault(server_id, Asked())
        asked.touched = False
        members = await self._reading.members(server_id)
        asked.listed = members.listed
        if asked.touched and not members.listed:
            # Events are kept for an answer that is on its way, but None has no place for them.
            self._pending.outdated(server_id)
        if members.known and not members.listed:
            return None
        return members.users if members.listed else members.users or None

    async def events(self) -> AsyncGenerator[Event]:
        """What changes, until the pending changes end."""
        while (batch := await self._pending.take()) is not None:
            if batch.resumed:
                # Together with the Reload that follows in the same step, this fetches once.
                self._context.recovered()
            if batch.everything:
                self._touch(*self._asked)
                yield Reload()
                continue
            for event in await self._events_of(batch):
                yield event

    async def _events_of(self, batch: Batch) -> list[Event]:
        """The events of a batch of keys."""
        outdated = self._outdated(batch)
        try:
            servers = await self._reading.some_servers(batch.servers) if batch.servers else {}
            users = await self._reading.some_users(batch.keys) if batch.users else {}
        except FAILURES:
            # The core asks again until there is an answer, and knows our health by it.
            if batch.servers:
                return [Reload()]
            return [Reload(server_id=server_id) for server_id in (*outdated, *batch.users)]
        events = [
            event
            for server_id, server in servers.items()
            for event in _server_events(server_id, server)
        ]
        for server_id, server in servers.items():
            asked = self._asked.get(server_id)
            listed = server is not None and server.enabled is not False
            if asked is not None and asked.listed is not listed:
                outdated[server_id] = None
        events += [event for key, user in users.items() for event in _user_events(*key, user)]
        return [*events, *(Reload(server_id=server_id) for server_id in outdated)]

    def _outdated(self, batch: Batch) -> dict[str, None]:
        """The servers to be fetched whole; what is left of the batch is to be told by key."""
        self._touch(*batch.whole, *batch.users, *batch.servers)
        if not self._list_asked:
            batch.servers &= self._asked.keys()
        outdated = {server_id: None for server_id in batch.whole if server_id in self._asked}
        for server_id in list(batch.users):
            asked = self._asked.get(server_id)
            if asked is None:
                del batch.users[server_id]
            elif asked.listed is False:
                # Whether it is still to be answered depends on its rows being there at all.
                del batch.users[server_id]
                outdated[server_id] = None
        return outdated

    def _touch(self, *server_ids: str) -> None:
        for server_id in server_ids:
            if server_id in self._asked:
                self._asked[server_id].touched = True


def _user_events(server_id: str, uid: str, user: User | None) -> list[Event]:
    if user is None:
        return [UserRemoved(server_id=server_id, uid=uid)]
    return _told(
        UserChanged(
            server_id=server_id,
            uid=uid,
            username=user.username,
            status=user.status,
            role_color=user.role_color,
        )
    )


def _server_events(server_id: str, server: Server | None) -> list[Event]:
    if server is None:
        return [ServerRemoved(server_id=server_id)]
    return _told(
        ServerChanged(
            server_id=server_id,
            name=server.name,
            id=server.id,
            default=server.default,
            passworded=server.passworded,
            enabled=server.enabled,
        )
    )


def _told(event: UserChanged | ServerChanged) -> list[Event]:
    after = taken_back(event)
    return [event] if after is None else [event, after]
