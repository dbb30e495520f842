"""Callbacks and broadcasts: one provider of the chain, whatever a program writes in them."""

import asyncio
import gc
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from peers import Dial, Frame, Peer, news, until

from d_back_core import ConfigError, Server, User, UserChanged, WebSocketServer
from d_back_core.config import parse
from d_back_core.wire.protocol import UNKNOWN_SERVER
from d_back_testing import ManualClock, ScriptedProvider

ADA = {"uid": "7", "username": "Ada", "status": "online", "roleColor": "#5865f2"}
BO = {"uid": "8", "username": "Bo", "status": "idle", "roleColor": "#ffffff"}
CY = {"uid": "9", "username": "Cy", "status": "dnd", "roleColor": "#ffffff"}
MOCK_SERVER = "232769614004748288"
ONE = {"1": {"name": "Plaza", "id": "plaza"}}


def serving(
    users: Callable[..., Any] | None = None,
    servers: Callable[..., Any] | None = None,
    *,
    below: ScriptedProvider | None = None,
    clock: ManualClock | None = None,
    ttl: float = 0,
    **policies: dict[str, Any],
) -> WebSocketServer:
    """A program's server; ``policies`` are by server_id behind an ``s``."""
    table = {
        "gateway": {"port": 0},
        "chain": {"order": ["below"]},
        "servers": {name[1:]: policy for name, policy in policies.items()},
    }
    server = WebSocketServer(
        config=parse(table), providers={"below": below or ScriptedProvider()}, clock=clock
    )
    if users is not None:
        server.on_get_user_data(users, ttl=ttl)
    server.on_get_server_data(servers or (lambda: ONE), ttl=ttl)
    return server


def always(answer: object) -> Callable[..., Any]:
    """A plain callback that says the same to everything."""
    return lambda *_: answer


def told(frames: list[Frame]) -> list[Any]:
    return [frame["data"] for frame in frames if frame["type"] in {"presence", "message"}]


# How a function may be written


def plain(server_id: str) -> dict[str, Any]:
    return {"7": ADA, "8": {**BO, "username": server_id}}


def without_argument() -> dict[str, Any]:
    return plain("1")


async def coroutine(server_id: str) -> dict[str, Any]:
    return plain(server_id)


class Provider:
    def method(self, server_id: str) -> dict[str, Any]:
        return plain(server_id)

    async def __call__(self, server_id: str, *, more: bool = False) -> dict[str, Any]:
        assert not more
        return plain(server_id)


@pytest.mark.parametrize(
    "function",
    [plain, without_argument, coroutine, Provider().method, Provider(), partial(coroutine)],
    ids=["plain", "without-argument", "async", "method", "object", "partial"],
)
async def test_a_callback_is_any_function(function: Callable[..., Any], dial: Dial) -> None:
    """Async and plain ones, methods, objects and partials, with the argument and without."""
    async with serving(function) as server:
        users = (await (await dial(server)).join())["users"]
        assert users == {"7": ADA, "8": {**BO, "username": "1"}}


@pytest.mark.parametrize("form", ["call", "decorator", "decorator with arguments"])
async def test_registering_is_a_call_or_a_decorator(form: str, dial: Dial) -> None:
    """All three forms register, and leave the function as it was."""
    server = serving()
    if form == "call":
        registered: object = server.on_get_user_data(plain)
    elif form == "decorator":
        registered = server.on_get_user_data(plain)
    else:
        registered = server.on_get_user_data(ttl=5, blocking=True)(plain)
    assert registered is plain
    async with server:
        assert set((await (await dial(server)).join())["users"]) == {"7", "8"}


def test_a_function_of_the_wrong_shape_is_refused_at_once() -> None:
    """Registering raises where calling would: arguments, async with blocking, a ttl below 0."""
    server = WebSocketServer()
    with pytest.raises(TypeError, match="must take 0 or 1 positional arguments"):
        server.on_get_user_data(lambda server_id, more: {})  # type: ignore[type-var]  # noqa: ARG005
    with pytest.raises(TypeError, match="is not a function"):
        server.on_get_client_id("100")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="is async: blocking=True is for plain functions"):
        server.on_get_user_data(coroutine, blocking=True)
    with pytest.raises(ValueError, match="ttl '-1': expected seconds"):
        server.on_get_user_data(plain, ttl=-1)


async def test_a_callback_can_be_registered_while_clients_are_joined(dial: Dial) -> None:
    """Once it has been there for as long as any better provider has to be, the world is the
    callback's; who is joined gets the difference."""
    clock = ManualClock()
    below = ScriptedProvider(
        {"1": Server(name="Plaza")}, {"1": {"9": User(username="Cy", status="dnd")}}
    )
    async with WebSocketServer(0, providers={"below": below}, clock=clock) as server:
        peer = await dial(server)
        assert (await peer.join())["users"] == {"9": CY}
        server.on_get_user_data(always({"7": ADA}))
        await server.live.settle()
        await clock.advance(5)
        frames = [await peer.expect("presence"), await peer.expect("presence")]
        assert [frame["data"]["uid"] for frame in frames] == ["9", "7"]


def test_the_name_of_the_callbacks_is_taken() -> None:
    """A provider cannot be called as the callbacks are."""
    with pytest.raises(ConfigError, match="'callbacks' is the name of the server's own provider"):
        WebSocketServer(providers={"callbacks": ScriptedProvider()})


# What it may answer


async def test_r1_an_empty_dictionary_falls_through(dial: Dial) -> None:
    """From a callback, {} is "not available", for a server's users and for the list; an empty
    server in the list is not there."""
    below = ScriptedProvider(
        {"2": Server(name="Below")}, {"2": {"9": User(username="Cy", status="dnd")}}
    )
    nothing: list[Any] = [{}, {"1": {}}, None]
    for empty in nothing:
        async with serving(always({}), always(empty), below=below) as server:
            joined = await (await dial(server)).join()
            assert joined["serverName"] == "Below"
            assert joined["users"] == {"9": CY}


async def test_server_data_has_both_spellings_and_may_be_bare(dial: Dial) -> None:
    """Both default and is_default mean the default, enabled is honoured, ids may be numbers, and
    a server needs no field at all."""
    servers = {
        1: {"name": "One", "is_default": False},
        2: {"name": "Two", "default": True, "id": 22},
        3: {"name": "Three", "enabled": False},
        4: {"passworded": True},
    }
    async with serving(always({7: ADA}), always(servers)) as server:
        peer = await dial(server, greeted=False)
        assert (await peer.expect("server-list"))["data"] == {
            "1": {"id": "one", "name": "One", "passworded": False},
            "2": {"id": "22", "name": "Two", "passworded": False, "default": True},
            "4": {"id": "4", "name": "4", "passworded": True},
        }
        assert (await peer.join())["users"] == {"7": ADA}


async def test_r5_a_bad_value_costs_only_itself(dial: Dial) -> None:
    """A field that is not valid counts as not supplied, a record that is none is left out."""
    users = {"7": {**ADA, "status": "asleep"}, "8": "Bo", "__proto__": CY, "9": {**CY, "uid": 5}}
    async with serving(always(users)) as server:
        joined = await (await dial(server)).join()
        assert joined["users"] == {"7": {**ADA, "status": "offline"}, "9": CY}


async def test_r4_a_uid_that_differs_from_its_key_is_an_error(
    dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    """The key counts; the difference is counted and logged, and a number is no difference."""
    users = {"7": {**ADA, "uid": 7}, 8: BO, "9": {**CY, "uid": "10"}}
    async with serving(always(users)) as server:
        assert (await (await dial(server)).join())["users"] == {"7": ADA, "8": BO, "9": CY}
        counts = server.live.providers.validation_logs["callbacks"].counts
        assert counts == {"users.uid": 1}
    assert "provider callbacks: users.uid: refused '10'" in caplog.text


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        *(("#fff", "#ffffff"), ("#1aF", "#11aaFF"), ("5865f2", "#5865f2"), ("abc", "#aabbcc")),
        *(("Tomato", "#ff6347"), ("rebeccapurple", "#663399"), ("#5865F2", "#5865F2")),
        *(("#ffff", "#ffffff"), ("no colour", "#ffffff"), (5, "#ffffff")),
    ],
)
async def test_colours_may_be_written_as_in_css(written: object, shown: str, dial: Dial) -> None:
    """Short ones, names, and digits without a hash are understood, in broadcasts, too; others
    count as not supplied."""
    async with serving(always({"7": {**ADA, "roleColor": written}})) as server:
        peer = await dial(server)
        assert (await peer.join())["users"]["7"]["roleColor"] == shown
        await server.broadcast_presence("1", "8", "online", role_color=written)  # type: ignore[arg-type]
        assert (await peer.expect("presence"))["data"]["roleColor"] == shown


async def test_invisible_is_offline(dial: Dial) -> None:
    """The status that Discord shows to others is what clients see."""
    async with serving(always({"7": {**ADA, "status": "invisible"}, "8": BO})) as server:
        peer = await dial(server)
        assert (await peer.join())["users"]["7"]["status"] == "offline"
        await server.broadcast_presence("1", "8", "invisible")
        assert (await peer.expect("presence"))["data"] == {"uid": "8", "status": "offline"}


# A callback that fails


@pytest.mark.parametrize("answer", [OSError("lost"), [ADA], "text", {"7": "Ada"}, 5])
async def test_a_failing_callback_leaves_the_joined_their_world(
    answer: object, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    """One that raises or returns nonsense: who is joined keeps the world, who joins that server
    within the grace gets the same one, and who joins another gets the chain's next answer."""
    below = ScriptedProvider(users={"2": {"9": User(username="Cy", status="dnd")}})
    answers: dict[str, Any] = {"now": {"7": ADA}}

    def users(server_id: str) -> Any:  # noqa: ANN401, ARG001
        if isinstance(answers["now"], Exception):
            raise answers["now"]
        return answers["now"]

    servers = always({**ONE, "2": {"name": "Garden"}})
    async with serving(users, servers, below=below, clock=ManualClock()) as server:
        first = await dial(server)
        await first.join("1")
        answers["now"] = answer
        assert (await (await dial(server)).join("1"))["users"] == {"7": ADA}
        assert (await (await dial(server)).join("2"))["users"] == {"9": CY}
        assert told(await news(server, first)) == []
    assert "provider callbacks: users: " in caplog.text


async def test_r7_after_the_grace_the_next_answer_comes_in_exchange(dial: Dial) -> None:
    """A callback that goes on failing loses its layer to the next provider's, as deltas."""
    clock = ManualClock()
    below = ScriptedProvider(users={"1": {"7": User(username="Ada"), "9": User(username="Cy")}})
    answers = [{"7": ADA}]
    async with serving(lambda server_id: answers.pop(), below=below, clock=clock) as server:  # noqa: ARG005
        peer = await dial(server)
        await peer.join("1")
        assert (await (await dial(server)).join("1"))["users"] == {"7": ADA}
        await clock.advance(31)
        assert (await (await dial(server)).join("1"))["users"].keys() == {"7", "9"}
        assert {change["uid"] for change in told(await news(server, peer))} == {"7", "9"}


async def test_a_hanging_callback_delays_a_join_by_its_timeout_once(
    dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    """Who joins meanwhile waits for the time-out, the next one does not wait any more; the log
    names the key that raises the limit."""
    clock, hanging = ManualClock(), asyncio.Event()
    answers: list[Any] = [{"7": ADA}]

    async def users(server_id: str) -> Any:  # noqa: ANN401, ARG001
        if answers:
            return answers.pop()
        hanging.set()
        return await asyncio.Event().wait()

    async with serving(users, clock=clock) as server:
        peer = await dial(server)
        await peer.join("1")
        second = await dial(server)
        await second.ask("1")
        await hanging.wait()
        assert await news(server, peer) == []
        await clock.advance(5)
        assert (await second.expect("server-join"))["data"]["users"] == {"7": ADA}
        assert (await (await dial(server)).join("1"))["users"] == {"7": ADA}
    assert "no answer within 5 s (the limit is providers.callbacks.timeout)" in caplog.text


# How old an answer may be


async def test_joins_at_the_same_time_share_one_call(dial: Dial) -> None:
    """While the callback is being asked, clients that join wait for the same answer, whatever
    happens to other providers."""
    asked, answer, below = [], asyncio.Event(), ScriptedProvider()

    async def users(server_id: str) -> dict[str, Any]:
        asked.append(server_id)
        if len(asked) > 1:
            await answer.wait()
        return {"7": {**ADA, "username": f"Ada {len(asked)}"}}

    async with serving(users, below=below) as server:
        peers = [await dial(server) for _ in range(4)]
        await peers.pop().join()
        for peer in peers:
            await peer.ask()
        await until(lambda: server.live.servers["1"].joining == len(peers))
        assert below.context is not None
        below.context.degraded("lost")
        await server.live.settle()
        answer.set()
        for peer in peers:
            joined = await peer.expect("server-join")
            assert joined["data"]["users"]["7"]["username"] == "Ada 2"
        assert asked == ["1", "1"]


async def test_the_list_is_asked_for_when_a_client_connects(dial: Dial) -> None:
    """A server that is new since the start is in the next client's first list."""
    servers = dict(ONE)
    async with serving(always({"7": ADA}), lambda: servers) as server:
        servers["2"] = {"name": "Garden"}
        peer = await dial(server, greeted=False)
        assert set((await peer.expect("server-list"))["data"]) == {"1", "2"}


async def test_a_client_id_is_asked_for_at_every_join(dial: Dial) -> None:
    """What on_get_client_id says now is what the next join gets, and joined clients receive it."""
    ids = ["200", "100"]
    server = serving(always({"7": ADA}))
    server.on_get_client_id(lambda server_id: ids.pop())  # noqa: ARG005
    async with server:
        first = await dial(server)
        assert (await first.join())["clientId"] == "100"
        assert (await (await dial(server)).join())["clientId"] == "200"
        assert (await first.expect("update-clientid"))["data"] == {"clientId": "200"}


async def test_an_old_client_id_does_not_replace_one_that_was_broadcast(dial: Dial) -> None:
    """A function that returns what it returned before brings no news."""
    server = serving(always({"7": ADA}))
    server.on_get_client_id(always("100"))
    async with server:
        first = await dial(server)
        assert (await first.join())["clientId"] == "100"
        await server.broadcast_client_id_update("1", "200")
        assert (await first.expect("update-clientid"))["data"] == {"clientId": "200"}
        assert (await (await dial(server)).join())["clientId"] == "200"


async def test_r18_joins_at_the_same_time_ask_once_for_the_client_id(dial: Dial) -> None:
    """They share the call."""
    asked, answer = [], asyncio.Event()

    async def client_id(server_id: str) -> str:
        asked.append(server_id)
        await answer.wait()
        return "100"

    server = serving(always({"7": ADA}), ttl=60)
    server.on_get_client_id(client_id)
    async with server:
        peers = [await dial(server) for _ in range(3)]
        for peer in peers:
            await peer.ask()
        await until(lambda: asked)
        for peer in peers:
            await peer.send({"type": "get_server_data"})
            await peer.expect("server_data")
        answer.set()
        for peer in peers:
            assert (await peer.expect("server-join"))["data"]["clientId"] == "100"
        assert asked == ["1"]


async def test_a_broadcast_during_a_call_wins_over_its_answer(dial: Dial) -> None:
    """What is broadcast later is newer than what was asked for earlier."""
    asked, answer = asyncio.Event(), asyncio.Event()
    answers = [{"7": {**ADA, "status": "dnd"}}, {"7": ADA}]

    async def users(server_id: str) -> dict[str, Any]:  # noqa: ARG001
        if len(answers) == 1:
            asked.set()
            await answer.wait()
        return answers.pop()

    async with serving(users) as server:
        await (await dial(server)).join()
        second = await dial(server)
        await second.ask()
        await asked.wait()
        await server.broadcast_presence("1", "7", "idle")
        answer.set()
        joined = await second.expect("server-join")
        assert joined["data"]["users"]["7"]["status"] == "idle"


# Broadcasts


async def test_who_joins_later_sees_what_was_broadcast(dial: Dial) -> None:
    """A change, a new user and a removal stay, although the callback repeats at each join what it
    said before; to the first client nothing comes twice."""
    async with serving(always({"7": ADA, "8": BO})) as server:
        first = await dial(server)
        await first.join()
        await server.broadcast_presence("1", "7", "dnd", role_color="#112233")
        await server.broadcast_presence("1", "9", "dnd", "Cy")
        await server.broadcast_presence("1", "8", "offline", delete=True)
        ada = {**ADA, "status": "dnd", "roleColor": "#112233"}
        for _ in range(2):
            assert (await (await dial(server)).join())["users"] == {"7": ada, "9": CY}
        assert told(await first.pending()) == [
            {"uid": "7", "status": "dnd", "roleColor": "#112233"},
            CY,
            {"uid": "8", "status": "offline", "delete": True},
        ]


async def test_a_callback_with_news_wins_over_an_earlier_broadcast(dial: Dial) -> None:
    """Where the new answer says something else than the last one, it is newer than what was
    broadcast between them."""
    users = {"7": dict(ADA), "8": dict(BO)}
    async with serving(lambda server_id: users) as server:  # noqa: ARG005
        await (await dial(server)).join()
        await server.broadcast_presence("1", "7", "dnd", role_color="#112233")
        await server.broadcast_presence("1", "8", "offline", delete=True)
        users["7"], users["8"] = {**ADA, "status": "idle"}, {**BO, "username": "Bob"}
        assert (await (await dial(server)).join())["users"] == {
            "7": {**ADA, "status": "idle", "roleColor": "#112233"},
            "8": {**BO, "username": "Bob"},
        }


async def test_refresh_data_forgets_what_was_broadcast(dial: Dial) -> None:
    """After it the callback's answer is all that counts, whether it is new or not."""
    async with serving(always({"7": ADA}), ttl=60) as server:
        peer = await dial(server)
        await peer.join()
        await server.broadcast_presence("1", "7", "dnd")
        await server.broadcast_presence("1", "8", "online", "Bo")
        await server.broadcast_message({"type": "refresh_data", "serverId": "1"})
        assert (await (await dial(server)).join())["users"] == {"7": ADA}
        await server.settled()
        assert [change["uid"] for change in told(await peer.pending())] == ["7", "8", "8", "7"]


async def test_broadcasts_are_subject_to_the_chain_and_to_policy(dial: Dial) -> None:
    """Clients receive nothing if the callbacks' layer is not in use, or if policy hides it."""
    below = ScriptedProvider(users={"1": {"9": User(username="Cy", status="dnd")}})
    policy = {"ignore_users": ["8"], "ignore_channels": ["secret"]}
    servers = always({**ONE, "2": {"name": "Garden"}})
    users = {"1": None, "2": {"7": ADA}}
    async with serving(users.__getitem__, servers, below=below, s2=policy) as server:
        others, own = await dial(server), await dial(server)
        await others.join("1")
        await own.join("2")
        for server_id in ("1", "2"):
            await server.broadcast_presence(server_id, "8", "online", "Bo")
            await server.broadcast_presence(server_id, "7", "dnd")
            await server.broadcast_message(server_id, "7", "hush", "secret")
            await server.broadcast_message(server_id, "7", "hello", "general")
        assert await others.pending() == []
        said = {"uid": "7", "message": "hello", "channel": "general"}
        assert told(await own.pending()) == [{"uid": "7", "status": "dnd"}, said]


async def test_r1_the_layer_of_an_empty_dictionary_is_held(dial: Dial) -> None:
    """Broadcasts apply to it, over the users of the next fallback, and reach the clients."""
    below = ScriptedProvider(users={"1": {"9": User(username="Cy", status="dnd")}})
    async with serving(always({}), below=below) as server:
        peer = await dial(server)
        assert (await peer.join("1"))["users"] == {"9": CY}
        await server.broadcast_presence("1", "7", "online", "Ada", "#5865f2")
        await server.broadcast_presence("1", "9", "idle")
        await server.broadcast_message("1", "7", "hello", "general")
        said = {"uid": "7", "message": "hello", "channel": "general"}
        await server.settled()
        assert told(await peer.pending()) == [ADA, {"uid": "9", "status": "idle"}, said]


async def test_without_a_user_callback_broadcasts_lie_over_the_others(dial: Dial) -> None:
    """A program that registers nothing, as with the mock of d-back 0.0.x, changes the users of
    whichever provider brings them, adds its own, and lets them talk."""
    below = ScriptedProvider(
        {"1": Server(name="Plaza")}, {"1": {"9": User(username="Cy", status="dnd")}}
    )
    async with WebSocketServer(0, providers={"below": below}) as server:
        peer = await dial(server)
        await peer.join()
        await server.broadcast_presence("1", "9", "idle")
        await server.broadcast_presence("1", "7", "online", "Ada", "#5865f2")
        await server.broadcast_message("1", "9", "hello", "general")
        said = {"uid": "9", "message": "hello", "channel": "general"}
        await server.settled()
        assert told(await peer.pending()) == [{"uid": "9", "status": "idle"}, ADA, said]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (
            {"type": "presence", "server": "1", "data": {"uid": "7", "status": "dnd"}},
            [("presence", {"uid": "7", "status": "dnd"})],
        ),
        (
            {"type": "presence", "data": {"uid": 8, "status": "online", "delete": True}},
            [("presence", {"uid": "8", "status": "offline", "delete": True})],
        ),
        (
            {"type": "message", "server": 1, "data": {"uid": 7, "message": "hi", "channel": 5}},
            [("message", {"uid": "7", "message": "hi", "channel": "5"})],
        ),
        (
            {"type": "update-clientid", "server": "1", "data": {"clientId": 100}},
            [("update-clientid", {"clientId": "100"})],
        ),
        (
            {"type": "error", "data": {"message": "Back soon"}},
            [("error", {"message": "Back soon", "code": "notice"})],
        ),
        (
            {"type": "server-list-update", "data": {"1": {"name": "Square"}}},
            [
                (
                    "server-list-update",
                    {"1": {"id": "plaza", "name": "Square", "passworded": False, "default": True}},
                )
            ],
        ),
        (
            {"type": "server-list-update", "data": {}, "removed": [1]},
            [("server-list-update", {}), ("error", {"message": UNKNOWN_SERVER, "code": "gone"})],
        ),
        ({"type": "refresh_data"}, [("refresh_data", None)]),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
async def test_any_news_of_the_protocol_can_be_broadcast(
    frame: dict[str, Any], expected: list[Any], dial: Dial
) -> None:
    """A dictionary with a type of the protocol, to one server or all, has the effect that it
    tells of."""
    async with serving(always({"7": ADA, "8": BO}), ttl=60) as server:
        peer = await dial(server)
        await peer.join()
        await server.broadcast_message(frame)
        await server.settled()
        frames = [(got["type"], got.get("data")) for got in await peer.pending()]
        assert frames == expected


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"type": "server-join", "data": {}}, "'server-join' cannot be broadcast"),
        ({"type": "gossip"}, "'gossip' cannot be broadcast"),
        ({}, "None cannot be broadcast"),
        ({"type": "presence", "server": "1", "data": {}}, "'presence' is incomplete"),
        ({"type": "message", "server": "1"}, "'message' is incomplete"),
        ({"type": "server-list"}, "'server-list' is incomplete"),
        ({"type": "error"}, "'error' needs a message"),
    ],
)
async def test_a_frame_that_cannot_be_broadcast_is_refused(
    frame: dict[str, Any], reason: str
) -> None:
    """``ValueError`` says what is wrong with it, also while the server does not run."""
    with pytest.raises(ValueError, match=reason):
        await WebSocketServer().broadcast_message(frame)


async def test_a_nonsense_broadcast_harms_nobody(dial: Dial) -> None:
    """Values that are not valid are refused at the border, one by one."""
    async with serving(always({"7": ADA})) as server:
        peer = await dial(server)
        await peer.join()
        await server.broadcast_presence("1", "", "online")
        await server.broadcast_presence("1", "7", "asleep", role_color="#112233")
        await server.broadcast_message("1", "7", None, "general")  # type: ignore[call-overload]
        await server.broadcast_client_id_update("1", "no id")
        await server.settled()
        assert told(await peer.pending()) == [
            {"uid": "7", "status": "online", "roleColor": "#112233"}
        ]


async def test_a_broadcast_that_cannot_work_is_logged_once(
    dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is not known, and a public id, are named; so is a status that is not one.
    Numbers are taken as ids."""
    async with serving(always({"7": ADA})) as server:
        peer = await dial(server)
        await peer.join()
        for _ in range(3):
            await server.broadcast_presence(5, 7, "online")  # type: ignore[arg-type]
            await server.broadcast_message("plaza", "7", "hello", "general")
            await server.broadcast_presence("1", "7", "asleep")
        await server.broadcast_presence(1, 7, "dnd")  # type: ignore[arg-type]
        assert (await peer.expect("presence"))["data"] == {"uid": "7", "status": "dnd"}
    assert caplog.text.count("broadcast for server '5': dropped, no provider lists it") == 1
    assert caplog.text.count("this is a public id; broadcasts need the server_id '1'") == 1
    assert caplog.text.count("events.status: refused 'asleep'") == 1


async def test_an_event_of_a_lower_provider_is_hidden_by_the_callbacks(dial: Dial) -> None:
    """The callbacks are at the top: what lies below their layer does not show."""
    below = ScriptedProvider(users={"1": {"7": User(username="Below", status="idle")}})
    async with serving(always({"7": ADA}), below=below) as server:
        peer = await dial(server)
        await peer.join()
        below.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        assert await news(server, peer) == []


# Access


async def test_a_password_in_server_data_opens_the_server_and_is_told_to_nobody(
    dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    """It protects the server whatever else is said, lets in who gives it, and is in no frame and
    no log."""
    caplog.set_level(logging.DEBUG, "d_back")
    servers = {"1": {"name": "Vault", "passworded": False, "password": "sesame"}, "2": {}}
    async with serving(always({"7": ADA}), always(servers)) as server:
        peer = await dial(server, greeted=False)
        frames = [await peer.receive()]
        for password in ("guess", "sesame"):
            await peer.ask("1", password=password)
            frames.append(await peer.receive())
        assert [frame["type"] for frame in frames] == ["server-list", "error", "server-join"]
        assert "sesame" not in str([*frames, *await peer.pending()])
    assert "sesame" not in caplog.text


async def test_r24_the_password_of_the_callback_counts_beside_the_operator_s(dial: Dial) -> None:
    """The operator's password is compared first; then the provider decides, by its own."""
    servers = always({"1": {"name": "Vault", "password": "theirs"}})
    async with serving(always({"7": ADA}), servers, s1={"password": "ours"}) as server:
        peer = await dial(server)
        await peer.ask("1", password="neither")
        assert (await peer.refusal())[0] == "unauthorized"
        for password in ("ours", "theirs"):
            await peer.join("1", password=password)


def login(token: str = "a token", uid: str = "7") -> dict[str, Any]:
    return {"discordToken": token, "discordUser": {"id": uid, "username": "Ada"}}


@pytest.mark.parametrize(
    ("verdict", "joins"),
    [(True, True), (False, False), (None, False), ("yes", False), (OSError("lost"), False)],
)
async def test_r24_only_a_true_of_the_validation_lets_in(
    verdict: object, joins: object, dial: Dial
) -> None:
    """on_validate_discord_user gets the token, the claimed user and the server_id, and decides,
    whichever provider brings the server; everything that is not True is a no."""
    asked = []

    async def validate(token: str, user_info: dict[str, Any], server_id: str) -> Any:  # noqa: ANN401
        asked.append((token, user_info, server_id))
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    below = ScriptedProvider({"1": Server(name="Vault", passworded=True)}, {"1": {"9": User()}})
    below.authorize_answer = True
    server = WebSocketServer(0, providers={"below": below})
    server.on_get_user_data(always({}))
    server.on_validate_discord_user(validate)
    async with server:
        peer = await dial(server)
        await peer.ask("1", **login())
        if joins:
            await peer.expect("server-join")
        else:
            assert (await peer.refusal())[0] == "authentication_failed"
        assert asked == [("a token", {"id": "7", "username": "Ada"}, "1")]


async def test_r24_a_validation_that_hangs_is_a_no(dial: Dial) -> None:
    """Its time-out refuses the join."""
    clock, asked = ManualClock(), asyncio.Event()

    async def validate(*_: object) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return True

    below = ScriptedProvider({"1": Server(name="Vault", passworded=True)}, {"1": {"7": User()}})
    server = WebSocketServer(0, providers={"below": below}, clock=clock)
    server.on_validate_discord_user(validate)
    async with server:
        peer = await dial(server)
        await peer.ask("1", **login())
        await asked.wait()
        await clock.advance(5)
        assert (await peer.refusal())[0] == "authentication_failed"


async def test_get_user_data_answers_for_no_server_that_is_kept_from_clients(dial: Dial) -> None:
    """A user callback alone answers for any id; but not for one that is disabled or protected,
    and not for one that it has nothing for."""
    below = ScriptedProvider(
        {"2": Server(name="Off", enabled=False), "3": Server(passworded=True)}
    )
    server = WebSocketServer(
        config=parse(
            {
                "gateway": {"port": 0},
                "chain": {"order": ["below"]},
                "servers": {"4": {"password": "sesame"}, "5": {"enabled": False}},
            }
        ),
        providers={"below": below},
    )
    server.on_get_user_data(lambda server_id: {} if server_id == "6" else {"7": ADA})
    async with server:
        peer = await dial(server)
        for server_id in ("2", "3", "4", "5", "6", "no id"):
            await peer.send({"type": "get_user_data", "serverId": server_id})
            await peer.expect("error")
        await peer.send({"type": "get_user_data", "serverId": "1"})
        assert (await peer.expect("user_data"))["users"] == {"7": ADA}
        await until(lambda: not server.live.servers.keys() - {"3"})


# The stand-in


async def test_with_a_user_callback_nobody_of_the_mock_shows(dial: Dial) -> None:
    """Where it has nothing, or fails, the server is empty; the mock's people do not come in."""
    for users in (always({}), always("nonsense")):
        server = WebSocketServer(port=0)
        server.on_get_user_data(users)
        async with server:
            assert (await (await dial(server)).join("dworld"))["users"] == {}


async def test_without_callbacks_the_mock_is_what_is_served(dial: Dial) -> None:
    """Registering nothing serves the demo communities, and their people."""
    async with WebSocketServer(port=0) as server:
        assert len((await (await dial(server)).join())["users"]) == 4


async def test_a_client_id_callback_alone_leaves_the_mock_as_it_is(dial: Dial) -> None:
    """What it says goes to who joins; servers and users are the mock's."""
    server = WebSocketServer(port=0)
    server.on_get_client_id(lambda server_id: f"1{server_id}")
    async with server:
        joined = await (await dial(server)).join()
        assert joined["clientId"] == f"1{MOCK_SERVER}"
        assert len(joined["users"]) == 4


# Pages


async def got(server: WebSocketServer, path: str) -> tuple[int, str, bytes]:
    """The status, the content type and the body of a GET."""
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("localhost", server.port)
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    kinds = [
        line.partition(b": ")[2]
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-type")
    ]
    return int(head.split()[1]), kinds[0].decode(), body


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (("text/html", "<b>hi</b>"), (200, "text/html; charset=utf-8", b"<b>hi</b>")),
        (("application/json", '{"a": 1}'), (200, "application/json", b'{"a": 1}')),
        (("image/png", b"\x89PNG"), (200, "image/png", b"\x89PNG")),
        (("text/plain", "{file}"), (200, "text/plain", b"a file")),
        (("text/plain", Path("{file}")), (200, "text/plain", b"a file")),
        (("text/plain", Path("{folder}")), (404, "text/plain; charset=utf-8", b"Not Found\n")),
        (("text/plain", Path("{file}.not")), (404, "text/plain; charset=utf-8", b"Not Found\n")),
        (
            ("text/plain", "{folder}/x/../a.txt"),
            (404, "text/plain; charset=utf-8", b"Not Found\n"),
        ),
        (("text/plain", "{folder}"), (404, "text/plain; charset=utf-8", b"Not Found\n")),
        (("text/plain", "{file}.not"), (404, "text/plain; charset=utf-8", b"Not Found\n")),
        (("text/plain", "{folder}/own"), (200, "text/plain", b"no suffix")),
        (("text/plain", "site/own"), (404, "text/plain; charset=utf-8", b"Not Found\n")),
        (("text/css", "/* a */ b {}"), (200, "text/css; charset=utf-8", b"/* a */ b {}")),
        (("text/plain", "/a /b\n"), (200, "text/plain; charset=utf-8", b"/a /b\n")),
        (("text/plain", "x" * 300 + ".b"), (200, "text/plain; charset=utf-8", b"x" * 300 + b".b")),
    ],
)
async def test_a_static_request_is_answered_with_content_or_a_file(
    answer: tuple[str, Any], expected: tuple[int, str, bytes], tmp_path: Path
) -> None:
    """A Path is a file. A str is one if it is absolute, ends with the requested path, or names an
    existing file with a suffix."""
    (tmp_path / "a.txt").write_text("a file")
    (tmp_path / "own").write_text("no suffix")
    (tmp_path / "x").mkdir()

    def filled(text: str) -> str:
        return text.replace("{file}", f"{tmp_path}/a.txt").replace("{folder}", str(tmp_path))

    kind, content = answer
    if not isinstance(content, bytes):
        content = type(content)(filled(str(content)))
    server = WebSocketServer(port=0)
    server.on_static_request(lambda path: (kind, content) if path == "/own" else None)
    async with server:
        status, content_type, body = await got(server, "/own?query")
        assert (status, content_type, body) == (
            *expected[:2],
            filled(expected[2].decode("latin1")).encode("latin1"),
        )
        assert (await got(server, "/other"))[0] == 404


async def test_a_path_that_a_client_wrote_is_never_a_file(tmp_path: Path) -> None:
    """A callback that returns what it was asked for serves it as content, not the file."""
    (tmp_path / "secret.txt").write_text("secret")
    server = WebSocketServer(port=0)
    server.on_static_request(lambda path: ("text/plain", path.removeprefix("/echo")))
    async with server:
        assert await got(server, f"/echo{tmp_path}/secret.txt") == (
            200,
            "text/plain; charset=utf-8",
            f"{tmp_path}/secret.txt".encode(),
        )


@pytest.mark.parametrize("root", ["{folder}/", "{folder}", "site/"])
@pytest.mark.parametrize("path", ["/a.txt", "/no", "/a%0A", "/%00", "/x%20y", "/docs/"])
async def test_a_path_of_the_program_is_never_sent(root: str, path: str, tmp_path: Path) -> None:
    """Whatever a client asks for, a folder and the requested path are not sent as content."""
    folder = root.replace("{folder}", str(tmp_path))
    server = WebSocketServer(port=0)
    server.on_static_request(lambda asked: ("text/plain", folder + asked.lstrip("/")))
    async with server:
        status, _, body = await got(server, path)
        assert (status, body) == (404, b"Not Found\n")


@pytest.mark.parametrize("answer", [OSError("lost"), "page", ("text/html",), ("a\r\nb: c", "x")])
async def test_a_page_that_fails_is_left_to_the_built_in_ones(answer: object) -> None:
    """An exception, or what is no page, is logged and answers nothing."""

    def page(_: str) -> Any:  # noqa: ANN401
        if isinstance(answer, Exception):
            raise answer
        return answer

    server = WebSocketServer(port=0)
    server.on_static_request(page)
    async with server:
        assert (await got(server, "/"))[0] == 200
        assert (await got(server, "/own"))[0] == 404


async def test_nothing_is_kept_of_who_left(dial: Dial) -> None:
    """After many joins and broadcasts no session and no record of a deleted user stays."""
    async with serving(always({"7": ADA})) as server:
        for number in range(30):
            peer: Peer = await dial(server)
            await peer.join()
            await server.broadcast_presence("1", f"u{number}", "online")
            await server.broadcast_presence("1", f"u{number}", "offline", delete=True)
            await peer.connection.close()
        await until(lambda: not server.connections)
        gc.collect()
        layer = server.live.servers["1"].resolver.layers.in_use["callbacks"]
        assert set(layer) == {"7"}
