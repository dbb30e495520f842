"""What the order, the modes and the filters of a chain mean to a client (R1, R2, R4)."""

from collections.abc import Mapping

import pytest
from msgspec import UNSET
from sample_users import ADA, BOB, CID, ONE

from d_back_core import Message, Server, ServerChanged, User, UserChanged, UserRemoved
from d_back_core.models import EffectiveUser
from d_back_core.wire.protocol import MessageFrame, PresenceFrame
from d_back_testing import ScriptedProvider, configured, served
from d_back_testing.running_gateway import Table

TWO: Mapping[str, Server] = {"1": Server(name="One"), "2": Server(name="Two")}
FIELDS = ("username", "status", "role_color")


def shown(uid: str, user: User) -> EffectiveUser:
    """The user as a client sees it if no other provider says anything of it."""
    assert isinstance(user.username, str)
    assert isinstance(user.role_color, str)
    assert user.status is not UNSET
    assert user.status is not None
    return EffectiveUser(uid, user.username, user.status, user.role_color)


def script(users: Mapping[str, User] | None) -> ScriptedProvider:
    """A provider of the server 1 with these users."""
    return ScriptedProvider(ONE, {"1": users})


def mode(name: str) -> Table:
    return {"mode": name}


async def test_r2_a_fallback_below_one_that_answers_adds_nothing() -> None:
    """Neither its users nor their fields count, and it is not asked for them."""
    a, b = script({"7": User(username="Ada")}), script({"7": ADA, "8": BOB})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users == {"7": EffectiveUser("7", "Ada", "offline", "#ffffff")}
        assert "users 1" not in b.calls


async def test_merge_adds_users_and_the_fields_that_nobody_above_supplied() -> None:
    """Users of its own come in, and those of above keep what they have."""
    a, b = script({"7": User(username="Ada", status="dnd")}), script({"7": BOB, "8": BOB})
    async with served({"a": a, "b": b}, tables={"b": mode("merge")}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users == {
            "7": EffectiveUser("7", "Ada", "dnd", "#bbbbbb"),
            "8": shown("8", BOB),
        }


async def test_enrich_supplies_fields_and_adds_nobody() -> None:
    """Those whom it alone knows do not appear, neither in the snapshot nor by an event."""
    a, b = script({"7": User(username="Ada", status="dnd")}), script({"7": BOB, "8": BOB})
    async with served({"a": a, "b": b}, tables={"b": mode("enrich")}) as gateway:
        client = await gateway.connect_and_join()
        b.emit(UserChanged(server_id="1", uid="9", username="Cid"))
        assert await client.new_frames() == []
        assert client.users == {"7": EffectiveUser("7", "Ada", "dnd", "#bbbbbb")}


async def test_enrich_waits_for_somebody_to_enrich() -> None:
    """What it said of a user counts as soon as another provider adds that user."""
    a, b = script({}), script({"8": User(role_color="#123456")})
    async with served({"a": a, "b": b}, tables={"b": mode("enrich")}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(UserChanged(server_id="1", uid="8", username="Bob"))
        await client.new_frames()
        assert client.users == {"8": EffectiveUser("8", "Bob", "offline", "#123456")}


@pytest.mark.parametrize("name", ["merge", "enrich"])
async def test_r2_merge_and_enrich_above_never_keep_a_fallback_out(name: str) -> None:
    """They override it, field by field, and do not stand for it."""
    overlay, a = script({"7": User(role_color="#123456")}), script({"7": ADA, "8": BOB})
    async with served({"overlay": overlay, "a": a}, tables={"overlay": mode(name)}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users == {
            "7": EffectiveUser("7", "Ada", "online", "#123456"),
            "8": shown("8", BOB),
        }


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("field", FIELDS)
async def test_the_winner_of_each_field_follows_the_order(order: str, field: str) -> None:
    """Both say everything of the user; the one that stands first is believed."""
    scripts = {"a": script({"7": ADA}), "b": script({"7": BOB})}
    tables = {"a": mode("merge"), "b": mode("merge")}
    async with served({name: scripts[name] for name in order}, tables=tables) as gateway:
        client = await gateway.connect_and_join()
        winner = {"a": ADA, "b": BOB}[order[0]]
        assert getattr(client.users["7"], field) == getattr(winner, field)


async def test_another_order_reaches_the_clients_as_one_delta_a_user() -> None:
    """Who is connected sees every field change its winner, and only those users who differ."""
    a, b = script({"7": ADA, "8": CID}), script({"7": BOB, "8": CID})
    tables = {"a": mode("merge"), "b": mode("merge")}
    async with served({"a": a, "b": b}, tables=tables) as gateway:
        client = await gateway.connect_and_join()
        await gateway.server.reload(configured("ba", tables))
        (frame,) = await client.new_frames()
        assert isinstance(frame, PresenceFrame)
        assert client.users == {"7": shown("7", BOB), "8": shown("8", CID)}


async def test_another_mode_reaches_the_clients_as_deltas() -> None:
    """From merge to enrich: whom only that provider knew is deleted, its fields stay."""
    a, b = script({"7": User(username="Ada")}), script({"7": BOB, "8": BOB})
    async with served({"a": a, "b": b}, tables={"b": mode("merge")}) as gateway:
        client = await gateway.connect_and_join()
        await gateway.server.reload(configured("ab", {"b": mode("enrich")}))
        (frame,) = await client.new_frames()
        assert isinstance(frame, PresenceFrame)
        assert frame.data.delete is True
        assert client.users == {"7": EffectiveUser("7", "Ada", "idle", "#bbbbbb")}


async def test_r7_another_mode_leaves_no_gap() -> None:
    """The former provider of a server stays, as it was, until the next one has answered."""
    a = script({"7": ADA, "8": BOB})
    b = ScriptedProvider(ONE, {"1": {"7": User(username="Ann"), "9": CID}})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        b.hold("servers")
        b.hold("users")
        await gateway.server.reload(configured("ab", {"a": mode("enrich")}))
        assert await client.new_frames() == []
        assert gateway.live.server_list.servers.keys() == {"1"}
        b.release("servers")
        assert await client.new_frames() == []
        b.release("users")
        found = {}
        for frame in await client.new_frames():
            assert isinstance(frame, PresenceFrame)
            found[frame.data.uid] = frame.data.delete
        assert found == {"8": True, "9": UNSET}
        assert client.users["7"].username == "Ada"


async def test_r7_a_narrower_filter_leaves_no_gap() -> None:
    """What the provider is no longer to say stays in the list until the next one has said it."""
    a, b = ScriptedProvider(TWO, {"2": {"7": ADA}}), ScriptedProvider(TWO, {"2": {"7": BOB}})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join("2")
        b.hold("servers")
        await gateway.server.reload(configured("ab", {"a": {"servers": ["1"]}}))
        assert gateway.live.server_list.servers.keys() == {"1", "2"}
        b.release("servers")
        (frame,) = await client.new_frames()
        assert isinstance(frame, PresenceFrame)
        assert client.users["7"].username == "Bob"


async def test_a_lower_layer_s_event_for_a_hidden_field_says_nothing() -> None:
    """The layer above supplies that field: no delta goes out."""
    a, b = script({"7": ADA}), script({"7": BOB})
    async with served({"a": a, "b": b}, tables={"b": mode("merge")}) as gateway:
        client = await gateway.connect_and_join()
        b.emit(UserChanged(server_id="1", uid="7", username="Bobby", status="dnd"))
        assert await client.new_frames() == []


async def test_a_lower_layer_s_event_for_a_field_that_shows_through_goes_out() -> None:
    """The layer above says nothing of that field."""
    a, b = script({"7": User(username="Ada")}), script({"7": BOB})
    async with served({"a": a, "b": b}, tables={"b": mode("merge")}) as gateway:
        client = await gateway.connect_and_join()
        b.emit(UserChanged(server_id="1", uid="7", username="Bobby", status="dnd"))
        assert len(await client.new_frames()) == 1
        assert client.users["7"] == EffectiveUser("7", "Ada", "dnd", "#bbbbbb")


async def test_a_user_whom_two_layers_add_goes_with_the_last_of_them() -> None:
    """The first removal changes the fields, the second one deletes."""
    a, b = script({"7": ADA}), script({"7": BOB})
    async with served({"a": a, "b": b}, tables={"b": mode("merge")}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(UserRemoved(server_id="1", uid="7"))
        await client.new_frames()
        assert client.users == {"7": shown("7", BOB)}
        b.emit(UserRemoved(server_id="1", uid="7"))
        await client.new_frames()
        assert client.users == {}


async def test_r4_a_field_taken_back_shows_the_layer_below() -> None:
    """None in an event means: I no longer say this field; UNSET leaves it as it is."""
    a, b = script({"7": ADA}), script({"7": BOB})
    async with served({"a": a, "b": b}, tables={"b": mode("merge")}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(UserChanged(server_id="1", uid="7", status=None))
        await client.new_frames()
        assert client.users["7"] == EffectiveUser("7", "Ada", "idle", "#aaaaaa")


async def test_r4_a_field_of_a_snapshot_that_is_none_shows_the_layer_below() -> None:
    """None and UNSET are the same in a whole record."""
    a, b = script({"7": User(username=None, status="dnd")}), script({"7": BOB})
    async with served({"a": a, "b": b}, tables={"b": mode("merge")}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users["7"] == EffectiveUser("7", "Bob", "dnd", "#bbbbbb")


async def test_r4_the_key_of_the_mapping_is_the_uid() -> None:
    """A user of whom nothing else is said has the defaults."""
    async with served({"a": script({"7": User()})}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users == {"7": EffectiveUser("7", "7", "offline", "#ffffff")}


async def test_r1_users_none_means_that_the_next_one_is_asked() -> None:
    """The provider cannot say."""
    async with served({"a": script(None), "b": script({"8": BOB})}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users == {"8": shown("8", BOB)}


async def test_r1_users_empty_means_that_nobody_is_there() -> None:
    """An empty answer is an answer: the next one is not asked."""
    a, b = script({}), script({"8": BOB})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users == {}
        assert "users 1" not in b.calls


async def test_r1_servers_none_means_that_the_next_one_is_asked() -> None:
    """The provider cannot say."""
    a, b = ScriptedProvider(None, {"2": {"7": ADA}}), ScriptedProvider(TWO)
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join("2")
        assert client.world.servers.keys() == {"1", "2"}
        assert client.users == {"7": shown("7", ADA)}


async def test_r1_servers_empty_means_that_this_provider_has_none() -> None:
    """An empty answer is an answer; the other providers' servers are shown all the same."""
    a, b = ScriptedProvider({}), ScriptedProvider(TWO)
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect()
        assert client.world.servers.keys() == {"1", "2"}


async def test_a_provider_is_asked_only_for_the_servers_of_its_filter() -> None:
    """For another server the next one answers, as if the first one did not exist."""
    users = {"1": {"7": ADA}, "2": {"7": ADA}}
    a, b = ScriptedProvider(TWO, users), ScriptedProvider(TWO, {"1": {"8": BOB}, "2": {"8": BOB}})
    async with served({"a": a, "b": b}, tables={"a": {"servers": ["1"]}}) as gateway:
        first, second = await gateway.connect_and_join("1"), await gateway.connect_and_join("2")
        assert first.users == {"7": shown("7", ADA)}
        assert second.users == {"8": shown("8", BOB)}
        assert "users 2" not in a.calls
        assert "users 1" not in b.calls


async def test_events_for_a_server_outside_the_filter_are_dropped() -> None:
    """They change nothing, as the provider has no layer of that server."""
    a, b = ScriptedProvider(TWO), ScriptedProvider(TWO, {"2": {"8": BOB}})
    tables = {"a": {"servers": ["1"], "mode": "merge"}}
    async with served({"a": a, "b": b}, tables=tables) as gateway:
        client = await gateway.connect_and_join("2")
        a.emit(
            UserChanged(server_id="2", uid="8", status="dnd"),
            UserChanged(server_id="2", uid="9"),
            ServerChanged(server_id="2", name="Mine"),
            Message(server_id="2", uid="8", message="hello", channel="c"),
        )
        assert await client.new_frames() == []


async def test_a_provider_supplies_only_the_fields_of_its_filter() -> None:
    """In snapshots and in events; the rest comes from below."""
    a, b = script({"7": ADA}), script({"7": BOB})
    tables = {"a": {"mode": "enrich", "fields": ["roleColor"]}}
    async with served({"a": a, "b": b}, tables=tables) as gateway:
        client = await gateway.connect_and_join()
        assert client.users == {"7": EffectiveUser("7", "Bob", "idle", "#aaaaaa")}
        a.emit(UserChanged(server_id="1", uid="7", username="A", status="dnd"))
        assert await client.new_frames() == []
        a.emit(UserChanged(server_id="1", uid="7", role_color="#123456"))
        await client.new_frames()
        assert client.users == {"7": EffectiveUser("7", "Bob", "idle", "#123456")}


async def test_r11_chat_never_passes_through_a_provider_with_a_fields_filter() -> None:
    """It was asked for fields, not for what is said."""
    a, b = script({"7": ADA}), script({"7": ADA})
    tables = {"b": {"mode": "merge", "fields": ["username", "status", "roleColor"]}}
    async with served({"a": a, "b": b}, tables=tables) as gateway:
        client = await gateway.connect_and_join()
        said = Message(server_id="1", uid="7", message="hello", channel="c")
        b.emit(said)
        assert await client.new_frames() == []
        a.emit(said)
        assert [type(frame) for frame in await client.new_frames()] == [MessageFrame]


@pytest.mark.parametrize("name", ["merge", "enrich"])
async def test_r11_chat_passes_from_every_layer_in_use(name: str) -> None:
    """Also from one that merges or enriches."""
    a, b = script({"7": ADA}), script({})
    async with served({"a": a, "b": b}, tables={"b": mode(name)}) as gateway:
        client = await gateway.connect_and_join()
        b.emit(Message(server_id="1", uid="7", message="hello", channel="c"))
        (frame,) = await client.new_frames()
        assert isinstance(frame, MessageFrame)
        assert frame.data.message == "hello"


@pytest.mark.parametrize("name", ["merge", "fallback"])
async def test_a_filter_that_leaves_a_server_out_takes_the_layer_away(name: str) -> None:
    """The provider goes on for its other servers; who is connected sees its users go."""
    users = {"1": {"7": ADA}, "2": {"7": ADA}}
    a, b = ScriptedProvider(TWO, users), ScriptedProvider(TWO, {"1": {"8": BOB}, "2": {"8": BOB}})
    tables = {"a": mode("merge"), "b": mode(name)}
    async with served({"a": a, "b": b}, tables=tables) as gateway:
        first, second = await gateway.connect_and_join("1"), await gateway.connect_and_join("2")
        tables = tables | {"b": {"mode": name, "servers": ["2"]}}
        await gateway.server.reload(configured("ab", tables))
        await first.new_frames()
        await second.new_frames()
        assert first.users == {"7": shown("7", ADA)}
        assert second.users.keys() == {"7", "8"}
        b.emit(UserChanged(server_id="1", uid="9", username="Cid"))
        assert await first.new_frames() == []
