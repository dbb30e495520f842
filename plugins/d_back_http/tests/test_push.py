"""What other programs push, over real HTTP, and what they are answered."""

from __future__ import annotations

import asyncio
import re
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from http_api import ADA, BO, SECRET

from d_back_core import ConfigError, models
from d_back_core.config import parse
from d_back_core.models import EffectiveUser
from d_back_core.providers.loader import load
from d_back_core.wire.protocol import MessageDeleteFrame, MessageEditFrame, MessageFrame
from d_back_http import HttpProvider, bodies, openapi
from d_back_http.pending import MAX_MESSAGES, Pending

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Join, Push, Serve, Until

    from d_back_core.embedding.server import WebSocketServer

SOURCES = {"bot": {"secret": SECRET}}
USERS = {"7": ADA, "8": BO}
JOINED = {
    "7": EffectiveUser("7", "Ada", "online", "#ff6b6b"),
    "8": EffectiveUser("8", "Bo", "idle", "#4ecdc4"),
}


async def filled(serve: Serve, push: Push, **options: Any) -> WebSocketServer:  # noqa: ANN401
    """A gateway with a server that was pushed."""
    server = await serve(push=SOURCES, **options)
    assert await push(server, "PUT", "/http/1", {"name": "Plaza", "id": "plaza"}) == (204, None)
    assert await push(server, "PUT", "/http/1/users", USERS) == (204, None)
    return server


async def test_what_is_pushed_is_shown(serve: Serve, join: Join, push: Push) -> None:
    """Whole lists, single users, messages and removals reach a client."""
    server = await filled(serve, push)
    world = await join(server, "plaza")
    assert world.users == JOINED
    assert world.name == "Plaza"
    assert await push(server, "PATCH", "/http/1/users/7", {"status": "dnd"}) == (204, None)
    await world.until(lambda w: w.users["7"].status == "dnd")
    assert world.users["7"].username == "Ada"
    assert await push(server, "PATCH", "/http/1/users/9", {"username": "Cy"}) == (204, None)
    await world.until(lambda w: "9" in w.users)
    assert await push(server, "PATCH", "/http/1/users/7", {"roleColor": None}) == (204, None)
    await world.until(lambda w: w.users["7"].role_color == "#ffffff")
    assert await push(server, "DELETE", "/http/1/users/8") == (204, None)
    await world.until(lambda w: "8" not in w.users)
    assert await push(server, "PUT", "/http/1/users", {"10": ADA}) == (204, None)
    await world.until(lambda w: set(w.users) == {"10"})


async def test_extra_texts(serve: Serve, push: Push) -> None:
    """They are part of a user; a newer mapping replaces them, and null clears them."""
    server = await filled(serve, push)
    for extra in ({"avatar": "https://example.org/7.png"}, {"pronouns": "she"}, None):
        assert (await push(server, "PATCH", "/http/1/users/7", {"extra": extra}))[0] == 204
        assert pushed_of(server)[1]["1"]["7"].extra == extra


async def test_messages(serve: Serve, join: Join, push: Push) -> None:
    """They are sent once, also if the program does not know and sends them again."""
    server = await filled(serve, push)
    world = await join(server)
    events = world.events()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)  # it listens from its first step on
    hello = {"uid": "7", "message": "Hello", "channel": "1"}
    for _ in range(3):
        answer = await push(server, "POST", "/http/1/messages", hello, Idempotency_Key="a")
        assert answer == (204, None)
    status, body = await push(
        server, "POST", "/http/1/messages", {**hello, "message": "Bye"}, Idempotency_Key="a"
    )
    assert (status, body["error"]["code"]) == (422, "key_reused")
    assert (await push(server, "POST", "/http/1/messages", {**hello, "message": "Bye"}))[0] == 204
    heard = [await first, await anext(events)]
    assert [each.data.message for each in heard if isinstance(each, MessageFrame)] == [
        "Hello",
        "Bye",
    ]


async def test_messages_are_edited_and_deleted(serve: Serve, join: Join, push: Push) -> None:
    """A message with an `id` gets another text, and is deleted, by that id and its channel."""
    server = await filled(serve, push)
    world = await join(server)
    events = world.events()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)  # it listens from its first step on
    said = {"uid": "7", "message": "see you", "channel": "1", "at": "2026-11-30T21:15:30+01:00"}
    late = {**said, "message": "see you soon", "at": "2026-11-30T20:15:42Z"}
    path = "/http/1/messages"
    assert await push(server, "POST", path, {**said, "id": "m-5"}) == (204, None)
    for _ in range(2):
        answer = await push(server, "PATCH", f"{path}/m-5", late, Idempotency_Key="edit")
        assert answer == (204, None)
    status, body = await push(
        server, "DELETE", f"{path}/m-5?channel=1", None, Idempotency_Key="edit"
    )
    assert (status, body["error"]["code"]) == (422, "key_reused")
    assert await push(server, "DELETE", f"{path}/m-5?channel=1") == (204, None)
    sent, edited, deleted = await first, await anext(events), await anext(events)
    assert isinstance(sent, MessageFrame)
    assert (sent.data.id, sent.data.at) == ("m-5", datetime(2026, 11, 30, 20, 15, 30, tzinfo=UTC))
    assert isinstance(edited, MessageEditFrame)
    assert (edited.data.id, edited.data.message) == ("m-5", "see you soon")
    assert isinstance(deleted, MessageDeleteFrame)
    assert (deleted.data.id, deleted.data.channel) == ("m-5", "1")


async def test_requests_may_be_sent_again(serve: Serve, join: Join, push: Push) -> None:
    """What changes nothing sends nothing to clients."""
    server = await filled(serve, push)
    world = await join(server)
    before = world.seq
    for _ in range(2):
        assert (await push(server, "PUT", "/http/1", {"name": "Plaza", "id": "plaza"}))[0] == 204
        assert (await push(server, "PUT", "/http/1/users", USERS))[0] == 204
        assert (await push(server, "PATCH", "/http/1/users/7", ADA))[0] == 204
        assert (await push(server, "DELETE", "/http/1/users/99"))[0] == 204
    assert (await push(server, "PATCH", "/http/1/users/7", {"status": "idle"}))[0] == 204
    await world.until(lambda w: w.users["7"].status == "idle")
    assert world.seq == before + 1


async def test_the_line_of_the_docs(serve: Serve, join: Join, push: Push) -> None:
    """A `curl` line changes a user's status."""
    server = await filled(serve, push)
    world = await join(server)
    url = f"http://127.0.0.1:{server.port}/http/1/users/7"
    words = ["curl", "-sS", "-X", "PATCH", "-H", f"Authorization: Bearer {SECRET}"]
    run = await asyncio.to_thread(
        subprocess.run,
        [*words, "-d", '{"status": "dnd"}', "-w", "%{http_code}", url],
        capture_output=True,
        check=True,
    )
    assert run.stdout == b"204"
    await world.until(lambda w: w.users["7"].status == "dnd")


async def test_a_server_that_is_removed(
    serve: Serve, push: Push, join: Join, until: Until
) -> None:
    """It is not listed any more; others stay."""
    server = await filled(serve, push)
    await push(server, "PUT", "/http/2/users", USERS)
    world = await join(server, "2")
    assert world.users == JOINED
    assert await push(server, "DELETE", "/http/1") == (204, None)
    await until(lambda: set(server.live.server_list.servers) == {"2"})


async def test_what_was_pushed_survives_a_restart(
    serve: Serve, join: Join, push: Push, tmp_path: Path
) -> None:
    """A recorder below keeps it: the next gateway shows it until the program pushes again. Before
    that, a part is refused: it would look like the whole."""
    chain: Any = {
        "order": ("http", "sqlite"),
        "recorders": ("sqlite",),
        "sqlite": tmp_path / "memory.sqlite3",
    }
    server = await filled(serve, push, **chain)
    world = await join(server)
    await push(server, "PATCH", "/http/1/users/7", {"status": "dnd"})
    await world.until(lambda w: w.users["7"].status == "dnd")
    before = dict(world.users)
    await server.stop()
    server = await serve(push=SOURCES, **chain)
    world = await join(server)
    assert world.users == before
    status, body = await push(server, "PATCH", "/http/1/users/7", {"status": "idle"})
    assert status == 409
    assert body == {
        "error": {
            "code": "push_all_first",
            "message": "the users of server '1' are not known since d-back was started:"
            " PUT /http/1/users first",
        }
    }
    assert (await push(server, "DELETE", "/http/1/users/7"))[0] == 409
    assert world.users == before
    assert (await push(server, "PUT", "/http/1/users", {"7": ADA}))[0] == 204
    await world.until(lambda w: set(w.users) == {"7"} and w.users["7"].status == "online")


# Who may push


@pytest.mark.parametrize(
    ("authorization", "problem"),
    [
        ("", "is missing"),
        ("Bearer", "is not that of a source"),
        ("Bearer wrong-horse-battery-", "is not that of a source"),
        (SECRET, "is not that of a source"),
        (f"Basic {SECRET}", "is not that of a source"),
        (f"Bearer {SECRET}x", "is not that of a source"),
    ],
)
async def test_other_secrets_are_refused(
    serve: Serve, push: Push, authorization: str, problem: str
) -> None:
    """Whatever is asked for, the answer is 401, and it does not say if the server exists."""
    server = await filled(serve, push)
    for method, path in (
        ("PUT", "/http/1/users"),
        ("PATCH", "/http/1/users/7"),
        ("PUT", "/http/2"),
    ):
        status, body = await push(server, method, path, {}, Authorization=authorization)
        assert (status, body) == (
            401,
            {
                "error": {
                    "code": "unauthorized",
                    "message": f"Authorization: {problem}, expected 'Bearer SECRET' with a secret"
                    " of push.NAME",
                }
            },
        )


async def test_a_source_for_some_servers(serve: Serve, push: Push, join: Join) -> None:
    """It may push these, and each source has its own secret."""
    other = "another-long-secret"
    sources = {
        "one": {"secret": SECRET, "servers": ["1", "3"]},
        "two": {"secret": other, "servers": ["2"]},
    }
    server = await serve(push=sources)
    assert (await push(server, "PUT", "/http/1/users", USERS))[0] == 204
    status, body = await push(server, "PUT", "/http/2/users", USERS)
    assert (status, body["error"]) == (
        403,
        {
            "code": "forbidden",
            "message": "source 'one' may not push server '2' (push.one.servers: 1, 3)",
        },
    )
    answer = await push(server, "PUT", "/http/2/users", USERS, Authorization=f"bearer {other}")
    assert answer == (204, None)
    assert (await join(server, "2")).users == JOINED


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"push": {"bot": {"secret": "short"}}}, "push.bot.secret: is shorter than 16 characters"),
        (
            {"push": {"a": {"secret": SECRET}, "b": {"secret": SECRET}}},
            "push.b.secret: another source has the same one",
        ),
        ({"push": SOURCES, "path": "push"}, "path: 'push' is not a path such as /http"),
        ({"push": SOURCES, "path": "/"}, "path: '/' is not a path such as /http"),
    ],
)
def test_wrong_configurations(options: dict[str, Any], text: str) -> None:
    """Each is refused by name, without its secret."""
    with pytest.raises(ConfigError) as raised:
        load(parse({"chain": {"order": ["http"]}, "providers": {"http": options}}))
    assert text in str(raised.value)
    assert SECRET not in str(raised.value)


# What is wrong with a request

LONG = "x" * 257
TEXT = "a text that is not blank, of "
TIME = "a time with its zone, such as 2026-11-30T20:15:30Z"
WRONG: list[tuple[str, str, object, int, str]] = [
    # method, path, body, status, sentence
    ("PUT", "1/users", b"", 400, "the body is empty, expected a JSON object of users by uid"),
    ("PUT", "1/users", b"{", 400, "the body is not JSON: Input data was truncated"),
    ("PUT", "1/users", b"\xff{}", 400, "the body is not JSON: JSON is malformed: …"),
    ("PUT", "1/users", b"{} {}", 400, "the body is not JSON: JSON is malformed: …"),
    ("PUT", "1/users", b"[]", 422, "the body is an array, expected a JSON object of users by uid"),
    ("PUT", "1/users", b"null", 422, "the body is null, expected a JSON object of users by uid"),
    ("PUT", "1/users", b"7", 422, "the body is a number, expected a JSON object of users by uid"),
    ("PUT", "1/users", {"": {}}, 422, "'' is not a uid: expected {ID}"),
    ("PUT", "1/users", {"a b": {}}, 422, "'a b' is not a uid: expected {ID}"),
    ("PUT", "1/users", {"ä": {}}, 422, "'\\xe4' is not a uid: expected {ID}"),
    ("PUT", "1/users", {"x" * 65: {}}, 422, "'xx…' is not a uid: expected {ID}"),
    (
        "PUT",
        "1/users",
        {"constructor": {}},
        422,
        "'constructor' is not a uid: expected {ID}",
    ),
    ("PUT", "1/users", {"7": []}, 422, "7: is an array, expected an object"),
    ("PUT", "1/users", {"7": None}, 422, "7: is null, expected an object"),
    ("PUT", "1/users", {"7": "Ada"}, 422, "7: is a string, expected an object"),
    (
        "PUT",
        "1/users",
        {"7": {"name": "Ada"}},
        422,
        "7.name: is not a known field (known: username, status, roleColor, extra)",
    ),
    (
        "PUT",
        "1/users",
        {"7": {"username": ""}},
        422,
        "7.username: is empty, expected a text that is not blank, of 256 characters at most",
    ),
    (
        "PUT",
        "1/users",
        {"7": {"username": " "}},
        422,
        "7.username: ' ' is not valid, expected {TEXT}256 characters at most",
    ),
    (
        "PUT",
        "1/users",
        {"7": {"username": 7}},
        422,
        "7.username: is 7, expected a text that is not blank, of 256 characters at most",
    ),
    (
        "PUT",
        "1/users",
        {"7": {"username": LONG}},
        422,
        "7.username: 'xx…' is not valid, expected {TEXT}256 characters at most",
    ),
    (
        "PUT",
        "1/users",
        {"7": {"status": "away"}},
        422,
        "7.status: 'away' is not valid, expected one of online, idle, dnd, offline",
    ),
    (
        "PUT",
        "1/users",
        {"7": {"status": True}},
        422,
        "7.status: is true, expected one of online, idle, dnd, offline",
    ),
    (
        "PUT",
        "1/users",
        {"7": {"status": ["online"]}},
        422,
        "7.status: is an array, expected one of online, idle, dnd, offline",
    ),
    (
        "PUT",
        "1/users",
        {"7": {"roleColor": "red"}},
        422,
        "7.roleColor: 'red' is not valid, expected a colour such as #ff6b6b",
    ),
    (
        "PUT",
        "1/users",
        {"7": {"roleColor": 16711680}},
        422,
        "7.roleColor: is 16711680, expected a colour such as #ff6b6b",
    ),
    (
        "PATCH",
        "1/users/7",
        {"extra": {"a b": "x"}},
        422,
        "extra: is an object, expected {EXTRA}",
    ),
    (
        "PATCH",
        "1/users/7",
        {"extra": {"avatar": 7}},
        422,
        "extra: is an object, expected {EXTRA}",
    ),
    ("PATCH", "1/users/7", b"", 400, "the body is empty, expected a JSON object"),
    ("PATCH", "1/users/7", [], 422, "the body is an array, expected a JSON object"),
    (
        "PATCH",
        "1/users/7",
        {"role_color": "#000000"},
        422,
        "role_color: is not a known field (known: username, status, roleColor, extra)",
    ),
    (
        "PATCH",
        "1/users/7",
        {"status": "gone"},
        422,
        "status: 'gone' is not valid, expected one of online, idle, dnd, offline",
    ),
    ("PATCH", "1/users/a%20b", {}, 422, "'a b' is not a uid: expected {ID}"),
    (
        "DELETE",
        "1/users/__proto__",
        None,
        422,
        "'__proto__' is not a uid: expected {ID}",
    ),
    ("PATCH", "a%20b/users/7", {}, 422, "'a b' is not a server_id: expected {ID}"),
    (
        "PUT",
        "1",
        {"default": True},
        422,
        "default: is not a known field (known: name, id, is_default, passworded, enabled)",
    ),
    (
        "PUT",
        "1",
        {"id": "a b"},
        422,
        "id: 'a b' is not valid, expected {PUBLIC_ID}",
    ),
    ("PUT", "1", {"id": "valueOf"}, 422, "id: 'valueOf' is not valid, expected {PUBLIC_ID}"),
    ("PUT", "1", {"enabled": "no"}, 422, "enabled: 'no' is not valid, expected true or false"),
    ("PUT", "1", {"passworded": 1}, 422, "passworded: is 1, expected true or false"),
    ("POST", "1/messages", {}, 422, "uid: is missing"),
    ("POST", "1/messages", {"uid": "7", "channel": "1"}, 422, "message: is missing"),
    (
        "POST",
        "1/messages",
        {"uid": "7", "message": "x" * 4001, "channel": "1"},
        422,
        "message: 'xx…' is not valid, expected {TEXT}4000 characters at most",
    ),
    (
        "POST",
        "1/messages",
        {"uid": "7", "message": "x", "channel": "main room"},
        422,
        "channel: 'main room' is not valid, expected {ID}",
    ),
    (
        "POST",
        "1/messages",
        {"uid": "7", "message": "x", "channel": "1", "id": "a b"},
        422,
        "id: 'a b' is not valid, expected {ID}",
    ),
    (
        "POST",
        "1/messages",
        {"uid": "7", "message": "x", "channel": "1", "at": "2026-11-30T20:15:30"},
        422,
        "at: '2026-11-30T20:15:30' is not valid, expected {TIME}",
    ),
    (
        "POST",
        "1/messages",
        {"uid": "7", "message": "x", "channel": "1", "at": 1764533730},
        422,
        "at: is 1764533730, expected {TIME}",
    ),
    (
        "PATCH",
        "1/messages/5",
        {"uid": "7", "message": "x", "channel": "1", "id": "5"},
        422,
        "id: is not a known field (known: uid, message, channel, channelName, at)",
    ),
    ("PATCH", "1/messages/5", {"uid": "7", "channel": "1"}, 422, "message: is missing"),
    ("PATCH", "1/messages/a%20b", {}, 422, "'a b' is not a message_id: expected {ID}"),
    ("DELETE", "1/messages/5", None, 422, "channel: is missing"),
    (
        "DELETE",
        "1/messages/5?channel=main%20room",
        None,
        422,
        "channel: 'main room' is not valid, expected {ID}",
    ),
    (
        "DELETE",
        "1/messages/5?room=1",
        None,
        422,
        "room: is not a known field (known: channel, channelName)",
    ),
    ("POST", "1/users", {}, 405, "POST is not possible here (possible: PUT)"),
    ("PUT", "1/users/7", {}, 405, "PUT is not possible here (possible: PATCH, DELETE)"),
    ("GET", "1/messages", None, 405, "GET is not possible here (possible: POST)"),
    ("PUT", "1/members", {}, 404, "there is no path /http/1/members"),
    ("PUT", "2/users/7/status", {}, 404, "there is no path /http/2/users/7/status"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "sentence"),
    WRONG,
    ids=[f"{number}" for number in range(len(WRONG))],
)
async def test_wrong_requests(
    serve: Serve, push: Push, method: str, path: str, body: object, *, status: int, sentence: str
) -> None:
    """Each is answered with what is wrong, and changes nothing."""
    server = await filled(serve, push)
    before = pushed_of(server)
    answered, content = await push(server, method, f"/http/{path}", body)
    error = content["error"]
    sentence = sentence.replace("{ID}", bodies.ID).replace("{TEXT}", TEXT)
    sentence = sentence.replace("{EXTRA}", bodies.EXTRA).replace("{TIME}", TIME)
    sentence = sentence.replace("{PUBLIC_ID}", bodies.PUBLIC_ID)
    expected = re.escape(sentence).replace("…", ".*")
    assert re.fullmatch(expected, error["message"]), error["message"]
    assert answered == status
    if "field" in error:
        assert error["message"].startswith((f"{error['field']}: ", ascii(error["field"])))
    assert pushed_of(server) == before


def pushed_of(server: WebSocketServer) -> tuple[Any, Any]:
    """Copies of what the gateway's provider holds."""
    provider = server.live.providers.supervisors["http"].plugin.instance
    assert isinstance(provider, HttpProvider)
    return dict(provider.pushed.servers), {
        key: dict(users) for key, users in provider.pushed.users.items()
    }


async def test_a_body_that_is_too_large(serve: Serve, push: Push) -> None:
    """The limit is the gateway's, and so is the answer."""
    server = await filled(serve, push, limits={"body_size": 1000})
    many = {f"u{number}": ADA for number in range(100)}
    assert await push(server, "PUT", "/http/1/users", many) == (413, None)


async def test_a_large_body(serve: Serve, push: Push, join: Join) -> None:
    """A list of many users is one request, if the gateway allows it."""
    server = await filled(serve, push, limits={"body_size": 10_000_000})
    many = {f"u{number}": ADA for number in range(20_000)}
    assert (await push(server, "PUT", "/http/1/users", many))[0] == 204
    world = await join(server)
    assert len(world.users) == 20_000


async def test_too_many_messages_wait() -> None:
    """Messages that nothing takes are not kept without bound."""
    pending = Pending()
    message = bodies.message(b'{"uid": "7", "message": "x", "channel": "1"}', "1")
    assert all(pending.say(message) for _ in range(MAX_MESSAGES))
    assert not pending.say(message)


def test_the_limits_are_those_of_the_core() -> None:
    """What the core would drop in silence is refused with a sentence, and nothing else is."""
    assert set(bodies.STATUSES) == models.STATUSES
    assert openapi.PROTOTYPE_WORDS == models.PROTOTYPE_WORDS
    assert (bodies.MAX_EXTRA, bodies.MAX_TEXT) == (models.MAX_EXTRA, models.MAX_EXTRA_LENGTH)
