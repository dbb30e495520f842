"""As a recorder it remembers what others said."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from d_back_core import (
    UNSET,
    Change,
    Server,
    ServerRemoved,
    ServerSet,
    Snapshot,
    User,
    UserChanged,
    UserRemoved,
    UserSet,
)
from d_back_core.models import EffectiveUser
from d_back_postgres import UsersColumns
from d_back_postgres.failure import DatabaseError
from d_back_testing import ScriptedProvider

if TYPE_CHECKING:
    from conftest import Begin, Cluster, Connection, Join, Serve, Until

    from d_back_core import Event
    from d_back_core.embedding.server import WebSocketServer

ADA = User(username="Ada", status="online", role_color="#ff6b6b")
BO = User(username="Bo", status="offline", role_color="#4ecdc4")


def said(uid: str, user: User = ADA, server_id: str = "1") -> UserSet:
    return UserSet(server_id=server_id, uid=uid, user=user)


def listed(server_id: str = "1", **fields: Any) -> ServerSet:  # noqa: ANN401
    return ServerSet(server_id=server_id, server=Server(**{"name": "Plaza", "id": "p"} | fields))


def complete(*keys: str, server_id: str | None = "1") -> Snapshot:
    return Snapshot(server_id=server_id, keys=frozenset(keys))


async def stored(sql: Connection) -> dict[tuple[str, str], tuple[Any, ...]]:
    rows = await sql.fetch("SELECT * FROM users")
    return {
        (row["server_id"], row["user_id"]): (row["username"], row["status"], row["role_color"])
        for row in rows
    }


async def seen(sql: Connection, uid: str) -> datetime:
    found: datetime = await sql.fetchval("SELECT last_seen FROM users WHERE user_id = $1", uid)
    return found


async def test_what_is_said_is_stored(dsn: str, sql: Connection, begin: Begin) -> None:
    """Servers and users become rows, with what is said of them and NULL for the rest; a second
    time changes nothing."""
    provider = await begin(dsn)
    changes: list[Change] = [listed(default=True), said("7"), said("8", User(status="idle"))]
    for _ in range(2):
        await provider.record(changes)
        assert await stored(sql) == {
            ("1", "7"): ("Ada", "online", "#ff6b6b"),
            ("1", "8"): (None, "idle", None),
        }
        row = await sql.fetchrow("SELECT * FROM servers")
        assert row is not None
        assert tuple(row)[:6] == ("1", "Plaza", None, True, None, "p")
    await provider.record([said("7", User(username="Eve")), UserRemoved(server_id="1", uid="8")])
    assert await stored(sql) == {("1", "7"): ("Eve", None, None)}


async def test_extra_texts_are_stored_and_returned(
    dsn: str, sql: Connection, begin: Begin
) -> None:
    """As a JSON object; a second time changes nothing, and a NUL, which PostgreSQL cannot store,
    is left out."""
    provider = await begin(dsn)
    user = User(username="Ada", extra={"mood": "a\0b", "avatar": "https://example.org/é"})
    for _ in range(2):
        await provider.record([listed(), said("7", user), said("8")])
    assert await sql.fetchval("SELECT extra->>'avatar' FROM users WHERE user_id = '7'") == (
        "https://example.org/é"
    )
    row = await sql.fetchval("SELECT xmin FROM users WHERE user_id = '7'")
    await provider.record([said("7", user)])
    assert await sql.fetchval("SELECT xmin FROM users WHERE user_id = '7'") == row
    users = await provider.users("1") or {}
    assert users["7"].extra == {"avatar": "https://example.org/é", "mood": "ab"}
    assert users["8"].extra is UNSET
    await provider.record([said("7", User(username="Ada"))])
    assert await sql.fetchval("SELECT extra FROM users WHERE user_id = '7'") is None


async def test_what_is_not_said_opens_no_server(dsn: str, sql: Connection, begin: Begin) -> None:
    """A recorded server keeps passworded and enabled until something else is said of them."""
    await sql.execute("INSERT INTO servers VALUES ('1', 'Old', true, true, false)")
    provider = await begin(dsn)
    await provider.record([listed()])
    query = "SELECT name, passworded, is_default, enabled FROM servers"
    assert tuple(await sql.fetchrow(query) or ()) == ("Plaza", True, None, False)
    await provider.record([listed(passworded=False, enabled=True)])
    assert tuple(await sql.fetchrow(query) or ()) == ("Plaza", False, None, True)


async def test_complete_removes_whatever_else_is_remembered(
    dsn: str, sql: Connection, begin: Begin
) -> None:
    """Of that server only, and with a server all of its users go."""
    provider = await begin(dsn)
    users = [said(uid, server_id=server) for server in ("1", "2") for uid in ("7", "8", "9")]
    await provider.record([listed("1"), listed("2"), *users])
    await provider.record([complete("7", "9"), UserRemoved(server_id="1", uid="9")])
    assert set(await stored(sql)) == {("1", "7"), ("2", "7"), ("2", "8"), ("2", "9")}
    await provider.record([complete("1", server_id=None)])
    assert set(await stored(sql)) == {("1", "7")}
    assert await sql.fetchval("SELECT array_agg(server_id) FROM servers") == ["1"]
    await provider.record([ServerRemoved(server_id="1")])
    assert await stored(sql) == {}
    assert await sql.fetchval("SELECT count(*) FROM servers") == 0


async def test_complete_follows_the_order(dsn: str, sql: Connection, begin: Begin) -> None:
    """What comes behind it is stored, what came before it and is not in it is gone."""
    provider = await begin(dsn)
    await provider.record([said("7"), said("8"), complete("8"), said("9")])
    assert set(await stored(sql)) == {("1", "8"), ("1", "9")}


async def test_rows_of_the_operators_own_stay(dsn: str, sql: Connection, begin: Begin) -> None:
    """Rows that no recorder wrote have no last_seen, and no Snapshot takes them away."""
    await sql.execute("INSERT INTO servers (server_id) VALUES ('own')")
    await sql.execute("INSERT INTO users (server_id, user_id) VALUES ('1', 'own')")
    provider = await begin(dsn)
    await provider.record([listed("1"), listed("2"), said("7"), said("8")])
    await provider.record([complete("7"), complete("1", server_id=None)])
    assert set(await stored(sql)) == {("1", "own"), ("1", "7")}
    rows = await sql.fetch("SELECT server_id FROM servers ORDER BY 1")
    assert [row[0] for row in rows] == ["1", "own"]
    await provider.record([UserRemoved(server_id="1", uid="own")])
    assert set(await stored(sql)) == {("1", "7")}


async def test_keep_offline(dsn: str, sql: Connection, begin: Begin) -> None:
    """With keep_offline those who are gone stay, as offline, however it is said that they are."""
    provider = await begin(dsn, keep_offline=True)
    await provider.record([listed(), said("7"), said("8"), said("9"), said("7", server_id="2")])
    await provider.record([UserRemoved(server_id="1", uid="7"), complete("9")])
    await provider.record([complete("1", server_id=None)])
    statuses = {key: row[1] for key, row in (await stored(sql)).items()}
    assert statuses == {
        ("1", "7"): "offline",
        ("1", "8"): "offline",
        ("1", "9"): "online",
        ("2", "7"): "offline",
    }


async def test_last_seen(dsn: str, sql: Connection, begin: Begin) -> None:
    """It moves while the user is not offline, and stands still from then on."""
    provider = await begin(dsn)
    await provider.record([said("7")])
    first = await seen(sql, "7")
    await provider.record([said("7")])
    second = await seen(sql, "7")
    assert second > first
    await provider.record([said("7", BO)])
    left = await seen(sql, "7")
    assert left > second
    await provider.record([said("7", BO)])
    await provider.record([said("7", User(username="Bob", status="offline"))])
    assert await seen(sql, "7") == left


async def test_values_that_no_table_can_hold(
    dsn: str, sql: Connection, begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    """One record that the table refuses does not keep the others out; it is reported once. A NUL,
    which no text of PostgreSQL holds, is left out."""
    await sql.execute("ALTER TABLE users ADD CHECK (username <> 'Mallory')")
    provider = await begin(dsn)
    users = [said(str(number)) for number in range(50)]
    users[20] = said("20", User(username="Mallory"))
    users[30] = said("30", User(username="Mallory"))
    users[40] = said("40", User(username="A\x00da"))
    await provider.record(users)
    names = {key[1]: row[0] for key, row in (await stored(sql)).items()}
    assert names == {str(number): "Ada" for number in range(50) if number not in {20, 30}}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_into_foreign_tables(dsn: str, sql: Connection, begin: Begin) -> None:
    """Keys of bigint, an enum and a short varchar are written as they are read; a uid that is no
    number is left out."""
    await sql.execute(
        "CREATE TYPE mood AS ENUM ('online', 'idle', 'dnd', 'offline');"
        "CREATE TABLE members (guild bigint, id bigint, nick varchar(5), mood mood,"
        " PRIMARY KEY (guild, id))"
    )
    columns = UsersColumns(
        server_id="guild", user_id="id", username="nick", status="mood", role_color=""
    )
    provider = await begin(dsn, users_table="members", users_columns=columns)
    long = said("9007199254740993", User(username="Leopold", status="idle"))
    await provider.record([long, said("8"), said("x")])
    rows = await sql.fetch("SELECT * FROM members ORDER BY id")
    assert [tuple(row) for row in rows] == [
        (1, 8, "Ada", "online"),
        (1, 9007199254740993, "Leopo", "idle"),
    ]
    assert await provider.users("1") == {
        "8": User(username="Ada", status="online", role_color=None),
        "9007199254740993": User(username="Leopo", status="idle", role_color=None),
    }
    await provider.record([complete("8", "x")])
    assert await sql.fetchval("SELECT array_agg(id) FROM members") == [8]


async def test_without_a_unique_index(dsn: str, sql: Connection, begin: Begin) -> None:
    """A table whose rows have no key cannot be recorded to, and the error says why."""
    await sql.execute("ALTER TABLE users DROP CONSTRAINT users_pkey")
    provider = await begin(dsn)
    with pytest.raises(DatabaseError, match="needs a unique index on its id columns"):
        await provider.record([said("7")])


async def test_to_a_query(dsn: str, begin: Begin) -> None:
    """A query is not recorded to."""
    provider = await begin(dsn, users_query="SELECT * FROM users")
    with pytest.raises(DatabaseError, match="nothing can be recorded to a query"):
        await provider.record([said("7")])


@pytest.mark.parametrize("evil", ["'; DROP TABLE users; --", '","\\"};', "{1,2}", "NULL", "\\"])
async def test_injection_by_a_record(dsn: str, sql: Connection, begin: Begin, evil: str) -> None:
    """Ids and names come back as they were given."""
    provider = await begin(dsn)
    uid = evil.replace(" ", "_")
    await provider.record([listed(evil, name=evil), said(uid, User(username=evil), evil)])
    assert await stored(sql) == {(evil, uid): (evil, None, None)}
    users = await provider.users(evil)
    assert users == {uid: User(username=evil, status=None, role_color=None)}


# In the chain


def town() -> ScriptedProvider:
    return ScriptedProvider(
        {"1": Server(name="Plaza", id="plaza", default=True)}, {"1": {"7": ADA, "8": BO}}
    )


@pytest.mark.long
async def test_recorded_through_an_outage(
    dsn: str, sql: Connection, serve: Serve, join: Join, until: Until
) -> None:
    """What the source above said is what clients see when it is away; its outage erases nothing
    (R22), and when it is back, so is its state."""
    script = town()
    server = await serve(
        dsn, {"script": script}, order=("script", "postgres"), recorders=("postgres",)
    )
    world = await join(server)
    script.emit(UserChanged(server_id="1", uid="8", status="dnd"))
    await world.until(lambda w: w.users["8"].status == "dnd")
    before = dict(world.users)
    assert script.context is not None
    supervisor = server.live.providers.supervisors["script"]
    supervisor.core = type(supervisor.core)(use="script", grace=type(supervisor.core.grace)(0.05))
    script.servers_answer = script.users_answers["1"] = RuntimeError("away")
    script.context.degraded("away")
    feed = server.live.servers["1"].resolver
    await until(lambda: "postgres" in feed.layers.in_use)
    assert "script" not in feed.layers.in_use
    assert (
        world.users
        == before
        == {
            "7": EffectiveUser("7", "Ada", "online", "#ff6b6b"),
            "8": EffectiveUser("8", "Bo", "dnd", "#4ecdc4"),
        }
    )
    # The fallback is live meanwhile.
    await sql.execute("UPDATE users SET status = 'idle' WHERE user_id = '7'")
    await world.until(lambda w: w.users["7"].status == "idle")
    script.servers_answer = {"1": Server(name="Plaza", id="plaza", default=True)}
    script.users_answers["1"] = {"7": ADA}
    script.context.recovered()
    await world.until(lambda w: set(w.users) == {"7"})
    assert world.users["7"].status == "online"

    async def settled() -> bool:
        return set(await stored(sql)) == {("1", "7")}

    await until(settled)


async def test_a_database_that_is_away_loses_nothing(
    cluster: Cluster, dsn: str, serve: Serve, join: Join, until: Until
) -> None:
    """What is said while the database is down is stored when it is up again."""
    script = town()
    server = await serve(
        dsn, {"script": script}, order=("script", "postgres"), recorders=("postgres",)
    )
    world = await join(server)
    cluster.kill()
    script.emit(UserChanged(server_id="1", uid="9", username="Cy", status="online"))
    await world.until(lambda w: "9" in w.users)
    await cluster.start()
    connection = await asyncpg.connect(dsn)

    async def settled() -> bool:
        return set(await stored(connection)) == {("1", "7"), ("1", "8"), ("1", "9")}

    await until(settled)
    connection.terminate()


class Heard:
    """Passes on what a live state hears of its providers, and notes who said it."""

    def __init__(self, server: WebSocketServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self._hear = server.live.reports.on_event
        monkeypatch.setattr(server.live.reports, "on_event", self)

    def __call__(self, name: str, event: Event) -> None:
        self.names.append(name)
        self._hear(name, event)


async def test_own_writes_are_no_echo(
    dsn: str,
    sql: Connection,
    serve: Serve,
    join: Join,
    until: Until,
    *,
    fetches: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the source above is in use, what is recorded comes back neither as a query nor as
    an event, nor as a frame of a client."""
    script = town()
    server = await serve(
        dsn, {"script": script}, order=("script", "postgres"), recorders=("postgres",)
    )
    world = await join(server)
    heard = Heard(server, monkeypatch)
    for number in range(100):
        uid = str(100 + number)
        script.emit(UserChanged(server_id="1", uid=uid, username="Cy", status="online"))

    async def all_stored() -> bool:
        return len(await stored(sql)) == 102

    await until(all_stored)
    await sql.execute("""SELECT pg_notify('d_back', '["public", "users", null]')""")
    await until(lambda: "postgres" in heard.names)
    assert heard.names.count("postgres") == 1
    assert len(world.users) == 102
    assert world.seq == 100
    assert not [each for each in fetches if '"users"' in each]  # the list of servers is asked


async def test_a_merged_layer_is_what_the_table_holds(dsn: str, serve: Serve, join: Join) -> None:
    """With both in use at once, what is recorded settles: a user whom the source takes back goes,
    and does not come again from the memory."""
    script = town()
    server = await serve(
        dsn,
        {"script": script},
        order=("script", "postgres"),
        recorders=("postgres",),
        mode="merge",
    )
    world = await join(server)
    for _ in range(3):
        script.emit(UserChanged(server_id="1", uid="9", username="Cy", status="online"))
        await world.until(lambda w: "9" in w.users)
        script.emit(UserRemoved(server_id="1", uid="9"))
        await world.until(lambda w: "9" not in w.users)
    assert set(world.users) == {"7", "8"}


async def test_two_processes_share_a_memory(
    dsn: str, serve: Serve, join: Join, until: Until
) -> None:
    """What one records reaches the clients of another that reads, live."""
    script = town()
    await serve(dsn, {"script": script}, order=("script", "postgres"), recorders=("postgres",))
    reader = await serve(dsn)
    await until(lambda: "1" in reader.live.server_list.servers)
    world = await join(reader)
    await world.until(lambda w: set(w.users) == {"7", "8"})
    script.emit(UserChanged(server_id="1", uid="7", status="dnd"))
    await world.until(lambda w: w.users["7"].status == "dnd")
