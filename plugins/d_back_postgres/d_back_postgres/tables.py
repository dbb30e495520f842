"""The tables as they were found last, and everything that depends on how they were found.

They are searched again when the `fingerprint` differs: what was read, the statements and the
triggers may belong to tables that are gone.
"""

from collections.abc import Iterable

import asyncpg

from d_back_core import Context
from d_back_postgres import migrations
from d_back_postgres.config import PostgresConfig
from d_back_postgres.database import Database
from d_back_postgres.failure import FAILURES, DatabaseError, described
from d_back_postgres.fingerprint import fingerprint
from d_back_postgres.flags import FlagReader
from d_back_postgres.listener import Listener
from d_back_postgres.memory import Memory
from d_back_postgres.pending import Batch, Pending
from d_back_postgres.reading import Reading
from d_back_postgres.relations import COMMAND, Relations, found
from d_back_tables import Wanted


class Tables:
    """What is read, listened to and written to in one run. `find` comes first."""

    reading: Reading
    live: bool
    """Whether every change is notified."""

    def __init__(
        self,
        database: Database,
        config: PostgresConfig,
        context: Context,
        pending: Pending,
        wanted: Wanted,
    ) -> None:
        self.live = False
        self._database = database
        self._config = config
        self._context = context
        self._pending = pending
        self._foreign = Pending()
        """What others have changed in the tables of a recorder."""
        self._wanted = wanted
        self._flags = FlagReader(context.log)
        self._listener: Listener | None = None
        self._memory: Memory | None = None
        self._relations: Relations | None = None
        self._fingerprint = ""
        self._had_triggers = False
        self._reported = ""

    @property
    def connected(self) -> bool:
        """False while the connection that listens is lost."""
        return self._listener is None or self._listener.connected

    @property
    def lost_triggers(self) -> bool:
        """Whether the triggers were there in this run and are not there now."""
        return self._had_triggers and not self.live

    async def find(self) -> None:
        """Search the tables; make triggers again that were lost; store again what is wanted.

        Raises `DatabaseError` or what asyncpg raises. Then they are searched again next time.
        """
        self._fingerprint = ""
        mark, relations = await self._search()
        if self._had_triggers and not relations.live and await self.make_triggers():
            mark, relations = await self._search()
        self._relations = relations
        for pending in (self._pending, self._foreign):
            pending.watch(relations.users.identity, relations.servers.identity)
        self.reading = Reading(self._database, relations, self._flags)
        self.live = await self._listening(relations)
        await self._restore(relations)
        self._fingerprint = mark

    async def replaced(self) -> bool:
        """Whether a table, or a trigger, is another one than that which was found."""
        async with self._database.session() as session:
            return await fingerprint(session, self._config) != self._fingerprint

    def memory(self) -> Memory:
        """What a recorder writes to; raises `DatabaseError` if that is not possible."""
        if self._relations is None:
            raise DatabaseError("the tables are not found yet")
        if self._memory is None:
            self._memory = Memory(
                self._database,
                self._relations,
                self._context.log,
                keep_offline=self._config.keep_offline,
                wanted=self._wanted,
            )
        return self._memory

    async def make_triggers(self) -> bool:
        """Make lost triggers again; False, and a warning, if that is not possible."""
        try:
            await migrations.make_triggers(self._database, self._config)
        except FAILURES as error:
            reason = (
                "the role does not own the tables"
                if isinstance(error, asyncpg.InsufficientPrivilegeError)
                else described(error)
            )
            if reason != self._reported:
                self._reported = reason
                self._context.log.warning(
                    "the tables '%s' and '%s' have lost their triggers, which cannot be made"
                    " again: %s; changes are polled until `%s` is run as the owner",
                    self._config.servers_table,
                    self._config.users_table,
                    reason,
                    COMMAND,
                )
            return False
        self._reported = ""
        self._context.log.info("the triggers of the tables were lost and are made again")
        return True

    async def repair(self) -> None:
        """Store again what others have changed in the tables of a recorder.

        Not of a server whose users come from these tables at the moment: while the sources are
        away, what the tables say is what clients see, and it may be changed by hand.
        """
        batch = self._foreign.drain()
        if self._memory is None or batch == Batch():
            return
        name = self._context.name
        in_use = {each.server_id for each in self._context.stats().held if name in each.providers}
        users: dict[str, Iterable[str] | None] = {**batch.users, **dict.fromkeys(batch.whole)}
        try:
            if batch.everything and not in_use:
                await self._memory.restore()
            else:
                await self._memory.repair(
                    batch.servers - in_use,
                    {server_id: users[server_id] for server_id in users.keys() - in_use},
                )
        except FAILURES:
            self._foreign.resumed()  # what it was is not known any more: all of it, next time
            raise

    async def close(self) -> None:
        """Listen no more; may be called twice."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close()

    def _notified(self, payload: str, backend: int) -> None:
        self._pending.notified(payload)
        if self._memory is not None and backend not in self._memory.backends:
            self._foreign.notified(payload)

    async def _search(self) -> tuple[str, Relations]:
        async with self._database.session() as session:
            # The fingerprint first: of what changes meanwhile it is too old, so it is noticed.
            mark = await fingerprint(session, self._config)
            return mark, await found(session, self._config)

    async def _listening(self, relations: Relations) -> bool:
        """Listen if there is something to hear."""
        if self._context.probe:
            return False
        if self._config.transaction_pooler:
            self._report("a transaction pooler: changes are polled", warn=False)
            return False
        if not relations.live:
            if not self._had_triggers:
                self._report(
                    f"the tables have no triggers: changes are polled ({COMMAND})", warn=True
                )
            return False
        if self._listener is None:
            listener = Listener(
                self._context,
                self._database.connect,
                self._notified,
                self._pending.resumed,
            )
            await listener.open()
            self._listener = listener
        self._had_triggers = True
        return True

    async def _restore(self, relations: Relations) -> None:
        if self._memory is not None:
            self._memory.use(relations)
        elif self._wanted:
            self.memory()  # of a run before this one
        if self._memory is not None:
            await self._memory.restore()

    def _report(self, text: str, *, warn: bool) -> None:
        if text != self._reported:
            self._reported = text
            (self._context.log.warning if warn else self._context.log.info)(text)
