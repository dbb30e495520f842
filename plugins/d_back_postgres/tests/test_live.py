"""Changes of rows reach clients that are connected."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from d_back_core import Reload, ServerChanged, ServerRemoved, User, UserChanged, UserRemoved
from d_back_core.models import EffectiveUser
from d_back_postgres.pending import MAX_SERVERS, MAX_USERS, Pending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from conftest import Begin, Connection, Health, Join, Serve, Until

    from d_back_core import Event
    from d_back_postgres import PostgresProvider

PATIENCE = 60.0


class Stream:
    """The events of a provider, one after the other."""

    def __init__(self, provider: PostgresProvider) -> None:
        self._events: AsyncIterator[Event] = provider.events()

    async def next(self) -> Event:
        async with asyncio.timeout(PATIENCE):
            return await anext(self._events)

    async def so_far(self, sql: Connection) -> list[Event]:
        """What comes of all that was committed so far."""
        events = []
        for server_id in ("first-mark", "second-mark"):
            # What is notified together with the first mark may come behind it, but not behind the
            # second, which is another change.
            await sql.execute("INSERT INTO servers (server_id) VALUES ($1)", server_id)
            while not is_of(event := await self.next(), server_id):
                events.append(event)
        return events


def is_of(event: Event, server_id: str) -> bool:
    return isinstance(event, ServerChanged) and event.server_id == server_id


@pytest.mark.usefixtures("plaza")
async def test_inserts_updates_and_deletes(
    dsn: str, sql: Connection, serve: Serve, join: Join
) -> None:
    """Each reaches the client as it is committed."""
    world = await join(await serve(dsn))
    await sql.execute("INSERT INTO users VALUES ('1', '9', 'Cy', 'dnd', '#ffffff')")
    await world.until(lambda w: w.users.get("9") == EffectiveUser("9", "Cy", "dnd", "#ffffff"))
    await sql.execute("UPDATE users SET status = 'idle', username = NULL WHERE user_id = '7'")
    await world.until(lambda w: w.users["7"] == EffectiveUser("7", "7", "idle", "#ff6b6b"))
    await sql.execute("DELETE FROM users WHERE user_id = '8'")
    await world.until(lambda w: "8" not in w.users)
    await sql.execute("UPDATE users SET user_id = '70' WHERE user_id = '7'")
    await world.until(lambda w: "7" not in w.users and "70" in w.users)
    await sql.execute("TRUNCATE users")
    await world.until(lambda w: not w.users)


@pytest.mark.usefixtures("plaza")
async def test_nothing_before_the_commit(dsn: str, sql: Connection, begin: Begin) -> None:
    """What is rolled back was never there."""
    provider = await begin(dsn)
    await provider.servers()
    await provider.users("1")
    stream = Stream(provider)
    await sql.execute("BEGIN; DELETE FROM users; ROLLBACK")
    assert await stream.so_far(sql) == []


@pytest.mark.usefixtures("plaza")
async def test_servers_come_go_and_change(
    dsn: str, sql: Connection, serve: Serve, join: Join
) -> None:
    """The list of servers is live, and so is a server that is disabled and enabled again."""
    world = await join(await serve(dsn))
    await sql.execute("INSERT INTO servers VALUES ('2', 'Garden', false, false, true, 'garden')")
    await world.until(lambda w: "2" in w.servers)
    await sql.execute("UPDATE servers SET name = 'Park' WHERE server_id = '2'")
    await world.until(lambda w: w.servers["2"].name == "Park")
    await sql.execute("UPDATE servers SET enabled = false WHERE server_id = '2'")
    await world.until(lambda w: "2" not in w.servers)
    await sql.execute("UPDATE servers SET enabled = true WHERE server_id = '2'")
    await world.until(lambda w: "2" in w.servers)
    await sql.execute("DELETE FROM servers WHERE server_id = '2'")
    await world.until(lambda w: "2" not in w.servers)


async def test_a_server_without_row_gets_its_users(
    dsn: str, sql: Connection, begin: Begin
) -> None:
    """Where the answer was None there is no layer to change: the server is to be fetched."""
    provider = await begin(dsn)
    await provider.servers()
    assert await provider.users("5") is None
    stream = Stream(provider)
    await sql.execute("INSERT INTO users VALUES ('5', '7', 'Ada', 'online', NULL)")
    assert await stream.next() == Reload(server_id="5")
    assert await provider.users("5") == {
        "7": User(username="Ada", status="online", role_color=None)
    }
    await sql.execute("DELETE FROM users")
    assert await stream.next() == Reload(server_id="5")
    assert await provider.users("5") is None


async def test_what_changes_while_none_is_answered_is_not_lost(
    dsn: str, sql: Connection, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users that appear while the first answer, None, is on its way lead to another question."""
    provider = await begin(dsn)
    stream = Stream(provider)
    run = provider._run  # noqa: SLF001
    assert run is not None
    members = run.tables.reading.members

    async def late(server_id: str) -> Any:  # noqa: ANN401
        answer = await members(server_id)
        await sql.execute("INSERT INTO users VALUES ('5', '7', 'Ada', 'online', NULL)")
        assert isinstance(await stream.next(), UserChanged)
        return answer

    monkeypatch.setattr(run.tables.reading, "members", late)
    assert await provider.users("5") is None
    assert await stream.next() == Reload(server_id="5")


@pytest.mark.usefixtures("plaza")
async def test_only_what_counts_is_told(dsn: str, sql: Connection, begin: Begin) -> None:
    """A statement that changes nothing, or only last_seen, or a server that was not asked for, is
    silent."""
    provider = await begin(dsn)
    await provider.servers()
    await provider.users("1")
    stream = Stream(provider)
    await sql.execute("UPDATE users SET username = username")
    await sql.execute("UPDATE users SET last_seen = now()")
    await sql.execute("UPDATE users SET status = 'dnd' WHERE false")
    await sql.execute("INSERT INTO users VALUES ('2', '7', 'Ada')")
    assert await stream.so_far(sql) == []


@pytest.mark.usefixtures("plaza")
@pytest.mark.parametrize("kind", ["jsonb", "text"])
async def test_extra_texts_are_told(dsn: str, sql: Connection, begin: Begin, kind: str) -> None:
    """All of them with each change, none for NULL; what is not an object is refused by the core,
    so what was there before is taken back."""
    await sql.execute(f"ALTER TABLE users ALTER extra TYPE {kind}")
    provider = await begin(dsn)
    await provider.servers()
    await provider.users("1")
    stream = Stream(provider)
    for value, expected in (
        ('{"mood": "fine", "game": "go"}', [{"mood": "fine", "game": "go"}]),
        ('{"mood": "tired"}', [{"mood": "tired"}]),
        ("[1]", [[1], None]),
        (None, [None]),
    ):
        update = f"UPDATE users SET extra = $1::text::{kind} WHERE user_id = '7'"  # noqa: S608
        await sql.execute(update, value)
        for extra in expected:
            event = await stream.next()
            assert isinstance(event, UserChanged)
            assert (event.uid, event.extra) == ("7", extra)


@pytest.mark.usefixtures("plaza")
async def test_tables_without_extra_texts_notify_single_users(
    dsn: str, sql: Connection, begin: Begin
) -> None:
    """A column that is missing does not make a notification say that everything has changed."""
    await sql.execute("ALTER TABLE users DROP extra")
    provider = await begin(dsn)
    await provider.servers()
    await provider.users("1")
    stream = Stream(provider)
    await sql.execute("UPDATE users SET status = 'dnd' WHERE user_id = '7'")
    event = await stream.next()
    assert isinstance(event, UserChanged)
    assert (event.uid, event.status) == ("7", "dnd")


@pytest.mark.usefixtures("plaza")
async def test_events_are_patches_of_rows(dsn: str, sql: Connection, begin: Begin) -> None:
    """NULL takes a field back; a row that is gone is a removal."""
    provider = await begin(dsn)
    await provider.servers()
    await provider.users("1")
    stream = Stream(provider)
    await sql.execute("UPDATE users SET role_color = NULL WHERE user_id = '7'")
    assert await stream.next() == UserChanged(
        server_id="1", uid="7", username="Ada", status="online", role_color=None, extra=None
    )
    await sql.execute("DELETE FROM users WHERE user_id = '7'")
    assert await stream.next() == UserRemoved(server_id="1", uid="7")
    await sql.execute("UPDATE servers SET name = 'Park'")
    changed = await stream.next()
    assert isinstance(changed, ServerChanged)
    assert changed.name == "Park"
    await sql.execute("DELETE FROM servers")
    assert await stream.next() == ServerRemoved(server_id="1")
    assert await stream.next() == Reload(server_id="1")


@pytest.mark.usefixtures("plaza")
async def test_odd_values_do_not_leave_former_ones(
    dsn: str, sql: Connection, serve: Serve, join: Join
) -> None:
    """A row whose values turn odd says nothing any more, live as after a new start."""
    server = await serve(dsn)
    world = await join(server)
    await sql.execute(
        "UPDATE users SET username = ' ', status = 'sleeping', role_color = 'red'"
        " WHERE user_id = '7'"
    )
    await world.until(lambda w: w.users["7"].status == "offline")
    await sql.execute("UPDATE servers SET name = '', public_id = 'a b'")
    await world.until(lambda w: w.servers["1"].name == "1")
    assert world.users["7"] == EffectiveUser("7", "7", "offline", "#ffffff")
    assert (await join(server)).users == world.users


async def test_a_bulk_update_is_one_refetch(
    dsn: str, sql: Connection, serve: Serve, join: Join, fetches: list[str]
) -> None:
    """10,000 rows that one statement changes are fetched by one query."""
    await sql.execute("INSERT INTO servers VALUES ('1', 'Plaza')")
    await sql.execute(
        "INSERT INTO users SELECT '1', n::text, 'user' || n, 'online'"
        " FROM generate_series(1, 10000) n"
    )
    world = await join(await serve(dsn))
    assert len(world.users) == 10_000
    fetches.clear()
    await sql.execute("UPDATE users SET status = 'dnd'")
    await world.until(lambda w: all(user.status == "dnd" for user in w.users.values()))
    assert len(fetches) == 1


async def test_many_statements_of_one_transaction_are_few_refetches(
    dsn: str, sql: Connection, serve: Serve, join: Join, fetches: list[str]
) -> None:
    """2,000 rows that as many statements change at one commit are not 2,000 queries."""
    await sql.execute("INSERT INTO servers VALUES ('1', 'Plaza')")
    await sql.execute(
        "INSERT INTO users SELECT '1', n::text, 'user' || n, 'online'"
        " FROM generate_series(1, 2000) n"
    )
    world = await join(await serve(dsn))
    fetches.clear()
    async with sql.transaction():
        await sql.execute(
            "DO $$BEGIN FOR n IN 1..2000 LOOP"
            " UPDATE users SET status = 'dnd' WHERE user_id = n::text; END LOOP; END$$"
        )
    await world.until(lambda w: all(user.status == "dnd" for user in w.users.values()))
    assert len(fetches) < 20


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT INTO users SELECT '1', n::text FROM generate_series(1, 100) n", {"1": 100}),
        ("INSERT INTO users SELECT '1', n::text FROM generate_series(1, 101) n", {"1": None}),
        (
            "INSERT INTO users SELECT '1', repeat('x', 200) || n FROM generate_series(1, 50) n",
            {"1": None},
        ),
        (
            "INSERT INTO users SELECT n::text, '7' FROM generate_series(1, 300) n",
            {str(n): 1 for n in range(1, 301)},
        ),
        ("INSERT INTO users SELECT n::text, '7' FROM generate_series(1, 9000) n", None),
        (
            """INSERT INTO users VALUES ('a"b', 'c\\d'), ('ü', '🎲'), (E'\\n', '''')""",
            {'a"b': 1, "ü": 1, "\n": 1},
        ),
        ("TRUNCATE users", None),
    ],
)
async def test_a_notification_is_never_too_long(
    dsn: str, sql: Connection, statement: str, expected: dict[str, int | None] | None
) -> None:
    """Keys while they fit, else whole servers, else everything."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    listening = await asyncpg.connect(dsn)
    await listening.add_listener("d_back", lambda *said: heard.put_nowait(str(said[3])))
    await sql.execute(statement)
    async with asyncio.timeout(PATIENCE):
        payload = await heard.get()
    assert len(payload.encode()) < 8000
    schema, table, keys = json.loads(payload)
    assert (schema, table) == ("public", "users")
    found = keys and {key: uids and len(uids) for key, uids in keys.items()}
    assert found == expected
    listening.terminate()


@pytest.mark.usefixtures("plaza")
async def test_a_renamed_column_does_not_stop_who_writes(
    dsn: str, sql: Connection, begin: Begin, health: Health, until: Until
) -> None:
    """A trigger that does not find its columns any more says that everything changed; then the
    missing column is named, until it is there again."""
    provider = await begin(dsn)
    await provider.servers()
    await provider.users("1")
    following = asyncio.ensure_future(Stream(provider).next())
    await sql.execute("ALTER TABLE users RENAME username TO nick")
    await sql.execute("UPDATE users SET nick = 'Eve'")
    await until(lambda: health.said)
    assert "has no column 'username'" in health.said[0]
    await sql.execute("ALTER TABLE users RENAME nick TO username")
    assert await following == Reload()
    assert health.said[-1] == "recovered"


@pytest.mark.usefixtures("plaza")
@pytest.mark.parametrize(
    "payload",
    [
        "",
        "[]",
        "nonsense",
        '["public", "users", 1]',
        '["public", "cars", null]',
        '["x", "users", null]',
    ],
)
async def test_what_others_notify_is_ignored(
    dsn: str, sql: Connection, begin: Begin, payload: str
) -> None:
    """On the channel anybody may say anything."""
    provider = await begin(dsn)
    await provider.servers()
    stream = Stream(provider)
    await sql.execute("SELECT pg_notify('d_back', $1)", payload)
    assert await stream.so_far(sql) == []


@pytest.mark.usefixtures("plaza")
async def test_a_forged_key_does_no_harm(dsn: str, sql: Connection, begin: Begin) -> None:
    """A key that no row can have is passed over."""
    await sql.execute("ALTER TABLE users ALTER user_id TYPE bigint USING user_id::bigint")
    provider = await begin(dsn)
    await provider.servers()
    await provider.users("1")
    stream = Stream(provider)
    await sql.execute("""SELECT pg_notify('d_back', '["public", "users", {"1": ["x''y"]}]')""")
    assert await stream.so_far(sql) == []


async def test_keys_are_bounded() -> None:
    """More keys of one server than there is room for are the whole server; more servers,
    everything."""
    pending = Pending(("public", "users"), ("public", "servers"))
    for number in range(MAX_USERS + 1):
        pending.notified(json.dumps(["public", "users", {"1": [str(number)]}]))
    batch = await pending.take()
    assert batch is not None
    assert (batch.whole, batch.users, batch.everything) == ({"1"}, {}, False)
    for number in range(MAX_SERVERS + 1):
        pending.notified(json.dumps(["public", "users", {str(number): ["7"]}]))
    batch = await pending.take()
    assert batch is not None
    assert (batch.everything, batch.users) == (True, {})


@pytest.mark.usefixtures("plaza")
async def test_without_triggers_it_polls(
    dsn: str, sql: Connection, serve: Serve, join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    """Tables that init has not touched are polled, and the log says so once."""
    await sql.execute("DROP FUNCTION d_back_notify CASCADE")
    world = await join(await serve(dsn, refresh="50ms"))
    await sql.execute("UPDATE users SET status = 'dnd'")
    await world.until(lambda w: all(user.status == "dnd" for user in w.users.values()))
    said = [record.message for record in caplog.records if "triggers" in record.message]
    assert said == ["the tables have no triggers: changes are polled (d-back postgres init)"]


@pytest.mark.usefixtures("plaza")
async def test_stop_ends_the_stream(dsn: str, begin: Begin, sql: Connection, until: Until) -> None:
    """After stop the stream ends, no task is left and no connection."""
    before = asyncio.all_tasks()
    provider = await begin(dsn)
    events = provider.events()
    waiting = asyncio.ensure_future(anext(events, None))
    await asyncio.sleep(0)
    await provider.stop()
    await provider.stop()
    assert await waiting is None
    assert asyncio.all_tasks() <= before

    async def gone() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'd-back'"
        return bool(await sql.fetchval(query) == 0)

    await until(gone)
