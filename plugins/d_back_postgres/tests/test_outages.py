"""The database goes away, is slow, refuses: health turns, clients stay, recovery is automatic."""

from __future__ import annotations

import asyncio
import logging
from random import Random
from typing import TYPE_CHECKING, Self

import asyncpg
import pytest

from d_back_core import Reload, Secret, Server, User
from d_back_core.models import EffectiveUser
from d_back_postgres import PostgresConfig, PostgresProvider
from d_back_postgres.failure import DatabaseError
from d_back_postgres.listener import HEARTBEAT
from d_back_testing import ManualClock, ScriptedProvider

if TYPE_CHECKING:
    from conftest import Begin, Cluster, Connection, Health, Join, Serve, Until

    from d_back_core.embedding.server import WebSocketServer

PATIENCE = 60.0
PASSWORD = "hush-1b6e0f7a"


def postgres_health(server: WebSocketServer) -> str:
    return server.live.providers.supervisors["postgres"].health.state


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name.startswith("d_back")
    ]


@pytest.mark.usefixtures("plaza")
async def test_killed_under_connected_clients(
    cluster: Cluster,
    dsn: str,
    serve: Serve,
    join: Join,
    until: Until,
    *,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each reason of a crash is logged once; clients keep what they have, and after the restart
    what changed reaches them over the same connection."""
    caplog.set_level(logging.INFO)
    server = await serve(dsn)
    world = await join(server)
    caplog.clear()
    cluster.kill()
    await until(lambda: postgres_health(server) == "degraded")
    assert len(world.users) == 2
    await cluster.start()
    await until(lambda: postgres_health(server) == "ready")
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE users SET status = 'dnd' WHERE user_id = '7'")
    await world.until(lambda w: w.users["7"].status == "dnd")
    connection.terminate()
    assert world.close_code is None
    reasons = warnings_of(caplog)
    assert len(reasons) == len(set(reasons))
    assert [
        record.getMessage() for record in caplog.records if "again" in record.getMessage()
    ] == ["provider postgres is ready again"]


@pytest.mark.usefixtures("plaza")
async def test_what_changes_while_not_listening_is_not_missed(
    dsn: str, sql: Connection, serve: Serve, join: Join
) -> None:
    """After the listening connection alone was lost, everything is fetched again."""
    world = await join(await serve(dsn))
    async with sql.transaction():
        await sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        )
        await sql.execute("ALTER TABLE users DISABLE TRIGGER USER")
        await sql.execute("UPDATE users SET status = 'dnd'")
    await world.until(lambda w: all(user.status == "dnd" for user in w.users.values()))


@pytest.mark.usefixtures("plaza")
async def test_down_at_start(
    cluster: Cluster,
    dsn: str,
    serve: Serve,
    join: Join,
    until: Until,
    *,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While it is down the chain goes on below it; when it is up, it takes over."""
    cluster.kill()
    below = ScriptedProvider({"1": Server(name="Below")}, {"1": {"9": User(username="Cy")}})
    server = await serve(dsn, {"below": below}, order=("postgres", "below"))
    world = await join(server)
    assert set(world.users) == {"9"}
    assert warnings_of(caplog)[0].startswith(
        "provider postgres: start: DatabaseError: cannot be reached: Connection refused; next"
    )
    await cluster.start()
    await world.until(lambda w: set(w.users) == {"7", "8"})
    await until(lambda: postgres_health(server) == "ready")
    assert len(warnings_of(caplog)) == 1


@pytest.mark.usefixtures("plaza")
async def test_the_chain_goes_on(cluster: Cluster, dsn: str, serve: Serve, join: Join) -> None:
    """Past its grace the next provider's state reaches the clients, and back again."""
    below = ScriptedProvider({"1": Server(name="Below")}, {"1": {"9": User(username="Cy")}})
    server = await serve(dsn, {"below": below}, order=("postgres", "below"), grace="100ms")
    world = await join(server)
    assert set(world.users) == {"7", "8"}
    cluster.kill()
    await world.until(lambda w: set(w.users) == {"9"})
    await cluster.start()
    await world.until(lambda w: set(w.users) == {"7", "8"})


async def test_a_table_that_comes_later(
    empty_dsn: str, dsn: str, serve: Serve, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """Without tables it says what makes them, and goes on by itself once they are there."""
    server = await serve(empty_dsn)
    await until(lambda: warnings_of(caplog))
    assert (
        "there is no table 'users' (there are none): `d-back postgres init` makes it"
        in (warnings_of(caplog)[0])
    )
    connection = await asyncpg.connect(empty_dsn)
    from d_back_postgres.migrations import migrations  # noqa: PLC0415

    for script in migrations(PostgresConfig(dsn=Secret(dsn))):
        await connection.execute(script.sql)
    connection.terminate()
    await until(lambda: postgres_health(server) == "ready")


async def test_wrong_password(
    cluster: Cluster,
    dsn: str,
    sql: Connection,
    serve: Serve,
    until: Until,
    *,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A refused login is reported once, without user or password; a password that is put
    right is noticed."""
    del cluster
    caplog.set_level(logging.DEBUG)
    await sql.execute("DROP ROLE IF EXISTS reader_of_tests")
    await sql.execute("CREATE ROLE reader_of_tests LOGIN PASSWORD 'right'")
    await sql.execute("GRANT SELECT ON users, servers TO reader_of_tests")
    wrong = dsn.replace(f"postgres:{PASSWORD}", "reader_of_tests:wrong-one")
    server = await serve(wrong)
    await until(lambda: bool(warnings_of(caplog)))
    assert warnings_of(caplog)[0].startswith(
        "provider postgres: start: DatabaseError: the database refuses the password; next attempt"
    )
    await sql.execute("ALTER ROLE reader_of_tests PASSWORD 'wrong-one'")
    await until(lambda: postgres_health(server) == "ready")
    assert len(warnings_of(caplog)) == 1
    assert "wrong-one" not in caplog.text
    assert "reader_of_tests" not in caplog.text
    await server.stop()
    await sql.execute("DROP OWNED BY reader_of_tests; DROP ROLE reader_of_tests")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("test_", "gone_"), "there is no such database"),
        (("127.0.0.1", "no-such-host.invalid"), "cannot be reached: the host's name is not known"),
        (("_empty", "_empty?sslmode=require"), "cannot be reached: the server refuses TLS, or us"),
        ((f":{PASSWORD}", ":hunter2"), "the database refuses the password"),
        ((f"postgres:{PASSWORD}", "stranger:hunter2"), "the database refuses the password"),
    ],
)
async def test_a_dsn_that_leads_nowhere(
    empty_dsn: str, begin: Begin, change: tuple[str, str], message: str
) -> None:
    """Each has its own text, and no part of the DSN is in the error or in what caused it."""
    wrong = empty_dsn.replace(*change)
    with pytest.raises(DatabaseError) as raised:
        await begin(wrong)
    assert str(raised.value) == message
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.usefixtures("plaza")
async def test_several_hosts(dsn: str, begin: Begin) -> None:
    """Of several hosts the one that answers, and can be written to, is taken."""
    there = dsn.replace("@127.0.0.1:", "@127.0.0.1:1,127.0.0.1:")
    provider = await begin(f"{there}?target_session_attrs=read-write")
    assert await provider.servers()


@pytest.mark.usefixtures("plaza")
async def test_out_of_connections(dsn: str, sql: Connection, begin: Begin, until: Until) -> None:
    """A database that gives no connection is an error of that call; then it is asked again."""
    await sql.execute("DROP ROLE IF EXISTS narrow")
    await sql.execute("CREATE ROLE narrow LOGIN PASSWORD 'narrow' CONNECTION LIMIT 2")
    await sql.execute("GRANT SELECT ON users, servers TO narrow")
    narrow = dsn.replace(f"postgres:{PASSWORD}", "narrow:narrow")
    provider = await begin(narrow)  # one to listen, one in the pool
    blocked = await asyncpg.connect(dsn)
    lock = blocked.transaction()
    await lock.start()
    await blocked.execute("LOCK TABLE users")
    waiting = asyncio.ensure_future(provider.users("1"))
    await until(lambda: sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    with pytest.raises(DatabaseError, match="the database has no connection left"):
        await provider.users("2")
    await lock.rollback()
    users = await waiting
    assert users is not None
    assert len(users) == 2
    assert await provider.users("2") is None
    blocked.terminate()
    await provider.stop()
    await sql.execute("DROP OWNED BY narrow; DROP ROLE narrow")


@pytest.mark.usefixtures("plaza")
async def test_statement_timeout(dsn: str, sql: Connection, begin: Begin) -> None:
    """A statement that takes too long is given up, by the server; the next one works."""
    provider = await begin(dsn, statement_timeout=0.1)
    async with sql.transaction():
        await sql.execute("LOCK TABLE users")
        with pytest.raises(DatabaseError, match="took longer than statement_timeout"):
            await provider.users("1")
    users = await provider.users("1")
    assert users is not None
    assert len(users) == 2


@pytest.mark.usefixtures("plaza")
async def test_a_refetch_that_fails_is_asked_again_by_the_core(
    dsn: str, sql: Connection, begin: Begin
) -> None:
    """Keys that cannot be read become a Reload, so that nothing is lost."""
    provider = await begin(dsn, statement_timeout=0.1)
    await provider.users("1")
    events = provider.events()
    blocking = await asyncpg.connect(dsn)
    await sql.execute("UPDATE users SET status = 'dnd' WHERE user_id = '7'")
    async with blocking.transaction():
        await blocking.execute("LOCK TABLE users")
        async with asyncio.timeout(PATIENCE):
            assert await anext(events) == Reload(server_id="1")
    blocking.terminate()


class Wall:
    """Passes bytes on to the database until it swallows them, as a firewall does."""

    def __init__(self, dsn: str) -> None:
        host, _, self._port = dsn.rpartition("@")[2].partition("/")[0].partition(":")
        self._host = host
        self.dsn = dsn
        self.open = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.dsn = self.dsn.replace(f":{self._port}/", f":{port}/")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._host, int(self._port))
        self._writers += [writer, there[1]]
        for pair in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(self._pass_on(*pair))
            self._tasks.add(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            if self.open:
                writer.write(chunk)


@pytest.mark.usefixtures("plaza")
async def test_a_connection_that_is_cut_off_silently(
    dsn: str, health: Health, until: Until
) -> None:
    """A listening connection that no packet passes any more is noticed by its heartbeat."""
    clock = ManualClock()
    async with Wall(dsn) as wall:
        config = PostgresConfig(dsn=Secret(wall.dsn), statement_timeout=0.1)  # type: ignore[arg-type]
        provider = PostgresProvider(config)
        await provider.start(health.context(clock=clock))
        await clock.advance(HEARTBEAT)
        assert health.said == []
        wall.open = False
        await clock.advance(HEARTBEAT)
        await until(lambda: health.said)
        assert health.said == ["the connection that listens for changes was lost"]
        await provider.stop()


@pytest.mark.usefixtures("plaza")
async def test_a_probe_subscribes_to_nothing(dsn: str, sql: Connection, health: Health) -> None:
    """``d-back explain`` connects, answers, and listens to nothing."""
    provider = PostgresProvider(PostgresConfig(dsn=Secret(dsn)))
    await provider.start(health.context(probe=True))
    assert await provider.servers()
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
    assert await sql.fetchval(query) == 0
    await provider.stop()


async def test_stop_does_not_wait_for_a_stuck_statement(
    dsn: str, sql: Connection, begin: Begin, until: Until
) -> None:
    """What is under way is ended by stop after a second, not when the database pleases."""
    provider = await begin(dsn)
    async with sql.transaction():
        await sql.execute("LOCK TABLE users")
        waiting = asyncio.ensure_future(provider.users("1"))
        await until(lambda: sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        async with asyncio.timeout(1.9):
            await provider.stop()
        with pytest.raises(DatabaseError):
            await waiting


UIDS = [str(number) for number in range(40)]
NAMES = ["Ada", "Bo", "Cy", None]
STATUSES = ["online", "idle", "dnd", "offline", None, "sleeping"]
COLORS = ["#ff6b6b", "#4ecdc4", None, "red"]


async def random_statement(connection: Connection, random: Random) -> None:
    """One change, of one row or of many."""
    uid, name = random.choice(UIDS), random.choice(NAMES)
    status, color = random.choice(STATUSES), random.choice(COLORS)
    kind = random.random()
    if kind < 0.45:
        await connection.execute(
            "INSERT INTO users VALUES ('1', $1, $2, $3, $4) ON CONFLICT (server_id, user_id)"
            " DO UPDATE SET username = $2, status = $3, role_color = $4",
            uid,
            name,
            status,
            color,
        )
    elif kind < 0.65:
        await connection.execute("UPDATE users SET status = $1 WHERE user_id = $2", status, uid)
    elif kind < 0.75:
        await connection.execute("UPDATE users SET username = $1 WHERE user_id < $2", name, uid)
    elif kind < 0.9:
        await connection.execute("DELETE FROM users WHERE user_id = $1", uid)
    elif kind < 0.98:
        await connection.execute(
            "INSERT INTO users SELECT '1', n::text, 'all', 'idle' FROM generate_series(0, 39) n"
            " ON CONFLICT DO NOTHING"
        )
    else:
        await connection.execute("TRUNCATE users")


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_world_equals_the_table(
    cluster: Cluster, dsn: str, serve: Serve, join: Join, seed: int
) -> None:
    """After 1,000 random statements, the server killed and started again twice among them, a
    client that was connected all the time sees what the table holds."""
    random = Random(seed)  # noqa: S311  must be repeatable, guards nothing
    connection = await asyncpg.connect(dsn)
    await connection.execute("INSERT INTO servers VALUES ('1', 'Plaza', false, true, true)")
    world = await join(await serve(dsn))
    for number in range(1000):
        if number in {333, 666}:
            connection.terminate()
            cluster.kill()
            await cluster.start()
            connection = await asyncpg.connect(dsn)
        await random_statement(connection, random)
    rows = await connection.fetch("SELECT * FROM users")
    expected = {
        row["user_id"]: EffectiveUser(
            row["user_id"],
            row["username"] or row["user_id"],
            row["status"] if row["status"] in STATUSES[:4] else "offline",
            row["role_color"] if row["role_color"] in COLORS[:2] else "#ffffff",
        )
        for row in rows
    }
    await world.until(lambda w: w.users == expected)
    # It has come to rest there: a change made now is the next and only one to arrive.
    frames = world.events()
    following = asyncio.ensure_future(anext(frames))
    await connection.execute("INSERT INTO users VALUES ('1', 'last', 'Last', 'online', '#ffffff')")
    await world.until(lambda w: "last" in w.users)
    await following
    assert world.users == expected | {"last": EffectiveUser("last", "Last", "online", "#ffffff")}
    connection.terminate()
