"""Which events and which chat reach clients (R2, R11, R13, R18, R48)."""

from sample_users import ADA, BOB, ONE

from d_back_core import Message, Reload, Server, ServerChanged
from d_back_core.chain.world import Removal, World
from d_back_core.models import EffectiveUser
from d_back_core.state.backlog import Backlog
from d_back_testing import ScriptedProvider, configured, served

SHOWN = EffectiveUser("7", "Ada", "online", "#aaaaaa")
RESUMED = 0
"""The position at which a session that resumed counts as joined."""


def held(world: World, joined_at: int) -> Backlog:
    """Return the backlog of a session that reads nothing of what is pending."""
    first, *others = world.take()
    backlog = Backlog(joined_at, first)
    for delta in others:
        backlog.hold(delta)
    return backlog


def test_r11_a_held_message_of_a_user_who_has_left_is_not_sent() -> None:
    """The client would receive chat of a user that it does not know."""
    world = World("1", {"7": SHOWN})
    world.say(Message(server_id="1", uid="7", message="bye", channel="c"))
    world.put("7", None)
    assert held(world, RESUMED).release(world) == [Removal(uid="7")]


def test_r48_a_user_who_came_and_went_is_not_removed_at_a_resumed_client() -> None:
    """The client never knew the user."""
    world = World("1", {})
    world.put("7", SHOWN)
    world.put("7", None)
    assert held(world, RESUMED).release(world) == []


async def test_r11_an_event_of_a_list_that_is_not_in_use_is_dropped() -> None:
    """A provider that cannot say which servers there are does not add one by an event."""
    a, b = ScriptedProvider(ONE, {"1": {"7": ADA}}), ScriptedProvider(None, {"2": {"8": BOB}})
    async with served({"a": a, "b": b}) as gateway:
        b.emit(ServerChanged(server_id="2", name="Two"))
        await gateway.settle()
        assert list(gateway.live.server_list.servers) == ["1"]
        b.servers_answer = {"2": Server(name="Two")}
        b.emit(Reload())
        await gateway.settle()
        assert list(gateway.live.server_list.servers) == ["1", "2"]


async def test_r18_a_join_does_not_wait_for_the_answer_to_a_reload() -> None:
    """It is answered from what is held."""
    a = ScriptedProvider(ONE, {"1": {"7": ADA}})
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join()
        a.hold("users")
        a.emit(Reload())
        await gateway.settle()
        assert a.calls[-1] == "users 1"
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"7"}
        a.release("users")


async def test_r2_a_join_does_not_ask_an_old_provider_below_the_one_in_use() -> None:
    """Its answers age, but nothing of it is in use."""
    a, b = ScriptedProvider(ONE, {"1": {"7": ADA}}), ScriptedProvider(ONE, {"1": {"8": BOB}})
    async with served({"a": a, "b": b}, tables={"b": {"max_age": 0}}) as gateway:
        await gateway.connect_and_join()
        await gateway.advance(10)
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"7"}
        assert "users 1" not in b.calls


async def test_r2_a_join_does_not_ask_a_provider_whose_place_a_higher_one_has_taken() -> None:
    """Also if it was in use before."""
    a, b = ScriptedProvider(ONE, {"1": {"7": ADA}}), ScriptedProvider(ONE, {"1": {"8": BOB}})
    a.users_answers["1"] = None
    async with served({"a": a, "b": b}, tables={"b": {"max_age": 0}}) as gateway:
        assert (await gateway.connect_and_join()).users.keys() == {"8"}
        a.users_answers["1"] = {"7": ADA}
        a.emit(Reload())
        await gateway.settle()
        asked = b.calls.count("users 1")
        await gateway.advance(10)
        assert (await gateway.connect_and_join()).users.keys() == {"7"}
        assert b.calls.count("users 1") == asked


async def test_r13_a_reload_switches_hide_offline() -> None:
    """Off: clients see the hidden users; on: those that join next do not."""
    away = ScriptedProvider(ONE, {"1": {"7": ADA}})
    away.users_answers["1"] = {"7": ADA, "8": type(BOB)(username="Bob", status="offline")}
    async with served({"a": away}, policies={"1": {"hide_offline": True}}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"7"}
        await gateway.server.reload(configured("a"))
        await client.new_frames()
        assert client.users["8"].status == "offline"
        await gateway.server.reload(configured("a", policies={"1": {"hide_offline": True}}))
        assert (await gateway.connect_and_join()).users.keys() == {"7"}
        await client.new_frames()
        assert client.users.keys() == {"7", "8"}
