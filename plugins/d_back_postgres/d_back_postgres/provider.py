"""The provider that d-back loads: its hooks."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import click
from msgspec import Struct

from d_back_core import Change, Context, Event, Server, User, hookimpl
from d_back_postgres.changes import Changes
from d_back_postgres.config import PostgresConfig
from d_back_postgres.database import Database
from d_back_postgres.failure import DatabaseError, told
from d_back_postgres.flags import FlagReader
from d_back_postgres.listener import Listener
from d_back_postgres.memory import Memory
from d_back_postgres.pending import Pending
from d_back_postgres.reading import Reading
from d_back_postgres.relations import COMMAND, Relations, found


class _Run(Struct, frozen=True, kw_only=True):
    """What there is from a `start` to its `stop`."""

    relations: Relations
    reading: Reading
    changes: Changes
    live: bool
    """Whether changes are notified."""


class PostgresProvider:
    """Servers and users from two tables, live; and, as a recorder, to them.

    Errors are told as `DatabaseError`, in words that name neither user, password nor host.
    """

    Config = PostgresConfig
    records = "merged"

    def __init__(self, config: PostgresConfig) -> None:
        self._config = config
        self._context: Context | None = None
        self._database: Database | None = None
        self._listener: Listener | None = None
        self._pending: Pending | None = None
        self._memory: Memory | None = None
        self._run: _Run | None = None

    @hookimpl
    async def start(self, context: Context) -> None:
        """Connect, find the tables, and listen for changes of them.

        Whatever is missing in the database can come later, so it is no `ConfigError`.
        """
        self._context = context
        self._database = database = Database(self._config)
        with told():
            await database.open()
            async with database.session() as session:
                relations = await found(session, self._config)
            pending = Pending(relations.users.identity, relations.servers.identity)
            live = self._is_live(context, relations)
            if live:
                self._listener = Listener(
                    context, database.connect, pending.notified, pending.resumed
                )
                await self._listener.open()
        reading = Reading(database, relations, FlagReader(context.log))
        self._pending = pending
        self._run = _Run(
            relations=relations,
            reading=reading,
            changes=Changes(context, reading, pending),
            live=live,
        )

    @hookimpl
    async def stop(self) -> None:
        """Close every connection and end the stream; may be called twice."""
        listener, self._listener = self._listener, None
        database, self._database = self._database, None
        pending, self._pending = self._pending, None
        self._run = self._memory = self._context = None
        if pending is not None:
            pending.end()
        if listener is not None:
            await listener.close()
        if database is not None:
            await database.close()

    @hookimpl
    async def servers(self) -> dict[str, Server] | None:
        """All servers; disabled ones say so, so that they are gone whoever else has them."""
        if self._run is None:
            return None
        with told():
            return await self._run.changes.servers()

    @hookimpl
    async def users(self, server_id: str) -> dict[str, User] | None:
        """The users of that server. None where it is disabled, or has neither row nor users."""
        if self._run is None:
            return None
        with told():
            return await self._run.changes.users(server_id)

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        """Changes of rows, as long as they are notified; otherwise it ends, and d-back polls."""
        run = self._run
        if run is not None and run.live:
            async with aclosing(run.changes.events()) as events:
                async for event in events:
                    yield event

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        """Store the batch in one transaction."""
        run, database, context = self._run, self._database, self._context
        if run is None or database is None or context is None:
            raise DatabaseError("is stopped")
        if self._memory is None:
            self._memory = Memory(
                database, run.relations, context.log, keep_offline=self._config.keep_offline
            )
        with told():
            await self._memory.store(changes)

    @classmethod
    @hookimpl
    def commands(cls, group: click.Group) -> None:
        """``d-back postgres init``, ``status`` and ``import``."""
        from d_back_postgres.commands import COMMANDS  # noqa: PLC0415  imports rich

        for command in COMMANDS:
            group.add_command(command)

    def _is_live(self, context: Context, relations: Relations) -> bool:
        if context.probe:
            return False
        if self._config.transaction_pooler:
            context.log.info("a transaction pooler: changes are polled")
            return False
        if not relations.live:
            context.log.warning("the tables have no triggers: changes are polled (%s)", COMMAND)
        return relations.live
