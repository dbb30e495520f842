"""The list of servers as clients receive it: which providers count, which server is the
default, and what closes one (R3, R6, R25)."""

from collections.abc import Mapping

import pytest
from sample_users import ADA, BOB, CID, ONE
from websockets.exceptions import ConnectionClosed

from d_back_core import Message, Reload, Server, ServerChanged, ServerRemoved, User, UserChanged
from d_back_core.models import Event
from d_back_core.wire.protocol import Error, GetUserData, ServerListUpdate, ServerMessage, UserData
from d_back_testing import ManualClient, RunningGateway, ScriptedProvider, configured, served
from d_back_testing.scripted_provider import DOWN

GRACE = 30.0
FAILBACK = 5.0
USERS: Mapping[str, Mapping[str, User]] = {"1": {"7": ADA}, "2": {"7": BOB}}


def listing(*server_ids: str) -> dict[str, Server]:
    return {server_id: Server(name=f"Server {server_id}") for server_id in server_ids}


def guarded(server_id: str = "1") -> dict[str, Server]:
    return {server_id: Server(name=f"Server {server_id}", passworded=True)}


async def lose(gateway: RunningGateway, script: ScriptedProvider) -> None:
    """Let the provider say that it is out of date until its grace has run out."""
    assert script.context is not None
    script.context.degraded("the line is dead")
    await gateway.advance(GRACE)


async def is_protected(gateway: RunningGateway, server_id: str = "1") -> bool:
    """Whether it says so in the list, and lets no client in."""
    client = await gateway.connect()
    await client.ask(server_id)
    frame = await client.receive()
    passworded = client.world.servers[server_id].passworded
    assert isinstance(frame, Error) is passworded
    return passworded


def default(client: ManualClient) -> list[str]:
    """Which servers are marked as the default one."""
    return [key for key, server in client.world.servers.items() if server.default is True]


def codes(frames: list[ServerMessage]) -> list[str]:
    """The codes of the errors among the frames; there is nothing else but list updates."""
    assert all(isinstance(frame, Error | ServerListUpdate) for frame in frames)
    return [frame.data.code for frame in frames if isinstance(frame, Error)]


# R3: whose list counts


async def test_r3_each_server_is_decided_on_its_own() -> None:
    """Both lists are shown; of a server that both list, the record of the higher fallback counts,
    and while it fails that of the lower one."""
    a = ScriptedProvider({key: Server(name=f"A {key}") for key in "12"})
    b = ScriptedProvider({key: Server(name=f"B {key}") for key in "23"})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect()
        assert client.world.servers.keys() == {"1", "2", "3"}
        assert [each.name for each in client.world.servers.values()] == ["A 1", "A 2", "B 3"]
        await lose(gateway, a)
        await client.new_frames()
        assert client.world.servers.keys() == {"1", "2", "3"}
        assert client.world.servers["1"].name == "A 1"
        assert client.world.servers["2"].name == "B 2"
        assert a.context is not None
        a.context.recovered()
        await gateway.advance(FAILBACK)
        await client.new_frames()
        assert client.world.servers["2"].name == "A 2"


@pytest.mark.parametrize("mode", ["fallback", "merge"])
async def test_r3_a_provider_that_no_longer_lists_a_server_takes_its_users_back(mode: str) -> None:
    """The server stays, since another provider lists it, with the users of that one only. When the
    first one lists it again, its users return."""
    a = ScriptedProvider(listing("1", "2"), dict(USERS))
    b = ScriptedProvider(listing("1"), {"1": {"8": CID}})
    async with served({"a": a, "b": b}, tables={"b": {"mode": mode}}) as gateway:
        client = await gateway.connect()
        await client.join("1")
        assert "7" in client.world.users
        del a.users_answers["1"]
        a.emit(ServerRemoved(server_id="1"))
        await gateway.settle()
        await client.new_frames()
        assert client.world.users.keys() == {"8"}
        a.users_answers["1"] = {"7": ADA}
        a.emit(ServerChanged(server_id="1", name="Server 1"))
        await gateway.settle()
        await client.new_frames()
        assert "7" in client.world.users


async def test_r3_a_filtered_fallback_leaves_the_rest_of_the_list_to_the_next() -> None:
    """It lists the servers of its filter only; the next one's record counts for all others."""
    a = ScriptedProvider({"1": Server(name="Mine"), "2": Server(name="Not mine")})
    b = ScriptedProvider(listing("1", "2", "3", "4"))
    async with served({"a": a, "b": b}, tables={"a": {"servers": ["1", "4"]}}) as gateway:
        client = await gateway.connect()
        names = {key: server.name for key, server in client.world.servers.items()}
        assert names == {"1": "Mine", "2": "Server 2", "3": "Server 3", "4": "Server 4"}


async def test_r3_a_filtered_fallback_below_an_unfiltered_one_adds_its_servers() -> None:
    """It is asked for its list like every other provider."""
    a, b = ScriptedProvider(listing("1")), ScriptedProvider(listing("2"))
    async with served({"a": a, "b": b}, tables={"b": {"servers": ["2"]}}) as gateway:
        client = await gateway.connect()
        assert client.world.servers.keys() == {"1", "2"}


@pytest.mark.parametrize("mode", ["merge", "enrich"])
async def test_r3_merge_adds_servers_and_enrich_adds_none(mode: str) -> None:
    """As with users."""
    a, b = (
        ScriptedProvider(listing("1")),
        ScriptedProvider({"1": Server(id="first"), "2": Server(name="Two")}),
    )
    async with served({"a": a, "b": b}, tables={"b": {"mode": mode}}) as gateway:
        client = await gateway.connect()
        assert client.world.servers.keys() == ({"1", "2"} if mode == "merge" else {"1"})
        assert client.world.servers["1"].id == "first"


async def test_r3_a_filtered_provider_touches_no_other_server_at_all() -> None:
    """It neither protects nor disables nor marks a server that is not its own."""
    other = Server(passworded=True, enabled=False, default=True, name="Other", id="other")
    a, b = ScriptedProvider({"2": other}), ScriptedProvider(listing("1", "2"))
    tables = {"a": {"servers": ["1"], "mode": "merge"}}
    async with served({"a": a, "b": b}, tables=tables) as gateway:
        client = await gateway.connect()
        assert client.world.servers["2"].name == "Server 2"
        assert default(client) == ["1"]
        assert not await is_protected(gateway, "2")
        a.emit(ServerChanged(server_id="2", passworded=True, enabled=False))
        assert await client.new_frames() == []


async def test_servers_of_the_list_are_told_to_everybody_when_they_change() -> None:
    """Also to those who joined nothing."""
    a = ScriptedProvider(listing("1"))
    async with served({"a": a}) as gateway:
        client = await gateway.connect()
        a.emit(ServerChanged(server_id="2", name="Two"))
        await client.new_frames()
        assert client.world.servers["2"].name == "Two"
        a.emit(ServerRemoved(server_id="1"))
        await client.new_frames()
        assert client.world.servers.keys() == {"2"}


async def test_a_list_that_stays_as_it_is_is_not_told_again() -> None:
    """Neither after a `Reload` nor after an event that changes nothing."""
    a = ScriptedProvider(listing("1"))
    async with served({"a": a}) as gateway:
        client = await gateway.connect()
        a.emit(Reload(), ServerChanged(server_id="1", name="Server 1"))
        assert await client.new_frames() == []


# R3: the default server


@pytest.mark.parametrize(
    ("records", "policies", "expected"),
    [
        (listing("1", "2"), {}, ["1"]),
        (listing("1") | {"2": Server(default=True)}, {}, ["2"]),
        (listing("1") | {"2": Server(default=True)}, {"1": {"default": True}}, ["1"]),
        (guarded("1") | listing("2"), {}, ["2"]),
        ({"1": Server(default=True, passworded=True)} | listing("2"), {}, ["2"]),
        (listing("1", "2"), {"1": {"default": True, "password": "x"}}, ["2"]),
        ({"1": Server(default=True, enabled=False)} | listing("2"), {}, ["2"]),
        (listing("1", "2"), {"1": {"default": True, "enabled": False}}, ["2"]),
        (guarded("1"), {}, []),
        ({}, {}, []),
    ],
    ids=[
        "the first",
        "flagged",
        "the operator's",
        "the first that is open",
        "flagged but protected",
        "the operator's but protected",
        "flagged but disabled",
        "the operator's but disabled",
        "none is open",
        "none at all",
    ],
)
async def test_r3_the_default_server(
    records: Mapping[str, Server], policies: dict[str, object], expected: list[str]
) -> None:
    """Policy, then the flag, among open servers; else the first open one."""
    async with served({"a": ScriptedProvider(records)}, policies=policies) as gateway:
        assert default(await gateway.connect()) == expected


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_r3_the_flag_of_the_highest_provider_wins(order: str) -> None:
    """Where two of them give one."""
    records = {
        "a": {"1": Server(), "2": Server(default=True)},
        "b": {"3": Server(default=True)},
    }
    tables = {"a": {"mode": "merge"}, "b": {"mode": "merge"}}
    async with served(
        {name: ScriptedProvider(records[name]) for name in order}, tables=tables
    ) as gateway:
        assert default(await gateway.connect()) == [{"a": "2", "b": "3"}[order[0]]]


async def test_r3_without_an_open_server_the_default_join_is_refused_and_ended() -> None:
    """One error, and 1013 at once: d-zone would ask for ever."""
    async with served({"a": ScriptedProvider(guarded())}) as gateway:
        client = await gateway.connect()
        await client.ask("default")
        frame = await client.receive()
        assert isinstance(frame, Error)
        assert frame.data.code == "no_server"
        with pytest.raises(ConnectionClosed) as closed:
            await client.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013


async def test_r3_the_default_moves_away_from_a_server_that_becomes_protected() -> None:
    """A client that asks for the default one next gets an open one."""
    a = ScriptedProvider(listing("1", "2"), USERS)
    async with served({"a": a}) as gateway:
        client = await gateway.connect()
        a.emit(ServerChanged(server_id="1", passworded=True))
        await client.new_frames()
        assert default(client) == ["2"]
        await client.join("default")
        assert client.users["7"].username == "Bob"


# Rule 6, protection is sticky


async def test_r6_failing_over_never_opens_a_server() -> None:
    """The next provider does not know that it is protected, or says that it is not."""
    a = ScriptedProvider(guarded(), USERS)
    b = ScriptedProvider({"1": Server(name="One", passworded=False)}, USERS)
    async with served({"a": a, "b": b}) as gateway:
        assert await is_protected(gateway)
        await lose(gateway, a)
        layers = gateway.live.list_resolver.layers
        assert [link.name for link, _ in layers.contributors("1")] == ["b"]
        assert await is_protected(gateway)


async def test_r6_a_server_stays_protected_when_its_provider_leaves_the_order() -> None:
    """It has not said otherwise."""
    a, b = ScriptedProvider(guarded(), USERS), ScriptedProvider(listing("1"), USERS)
    async with served({"a": a, "b": b}) as gateway:
        await gateway.server.reload(configured("b"))
        await gateway.settle()
        assert list(gateway.live.list_resolver.layers.in_use) == ["b"]
        assert await is_protected(gateway)


@pytest.mark.parametrize("said", [False, True], ids=["open", "protected"])
async def test_r6_only_the_provider_that_protected_it_opens_it_again(*, said: bool) -> None:
    """Another one that says that it is open opens nothing."""
    a = ScriptedProvider(guarded(), USERS)
    b = ScriptedProvider({"1": Server(passworded=said)}, USERS)
    async with served({"a": a, "b": b}, tables={"b": {"mode": "merge"}}) as gateway:
        assert await is_protected(gateway)
        b.emit(ServerChanged(server_id="1", passworded=False))
        await gateway.settle()
        assert await is_protected(gateway)
        a.emit(ServerChanged(server_id="1", passworded=False))
        await gateway.settle()
        assert not await is_protected(gateway)


async def test_r6_a_provider_that_comes_back_may_open_it() -> None:
    """It is ready, and says otherwise than before."""
    a, b = ScriptedProvider(guarded(), USERS), ScriptedProvider(listing("1"), USERS)
    async with served({"a": a, "b": b}) as gateway:
        await lose(gateway, a)
        a.servers_answer = {"1": Server(name="One", passworded=False)}
        assert a.context is not None
        a.context.recovered()
        await gateway.advance(FAILBACK - 1)
        assert await is_protected(gateway)
        await gateway.advance(1)
        assert not await is_protected(gateway)


async def test_r6_a_lower_layer_that_protects_is_heard() -> None:
    """Protection is the OR of all layers, whatever stands above says."""
    a, b = (
        ScriptedProvider({"1": Server(passworded=False)}, USERS),
        ScriptedProvider(guarded(), USERS),
    )
    async with served({"a": a, "b": b}, tables={"b": {"mode": "enrich"}}) as gateway:
        assert await is_protected(gateway)


async def test_r6_saying_nothing_of_it_opens_nothing() -> None:
    """Neither a snapshot nor an event without it, nor a snapshot without the server."""
    a = ScriptedProvider(guarded(), USERS)
    async with served({"a": a}) as gateway:
        a.emit(ServerChanged(server_id="1", name="First"))
        await gateway.settle()
        assert await is_protected(gateway)
        for answer in (listing("1"), {}, listing("1")):
            a.servers_answer = answer
            a.emit(Reload())
            await gateway.settle()
        assert await is_protected(gateway)


async def test_r6_the_operator_s_protection_is_opened_by_nobody_else() -> None:
    """A provider that says that it is open says nothing of the policy."""
    a = ScriptedProvider({"1": Server(passworded=False)}, USERS)
    async with served({"a": a}, policies={"1": {"passworded": True}}) as gateway:
        assert await is_protected(gateway)


async def test_r6_a_fields_filter_does_not_open_a_server() -> None:
    """It narrows what is shown, not what is closed."""
    a, b = (
        ScriptedProvider({"1": Server(passworded=True, enabled=True)}),
        ScriptedProvider(listing("1"), USERS),
    )
    tables = {"a": {"mode": "enrich", "fields": ["name"]}}
    async with served({"a": a, "b": b}, tables=tables) as gateway:
        assert await is_protected(gateway)


@pytest.mark.parametrize("above", [True, None], ids=["says enabled", "says nothing"])
async def test_r6_any_layer_in_use_may_disable_a_server(above: bool | None) -> None:  # noqa: FBT001
    """Whatever stands above it says; and it ends with that layer."""
    a, b = (
        ScriptedProvider({"1": Server(name="One", enabled=above)}),
        ScriptedProvider({"1": Server(enabled=False)}),
    )
    async with served({"a": a, "b": b}, tables={"b": {"mode": "enrich"}}) as gateway:
        client = await gateway.connect()
        assert client.world.servers == {}
        await lose(gateway, b)
        await client.new_frames()
        assert client.world.servers.keys() == {"1"}


async def test_r6_a_server_that_the_operator_disabled_stays_so() -> None:
    """Whatever providers say."""
    a = ScriptedProvider({"1": Server(enabled=True)}, USERS)
    async with served({"a": a}, policies={"1": {"enabled": False}}) as gateway:
        client = await gateway.connect()
        assert client.world.servers == {}
        await client.ask("1")
        assert codes(await client.new_frames()) == ["unknown_server"]


# R25: who is in a server that is closed


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([ServerChanged(server_id="1", passworded=True)], "unauthorized"),
        ([ServerChanged(server_id="1", enabled=False)], "gone"),
        ([ServerRemoved(server_id="1")], "gone"),
    ],
    ids=["protected", "disabled", "removed"],
)
async def test_r25_an_event_that_closes_a_server_ends_its_subscriptions(
    events: list[Event], code: str
) -> None:
    """Its sessions get one error and nothing more of it, and stay connected."""
    a = ScriptedProvider(listing("1", "2"), USERS)
    async with served({"a": a}) as gateway:
        client, other = await gateway.connect_and_join("1"), await gateway.connect_and_join("2")
        a.emit(*events)
        assert codes(await client.new_frames()) == [code]
        assert codes(await other.new_frames()) == []
        a.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        assert await client.new_frames() == []
        await client.join("2")
        assert client.users["7"].username == "Bob"


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ({"passworded": True}, "unauthorized"),
        ({"password": "secret"}, "unauthorized"),
        ({"enabled": False}, "gone"),
    ],
)
async def test_r25_a_reload_that_closes_a_server_ends_its_subscriptions(
    policy: dict[str, object], code: str
) -> None:
    """The operator closes it while people are in it."""
    a = ScriptedProvider(listing("1"), USERS)
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join("1")
        await gateway.server.reload(configured("a", policies={"1": policy}))
        assert codes(await client.new_frames()) == [code]
        a.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        assert await client.new_frames() == []


async def test_r7_a_server_that_only_a_failed_provider_listed_stays() -> None:
    """With its last state, for the sessions that joined it and for new ones."""
    a, b = ScriptedProvider(listing("1"), USERS), ScriptedProvider(listing("2"), USERS)
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join("1")
        await lose(gateway, a)
        assert codes(await client.new_frames()) == []
        assert client.users["7"].username == "Ada"
        other = await gateway.connect_and_join("1")
        assert other.users["7"].username == "Ada"
        assert other.world.servers.keys() == {"1", "2"}


async def test_r25_a_ready_provider_that_no_longer_lists_a_server_ends_its_subscriptions() -> None:
    """No other provider lists it, so it is gone; its sessions may join again when it is back."""
    a, b = ScriptedProvider(listing("1"), USERS), ScriptedProvider(listing("2"), USERS)
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join("1")
        a.servers_answer = {}
        a.emit(Reload())
        assert codes(await client.new_frames()) == ["gone"]
        a.servers_answer = listing("1")
        a.emit(Reload())
        await client.new_frames()
        await client.join("1")
        assert client.users["7"].username == "Ada"


async def test_r25_what_happens_after_the_door_is_closed_is_not_heard_by_who_was_in_there() -> (
    None
):
    """Also where both come in the same turn of the loop."""
    a = ScriptedProvider(listing("1"), USERS)
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join("1")
        a.emit(
            ServerChanged(server_id="1", passworded=True),
            Message(server_id="1", uid="7", message="a secret", channel="c"),
            UserChanged(server_id="1", uid="7", username="Secret"),
        )
        assert codes(await client.new_frames()) == ["unauthorized"]


async def test_r25_who_is_in_a_protected_server_stays_when_it_is_protected_once_more() -> None:
    """They were authorized; another provider that protects it too changes nothing for them."""
    a, b = ScriptedProvider(guarded(), USERS), ScriptedProvider(listing("1"))
    a.authorize_answer = True
    async with served({"a": a, "b": b}, tables={"b": {"mode": "merge"}}) as gateway:
        client = await gateway.connect_and_join("1")
        b.emit(ServerChanged(server_id="1", passworded=True))
        a.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        assert len(await client.new_frames()) == 1
        assert client.users["7"].status == "dnd"


async def test_r25_a_join_under_way_to_a_server_that_becomes_protected_is_refused() -> None:
    """It was open when it was asked for."""
    a = ScriptedProvider(listing("1"), USERS)
    async with served({"a": a}) as gateway:
        a.hold("users")
        client = await gateway.connect()
        await client.ask("1")
        await client.new_frames()
        a.emit(ServerChanged(server_id="1", passworded=True))
        await client.new_frames()
        a.release("users")
        assert codes(await client.new_frames()) == ["unauthorized"]


async def test_r25_a_join_under_way_to_a_server_that_goes_is_refused() -> None:
    """It was there when it was asked for."""
    a = ScriptedProvider(listing("1"), USERS)
    async with served({"a": a}) as gateway:
        a.hold("users")
        client = await gateway.connect()
        await client.ask("1")
        await client.new_frames()
        a.emit(ServerRemoved(server_id="1"))
        await client.new_frames()
        a.release("users")
        assert codes(await client.new_frames()) == ["gone"]


async def test_r25_users_of_a_server_that_becomes_protected_are_not_told() -> None:
    """`get_user_data` is under the same authorization as a join."""
    a = ScriptedProvider(listing("1"), USERS)
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join("1")
        await client.send(GetUserData(server_id="1"))
        await client.until(UserData)
        a.emit(ServerChanged(server_id="1", passworded=True))
        await client.new_frames()
        await client.send(GetUserData(server_id="1"))
        assert codes(await client.new_frames()) == ["unauthorized"]


async def test_r24_who_was_asked_decides_only_where_it_contributes() -> None:
    """A provider that says nothing of the server lets no client in, and is not asked."""
    a, b = ScriptedProvider(guarded(), {"1": {"7": ADA}}), ScriptedProvider(ONE, {"1": {"7": BOB}})
    b.authorize_answer = True
    async with served({"a": a, "b": b}) as gateway:
        assert await is_protected(gateway)
        assert not any(call.startswith("authorize") for call in b.calls)
        await lose(gateway, a)
        client = await gateway.connect()
        await client.join("1")
        assert client.users["7"].username == "Bob"


async def test_a_list_that_cannot_be_had_at_the_start_comes_later() -> None:
    """Connected clients receive it; until then there is nothing to join."""
    a = ScriptedProvider(DOWN, USERS)
    async with served({"a": a}) as gateway:
        client = await gateway.connect()
        assert client.world.servers == {}
        a.servers_answer = listing("1")
        await gateway.advance(1)
        await client.new_frames()
        await client.join("1")
        assert client.users["7"].username == "Ada"


async def test_r6_who_protects_a_server_before_anybody_lists_it_is_remembered() -> None:
    """An overlay may know of it first, and may be gone when it is listed."""
    overlay, a = ScriptedProvider({"1": Server(passworded=True)}, {}), ScriptedProvider({}, {})
    async with served({"e": overlay, "a": a}, tables={"e": {"mode": "enrich"}}) as gateway:
        await gateway.server.reload(configured("a"))
        a.emit(ServerChanged(server_id="1", name="One"))
        await gateway.settle()
        assert gateway.live.server_list.servers["1"].passworded


async def test_r6_a_server_that_goes_and_comes_in_one_turn_stays_protected() -> None:
    """Only a word of the provider that protected it opens it again."""
    async with served({"a": ScriptedProvider(ONE)}) as gateway:
        gateway.live.reports.on_event("a", ServerChanged(server_id="1", passworded=True))
        gateway.live.reports.on_event("a", ServerRemoved(server_id="1"))
        gateway.live.reports.on_event("a", ServerChanged(server_id="1", name="One"))
        await gateway.settle()
        assert gateway.live.server_list.servers["1"].passworded


async def test_r3_the_list_is_in_the_order_of_the_chain_whenever_a_server_came() -> None:
    """A reload of the same chain moves nothing, the default server least of all."""
    a, b = ScriptedProvider({}, {}), ScriptedProvider({"2": Server(name="Two")}, {})
    merging = {"a": {"mode": "merge"}, "b": {"mode": "merge"}}
    async with served({"a": a, "b": b}, tables=merging) as gateway:
        a.emit(ServerChanged(server_id="1", name="One"))
        await gateway.settle()
        before = list(gateway.live.server_list.servers.values())
        assert [(each.server_id, each.default) for each in before] == [("1", False), ("2", True)]
        await gateway.server.reload(configured("ab", merging))
        assert list(gateway.live.server_list.servers.values()) == before
