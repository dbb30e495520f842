"""The stream of one run: what is fetched again when something has changed.

    state     the tables are                    and the provider
    current   those that were found last        is ready, or the core has degraded it itself
    lost      missing or unknown: a table is    is degraded, with the reason
              gone, a connection was lost, or
              what is wanted cannot be stored

    current -> current   keys are notified: their rows are read again and told as events
    current -> current   another table is there, or all rows may have changed, or (without
                         triggers) it is time to poll: everything is read again, then `Reload`
    current -> lost      the tables cannot be found again, or two checks in a row have failed
    any     -> lost      the connection that listens is lost, and there again
    lost    -> current   everything was found, stored and read again: `recovered`, then `Reload`

Every `CHECK_INTERVAL` seconds, and after each reading of keys, the fingerprint of the tables is
compared. The invariant: no event reports rows that were read in other tables than those of
the last `Reload`. Otherwise the core would merge the rows of two tables into a state that never
existed.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager

from msgspec import UNSET, Struct

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
from d_back_postgres.failure import FAILURES, DatabaseError, described
from d_back_postgres.odd import taken_back
from d_back_postgres.pending import Batch, Pending
from d_back_postgres.reading import Whole
from d_back_postgres.tables import Tables

CHECK_INTERVAL = 5.0
"""Seconds between two comparisons of the tables' fingerprint."""
MAX_FAILED_CHECKS = 2
"""Comparisons in a row that may not fail: one alone may be a pool without a free connection."""
POLL_INTERVAL = 30.0
"""Seconds between two readings of tables whose changes are not notified."""
POLL_INTERVAL_WITHOUT_TRIGGERS = 10.0
"""The same while triggers that were there are lost; they are made again if that is possible."""
MAX_READINGS = 3
"""Readings of everything that others may interrupt by replacing a table."""


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

    def __init__(self, context: Context, tables: Tables, pending: Pending) -> None:
        self._context = context
        self._tables = tables
        self._pending = pending
        self._asked: dict[str, Asked] = {}
        self._list_asked = False
        self._whole = Whole()
        """What was read for a `Reload` and is not asked for yet."""
        self._lost = False
        self._failed_checks = 0
        self._checked_at = self._polled_at = context.clock.time()

    async def servers(self) -> dict[str, Server]:
        """All servers."""
        self._list_asked = True
        servers, self._whole.servers = self._whole.servers, None
        return await self._tables.reading.servers() if servers is None else servers

    async def users(self, server_id: str) -> dict[str, User] | None:
        """The users of a server; None where it is neither listed here nor has any, or where it
        is disabled."""
        asked = self._asked.setdefault(server_id, Asked())
        asked.touched = False
        members = self._whole.members.pop(server_id, None)
        if members is None:
            members = await self._tables.reading.members(server_id)
        asked.listed = members.listed
        if asked.touched and not members.listed:
            # Events are kept for an answer that is on its way, but None has no place for them.
            self._pending.outdated(server_id)
        if members.known and not members.listed:
            return None
        return members.users if members.listed else members.users or None

    def stored(self) -> None:
        """Note that this process has stored something: what was read before is too old."""
        self._whole = Whole()

    async def events(self) -> AsyncGenerator[Event]:
        """What changes, until the pending changes end."""
        while (batch := await self._pending.take(self._until_check())) is not None:
            for event in await self._events_of(batch):
                yield event

    def _until_check(self) -> AbstractAsyncContextManager[object]:
        passed = self._context.clock.time() - self._checked_at
        return self._context.clock.timeout(max(0.0, CHECK_INTERVAL - passed))

    async def _events_of(self, batch: Batch) -> list[Event]:
        if batch.resumed:
            self._lost = True  # the database may be another one, or have an older state
        if not self._tables.connected:
            # Until the listener is there again: what is read now would miss what follows.
            self._checked_at = self._context.clock.time()
            return []
        if batch.everything or self._lost or self._is_time_to_poll() or await self._is_replaced():
            return await self._reload()
        return await self._events_of_keys(batch)

    def _is_time_to_poll(self) -> bool:
        interval = POLL_INTERVAL_WITHOUT_TRIGGERS if self._tables.lost_triggers else POLL_INTERVAL
        return not self._tables.live and (self._context.clock.time() - self._polled_at >= interval)

    async def _is_replaced(self) -> bool:
        """Whether a table was replaced, if it is time to look."""
        time = self._context.clock.time()
        if time - self._checked_at < CHECK_INTERVAL:
            return False
        self._checked_at = time
        self._whole = Whole()  # the core does not want the rest
        try:
            replaced = await self._tables.replaced()
            if not replaced:
                await self._tables.repair()
        except FAILURES as error:
            self._failed_checks += 1
            if self._failed_checks >= MAX_FAILED_CHECKS:
                self._lose(described(error))
            return False
        self._failed_checks = 0
        return replaced

    def _lose(self, reason: str) -> None:
        self._lost = True
        self._context.degraded(reason)

    async def _reload(self) -> list[Event]:
        """Read everything that was asked for, in one snapshot, for the core to fetch it."""
        self._checked_at = self._polled_at = self._context.clock.time()
        try:
            whole = await self._read_whole()
        except (DatabaseError, *FAILURES) as error:
            self._lose(described(error))
            return []
        self._failed_checks = 0
        self._touch(*self._asked)
        self._whole = whole
        if self._lost:
            self._lost = False
            # Together with the Reload that follows in the same step, this fetches once.
            self._context.recovered()
        return [Reload()]

    async def _read_whole(self) -> Whole:
        for _ in range(MAX_READINGS):
            if self._tables.lost_triggers:
                await self._tables.make_triggers()
            if self._lost or await self._tables.replaced():
                await self._tables.find()
            asked = [each for each in self._asked if self._context.holds(each)]
            whole = await self._tables.reading.whole(asked, listed=self._list_asked)
            if not await self._tables.replaced():
                return whole
        raise DatabaseError("the tables are being replaced")

    async def _events_of_keys(self, batch: Batch) -> list[Event]:
        """The events of a batch of keys."""
        outdated = self._outdated(batch)
        if not (outdated or batch.servers or batch.users):
            return []
        try:
            servers, users = await self._tables.reading.changed(batch.servers, batch.keys)
            # After the reading: the same tables now are the same tables then.
            replaced = await self._tables.replaced()
        except FAILURES:
            # A table may be gone: the next batch, or an empty one at once, looks for it. Until
            # then the core asks again until there is an answer, and knows our health by it.
            self._checked_at -= CHECK_INTERVAL
            if batch.servers:
                return [Reload()]
            return [Reload(server_id=server_id) for server_id in (*outdated, *batch.users)]
        if replaced:
            return await self._reload()
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
        if batch.servers:
            self._whole.servers = None
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
            self._whole.members.pop(server_id, None)
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
            extra=None if user.extra is UNSET else user.extra,
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
