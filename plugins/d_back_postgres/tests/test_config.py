"""What can be wrong in ``[providers.postgres]`` is reported before anything is connected."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from d_back_core import ConfigError, Secret
from d_back_core.config import parse
from d_back_core.providers.loader import load
from d_back_postgres import PostgresConfig
from d_back_postgres.address import address

if TYPE_CHECKING:
    from conftest import Begin, Connection

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
    ("dsn", "message"),
    [
        ("me:hun/ter2@localhost/x", "'/' in the user or the password must be written as %2F"),
        ("me:hun@ter2@localhost/x", "'@' in the user or the password must be written as %40"),
        ("me:hun#ter2@localhost/x", "'#' in the user or the password must be written as %23"),
        ("me:hun?ter2@localhost/x", "'?' in the user or the password must be written as %3F"),
        ("me:hun[ter2@localhost/x", r"'\[' in the user or the password must be written as %5B"),
        ("me:x@localhost:ter2/x", "expected HOST:PORT, the port a number"),
        ("localhost/x#ter2", "a '#' must be written as %23"),
        ("localhost/x?sslmodee=ter2", r"'sslmodee' is not supported \(did you mean 'sslmode'"),
        ("localhost/x?nothing=ter2", r"'nothing' is not supported \(there are: application_name"),
        ("localhost/x?pgbouncer=true", "'pgbouncer' is not supported .set transaction_pooler"),
        ("localhost/x?schema=ter2", "'schema' is not supported .set schema"),
        ("localhost/x?channel_binding=require", "use sslmode=verify-full"),
        ("localhost/x?gssencmode=require", "gssencmode is not supported .disable, prefer"),
        ("localhost/x?connect_timeout=ter2", "connect_timeout: expected a number of seconds"),
        ("localhost/x?sslrootcert=system&sslmode=require", "needs sslmode=verify-full"),
        ("localhost/x?ter2", "expected NAME=VALUE"),
    ],
)
def test_a_dsn_is_checked_when_it_is_loaded(dsn: str, message: str) -> None:
    """The error says how to write it and quotes neither the password nor a value."""
    table = {
        "chain": {"order": ["postgres"]},
        "providers": {"postgres": {"dsn": f"postgresql://{dsn}"}},
    }
    with pytest.raises(ConfigError, match=message) as raised:
        load(parse(table))
    assert "hun" not in str(raised.value)
    assert "ter2" not in str(raised.value)


@pytest.mark.usefixtures("plaza")
@pytest.mark.parametrize(
    "parameters",
    [
        "connect_timeout=10",
        "keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3",
        "sslmode=disable&channel_binding=prefer&gssencmode=disable",
        "target_session_attrs=any&load_balance_hosts=disable&tcp_user_timeout=1000",
        "sslnegotiation=postgres&sslsni=1&client_encoding=utf8",
        "search_path=public&options=-c%20jit%3Doff",
    ],
)
async def test_parameters_of_libpq(dsn: str, begin: Begin, parameters: str) -> None:
    """They are applied, or left out where d-back does without, and the provider works."""
    provider = await begin(f"{dsn}?{parameters}")
    assert await provider.servers()


@pytest.mark.usefixtures("plaza")
async def test_a_name_for_the_connection(dsn: str, sql: Connection, begin: Begin) -> None:
    """The operator's application_name is that of the connections."""
    await begin(f"{dsn}?application_name=club")
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'club'"
    assert await sql.fetchval(query) > 0


def test_certificates_of_the_system() -> None:
    """With sslrootcert=system, the host's name and its certificate are verified."""
    context = address("postgresql://localhost/x?sslrootcert=system").options["ssl"]
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_the_dsn_is_in_no_repr() -> None:
    """A printed configuration shows no secret."""
    assert "hunter2" not in repr(PostgresConfig(dsn=Secret(DSN)))
