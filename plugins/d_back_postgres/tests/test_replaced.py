"""R49: others replace, drop, empty or restore the tables behind our back."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import asyncpg
import pytest

from d_back_core import (
    Reload,
    Server,
    ServerSet,
    Snapshot,
    User,
    UserChanged,
    UserRemoved,
    UserSet,
)
from d_back_core.models import EffectiveUser
from d_back_core.stats import ServerStats, Stats
from d_back_testing import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from conftest import Begin, Cluster, Connection, Health, Join, Serve, Until

    from d_back_core.client import ClientWorld
    from d_back_core.embedding.server import WebSocketServer

pytestmark = pytest.mark.long

WITHIN = 15.0
"""Seconds in which it must be noticed."""
COLUMNS = "server_id, user_id, username, status, role_color"
NEW = (
    "INSERT INTO {} (server_id, user_id, username, status, role_color) VALUES"
    " ('1', '7', 'Ada II', 'dnd', '#000000'), ('1', '9', 'Cy', 'online', '#000000')"
    " ON CONFLICT DO NOTHING"  # a recorder may have written the row again before
)
TABLE = (
    "CREATE TABLE users (server_id {0}, user_id {0}, username text, status text,"
    " role_color text, last_seen timestamptz, PRIMARY KEY (server_id, user_id))"
)
REPLACED = {
    "renamed": [
        "CREATE TABLE users_new (LIKE users INCLUDING ALL)",
        NEW.format("users_new"),
        "ALTER TABLE users RENAME TO users_old",
        "ALTER TABLE users_new RENAME TO users",
    ],
    "dropped and made": ["DROP TABLE users", TABLE.format("text"), NEW.format("users")],
    "with other types": ["DROP TABLE users", TABLE.format("bigint"), NEW.format("users")],
    "emptied and filled": ["TRUNCATE users", NEW.format("users")],
    "older rows": ["DELETE FROM users", NEW.format("users")],
    "without triggers for a moment": [
        "BEGIN",
        "ALTER TABLE users DISABLE TRIGGER ALL",
        "DELETE FROM users",
        NEW.format("users"),
        "ALTER TABLE users ENABLE TRIGGER ALL",
        "COMMIT",
    ],
    "loaded as a replica": [
        "BEGIN",
        "SET LOCAL session_replication_role = replica",
        "DELETE FROM users",
        NEW.format("users"),
        "COMMIT",
    ],
    "trigger dropped": [
        "BEGIN",
        "DROP TRIGGER d_back_update ON users",
        "UPDATE users SET username = 'Eve'",
        "COMMIT",
    ],
    "function dropped": [
        "BEGIN",
        "DROP FUNCTION d_back_notify CASCADE",
        "UPDATE users SET username = 'Eve'",
        "COMMIT",
    ],
}


async def run(sql: Connection, statements: list[str]) -> None:
    """Each in its own transaction, unless it begins one."""
    for statement in statements:
        await sql.execute(statement)


async def table(sql: Connection) -> dict[str, EffectiveUser]:
    """What a client should see of the table."""
    rows = await sql.fetch("SELECT * FROM users WHERE server_id::text = '1'")
    return {
        str(row["user_id"]): EffectiveUser(
            str(row["user_id"]), row["username"], row["status"], row["role_color"]
        )
        for row in rows
    }


async def becomes(world: ClientWorld, expected: dict[str, EffectiveUser]) -> None:
    """The client sees that in time."""
    async with asyncio.timeout(WITHIN):
        await world.until(lambda w: w.users == expected)


async def in_time(condition: Callable[[], Awaitable[bool]]) -> None:
    """It holds in time."""
    async with asyncio.timeout(WITHIN):
        while not await condition():  # noqa: ASYNC110  of anything there is no event
            await asyncio.sleep(0.02)


def health_of(server: WebSocketServer) -> tuple[str, str]:
    supervisor = server.live.providers.supervisors["postgres"]
    health = supervisor.health
    return health.state, health.last_error


def town() -> ScriptedProvider:
    return ScriptedProvider(
        {"1": Server(name="Plaza", id="plaza", default=True)},
        {
            "1": {
                "7": User(username="Ada", status="online", role_color="#ff6b6b"),
                "8": User(username="Bo", status="idle", role_color="#4ecdc4"),
            }
        },
    )


async def recorded(serve: Serve, dsn: str, script: ScriptedProvider) -> WebSocketServer:
    return await serve(
        dsn, {"script": script}, order=("script", "postgres"), recorders=("postgres",)
    )


@pytest.mark.usefixtures("plaza")
@pytest.mark.parametrize("kind", REPLACED)
async def test_r49_a_replaced_table_is_read_again(
    dsn: str, sql: Connection, serve: Serve, join: Join, kind: str
) -> None:
    """The world becomes that of the table which is there, and changes of that arrive again."""
    world = await join(await serve(dsn))
    await run(sql, REPLACED[kind])
    await becomes(world, await table(sql))
    await sql.execute("UPDATE users SET username = 'Zoe' WHERE user_id::text = '7'")
    await becomes(world, await table(sql))


@pytest.mark.usefixtures("plaza")
async def test_r49_a_table_that_hides_another(
    dsn: str, sql: Connection, serve: Serve, join: Join
) -> None:
    """A table that comes before ours in the search_path is the one that is read from then on."""
    world = await join(await serve(f"{dsn}?search_path=front,public"))
    await sql.execute("CREATE SCHEMA front; CREATE TABLE front.users (LIKE users INCLUDING ALL)")
    await sql.execute(NEW.format("front.users"))
    await sql.execute("SET search_path = front, public")
    await becomes(world, await table(sql))


@pytest.mark.parametrize("kind", REPLACED)
async def test_r49_a_replaced_table_is_recorded_again(
    dsn: str, sql: Connection, serve: Serve, join: Join, until: Until, *, kind: str
) -> None:
    """Whatever others have put there, the recorder's table is again what the source says; their
    own rows stay."""
    script = town()
    world = await join(await recorded(serve, dsn, script))

    async def settled() -> bool:
        rows = await table(sql)
        return {uid: user for uid, user in rows.items() if uid != "9"} == world.users

    await until(settled)
    await run(sql, REPLACED[kind])
    await in_time(settled)
    script.emit(UserChanged(server_id="1", uid="7", status="dnd"))
    await world.until(lambda w: w.users["7"].status == "dnd")
    await in_time(settled)


@pytest.mark.parametrize("in_use", [True, False])
async def test_r49_a_dump_that_is_restored(
    cluster: Cluster, dsn: str, sql: Connection, serve: Serve, join: Join, *, in_use: bool
) -> None:
    """`pg_dump --clean | psql` of an older state: a reader shows it, a recorder repairs it."""
    await sql.execute(
        "INSERT INTO servers VALUES ('1', 'Plaza', false, true, true, 'plaza', now())"
    )
    await sql.execute(
        f"INSERT INTO users ({COLUMNS}, last_seen) VALUES"  # noqa: S608
        " ('1', '7', 'Old', 'dnd', '#000000', now()), ('1', '9', 'Gone', 'dnd', '#000000', now())"
    )
    dump = await program(cluster, "pg_dump", "--clean", "--if-exists", dsn)
    script = town()
    server = await serve(dsn) if in_use else await recorded(serve, dsn, script)
    await sql.execute("DELETE FROM users WHERE user_id = '9'")
    world = await join(server)
    await program(cluster, "psql", "--quiet", "--set=ON_ERROR_STOP=1", dsn, given=dump)
    if in_use:
        assert set(await table(sql)) == {"7", "9"}
        await becomes(world, await table(sql))
        return

    async def settled() -> bool:
        return await table(sql) == world.users

    await in_time(settled)
    assert {user.username for user in world.users.values()} == {"Ada", "Bo"}


async def program(cluster: Cluster, name: str, *arguments: str, given: bytes = b"") -> bytes:
    """Run a program of PostgreSQL; what it prints."""
    process = await asyncio.create_subprocess_exec(
        cluster.program(name),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, errors = await process.communicate(given)
    assert process.returncode == 0, errors.decode()
    return printed


@pytest.mark.usefixtures("plaza")
@pytest.mark.parametrize("name", ["users", "servers"])
async def test_r49_a_table_that_is_gone_is_named(
    dsn: str, sql: Connection, serve: Serve, join: Join, name: str
) -> None:
    """Without its table the provider is degraded and says what makes it; clients keep what they
    have until it is there again."""
    server = await serve(dsn)
    world = await join(server)
    before = dict(world.users)
    await sql.execute(f"ALTER TABLE {name} RENAME TO elsewhere")

    async def degraded() -> bool:
        return health_of(server)[0] == "degraded"

    await in_time(degraded)
    assert health_of(server)[1].startswith(f"there is no table '{name}'")
    assert "`d-back postgres init` makes it" in health_of(server)[1]
    assert world.users == before
    await sql.execute(f"ALTER TABLE elsewhere RENAME TO {name}")

    async def ready() -> bool:
        return health_of(server)[0] == "ready"

    await in_time(ready)
    await sql.execute("UPDATE users SET username = 'Zoe'")
    await becomes(world, await table(sql))


@pytest.mark.usefixtures("plaza")
async def test_r49_no_event_of_another_table(dsn: str, sql: Connection, begin: Begin) -> None:
    """The first change that a new table notifies is not merged into the rows of the old one:
    everything is fetched."""
    provider = await begin(dsn)
    await provider.servers()
    await provider.users("1")
    async with sql.transaction():
        await run(sql, REPLACED["renamed"])
        await sql.execute(
            "CREATE TRIGGER d_back_update AFTER UPDATE ON users REFERENCING OLD TABLE AS gone"
            " NEW TABLE AS made FOR EACH STATEMENT"
            " EXECUTE FUNCTION d_back_notify('2', 'server_id', 'user_id', 'username')"
        )
        await sql.execute("UPDATE users SET username = 'Cy II' WHERE user_id = '9'")
    async with asyncio.timeout(WITHIN):
        assert await anext(provider.events()) == Reload()
    users = await provider.users("1")
    assert users is not None
    assert {user.username for user in users.values()} == {"Ada II", "Cy II"}


@pytest.mark.usefixtures("plaza")
async def test_r49_everything_is_of_one_moment(dsn: str, sql: Connection, begin: Begin) -> None:
    """What is fetched after a Reload was read in one snapshot: a user who moves from one server
    to another meanwhile is not in both."""
    await sql.execute("INSERT INTO servers (server_id, name) VALUES ('2', 'Garden')")
    provider = await begin(dsn)
    await provider.servers()
    await provider.users("1")
    await provider.users("2")
    await sql.execute("TRUNCATE users; INSERT INTO users VALUES ('1', '7', 'Ada')")
    assert await anext(provider.events()) == Reload()
    first = await provider.users("1")
    await sql.execute("UPDATE users SET server_id = '2'")
    assert (set(first or {}), await provider.users("2")) == ({"7"}, {})


@pytest.mark.usefixtures("plaza")
async def test_r49_triggers_that_cannot_be_made_again(
    dsn: str,
    sql: Connection,
    serve: Serve,
    join: Join,
    *,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A role that does not own the tables polls them, and says whose command is missing."""
    await sql.execute("DROP ROLE IF EXISTS only_reads")
    await sql.execute("CREATE ROLE only_reads LOGIN PASSWORD 'reads'")
    await sql.execute("GRANT SELECT ON users, servers TO only_reads")
    login = dsn.partition("//")[2].partition("@")[0]
    server = await serve(dsn.replace(login, "only_reads:reads"))
    world = await join(server)
    await run(sql, REPLACED["trigger dropped"])
    await becomes(world, await table(sql))
    warned = [each.message for each in caplog.records if "lost their triggers" in each.message]
    assert len(warned) == 1
    assert "until `d-back postgres init` is run as the owner" in warned[0]
    await sql.execute("UPDATE users SET username = 'Zoe'")
    await becomes(world, await table(sql))
    await server.stop()
    await sql.execute("DROP OWNED BY only_reads; DROP ROLE only_reads")


async def test_r49_a_value_that_changes_back(
    dsn: str, sql: Connection, serve: Serve, join: Join, until: Until
) -> None:
    """A user who changes, and changes back while the first change is being written, is stored as
    the source has it; one who comes and goes in that time is not stored."""
    script = town()
    world = await join(await recorded(serve, dsn, script))

    async def settled() -> bool:
        return await table(sql) == world.users

    await until(settled)
    other = await asyncpg.connect(dsn)
    async with other.transaction():
        await other.execute("SELECT FROM users FOR UPDATE")
        script.emit(UserChanged(server_id="1", uid="7", status="idle"))
        script.emit(UserChanged(server_id="1", uid="9", username="Cy", status="online"))
        await until(lambda: sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        script.emit(UserChanged(server_id="1", uid="7", status="online"))
        script.emit(UserRemoved(server_id="1", uid="9"))
        await world.until(lambda w: w.users["7"].status == "online" and "9" not in w.users)
    other.terminate()
    await in_time(settled)


async def test_r49_a_commit_that_outlives_its_connection(
    dsn: str, sql: Connection, begin: Begin, until: Until
) -> None:
    """A user who is removed while a lost connection still commits them does not stay: the removal
    waits for that."""
    await sql.execute(
        "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END$$;"
        "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION waits()"
    )
    await sql.execute("SELECT pg_advisory_lock(7)")
    first, second = await begin(dsn, statement_timeout=50.0), await begin(dsn)
    cy = UserSet(server_id="1", uid="9", user=User(username="Cy"))
    committing = asyncio.ensure_future(first.record([cy]))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    await until(lambda: sql.fetchval(waiting))
    # Of another process, as after a restart: it knows nothing of the first one.
    removing = asyncio.ensure_future(second.record([UserRemoved(server_id="1", uid="9")]))

    async def both_wait() -> bool:
        return removing.done() or await sql.fetchval(waiting) == 2

    await until(both_wait)
    await sql.execute("SELECT pg_advisory_unlock(7)")
    await committing
    await removing
    assert await table(sql) == {}


@pytest.mark.usefixtures("plaza")
async def test_r49_a_frozen_server(
    cluster: Cluster, dsn: str, sql: Connection, serve: Serve, join: Join, *, until: Until
) -> None:
    """A server that stops where it is makes the provider degraded; what was written meanwhile is
    seen when it goes on."""
    server = await serve(dsn)
    world = await join(server)
    cluster.freeze()
    try:

        async def degraded() -> bool:
            return health_of(server)[0] == "degraded"

        await in_time(degraded)
        changing = asyncio.ensure_future(sql.execute("UPDATE users SET username = 'Zoe'"))
        await asyncio.sleep(0)
    finally:
        cluster.thaw()
    await changing
    await becomes(world, await table(sql))
    await until(lambda: health_of(server)[0] == "ready")


async def test_r49_what_is_wanted_survives_a_restart_of_the_provider(
    dsn: str, sql: Connection, begin: Begin, health: Health
) -> None:
    """The core does not say again what it has said: the next run of the same provider stores it
    where the table has been emptied meanwhile."""
    provider = await begin(dsn)
    ada = User(username="Ada", status="online", role_color="#ff6b6b")
    await provider.record([UserSet(server_id="1", uid="7", user=ada)])
    await provider.stop()
    await sql.execute("TRUNCATE users")
    await provider.start(health.context())
    assert set(await table(sql)) == {"7"}


async def test_r49_a_new_table_without_a_key(
    dsn: str, sql: Connection, serve: Serve, join: Join, until: Until
) -> None:
    """A table that cannot be recorded to makes the provider degraded and says why."""
    script = town()
    server = await recorded(serve, dsn, script)
    await join(server)

    async def stored() -> bool:
        return len(await table(sql)) == 2

    await until(stored)
    await sql.execute("ALTER TABLE users RENAME TO users_old; CREATE TABLE users (LIKE users_old)")

    async def named() -> bool:
        return health_of(server) == (
            "degraded",
            "to be recorded to, a table needs a unique index on its id columns",
        )

    await in_time(named)
    await sql.execute("ALTER TABLE users ADD PRIMARY KEY (server_id, user_id)")
    await in_time(stored)


async def test_r49_rows_that_others_change(
    dsn: str, sql: Connection, begin: Begin, health: Health
) -> None:
    """A row that is changed by hand is stored again, unless clients see the table of its server
    at the moment. What the recorder itself has written is not written twice."""
    in_use = ServerStats(
        server_id="2",
        providers=("postgres",),
        since=0,
        stale=False,
        users=1,
        sessions=1,
        exchanges=[],
    )
    health.stats = lambda: Stats(held=[in_use])
    provider = await begin(dsn)
    await provider.record(
        [
            ServerSet(server_id="1", server=Server(name="Plaza")),
            *(
                UserSet(server_id=server_id, uid=uid, user=User(username="Ada", status="online"))
                for server_id in ("1", "2")
                for uid in ("7", "8")
            ),
            Snapshot(server_id="1", keys=frozenset({"7", "8"})),
        ]
    )
    seen = "SELECT last_seen FROM users WHERE server_id = '1' AND user_id = '8'"
    before = await sql.fetchval(seen)
    stream = asyncio.ensure_future(anext(provider.events(), None))
    await sql.execute(
        "UPDATE users SET username = 'Mallory' WHERE user_id = '7';"
        "INSERT INTO users VALUES ('1', '9', 'Back', 'online', NULL, now());"
        "DELETE FROM servers"
    )

    async def repaired() -> bool:
        rows = await sql.fetch("SELECT server_id, user_id, username FROM users ORDER BY 1, 2")
        return [tuple(row) for row in rows] == [
            ("1", "7", "Ada"),
            ("1", "8", "Ada"),
            ("2", "7", "Mallory"),
            ("2", "8", "Ada"),
        ]

    await in_time(repaired)
    assert await sql.fetchval("SELECT name FROM servers") == "Plaza"
    assert await sql.fetchval(seen) == before
    await provider.stop()
    assert await stream is None


async def test_r49_rows_are_shown_while_the_source_is_away(
    dsn: str, sql: Connection, serve: Serve, join: Join, until: Until
) -> None:
    """A change by hand reaches clients while the table stands in for the source."""
    script = town()
    server = await recorded(serve, dsn, script)
    world = await join(server)
    assert script.context is not None
    supervisor = server.live.providers.supervisors["script"]
    supervisor.core = type(supervisor.core)(use="script", grace=type(supervisor.core.grace)(0.05))
    script.servers_answer = script.users_answers["1"] = RuntimeError("away")
    script.context.degraded("away")
    await until(lambda: "postgres" in server.live.servers["1"].resolver.layers.in_use)
    await sql.execute("UPDATE users SET username = 'Eve' WHERE user_id = '7'")
    await world.until(lambda w: w.users["7"].username == "Eve")


MISHAPS = [
    *(each for each in REPLACED if each != "with other types"),
    "killed",
    "crashed",
]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("role", ["reader", "recorder"])
async def test_r49_a_storm(
    cluster: Cluster, dsn: str, serve: Serve, join: Join, until: Until, *, seed: int, role: str
) -> None:
    """Tables that are replaced, connections that are killed and a server that crashes, at random
    among changes: in the end the world is the table, and the table what was wanted."""
    random = Random(seed)  # noqa: S311  must be repeatable, guards nothing
    sql = await asyncpg.connect(dsn)
    await sql.execute("INSERT INTO servers VALUES ('1', 'Plaza', false, true, true)")
    script = town()
    server = await (serve(dsn) if role == "reader" else recorded(serve, dsn, script))
    world = await join(server)
    for _ in range(40):
        uid, name = str(random.randrange(20)), random.choice(["Ada", "Bo", "Cy"])
        if random.random() < 0.15:
            sql = await mishap(random.choice(MISHAPS), cluster, dsn, sql)
        elif role == "recorder":
            script.emit(
                UserChanged(
                    server_id="1", uid=uid, username=name, status="online", role_color="#000000"
                )
            )
        else:
            await sql.execute(
                f"INSERT INTO users ({COLUMNS}) VALUES ('1', $1, $2, 'online', '#000000')"  # noqa: S608
                " ON CONFLICT (server_id, user_id) DO UPDATE SET username = $2",
                uid,
                name,
            )

    async def settled() -> bool:
        rows = await table(sql)
        if role == "recorder":  # rows of others stay
            return all(rows.get(uid) == user for uid, user in world.users.items())
        return rows == world.users

    await until(lambda: health_of(server)[0] == "ready")
    await until(settled)
    sql.terminate()


async def mishap(kind: str, cluster: Cluster, dsn: str, sql: Connection) -> Connection:
    """Let that happen; the connection to go on with."""
    if kind == "killed":
        await sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'd-back' AND random() < 0.7"
        )
    elif kind == "crashed":
        sql.terminate()
        cluster.kill()
        await cluster.start()
        return await asyncpg.connect(dsn)
    else:
        await sql.execute("DROP TABLE IF EXISTS users_old")
        await run(sql, REPLACED[kind])
    return sql
