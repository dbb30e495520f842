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
from d_back_postgres.pending import Pending
from d_back_postgres.tables import Tables
from d_back_tables import Wanted


class _Run(Struct, frozen=True, kw_only=True):
    """What there is from a `start` to its `stop`."""

    tables: Tables
    changes: Changes


class PostgresProvider:
    """Servers and users from two tables, live; and, as a recorder, to them.

    Errors are raised as `DatabaseError`, in words that name neither user, password nor host.
    """

    Config = PostgresConfig
    records = "merged"

    def __init__(self, config: PostgresConfig) -> None:
        self._config = config
        self._database: Database | None = None
        self._pending: Pending | None = None
        self._tables: Tables | None = None
        self._run: _Run | None = None
        self._wanted = Wanted()
        """What was recorded, over all runs: the core does not tell it again after a restart."""

    @hookimpl
    async def start(self, context: Context) -> None:
        """Connect, find the tables, and listen for changes of them.

        Whatever is missing in the database can come later, so it is no `ConfigError`.
        """
        self._database = database = Database(self._config)
        self._pending = pending = Pending()
        self._tables = tables = Tables(database, self._config, context, pending, self._wanted)
        with told():
            await database.open()
            await tables.find()
        self._run = _Run(tables=tables, changes=Changes(context, tables, pending))

    @hookimpl
    async def stop(self) -> None:
        """Close every connection and end the stream; may be called twice."""
        tables, self._tables = self._tables, None
        database, self._database = self._database, None
        pending, self._pending = self._pending, None
        self._run = None
        if pending is not None:
            pending.end()
        if tables is not None:
            await tables.close()
        if database is not None:
            await database.close()

    @hookimpl
    async def servers(self) -> dict[str, Server] | None:
        """All servers; disabled ones say so, and are hidden even if another provider has them."""
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
        """Changes of rows, and `Reload` where they are not notified."""
        run = self._run
        if run is not None:
            async with aclosing(run.changes.events()) as events:
                async for event in events:
                    yield event

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        """Store the batch in one transaction."""
        run = self._run
        if run is None:
            raise DatabaseError("is stopped")
        with told():
            await run.tables.memory().store(changes)
        run.changes.stored()

    @classmethod
    @hookimpl
    def commands(cls, group: click.Group) -> None:
        """``d-back postgres init``, ``status`` and ``import``."""
        from d_back_postgres.commands import COMMANDS  # noqa: PLC0415  imports rich

        for command in COMMANDS:
            group.add_command(command)
