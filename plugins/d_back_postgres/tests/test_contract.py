"""The provider keeps the contract, over a real database."""

import pytest

from d_back_core import Secret
from d_back_core.testing import ProviderContract
from d_back_postgres import PostgresConfig, PostgresProvider


@pytest.mark.usefixtures("plaza")
class TestTables(ProviderContract):
    """Two tables with triggers."""

    def provider(self, dsn: str) -> PostgresProvider:
        return PostgresProvider(PostgresConfig(dsn=Secret(dsn)))
