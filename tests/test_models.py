"""What is a valid id, text, status, colour and flag, and what becomes of what is not (R5)."""

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

from d_back_core import Credentials, Server, ServerChanged, User, UserChanged
from d_back_core.models import (
    PROTOTYPE_WORDS,
    STATUSES,
    channel_id,
    checked,
    is_id,
    is_public_id,
    is_text,
    is_usual,
)

NO_IDS = {
    "empty": "",
    "a space": "a b",
    "a trailing newline": "1\n",
    "a NUL": "1\0",
    "an escape": "\x1b[31m",
    "a DEL": "a\x7f",
    "a letter outside of ASCII": "é",
    "a full-width digit": "\uff11",
    "a lone surrogate": "\ud800",
    "65 characters": "x" * 65,
    "a number": 1,
    "bytes": b"1",
    "None": None,
}


class Refused:
    """Collects the reports of `checked`."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, object]] = []

    def __call__(self, path: str, value: object) -> None:
        self.seen.append((path, value))


def user(**fields: object) -> User:
    """A record as other people's code makes it: nothing checks the fields."""
    return User(**fields)  # type: ignore[arg-type]


def server(**fields: object) -> Server:
    """The same for a server."""
    return Server(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", NO_IDS.values(), ids=NO_IDS)
def test_r5_an_unfit_id_is_none(value: object) -> None:
    """Ids are 1 to 64 printable ASCII characters without spaces."""
    assert not is_id(value)
    assert not is_public_id(value)


@pytest.mark.parametrize("value", ["1", "!", "~", "232769614004748288", "x" * 64, "a/b?c=d&#%"])
def test_r5_printable_ascii_is_an_id(value: str) -> None:
    """Up to 64 characters, any printable one."""
    assert is_id(value)


def test_r5_the_members_of_object_prototype_are_no_ids() -> None:
    """d-zone keys plain objects by ids: what every such object has already is refused."""
    members = {
        *("constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable"),
        *("toLocaleString", "toString", "valueOf", "__proto__", "__defineGetter__"),
        *("__defineSetter__", "__lookupGetter__", "__lookupSetter__"),
    }
    assert members == PROTOTYPE_WORDS
    assert not any(is_id(word) or is_public_id(word) for word in members)
    assert is_id("Constructor")


@pytest.mark.parametrize(("value", "fit"), [("a-B_9", True), ("a/b", False), ("a.b", False)])
def test_r5_a_public_id_goes_into_urls_unescaped(value: str, *, fit: bool) -> None:
    """Letters, digits, - and _ only, although an id may hold more."""
    assert is_id(value)
    assert is_public_id(value) is fit


@pytest.mark.parametrize("value", ["", " ", "\t\n", "\u2003", "a\ud800", "\udcff", 5, None, b"a"])
def test_r5_blank_and_unencodable_texts_are_none(value: object) -> None:
    """A text that would show as nothing, or that JSON cannot carry, is refused."""
    assert not is_text(value)


@given(st.text(min_size=1).filter(str.strip))
def test_r5_every_encodable_text_can_be_shown(value: str) -> None:
    """Hypothesis makes texts without surrogates: all that are not blank are fit."""
    assert is_text(value)


@pytest.mark.parametrize("channel", ["general", "123", "x" * 64])
def test_r5_a_fit_channel_stays(channel: str) -> None:
    """Nothing is mapped that need not be."""
    assert channel_id(channel) == channel


def test_r5_a_channel_that_is_a_number_is_written_as_one() -> None:
    """Snowflakes come as integers from some sources."""
    assert channel_id(232769614004748288) == "232769614004748288"


@given(st.one_of(st.text(), st.sampled_from(sorted(PROTOTYPE_WORDS)), st.none(), st.binary()))
def test_r5_any_channel_is_mapped_to_an_id(channel: object) -> None:
    """Whatever a source calls a channel, the wire gets a fit id, always the same one."""
    mapped = channel_id(channel)
    assert is_id(mapped)
    assert channel_id(channel) == mapped


def test_r5_unfit_channels_stay_apart() -> None:
    """Two different channels are not mapped to one."""
    unfit = ["a b", "a  b", "", "é", "\ud800", "constructor", "x" * 65, "x" * 66]
    assert len({channel_id(channel) for channel in unfit}) == len(unfit)


@pytest.mark.parametrize("color", ["#fff", "#12345", "#gggggg", "ffffff", "#ffffff\n", "red", 5])
def test_r5_a_colour_is_rrggbb(color: object) -> None:
    """Anything else counts as not supplied."""
    refused = Refused()
    assert checked(user(role_color=color), "users", refused) == User()
    assert refused.seen == [("users.role_color", color)]


@pytest.mark.parametrize("color", ["#ffffff", "#00FFaa"])
def test_r5_a_colour_stays_as_it_is(color: str) -> None:
    """Both cases of letters are fit."""
    refused = Refused()
    assert checked(user(role_color=color), "users", refused).role_color == color
    assert not refused.seen


@pytest.mark.parametrize("status", ["", "Online", "invisible", "streaming", 1, ["online"]])
def test_r5_a_status_is_one_of_four(status: object) -> None:
    """d-zone knows no other."""
    refused = Refused()
    assert checked(user(status=status), "users", refused) == User()
    assert refused.seen == [("users.status", status)]
    assert {"online", "idle", "dnd", "offline"} == STATUSES


def test_r5_a_bad_field_hides_no_good_one() -> None:
    """Only the field that is not valid is left out."""
    refused = Refused()
    record = User(username="\ud800", status="dnd", role_color="blue")
    assert checked(record, "users", refused) == User(status="dnd")
    assert [path for path, _ in refused.seen] == ["users.username", "users.role_color"]


class Odd(str):
    """A text of a class derived from ``str``."""

    __slots__ = ()


FIELDS: dict[str, list[object]] = {
    "username": [UNSET, None, "Ada", "Ädä", "", " ", "\ud800", 5, Odd("Ada")],
    "status": [UNSET, None, "idle", "Idle", 5, ["idle"], Odd("idle")],
    "role_color": [UNSET, None, "#00ff00", "#00ff0", "red", 5, ["red"], Odd("#00ff00")],
    "extra": [UNSET, None, {"avatar": "a"}, {}, 5],
}


def test_r5_a_user_that_passes_unchecked_is_valid() -> None:
    """The quick look accepts only what the checks by field return as it is."""
    records = [user(**dict(zip(FIELDS, each, strict=True))) for each in product(*FIELDS.values())]
    usual = [record for record in records if is_usual(record)]
    assert user(username="Ädä", status="idle") in usual
    for record in usual:
        refused = Refused()
        assert checked(record, "users", refused) is record
        assert not refused.seen
        assert all(value is UNSET or type(value) is str for value in astuple(record))


def test_users_who_look_alike_share_their_texts() -> None:
    """A decoder makes a copy of each text, for each of 100,000 users."""
    one, other = (user(username="Ada", status=" idle"[1:], role_color=f"#{n:06x}") for n in (7, 7))
    assert one.role_color is not other.role_color
    assert is_usual(one)
    assert is_usual(other)
    assert one.role_color is other.role_color
    assert one.status is other.status


def test_r4_what_takes_a_field_back_is_valid() -> None:
    """None is an answer of its own, in records and in events."""
    refused = Refused()
    changed = UserChanged(server_id="1", uid="2", username=None, status=None, role_color=None)
    assert checked(changed, "events", refused) is changed
    record = Server(name=None, id=None, default=None, passworded=None, enabled=None)
    assert checked(record, "servers", refused) is record
    assert not refused.seen


def test_a_valid_record_is_not_copied() -> None:
    """Checking costs the usual case nothing."""
    record = User(username="Ada", status="online", role_color="#123456")
    assert checked(record, "users", Refused()) is record


UNREADABLE = [2, -1, 1.0, "", "maybe", "oui", [], {}, b"t"]


@pytest.mark.parametrize("value", UNREADABLE)
@pytest.mark.parametrize(
    ("field", "read"), [("passworded", True), ("enabled", False), ("default", UNSET)]
)
def test_r5_a_guard_that_cannot_be_read_fails_closed(
    field: str, value: object, *, read: bool | UnsetType
) -> None:
    """The server counts as protected or disabled; ``default``, which guards nothing, as not
    supplied."""
    refused = Refused()
    record = checked(server(**{field: value}), "servers", refused)
    fields: Any = {field: value}
    event = ServerChanged(server_id="1", **fields)
    assert getattr(record, field) is read
    assert getattr(checked(event, "events", refused), field) is read
    assert refused.seen == [(f"servers.{field}", value), (f"events.{field}", value)]


@pytest.mark.parametrize("field", ["default", "enabled", "passworded"])
@pytest.mark.parametrize(
    ("value", "read"),
    [
        *product([1, "1", "t", "T", "true", "y", "yes", "on", " True "], [True]),
        *product([0, "0", "f", "F", "false", "n", "no", "off", "False\n"], [False]),
    ],
)
def test_r5_flags_are_read_as_databases_spell_them(
    field: str, value: object, *, read: bool
) -> None:
    """Numbers and texts that mean a boolean become one, and nothing is reported."""
    refused = Refused()
    record = checked(server(**{field: value}), "servers", refused)
    assert getattr(record, field) is read
    assert not refused.seen


@pytest.mark.parametrize("public_id", ["", " ", "\ud800", 5])
def test_r5_a_provider_s_public_id_is_a_text(public_id: object) -> None:
    """Other values count as not supplied; the core derives an id from the name."""
    assert checked(server(name="A", id=public_id), "servers", Refused()) == Server(name="A")


@pytest.mark.parametrize("public_id", ["a b", "Straße!", "constructor", "x" * 65])
def test_r12_a_provider_s_public_id_may_have_any_characters(public_id: str) -> None:
    """The core makes a public id from it, and clients may join by either."""
    given = Server(name="A", id=public_id)
    assert checked(given, "servers", Refused()) == given


def test_an_event_keeps_whom_it_is_about() -> None:
    """Only record fields are checked; the ids of an event are the border's."""
    event = UserChanged(server_id="1", uid="2", status="asleep")  # type: ignore[arg-type]
    assert checked(event, "events", Refused()) == UserChanged(server_id="1", uid="2")


def test_credentials_show_only_what_was_offered() -> None:
    """No value of them is in the repr."""
    offered = Credentials(password="hunter2", discord_user={"id": "77"})
    assert repr(offered) == str(offered) == "Credentials(password=***, discord_user=***)"
    assert repr(Credentials()) == "Credentials()"


def test_users_share_colours_and_statuses() -> None:
    """A decoder makes a copy of each for every user; one is kept."""
    text = '{"username":"Ada","status":"idle","role_color":"#123abc"}'
    first, second = (checked(User(**json.loads(text)), "users", print) for _ in range(2))
    assert first == second == User(username="Ada", status="idle", role_color="#123abc")
    assert first.role_color is second.role_color
    assert first.status is second.status
