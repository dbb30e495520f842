"""Extra texts of users: who supplies them, how they merge, and that clients receive only what the
operator names (R4, R5, R29)."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession
from msgspec import structs
from sample_users import ADA, BOB, ONE

from d_back_core import Change, User, UserChanged, UserSet, hookimpl
from d_back_core.admin.explain import explain
from d_back_core.chain.layers import Layers, Link, patched, rebased
from d_back_core.client import PresenceFrame
from d_back_core.models import EffectiveUser
from d_back_core.wire.protocol import Connect, ConnectRequest, Resume
from d_back_testing import ManualClient, ScriptedProvider, configured, served

NAMED = {"extra": ["avatar", "mood"]}
FACE = "https://example.org/ada.png"


def with_extra(user: User, **extra: str) -> User:
    return structs.replace(user, extra=extra)


def town(**extra: str) -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": {"7": with_extra(ADA, **extra), "8": BOB}})


def changed(uid: str = "7", **extra: str | None) -> UserChanged:
    return UserChanged(server_id="1", uid=uid, extra=extra)


async def extras(client: ManualClient) -> list[Any]:
    """What each new presence says about extra texts."""
    frames = await client.new_frames()
    return [
        None if each.data.extra is msgspec.UNSET else dict(each.data.extra)
        for each in frames
        if isinstance(each, PresenceFrame)
    ]


def shown(users: Mapping[str, EffectiveUser]) -> dict[str, dict[str, str]]:
    return {uid: dict(user.extra) for uid, user in users.items()}


# What clients receive


async def test_nothing_of_it_reaches_a_client_by_default() -> None:
    """Neither in the snapshot nor in a change, nor over HTTP; a change of nothing else is no
    change."""
    source = town(avatar=FACE)
    async with served({"a": source}) as gateway, ClientSession() as http:
        client = await gateway.connect_and_join()
        source.emit(changed(mood="fine"))
        assert await client.new_frames() == []
        assert shown(client.users) == {"7": {}, "8": {}}
        url = gateway.url.replace("ws:", "http:").rstrip("/") + "/api/servers/1"
        async with http.get(url) as response:
            assert "extra" not in await response.text()


@pytest.mark.parametrize("tables", [{"gateway": NAMED}, {"policies": {"1": NAMED}}])
async def test_a_key_that_the_operator_names_reaches_clients(tables: dict[str, Any]) -> None:
    """In snapshots, and in a presence only what changed; null: the text is gone."""
    source = town(avatar=FACE, secret="x")
    async with served({"a": source}, **tables) as gateway, ClientSession() as http:
        client = await gateway.connect_and_join()
        assert shown(client.users) == {"7": {"avatar": FACE}, "8": {}}
        source.emit(changed(avatar=FACE, mood="fine", secret="y"))
        assert await extras(client) == [{"mood": "fine"}]
        source.emit(changed(avatar=None, mood="tired"))
        assert await extras(client) == [{"avatar": None, "mood": "tired"}]
        source.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        assert await extras(client) == [None]
        source.emit(changed("9", mood="new"))
        assert await extras(client) == [{"mood": "new"}]
        source.emit(changed())
        assert await extras(client) == [{"mood": None}]
        assert shown(client.users) == {"7": {}, "8": {}, "9": {"mood": "new"}}
        url = gateway.url.replace("ws:", "http:").rstrip("/") + "/api/servers/1"
        async with http.get(url) as response:
            users = (await response.json())["users"]
            assert users["9"]["extra"] == {"mood": "new"}
            assert "extra" not in users["8"]


async def test_a_server_may_show_less_than_the_others() -> None:
    """An empty list of the server's own counts."""
    none: dict[str, Any] = {"1": {"extra": []}}
    async with served({"a": town(avatar=FACE)}, gateway=NAMED, policies=none) as gateway:
        client = await gateway.connect_and_join()
        assert shown(client.users) == {"7": {}, "8": {}}


async def test_a_reload_shows_and_hides_keys_at_once() -> None:
    """Clients receive the difference."""
    source = town(avatar=FACE, mood="fine")
    async with served({"a": source}) as gateway:
        client = await gateway.connect_and_join()
        for wanted, expected in (
            (["avatar", "mood"], {"avatar": FACE, "mood": "fine"}),
            (["mood"], {"avatar": None}),
            ([], {"mood": None}),
        ):
            await gateway.server.reload(configured(["a"], gateway={"extra": wanted}))
            assert await extras(client) == [expected]


# Clients that were away (R29, R48)


@pytest.mark.parametrize("way", ["resume", "resync"])
async def test_r29_a_client_that_missed_changes_forgets_texts_that_are_gone(way: str) -> None:
    """Also of a key that a reload has hidden meanwhile."""
    source = town(avatar=FACE, mood="fine")
    async with served({"a": source}, gateway=NAMED) as gateway:
        client = await gateway.connect_and_join()
        epoch, users = client.world.epoch, dict(client.users)
        (connection,) = gateway.server.connections
        if way == "resume":
            await client.connection.close()
        else:
            connection.pause_writing()
            connection.observer.fall_behind()
        source.emit(changed(avatar=FACE))
        await gateway.settle()
        await gateway.server.reload(configured(["a"], gateway={"extra": ["mood"]}))
        await gateway.settle()
        if way == "resume":
            client = await gateway.connect()
            client.world.epoch, client.world.users = epoch, users
            known = Resume(epoch=epoch, seq=0)
            await client.send(Connect(data=ConnectRequest(server="1", resume=known)))
        else:
            connection.resume_writing()
            connection.observer.recover()
        await client.new_frames()
        assert shown(client.users) == {"7": {}, "8": {}}


# The merge (R4)


def layers(*records: User) -> Layers[User]:
    links = tuple(Link(name=name, mode="merge") for name in "abc")
    return Layers(User, links, {name: {"7": each} for name, each in zip("abc", records)})  # noqa: B905


def test_r4_texts_merge_key_by_key() -> None:
    """The highest provider that has a text for a key wins, and is named."""
    merged = layers(
        User(extra={"avatar": "a"}), User(extra={"avatar": "b", "mood": "b"}), User(username="C")
    )
    assert merged.merge("7") == User(username="C", extra={"avatar": "a", "mood": "b"})
    found = merged.explain("7")
    assert found["extra.avatar"] == [("a", "a"), ("b", "b")]
    assert found["extra.mood"] == [("b", "b")]
    assert "extra" not in found


def test_r4_an_event_brings_all_texts() -> None:
    """None withdraws them; an event without the field changes none."""
    record = User(username="Ada", extra={"avatar": "a", "mood": "m"})
    assert patched(record, changed(game="g")) == User(username="Ada", extra={"game": "g"})
    assert patched(record, UserChanged(server_id="1", uid="7", extra=None)).extra is None
    assert patched(record, UserChanged(server_id="1", uid="7", username="B")).extra == record.extra


def test_r4_an_answer_that_is_only_newer_keeps_the_texts_of_events() -> None:
    """Key by key, as for the other fields."""
    base = {"7": User(extra={"avatar": "a", "mood": "old", "game": "g"})}
    held = {"7": User(extra={"avatar": "a", "mood": "event", "town": "t"})}
    answer = {"7": User(extra={"avatar": "new", "mood": "old", "game": "g"})}
    assert rebased(base, held, answer) == {
        "7": User(extra={"avatar": "new", "mood": "event", "town": "t"})
    }


async def test_a_filter_of_fields_keeps_texts_out() -> None:
    """``fields`` names them all as ``extra``."""
    above = ScriptedProvider(ONE, {"1": {"7": with_extra(User(), avatar="above")}})
    providers = {"above": above, "a": town(avatar=FACE)}
    for fields, expected in ((["username"], FACE), (["extra"], "above")):
        tables = {"above": {"mode": "enrich", "fields": fields}}
        async with served(providers, tables=tables, gateway=NAMED) as gateway:
            client = await gateway.connect_and_join()
            assert client.users["7"].extra["avatar"] == expected


# What comes in: R5


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"avatar": "x" * 256, "mood": "x" * 257}, {"avatar": "x" * 256}),
        ({"avatar": 5, "mood": ["x"]}, {}),
        ({"avatar": "", "mood": " \n"}, {}),
        ({"avatar": "\ud800", "mood": "é"}, {"mood": "é"}),
        ({"a b": "x", "": "x", "1a": "x", 5: "x", "a" * 33: "x", "__proto__": "x"}, {}),
        ({"constructor": "x", "toString": "x", "valueOf": "x", "mood": "y"}, {"mood": "y"}),
        ("avatar", {}),
        ([("avatar", "x")], {}),
        ({"avatar": None, "mood": "fine"}, {"mood": "fine"}),
    ],
)
async def test_r5_what_is_not_valid_is_left_out(
    extra: Any,  # noqa: ANN401  anything
    expected: dict[str, str],
) -> None:
    """It counts as not supplied, in answers and in events; the rest of the user stays."""
    source = ScriptedProvider(ONE, {"1": {"7": structs.replace(ADA, extra=extra), "8": BOB}})
    keys = ["avatar", "mood", "constructor", "toString", "valueOf", "__proto__"]
    async with served({"a": source}, policies={"1": {"extra": keys}}) as gateway:
        client = await gateway.connect_and_join()
        assert shown(client.users) == {"7": expected, "8": {}}
        source.emit(UserChanged(server_id="1", uid="8", extra=extra, status="dnd"))
        await client.new_frames()
        assert shown(client.users)["8"] == expected


async def test_r5_of_too_many_texts_the_first_eight_are_taken() -> None:
    """They are copied: what the provider changes in its mapping afterwards is not seen."""
    extra = {f"k{number}": "x" for number in range(9)}
    source = ScriptedProvider(ONE, {"1": {"7": structs.replace(ADA, extra=extra)}})
    async with served({"a": source}, policies={"1": {"extra": [*extra]}}) as gateway:
        client = await gateway.connect_and_join()
        assert [*client.users["7"].extra] == [f"k{number}" for number in range(8)]
        extra["k0"] = "other"
        source.emit(UserChanged(server_id="1", uid="7", status="idle"))
        assert await extras(client) == [None]


# Recorders and operators


class Recorder(ScriptedProvider):
    """A recorder that remembers what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Change] = []

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        self.got += changes


class PublicRecorder(Recorder):
    records = "public"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(Recorder, {"avatar": FACE, "secret": "x"}), (PublicRecorder, {"avatar": FACE})],
)
async def test_recorders_receive_them(kind: type[Recorder], expected: dict[str, str]) -> None:
    """All of them before the operator's policy, the named ones after it."""
    recorder = kind()
    chain = {"order": ["a"], "recorders": ["r"]}
    providers = {"a": town(avatar=FACE, secret="x"), "r": recorder}
    async with served(providers, chain=chain, gateway=NAMED) as gateway:
        await gateway.settle()
        stored = {each.uid: each.user.extra for each in recorder.got if isinstance(each, UserSet)}
        assert stored == {"7": expected, "8": msgspec.UNSET}


async def test_explain_names_the_provider_of_each_text() -> None:
    """Also of those that clients do not receive; their value is none."""
    source = town(avatar=FACE, secret="x")
    async with served({"a": source}, gateway=NAMED) as gateway:
        await gateway.connect_and_join()
        users = explain(gateway.live, "1").users
        assert users is not None
        fields = {user.uid: user.fields for user in users}
        assert fields["7"]["extra.avatar"].value == FACE
        assert fields["7"]["extra.avatar"].provider == "a"
        assert fields["7"]["extra.secret"].value is None
        assert fields["7"]["extra.secret"].provider == "a"
        assert fields["8"].keys() == {"username", "status", "role_color"}


async def test_a_user_without_them_costs_nothing() -> None:
    """The records are as large as before."""
    assert EffectiveUser("7", "Ada", "online", "#ffffff").__struct_fields__ == (
        *("uid", "username", "status", "role_color"),
    )
