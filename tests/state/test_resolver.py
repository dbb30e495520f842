"""How a layer is fetched and kept fresh: concurrent joins, events during a fetch, `Reload`, late
answers, polling, idleness (R8, R11, R14, R15, R16, R18)."""

import asyncio
from collections.abc import Mapping

import pytest
from sample_users import ADA, BOB, CID, ONE

from d_back_core import (
    Message,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_core.models import EffectiveUser, Event
from d_back_core.state import layer_source
from d_back_core.wire.protocol import (
    GetUserData,
    MessageFrame,
    PresenceFrame,
    ServerJoin,
    UserData,
)
from d_back_testing import ManualClient, RunningGateway, ScriptedProvider, configured, served
from d_back_testing.manual_client import RECEIVE_TIMEOUT
from d_back_testing.scripted_provider import DOWN

IDLE = 300.0
REFRESH = 30.0
TIMEOUT = 5.0
RETRY = 70.0
"""Longer than any wait between two attempts."""
TWO: Mapping[str, Server] = {"1": Server(name="One"), "2": Server(name="Two")}


def club() -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}})


def fetches(script: ScriptedProvider, hook: str = "users 1") -> int:
    return script.calls.count(hook)


def changed(uid: str, **fields: str) -> UserChanged:
    return UserChanged(server_id="1", uid=uid, **fields)  # type: ignore[arg-type]


def removed(uid: str) -> UserRemoved:
    return UserRemoved(server_id="1", uid=uid)


class Quiet:
    """A provider that has no stream."""

    def __init__(self) -> None:
        self.script = club()
        self.servers = self.script.servers
        self.users = self.script.users


# R18: one fetch for all


async def test_r18_concurrent_joins_share_one_fetch() -> None:
    """However many ask while the answer is on its way."""
    a = club()
    async with served({"a": a}) as gateway:
        a.hold("users")
        clients = [await gateway.connect() for _ in range(10)]
        for client in clients:
            await client.ask("1")
        await clients[-1].new_frames()
        assert not any(client.users for client in clients)
        a.release("users")
        for client in clients:
            await client.until(ServerJoin)
            assert client.users.keys() == {"7", "8"}
        assert fetches(a) == 1


async def test_r18_a_join_to_a_warm_server_asks_nobody() -> None:
    """It is answered from the effective state."""
    a = club()
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join()
        calls = len(a.calls)
        a.hang.add("users")
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"7", "8"}
        assert "users 1" not in a.calls[calls:]


async def test_r18_one_server_s_fetch_does_not_keep_another_one_waiting() -> None:
    """Each server has its own."""
    a = ScriptedProvider(TWO, {"1": {"7": ADA}, "2": {"7": ADA}})
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join("2")
        a.hold("users")
        waiting = await gateway.connect()
        await waiting.ask("1")
        assert await waiting.new_frames() == []
        client = await gateway.connect_and_join("2")
        assert client.users.keys() == {"7"}


async def test_a_snapshot_of_users_is_for_everybody_who_asks_for_them() -> None:
    """`get_user_data` shares the fetch of a join."""
    a = club()
    async with served({"a": a}) as gateway:
        a.hold("users")
        first, second = await gateway.connect(), await gateway.connect()
        await first.ask("1")
        await second.send(GetUserData(server_id="1"))
        await second.new_frames()
        a.release("users")
        await first.until(ServerJoin)
        await second.until(UserData)
        assert fetches(a) == 1


# Rule 14, events and fetches


async def test_r14_events_that_come_during_a_fetch_are_applied_on_top_in_order() -> None:
    """The answer may be older than they are; the last word on each user counts."""
    a = club()
    async with served({"a": a}) as gateway:
        a.hold("users")
        client = await gateway.connect()
        await client.ask("1")
        await client.new_frames()
        a.emit(
            changed("7", status="idle"),
            changed("7", status="dnd"),
            removed("8"),
            changed("9", username="Cid"),
            changed("10", username="Dee"),
            removed("10"),
            removed("11"),
            changed("11", username="Eve"),
        )
        await client.new_frames()
        a.release("users")
        await client.until(ServerJoin)
        assert client.users.keys() == {"7", "9", "11"}
        assert client.users["7"].status == "dnd"
        assert client.users["7"].username == "Ada"


async def test_r14_events_go_on_reaching_the_clients_during_a_fetch() -> None:
    """What is held stays live while a newer answer is on its way, and outlives it."""
    a = club()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.hold("users")
        a.emit(Reload(server_id="1"))
        await gateway.settle()
        a.emit(changed("7", status="dnd"))
        (frame,) = await client.new_frames()
        assert isinstance(frame, PresenceFrame)
        a.release("users")
        assert await client.new_frames() == []
        assert client.users["7"].status == "dnd"


async def test_r14_events_that_came_before_a_fetch_are_not_applied_on_top() -> None:
    """The answer is newer than they are."""
    a = club()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(changed("7", status="dnd"))
        await client.new_frames()
        a.emit(Reload(server_id="1"))
        await client.new_frames()
        assert client.users["7"].status == "online"


async def test_r14_events_of_the_list_that_come_during_a_fetch_are_applied_on_top() -> None:
    """The list of servers is a layer like any other."""
    a = ScriptedProvider(TWO)
    async with served({"a": a}) as gateway:
        client = await gateway.connect()
        a.hold("servers")
        a.emit(Reload())
        await gateway.settle()
        a.emit(
            ServerChanged(server_id="3", name="Three"),
            ServerRemoved(server_id="2"),
            ServerChanged(server_id="1", name="First"),
        )
        await client.new_frames()
        a.release("servers")
        await client.new_frames()
        names = {server_id: server.name for server_id, server in client.world.servers.items()}
        assert names == {"1": "First", "3": "Three"}


async def test_r14_more_events_than_are_kept_mean_another_fetch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The queue is bounded; what overflows is made good by asking once more."""
    monkeypatch.setattr(layer_source, "MAX_KEPT_EVENTS", 3)
    a = club()
    async with served({"a": a}) as gateway:
        a.hold("users")
        client = await gateway.connect()
        await client.ask("1")
        await client.new_frames()
        a.emit(*(changed("7", username=f"Ada {number}") for number in range(10)))
        await client.new_frames()
        a.users_answers["1"] = {"7": User(username="Ada 9")}
        a.release("users")
        await client.new_frames()
        await client.new_frames()
        assert fetches(a) == 2
        assert client.users["7"].username == "Ada 9"


# Reload


async def test_reload_fetches_that_server_again() -> None:
    """What differs goes out, and nothing else is asked."""
    a = ScriptedProvider(TWO, {"1": {"7": ADA}, "2": {"7": ADA}})
    async with served({"a": a}) as gateway:
        first, second = await gateway.connect_and_join("1"), await gateway.connect_and_join("2")
        a.users_answers = {"1": {"7": BOB}, "2": {"7": BOB}}
        calls = len(a.calls)
        a.emit(Reload(server_id="1"))
        assert len(await first.new_frames()) == 1
        assert await second.new_frames() == []
        assert a.calls[calls:] == ["users 1"]


async def test_reload_of_everything_fetches_the_list_and_every_layer() -> None:
    """The provider lost continuity."""
    a = ScriptedProvider(TWO, {"1": {"7": ADA}, "2": {"7": ADA}})
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join("1")
        await gateway.connect_and_join("2")
        calls = len(a.calls)
        a.emit(Reload())
        await gateway.settle()
        assert sorted(a.calls[calls:]) == ["servers", "users 1", "users 2"]


async def test_reload_during_a_fetch_fetches_once_more() -> None:
    """The answer that is on its way may be from before; however many come, once is enough."""
    a = club()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.hold("users")
        a.emit(Reload(server_id="1"))
        await gateway.settle()
        a.emit(Reload(server_id="1"), Reload(server_id="1"), Reload())
        await gateway.settle()
        assert fetches(a) == 2
        a.release("users")
        await client.new_frames()
        assert fetches(a) == 3


async def test_reload_for_a_layer_that_nobody_needs_asks_nobody() -> None:
    """A fallback whose users are not in use, and a server that no client watches."""
    a, b = club(), club()
    async with served({"a": a, "b": b}) as gateway:
        await gateway.connect_and_join()
        b.emit(Reload(), Reload(server_id="1"))
        a.emit(Reload(server_id="2"))
        await gateway.settle()
        assert fetches(b) == 0
        assert fetches(a, "users 2") == 0


async def test_r8_a_provider_that_is_not_whole_answers_none_until_it_is() -> None:
    """The next one answers meanwhile; with the `Reload` the first one comes into use."""
    a, b = ScriptedProvider(ONE, {"1": None}), ScriptedProvider(ONE, {"1": {"9": CID}})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"9"}
        await gateway.advance(10)
        a.users_answers["1"] = {"7": ADA}
        a.emit(Reload(server_id="1"))
        await client.new_frames()
        assert client.users.keys() == {"7"}


async def test_r8_events_of_a_layer_that_is_not_whole_are_dropped() -> None:
    """There is nothing yet that they could change; the answer after the `Reload` has it all."""
    a = ScriptedProvider(ONE, {"1": None})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(changed("10", username="Dee"))
        assert await client.new_frames() == []
        a.users_answers["1"] = {"7": ADA}
        a.emit(Reload(server_id="1"))
        await client.new_frames()
        assert client.users.keys() == {"7"}


async def test_an_answer_of_none_after_a_layer_keeps_the_layer_where_nobody_else_is() -> None:
    """The provider cannot say at the moment: what it said last is the best there is."""
    a = club()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.users_answers["1"] = None
        a.emit(Reload(server_id="1"))
        assert await client.new_frames() == []
        assert gateway.resolver().stale


async def test_an_answer_of_none_after_a_layer_lets_the_next_one_speak() -> None:
    """None is no failure: there is no grace."""
    a, b = club(), ScriptedProvider(ONE, {"1": {"7": ADA, "9": CID}})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        a.users_answers["1"] = None
        a.emit(Reload(server_id="1"))
        await client.new_frames()
        assert client.users.keys() == {"7", "9"}


@pytest.mark.parametrize("other", ["another user", "no user"])
async def test_r8_one_that_could_not_say_for_a_while_is_back_with_its_reload(other: str) -> None:
    """It is not asked before that, and not forgotten."""
    a, b = club(), ScriptedProvider(ONE, {"1": {"9": CID} if other == "another user" else None})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        good, a.users_answers["1"] = a.users_answers["1"], None
        a.emit(Reload(server_id="1"))
        await gateway.settle()
        asked = fetches(a)
        assert b.context is not None
        b.context.degraded("this makes everyone decide again")
        b.context.recovered()
        await gateway.advance(10)
        assert fetches(a) == asked
        a.users_answers["1"] = good
        a.emit(Reload(server_id="1"))
        await client.new_frames()
        assert client.users.keys() == {"7", "8"}
        assert not gateway.resolver().stale


# R15: late answers


async def slow_then_lost(
    gateway: RunningGateway, a: ScriptedProvider, client: ManualClient
) -> None:
    """Hold a call of `a` for longer than its timeout, and past its grace."""
    a.ignores_cancellation = True
    a.hold("users")
    a.emit(Reload(server_id="1"))
    await gateway.advance(TIMEOUT + 0.1)
    await client.new_frames()


async def test_r15_an_answer_after_the_timeout_is_discarded() -> None:
    """The provider sat out its cancellation and answers nevertheless."""
    a = club()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        await slow_then_lost(gateway, a, client)
        a.users_answers["1"] = {"9": CID}
        assert fetches(a) == 2
        a.release("users")
        assert await client.new_frames() == []
        await gateway.advance(RETRY)
        await client.new_frames()
        assert fetches(a) == 3
        assert client.users.keys() == {"9"}


async def test_r15_an_answer_of_a_former_run_is_discarded() -> None:
    """The provider was started again meanwhile; what counts is what the new run says."""
    a = club()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.ignores_cancellation = True
        former = a.hold("users")
        a.emit(Reload(server_id="1"))
        await gateway.settle()
        await gateway.server.reload(configured("a", {"a": {"token": "new"}}))
        a.hold("users")
        await gateway.settle()
        a.users_answers["1"] = {"9": CID}
        former.set()
        assert await client.new_frames() == []
        a.users_answers["1"] = {"10": CID}
        a.release("users")
        await client.new_frames()
        assert client.users.keys() == {"10"}


async def test_r15_an_answer_for_a_server_that_was_let_go_is_discarded() -> None:
    """The next client gets an answer of its own."""
    a = club()
    async with served({"a": a}, chain={"idle": "1s"}) as gateway:
        a.ignores_cancellation = True
        former = a.hold("users")
        client = await gateway.connect()
        await client.ask("1")
        await client.new_frames()
        await client.connection.close()
        while gateway.live.servers:
            await gateway.advance(1)
        a.hold("users")
        late = await gateway.connect()
        await late.ask("1")
        await late.new_frames()
        former.set()
        assert await late.new_frames() == []
        a.users_answers["1"] = {"9": CID}
        a.release("users")
        await late.until(ServerJoin)
        assert late.users.keys() == {"9"}


async def test_r15_reloads_of_the_configuration_are_done_one_after_the_other() -> None:
    """The last one wins, and every instance that was started is stopped."""
    a = club()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        orders = [configured("a", {"a": {"token": f"{number}"}}) for number in range(5)]
        async with asyncio.timeout(RECEIVE_TIMEOUT):
            await asyncio.gather(*(gateway.server.reload(config) for config in orders))
        await client.new_frames()
        assert gateway.live.config.provider("a").options == {"token": "4"}
    calls = [call for call in a.calls if call in {"start", "stop"}]
    assert calls == ["start", "stop"] * (len(calls) // 2)


# Rule 16, polling


async def test_r16_a_provider_without_events_is_polled() -> None:
    """Every 30 seconds; what differs goes out."""
    quiet = Quiet()
    async with served({"a": quiet}) as gateway:
        client = await gateway.connect_and_join()
        quiet.script.users_answers["1"] = {"7": BOB}
        await gateway.advance(REFRESH - 0.1)
        assert fetches(quiet.script) == 1
        await gateway.advance(0.1)
        assert fetches(quiet.script) == 2
        assert fetches(quiet.script, "servers") == 2
        await client.new_frames()
        assert client.users["7"].username == "Bob"
        await gateway.advance(REFRESH)
        assert fetches(quiet.script) == 3


async def test_r16_a_provider_with_events_is_not_polled() -> None:
    """Its stream says what changes."""
    a = club()
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join()
        await gateway.advance(10 * REFRESH)
        assert fetches(a) == 1


@pytest.mark.parametrize("provider", ["quiet", "streaming"])
async def test_r16_refresh_sets_how_often_it_is_polled(provider: str) -> None:
    """With events too, if the operator says so."""
    quiet = Quiet()
    script = quiet.script if provider == "quiet" else club()
    given: object = quiet if provider == "quiet" else script
    async with served({"a": given}, tables={"a": {"refresh": "7s"}}) as gateway:
        await gateway.connect_and_join()
        await gateway.advance(7 * 5 - 0.1)
        assert fetches(script) == 5
        await gateway.advance(0.1)
        assert fetches(script) == 6


async def test_r16_a_stream_that_returns_is_polled_from_then_on() -> None:
    """The provider has no more news of its own."""
    a = club()
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join()
        await gateway.advance(10 * REFRESH)
        a.emit(None)
        await gateway.settle()
        await gateway.advance(REFRESH - 0.1)
        assert fetches(a) == 1
        await gateway.advance(0.1)
        assert fetches(a) == 2


@pytest.mark.parametrize("streaming", [True, False])
async def test_r16_another_refresh_takes_effect_with_the_reload(*, streaming: bool) -> None:
    """Whether the provider has a stream or not."""
    quiet = Quiet()
    script = club() if streaming else quiet.script
    async with served({"a": script if streaming else quiet}) as gateway:
        await gateway.connect_and_join()
        await gateway.server.reload(configured("a", {"a": {"refresh": "2s"}}))
        await gateway.settle()
        before = fetches(script)
        await gateway.advance(20)
        assert fetches(script) == before + 10
        await gateway.server.reload(configured("a", {"a": {"refresh": "5s"}}))
        await gateway.settle()
        before = fetches(script)
        await gateway.advance(20)
        assert fetches(script) == before + 4


async def test_a_failed_poll_is_tried_again_before_the_next_one() -> None:
    """With the waits of every failed call; the last state stays meanwhile."""
    quiet = Quiet()
    async with served({"a": quiet}) as gateway:
        client = await gateway.connect_and_join()
        good = quiet.script.users_answers["1"]
        quiet.script.users_answers["1"] = DOWN
        await gateway.advance(REFRESH)
        quiet.script.users_answers["1"] = good
        await gateway.advance(1)
        assert fetches(quiet.script) == 3
        assert await client.new_frames() == []


# Idle servers


async def left(gateway: RunningGateway, client: ManualClient) -> None:
    """Let the client go, and wait until the gateway knows."""
    await client.connection.close()
    async with asyncio.timeout(RECEIVE_TIMEOUT):
        while gateway.live.stats().sessions:  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0)


async def test_a_server_that_nobody_watches_is_kept_for_a_while() -> None:
    """A client that comes back soon finds it warm; after that its layers are fetched again."""
    a = club()
    async with served({"a": a}) as gateway:
        await left(gateway, await gateway.connect_and_join())
        await gateway.advance(IDLE - 1)
        await left(gateway, await gateway.connect_and_join())
        assert fetches(a) == 1
        await gateway.advance(IDLE)
        assert gateway.live.servers == {}
        await gateway.connect_and_join()
        assert fetches(a) == 2


async def test_a_server_that_is_being_joined_is_not_let_go() -> None:
    """Its idle time runs out while a join is under way: they get what happens next."""
    a = ScriptedProvider({"1": Server(name="One", passworded=True)}, {"1": {"7": ADA}})
    a.authorize_answer = True
    async with served({"a": a}) as gateway:
        await left(gateway, await gateway.connect_and_join())
        await gateway.advance(IDLE - 1)
        a.hold("authorize")
        client = await gateway.connect()
        await client.ask("1")
        await client.new_frames()
        await gateway.advance(2)
        a.release("authorize")
        await client.until(ServerJoin)
        a.emit(changed("7", status="dnd"))
        await client.new_frames()
        assert client.users["7"].status == "dnd"


async def test_an_eager_server_is_held_from_the_start() -> None:
    """Without anybody who watches it, and for ever."""
    a = club()
    async with served({"a": a}, policies={"1": {"eager": True}}) as gateway:
        await gateway.settle()
        assert fetches(a) == 1
        await gateway.advance(2 * IDLE)
        await gateway.connect_and_join()
        assert fetches(a) == 1


async def test_events_of_a_server_that_nobody_watches_are_dropped() -> None:
    """Also chat; for a client that joins it is fetched whole."""
    a = club()
    async with served({"a": a}) as gateway:
        events: list[Event] = [
            changed("10", username="Dee"),
            Message(server_id="1", uid="7", message="hello", channel="c"),
        ]
        a.emit(*events)
        await gateway.settle()
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"7", "8"}
        a.emit(events[1])
        assert [type(frame) for frame in await client.new_frames()] == [MessageFrame]


async def test_r19_a_large_exchange_loses_nothing_of_what_happens_meanwhile() -> None:
    """It is merged in slices; an event between two of them is in the result."""
    crowd = {str(number): User(username=f"user {number}") for number in range(5000)}
    a, b = ScriptedProvider(ONE, {"1": crowd}), ScriptedProvider(ONE, {"1": {}})
    async with served({"a": a, "b": b}, tables={"b": {"mode": "enrich"}}) as gateway:
        client = await gateway.connect_and_join()
        a.hold("users")
        a.emit(Reload(server_id="1"))
        await gateway.settle()
        a.users_answers["1"] = {uid: User(username=f"new {uid}") for uid in crowd}
        a.release("users")
        for uid in map(str, range(200)):
            a.emit(changed(uid, status="dnd"))
            b.emit(changed(uid, role_color="#123456"))
            await asyncio.sleep(0)
        await client.new_frames()
        expected = {
            uid: EffectiveUser(uid, f"new {uid}", "dnd", "#123456")
            if int(uid) < 200
            else EffectiveUser(uid, f"new {uid}", "offline", "#ffffff")
            for uid in crowd
        }
        assert client.users == expected
