"""The provider keeps the contract, over a real database."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

import asyncpg
import pytest

from d_back_core import Secret
from d_back_postgres import PostgresConfig, PostgresProvider
from d_back_testing import ProviderContract

if TYPE_CHECKING:
    from conftest import Cluster


@pytest.mark.usefixtures("plaza")
class TestTables(ProviderContract):
    """Two tables with triggers."""

    transaction_pooler: ClassVar = False
    options: ClassVar = {"dsn": "postgresql://postgres@127.0.0.1/postgres"}
    # asyncpg looks for certificates in the home folder whenever it connects.
    may_block = ("os.path.abspath", "os.readlink", "os.stat")

    async def provider(self, dsn: str, cluster: "Cluster") -> AsyncIterator[PostgresProvider]:
        self.dsn, self.admin_dsn = dsn, cluster.dsn("postgres")
        pooler = self.transaction_pooler
        try:
            yield PostgresProvider(PostgresConfig(dsn=Secret(dsn), transaction_pooler=pooler))
        finally:
            await self.allow(connections=True)

    def unavailable(self, dsn: str) -> PostgresProvider:
        return PostgresProvider(PostgresConfig(dsn=Secret(dsn.replace("d_back_test", "no_such"))))

    async def trigger_event(self) -> None:
        await self.execute("UPDATE users SET status = 'dnd' WHERE user_id = '7'")

    async def lose_source(self) -> None:
        await self.allow(connections=False)

    async def restore_source(self) -> None:
        await self.allow(connections=True)
        await self.execute("UPDATE users SET username = username || '.' WHERE user_id = '8'")

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(statement)
        await connection.close()

    async def allow(self, *, connections: bool) -> None:
        """Let the database accept connections, or end all of them and accept none."""
        name = urlsplit(self.dsn).path.removeprefix("/")
        admin = await asyncpg.connect(self.admin_dsn)
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {connections}")
        if not connections:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
            )
        await admin.close()


@pytest.mark.long
class TestPolled(TestTables):
    """A transaction pooler, through which nothing is notified."""

    trigger_event = ProviderContract.trigger_event

    transaction_pooler: ClassVar = True
