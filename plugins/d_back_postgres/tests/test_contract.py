"""The provider keeps the contract, over a real database."""

from typing import ClassVar

import asyncpg
import pytest

from d_back_core import Secret
from d_back_postgres import PostgresConfig, PostgresProvider
from d_back_testing import ProviderContract


@pytest.mark.usefixtures("plaza")
class TestTables(ProviderContract):
    """Two tables with triggers."""

    options: ClassVar = {"dsn": "postgresql://postgres@127.0.0.1/postgres"}
    # asyncpg looks for certificates in the home folder whenever it connects.
    may_block = ("os.path.abspath", "os.readlink", "os.stat")

    def provider(self, dsn: str) -> PostgresProvider:
        self.dsn = dsn
        return PostgresProvider(PostgresConfig(dsn=Secret(dsn)))

    def unavailable(self, dsn: str) -> PostgresProvider:
        return PostgresProvider(PostgresConfig(dsn=Secret(dsn.replace("d_back_test", "no_such"))))

    async def trigger_event(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        await connection.execute("UPDATE users SET status = 'dnd' WHERE user_id = '7'")
        await connection.close()


class TestPolled(TestTables):
    """A transaction pooler, through which nothing is notified."""

    trigger_event = ProviderContract.trigger_event

    def provider(self, dsn: str) -> PostgresProvider:
        self.dsn = dsn
        return PostgresProvider(PostgresConfig(dsn=Secret(dsn), transaction_pooler=True))
