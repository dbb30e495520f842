"""Clients that ask for a large snapshot and do not read it: all share one copy (R29)."""

import asyncio
import contextlib
import fcntl
import os
import resource
import socket
import ssl
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from peers import until
from raw import REQUEST, Raw, raw
from sample_users import ONE

from d_back_core import User, UserChanged, UserRemoved
from d_back_core.client import ClientWorld, decoded
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.gateway.connection import CHUNK, Connection
from d_back_testing import ScriptedProvider
from d_back_testing.manual_client import RECEIVE_TIMEOUT

CLIENTS = 500
USERS = 40_000
"""A snapshot of 5 MB: more than the buffers of a socket."""
PONG, CLOSE = 0x8A, 0x88
CONNECT = b'{"type":"connect"}'


@pytest.fixture(scope="module")
def users() -> dict[str, User]:
    names = {str(n): f"{os.urandom(12).hex()} {n:040}" for n in range(USERS)}
    return {uid: User(username=name, status="idle") for uid, name in names.items()}


@pytest.fixture
def town(users: dict[str, User]) -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": users})


def serving(town: ScriptedProvider, limits: object = None, **gateway: object) -> WebSocketServer:
    tables = {"chain": {"order": ["town"]}, "gateway": {"host": "127.0.0.1", **gateway}}
    config = parse(tables | {"limits": limits or {}})
    return WebSocketServer(0, config=config, providers={"town": town})


def resident() -> int:
    """The bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Each client has two: its own, and that of the server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CLIENTS + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def silent(server: WebSocketServer) -> Iterator[socket.socket]:
    """A client that joins, and reads nothing, not even the answer to its handshake."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        join = bytes((0x81, 0x80 | len(CONNECT))) + bytes(4) + CONNECT
        client.sendall(REQUEST + b"\r\n" + join)
        yield client


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("many_descriptors")
async def test_r29_clients_that_do_not_read_share_one_snapshot(town: ScriptedProvider) -> None:
    """Memory grows by less than a fiftieth of what is unsent."""
    limits = {"connections_per_address": CLIENTS + 1}
    async with asyncio.timeout(RECEIVE_TIMEOUT), serving(town, limits) as server:
        with contextlib.ExitStack() as clients:
            clients.enter_context(silent(server))  # the snapshot is made for this one
            await until(lambda: server.live.counters.joins == 1)
            [cached] = [await each.snapshot.ready() for each in server.live.servers.values()]
            size = len(cached.users.plain)
            before = resident()
            for number in range(CLIENTS):
                clients.enter_context(silent(server))
                await until(lambda: server.live.counters.joins == number + 2)  # noqa: B023
            sessions = server.live.servers["1"].sessions
            await until(lambda: all(each.paused for each in sessions))
            grown, unsent = resident() - before, CLIENTS * size
            assert grown < unsent / 50, f"{grown:,} of {unsent:,} bytes"


@pytest.mark.skipif(sys.platform != "linux", reason="others count this in another way")
async def test_r29_the_kernel_keeps_little_of_a_snapshot(town: ScriptedProvider) -> None:
    """It would buffer some three megabytes for a client that does not read."""
    async with (
        asyncio.timeout(RECEIVE_TIMEOUT),
        serving(town) as server,
        joining(server) as (_, _, connection),
    ):
        assert connection.paused
        there = connection.transport.get_extra_info("socket")
        queued = fcntl.ioctl(there.fileno(), termios.TIOCOUTQ, bytes(4))
        assert 0 < int.from_bytes(queued, sys.byteorder) < 1_000_000


class Reader:
    """Reads the frames that a client has not read yet, and keeps the world of the server."""

    def __init__(self, client: Raw) -> None:
        self.world = ClientWorld()
        self.opcodes: list[int] = []
        self._client = client

    async def until(self, seq: int) -> None:
        """Read on until the world has this number."""
        while self.world.seq < seq or not self.world.users:
            await self.one()

    async def one(self) -> None:
        frame = await self._client.frame()
        self.opcodes.append(frame[0])
        payload = frame[2 if frame[1] < 126 else 4 if frame[1] == 126 else 10 :]
        message = decoded(payload) if frame[0] == 0x81 else None
        if message is not None:
            self.world.apply(message)


@asynccontextmanager
async def joining(
    server: WebSocketServer, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Raw, Reader, Connection]]:
    """A client that has asked to join, and to which a part of the snapshot has been written."""
    async with raw(server, tls=tls) as client:
        client.say(1, CONNECT)
        await until(lambda: server.live.counters.joins == 1)
        [connection] = server.connections
        assert isinstance(connection, Connection)
        yield client, Reader(client), connection


@pytest.mark.parametrize("write_buffer", [65_536, 2**30], ids=["paused", "not paused"])
async def test_r29_deltas_come_after_a_snapshot_that_is_still_being_written(
    town: ScriptedProvider, write_buffer: int
) -> None:
    """A client that reads later ends with the world as it is, whether the deltas were held back
    or queued."""
    limits = {"write_buffer": write_buffer}
    async with (
        asyncio.timeout(RECEIVE_TIMEOUT),
        serving(town, limits) as server,
        joining(server) as (_, reader, connection),
    ):
        assert connection.paused is (write_buffer < 2**30)
        for number in range(100):
            name = f"changed {number}"
            town.emit(
                UserChanged(server_id="1", uid=str(number), username=name),
                UserRemoved(server_id="1", uid=str(1000 + number)),
            )
            await server.live.settle()
        assert connection.descriptor is None
        world = server.live.servers["1"].world
        await reader.until(world.seq)
        assert reader.world.users == world.users
        town.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await reader.until(world.seq + 1)
        await until(lambda: connection.descriptor is not None)


async def test_r28_no_frame_of_the_library_comes_into_a_snapshot(town: ScriptedProvider) -> None:
    """The answers to a ping and to a close frame wait until the snapshot is written."""
    async with (
        asyncio.timeout(RECEIVE_TIMEOUT),
        serving(town, {"write_buffer": 2**30}) as server,
        joining(server) as (client, reader, connection),
    ):
        client.say(9, b"")
        client.say(8, b"\x03\xe8")
        await until(lambda: connection.state.name != "OPEN")
        town.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await server.live.settle()
        while CLOSE not in reader.opcodes:
            await reader.one()
        assert reader.opcodes[-3:] == [0x81, PONG, CLOSE]
        assert len(reader.world.users) == USERS
        assert reader.world.users["7"].status == "idle"


async def test_r29_a_lost_client_releases_its_snapshot(town: ScriptedProvider) -> None:
    """Nothing of it stays queued."""
    async with asyncio.timeout(RECEIVE_TIMEOUT), serving(town) as server:
        async with joining(server) as (client, _, connection):
            assert connection.transport.get_write_buffer_size() <= CHUNK
            client.writer.transport.abort()
        await until(lambda: not server.connections)
        assert connection._queue is None  # noqa: SLF001  it has no other sign


async def test_r29_a_snapshot_over_tls_arrives_in_pieces(
    town: ScriptedProvider, tmp_path: Path
) -> None:
    """An encrypted transport is passed the next piece when it has sent the last one."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    tls = {"cert": str(tmp_path / "cert"), "key": str(tmp_path / "key")}
    async with (
        asyncio.timeout(RECEIVE_TIMEOUT),
        serving(town, tls=tls) as server,
        joining(server, trusting) as (_, reader, connection),
    ):
        assert connection.transport.get_write_buffer_size() < 4 * CHUNK
        town.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await server.live.settle()
        world = server.live.servers["1"].world
        await reader.until(world.seq)
        assert reader.world.users == world.users
