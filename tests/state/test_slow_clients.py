"""A client that does not keep up: what waits for it is bounded, the others wait for nothing, and
when it reads again it is brought up to date (R29)."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from peers import until
from sample_users import ADA, BOB, ONE

from d_back_core import Message, Status, User, UserChanged, UserRemoved
from d_back_core.client import ClientWorld, connect, decoded
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.wire.protocol import MessageFrame, PresenceFrame, Resumed
from d_back_testing import ManualClock, ScriptedProvider
from d_back_testing.manual_client import RECEIVE_TIMEOUT as TIMEOUT

LIMIT = 4096
TEXT = 0x81
PADDING = "x" * 2000


def serving(town: ScriptedProvider, clock: ManualClock | None = None) -> WebSocketServer:
    config = parse(
        {
            "chain": {"order": ["town"]},
            "gateway": {"host": "127.0.0.1"},
            "limits": {"write_buffer": LIMIT, "chat_per_minute": 1e9, "chat_burst": 10**6},
        }
    )
    return WebSocketServer(0, config=config, providers={"town": town}, clock=clock)


@pytest.fixture
def town() -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}})


class Sleeper:
    """A client that reads only on demand, over a socket with the smallest buffers."""

    def __init__(self, connection: socket.socket) -> None:
        self.world = ClientWorld()
        self.until_seq = 0
        self.held_up = False
        """Whether the server has stopped to read what it was flooded with."""
        self._socket = connection
        self._buffer = b""

    @property
    def done(self) -> bool:
        """Whether it has read all that it is to wait for."""
        return self.world.seq >= self.until_seq and not self._buffer

    async def shake_hands(self) -> None:
        """Read the answer to the handshake."""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += await asyncio.get_running_loop().sock_recv(self._socket, 1)
        self._buffer = b""

    async def receive(self) -> object:
        """The next text message, folded."""
        payload = await self.payload()
        frame = decoded(payload)
        if frame is not None:
            self.world.apply(frame)
        return frame

    async def send(self, payload: bytes) -> None:
        """A masked text message."""
        header = bytes((0x81, 0x80 | len(payload))) + bytes(4)
        await asyncio.get_running_loop().sock_sendall(self._socket, header + payload)

    async def flood(self, payload: bytes) -> None:
        """Send the same message and a ping again and again."""
        frames = b"".join(
            bytes((first, 0x80 | len(payload))) + bytes(4) + payload for first in (0x81, 0x89)
        )
        buffer = frames * 1000
        while True:
            try:
                sent = self._socket.send(buffer)
            except BlockingIOError:
                self.held_up = True
                return
            buffer = buffer[sent:] + frames * 1000
            await asyncio.sleep(0)

    async def payload(self) -> bytes:
        """The next text message, as it is."""
        first, length = await self._take(2)
        if first != TEXT:  # a close frame
            raise EOFError
        if length == 126:
            length = int.from_bytes(await self._take(2))
        elif length == 127:
            length = int.from_bytes(await self._take(8))
        return await self._take(length)

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            more = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
            if not more:
                raise EOFError
            self._buffer += more
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken


@asynccontextmanager
async def opened(server: WebSocketServer) -> AsyncIterator[Sleeper]:
    """Connected."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)  # noqa: FBT003  the library's signature
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", server.port))
        request = (
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await loop.sock_sendall(connection, request)
        client = Sleeper(connection)
        await client.shake_hands()
        yield client


@asynccontextmanager
async def sleeper(server: WebSocketServer) -> AsyncIterator[Sleeper]:
    """Joined, and asleep from here on."""
    async with opened(server) as client:
        await client.send(b'{"type":"connect"}')
        while not client.world.epoch:
            await client.receive()
        yield client


async def stall(server: WebSocketServer, town: ScriptedProvider) -> None:
    """Let so much happen that the one client that does not read falls behind."""
    number = 0
    while not any(session.paused for session in server.live.servers["1"].sessions):
        number += 1
        town.emit(UserChanged(server_id="1", uid="8", username=f"{number} {PADDING}"))
        await server.live.settle()


async def wake(client: Sleeper) -> list[object]:
    """Read up to the end of what was held: the frames from the first resync on."""
    frames: list[object] = []
    while not frames or not client.done:
        frame = await client.receive()
        fresh = isinstance(frame, PresenceFrame | MessageFrame) and frame.resync is True
        if frames or fresh or isinstance(frame, Resumed):
            frames.append(frame)
    return frames


async def read_all(client: Sleeper) -> None:
    while True:
        await client.receive()


async def test_r29_recovery_brings_the_newest_state_and_then_every_delta(
    town: ScriptedProvider,
) -> None:
    """Of a user who changed a hundred times, the last state comes, in full, marked as a resync;
    after it the sequence goes on without a gap."""
    async with (
        asyncio.timeout(TIMEOUT),
        serving(town) as server,
        sleeper(server) as client,
    ):
        await stall(server, town)
        statuses: tuple[Status, ...] = ("idle", "dnd")
        for number in range(100):
            town.emit(UserChanged(server_id="1", uid="7", status=statuses[number % 2]))
        town.emit(UserChanged(server_id="1", uid="7", username="Ada II"))
        await server.live.settle()
        world = server.live.servers["1"].world
        client.until_seq = world.seq
        frames = await wake(client)
        assert client.world.users == world.users
        about_ada = [f for f in frames if isinstance(f, PresenceFrame) and f.data.uid == "7"]
        assert len(about_ada) == 1
        town.emit(UserChanged(server_id="1", uid="7", status="online"))
        frame = await client.receive()
        assert isinstance(frame, PresenceFrame)
        assert frame.seq == world.seq


async def test_what_waits_is_bounded(town: ScriptedProvider) -> None:
    """Ten thousand changes more do not make the buffer of a stalled client grow."""
    clock = ManualClock()  # so that the deadline of the client does not end it meanwhile
    async with asyncio.timeout(TIMEOUT), serving(town, clock) as server, sleeper(server):
        await stall(server, town)
        [session] = server.connections
        before = session.transport.get_write_buffer_size()
        for number in range(10_000):
            town.emit(UserChanged(server_id="1", uid="8", username=f"{number} {PADDING}"))
        await server.live.settle()
        assert session.transport.get_write_buffer_size() <= before
        assert server.live.counters.conflated >= 10_000


@pytest.mark.parametrize(
    "question", [b'{"type":"connect"}', b'{"type":"get_server_data"}', b"nonsense"]
)
async def test_who_does_not_read_is_not_read_from(town: ScriptedProvider, question: bytes) -> None:
    """However much a client asks: it is not answered before it has read what was sent, and so
    nothing piles up, neither answers nor pongs."""
    async with (
        asyncio.timeout(TIMEOUT),
        serving(town) as server,
        sleeper(server) as client,
    ):
        await stall(server, town)
        [connection] = server.connections
        before, joins = connection.transport.get_write_buffer_size(), server.live.counters.joins
        flood = asyncio.create_task(client.flood(question))
        while not client.held_up:
            await server.live.settle()
        assert connection.transport.get_write_buffer_size() == before
        assert server.live.counters.joins == joins
        await flood


async def test_what_a_client_asked_before_it_fell_behind_waits_too(
    town: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library would begin to read again as soon as few enough messages are left."""
    async with (
        asyncio.timeout(TIMEOUT),
        serving(town) as server,
        sleeper(server) as client,
    ):
        [connection] = server.connections
        queue, answers = connection.recv_messages.frames, 0

        def answer(_: str | None) -> bytes:
            nonlocal answers
            answers += 1
            if len(queue) == connection.recv_messages.low + 1:
                connection.max_unsent = -1
                connection.pause_writing()
            return b"{}"

        monkeypatch.setattr(server.live.joins, "server_data", answer)
        for _ in range(connection.recv_messages.high + 2):
            await client.send(b'{"type":"get_server_data"}')
        await until(lambda: connection.paused)
        await server.live.settle()
        assert len(queue) == connection.recv_messages.low + 1
        assert not connection.transport.is_reading()


async def test_r29_what_waits_is_answered_when_the_client_reads_again(
    town: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three questions in a row, of which each answer is more than the kernel holds."""
    large = b'"%s"' % (b"x" * 8_000_000)
    async with (
        asyncio.timeout(TIMEOUT),
        serving(town) as server,
        sleeper(server) as client,
    ):
        [connection] = server.connections
        monkeypatch.setattr(server.live.joins, "server_data", lambda _: large)
        for _ in range(3):
            await client.send(b'{"type":"get_server_data"}')
        await until(lambda: connection.paused)
        for _ in range(3):
            assert await client.payload() == large


async def test_the_others_wait_for_nothing(town: ScriptedProvider) -> None:
    """A client that reads gets every delta while another one sleeps."""
    async with (
        asyncio.timeout(TIMEOUT),
        serving(town) as server,
        sleeper(server),
        connect(server.url, reconnect=False) as other,
    ):
        await stall(server, town)
        town.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await other.until(lambda world: world.users["7"].status == "dnd")


async def test_a_removal_that_was_held_is_a_delete(town: ScriptedProvider) -> None:
    """Who was there before and is gone is deleted; who came and went meanwhile is not spoken
    of."""
    async with (
        asyncio.timeout(TIMEOUT),
        serving(town) as server,
        sleeper(server) as client,
    ):
        await stall(server, town)
        town.emit(
            UserChanged(server_id="1", uid="9", username="Eve"),
            UserRemoved(server_id="1", uid="9"),
            UserRemoved(server_id="1", uid="7"),
        )
        await server.live.settle()
        client.until_seq = server.live.servers["1"].world.seq
        frames = await wake(client)
        uids = {frame.data.uid for frame in frames if isinstance(frame, PresenceFrame)}
        assert "9" not in uids
        assert "7" not in client.world.users


async def test_r29_where_nothing_of_interest_was_missed_the_number_is_told(
    town: ScriptedProvider,
) -> None:
    """A user came and went: an unasked `resumed` replaces both."""
    async with (
        asyncio.timeout(TIMEOUT),
        serving(town) as server,
        sleeper(server) as client,
    ):
        await stall(server, town)
        town.emit(
            UserChanged(server_id="1", uid="9", username="Eve"),
            UserRemoved(server_id="1", uid="9"),
        )
        await server.live.settle()
        client.until_seq = server.live.servers["1"].world.seq
        [frame] = await wake(client)
        assert isinstance(frame, Resumed)
        town.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await client.receive()
        assert client.world.users["7"].status == "dnd"


async def test_chat_that_was_held_is_the_latest(town: ScriptedProvider) -> None:
    """Of 200 messages the last 50 come."""
    async with (
        asyncio.timeout(TIMEOUT),
        serving(town) as server,
        sleeper(server) as client,
    ):
        await stall(server, town)
        for number in range(200):
            town.emit(Message(server_id="1", uid="7", message=str(number), channel="c"))
        await server.live.settle()
        client.until_seq = server.live.servers["1"].world.seq
        frames = await wake(client)
        said = [frame.data.message for frame in frames if isinstance(frame, MessageFrame)]
        assert said == [str(number) for number in range(150, 200)]


async def test_who_stays_behind_is_ended(
    town: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """After slow_client_timeout the connection is gone, and all that waited for it; the log says
    why."""
    caplog.set_level(logging.INFO, "d_back.session")
    clock = ManualClock()
    async with (
        asyncio.timeout(TIMEOUT),
        serving(town, clock) as server,
        sleeper(server) as client,
    ):
        await stall(server, town)
        await clock.advance(9)
        assert len(server.connections) == 1
        await clock.advance(2)
        with pytest.raises((EOFError, ConnectionError)):
            await read_all(client)
        assert server.live.counters.slow_clients == 1
        assert "reads too slowly, closing" in caplog.text


async def test_who_catches_up_in_time_is_not_ended(town: ScriptedProvider) -> None:
    """The time starts again with each stall."""
    clock = ManualClock()
    async with (
        asyncio.timeout(TIMEOUT),
        serving(town, clock) as server,
        sleeper(server) as client,
    ):
        await stall(server, town)
        await clock.advance(9)
        town.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await server.live.settle()
        client.until_seq = server.live.servers["1"].world.seq
        await wake(client)
        await clock.advance(9)
        assert len(server.connections) == 1


async def test_r29_a_large_snapshot_has_a_deadline_of_its_own(town: ScriptedProvider) -> None:
    """A client that takes longer over a snapshot than over deltas is not ended for it."""
    crowd = {str(n): User(username=f"{n} {PADDING}") for n in range(5000)}
    town.users_answers["1"] = crowd
    clock = ManualClock()
    async with asyncio.timeout(TIMEOUT), serving(town, clock) as server:
        async with sleeper_that_joins(server):
            while not any(each.paused for each in server.live.servers["1"].sessions):
                await server.live.settle()
            await clock.advance(30)
            assert len(server.connections) == 1
            await clock.advance(40)
            await server.live.settle()
        assert server.live.counters.slow_clients == 1


@asynccontextmanager
async def sleeper_that_joins(server: WebSocketServer) -> AsyncIterator[None]:
    """Asks to join, and does not read the answer."""
    async with opened(server) as client:
        await client.send(b'{"type":"connect"}')
        while "1" not in server.live.servers or not server.live.servers["1"].sessions:
            await server.live.settle()
        yield
