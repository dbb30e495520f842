"""What comes in from providers is checked value by value (R5)."""

import enum
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from msgspec import UNSET
from sample_users import ADA, BOB, ONE

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
from d_back_core.models import EffectiveUser
from d_back_core.wire.protocol import MessageFrame
from d_back_testing import RunningGateway, ScriptedProvider, served

SURROGATE = "\ud800"
BELOW = User(username="Below", status="dnd", role_color="#bbbbbb")

bad_ids = pytest.mark.parametrize(
    "key",
    [
        7,
        None,
        ("7",),
        b"7",
        "",
        " ",
        "a b",
        "a\n",
        "é",
        SURROGATE,
        "x" * 65,
        "__proto__",
        "constructor",
        "hasOwnProperty",
    ],
    ids=repr,
)
bad_fields = pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", ""),
        ("username", "  \n"),
        ("username", 7),
        ("username", b"Ada"),
        ("username", f"Ada {SURROGATE}"),
        ("username", ["Ada"]),
        ("status", "away"),
        ("status", "ONLINE"),
        ("status", ""),
        ("status", 1),
        ("status", ["online"]),
        ("role_color", "aaaaaa"),
        ("role_color", "#aaa"),
        ("role_color", "#gggggg"),
        ("role_color", "#aaaaaa\n"),
        ("role_color", "red"),
        ("role_color", 0xAAAAAA),
        ("role_color", True),
    ],
)


def user(**fields: object) -> User:
    """A user with any values at all."""
    return User(**fields)  # type: ignore[arg-type]


def refused(gateway: RunningGateway, name: str = "a") -> Mapping[str, int]:
    """What was refused of that provider, by path."""
    return gateway.live.providers.validation_logs[name].counts


@bad_fields
async def test_r5_a_bad_field_does_not_hide_a_good_one_below(field: str, value: object) -> None:
    """It counts as not supplied; the other fields of the record count."""
    whole = {"username": "Ada", "status": "online", "role_color": "#aaaaaa"}
    a = ScriptedProvider(ONE, {"1": {"7": user(**whole | {field: value})}})
    b = ScriptedProvider(ONE, {"1": {"7": BELOW}})
    async with served({"a": a, "b": b}, tables={"b": {"mode": "merge"}}) as gateway:
        client = await gateway.connect_and_join()
        expected: dict[str, Any] = whole | {field: getattr(BELOW, field)}
        assert client.users == {"7": EffectiveUser(uid="7", **expected)}
        assert refused(gateway) == {f"users.{field}": 1}


@bad_fields
async def test_r5_a_bad_field_of_an_event_changes_nothing(field: str, value: object) -> None:
    """What was said before stays; the other fields of the event count."""
    a = ScriptedProvider(ONE, {"1": {"7": ADA}})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        said: dict[str, Any] = {"status": "idle", "username": "A", field: value}
        a.emit(UserChanged(server_id="1", uid="7", **said))
        await client.new_frames()
        expected = {"username": "A", "status": "idle", "role_color": "#aaaaaa"}
        expected[field] = getattr(ADA, field)
        assert client.users == {"7": EffectiveUser(uid="7", **expected)}  # type: ignore[arg-type]
        assert refused(gateway) == {f"events.{field}": 1}


@bad_ids
async def test_r5_a_bad_uid_drops_the_record(key: Any) -> None:  # noqa: ANN401  it is wrong
    """The others of the same answer are there."""
    a = ScriptedProvider(ONE, {"1": {key: BOB, "7": ADA}})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"7"}
        assert refused(gateway) == {"users: key": 1}


@bad_ids
async def test_r5_a_bad_uid_drops_the_event(key: Any) -> None:  # noqa: ANN401  it is wrong
    """Of a user, and of a message."""
    a = ScriptedProvider(ONE, {"1": {"7": ADA}})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(
            UserChanged(server_id="1", uid=key, status="dnd"),
            UserRemoved(server_id="1", uid=key),
            Message(server_id="1", uid=key, message="hello", channel="c"),
        )
        assert await client.new_frames() == []
        assert refused(gateway) == {"events.uid": 3}


@bad_ids
async def test_r5_a_bad_server_id_drops_the_server(key: Any) -> None:  # noqa: ANN401  it is wrong
    """In the list, and in events of every kind."""
    a = ScriptedProvider({key: Server(name="Bad"), "1": Server(name="One")})
    async with served({"a": a}) as gateway:
        client = await gateway.connect()
        assert client.world.servers.keys() == {"1"}
        assert refused(gateway) == {"servers: key": 1}
        a.emit(
            ServerChanged(server_id=key, name="Bad"),
            ServerRemoved(server_id=key),
            UserChanged(server_id=key, uid="7"),
        )
        assert await client.new_frames() == []
        assert refused(gateway)["events.server_id"] == 3


@pytest.mark.parametrize(
    "record",
    [{"username": "Bob"}, "Bob", None, 7, Server(name="Bob"), User],
    ids=["dict", "text", "none", "number", "server", "class"],
)
async def test_r5_what_is_no_user_is_dropped(record: Any) -> None:  # noqa: ANN401  it is wrong
    """The others of the same answer are there."""
    a = ScriptedProvider(ONE, {"1": {"8": record, "7": ADA}})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"7"}
        assert refused(gateway) == {"users: record": 1}


@pytest.mark.parametrize("record", [{"name": "Two"}, "Two", None, ADA])
async def test_r5_what_is_no_server_is_dropped(record: Any) -> None:  # noqa: ANN401  it is wrong
    """The others of the same answer are there."""
    async with served({"a": ScriptedProvider({"2": record, "1": Server(name="One")})}) as gateway:
        client = await gateway.connect()
        assert client.world.servers.keys() == {"1"}
        assert refused(gateway) == {"servers: record": 1}


class Broken(Mapping[str, User]):
    """A mapping that cannot be read."""

    def __getitem__(self, key: str) -> User:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise OSError("the database is gone")

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "answer", [["7"], [("7", ADA)], "7", 7, True, {"7"}, Broken()], ids=lambda each: repr(each)[:9]
)
async def test_r5_what_is_no_mapping_is_a_failed_call(answer: Any) -> None:  # noqa: ANN401
    """The next provider is asked."""
    a, b = ScriptedProvider(ONE, {"1": answer}), ScriptedProvider(ONE, {"1": {"8": BOB}})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"8"}


@pytest.mark.parametrize("answer", [[], ["1"], "1", 7, Broken()], ids=lambda each: repr(each)[:9])
async def test_r5_a_list_of_servers_that_is_no_mapping_is_a_failed_call(
    answer: Any,  # noqa: ANN401  it is wrong
) -> None:
    """The next provider is asked."""
    async with served({"a": ScriptedProvider(answer), "b": ScriptedProvider(ONE)}) as gateway:
        client = await gateway.connect()
        assert client.world.servers.keys() == {"1"}


@pytest.mark.parametrize("event", [7, "Reload", {}, ADA, UserChanged, object], ids=repr)
async def test_r5_an_event_of_a_wrong_class_is_dropped(event: Any) -> None:  # noqa: ANN401
    """The stream goes on."""
    a = ScriptedProvider(ONE, {"1": {"7": ADA}})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(event, UserChanged(server_id="1", uid="7", status="dnd"))
        assert len(await client.new_frames()) == 1
        assert refused(gateway) == {"events": 1}
        assert gateway.health("a") == "ready"


@pytest.mark.parametrize("server_id", [7, "", "a b", ["1"]])
async def test_r5_a_reload_of_a_bad_server_reloads_nothing(server_id: Any) -> None:  # noqa: ANN401
    """It names no server that there is."""
    a = ScriptedProvider(ONE, {"1": {"7": ADA}})
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join()
        calls = len(a.calls)
        a.emit(Reload(server_id=server_id))
        await gateway.settle()
        assert refused(gateway) == {"events.server_id": 1}
        assert gateway.health("a") == "ready"
        assert a.calls[calls:] == []


@pytest.mark.parametrize(
    ("channel", "fit"),
    [
        ("general", True),
        (4711, False),
        ("my channel", False),
        ("__proto__", False),
        ("é", False),
        ("", False),
        (None, False),
        ("x" * 65, False),
        (SURROGATE, False),
    ],
)
async def test_r5_an_unfit_channel_is_mapped_to_a_fit_one(channel: Any, *, fit: bool) -> None:  # noqa: ANN401
    """Always to the same, so that the client can tell channels apart."""
    a = ScriptedProvider(ONE, {"1": {"7": ADA}})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        for text in ("one", "two"):
            a.emit(Message(server_id="1", uid="7", message=text, channel=channel))
        one, two = await client.new_frames()
        assert isinstance(one, MessageFrame)
        assert isinstance(two, MessageFrame)
        assert one.data.channel == two.data.channel
        assert (one.data.channel == channel) is fit
        assert one.data.channel.isascii()
        assert 1 <= len(one.data.channel) <= 64


@pytest.mark.parametrize("text", ["", "  ", 7, None, b"hello", f"hello {SURROGATE}"])
async def test_r5_a_message_that_is_no_text_is_dropped(text: Any) -> None:  # noqa: ANN401
    """Also an empty one (R11)."""
    a = ScriptedProvider(ONE, {"1": {"7": ADA}})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(Message(server_id="1", uid="7", message=text, channel="c"))
        assert await client.new_frames() == []


async def test_r5_an_empty_message_is_not_complained_about() -> None:
    """A picture without words is nothing wrong."""
    a = ScriptedProvider(ONE, {"1": {"7": ADA}})
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join()
        a.emit(Message(server_id="1", uid="7", message="", channel="c"))
        await gateway.settle()
        assert refused(gateway) == {}


@pytest.mark.parametrize("value", [5, "a b", "é", ["5"], ""])
async def test_r5_a_bad_client_id_is_not_passed_on(value: Any) -> None:  # noqa: ANN401
    """A bad client id, in the list or in an event, does not hide the one below."""
    a = ScriptedProvider({"1": Server(client_id=value)}, {"1": {"7": ADA}})
    b = ScriptedProvider({"1": Server(client_id="5")}, {"1": {}})
    async with served({"a": a, "b": b}, tables={"b": {"mode": "merge"}}) as gateway:
        client = await gateway.connect_and_join()
        assert client.world.client_id == "5"
        a.emit(ServerChanged(server_id="1", client_id=value))
        assert await client.new_frames() == []
        assert refused(gateway) == {"servers.client_id": 1, "events.client_id": 1}


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ""), ("name", 7), ("name", SURROGATE), ("id", 7), ("id", ""), ("id", SURROGATE)],
)
async def test_r5_a_bad_field_of_a_server_counts_as_not_supplied(
    field: str, value: object
) -> None:
    """The provider below supplies it."""
    a = ScriptedProvider({"1": Server(**{field: value})})  # type: ignore[arg-type]
    b = ScriptedProvider({"1": Server(name="Below", id="below")})
    async with served({"a": a, "b": b}, tables={"b": {"mode": "merge"}}) as gateway:
        client = await gateway.connect()
        (server,) = client.world.servers.values()
        assert (server.name, server.id) == ("Below", "below")
        assert refused(gateway) == {f"servers.{field}": 1}


@pytest.mark.parametrize("value", ["maybe", 2, []])
async def test_r5_a_guard_that_cannot_be_read_closes_the_server(value: Any) -> None:  # noqa: ANN401
    """An unreadable ``passworded`` protects the server, an unreadable ``enabled`` hides it; both
    are counted."""
    servers = {
        "1": Server(name="One", passworded=value),
        "2": Server(name="Two", enabled=value),
        "3": Server(name="Three"),
    }
    async with served({"a": ScriptedProvider(servers)}) as gateway:
        client = await gateway.connect()
        listed = {key: server.passworded for key, server in client.world.servers.items()}
        assert listed == {"1": True, "3": False}
        assert refused(gateway) == {"servers.passworded": 1, "servers.enabled": 1}


async def test_r5_flags_are_read_as_databases_spell_them() -> None:
    """0 and 1, "t" and "f" are booleans, in the list and in events."""
    database: Any = {
        "1": {"passworded": "f", "enabled": 1},
        "2": {"passworded": 1, "enabled": "t"},
        "3": {"enabled": 0},
    }
    a = ScriptedProvider({key: Server(name=key, **flags) for key, flags in database.items()})
    async with served({"a": a}) as gateway:
        client = await gateway.connect()
        listed = {key: server.passworded for key, server in client.world.servers.items()}
        assert listed == {"1": False, "2": True}
        opened: Any = "f"
        a.emit(ServerChanged(server_id="2", passworded=opened))
        await client.new_frames()
        assert not client.world.servers["2"].passworded
        assert refused(gateway) == {}


async def test_r5_refused_values_are_counted_and_logged_once_per_provider_and_path(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However many there are; another path and another provider have lines of their own."""
    crowd = {str(number): user(status="away", username=7) for number in range(100)}
    a, b = ScriptedProvider(ONE, {"1": crowd}), ScriptedProvider(ONE, {"1": crowd})
    async with served({"a": a, "b": b}, tables={"b": {"mode": "merge"}}) as gateway:
        await gateway.connect_and_join()
        a.emit(*(UserChanged(server_id="1", uid="7", status="away") for _ in range(3)))  # type: ignore[arg-type]
        await gateway.settle()
        assert refused(gateway) == {"users.status": 100, "users.username": 100, "events.status": 3}
        assert refused(gateway, "b") == {"users.status": 100, "users.username": 100}
    said = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert sorted(said) == [
        "provider a: events.status: refused 'away'",
        "provider a: users.status: refused 'away'",
        "provider a: users.username: refused 7",
        "provider b: users.status: refused 'away'",
        "provider b: users.username: refused 7",
    ]


class Unprintable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


async def test_r5_a_refused_value_that_cannot_be_printed_harms_nobody() -> None:
    """It is counted all the same."""
    a = ScriptedProvider(ONE, {"1": {"7": user(username=Unprintable())}})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"7"}
        a.emit(Unprintable())  # type: ignore[arg-type]
        await client.new_frames()
        assert refused(gateway) == {"users.username": 1, "events": 1}
        assert gateway.health("a") == "ready"


class Text(str):
    """Text of another library's own class, as HTML parsers and array libraries give it."""

    __slots__ = ()


class Colour(str, enum.Enum):  # noqa: UP042  such as providers have
    RED = "#ff0000"


class Presence(enum.StrEnum):
    DND = "dnd"


class Sly(str):
    """Text that claims to be equal to any other."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash("online")

    def __eq__(self, other: object) -> bool:
        return True


async def test_r5_text_of_a_derived_class_is_judged_by_what_is_sent() -> None:
    """How it compares and hashes is its own business; it goes out as the characters it has."""
    word, status = Sly("__proto__"), Sly("evil")
    a = ScriptedProvider(ONE, {"1": {word: ADA, "7": user(status=status)}})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users == {"7": EffectiveUser("7", "7", "offline", "#ffffff")}


async def test_r5_text_of_a_derived_class_is_as_good_as_any() -> None:
    """It has become plain text where it goes out to clients."""
    record = user(username=Text("Ada"), status=Presence.DND, role_color=Colour.RED)
    server = Server(name=Text("One"), id=Text("one"), client_id=Text("5"))
    a = ScriptedProvider({Text("1"): server}, {"1": {Text("7"): record}})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users == {"7": EffectiveUser("7", "Ada", "dnd", "#ff0000")}
        assert client.world.client_id == "5"
        a.emit(
            UserChanged(server_id=Text("1"), uid=Text("8"), username=Text("Bob")),
            Message(
                server_id=Text("1"), uid=Text("8"), message=Text("hello"), channel=Text("general")
            ),
            ServerChanged(server_id="1", client_id=Text("6")),
            ServerChanged(server_id=Text("2"), name=Text("Two")),
        )
        assert len(await client.new_frames()) == 4
        assert client.users["8"].username == "Bob"
        assert client.world.servers["2"].name == "Two"


class Member(User, frozen=True, kw_only=True):
    """A user with something that is of no interest to us."""

    avatar: str = ""


class Guild(Server, frozen=True, kw_only=True):
    """The same for a server."""

    icon: str = ""


async def test_r5_a_record_of_a_derived_class_is_as_good_as_any() -> None:
    """Also where an event changes it."""
    a = ScriptedProvider(
        {"1": Guild(name="One")}, {"1": {"7": Member(username="Ada", avatar="x")}}
    )
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(
            UserChanged(server_id="1", uid="7", status="dnd"),
            ServerChanged(server_id="1", name="First"),
        )
        await client.new_frames()
        assert client.users == {"7": EffectiveUser("7", "Ada", "dnd", "#ffffff")}
        assert client.world.servers["1"].name == "First"
        assert gateway.health("a") == "ready"


async def test_r5_a_record_that_is_changed_after_it_was_given_is_of_no_interest() -> None:
    """A provider may keep the mapping that it gave, and go on using it."""
    users = {"7": ADA}
    a = ScriptedProvider(ONE, {"1": users})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        users["8"] = BOB
        a.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await client.new_frames()
        assert client.users.keys() == {"7"}
        assert users == {"7": ADA, "8": BOB}


async def test_r5_words_that_would_freeze_the_client_are_broken_up() -> None:
    """In names and in chat; the ids cannot have them."""
    a = ScriptedProvider(ONE, {"1": {"7": User(username="constructor")}})
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users["7"].username == "constructor\u200b"
        a.emit(Message(server_id="1", uid="7", message="so __proto__ it is", channel="c"))
        (frame,) = await client.new_frames()
        assert isinstance(frame, MessageFrame)
        assert frame.data.message == "so __proto__\u200b it is"


def test_a_user_of_these_tests_has_what_it_is_given() -> None:
    """The structs do not check on construction: that is what the border is for."""
    assert str(user(status="away").status) == "away"
    assert user().status is UNSET


async def test_r5_a_number_of_thousands_of_digits_spoils_nothing() -> None:
    """Python refuses to print one; it is refused like any other."""
    huge = 10**5000
    a = ScriptedProvider(ONE, {"1": {huge: ADA, "7": BOB}})  # type: ignore[dict-item]
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"7"}
        a.emit(UserChanged(server_id="1", uid=huge))  # type: ignore[arg-type]
        a.emit(Message(server_id="1", uid="7", message="hi", channel=huge))  # type: ignore[arg-type]
        (frame,) = await client.new_frames()
        assert isinstance(frame, MessageFrame)
        assert gateway.health("a") == "ready"


async def test_r5_a_channel_name_that_is_not_a_text_counts_as_not_given() -> None:
    """The message is shown, and a policy by names of channels still works."""
    a = ScriptedProvider(ONE, {"1": {"7": ADA}})
    policies = {"1": {"ignore_channels": ["secret"]}}
    async with served({"a": a}, policies=policies) as gateway:
        client = await gateway.connect_and_join()
        name: Any = ["c"]
        a.emit(
            Message(server_id="1", uid="7", message="hi", channel="1", channel_name=name),
            Message(server_id="1", uid="7", message="psst", channel="2", channel_name="secret"),
        )
        shown = [each for each in await client.new_frames() if isinstance(each, MessageFrame)]
        assert [each.data.message for each in shown] == ["hi"]
        assert refused(gateway) == {"events.channel_name": 1}
