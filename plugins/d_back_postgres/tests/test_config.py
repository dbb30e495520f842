"""What can be wrong in ``[providers.postgres]`` is told before anything is connected."""

from __future__ import annotations

import pytest

from d_back_core import ConfigError, Secret
from d_back_core.config import parse
from d_back_core.providers.loader import load
from d_back_postgres import PostgresConfig

DSN = "postgresql://me:hunter2@localhost/world"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"providers\.postgres\.dsn: is missing"),
        ({"dsn": "mysql://me:hunter2@localhost"}, "dsn: expected postgresql://USER:PASSWORD@HOST"),
        ({"dsn": DSN, "user_table": "u"}, r"user_table: unknown key \(did you mean 'users_table'"),
        ({"dsn": DSN, "users_columns": {"nick": "n"}}, r"users_columns\.nick: unknown key"),
        ({"dsn": DSN, "users_columns": {"user_id": ""}}, "user_id cannot be left out"),
        (
            {"dsn": DSN, "users_columns": {"username": "x", "status": "x"}},
            "users_columns.status: 'x' is that of username already",
        ),
        ({"dsn": DSN, "users_table": "x" * 64}, "users_table: 'x+' can be no name"),
        ({"dsn": DSN, "schema": ""}, "schema: '' can be no name"),
        ({"dsn": DSN, "users_query": " ; "}, "users_query: is empty"),
        ({"dsn": DSN, "pool_size": 0}, "pool_size '0'"),
        ({"dsn": DSN, "statement_timeout": 0}, "statement_timeout: expected a duration greater"),
        ({"dsn": DSN, "keep_offline": True, "users_columns": {"status": ""}}, "keep_offline"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    """Each error names the key, and none of them the password."""
    table = {"chain": {"order": ["postgres"]}, "providers": {"postgres": options}}
    with pytest.raises(ConfigError, match=message) as raised:
        load(parse(table))
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:hun/ter2@localhost/x",
        "postgresql://me:x@localhost:hunter2/x",
    ],
)
async def test_a_dsn_that_cannot_be_understood(dsn: str, begin: object) -> None:
    """It is the operator's to mend, and is not quoted."""
    with pytest.raises(ConfigError) as raised:
        await begin(dsn)  # type: ignore[operator]
    assert "hunter2" not in str(raised.value)
    assert "ter2" not in str(raised.value)


def test_the_dsn_is_in_no_repr() -> None:
    """Whoever prints the configuration prints no secret."""
    assert "hunter2" not in repr(PostgresConfig(dsn=Secret(DSN)))
