"""What a recorder stores, and what is shown of it in the chain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlite_files import (
    ADA,
    COLUMNS,
    complete,
    execute,
    listed,
    make,
    said,
    shown,
    stored,
    town,
)

from d_back_core import (
    UNSET,
    Change,
    Event,
    Reload,
    Server,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_core.models import EffectiveUser
from d_back_sqlite.changes import CHECK_INTERVAL
from d_back_testing import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Begin, Join, Serve, Until


async def test_extra_texts_are_stored_and_returned(path: Path, begin: Begin) -> None:
    """As a JSON object; a record without them clears them."""
    provider = await begin(path)
    user = User(username="Ada", extra={"mood": "fine", "avatar": "https://example.org/é"})
    await provider.record([listed(), said("7", user), said("8")])
    users = await provider.users("1") or {}
    assert users["7"].extra == user.extra
    assert users["8"].extra is UNSET
    await provider.record([said("7", User(username="Ada"))])
    users = await provider.users("1") or {}
    assert users["7"].extra is UNSET


async def test_what_is_said_is_stored(path: Path, begin: Begin) -> None:
    """Servers and users become rows, with NULL for what is not set; a second time changes
    nothing."""
    provider = await begin(path)
    changes: list[Change] = [listed(default=True), said("7"), said("8", User(status="idle"))]
    for _ in range(2):
        await provider.record(changes)
        assert stored(path) == {
            ("1", "7"): ("Ada", "online", "#ff6b6b"),
            ("1", "8"): (None, "idle", None),
        }
        assert execute(path, "SELECT * FROM servers")[0][:6] == ("1", "Plaza", None, 1, None, "p")
    await provider.record([said("7", User(username="Eve")), UserRemoved(server_id="1", uid="8")])
    assert stored(path) == {("1", "7"): ("Eve", None, None)}
    assert await provider.users("1") == {
        "7": User(username="Eve", status=None, role_color=None),
    }


async def test_what_is_not_said_opens_no_server(path: Path, begin: Begin) -> None:
    """A recorded server keeps passworded and enabled until a record has them."""
    make(path, "INSERT INTO servers VALUES ('1', 'Old', 1, 1, 0, NULL, NULL)")
    provider = await begin(path)
    await provider.record([listed()])
    query = "SELECT name, passworded, is_default, enabled FROM servers"
    assert execute(path, query) == [("Plaza", 1, None, 0)]
    await provider.record([listed(passworded=False, enabled=True)])
    assert execute(path, query) == [("Plaza", 0, None, 1)]


async def test_a_snapshot_removes_whatever_else_is_remembered(path: Path, begin: Begin) -> None:
    """Of that server only, and with a server all of its users go."""
    provider = await begin(path)
    users = [said(uid, server_id=server) for server in ("1", "2") for uid in ("7", "8", "9")]
    await provider.record([listed("1"), listed("2"), *users])
    await provider.record([complete("7", "9"), UserRemoved(server_id="1", uid="9")])
    assert set(stored(path)) == {("1", "7"), ("2", "7"), ("2", "8"), ("2", "9")}
    await provider.record([complete("1", server_id=None)])
    assert set(stored(path)) == {("1", "7")}
    assert execute(path, "SELECT server_id FROM servers") == [("1",)]
    await provider.record([ServerRemoved(server_id="1")])
    assert stored(path) == {}
    assert execute(path, "SELECT * FROM servers") == []


async def test_a_snapshot_follows_the_order(path: Path, begin: Begin) -> None:
    """What comes behind it is stored, what came before it and is not in it is gone."""
    provider = await begin(path)
    await provider.record([said("7"), said("8"), complete("8"), said("9")])
    assert set(stored(path)) == {("1", "8"), ("1", "9")}


async def test_rows_of_the_operators_own_stay(path: Path, begin: Begin) -> None:
    """Rows that no recorder wrote have no last_seen, and no Snapshot removes them."""
    make(
        path,
        "INSERT INTO servers (server_id) VALUES ('own');"
        "INSERT INTO users (server_id, user_id) VALUES ('1', 'own')",
    )
    provider = await begin(path)
    await provider.record([listed("1"), listed("2"), said("7"), said("8")])
    await provider.record([complete("7"), complete("1", server_id=None)])
    assert set(stored(path)) == {("1", "own"), ("1", "7")}
    assert execute(path, "SELECT server_id FROM servers ORDER BY 1") == [("1",), ("own",)]
    await provider.record([UserRemoved(server_id="1", uid="own")])
    assert set(stored(path)) == {("1", "7")}


async def test_keep_offline(path: Path, begin: Begin) -> None:
    """With keep_offline those who are gone stay, as offline, by whatever change they go."""
    provider = await begin(path, keep_offline=True)
    await provider.record([listed(), said("7"), said("8"), said("9"), said("7", server_id="2")])
    await provider.record([UserRemoved(server_id="1", uid="7"), complete("9")])
    await provider.record([complete("1", server_id=None)])
    statuses = {key: row[1] for key, row in stored(path).items()}
    assert statuses == {
        ("1", "7"): "offline",
        ("1", "8"): "offline",
        ("1", "9"): "online",
        ("2", "7"): "offline",
    }


async def test_last_seen(path: Path, begin: Begin) -> None:
    """It moves while a user is not offline, and stands still from then on."""
    provider = await begin(path)

    async def seen_after(user: User) -> str:
        execute(path, "UPDATE users SET last_seen = '2000' || substr(last_seen, 5)")
        await provider.record([said("7", user)])
        last: str = execute(path, "SELECT last_seen FROM users")[0][0]
        return last

    gone = User(username="Bo", status="offline")
    assert not (await seen_after(ADA)).startswith("2000")
    assert not (await seen_after(ADA)).startswith("2000")
    assert not (await seen_after(gone)).startswith("2000")
    assert (await seen_after(gone)).startswith("2000")


async def test_forget_after(path: Path, begin: Begin, until: Until) -> None:
    """What was seen last before that time is deleted, once an hour, unless it is supplied now;
    rows of the operator's own stay."""
    clock = ManualClock()
    provider = await begin(path, clock=clock, forget_after=86400.0)
    await provider.record([listed("1"), said("7")])
    old = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-2 days')"
    statements = (
        f"UPDATE users SET last_seen = {old}",  # noqa: S608
        f"INSERT INTO servers VALUES ('2', 'Old', 0, 0, 1, 'old', {old})",  # noqa: S608
        f"INSERT INTO users{COLUMNS} VALUES ('1', '8', 'Old', 'offline', NULL, {old})",  # noqa: S608
        f"INSERT INTO users{COLUMNS} VALUES ('1', '9', 'New', 'offline', NULL, '9999')",  # noqa: S608
        f"INSERT INTO users{COLUMNS} VALUES ('1', 'own', 'Own', 'offline', NULL, NULL)",  # noqa: S608
    )
    for statement in statements:
        execute(path, statement)
    following = asyncio.ensure_future(anext(provider.events()))
    await until(following.done, turn=lambda: clock.advance(CHECK_INTERVAL))
    assert following.result() == Reload()
    assert {uid for _, uid in stored(path)} == {"7", "9", "own"}
    assert execute(path, "SELECT server_id FROM servers") == [("1",)]


async def test_recorded_changes_are_events_of_an_own_layer(path: Path, begin: Begin) -> None:
    """In mode merge the layer is in use while it is recorded to: what the core asked for is
    yielded, and nothing of other servers."""
    make(path, "INSERT INTO servers VALUES ('1', 'Plaza', 0, 1, 1, 'plaza', NULL)")
    provider = await begin(path)
    events = provider.events()

    async def yielded(*changes: Change) -> list[Event]:
        await provider.record([*changes, said("marker")])
        found = []
        while (event := await anext(events)) != marker:
            found.append(event)
        return found

    marker = UserChanged(
        server_id="1",
        uid="marker",
        username="Ada",
        status="online",
        role_color="#ff6b6b",
        extra=None,
    )
    await provider.users("1")
    await provider.servers()
    assert await provider.users("2") is None
    assert await yielded(said("7", User(status="dnd"))) == [
        UserChanged(
            server_id="1", uid="7", username=None, status="dnd", role_color=None, extra=None
        )
    ]
    assert await yielded(UserRemoved(server_id="1", uid="7")) == [
        UserRemoved(server_id="1", uid="7")
    ]
    assert await yielded(UserRemoved(server_id="1", uid="7"), complete("marker")) == []
    assert await yielded(said("7", server_id="3")) == []
    assert await yielded(said("7", server_id="2")) == [Reload(server_id="2")]
    await provider.record([said("8"), complete("marker")])
    assert await anext(events) == UserRemoved(server_id="1", uid="8")


async def test_too_many_events_become_a_reload(path: Path, begin: Begin) -> None:
    """Events that nothing takes are not kept without bound."""
    provider = await begin(path)
    await provider.record([listed()])
    await provider.users("1")
    await provider.record([said(str(number)) for number in range(1500)])
    assert await anext(provider.events()) == Reload()


@pytest.mark.parametrize("evil", ["'; DROP TABLE users; --", '"', "NULL", "\\", "%", "A\x00da"])
async def test_injection_by_a_record(path: Path, begin: Begin, evil: str) -> None:
    """Ids and names come back as they were given."""
    provider = await begin(path)
    await provider.record([listed(evil, name=evil), said(evil, User(username=evil), evil)])
    servers = await provider.servers()
    assert servers is not None
    assert servers[evil].name == evil
    assert await provider.users(evil) == {evil: User(username=evil, status=None, role_color=None)}


# In the chain


@pytest.mark.long
async def test_r22_recorded_through_an_outage(
    path: Path, serve: Serve, join: Join, until: Until
) -> None:
    """What the source above supplied is what clients see when it is away; its outage erases
    nothing, rows may be changed by hand meanwhile, and when it is back, so is its state."""
    script = town()
    server = await serve(
        path, {"script": script}, order=("script", "sqlite"), recorders=("sqlite",)
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
    await until(lambda: "sqlite" in feed.layers.in_use)
    assert world.users == before
    assert before["8"] == EffectiveUser("8", "Bo", "dnd", "#4ecdc4")
    execute(path, "UPDATE users SET status = 'idle' WHERE user_id = '7'")
    await world.until(lambda w: w.users["7"].status == "idle")
    script.servers_answer = {"1": Server(name="Plaza", id="plaza", default=True)}
    script.users_answers["1"] = {"7": ADA}
    script.context.recovered()
    await world.until(lambda w: set(w.users) == {"7"})
    assert world.users["7"].status == "online"
    await until(lambda: shown(path) == world.users)


async def test_a_restart_without_the_source(path: Path, serve: Serve, join: Join) -> None:
    """A gateway that starts while the source is away shows the last world."""
    script = town()
    server = await serve(
        path, {"script": script}, order=("script", "sqlite"), recorders=("sqlite",)
    )
    before = dict((await join(server)).users)
    await server.stop()
    away = town()
    away.servers_answer = away.users_answers["1"] = RuntimeError("away")
    server = await serve(path, {"script": away}, order=("script", "sqlite"), recorders=("sqlite",))
    world = await join(server)
    assert world.users == before
    assert {user.username for user in before.values()} == {"Ada", "Bo"}


async def test_a_merged_layer_is_what_the_table_holds(
    path: Path, serve: Serve, join: Join
) -> None:
    """With both in use at once, what is recorded settles: a user whom the source removes goes, and
    does not return from the memory."""
    script = town()
    server = await serve(
        path,
        {"script": script},
        order=("script", "sqlite"),
        recorders=("sqlite",),
        mode="merge",
    )
    world = await join(server)
    for _ in range(3):
        script.emit(UserChanged(server_id="1", uid="9", username="Cy", status="online"))
        await world.until(lambda w: "9" in w.users)
        script.emit(UserRemoved(server_id="1", uid="9"))
        await world.until(lambda w: "9" not in w.users)
    assert set(world.users) == {"7", "8"}


@pytest.mark.parametrize(
    ("column", "value", "visible", "protected"),
    [
        ("enabled", "0", False, False),
        ("enabled", "'perhaps'", False, False),
        ("enabled", "'t'", True, False),
        ("passworded", "'perhaps'", True, True),
        ("passworded", "1", True, True),
        ("passworded", "NULL", True, False),
    ],
)
async def test_r5_flags_of_any_kind(
    path: Path,
    serve: Serve,
    until: Until,
    *,
    column: str,
    value: str,
    visible: bool,
    protected: bool,
) -> None:
    """A guard that cannot be read fails closed."""
    make(path, "INSERT INTO servers (server_id, name) VALUES ('1', 'Plaza'), ('2', 'Garden')")
    execute(path, f"UPDATE servers SET {column} = {value} WHERE server_id = '1'")  # noqa: S608
    server = await serve(path)
    await until(lambda: "2" in server.live.server_list.servers)
    servers = server.live.server_list.servers
    assert ("1" in servers) is visible
    assert not visible or servers["1"].passworded is protected


async def test_values_that_are_not_valid(path: Path, serve: Serve, join: Join) -> None:
    """They count as not supplied."""
    make(
        path,
        "INSERT INTO servers (server_id, name, is_default) VALUES ('1', 'Plaza', 1);"  # noqa: S608
        f"INSERT INTO users{COLUMNS} VALUES ('1', '7', x'00ff', 'sleeping', 'red', NULL),"
        " ('1', 'a b', 'Ada', 'online', NULL, NULL), (1, 8, 9, 'idle', '#000000', NULL)",
    )
    world = await join(await serve(path))
    assert world.users == {
        "7": EffectiveUser("7", "7", "offline", "#ffffff"),
        "8": EffectiveUser("8", "9", "idle", "#000000"),
    }
