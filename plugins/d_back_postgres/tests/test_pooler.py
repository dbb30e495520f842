"""Behind a pooler that gives every transaction another connection of the server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import asyncpg
import pytest

from d_back_core import Secret, Server, ServerSet, User, UserSet
from d_back_postgres import PostgresConfig
from d_back_postgres.database import Database
from d_back_postgres.failure import DatabaseError
from d_back_postgres.status import status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conftest import Begin, Connection, Join, Serve

STARTUP = 196608
KNOWN = {b"user", b"database", b"client_encoding", b"application_name"}


class Pooler:
    """What PgBouncer does with ``pool_mode = transaction``, as far as a client can tell: logs in
    at once, refuses unknown startup parameters, and lends each transaction the server connection
    that has been idle for longest.
    """

    def __init__(self, dsn: str, size: int = 3) -> None:
        self._upstream = dsn
        self._size = size
        self._idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
            asyncio.Queue()
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.lent = 0
        self.dsn = ""

    async def __aenter__(self) -> Self:
        self._logged_in = []
        for _ in range(self._size):
            # asyncpg logs in; then its socket is used by hand.
            connection: Any = await asyncpg.connect(self._upstream)
            transport = connection._transport  # noqa: SLF001
            reader = asyncio.StreamReader()
            loop = asyncio.get_running_loop()
            protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            self._logged_in.append(connection)
            self._writers.append(writer)
            self._idle.put_nowait((reader, writer))
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        database = self._upstream.rpartition("/")[2]
        self.dsn = f"postgresql://postgres@127.0.0.1:{port}/{database}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._logged_in:
            connection.terminate()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            if await self._greet(reader, writer):
                await self._transactions(reader, writer)
        writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        while True:
            size = int.from_bytes(await reader.readexactly(4))
            body = await reader.readexactly(size - 4)
            if int.from_bytes(body[:4]) == STARTUP:
                break
            writer.write(b"N")  # no TLS
        words = body[4:].split(b"\x00")
        for name in words[0:-2:2]:
            if name not in KNOWN:
                text = b"unsupported startup parameter: " + name
                writer.write(message(b"E", b"SFATAL\x00C08P01\x00M" + text + b"\x00\x00"))
                return False
        writer.write(message(b"R", (0).to_bytes(4)))
        for name, value in ((b"server_version", b"16.0"), (b"client_encoding", b"UTF8")):
            writer.write(message(b"S", name + b"\x00" + value + b"\x00"))
        writer.write(message(b"K", bytes(8)) + message(b"Z", b"I"))
        return True

    async def _transactions(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Lend a server connection for each transaction, until the client leaves."""
        asked = asyncio.ensure_future(received(reader))
        while (await asked)[:1] != b"X":
            backend, to_backend = await self._idle.get()
            self.lent += 1
            answered = asyncio.ensure_future(received(backend))
            owed, state = 0, b""
            while owed or state != b"I":
                await asyncio.wait([asked, answered], return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    to_backend.write(asked.result())
                    owed += asked.result()[:1] in {b"Q", b"S"}
                    asked = asyncio.ensure_future(received(reader))
                if answered.done():
                    writer.write(answered.result())
                    if answered.result()[:1] == b"Z":
                        owed, state = owed - 1, answered.result()[5:6]
                    if owed or state != b"I":
                        answered = asyncio.ensure_future(received(backend))
            self._idle.put_nowait((backend, to_backend))


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


async def received(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


@pytest.fixture
async def pooler(dsn: str) -> AsyncIterator[Pooler]:
    async with Pooler(dsn) as pooler:
        yield pooler


@pytest.mark.usefixtures("plaza")
async def test_reads_and_records_through_a_pooler(
    pooler: Pooler, begin: Begin, sql: Connection
) -> None:
    """Nothing is kept on a connection: 50 reads and writes work, each wherever it lands."""
    provider = await begin(pooler.dsn, transaction_pooler=True)
    for number in range(50):
        user = User(username="Cy", status="online")
        server = ServerSet(server_id="2", server=Server(name="Garden"))
        await provider.record([server, UserSet(server_id="2", uid=str(number), user=user)])
        users = await provider.users("2")
        assert users is not None
        assert len(users) == number + 1
    assert set(await provider.servers() or ()) == {"1", "2"}
    assert pooler.lent > 150
    assert await sql.fetchval("SELECT count(*) FROM users") == 52


@pytest.mark.usefixtures("plaza")
async def test_several_at_once(pooler: Pooler, begin: Begin) -> None:
    """Calls that run at the same time do not meet each other's statements."""
    provider = await begin(pooler.dsn, transaction_pooler=True)
    answers = await asyncio.gather(*(provider.users("1") for _ in range(40)))
    assert all(answer is not None and len(answer) == 2 for answer in answers)


@pytest.mark.usefixtures("plaza")
async def test_it_polls(pooler: Pooler, sql: Connection, serve: Serve, join: Join) -> None:
    """As LISTEN does not work through it, ``refresh`` brings what changes."""
    server = await serve(pooler.dsn, transaction_pooler=True, refresh="50ms")
    world = await join(server)
    await sql.execute("UPDATE users SET status = 'dnd'")
    await sql.execute("DELETE FROM users WHERE user_id = '8'")
    await world.until(
        lambda w: [(user.uid, user.status) for user in w.users.values()] == [("7", "dnd")]
    )


@pytest.mark.usefixtures("plaza")
async def test_the_statement_timeout_holds(pooler: Pooler, begin: Begin, sql: Connection) -> None:
    """It is set in each transaction, as nothing outlasts that."""
    provider = await begin(pooler.dsn, transaction_pooler=True, statement_timeout=0.1)
    async with sql.transaction():
        await sql.execute("LOCK TABLE users")
        with pytest.raises(DatabaseError, match="took longer than statement_timeout"):
            await provider.users("1")


async def test_a_pooler_that_was_not_told_of(pooler: Pooler, begin: Begin) -> None:
    """The error says which option is missing."""
    with pytest.raises(DatabaseError, match="is it a pooler\\? see transaction_pooler"):
        await begin(pooler.dsn)


async def test_status_finds_that_nobody_can_listen(
    pooler: Pooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`d-back postgres status` tries it: a notification does not arrive."""
    monkeypatch.setattr("d_back_postgres.status.PATIENCE", 0.1)
    config = PostgresConfig(dsn=Secret(pooler.dsn), transaction_pooler=True)
    database = Database(config)
    await database.open()
    lines = {line.what: line for line in await status(database, config)}
    await database.close()
    assert lines["LISTEN"].says.startswith("not possible")
    assert lines["LISTEN"].fine


@pytest.mark.usefixtures("plaza")
async def test_r49_a_replaced_table_behind_a_pooler(
    dsn: str, sql: Connection, serve: Serve, join: Join
) -> None:
    """Where nothing is notified, a table that is replaced is noticed all the same."""
    async with Pooler(dsn) as pooler:
        world = await join(await serve(pooler.dsn, transaction_pooler=True))
        await sql.execute(
            "CREATE TABLE users_new (LIKE users INCLUDING ALL);"
            "INSERT INTO users_new VALUES ('1', '9', 'Cy', 'online', '#ffffff');"
            "ALTER TABLE users RENAME TO users_old; ALTER TABLE users_new RENAME TO users"
        )
        async with asyncio.timeout(15):
            await world.until(lambda w: set(w.users) == {"9"})
