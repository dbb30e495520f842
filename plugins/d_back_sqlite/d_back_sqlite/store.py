"""The file, as the event loop uses it: each call is one piece of work in the worker's thread."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from d_back_core import Change, Context, Event, Server, User
from d_back_sqlite import recording, rows
from d_back_sqlite.config import SqliteConfig
from d_back_sqlite.database import Database
from d_back_sqlite.failure import told
from d_back_sqlite.owner import Owner
from d_back_sqlite.worker import Worker

CLOSE_TIMEOUT = 1.0
"""Seconds that the file gets to close; on a network drive that is gone it never does."""

T = TypeVar("T")


class Store:
    """One file, for one run of a provider. Every call raises `StoreError` if it fails."""

    def __init__(self, config: SqliteConfig, context: Context) -> None:
        self.path = config.file
        self._config = config
        self._probe = context.probe
        self._database = Database(self.path, context.log)
        self._owner = Owner(self.path)
        self._worker = Worker(f"d-back-sqlite {context.name}")

    async def open(self) -> None:
        """Open the file for this gateway alone; for a probe, open it as it is."""
        await self._run(self._open)

    async def close(self) -> None:
        """Close the file; may be called twice."""
        self._database.interrupt()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._worker.end(self._close)

    async def servers(self) -> dict[str, Server]:
        """Return all servers."""
        return await self._run(lambda: rows.servers(self._database.connection))

    async def users(self, server_id: str) -> dict[str, User] | None:
        """Return the users of that server; None if it has neither a row nor users."""
        return await self._run(lambda: rows.users(self._database.connection, server_id))

    async def record(self, changes: Sequence[Change]) -> list[Event]:
        """Store all of these changes, in order, or none. Return what has changed in the tables."""

        def work() -> list[Event]:
            keep_offline = self._config.keep_offline
            with self._database.transaction() as connection:
                return recording.record(connection, changes, keep_offline=keep_offline)

        return await self._run(work)

    async def check(self) -> bool:
        """Return True if others have changed the tables. Raises `ReopenError` if the file is not
        the one that was opened any more."""

        def work() -> bool:
            if not self._probe:
                self._owner.check()
            return self._database.check()

        return await self._run(work)

    async def old(self, seconds: float) -> recording.Old:
        """Return the keys of all rows that were seen last before this time."""
        return await self._run(lambda: recording.old(self._database.connection, seconds))

    async def forget(self, old: recording.Old, seconds: float) -> None:
        """Delete these rows, except those that were seen meanwhile."""

        def work() -> None:
            with self._database.transaction() as connection:
                recording.forget(connection, old, seconds)

        await self._run(work)

    async def _run(self, work: Callable[[], T]) -> T:
        with told(self.path):
            return await self._worker.run(work)

    def _open(self) -> None:
        if self._config.path is not None:  # its folder may be a disk that is not mounted
            self._database.check_folder()
        if self._probe:
            self._database.open_read_only()
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._owner.acquire()
        self._database.open(replace_corrupt=True)

    def _close(self) -> None:
        self._database.close()
        self._owner.release()
