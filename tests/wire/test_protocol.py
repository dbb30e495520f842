"""The wire: what clients may send, and what they receive."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from d_back_core.chain.world import Presence, Removal, World
from d_back_core.errors import ErrorCode, JoinError
from d_back_core.models import PROTOTYPE_WORDS, EffectiveServer, EffectiveUser, Message
from d_back_core.wire import protocol

ADA = EffectiveUser("7", "Ada", "online", "#ff6b6b")
PLAZA = EffectiveServer(
    server_id="111", public_id="plaza", name="Plaza", default=True, passworded=False
)
VAULT = EffectiveServer(
    server_id="333", public_id="vault", name="Vault", default=False, passworded=True
)


def refused(frame: bytes) -> JoinError:
    with pytest.raises(JoinError) as caught:
        protocol.decode(frame)
    return caught.value


def read(frame: bytes) -> protocol.ClientMessage | JoinError:
    try:
        return protocol.decode(frame)
    except JoinError as error:
        return error


def told(error: JoinError) -> tuple[str, str]:
    return error.code, str(error)


def update(before: Iterable[EffectiveServer], now: Iterable[EffectiveServer]) -> bytes:
    """Return the ``server-list-update`` from one list to another."""
    former, present = ({each.server_id: each for each in servers} for servers in (before, now))
    frame = protocol.server_list_update(former, present)
    assert frame is not None
    return frame


def said(frame: bytes) -> Any:  # noqa: ANN401  any JSON
    return json.loads(frame)


def join(server: EffectiveServer, world: World) -> bytes:
    """Return a ``server-join`` as it is put together when it is sent."""
    head = protocol.join_head(server, world.epoch, world.seq)
    return head + b"{" + protocol.users_json(world.shown()) + b"}" + protocol.JOIN_END


def user_data(server_id: str, users: Sequence[EffectiveUser]) -> bytes:
    """Return a ``user_data`` as it is put together when it is sent."""
    head = protocol.user_data_head(server_id)
    return head + b"{" + protocol.users_json(users) + b"}" + protocol.USER_DATA_END


# From clients


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"connect"}',
        '{"type":"connect","data":null}',
        '{"type":"connect","data":{}}',
        '{"type":"connect","data":{"server":null}}',
        '{"data":{"server":null},"type":"connect"}',
        ' {"type" : "connect", "more": [1, {"type": 2}]} ',
    ],
)
def test_a_connect_may_leave_everything_out(frame: str) -> None:
    """A connect without data, server or credentials asks for no server in particular."""
    message = protocol.decode(frame.encode())
    assert isinstance(message, protocol.Connect)
    request = message.data or protocol.ConnectRequest()
    offered = (request.password, request.discord_token, request.discord_user)
    assert (request.server, offered) == (None, (None, None, None))


def test_a_connect_carries_server_and_credentials() -> None:
    """All that d-zone puts into a connect is read; what a later version adds is ignored."""
    user = {"id": "5", "username": "Bo", "tags": [1, None, {"deep": True}]}
    asked = {"server": "plaza", "password": "pw", "discordToken": "tok", "discordUser": user}
    resume = {"epoch": "x", "seq": 5}
    frame = {"type": "connect", "data": {**asked, "resume": resume, "later": [1]}}
    message = protocol.decode(json.dumps(frame).encode())
    assert message == protocol.Connect(
        data=protocol.ConnectRequest(
            server="plaza",
            password="pw",
            discord_token="tok",
            discord_user=user,
            resume=protocol.Resume(epoch="x", seq=5),
        )
    )


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ('{"type":"get_user_data","serverId":"1"}', protocol.GetUserData(server_id="1")),
        ('{"type":"get_server_data","serverId":"1"}', protocol.GetServerData(server_id="1")),
        ('{"type":"get_server_data","serverId":null}', protocol.GetServerData()),
        ('{"type":"get_server_data"}', protocol.GetServerData()),
    ],
)
def test_questions_are_read(frame: str, message: protocol.ClientMessage) -> None:
    """Users are asked of one server; servers of one or of all."""
    assert protocol.decode(frame.encode()) == message


@pytest.mark.parametrize(
    ("code", "text", "frames"),
    [
        ("invalid_encoding", "Invalid binary encoding", [b"\xff\xfe", b'{"type":"\xc3"}']),
        (
            "invalid_json",
            "Invalid JSON",
            [
                b"",
                b" ",
                b"hello",
                b"true nonsense",
                b"[1,",
                b'"connect',
                b'{"type":5,',
                b'{"type":"connect"} {}',
                b'{"type":"connect","data":{"server":"\\ud800"}}',
                b'{"type":"connect","data":NaN}',
                b"[" * 100_000,
                b'{"type":"connect","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            ],
        ),
        (
            "unknown_type",
            "Unknown event type",
            [
                b"null",
                b"5",
                b"1" * 5000,
                b'"connect"',
                b'["connect"]',
                b"{}",
                b'{"type":null}',
                b'{"type":5}',
                b'{"type":["connect"]}',
                b'{"type":"Connect"}',
                b'{"type":"server-join","data":{}}',
                b'{"type":""}',
            ],
        ),
    ],
)
def test_broken_frames_are_refused_in_the_words_of_0_0_18(
    code: ErrorCode, text: str, frames: list[bytes]
) -> None:
    """What is no UTF-8, no JSON or no known type gets its error, whatever else is in it."""
    assert [(frame[:40], *told(refused(frame))) for frame in frames] == [
        (frame[:40], code, text) for frame in frames
    ]


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"connect","data":[]}',
        '{"type":"connect","data":"plaza"}',
        '{"type":"connect","data":{"server":111}}',
        '{"type":"connect","data":{"server":["plaza"]}}',
        '{"type":"connect","data":{"password":5}}',
        '{"type":"connect","data":{"discordToken":{}}}',
        '{"type":"connect","data":{"discordUser":"Bo"}}',
        '{"type":"connect","data":{"discordUser":{"id":1e999}}}',
        '{"type":"connect","data":{"resume":5}}',
        '{"type":"connect","data":{"resume":{"epoch":"x"}}}',
        '{"type":"connect","data":{"resume":{"epoch":"x","seq":"5"}}}',
        '{"type":"get_user_data"}',
        '{"type":"get_user_data","serverId":null}',
        '{"type":"get_server_data","serverId":5}',
    ],
)
def test_wrong_shapes_are_refused_with_the_place(frame: str) -> None:
    """A known type with a field of the wrong type gets an error that names the field."""
    error = refused(frame.encode())
    assert error.code == "invalid_message"
    assert str(error).startswith("Invalid message: ")
    assert "$." in str(error) or "`serverId`" in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.binary()
    | st.text().map(str.encode)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["connect", "get_user_data", "get_server_data"]) | json_values},
        optional={"data": json_values, "serverId": json_values},
    ).map(lambda value: json.dumps(value).encode())
)
@example(b'{"type":"connect","data":{"server":"\\udc00"}}')
@example(b'{"type":"connect","data":{"discordUser":{"id":' + b"9" * 5000 + b"}}}")
def test_any_frame_is_read_or_refused(frame: bytes) -> None:
    """No frame raises anything but `JoinError`, which an ``error`` message can always tell."""
    outcome = read(frame)
    if isinstance(outcome, JoinError):
        assert said(protocol.error(outcome.code, str(outcome)))["type"] == "error"


@given(
    st.dictionaries(
        st.sampled_from(["password", "discordToken", "discordUser", "resume", "server"]),
        st.just("tok-MARK") | st.lists(st.just("tok-MARK")) | st.just({"id": "tok-MARK"}),
    )
)
def test_a_refusal_repeats_no_credential(offered: dict[str, object]) -> None:
    """The error for a connect of a wrong shape does not say what was in it."""
    outcome = read(json.dumps({"type": "connect", "data": offered}).encode())
    shown = str(outcome) if isinstance(outcome, JoinError) else repr(outcome)
    assert "MARK" not in shown.replace("server='tok-MARK'", "")


# Words that freeze d-zone


@pytest.mark.parametrize("word", sorted(PROTOTYPE_WORDS))
@pytest.mark.parametrize("text", ["{}", "say {} twice", "{} {} {}", "  {}", "{}\n"])
def test_every_freezing_word_is_broken(word: str, text: str) -> None:
    """U+200B stands behind each word of JavaScript's ``Object.prototype``, and nothing else
    of the text changes."""
    broken = protocol.defused(text.replace("{}", word))
    assert broken == text.replace("{}", f"{word}\u200b")


@pytest.mark.parametrize(
    "text", ["Constructor", "constructor.", "xtoString", "valueOf!", "con structor", "", "über"]
)
def test_harmless_words_stay_as_they_are(text: str) -> None:
    """What only looks like such a word is not touched."""
    assert protocol.defused(text) == text


@given(
    st.lists(
        st.sampled_from([*sorted(PROTOTYPE_WORDS), " ", "  ", "\n", "\t", ".", "a", "\u200b"])
    ).map("".join)
)
def test_no_text_freezes_d_zone(text: str) -> None:
    """Split at spaces, as d-zone does, no sent text contains such a word."""
    assert PROTOTYPE_WORDS.isdisjoint(protocol.defused(text).split(" "))


def test_what_d_zone_shows_is_broken_up_in_every_frame() -> None:
    """Names of servers and users, and chat, are safe wherever they are sent."""
    user = EffectiveUser("7", "toString", "online", "#ffffff")
    server = EffectiveServer(
        server_id="111", public_id="x", name="valueOf", default=True, passworded=False
    )
    world = World("111", {"7": user})
    message = Message(server_id="111", uid="7", message="a constructor b", channel="5")
    new = Presence(uid="7", status="online", username="toString", role_color="#ffffff")
    frames = [
        protocol.server_list([server]),
        update([], [server]),
        join(server, world),
        protocol.delta("111", 1, new),
        protocol.delta("111", 2, message),
        user_data("111", [user]),
        protocol.server_data([server]),
    ]
    for frame in frames:
        text = frame.decode()
        assert "\u200b" in text
        assert "toString" not in text.replace("toString\u200b", "")
        assert "valueOf" not in text.replace("valueOf\u200b", "")
        assert "constructor" not in text.replace("constructor\u200b", "")


# To clients


def test_the_list_of_servers() -> None:
    """``server-list`` maps server_ids to public id, name and protection; only the default
    server is marked as one."""
    listed = {
        "111": {"id": "plaza", "name": "Plaza", "default": True, "passworded": False},
        "333": {"id": "vault", "name": "Vault", "passworded": True},
    }
    servers = [PLAZA, VAULT]
    assert said(protocol.server_list(servers)) == {"type": "server-list", "data": listed}
    assert said(protocol.server_data(servers)) == {"type": "server_data", "servers": listed}


def test_r34_an_update_of_the_list_has_only_what_differs() -> None:
    """``data`` has the servers that are new or changed, ``removed`` those that are gone."""
    renamed = structs.replace(PLAZA, name="Square")
    square = {"id": "plaza", "name": "Square", "default": True, "passworded": False}
    vault = {"id": "vault", "name": "Vault", "passworded": True}
    kind = {"type": "server-list-update"}
    assert said(update([PLAZA], [PLAZA, VAULT])) == {**kind, "data": {"333": vault}}
    assert said(update([PLAZA, VAULT], [renamed, VAULT])) == {**kind, "data": {"111": square}}
    assert said(update([PLAZA, VAULT], [VAULT])) == {**kind, "data": {}, "removed": ["111"]}


def test_r34_clients_receive_no_update_of_what_they_do_not_see() -> None:
    """A client id is not in the list, and neither is the order."""
    before = {"111": PLAZA, "333": VAULT}
    now = {"333": VAULT, "111": structs.replace(PLAZA, client_id="99")}
    assert protocol.server_list_update(before, now) is None


@pytest.mark.parametrize(
    ("client_id", "field"), [(None, {}), ("", {}), ("99", {"clientId": "99"})]
)
def test_a_join(client_id: str | None, field: dict[str, str]) -> None:
    """``server-join`` has all users in full, the resolved id, and the place in the sequence;
    a client id only if there is one."""
    world = World("111", {"7": ADA})
    assert said(join(structs.replace(PLAZA, client_id=client_id), world)) == {
        "type": "server-join",
        "data": {
            "users": {
                "7": {"uid": "7", "username": "Ada", "status": "online", "roleColor": "#ff6b6b"}
            },
            "request": {"server": "plaza"},
            "serverName": "Plaza",
            "epoch": world.epoch,
            "seq": 0,
            **field,
        },
    }


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (Presence(uid="7", status="dnd"), {"status": "dnd"}),
        (
            Presence(uid="7", status="idle", role_color="#000000"),
            {"status": "idle", "roleColor": "#000000"},
        ),
        (
            Presence(uid="7", status="idle", username="Bo"),
            {"status": "idle", "username": "Bo"},
        ),
        (Removal(uid="7"), {"status": "offline", "delete": True}),
    ],
)
def test_a_presence(change: Presence | Removal, fields: dict[str, object]) -> None:
    """``presence`` says what changed, and the status always."""
    assert said(protocol.delta("111", 4, change)) == {
        "type": "presence",
        "server": "111",
        "seq": 4,
        "data": {"uid": "7", **fields},
    }


def test_chat() -> None:
    """``message`` says who said what where."""
    message = Message(server_id="111", uid="7", message="hé\n", channel="5", channel_name="x")
    assert said(protocol.delta("111", 4, message)) == {
        "type": "message",
        "server": "111",
        "seq": 4,
        "data": {"uid": "7", "message": "hé\n", "channel": "5"},
    }


def test_the_other_answers() -> None:
    """``error``, ``resumed``, ``update-clientid`` and ``user_data``."""
    assert said(protocol.error("gone", "It went.")) == {
        "type": "error",
        "data": {"message": "It went.", "code": "gone"},
    }
    world = World("111", {})
    assert said(protocol.resumed(world, 0)) == {
        "type": "resumed",
        "server": "111",
        "epoch": world.epoch,
        "seq": 0,
    }
    for client_id in ("99", None):
        assert said(protocol.update_client_id("111", client_id)) == {
            "type": "update-clientid",
            "server": "111",
            "data": {"clientId": client_id},
        }
    assert said(user_data("111", [ADA])) == {
        "type": "user_data",
        "serverId": "111",
        "users": {
            "7": {"uid": "7", "username": "Ada", "status": "online", "roleColor": "#ff6b6b"}
        },
    }


def test_the_gateway_and_its_client_speak_the_same() -> None:
    """Every message that the gateway sends is one of those that its schema describes."""
    decoder = msgspec.json.Decoder(protocol.ServerMessage)
    world = World("111", {"7": ADA})
    message = Message(server_id="111", uid="7", message="hi", channel="5")
    frames = [
        protocol.server_list([PLAZA]),
        update([PLAZA], [VAULT]),
        join(structs.replace(PLAZA, client_id="99"), world),
        protocol.delta("111", 1, Presence(uid="7", status="idle")),
        protocol.delta("111", 2, Removal(uid="7")),
        protocol.delta("111", 3, message),
        protocol.resumed(world, 0),
        protocol.update_client_id("111", None),
        protocol.error("gone", "It went."),
        user_data("111", [ADA]),
        protocol.server_data([PLAZA]),
    ]
    kinds = {type(decoder.decode(frame)).__name__ for frame in frames}
    described = json.dumps(protocol.schema())
    assert all(f'"#/$defs/{kind}"' in described for kind in kinds)


def test_a_request_is_not_printed() -> None:
    """The repr of a connect shows which server was asked for and no credential."""
    request = protocol.ConnectRequest(
        server="plaza", password="MARK", discord_token="MARK", discord_user={"MARK": 1}
    )
    assert "MARK" not in repr(protocol.Connect(data=request))
    assert "plaza" in repr(request)


def test_unset_is_left_out() -> None:
    """No frame carries null for something that was not said."""
    presence = protocol.delta("1", 1, Presence(uid="7", status="idle", username=UNSET))
    assert b"null" not in presence
