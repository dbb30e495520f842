"""The connections to the database: a pool to read and write, and single ones to listen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import asyncpg

from d_back_core import ConfigError
from d_back_postgres.address import address
from d_back_postgres.config import PostgresConfig

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Session: TypeAlias = Connection | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]

Isolation: TypeAlias = Literal["read_committed", "repeatable_read"]

CONNECT_TIMEOUT = 5.0
"""Seconds that one attempt to connect may take, unless the DSN has a ``connect_timeout``."""
CLOSE_TIMEOUT = 1.0
"""Seconds that what is under way gets to end."""
MARGIN = 1.0
"""Seconds after the statement time-out when a server that says nothing is given up."""


class Database:
    """One database, for one run of a provider. Connects when first asked.

    Every call raises what asyncpg raises (`failure.FAILURES`).
    """

    def __init__(self, config: PostgresConfig) -> None:
        self._config = config
        self._address = address(config.dsn.reveal())
        self._pool: Pool | None = None

    async def open(self) -> None:
        """Make the pool and one connection; raises `ConfigError` where the DSN says nothing."""
        options: dict[str, Any] = self._options()
        try:
            self._pool = await asyncpg.create_pool(
                min_size=0, max_size=self._config.pool_size, **options
            )
            async with self.session():
                pass
        except (ValueError, asyncpg.exceptions.ClientConfigurationError):
            # Its text quotes the DSN.
            raise ConfigError("dsn: cannot be understood as a PostgreSQL URL") from None

    async def close(self) -> None:
        """Close every connection; may be called twice."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    async def connect(self) -> "Connection":
        """A connection beside the pool, for as long as its user wants it."""
        return await asyncpg.connect(**self._options())

    @asynccontextmanager
    async def session(self) -> AsyncIterator["Session"]:
        """A connection of the pool for single statements; in a transaction where a pooler would
        otherwise give each to another server process."""
        if self._config.transaction_pooler:
            async with self.transaction() as connection:
                yield connection
            return
        async with self._acquired() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(
        self, isolation: Isolation = "read_committed", *, readonly: bool = False
    ) -> AsyncIterator["Session"]:
        """A connection of the pool, in a transaction."""
        async with (
            self._acquired() as connection,
            connection.transaction(isolation=isolation, readonly=readonly),
        ):
            if self._config.transaction_pooler:
                await connection.execute(f"SET LOCAL statement_timeout = {self._milliseconds}")
            yield connection

    def snapshot(self) -> "AbstractAsyncContextManager[Session]":
        """A connection of the pool whose statements all see the same moment."""
        return self.transaction("repeatable_read", readonly=True)

    async def fetch(
        self, statement: str, *arguments: object, session: "Session | None" = None
    ) -> list[asyncpg.Record]:
        """The rows of one statement, on that connection or on any."""
        if session is not None:
            return await session.fetch(statement, *arguments)
        async with self.session() as connection:
            return await connection.fetch(statement, *arguments)

    @property
    def _connect_timeout(self) -> float:
        return self._address.connect_timeout or CONNECT_TIMEOUT

    @property
    def _milliseconds(self) -> int:
        return max(1, round(self._config.statement_timeout * 1000))

    def _acquired(self) -> "AbstractAsyncContextManager[Session]":
        if self._pool is None:
            raise asyncpg.InterfaceError("the pool is closed")
        return self._pool.acquire(timeout=self._connect_timeout)

    def _options(self) -> dict[str, Any]:
        settings = {"application_name": self._address.application_name or "d-back"}
        if not self._config.transaction_pooler:  # poolers refuse what they do not know
            settings["statement_timeout"] = str(self._milliseconds)
        return {
            **self._address.options,
            "dsn": self._address.url,
            "timeout": self._connect_timeout,
            "command_timeout": self._config.statement_timeout + MARGIN,
            "server_settings": settings,
            **({"statement_cache_size": 0} if self._config.transaction_pooler else {}),
        }
