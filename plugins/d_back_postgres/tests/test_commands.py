"""``d-back postgres init``, ``status`` and ``import``, as an operator types them."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg
import pytest
from click.testing import CliRunner

from d_back_core.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Begin, Connection

GUIDE = """
CREATE TABLE servers (server_id text PRIMARY KEY, name text NOT NULL, passworded boolean,
    is_default boolean, enabled boolean);
CREATE TABLE users (server_id text, user_id text, username text, status text, role_color text,
    PRIMARY KEY (server_id, user_id));
INSERT INTO servers VALUES ('1', 'Plaza', false, true, true);
INSERT INTO users VALUES ('1', '7', 'Ada', 'online', '#ff6b6b');
"""


class Typed(Protocol):
    """Types ``d-back postgres …``; the exit status, and all that is printed."""

    async def __call__(self, *words: str, dsn: str, **options: Any) -> tuple[int, str]: ...  # noqa: ANN401


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    async def run(*words: str, dsn: str, **options: Any) -> tuple[int, str]:  # noqa: ANN401
        path = tmp_path / "d-back.toml"
        lines = [f"{key} = {toml(value)}" for key, value in options.items()]
        path.write_text("\n".join(["[providers.postgres]", f"dsn = {json.dumps(dsn)}", *lines]))
        arguments = ["--config", str(path), "postgres", *words]
        # A command runs an event loop of its own.
        outcome = await asyncio.to_thread(CliRunner().invoke, main, arguments)
        return outcome.exit_code, outcome.output

    return run


def toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml(each)}' for key, each in value.items())} }}"
    return json.dumps(value)


async def columns(dsn: str, table: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = $1", table
    )
    await connection.close()
    return {row[0] for row in rows}


async def test_init_makes_what_start_needs(empty_dsn: str, typed: Typed, begin: Begin) -> None:
    """After it the provider starts; a second time it changes nothing."""
    for _ in range(2):
        code, output = await typed("init", dsn=empty_dsn)
        assert (code, output) == (
            0,
            "0001 tables: done\n0002 memory: done\n0003 notify: done\n0004 extra: done\n",
        )
    assert await (await begin(empty_dsn)).servers() == {}


async def test_init_upgrades_the_tables_of_the_guide(
    empty_dsn: str, typed: Typed, begin: Begin
) -> None:
    """Tables that are there keep their rows and get what is missing."""
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute(GUIDE)
    await connection.close()
    assert (await typed("init", dsn=empty_dsn))[0] == 0
    assert {"public_id", "last_seen"} <= await columns(empty_dsn, "servers")
    assert "extra" in await columns(empty_dsn, "users")
    users = await (await begin(empty_dsn)).users("1")
    assert users is not None
    assert set(users) == {"7"}


async def test_printed_sql_does_the_same(empty_dsn: str, typed: Typed) -> None:
    """What --sql prints can be run by any client, twice, and status is content then."""
    code, output = await typed("init", "--sql", dsn=empty_dsn)
    assert code == 0
    assert await columns(empty_dsn, "users") == set()
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute(output)
    await connection.execute(output)
    await connection.close()
    assert (await typed("status", dsn=empty_dsn))[0] == 0


async def test_init_in_a_schema(empty_dsn: str, typed: Typed) -> None:
    """A schema that is missing is made; who may not make schemas may still use one."""
    options = {"schema": "gate", "users_columns": {"role_color": "", "last_seen": "", "extra": ""}}
    assert (await typed("init", dsn=empty_dsn, **options))[0] == 0
    assert await columns(empty_dsn, "users") == {"server_id", "user_id", "username", "status"}
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute("DROP ROLE IF EXISTS owner_of_gate")
    await connection.execute(
        "CREATE ROLE owner_of_gate LOGIN PASSWORD 'x'; ALTER SCHEMA gate OWNER TO owner_of_gate;"
        "DROP TABLE gate.users, gate.servers, gate.d_back_migrations;"
        "DROP FUNCTION gate.d_back_notify"
    )
    owned = re.sub("//[^@]*@", "//owner_of_gate:x@", empty_dsn)
    code, output = await typed("init", dsn=owned, **options)
    assert code == 0, output
    await connection.execute("DROP OWNED BY owner_of_gate CASCADE; DROP ROLE owner_of_gate")
    await connection.close()


async def test_init_without_a_table(empty_dsn: str, typed: Typed) -> None:
    """What the configuration reads by a query is not made."""
    options = {"users_query": "SELECT 1", "servers_columns": {"public_id": ""}}
    code, output = await typed("init", dsn=empty_dsn, **options)
    assert code == 0, output
    assert await columns(empty_dsn, "users") == set()
    assert "public_id" not in await columns(empty_dsn, "servers")


async def test_status(dsn: str, typed: Typed, sql: Connection) -> None:
    """It says what there is."""
    await sql.execute("INSERT INTO users (server_id, user_id) VALUES ('1', '7'), ('1', '8')")
    code, output = await typed("status", dsn=dsn)
    assert code == 0
    assert re.sub(r"PostgreSQL \d\S*.*", "PostgreSQL N", output) == (
        "database          PostgreSQL N\n"
        "tables            version 4 of 4\n"
        "servers           public.servers, 0 rows\n"
        "servers triggers  present\n"
        "users             public.users, 2 rows\n"
        "users triggers    present\n"
        "LISTEN            possible\n"
    )


async def test_status_without_tables(empty_dsn: str, typed: Typed) -> None:
    """What is missing is named, and the exit status tells."""
    code, output = await typed("status", dsn=empty_dsn)
    assert code == 1
    assert "not made here (see `d-back postgres init`)" in output
    assert "there is no table 'users'" in output


async def test_status_without_triggers(dsn: str, typed: Typed, sql: Connection) -> None:
    """Triggers that are missing or disabled are noticed."""
    await sql.execute("ALTER TABLE users DISABLE TRIGGER d_back_update")
    code, output = await typed("status", dsn=dsn)
    assert code == 1
    assert "users triggers    missing: polled (see `d-back postgres init`)" in output
    assert "servers triggers  present" in output


async def test_a_database_that_is_not_there(typed: Typed) -> None:
    """One line, no traceback, nothing of the DSN."""
    code, output = await typed("status", dsn="postgresql://me:hunter2@127.0.0.1:1/secrets")
    assert (code, output) == (1, "Error: cannot be reached: Connection refused\n")


async def test_import_json(
    dsn: str, typed: Typed, sql: Connection, tmp_path: Path, begin: Begin
) -> None:
    """Servers and users of a .json file are stored; again, they are replaced."""
    path = tmp_path / "world.json"
    world = {
        "servers": [{"server_id": 1, "name": "Plaza", "public_id": "plaza", "is_default": True}],
        "users": [{"server_id": "1", "user_id": 9007199254740993, "username": "Ada"}],
    }
    path.write_text(json.dumps(world))
    for _ in range(2):
        code, output = await typed("import", str(path), dsn=dsn)
        assert code == 0
        assert "1 servers, 1 users\n" in output
        assert "100%" in output
    users = await (await begin(dsn)).users("1")
    assert users is not None
    assert users["9007199254740993"].username == "Ada"
    assert await sql.fetchval("SELECT public_id FROM servers") == "plaza"


async def test_import_csv(dsn: str, typed: Typed, sql: Connection, tmp_path: Path) -> None:
    """A .csv file holds users or servers; an empty field says nothing."""
    path = tmp_path / "users.csv"
    lines = ["server_id,user_id,username,status,role_color"]
    lines += [f'1,{number},"A, ""da""",online,' for number in range(2500)]
    path.write_text("\n".join(lines))
    assert (await typed("import", str(path), dsn=dsn))[0] == 0
    path = tmp_path / "servers.csv"
    path.write_text("\ufeffserver_id,name,passworded\n1,Plaza,false\n2,Vault,true\n")
    assert (await typed("import", str(path), dsn=dsn))[0] == 0
    assert await sql.fetchval("SELECT count(*) FROM users WHERE username = 'A, \"da\"'") == 2500
    assert await sql.fetchval("SELECT name FROM servers WHERE passworded") == "Vault"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "server_id,user_id,nick\n1,7,Ada", "line 2: unknown column 'nick' \\(did you"),
        (
            "a.csv",
            "server_id,user_id,status\n1,7,online\n1,8,away",
            "line 3: Invalid enum value 'away'",
        ),
        ("a.csv", "server_id,user_id\n1,two words", "line 2: Expected `str` matching"),
        ("a.csv", "server_id,user_id\n1,7,8", "line 2: has more than 2 fields"),
        ("a.csv", "server_id,user_id\n,7", "line 2: Object missing required field `server_id`"),
        ("a.json", '{"user": []}', "there is no 'user' \\(did you mean 'users'"),
        ("a.json", '{"users": [{"server_id": "1"}]}', r"users\[0\]: Object missing required"),
        ("a.json", "{", "a.json: Input data was truncated"),
        ("a.txt", "", "'.txt' is no kind of file to import"),
    ],
)
async def test_import_of_a_wrong_file(
    dsn: str, typed: Typed, sql: Connection, tmp_path: Path, *, name: str, text: str, message: str
) -> None:
    """The error names the place, and nothing of the file is stored."""
    path = tmp_path / name
    path.write_text(text)
    code, output = await typed("import", str(path), dsn=dsn)
    assert code == 2
    assert re.search(message, output), output
    assert await sql.fetchval("SELECT count(*) FROM users") == 0


async def test_import_says_what_is_left_out(
    dsn: str, typed: Typed, sql: Connection, tmp_path: Path
) -> None:
    """Rows that the table itself refuses are counted."""
    await sql.execute("ALTER TABLE users ADD CHECK (username <> 'Mallory')")
    path = tmp_path / "users.csv"
    path.write_text("server_id,user_id,username\n1,7,Ada\n1,8,Mallory\n")
    code, output = await typed("import", str(path), dsn=dsn)
    assert code == 0
    assert "0 servers, 2 users; 1 left out\n" in output
