"""What a recorder remembers: batches of changes, each stored in one transaction."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from d_back_core import Change, Snapshot
from d_back_postgres.database import Database
from d_back_postgres.failure import DatabaseError, described
from d_back_postgres.relations import Relations
from d_back_postgres.writing import Gone, Writing, without_nul, writing
from d_back_tables import Group, Wanted, grouped, server_values, user_values

if TYPE_CHECKING:
    from d_back_postgres.database import Session

REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
"""What the database raises for values that a table cannot hold."""

MAX_BACKENDS = 200
"""More than the largest pool has; connections that are closed are not removed."""
LOCK = 0x0D_BACC
"""The class of the advisory locks of recorders."""

Row: TypeAlias = Sequence[object]


class Memory:
    """Stores what others said. A row that the table refuses is left out, so that it does not
    keep the others from being stored; `refused` counts these."""

    def __init__(
        self,
        database: Database,
        relations: Relations,
        log: logging.Logger,
        *,
        keep_offline: bool = False,
        wanted: Wanted | None = None,
    ) -> None:
        self._database = database
        self._gone: Gone = "offline" if keep_offline else "deleted"
        self._log = log
        self._wanted = Wanted() if wanted is None else wanted
        self._storing = asyncio.Lock()
        self.refused = 0
        self.backends: deque[int] = deque(maxlen=MAX_BACKENDS)
        """The processes of the server that have written for this, the last ones."""
        self.use(relations)

    def use(self, relations: Relations) -> None:
        """Write to these tables from now on; raises `DatabaseError` if that is not possible."""
        for relation in (relations.users, relations.servers):
            if relation.identity is None:
                raise DatabaseError(f"nothing can be recorded to a query or view: {relation.key}")
        self._users = writing(relations.users, self._gone)
        self._servers = writing(relations.servers, "deleted")
        self._lock = " ".join(relations.users.identity or ())

    async def store(self, changes: Sequence[Change]) -> None:
        """Store all changes in order, or none. Raises what asyncpg raises."""
        async with self._storing, self._alone() as session:
            await self._put_all(session, changes)
        # Not before the commit: what is not stored yet comes again from the core's queue.
        self._wanted.apply(changes)

    async def restore(self) -> None:
        """Store again all that was stored, all or none of it: others have replaced a table, or
        the database was away and may come back with an older state."""
        await self._store_again(self._wanted.changes())

    async def repair(
        self, servers: Iterable[str], users: Mapping[str, Iterable[str] | None]
    ) -> None:
        """Store these servers and users again: others have changed their rows."""
        await self._store_again(self._wanted.changes_of(servers, users))

    async def _store_again(self, changes: Iterator[Change]) -> None:
        async with self._storing, self._alone() as session:
            await self._put_all(session, changes)

    async def _put_all(self, session: "Session", changes: Iterable[Change]) -> None:
        for group in grouped(changes):
            if isinstance(group, Snapshot):
                await self.complete(session, group)
            else:
                await self.put(session, group)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator["Session"]:
        """A transaction that begins to write when every earlier one has ended.

        The connection of an earlier one may be lost while the server still works on it: frozen,
        or behind a line that was cut. Its rows are not visible yet, so a removal would not find
        them, and they would stay when it commits after all.
        """
        async with self._database.transaction() as session:
            backend = session.get_server_pid()
            if backend not in self.backends:
                self.backends.append(backend)  # before it writes, and so before it notifies
            await session.execute(
                "SELECT pg_advisory_xact_lock($1, hashtext($2))", LOCK, self._lock
            )
            yield session

    async def put(self, session: "Session", group: Group) -> None:
        """Store these servers and users."""
        servers, users = group.servers, group.users
        gone = [server_id for server_id, server in servers.items() if server is None]
        if gone:
            await session.execute(self._servers.remove, self._fit(self._servers, gone))
            await session.execute(self._users.remove_servers, self._fit(self._users, gone))
        await self._upsert(
            session,
            self._servers,
            [
                (server_id, *without_nul(server_values(server, self._servers.fields)))
                for server_id, server in servers.items()
                if server is not None
            ],
        )
        gone_users = [key for key, user in users.items() if user is None and self._users.fits(key)]
        if gone_users:
            server_ids, uids = zip(*gone_users, strict=True)
            await session.execute(self._users.remove, list(server_ids), list(uids))
        await self._upsert(
            session,
            self._users,
            [
                (*key, *without_nul(user_values(user, self._users.fields)))
                for key, user in users.items()
                if user is not None
            ],
        )

    async def complete(self, session: "Session", change: Snapshot) -> None:
        """Remove whatever else is remembered."""
        keys = sorted(change.keys)
        if change.server_id is None:
            await session.execute(self._servers.keep_only, self._fit(self._servers, keys))
            await session.execute(self._users.keep_only_servers, self._fit(self._users, keys))
        elif self._users.keys[0].fits(change.server_id):
            uids = [uid for uid in keys if self._users.fits((change.server_id, uid))]
            await session.execute(self._users.keep_only, change.server_id, uids)

    def _fit(self, table: Writing, server_ids: Sequence[str]) -> list[str]:
        return [server_id for server_id in server_ids if table.keys[0].fits(server_id)]

    async def _upsert(self, session: "Session", table: Writing, rows: Sequence[Row]) -> None:
        width = len(table.keys)
        fit = [row for row in rows if table.fits([str(part) for part in row[:width]])]
        if len(fit) < len(rows):
            self._refuse(len(rows) - len(fit), "an id is none that the column can hold")
        if fit:
            await self._insert(session, table, fit)

    async def _insert(self, session: "Session", table: Writing, rows: Sequence[Row]) -> None:
        """Store these rows, all at once; where one of them is refused, all but that."""
        try:
            async with session.transaction():
                arrays = [list(column) for column in zip(*rows, strict=True)]
                await session.execute(table.upsert, *arrays)
        except REFUSED as error:
            if len(rows) == 1:
                self._refuse(1, described(error))
                return
            middle = len(rows) // 2
            await self._insert(session, table, rows[:middle])
            await self._insert(session, table, rows[middle:])

    def _refuse(self, count: int, reason: str) -> None:
        if not self.refused:
            self._log.warning("some records cannot be stored and are left out: %s", reason)
        self.refused += count
