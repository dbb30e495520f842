"""The client: what it folds, what it tells, and what it raises."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
from msgspec import UNSET, UnsetType
from websockets.asyncio.server import ServerConnection, serve

from d_back_core import (
    DBackError,
    JoinError,
    Message,
    Server,
    ServerChanged,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_core.client import FIRST_WAIT, ClientWorld, Listener, connect
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.models import EffectiveUser
from d_back_core.wire import protocol
from d_back_testing import ScriptedProvider

ADA = EffectiveUser("7", "Ada", "online", "#ff6b6b")
BO = EffectiveUser("8", "Bo", "offline", "#ffffff")


def town(client_id: str | UnsetType = UNSET) -> ScriptedProvider:
    return ScriptedProvider(
        {
            "1": Server(name="Plaza", id="plaza", default=True, client_id=client_id),
            "2": Server(name="Garden"),
            "3": Server(name="Vault", passworded=True),
        },
        {
            "1": {
                "7": User(username="Ada", status="online", role_color="#ff6b6b"),
                "8": User(username="Bo"),
            },
            "2": {},
            "3": {},
        },
    )


VAULT = {"3": {"password": "pw"}}


def serving(
    provider: ScriptedProvider, port: int = 0, tables: Mapping[str, Any] = VAULT
) -> WebSocketServer:
    table = {"gateway": {"port": port}, "chain": {"order": ["a"]}, "servers": tables}
    return WebSocketServer(config=parse(table), providers={"a": provider})


async def soon(waiting: Awaitable[object]) -> None:
    """Return when that does, or fail."""
    async with asyncio.timeout(60):
        await waiting


# What it folds


async def test_a_join_is_the_world() -> None:
    """Entering the block joins the default server: its users, ids, and the list of servers."""
    async with serving(town("99")) as server, connect(server.url) as world:
        assert world.users == {"7": ADA, "8": BO}
        assert (world.public_id, world.name, world.client_id) == ("plaza", "Plaza", "99")
        assert (world.seq, world.joins, world.close_code) == (0, 1, None)
        assert [each.id for each in world.servers.values()] == ["plaza", "garden", "vault"]


@pytest.mark.parametrize("wanted", ["garden", "2"])
async def test_a_server_can_be_named(wanted: str) -> None:
    """By either id."""
    async with serving(town()) as server, connect(server.url, wanted) as world:
        assert (world.public_id, world.client_id) == ("garden", None)


async def test_changes_are_folded_in() -> None:
    """Users come, change and go, and the number goes along."""
    provider = town()
    async with serving(provider) as server, connect(server.url) as world:
        provider.emit(
            UserChanged(server_id="1", uid="9", username="Cy"),
            UserChanged(server_id="1", uid="7", status="dnd"),
            UserChanged(server_id="1", uid="7", role_color="#000000"),
            UserRemoved(server_id="1", uid="8"),
            Message(server_id="1", uid="7", message="hi", channel="5"),
        )
        await soon(world.until(lambda world: world.seq == 5))
        assert world.users == {
            "7": EffectiveUser("7", "Ada", "dnd", "#000000"),
            "9": EffectiveUser("9", "Cy", "offline", "#ffffff"),
        }


async def test_the_list_and_the_client_id_are_kept_current() -> None:
    """Also what is not of the sequence is folded."""
    provider = town()
    async with serving(provider) as server, connect(server.url) as world:
        provider.emit(
            ServerChanged(server_id="2", name="Park"),
            ServerChanged(server_id="1", client_id="98"),
        )
        await soon(world.until(lambda world: world.servers["2"].name == "Park"))
        await soon(world.until(lambda world: world.client_id == "98"))


# What it tells


async def test_until_returns_at_once_where_it_holds() -> None:
    """No frame is needed for what is so already."""
    async with serving(town()) as server, connect(server.url) as world:
        await soon(world.until(lambda world: "7" in world.users))


async def test_until_raises_where_it_can_no_longer_hold() -> None:
    """A connection that has ended brings no more frames."""
    async with serving(town()) as server, connect(server.url, reconnect=False) as world:
        waiting = asyncio.create_task(world.until(lambda world: world.seq == 5))
        await server.stop()
        with pytest.raises(DBackError, match="the connection ended with 1001"):
            await soon(waiting)
        with pytest.raises(DBackError, match="1001"):
            await soon(world.until(lambda world: world.seq == 5))


async def test_events_are_folded_before_they_are_told() -> None:
    """A caller that gets a frame sees the world with it."""
    provider = town()
    async with serving(provider) as server, connect(server.url) as world:
        provider.emit(
            UserChanged(server_id="1", uid="7", status="dnd"),
            Message(server_id="1", uid="7", message="hi", channel="5"),
        )
        told = []
        async with asyncio.timeout(60):
            async for frame in world.events():
                told.append((type(frame), world.users["7"].status))
                if isinstance(frame, protocol.MessageFrame):
                    assert frame.data.message == "hi"
                    break
        assert told[-1] == (protocol.MessageFrame, "dnd")


async def test_every_stream_gets_every_frame_up_to_the_end() -> None:
    """Streams do not take frames from each other, and end behind the last one."""
    provider = town()
    async with serving(provider) as server, connect(server.url, reconnect=False) as world:
        texts: list[list[str]] = [[], []]

        async def listen(heard: list[str]) -> None:
            async for frame in world.events():
                assert isinstance(frame, protocol.MessageFrame)
                heard.append(frame.data.message)

        listening = [asyncio.create_task(listen(heard)) for heard in texts]
        await asyncio.sleep(0)
        said = [str(number) for number in range(20)]
        for text in said:
            provider.emit(Message(server_id="1", uid="7", message=text, channel="5"))
        await server.live.settle()
        await server.stop()
        await soon(asyncio.gather(*listening))
        assert texts == [said, said]


async def test_a_stream_that_lags_behind_loses_nothing() -> None:
    """What was told before the connection ended is still there afterwards."""
    provider = town()
    async with serving(provider) as server, connect(server.url, reconnect=False) as world:
        stream = world.events()
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        for text in ("one", "two", "three"):
            provider.emit(Message(server_id="1", uid="7", message=text, channel="5"))
        await server.live.settle()
        await server.stop()
        await soon(world.until(lambda world: world.close_code))
        async with asyncio.timeout(60):
            frames = [await first, *[frame async for frame in stream]]
        texts = [each.data.message for each in frames if isinstance(each, protocol.MessageFrame)]
        assert texts == ["one", "two", "three"]


async def test_events_of_a_connection_that_has_ended_end() -> None:
    """There are none."""
    async with serving(town()) as server, connect(server.url, reconnect=False) as world:
        await server.stop()
        await soon(world.until(lambda world: world.close_code))
        async with asyncio.timeout(60):
            assert [frame async for frame in world.events()] == []


# What it raises


@pytest.mark.parametrize(
    ("wanted", "password", "code"),
    [
        ("nowhere", None, "unknown_server"),
        ("vault", None, "unauthorized"),
        ("vault", "guess", "unauthorized"),
    ],
)
async def test_a_refused_join_is_raised_with_its_code(
    wanted: str, password: str | None, code: str
) -> None:
    """The code is for programs, the sentence for people."""
    async with serving(town()) as server:
        with pytest.raises(JoinError, match="Discord") as caught:
            await connect(server.url, wanted, password=password).__aenter__()
        assert caught.value.code == code


async def test_without_an_open_server_the_join_is_refused() -> None:
    """As any other, although the connection ends with it."""
    async with serving(ScriptedProvider({})) as server:
        with pytest.raises(JoinError) as caught:
            await connect(server.url).__aenter__()
        assert caught.value.code == "no_server"


async def test_credentials_are_offered() -> None:
    """The password lets in; the token reaches the provider."""
    provider = town()
    async with serving(provider) as server:
        async with connect(server.url, "vault", password="pw") as world:
            assert world.public_id == "vault"
        with pytest.raises(JoinError):
            await connect(server.url, "vault", discord_token="tok").__aenter__()
        assert [credentials.discord_token for credentials, _ in provider.offered] == ["tok"]


@pytest.mark.parametrize(
    ("password", "opened"), [("pw", "vault"), ("word", "garden"), ("guess", None)]
)
async def test_a_password_opens_its_server_and_no_other(password: str, opened: str | None) -> None:
    """Neither one with another password, nor one that requires a login; a refused client may try
    again."""
    servers = {
        "2": Server(name="Garden"),
        "3": Server(name="Vault"),
        "4": Server(name="Club", passworded=True),
    }
    provider = ScriptedProvider(servers, {server_id: {} for server_id in servers})
    tables = {"3": {"password": "pw"}, "2": {"password": "word"}}
    async with serving(provider, tables=tables) as server:
        for wanted in ("vault", "garden", "club"):
            if wanted == opened:
                async with connect(server.url, wanted, password=password) as world:
                    assert world.public_id == wanted
                continue
            with pytest.raises(JoinError) as caught:
                await connect(server.url, wanted, password=password).__aenter__()
            assert caught.value.code == "unauthorized"


async def test_who_cannot_be_reached_is_an_os_error() -> None:
    """As `websockets` raises it."""
    async with serving(town()) as server:
        url = server.url
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await connect(url).__aenter__()


# Gateways that are not as they should be

Acting: TypeAlias = Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]
LIST: dict[str, Any] = {"type": "server-list", "data": {}}
CY = {"uid": "9", "username": "Cy", "status": "dnd", "roleColor": "#000000"}
JOIN: dict[str, Any] = {
    "type": "server-join",
    "data": {"users": {}, "request": {"server": "x"}, "serverName": "X", "epoch": "e", "seq": 3},
}


def presence(seq: int, **fields: object) -> dict[str, Any]:
    return {
        "type": "presence",
        "server": "1",
        "seq": seq,
        "data": {"uid": "7", "status": "idle", **fields},
    }


@asynccontextmanager
async def acting(act: Acting) -> AsyncIterator[str]:
    """The URL of a gateway that greets, and then does what the test wants."""

    async def handle(connection: ServerConnection) -> None:
        await connection.send(json.dumps(LIST))
        await act(connection, json.loads(await connection.recv()))
        await connection.wait_closed()

    async with serve(handle, "localhost", 0) as server:
        yield f"ws://localhost:{server.sockets[0].getsockname()[1]}"


async def say(connection: ServerConnection, *frames: dict[str, Any]) -> None:
    for frame in frames:
        await connection.send(json.dumps(frame))


@pytest.mark.parametrize("seq", [2, 5, 100])
async def test_a_gap_in_the_sequence_is_raised(seq: int) -> None:
    """A copy of the world that has missed something must not be believed."""
    new = presence(seq, username="Ada", roleColor="#000000")

    async def act(connection: ServerConnection, _: object) -> None:
        await say(connection, JOIN, new)

    async with acting(act) as url:
        with pytest.raises(DBackError, match=f"{seq} after 3"):
            async with connect(url) as world:
                await soon(world.until(lambda world: world.close_code))


async def test_a_user_who_was_never_introduced_is_raised() -> None:
    """There is nothing to show of it."""

    async def act(connection: ServerConnection, _: object) -> None:
        await say(connection, JOIN, presence(4))

    async with acting(act) as url:
        with pytest.raises(DBackError, match="lacks name or color: 7"):
            async with connect(url) as world:
                await soon(world.until(lambda world: world.close_code))


async def test_unknown_frames_and_fields_are_ignored() -> None:
    """A later gateway may say more than this client knows."""
    novel = {"type": "novelty", "data": {"seq": 77}}
    new = presence(4, username="Ada", roleColor="#000000", later={"x": 1})

    async def act(connection: ServerConnection, _: object) -> None:
        await say(connection, novel, JOIN | {"later": 5}, novel, new)

    async with acting(act) as url, connect(url) as world:
        await soon(world.until(lambda world: world.seq == 4))
        assert [*world.users] == ["7"]


async def test_a_lost_connection_goes_on_where_it_was() -> None:
    """The next one asks to resume from the last number, and the world has what was missed."""
    asked = []

    async def act(connection: ServerConnection, connect_frame: dict[str, Any]) -> None:
        asked.append(connect_frame["data"].get("resume"))
        new = presence(4, username="Ada", roleColor="#000000")
        if len(asked) == 1:
            await say(connection, JOIN, new)
            await connection.close(1001)
        else:
            resumed = {"type": "resumed", "server": "1", "epoch": "e", "seq": 5}
            await say(connection, resumed, presence(5))

    async with acting(act) as url, connect(url) as world:
        await soon(world.until(lambda world: world.seq == 5))
        assert asked == [None, {"epoch": "e", "seq": 4}]
        assert (world.joins, world.resumes, world.users["7"].status) == (1, 1, "idle")


@pytest.mark.parametrize(("code", "reconnect"), [(1008, True), (1000, True), (1001, False)])
async def test_some_ends_are_final(code: int, *, reconnect: bool) -> None:
    """Who was told to go does not come again, nor who does not want to."""
    connections = 0

    async def act(connection: ServerConnection, _: object) -> None:
        nonlocal connections
        connections += 1
        await say(connection, JOIN)
        await connection.close(code)

    async with acting(act) as url, connect(url, reconnect=reconnect) as world:
        await soon(world.until(lambda world: world.close_code))
        assert (world.close_code, connections) == (code, 1)


async def test_a_gateway_that_started_anew_is_joined_anew() -> None:
    """Its worlds have other epochs: the snapshot replaces the copy."""
    connections = 0
    again = {**JOIN["data"], "epoch": "f", "seq": 0, "users": {"9": CY}}

    async def act(connection: ServerConnection, _: object) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await say(connection, JOIN, presence(4, username="Ada", roleColor="#000000"))
            await connection.close(1001)
        await say(connection, JOIN | {"data": again})

    async with acting(act) as url, connect(url) as world:
        await soon(world.until(lambda world: world.epoch == "f"))
        assert (world.joins, world.seq, [*world.users]) == (2, 0, ["9"])


async def test_a_connection_that_is_lost_again_at_once_is_made_again() -> None:
    """Also where it ends before the join was answered; the last close code is what counts."""
    connections = 0

    async def act(connection: ServerConnection, _: object) -> None:
        nonlocal connections
        connections += 1
        if connections != 2:
            await say(connection, JOIN)
        await connection.close(1008 if connections == 3 else 1001)

    async with acting(act) as url, connect(url) as world:
        await soon(world.until(lambda world: world.close_code))
        assert (connections, world.joins, world.close_code) == (3, 2, 1008)


def test_a_world_begins_empty() -> None:
    """Nothing is known before the first frame."""
    world = ClientWorld()
    assert (world.servers, world.users, world.seq, world.joins) == ({}, {}, 0, 0)


# Who listens


class Ear(Listener):
    """Remembers what it hears, and how the world was then."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int] | tuple[str, int | None]] = []

    def received(self, frame: bytes, world: ClientWorld) -> None:
        self.heard.append((json.loads(frame)["type"], world.seq))

    def lost(self, code: int | None) -> None:
        self.heard.append(("lost", code))


async def test_a_listener_hears_everything_before_it_is_folded() -> None:
    """From the first frame on, losses included."""
    connections = 0

    async def act(connection: ServerConnection, _: object) -> None:
        nonlocal connections
        connections += 1
        await say(connection, JOIN, presence(4, username="Ada", roleColor="#000000"))
        await connection.close(1001 if connections == 1 else 1000)

    ear = Ear()
    async with acting(act) as url, connect(url, listener=ear) as world:
        await soon(world.until(lambda world: world.close_code))
    once = [("server-list", 0), ("server-join", 0), ("presence", 3)]
    again = [("server-list", 4), ("server-join", 4), ("presence", 3)]
    assert ear.heard == [*once, ("lost", 1001), *again]


async def test_it_says_whether_it_is_connected() -> None:
    """Not while a lost connection is being made again, nor at the end."""
    async with serving(town()) as server, connect(server.url) as world:
        assert world.connected
        port = server.port
        await server.stop()
        await soon(world.until(lambda world: not world.connected))
        assert world.close_code is None
        async with serving(town(), port):
            await soon(world.until(lambda world: world.connected))
            assert world.joins == 2
    assert not world.connected


async def test_a_server_that_is_gone_is_waited_for() -> None:
    """It is joined again when it is back."""
    provider = town()
    ear = Ear()
    async with serving(provider) as server, connect(server.url, "plaza", listener=ear) as world:
        provider.emit(ServerChanged(server_id="1", enabled=False))
        await soon(world.until(lambda world: not world.connected))
        assert ear.heard[-1] == ("lost", None)
        await soon(until_refused(server, "unknown_server"))
        provider.emit(ServerChanged(server_id="1", enabled=True))
        await soon(world.until(lambda world: world.connected))
        assert (world.joins + world.resumes, len(world.users)) == (2, 2)


async def until_refused(server: WebSocketServer, code: str) -> None:
    while not server.live.counters.refusals[code]:  # noqa: ASYNC110  it has no event
        await asyncio.sleep(0)


async def test_a_server_that_is_gone_is_the_end_without_reconnecting() -> None:
    """With what the gateway said."""
    provider = town()
    async with serving(provider) as server:
        with pytest.raises(JoinError) as caught:  # noqa: PT012  at the end of the block
            async with connect(server.url, "plaza", reconnect=False) as world:
                provider.emit(ServerChanged(server_id="1", enabled=False))
                await soon(world.until(lambda world: world.close_code))
        assert caught.value.code == "gone"


async def test_a_server_that_became_protected_is_the_end() -> None:
    """Trying again would not help."""
    provider = town()
    async with serving(provider) as server:
        with pytest.raises(JoinError) as caught:  # noqa: PT012  at the end of the block
            async with connect(server.url, "plaza") as world:
                provider.emit(ServerChanged(server_id="1", passworded=True))
                await soon(world.until(lambda world: world.close_code))
        assert caught.value.code == "unauthorized"


async def test_a_gateway_that_lets_nobody_in_any_more_is_the_end() -> None:
    """Also where it has restarted meanwhile: a wrong password is not tried for ever."""
    refusal = {"type": "error", "data": {"message": "no", "code": "unauthorized"}}
    asked = 0

    async def act(connection: ServerConnection, _: object) -> None:
        nonlocal asked
        asked += 1
        await say(connection, JOIN if asked == 1 else refusal)
        if asked == 1:
            await connection.close(1001)

    async with acting(act) as url:
        with pytest.raises(JoinError, match="no"):
            async with connect(url) as world:
                await soon(world.until(lambda world: world.close_code))
    assert asked == 2


async def test_what_is_no_json_is_raised() -> None:
    """It is no gateway."""

    async def act(connection: ServerConnection, _: object) -> None:
        await say(connection, JOIN)
        await connection.send("hello")

    async with acting(act) as url:
        with pytest.raises(DBackError, match="not a frame of d-back"):
            async with connect(url) as world:
                await soon(world.until(lambda world: world.close_code))


async def test_a_gateway_that_sends_away_at_once_is_not_asked_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is a wait before each connection that is made again."""
    waits = []
    sleep = asyncio.sleep

    async def slept(seconds: float, *result: object) -> None:
        waits.append(seconds)
        await sleep(seconds, *result)

    def chosen(least: float, most: float) -> float:
        return least + most / 64

    connections = 0

    async def act(connection: ServerConnection, _: object) -> None:
        nonlocal connections
        connections += 1
        await say(connection, JOIN)
        await connection.close(1001 if connections < 4 else 1000)

    monkeypatch.setattr(asyncio, "sleep", slept)
    monkeypatch.setattr(random, "uniform", chosen)
    async with acting(act) as url, connect(url) as world:
        await soon(world.until(lambda world: world.close_code))
    assert (connections, waits.count(FIRST_WAIT / 64)) == (4, 3)


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy", "socks_proxy"])
async def test_a_proxy_of_the_environment_does_not_touch_loopback(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client connects, although nothing listens where the proxy should be."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    scheme = "http" if variable == "http_proxy" else "socks5"
    monkeypatch.setenv(variable, f"{scheme}://127.0.0.1:9")
    async with serving(town()) as server, connect(server.url) as world:
        assert world.name == "Plaza"


async def test_a_proxy_that_cannot_be_used_is_an_error_of_d_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A SOCKS proxy needs a package that is not installed; another host is not reached."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("socks_proxy", "socks5://127.0.0.1:9")
    with pytest.raises((DBackError, OSError)):
        async with connect("ws://192.0.2.1:9"):
            pass
