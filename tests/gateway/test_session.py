"""One client: greeted, joined, told of what changes, refused."""

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any

import pytest
from peers import Dial, Frame, Peer, news, until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from d_back_core import (
    Context,
    Credentials,
    Message,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
    hookimpl,
)
from d_back_core.config import Config, parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.wire import protocol
from d_back_testing import ManualClock, ScriptedProvider

GONE = ("gone", "Sorry, couldn't connect to that Discord server.")
UNKNOWN = ("unknown_server", "Sorry, couldn't connect to that Discord server.")
NO_SERVER = ("no_server", "Sorry, couldn't connect to that Discord server.")
EITHER = ("unauthorized", "This server requires a password, or a login with Discord.")
UNAUTHORIZED = (
    "unauthorized",
    "This server requires Discord authentication. Please login with Discord.",
)

ADA = {"uid": "7", "username": "Ada", "status": "online", "roleColor": "#ff6b6b"}
BO = {"uid": "8", "username": "Bo", "status": "idle", "roleColor": "#ffffff"}


def town(kind: type[ScriptedProvider] = ScriptedProvider) -> ScriptedProvider:
    """Two open servers, a protected one, and one that is disabled."""
    return kind(
        {
            "333": Server(name="Vault", id="vault", passworded=True),
            "444": Server(name="Ruin", id="ruin", enabled=False),
            "111": Server(name="Plaza", id="plaza", default=True),
            "222": Server(name="Garden", id="garden"),
        },
        {
            "111": {
                "7": User(username="Ada", status="online", role_color="#ff6b6b"),
                "8": User(username="Bo", status="idle"),
            },
            "222": {"9": User(username="Cy", status="dnd")},
            "333": {"6": User(username="Di", status="online")},
        },
    )


def serving(
    provider: ScriptedProvider, *, clock: ManualClock | None = None, **servers: dict[str, Any]
) -> WebSocketServer:
    """A gateway for one provider; ``servers`` are policies, by server_id behind an ``s``."""
    policies = {name[1:]: policy for name, policy in servers.items()}
    return WebSocketServer(
        config=configured(["a"], policies), providers={"a": provider}, clock=clock
    )


def configured(order: list[str], policies: dict[str, dict[str, Any]] | None = None) -> Config:
    table = {"gateway": {"port": 0}, "chain": {"order": order}, "servers": policies or {}}
    return parse(table)


def changes(frames: list[Frame]) -> list[Any]:
    """The data of presences and messages."""
    return [frame["data"] for frame in frames if frame["type"] in {"presence", "message"}]


# The greeting


async def test_the_list_of_servers_comes_first_and_once(dial: Dial) -> None:
    """server-list is the first frame of every connection, and no other frame comes unasked."""
    async with serving(town()) as server:
        peer = await dial(server, greeted=False)
        frames = await news(server, peer)
        assert [frame["type"] for frame in frames] == ["server-list"]


async def test_a_client_that_asks_at_once_is_greeted_first(dial: Dial) -> None:
    """A connect that was sent before the greeting arrived is answered after it."""
    async with serving(town()) as server:
        peer = await dial(server, greeted=False)
        await peer.ask()
        await peer.expect("server-list")
        await peer.expect("server-join")


async def test_a_join_brings_no_second_list(dial: Dial) -> None:
    """server-list is never repeated: d-zone would join again at each."""
    async with serving(town()) as server:
        peer = await dial(server)
        await peer.join("plaza")
        await peer.join("garden")
        assert await news(server, peer) == []


async def test_the_list_holds_what_clients_may_know(dial: Dial) -> None:
    """Servers are listed by snowflake with public id, name and protection; disabled ones and
    passwords are not."""
    async with serving(town(), s222={"password": "MARK"}) as server:
        peer = await dial(server, greeted=False)
        assert (await peer.expect("server-list"))["data"] == {
            "333": {"id": "vault", "name": "Vault", "passworded": True},
            "111": {"id": "plaza", "name": "Plaza", "default": True, "passworded": False},
            "222": {"id": "garden", "name": "Garden", "passworded": True},
        }


@pytest.mark.parametrize("path", ["/", "/ws", "/any/thing?x=1", "/healthz", "/api/version", "//["])
async def test_every_path_takes_websockets(dial: Dial, path: str) -> None:
    """d-zone connects wherever it was told to; the path means nothing."""
    async with serving(town()) as server:
        peer = await dial(server, path)
        assert (await peer.join())["serverName"] == "Plaza"


# Joins


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        *({"server": wanted} for wanted in (None, "", " ", "\t\n", "null", "default")),
        {"server": "  default "},
        {"server": " null"},
    ],
)
async def test_the_default_join_succeeds(dial: Dial, data: dict[str, Any] | None) -> None:
    """Whatever d-zone sends for "no server in particular" joins the default server, and the
    answer names it."""
    async with serving(town()) as server:
        peer = await dial(server)
        await peer.send({"type": "connect", "data": data})
        joined = (await peer.expect("server-join"))["data"]
        assert joined["request"] == {"server": "plaza"}


async def test_a_connect_without_data_joins_the_default(dial: Dial) -> None:
    """Not even data is needed; the answer has the default server's users."""
    async with serving(town()) as server:
        peer = await dial(server)
        await peer.send({"type": "connect"})
        joined = (await peer.expect("server-join"))["data"]
        assert joined["request"] == {"server": "plaza"}
        assert joined["users"].keys() == {"7", "8"}


@pytest.mark.parametrize("wanted", ["garden", "222", " garden ", "222\n"])
async def test_servers_are_known_by_both_ids(dial: Dial, wanted: str) -> None:
    """The public id and the snowflake mean the server; the answer has the public id."""
    async with serving(town()) as server:
        joined = await (await dial(server)).join(wanted)
        assert joined["request"] == {"server": "garden"}
        assert joined["serverName"] == "Garden"


async def test_an_alias_is_the_public_id(dial: Dial) -> None:
    """The operator's alias stands in the list, and a join by it echoes it."""
    async with serving(town(), s222={"alias": "park"}) as server:
        peer = await dial(server)
        assert (await peer.join("park"))["request"] == {"server": "park"}


async def test_a_join_brings_everybody_in_full(dial: Dial) -> None:
    """server-join has all four fields of every user, with defaults for what no provider said."""
    async with serving(town()) as server:
        joined = await (await dial(server)).join("plaza")
        assert joined.pop("epoch")
        assert joined == {
            "users": {"7": ADA, "8": BO},
            "request": {"server": "plaza"},
            "serverName": "Plaza",
            "seq": 0,
        }


async def test_the_default_is_an_open_server(dial: Dial) -> None:
    """A protected server is not the default, whichever provider says so; the first open one is."""
    provider = ScriptedProvider(
        {
            "1": Server(name="Vault", default=True, passworded=True),
            "2": Server(name="Ruin", default=True, enabled=False),
            "3": Server(name="Plaza"),
            "4": Server(name="Garden"),
        },
        {"3": {}},
    )
    async with serving(provider) as server:
        assert (await (await dial(server)).join())["serverName"] == "Plaza"


async def test_the_operators_default_wins(dial: Dial) -> None:
    """Policy says which server clients come to that name none."""
    async with serving(town(), s222={"default": True}) as server:
        assert (await (await dial(server)).join())["serverName"] == "Garden"


@pytest.mark.parametrize("wanted", ["nowhere", "444", "ruin", "__proto__", "x" * 5000, "11", "ü"])
async def test_unknown_and_disabled_servers_are_refused(dial: Dial, wanted: str) -> None:
    """What is not in the list cannot be joined; the connection stays."""
    async with serving(town()) as server:
        peer = await dial(server)
        await peer.ask(wanted)
        assert await peer.refusal() == UNKNOWN
        await peer.join()


@pytest.mark.parametrize(
    "servers",
    [{}, {"1": Server(name="Vault", passworded=True)}, {"1": Server(name="R", enabled=False)}],
)
async def test_r3_without_an_open_server_the_default_join_ends(
    dial: Dial, servers: dict[str, Server]
) -> None:
    """With nothing open there is one error, and the connection is closed with 1013 at once:
    d-zone would ask for ever."""
    async with serving(ScriptedProvider(servers)) as server:
        peer = await dial(server)
        await peer.ask()
        assert await peer.refusal() == NO_SERVER
        with pytest.raises(ConnectionClosed, match="1013"):
            await peer.receive()


async def test_r3_a_server_that_was_named_may_be_asked_for_again(dial: Dial) -> None:
    """Only the default join ends the connection."""
    async with serving(ScriptedProvider({"1": Server(name="Vault", passworded=True)})) as server:
        peer = await dial(server)
        for wanted, refusal in (("nowhere", UNKNOWN), ("vault", UNAUTHORIZED)):
            await peer.ask(wanted)
            assert await peer.refusal() == refusal
        assert await news(server, peer) == []


async def test_no_credential_comes_back(dial: Dial) -> None:
    """Nothing that a client offers is in any answer, whether it lets in or not."""
    offered = {"password": "MARK", "discordToken": "MARK", "discordUser": {"id": "MARK"}}
    async with serving(town(), s333={"password": "MARK"}) as server:
        peer = await dial(server)
        for wanted in ("plaza", "vault", "nowhere"):
            await peer.ask(wanted, **offered)
            assert "MARK" not in str(await peer.receive())


async def test_a_refused_join_leaves_the_subscription(dial: Dial) -> None:
    """Who asks in vain for another server stays where it is."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join("plaza")
        for wanted in ("nowhere", "vault"):
            await peer.ask(wanted)
            await peer.refusal()
        provider.emit(UserChanged(server_id="111", uid="7", status="dnd"))
        assert changes(await news(server, peer)) == [{"uid": "7", "status": "dnd"}]


# What changes


async def test_a_change_says_what_changed_and_the_status(dial: Dial) -> None:
    """A presence of a known user has the changed fields, and always the status."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join()
        provider.emit(
            UserChanged(server_id="111", uid="7", status="dnd"),
            UserChanged(server_id="111", uid="7", role_color="#000000"),
            UserChanged(server_id="111", uid="7", username="Ada L."),
            UserChanged(server_id="111", uid="8", status="offline", role_color="#000001"),
        )
        frames = await news(server, peer)
        assert changes(frames) == [
            {"uid": "7", "status": "dnd"},
            {"uid": "7", "status": "dnd", "roleColor": "#000000"},
            {"uid": "7", "status": "dnd", "username": "Ada L."},
            {"uid": "8", "status": "offline", "roleColor": "#000001"},
        ]
        assert {frame["server"] for frame in frames} == {"111"}


async def test_a_new_user_is_introduced_in_full(dial: Dial) -> None:
    """The first presence of a user has all four fields, whatever the provider said."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join()
        provider.emit(UserChanged(server_id="111", uid="5", status="online"))
        assert changes(await news(server, peer)) == [
            {"uid": "5", "username": "5", "status": "online", "roleColor": "#ffffff"}
        ]


async def test_what_changes_nothing_is_not_sent(dial: Dial) -> None:
    """An event that leaves the user as it is reaches no client."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join()
        provider.emit(
            UserChanged(server_id="111", uid="7", status="online"),
            UserChanged(server_id="111", uid="8"),
        )
        assert await news(server, peer) == []


async def test_only_known_users_are_deleted(dial: Dial) -> None:
    """A removal is sent for a user that the client was told of, and for no other: d-zone would
    add a ghost."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join()
        for uid in ("8", "8", "9", "5"):
            provider.emit(UserRemoved(server_id="111", uid=uid))
        assert changes(await news(server, peer)) == [
            {"uid": "8", "status": "offline", "delete": True}
        ]


async def test_chat_of_known_users_is_passed_on(dial: Dial) -> None:
    """A message goes to everyone who joined, word for word."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join()
        text = 'hé "<b>" \u2028 \U0001f600\n'
        provider.emit(Message(server_id="111", uid="7", message=text, channel="527"))
        assert changes(await news(server, peer)) == [
            {"uid": "7", "message": text, "channel": "527"}
        ]


async def test_chat_of_strangers_is_not_sent(dial: Dial) -> None:
    """A message whose author is not in the world, is hidden or has gone is dropped."""
    provider = town()
    async with serving(provider, s111={"ignore_users": ["8"]}) as server:
        peer = await dial(server)
        await peer.join()
        for uid in ("5", "8", "9"):
            provider.emit(Message(server_id="111", uid=uid, message="hi", channel="1"))
        provider.emit(
            UserRemoved(server_id="111", uid="7"),
            Message(server_id="111", uid="7", message="bye", channel="1"),
        )
        frames = await news(server, peer)
        assert [frame["type"] for frame in frames] == ["presence"]


async def test_r11_empty_messages_are_not_sent(dial: Dial) -> None:
    """There is nothing to show of a message without text."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join()
        for text in ("", "  ", "\n"):
            provider.emit(Message(server_id="111", uid="7", message=text, channel="1"))
        assert await news(server, peer) == []


async def test_channels_that_policy_ignores_are_silent(dial: Dial) -> None:
    """Chat of a channel that the operator named, by id or name, is not shown."""
    provider = town()
    policy = {"ignore_channels": ["staff", "66"]}
    async with serving(provider, s111=policy) as server:
        peer = await dial(server)
        await peer.join()
        for channel, name in (("5", "staff"), ("66", None), ("6", "public")):
            provider.emit(
                Message(server_id="111", uid="7", message="hi", channel=channel, channel_name=name)
            )
        assert [data["channel"] for data in changes(await news(server, peer))] == ["6"]


async def test_r5_unfit_channels_are_mapped(dial: Dial) -> None:
    """A channel that d-zone cannot key by becomes one that it can, the same one each time."""
    provider = town()
    channels: list[Any] = ["__proto__", "général", "a b", "", "x" * 65, "général", 527964146659]
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join()
        for channel in channels:
            provider.emit(Message(server_id="111", uid="7", message="hi", channel=channel))
        sent = [data["channel"] for data in changes(await news(server, peer))]
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", channel) for channel in sent)
        assert "__proto__" not in sent
        assert sent[1] == sent[5]
        assert len({*sent}) == len({*channels})
        assert sent[-1] == "527964146659"


async def test_r5_unfit_users_are_left_out(dial: Dial) -> None:
    """A uid that would break d-zone, or is no string, is in no frame; the others are."""
    provider = town()
    unfit: list[Any] = ["__proto__", "constructor", "a b", "", "ü", "x" * 65, 5, None]
    users = {uid: User(username="Evil") for uid in unfit}
    provider.users_answers["111"] = {**users, "7": User(username="Ada")}
    async with serving(provider) as server:
        peer = await dial(server)
        assert [*(await peer.join())["users"]] == ["7"]
        for uid in unfit:
            provider.emit(UserChanged(server_id="111", uid=uid, username="Evil"))
        assert await news(server, peer) == []


async def test_r5_wrong_values_count_as_not_said(dial: Dial) -> None:
    """A username, status or colour that is none gives way to the default; all stay strings."""
    provider = town()
    wrong: Any = User(username=5, status="away", role_color="red")  # type: ignore[arg-type]
    provider.users_answers["111"] = {"123456789012345678": wrong, "7": User(username=" ")}
    async with serving(provider) as server:
        users = (await (await dial(server)).join())["users"]
        uid = "123456789012345678"
        plain = {"status": "offline", "roleColor": "#ffffff"}
        assert users == {
            uid: {"uid": uid, "username": uid, **plain},
            "7": {"uid": "7", "username": "7", **plain},
        }


async def test_words_that_freeze_d_zone_are_broken(dial: Dial) -> None:
    """Neither a server's name nor a user's nor chat can stop the page of every viewer."""
    provider = ScriptedProvider(
        {"1": Server(name="The constructor", id="x")}, {"1": {"7": User(username="toString")}}
    )
    async with serving(provider) as server:
        peer = await dial(server, greeted=False)
        listed = (await peer.expect("server-list"))["data"]["1"]
        joined = await peer.join()
        provider.emit(
            UserChanged(server_id="1", uid="8", username="__proto__ x"),
            Message(server_id="1", uid="7", message="hi valueOf hi", channel="1"),
        )
        introduced, message = changes(await news(server, peer))
        provider.emit(ServerChanged(server_id="1", name="valueOf"))
        (renamed,) = await news(server, peer)
        assert listed["name"] == joined["serverName"] == "The constructor\u200b"
        assert joined["users"]["7"]["username"] == "toString\u200b"
        assert introduced["username"] == "__proto__\u200b x"
        assert message["message"] == "hi valueOf\u200b hi"
        assert renamed["data"]["1"]["name"] == "valueOf\u200b"


async def test_nothing_is_sent_before_the_join(dial: Dial) -> None:
    """A client that has joined nothing hears of no user: d-zone would throw at a message."""
    provider = town()
    async with serving(provider) as server:
        await (await dial(server)).join("plaza")
        peer = await dial(server)
        provider.emit(
            Message(server_id="111", uid="7", message="hi", channel="1"),
            UserChanged(server_id="111", uid="7", status="dnd"),
            ServerChanged(server_id="111", client_id="99"),
        )
        assert await news(server, peer) == []


async def test_each_client_hears_of_its_own_server_only(dial: Dial) -> None:
    """d-zone shows whatever reaches it: no frame of another server does."""
    provider = town()
    async with serving(provider) as server:
        peers = {"111": await dial(server), "222": await dial(server)}
        for server_id, peer in peers.items():
            await peer.join(server_id)
        for server_id, uid in (("111", "7"), ("222", "9")):
            provider.emit(
                UserChanged(server_id=server_id, uid=uid, status="offline"),
                Message(server_id=server_id, uid=uid, message="hi", channel="1"),
                ServerChanged(server_id=server_id, client_id="99"),
            )
        for server_id, peer in peers.items():
            frames = await news(server, peer)
            assert [frame["server"] for frame in frames] == [server_id] * 3


async def test_r27_all_are_told_the_same_in_order(dial: Dial) -> None:
    """A burst reaches every client whole, in order and with consecutive numbers."""
    provider = town()
    async with serving(provider) as server:
        peers = [await dial(server) for _ in range(3)]
        for peer in peers:
            await peer.join()
        for number in range(500):
            for uid in ("7", "8"):
                provider.emit(UserChanged(server_id="111", uid=uid, username=f"{number}"))
        for peer in peers:
            frames = await news(server, peer)
            assert [frame["seq"] for frame in frames] == [*range(1, 1001)]
            names = [(data["uid"], data["username"]) for data in changes(frames)]
            assert names == [(uid, str(number)) for number in range(500) for uid in ("7", "8")]


async def test_r31_every_incarnation_of_a_world_has_its_own_epoch(dial: Dial) -> None:
    """The epochs of two servers, and of one server before and after a restart, differ."""
    epochs: list[str] = []
    for _ in range(2):
        async with serving(town()) as server:
            peer = await dial(server)
            epochs += [(await peer.join(wanted))["epoch"] for wanted in ("plaza", "garden")]
    assert len({*epochs}) == 4


# hide_offline


async def test_r13_snapshots_leave_offline_users_out(dial: Dial) -> None:
    """Who is offline is not in a join of a server that hides offline users, and cannot speak."""
    provider = town()
    provider.users_answers["111"] = {"7": User(status="online"), "8": User(status="offline")}
    async with serving(provider, s111={"hide_offline": True}) as server:
        peer = await dial(server)
        assert [*(await peer.join())["users"]] == ["7"]
        provider.emit(Message(server_id="111", uid="8", message="hi", channel="1"))
        assert await news(server, peer) == []


async def test_r13_going_offline_is_a_status_and_no_removal(dial: Dial) -> None:
    """d-zone loses a spawn tile at each new actor, so who goes offline stays one."""
    provider = town()
    async with serving(provider, s111={"hide_offline": True}) as server:
        peer = await dial(server)
        await peer.join()
        provider.emit(UserChanged(server_id="111", uid="8", status="offline"))
        assert changes(await news(server, peer)) == [{"uid": "8", "status": "offline"}]


async def test_r13_coming_online_sends_all_fields(dial: Dial) -> None:
    """Sessions that were never told of the user can show it."""
    provider = town()
    provider.users_answers["111"] = {"8": User(username="Bo", status="offline")}
    async with serving(provider, s111={"hide_offline": True}) as server:
        peer = await dial(server)
        await peer.join()
        provider.emit(
            UserChanged(server_id="111", uid="8", username="Bob"),
            UserChanged(server_id="111", uid="8", status="idle"),
        )
        assert changes(await news(server, peer)) == [{**BO, "username": "Bob"}]


async def test_r13_a_removal_reaches_those_who_knew_the_user(dial: Dial) -> None:
    """Who joined after the user went offline was not told of it, and is not told that it is
    gone; who joined before is."""
    provider = town()
    async with serving(provider, s111={"hide_offline": True}) as server:
        early, late = await dial(server), await dial(server)
        await early.join()
        provider.emit(UserChanged(server_id="111", uid="8", status="offline"))
        await news(server, early)
        assert "8" not in (await late.join())["users"]
        provider.emit(UserRemoved(server_id="111", uid="8"))
        removal = {"uid": "8", "status": "offline", "delete": True}
        assert changes(await news(server, early)) == [removal]
        assert await news(server, late) == []


async def test_r13_a_user_nobody_was_told_of_goes_unseen(dial: Dial) -> None:
    """The removal of a user who was offline all the time sends nothing and takes no number."""
    provider = town()
    provider.users_answers["111"] = {"7": User(status="online"), "8": User(status="offline")}
    async with serving(provider, s111={"hide_offline": True}) as server:
        peer = await dial(server)
        await peer.join()
        provider.emit(
            UserRemoved(server_id="111", uid="8"),
            UserChanged(server_id="111", uid="7", status="dnd"),
        )
        (frame,) = await news(server, peer)
        assert (frame["seq"], frame["data"]) == (1, {"uid": "7", "status": "dnd"})


# Questions


async def test_users_can_be_asked_for(dial: Dial) -> None:
    """get_user_data answers with the users of an open server, without a join."""
    async with serving(town()) as server:
        peer = await dial(server)
        for wanted in ("111", "plaza"):
            await peer.send({"type": "get_user_data", "serverId": wanted})
            assert await peer.receive() == {
                "type": "user_data",
                "serverId": "111",
                "users": {"7": ADA, "8": BO},
            }


@pytest.mark.parametrize("compression", ["deflate", None])
@pytest.mark.parametrize("count", [100, 3000])
async def test_r42_many_users_can_be_asked_for(compression: str | None, count: int) -> None:
    """The answer is the snapshot of the joins, compressed for clients that accept it."""
    users = {str(number): User(username=f"U{number}", status="idle") for number in range(count)}
    source = ScriptedProvider({"111": Server(name="Plaza")}, {"111": users})
    async with (
        serving(source) as server,
        connect(server.url, compression=compression, max_size=None) as client,
    ):
        peer = Peer(client)
        await peer.expect("server-list")
        joined = await peer.join("111")
        await peer.send({"type": "get_user_data", "serverId": "111"})
        assert await peer.receive() == {
            "type": "user_data",
            "serverId": "111",
            "users": joined["users"],
        }
        assert len(joined["users"]) == count
        source.emit(UserChanged(server_id="111", uid="7", status="dnd"))
        await peer.expect("presence")
        await peer.send({"type": "get_user_data", "serverId": "111"})
        assert (await peer.receive())["users"]["7"]["status"] == "dnd"


async def test_servers_can_be_asked_for(dial: Dial) -> None:
    """get_server_data answers with the list, or with the one server that was asked for."""
    async with serving(town()) as server:
        peer = await dial(server, greeted=False)
        listed = (await peer.expect("server-list"))["data"]
        await peer.send({"type": "get_server_data"})
        assert await peer.receive() == {"type": "server_data", "servers": listed}
        await peer.send({"type": "get_server_data", "serverId": "garden"})
        answer = await peer.receive()
        assert answer == {"type": "server_data", "servers": {"222": listed["222"]}}


@pytest.mark.parametrize("question", ["get_user_data", "get_server_data"])
@pytest.mark.parametrize("wanted", ["nowhere", "444", "ruin"])
async def test_nothing_is_told_of_servers_that_are_not_listed(
    dial: Dial, question: str, wanted: str
) -> None:
    """Questions know the same servers as joins."""
    async with serving(town()) as server:
        peer = await dial(server)
        await peer.send({"type": question, "serverId": wanted})
        assert await peer.refusal() == UNKNOWN


async def test_a_protected_servers_users_are_told_to_who_joined(dial: Dial) -> None:
    """get_user_data has the authorization of the join: refused before it, answered after, and
    refused again for who joins elsewhere."""
    async with serving(town(), s333={"password": "pw"}) as server:
        peer = await dial(server)
        question = {"type": "get_user_data", "serverId": "vault"}
        await peer.send(question)
        assert await peer.refusal() == EITHER
        await peer.join("vault", password="pw")
        await peer.send(question)
        assert [*(await peer.expect("user_data"))["users"]] == ["6"]
        await peer.join("plaza")
        await peer.send(question)
        assert await peer.refusal() == EITHER


# Wrong messages


@pytest.mark.parametrize(
    ("frame", "refusal"),
    [
        ("nonsense", ("invalid_json", "Invalid JSON")),
        ("", ("invalid_json", "Invalid JSON")),
        (b"\xff\x00", ("invalid_encoding", "Invalid binary encoding")),
        ("[]", ("unknown_type", "Unknown event type")),
        ("null", ("unknown_type", "Unknown event type")),
        ('{"type":"hello"}', ("unknown_type", "Unknown event type")),
        ('{"data":{}}', ("unknown_type", "Unknown event type")),
        (
            '{"type":"connect","data":[]}',
            ("invalid_message", "Invalid message: Expected `object | null`, got `array`"),
        ),
        (
            '{"type":"connect","data":{"server":111}}',
            ("invalid_message", "Invalid message: Expected `str | null`, got `int`"),
        ),
        (
            '{"type":"get_user_data"}',
            ("invalid_message", "Invalid message: Object missing required field `serverId`"),
        ),
    ],
)
async def test_a_wrong_message_is_an_error_and_the_connection_stays(
    dial: Dial, frame: str | bytes, refusal: tuple[str, str]
) -> None:
    """Each mistake gets an error with a code, and the next message counts again."""
    async with serving(town()) as server:
        peer = await dial(server)
        await peer.connection.send(frame)
        code, text = await peer.refusal()
        assert (code, text.split(" - ")[0]) == refusal
        await peer.join()


async def test_binary_frames_of_utf_8_are_read(dial: Dial) -> None:
    """As 0.0.18 did, JSON is taken from binary frames too; the answer is text."""
    async with serving(town()) as server:
        peer = await dial(server)
        await peer.connection.send(b'{"type":"connect","data":{"server":"garden"}}')
        joined = (await peer.expect("server-join"))["data"]
        assert joined["request"] == {"server": "garden"}
        assert joined["users"].keys() == {"9"}


async def test_a_wrong_message_leaves_the_subscription(dial: Dial) -> None:
    """Who is joined stays joined."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join()
        await peer.connection.send("nonsense")
        await peer.refusal()
        provider.emit(UserChanged(server_id="111", uid="7", status="dnd"))
        assert changes(await news(server, peer)) == [{"uid": "7", "status": "dnd"}]


@pytest.mark.parametrize(
    "message",
    [
        "nonsense",
        '{"type":"connect","data":{"server":"nowhere"}}',
        '{"type":"connect","data":{"server":"vault","password":"guess"}}',
        '{"type":"get_user_data","serverId":"vault"}',
    ],
)
async def test_who_goes_on_being_refused_is_closed(dial: Dial, message: str) -> None:
    """Refused again and again, a client gets an error each time and is then closed with 1008;
    other clients notice nothing."""
    async with serving(town(), s333={"password": "pw"}) as server:
        other = await dial(server)
        await other.join()
        peer = await dial(server)
        assert 10 <= await refusals(peer, message) < 100
        assert peer.connection.close_code == 1008
        assert await news(server, other) == []


async def refusals(peer: Peer, message: str) -> int:
    """How often the message is refused before the connection ends."""
    for count in range(100):
        try:
            await peer.connection.send(message)
            await peer.refusal()
        except ConnectionClosed:
            return count
    return 100


async def test_a_flood_of_wrong_messages_is_closed(dial: Dial) -> None:
    """A client that does not even read the errors is closed, too."""
    async with serving(town()) as server:
        peer = await dial(server)
        for _ in range(25):
            await peer.connection.send("nonsense")
        assert await peer.closed() == 1008


async def test_rare_mistakes_are_forgiven(dial: Dial) -> None:
    """What is refused now and then ends no connection, however long it lasts."""
    clock = ManualClock()
    async with serving(town(), clock=clock) as server:
        peer = await dial(server)
        for _ in range(100):
            await peer.connection.send("nonsense")
            await peer.refusal()
            await clock.advance(60)
        await peer.join()


# One join at a time


class Gate(ScriptedProvider):
    """Decides who may join only when it is opened."""

    opened: asyncio.Event

    @hookimpl
    async def start(self, context: Context) -> None:
        await super().start(context)
        self.opened = asyncio.Event()

    @hookimpl
    async def authorize(
        self, server_id: str, credentials: Credentials, address: str
    ) -> bool | None:
        await super().authorize(server_id, credentials, address)
        await self.opened.wait()
        return True


async def test_r26_a_newer_connect_cancels_the_one_under_way(dial: Dial) -> None:
    """The join that was asked for last is the only one that is answered."""
    provider = town(Gate)
    assert isinstance(provider, Gate)
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.ask("vault")
        await until(lambda: "authorize 333" in provider.calls)
        assert (await peer.join("garden"))["serverName"] == "Garden"
        provider.opened.set()
        provider.emit(UserChanged(server_id="333", uid="6", status="dnd"))
        assert await news(server, peer) == []


async def test_r26_a_burst_of_connects_ends_in_the_last(dial: Dial) -> None:
    """Of many connects at once the last one is answered last, and its server is the one that
    is heard."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        for _ in range(5):
            await peer.ask("plaza")
            await peer.ask("garden")
        frames = [*await peer.pending(), *await news(server, peer)]
        assert frames[-1]["data"]["serverName"] == "Garden"
        provider.emit(
            UserChanged(server_id="111", uid="7", status="dnd"),
            UserChanged(server_id="222", uid="9", status="idle"),
        )
        assert changes(await news(server, peer)) == [{"uid": "9", "status": "idle"}]


async def test_r26_a_wrong_message_does_not_cancel_a_join(dial: Dial) -> None:
    """Only a newer connect does."""
    provider = town(Gate)
    assert isinstance(provider, Gate)
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.ask("vault")
        await until(lambda: "authorize 333" in provider.calls)
        await peer.connection.send("nonsense")
        await peer.refusal()
        provider.opened.set()
        await peer.expect("server-join")


async def test_r26_after_a_switch_nothing_comes_of_the_old_server(dial: Dial) -> None:
    """While both servers are busy, every frame before the new server-join is of the old one,
    and every frame after it of the new one."""
    provider = town()
    async with serving(provider) as server:
        await (await dial(server)).join("garden")
        peer = await dial(server)
        await peer.join("plaza")
        await peer.ask("garden")
        for number in range(100):
            for server_id, uid in (("111", "7"), ("222", "9")):
                name = f"{uid} {number}"
                provider.emit(UserChanged(server_id=server_id, uid=uid, username=name))
            await asyncio.sleep(0)
        frames = await news(server, peer)
        servers = [frame.get("server", "join") for frame in frames]
        place = servers.index("join")
        assert set(servers[:place]) <= {"111"}
        assert set(servers[place + 1 :]) == {"222"}


async def test_r26_joining_again_subscribes_once(dial: Dial) -> None:
    """Who joins a server twice gets a new snapshot, and each change once."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join("plaza")
        provider.emit(UserChanged(server_id="111", uid="7", status="dnd"))
        assert len(await news(server, peer)) == 1
        joined = await peer.join("111")
        assert (joined["seq"], joined["users"]["7"]["status"]) == (1, "dnd")
        provider.emit(UserChanged(server_id="111", uid="7", status="idle"))
        assert [frame["seq"] for frame in await news(server, peer)] == [2]


async def test_a_client_that_leaves_during_its_join_leaves_nothing(dial: Dial) -> None:
    """A join whose client is gone is given up, and not only when its provider is too late."""
    provider = town(Gate)
    assert isinstance(provider, Gate)
    async with serving(provider, clock=ManualClock()) as server:
        before = asyncio.all_tasks()
        peer = await dial(server)
        await peer.ask("vault")
        await until(lambda: "authorize 333" in provider.calls)
        await peer.connection.close()
        await until(lambda: asyncio.all_tasks() <= before)


# The server changes


@pytest.mark.parametrize(
    "event",
    [ServerRemoved(server_id="111"), ServerChanged(server_id="111", enabled=False)],
)
async def test_r25_a_server_that_goes_is_told_and_left(
    dial: Dial, event: ServerRemoved | ServerChanged
) -> None:
    """All sessions receive its removal from the list, its own an error as well. They receive
    nothing more of it, and the connections stay."""
    provider = town()
    async with serving(provider) as server:
        peer, other = await dial(server), await dial(server)
        await peer.join("plaza")
        await other.join("garden")
        provider.emit(event)
        update, error = await news(server, peer)
        assert update["type"] == "server-list-update"
        assert [*update["data"]] == ["222"]  # the default now
        assert update["removed"] == ["111"]
        assert (error["data"]["code"], error["data"]["message"]) == GONE
        assert await news(server, other) == [update]
        provider.emit(UserChanged(server_id="111", uid="7", status="dnd"))
        assert await news(server, peer) == []
        await peer.join("garden")


async def test_r25_a_server_that_comes_back_can_be_joined_again(dial: Dial) -> None:
    """Everyone gets the list with it, and a join works."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join("plaza")
        provider.emit(ServerChanged(server_id="111", enabled=False))
        await news(server, peer)
        provider.emit(ServerChanged(server_id="111", enabled=True))
        (update,) = await news(server, peer)
        assert (update["type"], update["data"]["111"]["id"]) == ("server-list-update", "plaza")
        assert (await peer.join("plaza"))["users"] == {"7": ADA, "8": BO}


async def test_r25_a_server_that_becomes_protected_turns_its_sessions_out(dial: Dial) -> None:
    """They get an error and hear no more of it, and a client that asks is refused."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.join("plaza")
        provider.emit(ServerChanged(server_id="111", passworded=True))
        update, error = await news(server, peer)
        assert update["data"].keys() == {"111", "222"}
        assert update["data"]["111"] == {"id": "plaza", "name": "Plaza", "passworded": True}
        assert update["data"]["222"]["default"] is True
        assert (error["data"]["code"], error["data"]["message"]) == UNAUTHORIZED
        provider.emit(UserChanged(server_id="111", uid="7", status="dnd"))
        assert await news(server, peer) == []
        await peer.ask("plaza")
        assert await peer.refusal() == UNAUTHORIZED


async def test_r25_authorized_sessions_of_a_protected_server_stay(dial: Dial) -> None:
    """A change of the list that protects no further server removes no client."""
    provider = town()
    async with serving(provider, s333={"password": "pw"}) as server:
        peer = await dial(server)
        await peer.join("vault", password="pw")
        provider.emit(ServerChanged(server_id="333", name="Safe"))
        assert [frame["type"] for frame in await news(server, peer)] == ["server-list-update"]
        provider.emit(UserChanged(server_id="333", uid="6", status="dnd"))
        assert len(await news(server, peer)) == 1


class SlowUsers(ScriptedProvider):
    """Says who is there only when it is opened."""

    opened: asyncio.Event

    @hookimpl
    async def start(self, context: Context) -> None:
        await super().start(context)
        self.opened = asyncio.Event()

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User] | None:
        answer = await super().users(server_id)
        await self.opened.wait()
        return answer


@pytest.mark.parametrize(
    ("event", "refusal"),
    [
        (ServerChanged(server_id="111", passworded=True), UNAUTHORIZED),
        (ServerRemoved(server_id="111"), GONE),
    ],
)
@pytest.mark.parametrize(
    "message",
    [
        {"type": "connect", "data": {"server": "plaza"}},
        {"type": "connect"},
        {"type": "get_user_data", "serverId": "plaza"},
    ],
)
async def test_r25_what_becomes_protected_or_gone_while_it_is_asked_for_is_refused(
    dial: Dial, message: object, event: ServerChanged | ServerRemoved, refusal: tuple[str, str]
) -> None:
    """An answer that is on its way is decided by the state in which it is sent."""
    provider = town(SlowUsers)
    assert isinstance(provider, SlowUsers)
    async with serving(provider) as server:
        peer = await dial(server)
        await peer.send(message)
        await until(lambda: "users 111" in provider.calls)
        provider.emit(event)
        await server.live.settle()
        provider.opened.set()
        await peer.expect("server-list-update")
        assert await peer.refusal() == refusal


async def test_every_change_of_the_list_goes_to_everybody(dial: Dial) -> None:
    """``server-list-update`` names a server that is new, renamed or gone, and no other, to all
    sessions, joined or not."""
    provider = town()
    async with serving(provider) as server:
        peer = await dial(server)
        provider.emit(ServerChanged(server_id="555", name="Harbour"))
        (update,) = await news(server, peer)
        harbour = {"id": "harbour", "name": "Harbour", "passworded": False}
        assert update == {"type": "server-list-update", "data": {"555": harbour}}
        provider.emit(ServerChanged(server_id="555", name="Harbour"))
        assert await news(server, peer) == []
        provider.emit(ServerChanged(server_id="555", name="Port"))
        (update,) = await news(server, peer)
        assert update["data"] == {"555": {**harbour, "name": "Port"}}
        provider.emit(ServerRemoved(server_id="555"))
        (update,) = await news(server, peer)
        assert update == {"type": "server-list-update", "data": {}, "removed": ["555"]}


async def test_a_failure_of_one_session_ends_it_alone(
    dial: Dial, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client is closed with 1011, the log has the traceback, and the others go on."""
    decode = protocol.decode

    def failing(frame: str | bytes) -> protocol.ClientMessage | None:
        if "defect" in str(frame):
            raise RuntimeError("a defect of the gateway")
        return decode(frame)

    monkeypatch.setattr(protocol, "decode", failing)
    async with serving(town()) as server:
        peer, other = await dial(server), await dial(server)
        await peer.send({"type": "defect"})
        assert await peer.closed() == 1011
        assert "session failed" in caplog.text
        assert "RuntimeError: a defect of the gateway" in caplog.text
        await other.join("111")


async def test_a_client_that_leaves_is_not_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Also if nothing of it was under way."""
    async with serving(town()) as server:
        async with connect(server.url):
            pass
        await until(lambda: not server.connections)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize("place", ["attach", "detach"])
async def test_a_failure_at_an_end_of_a_session_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    """The logger of the library shows nothing: it would show every failed handshake."""
    async with serving(town()) as server:

        def broken(_: object) -> None:
            raise RuntimeError(place)

        monkeypatch.setattr(server.live.joins, place, broken)
        async with connect(server.url):
            pass
        await until(lambda: "session failed" in caplog.text)
    assert f"RuntimeError: {place}" in caplog.text


async def test_a_join_that_fails_ends_the_connection(
    dial: Dial, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that waits for an answer that never comes would wait forever."""
    async with serving(town()) as server:

        async def failing(*_: object) -> None:
            raise RuntimeError("a defect of the state")

        monkeypatch.setattr(server.live.joins, "join", failing)
        peer = await dial(server)
        await peer.ask("111")
        assert await peer.closed() == 1006
        assert "RuntimeError: a defect of the state" in caplog.text
