"""Rows are servers and users, whatever the tables are called and whatever is in them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from msgspec import UNSET

from d_back_core import Secret, Server, ServerSet, User
from d_back_core.models import EffectiveUser
from d_back_postgres import PostgresConfig, ServersColumns, UsersColumns
from d_back_postgres.database import Database
from d_back_postgres.failure import DatabaseError
from d_back_postgres.migrations import migrate

if TYPE_CHECKING:
    from conftest import Begin, Connection, Join, Serve

ADA = User(username="Ada", status="online", role_color="#ff6b6b")
BO = User(username="Bo", status="idle", role_color="#4ecdc4")


@pytest.mark.usefixtures("plaza")
async def test_rows_are_what_a_client_sees(dsn: str, serve: Serve, join: Join) -> None:
    """A client that joins gets the server and the users of the tables."""
    world = await join(await serve(dsn))
    assert (world.name, world.public_id) == ("Plaza", "plaza")
    assert world.users == {
        "7": EffectiveUser("7", "Ada", "online", "#ff6b6b"),
        "8": EffectiveUser("8", "Bo", "idle", "#4ecdc4"),
    }


async def test_disabled_servers_do_not_exist(
    dsn: str, sql: Connection, serve: Serve, join: Join, begin: Begin
) -> None:
    """A disabled server is in no list, and its users are not said."""
    await sql.execute("INSERT INTO servers (server_id, enabled) VALUES ('1', true), ('2', false)")
    await sql.execute("INSERT INTO users VALUES ('2', '7', 'Ada')")
    world = await join(await serve(dsn))
    assert set(world.servers) == {"1"}
    provider = await begin(dsn)
    servers = await provider.servers()
    assert servers is not None
    assert servers["2"].enabled is False
    assert await provider.users("2") is None


async def test_unknown_is_none_and_empty_is_nobody(
    dsn: str, sql: Connection, begin: Begin
) -> None:
    """A server with neither row nor users is not ours; one with a row may be empty; one with
    users needs no row."""
    await sql.execute("INSERT INTO servers VALUES ('1', 'Empty')")
    await sql.execute("INSERT INTO users VALUES ('2', '7', 'Ada', 'online', '#ff6b6b')")
    provider = await begin(dsn)
    assert await provider.users("1") == {}
    assert await provider.users("2") == {"7": ADA}
    assert await provider.users("3") is None


async def test_nulls_say_nothing(dsn: str, sql: Connection, serve: Serve, join: Join) -> None:
    """Of NULLs the defaults show (R5)."""
    await sql.execute("INSERT INTO servers (server_id) VALUES ('1')")
    await sql.execute("INSERT INTO users (server_id, user_id) VALUES ('1', '7')")
    world = await join(await serve(dsn))
    assert world.name == "1"
    assert world.users == {"7": EffectiveUser("7", "7", "offline", "#ffffff")}


async def test_a_null_does_not_open_a_server(dsn: str, sql: Connection, begin: Begin) -> None:
    """NULL for passworded is no False: only that takes a protection back (R6)."""
    await sql.execute("INSERT INTO servers (server_id) VALUES ('1')")
    servers = await (await begin(dsn)).servers()
    assert servers is not None
    assert servers["1"].passworded is not None
    assert servers["1"].passworded is not False


async def test_odd_values_count_as_not_said(
    dsn: str, sql: Connection, serve: Serve, join: Join
) -> None:
    """Values that are not valid hide nothing, rows with unfit ids are left out (R5)."""
    await sql.execute("INSERT INTO servers VALUES ('1', '  ', NULL, NULL, NULL, 'no id!')")
    await sql.execute("INSERT INTO users VALUES ('1', '7', '', 'sleeping', 'red')")
    for uid in ("two words", "x" * 65, "__proto__", ""):
        await sql.execute("INSERT INTO users VALUES ('1', $1, 'Bo', 'idle', '#ffffff')", uid)
    world = await join(await serve(dsn))
    assert world.name == "1"
    assert world.users == {"7": EffectiveUser("7", "7", "offline", "#ffffff")}


@pytest.mark.parametrize(
    ("kind", "true", "false", "unreadable"),
    [
        ("boolean", "true", "false", None),
        ("smallint", "1", "0", "7"),
        ("numeric(3,2)", "1", "0", "0.5"),
        ("char(1)", "'Y'", "'n'", "'?'"),
        ("text", "'on'", "'FALSE'", "''"),
        ("bit(1)", "B'1'", "B'0'", None),
    ],
)
async def test_flags_of_other_types(
    dsn: str,
    sql: Connection,
    begin: Begin,
    *,
    kind: str,
    true: str,
    false: str,
    unreadable: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Numbers and words are read as flags; an unreadable `passworded` lets no client in, and is
    reported once with its column (R5). A recorder writes them back in the same type."""
    for column in ("passworded", "is_default", "enabled"):
        await sql.execute(f"ALTER TABLE servers ALTER {column} TYPE {kind} USING NULL")
    for number, value in enumerate((true, false, unreadable or "NULL")):
        await sql.execute(
            "INSERT INTO servers (server_id, passworded, is_default, enabled)"  # noqa: S608
            f" VALUES ('{number}', {value}, {value}, {value})"
        )
    provider = await begin(dsn)
    for _ in range(2):
        servers = await provider.servers()
    assert servers is not None
    flags = [(each.passworded, each.default, each.enabled) for each in servers.values()]
    odd = (UNSET, None, None) if unreadable is None else (True, None, False)
    assert flags == [(True, True, True), (False, False, False), odd]
    assert (await provider.users("0"), await provider.users("1")) == ({}, None)
    assert len(caplog.records) == (0 if unreadable is None else 3)
    assert all("is not a flag" in record.getMessage() for record in caplog.records)
    recorded = Server(name="Plaza", default=True, passworded=False, enabled=True)
    await provider.record([ServerSet(server_id="1", server=recorded)])
    servers = await provider.servers()
    assert servers is not None
    assert (servers["1"].passworded, servers["1"].enabled) == (False, True)


FOREIGN = """
CREATE SCHEMA "my app";
CREATE TYPE "my app".mood AS ENUM ('online', 'idle', 'dnd', 'offline');
CREATE TABLE "my app"."Guilds" (id bigint PRIMARY KEY, "the title" varchar(20), "PUBLIC" text,
    locked boolean, main boolean, active boolean);
CREATE TABLE "my app".members (guild bigint, "no." bigint, nick varchar(20), mood "my app".mood,
    PRIMARY KEY (guild, "no."));
INSERT INTO "my app"."Guilds" VALUES (232769614004748288, 'Plaza', 'plaza', false, true, true);
INSERT INTO "my app".members VALUES (232769614004748288, 9007199254740993, 'Ada', 'online');
"""
FOREIGN_OPTIONS: dict[str, Any] = {
    "schema": "my app",
    "users_table": "members",
    "servers_table": "Guilds",
    "users_columns": {
        "server_id": "guild",
        "user_id": "no.",
        "username": "nick",
        "status": "mood",
        "role_color": "",
    },
    "servers_columns": {
        "server_id": "id",
        "name": "the title",
        "public_id": "PUBLIC",
        "passworded": "locked",
        "is_default": "main",
        "enabled": "active",
    },
}


async def test_other_names_and_types(empty_dsn: str, serve: Serve, join: Join) -> None:
    """Tables with names, schema and types of their own are read; bigint ids keep every digit."""
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute(FOREIGN)
    await connection.close()
    world = await join(await serve(empty_dsn, **FOREIGN_OPTIONS))
    assert set(world.servers) == {"232769614004748288"}
    assert (world.name, world.public_id) == ("Plaza", "plaza")
    user = EffectiveUser("9007199254740993", "Ada", "online", "#ffffff")
    assert world.users == {"9007199254740993": user}


@pytest.mark.parametrize(
    "other",
    ["0232769614004748288", "+232769614004748288", "232769614004748288.0", "dworld", "9" * 30],
)
async def test_bigint_ids_are_compared_as_text(empty_dsn: str, begin: Begin, other: str) -> None:
    """Only the id as it is written out finds its rows; no other one is an error."""
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute(FOREIGN)
    await connection.close()
    options = FOREIGN_OPTIONS | {
        "users_columns": UsersColumns(**FOREIGN_OPTIONS["users_columns"]),
        "servers_columns": ServersColumns(**FOREIGN_OPTIONS["servers_columns"]),
    }
    provider = await begin(empty_dsn, **options)
    assert await provider.users("232769614004748288")
    assert await provider.users(other) is None


async def test_bigint_lookups_use_the_index(dsn: str, sql: Connection, begin: Begin) -> None:
    """A server's users are found by the index of a bigint column, not by reading all rows."""
    await sql.execute("ALTER TABLE users ALTER server_id TYPE bigint USING server_id::bigint")
    provider = await begin(dsn)
    run = provider._run  # noqa: SLF001  the statement itself is what matters
    assert run is not None
    await sql.execute("SET enable_seqscan = off; SET plan_cache_mode = force_custom_plan")
    statement = run.tables.reading._one_server  # noqa: SLF001
    plan = await sql.fetch(f"EXPLAIN {statement}", "1", "1")
    assert "Index Cond: (server_id = '1'::bigint)" in "\n".join(row[0] for row in plan)


async def test_whole_queries(dsn: str, sql: Connection, serve: Serve, join: Join) -> None:
    """Queries may replace tables; a semicolon or a comment at the end is harmless."""
    await sql.execute("CREATE TABLE people (id int, nick text, away bool)")
    await sql.execute("INSERT INTO people VALUES (7, 'Ada', false), (8, 'Bo', true)")
    world = await join(
        await serve(
            dsn,
            servers_query="SELECT '1' AS server_id, 'Club' AS name, false AS passworded,"
            " true AS is_default, true AS enabled;",
            users_query="SELECT 1 AS server_id, id AS user_id, nick AS username,"
            " CASE WHEN away THEN 'idle' ELSE 'online' END AS status FROM people -- all",
            users_columns={"role_color": ""},
        )
    )
    assert world.name == "Club"
    assert {user.username: user.status for user in world.users.values()} == {
        "Ada": "online",
        "Bo": "idle",
    }


async def test_a_missing_column_is_named(dsn: str, sql: Connection, begin: Begin) -> None:
    """The error names the missing column and the nearest existing one."""
    await sql.execute("ALTER TABLE users RENAME role_color TO role_colour")
    with pytest.raises(DatabaseError) as raised:
        await begin(dsn)
    assert str(raised.value) == (
        """'"users"' has no column 'role_color' (did you mean 'role_colour'? there are:"""
        " extra, last_seen, role_colour, server_id, status, user_id, username); see users_columns"
    )


async def test_a_missing_column_of_a_query_is_named(dsn: str, begin: Begin) -> None:
    """A query must give every column that is not left out on purpose."""
    with pytest.raises(DatabaseError, match=r"users_query has no column 'user_id' \(did you mean"):
        await begin(dsn, users_query="SELECT 1 AS server_id, 2 AS user")


async def test_a_missing_table_is_named(dsn: str, begin: Begin) -> None:
    """The error names the missing table, the nearest existing one, and what makes it."""
    with pytest.raises(
        DatabaseError,
        match=r"no table 'user' \(did you mean 'users'\?.*`d-back postgres init` makes it",
    ):
        await begin(dsn, users_table="user")


async def test_public_id_is_optional(dsn: str, sql: Connection, begin: Begin) -> None:
    """Tables as the guide has them, without public_id, are read as they are."""
    await sql.execute("ALTER TABLE servers DROP public_id, DROP last_seen")
    await sql.execute("INSERT INTO servers VALUES ('1', 'Plaza')")
    servers = await (await begin(dsn)).servers()
    assert servers == {"1": Server(name="Plaza", id=None, default=None, enabled=None)}


EVIL = [
    "1' OR '1'='1",
    "1'; DROP TABLE users; --",
    '1"; DROP TABLE users; --',
    "$1",
    "1\\'; DROP TABLE users; --",
    "%s",
]


@pytest.mark.usefixtures("plaza")
@pytest.mark.parametrize("evil", EVIL)
async def test_injection_by_an_id(dsn: str, sql: Connection, begin: Begin, evil: str) -> None:
    """An id is never SQL."""
    provider = await begin(dsn)
    assert await provider.users(evil) is None
    assert await provider.users("1") == {"7": ADA, "8": BO}
    assert await sql.fetchval("SELECT count(*) FROM users") == 2


@pytest.mark.parametrize(
    "evil",
    [
        'users"; DROP TABLE users; --',
        'a"b',
        "users; DROP TABLE users",
        "x' || (SELECT 1) || '",
        "back\\slash'",
        "$function$; DROP TABLE users; --",
        "{users.status}",
        "percent%I",
    ],
)
async def test_injection_by_a_name(
    dsn: str, sql: Connection, begin: Begin, evil: str, empty_dsn: str
) -> None:
    """A name of the configuration is never SQL: it is a name, however odd, from init to use."""
    with pytest.raises(DatabaseError, match="there is no table"):
        await begin(dsn, users_table=evil)
    with pytest.raises(DatabaseError, match="has no column"):
        await begin(dsn, users_columns=UsersColumns(username=evil))
    assert await sql.fetchval("SELECT count(*) FROM users") == 0

    options: dict[str, Any] = {
        "schema": evil,
        "users_table": evil,
        "users_columns": UsersColumns(username=evil, user_id=f"{evil}2"),
    }
    config = PostgresConfig(dsn=Secret(empty_dsn), **options)
    database = Database(config)
    await database.open()
    await migrate(database, config)
    table = ".".join(['"' + evil.replace('"', '""') + '"'] * 2)
    provider = await begin(empty_dsn, **options)
    assert await provider.users("1") is None
    events = provider.events()
    assert await provider.servers() == {}
    await database.fetch(f"INSERT INTO {table} VALUES ('1', '7', 'Ada')")  # noqa: S608  quoted
    async with asyncio.timeout(20):
        await anext(events)
    assert await provider.users("1") == {"7": User(username="Ada", status=None, role_color=None)}
    await database.close()
