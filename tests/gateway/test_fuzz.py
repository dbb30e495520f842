"""Whatever a client sends, everyone else is served as if nothing had happened.

After each attack the same holds: the attacker, or the next client, can join; a bystander who
was connected all the time got what happened and nothing else; no task is left; nothing is logged
as an error; and no credential that was offered is in any frame or log record.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import Frame, Peer, until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from d_back_core import Server, User, UserChanged
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_testing import ScriptedProvider

MARK = "s3cr3t-MARK"
CLOSING = {1002, 1007, 1008, 1009}
"""How an attacker may be ended: a broken frame, broken text, too much nonsense, too much data."""
ANSWERS = {"error", "server-join", "resumed", "user_data", "server_data"}
GARDEN = {"9": {"uid": "9", "username": "Cy", "status": "dnd", "roleColor": "#ffffff"}}


class Ground:
    """A gateway under attack, and a bystander."""

    def __init__(
        self,
        server: WebSocketServer,
        provider: ScriptedProvider,
        bystander: Peer,
        log: pytest.LogCaptureFixture,
    ) -> None:
        self.server = server
        self._provider = provider
        self._bystander = bystander
        self._log = log
        self._events = 0

    async def attack(self, *frames: bytes | str, text: bool | None = None) -> None:
        """Send these on a connection of its own; then look at everything."""
        tasks = asyncio.all_tasks()
        async with connect(self.server.url, max_size=None, max_queue=None) as connection:
            attacker = Peer(connection)
            await attacker.expect("server-list")
            try:
                for frame in frames:
                    await connection.send(frame, text=text)
                await self._joins(attacker)
            except ConnectionClosed:
                assert connection.close_code in CLOSING
        await self.look(tasks)

    async def look(self, tasks: set[asyncio.Task[object]]) -> None:
        """Raise where anybody else noticed; ``tasks`` are those that there were before."""
        await until(lambda: asyncio.all_tasks() <= tasks)
        async with connect(self.server.url, max_size=None) as connection:
            peer = Peer(connection)
            await peer.expect("server-list")
            await self._joins(peer)
        self._events += 1
        name = f"Ada {self._events}"
        self._provider.emit(UserChanged(server_id="111", uid="7", username=name))
        said = {"uid": "7", "status": "online", "username": name}
        heard = {"type": "presence", "server": "111", "seq": self._events, "data": said}
        assert await self._bystander.receive() == heard
        for record in self._log.records:
            if record.name.startswith("d_back"):
                assert record.levelno < logging.ERROR, record
            assert MARK not in self._log.handler.format(record)
        self._log.clear()

    async def _joins(self, peer: Peer) -> None:
        await peer.ask("garden")
        while not is_garden(frame := await peer.receive()):
            assert frame["type"] in ANSWERS
            assert MARK not in str(frame)
        assert frame["data"]["users"] == GARDEN


def is_garden(frame: Frame) -> bool:
    """Whether it is the answer to the join that no attack asks for."""
    if frame["type"] != "server-join":
        return False
    return bool(frame["data"]["request"] == {"server": "garden"})


@pytest.fixture
async def ground(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Ground]:
    """A gateway with an open and a protected server, and a client that has joined the open one."""
    caplog.set_level(logging.INFO)
    provider = ScriptedProvider(
        {
            "111": Server(name="Plaza", id="plaza", default=True),
            "222": Server(name="Garden", id="garden"),
            "333": Server(name="Vault", id="vault", passworded=True),
        },
        {
            "111": {"7": User(username="Ada", status="online")},
            "222": {"9": User(username="Cy", status="dnd")},
            "333": {"6": User(username="Di", status="idle")},
        },
    )
    table = {
        "gateway": {"port": 0},
        "chain": {"order": ["a"]},
        "servers": {"333": {"password": "another secret"}},
    }
    async with AsyncExitStack() as stack:
        server = WebSocketServer(config=parse(table), providers={"a": provider})
        await stack.enter_async_context(server)
        bystander = Peer(await stack.enter_async_context(connect(server.url, max_queue=None)))
        await bystander.expect("server-list")
        await bystander.join("plaza")
        yield Ground(server, provider, bystander, caplog)


def bounded(examples: int) -> settings:
    """So many attacks on one and the same ground."""
    ground_is_shared = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    examples = examples * settings().max_examples // 100  # fewer with the profile "few"
    return settings(max_examples=examples, deadline=None, suppress_health_check=ground_is_shared)


# What is sent

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=10,
)
credential = (
    st.sampled_from([MARK, [MARK], {MARK: MARK}, {"id": MARK, "username": MARK}]) | anything
)
server = st.sampled_from(["plaza", "111", "vault", "333", "default", "", "null"]) | anything
resume = (
    st.fixed_dictionaries(
        {"epoch": st.text(max_size=16) | anything, "seq": st.integers() | anything}
    )
    | anything
)
request = st.fixed_dictionaries(
    {},
    optional={
        "server": server,
        "password": credential,
        "discordToken": credential,
        "discordUser": credential,
        "resume": resume,
    },
)
message = st.fixed_dictionaries(
    {"type": st.sampled_from(["connect", "get_user_data", "get_server_data"]) | anything},
    optional={"data": request | anything, "serverId": server},
)
encoded = (message | anything).map(json.dumps)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A message of which some bytes are others."""
    frame = bytearray(draw(message.map(json.dumps)).encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(frame)))
        frame[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(frame)


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4), st.booleans())
@bounded(100)
async def test_arbitrary_bytes(ground: Ground, frames: list[bytes], text: bool) -> None:  # noqa: FBT001  drawn
    """Bytes that mean nothing, in text and in binary frames."""
    await ground.attack(*frames, text=text)


@given(st.lists(encoded, min_size=1, max_size=6))
@bounded(150)
async def test_json_of_any_shape(ground: Ground, frames: list[str]) -> None:
    """Messages with wrong types in any field, and JSON that is no message at all."""
    await ground.attack(*frames)


@given(damaged(), st.booleans())
@bounded(100)
async def test_damaged_messages(ground: Ground, frame: bytes, text: bool) -> None:  # noqa: FBT001  drawn
    """What was a message once."""
    await ground.attack(frame, text=text)


@given(st.lists(message.map(json.dumps), min_size=2, max_size=12))
@bounded(50)
async def test_messages_upon_messages(ground: Ground, frames: list[str]) -> None:
    """Joins and questions that overtake each other, the client gone before they are answered."""
    tasks = asyncio.all_tasks()
    async with connect(ground.server.url, max_queue=None) as connection:
        for frame in frames:
            await connection.send(frame)
        connection.transport.abort()
    await ground.look(tasks)


MEGABYTE = 1024 * 1024
DEEP = 100_000
NESTED = 10_000
"""Deep enough for any decoder, and small enough to reach it."""


def with_field(name: str, content: str) -> str:
    """A connect with that JSON in a field."""
    return f'{{"type":"connect","data":{{"{name}":{content}}}}}'


@pytest.mark.parametrize(
    "frame",
    [
        "",
        b"",
        "\x00",
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        '{"a":' * DEEP + "1" + "}" * DEEP,
        "[" * NESTED,
        "[" * NESTED + "]" * NESTED,
        '{"a":' * NESTED + "1" + "}" * NESTED,
        '{"type":' + "[" * NESTED + "]" * NESTED + "}",
        with_field("server", "[" * NESTED + "]" * NESTED),
        with_field("discordUser", '{"a":' * NESTED + "1" + "}" * NESTED),
        '{"type":"connect","x":' + "[" * NESTED + "]" * NESTED + "}",
        "1" * DEEP,
        with_field("server", "1" * NESTED),
        with_field("discordUser", f'{{"id":{"9" * 5000}}}'),
        with_field("discordUser", '{"id":1e999999}'),
        with_field("discordUser", '{"id":-1e-999999}'),
        with_field("resume", f'{{"epoch":"e","seq":{"9" * 5000}}}'),
        with_field("resume", '{"epoch":"e","seq":-9223372036854775809}'),
        with_field("server", f'"{"x" * 60_000}"'),
        with_field("server", f'"{"x" * (MEGABYTE // 2)}"'),
        with_field("server", f'"{"x" * MEGABYTE}"'),
        with_field("password", f'"{MARK * (MEGABYTE // 32)}"'),
        with_field("server", '"\\ud800"'),
        with_field("server", '"\\u0000"'),
        with_field("password", '"\\udfff"'),
        with_field("server", '"vault","password":"\\ud83d\\ude00"'),
        with_field("discordUser", "{" + ",".join(f'"{n}":0' for n in range(5000)) + "}"),
        '{"type":"connect","type":"connect"}',
        f'{{"type":"connect","data":{{}},"data":{{"server":"vault","password":"{MARK}"}}}}',
        '"' + "x" * (2 * MEGABYTE),
        b"\xff" * MEGABYTE,
        "\ufeff" + with_field("server", "null"),
        '{"type":"connect"}' * 1000,
        " " * MEGABYTE,
    ],
    ids=lambda frame: f"{frame[:30]!r}…{len(frame)}",
)
@pytest.mark.parametrize("text", [True, False])
async def test_too_much_of_something(ground: Ground, frame: str | bytes, text: bool) -> None:  # noqa: FBT001  drawn
    """Depth, length, size and number that no client would send."""
    await ground.attack(frame, text=text)


@pytest.mark.parametrize(
    "frame",
    [
        "nonsense",
        '{"type":"connect","data":{"server":"nowhere"}}',
        with_field("server", f'"vault","password":"{MARK}","discordToken":"{MARK}"'),
        '{"type":"get_user_data","serverId":"vault"}',
        '{"type":"get_user_data","serverId":"plaza"}',
        '{"type":"get_server_data"}',
        '{"type":"connect"}',
    ],
)
async def test_the_same_over_and_over(ground: Ground, frame: str) -> None:
    """A flood of one message, good or bad, ends at most the connection that it came from."""
    await ground.attack(*[frame] * 300)


# Below the messages

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@st.composite
def wire_frame(draw: st.DrawFn) -> bytes:
    """A WebSocket frame that a client may, or must not, send: any opcode and bits, masked with
    zeros or not at all, and a length that may be another."""
    opcode = draw(st.sampled_from([0, 1, 1, 2, 8, 9, 10]) | st.integers(0, 15))
    bits = draw(st.sampled_from([0x80, 0x80, 0x00]) | st.sampled_from([*range(0, 256, 16)]))
    payload = draw(st.binary(max_size=125))
    length = draw(st.just(len(payload)) | st.just(len(payload)) | st.integers(0, 127))
    masked = draw(st.sampled_from([True, True, True, False]))
    head = bytes([bits | opcode, length | (0x80 if masked else 0)])
    return head + (bytes(4) if masked else b"") + payload


async def throw(ground: Ground, octets: bytes) -> None:
    """Write these to the port, and leave; then look at everything."""
    tasks = asyncio.all_tasks()
    reader, writer = await asyncio.open_connection("localhost", ground.server.port)
    writer.write(octets)
    writer.write_eof()
    async with asyncio.timeout(60):
        await asyncio.gather(reader.read(), return_exceptions=True)
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    await ground.look(tasks)


@given(st.lists(wire_frame(), min_size=1, max_size=5))
@bounded(100)
async def test_broken_websocket_frames(ground: Ground, frames: list[bytes]) -> None:
    """Fragments without a beginning, reserved bits, unmasked frames, broken compression."""
    await throw(ground, HANDSHAKE + b"".join(frames))


@given(st.binary(max_size=300))
@bounded(50)
async def test_arbitrary_bytes_behind_the_handshake(ground: Ground, octets: bytes) -> None:
    """What is no WebSocket frame at all."""
    await throw(ground, HANDSHAKE + octets)


@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from(
            [
                *(b"GET ", b"POST ", b"/", b"/%00", b"//[", b" HTTP/1.1\r\n", b" HTTP/9\r\n"),
                *(b"Host: x\r\n", b"Upgrade: websocket\r\n", b"Upgrade:\r\n", b"Origin: \xff\r\n"),
                *(b"Connection: Upgrade\r\n", b"If-None-Match: *\r\n", b": x\r\n", b"\r\n"),
                *(b"Sec-WebSocket-Key: x\r\n", b"Content-Length: 5\r\n", b"\x00", b"\n"),
            ]
        ),
        max_size=12,
    ).map(b"".join)
)
@bounded(100)
async def test_broken_http(ground: Ground, octets: bytes) -> None:
    """What is no HTTP request, or half of one."""
    await throw(ground, octets)
