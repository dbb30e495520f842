"""The provider that d-back loads: its hooks."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import click

from d_back_core import Change, Context, Event, Server, User, hookimpl
from d_back_sqlite.changes import Changes
from d_back_sqlite.config import SqliteConfig
from d_back_sqlite.failure import StoreError
from d_back_sqlite.store import Store
from d_back_tables import Wanted


class SqliteProvider:
    """Servers and users from a file, live; and, as a recorder, into it.

    What goes wrong with the file is raised as `StoreError`.
    """

    Config = SqliteConfig
    records = "merged"

    def __init__(self, config: SqliteConfig) -> None:
        self._config = config
        self._store: Store | None = None
        self._changes: Changes | None = None
        self._wanted = Wanted()
        """What was recorded, over all runs: the core does not pass it again after a restart."""

    @hookimpl
    async def start(self, context: Context) -> None:
        """Open the file, or make it.

        Whatever is wrong with it may pass, so it is not a `ConfigError`.
        """
        self._store = store = Store(self._config, context)
        await store.open()
        changes = Changes(context, store, self._config, self._wanted)
        await changes.restore()
        self._changes = changes

    @hookimpl
    async def stop(self) -> None:
        """Close the file and end the stream; may be called twice."""
        changes, self._changes = self._changes, None
        store, self._store = self._store, None
        if changes is not None:
            changes.end()
        if store is not None:
            await store.close()

    @hookimpl
    async def servers(self) -> dict[str, Server] | None:
        """All servers; disabled ones say so, and are hidden even if another provider has them."""
        return None if self._changes is None else await self._changes.servers()

    @hookimpl
    async def users(self, server_id: str) -> dict[str, User] | None:
        """The users of that server. None if it has neither a row nor users."""
        return None if self._changes is None else await self._changes.users(server_id)

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        """What was recorded, and `Reload` after others have changed the file."""
        if self._changes is not None:
            async with aclosing(self._changes.events()) as events:
                async for event in events:
                    yield event

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        """Store the batch in one transaction."""
        if self._changes is None:
            raise StoreError("is stopped")
        await self._changes.record(changes)

    @classmethod
    @hookimpl
    def commands(cls, group: click.Group) -> None:
        """``d-back sqlite status``, ``import``, ``export`` and ``vacuum``."""
        from d_back_sqlite.commands import COMMANDS  # noqa: PLC0415  only when it is typed

        for command in COMMANDS:
            group.add_command(command)
