"""What is written to the sockets directly is what the library would have written, and goes only
where and as long as it may (R28)."""

import asyncio
import json
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import trustme
from peers import until
from raw import OFFER, REQUEST, Raw, raw
from sample_users import ADA, ONE
from websockets.asyncio.client import connect
from websockets.asyncio.server import broadcast

from d_back_core import Server, Status, UserChanged
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.gateway.connection import Connection
from d_back_testing import ScriptedProvider

PATIENCE = 60.0
CLOSE = 8


@asynccontextmanager
async def in_step(
    server: WebSocketServer, town: ScriptedProvider
) -> AsyncIterator[tuple[Raw, Any]]:
    """A client that has joined and is written to directly, and the server's end of it."""
    async with raw(server) as client:
        client.say(1, b'{"type":"connect"}')
        await client.frame()
        await client.frame()
        change(town, "dnd")  # the first delta still goes the plain way
        await client.frame()
        [subscription] = server.live.servers["1"].sessions.values()
        [connection] = server.connections
        assert subscription.descriptor == connection.transport.get_extra_info("socket").fileno()
        yield client, connection


def serving(town: ScriptedProvider, **gateway: object) -> WebSocketServer:
    table = {"chain": {"order": ["town"]}, "gateway": {"host": "127.0.0.1", **gateway}}
    return WebSocketServer(0, config=parse(table), providers={"town": town})


def change(town: ScriptedProvider, status: Status) -> None:
    town.emit(UserChanged(server_id="1", uid="7", status=status))


@pytest.fixture
def town() -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": {"7": ADA}})


async def test_r28_clients_get_the_bytes_that_the_library_would_send(
    town: ScriptedProvider,
) -> None:
    """A delta arrives as the library's ``send`` and its ``broadcast`` would frame it."""
    async with (
        asyncio.timeout(PATIENCE),
        serving(town) as server,
        in_step(server, town) as (client, connection),
    ):
        change(town, "online")
        frame = await client.frame()
        assert frame[2:].startswith(b'{"type":"presence"')
        text = frame[2:].decode()
        await connection.send(text)
        assert await client.frame() == frame
        broadcast([connection], text)
        assert await client.frame() == frame


async def test_the_headers_of_a_request_are_not_kept(town: ScriptedProvider) -> None:
    """Those of a browser are larger than everything else that an idle client needs."""
    async with (
        asyncio.timeout(PATIENCE),
        serving(town) as server,
        in_step(server, town) as (_, connection),
    ):
        assert len(connection.request.headers) == 0
        assert connection.response is None


@pytest.mark.parametrize("first", ["server", "client", "both"])
async def test_r28_nothing_follows_a_close_frame(town: ScriptedProvider, first: str) -> None:
    """Whichever side closes first, what happens meanwhile is not sent any more."""
    async with (
        asyncio.timeout(PATIENCE),
        serving(town) as server,
        in_step(server, town) as (client, connection),
    ):
        closing = None
        if first != "client":
            closing = asyncio.create_task(connection.close(1001))
            await until(lambda: connection.state.name == "CLOSING")
        if first != "server":
            client.say(CLOSE, b"\x03\xe8")
            await until(lambda: connection.state.name != "OPEN")
        for status in ("idle", "online", "idle"):
            change(town, status)
            await server.live.settle()
        if first == "server":
            client.say(CLOSE, b"\x03\xe9")
        assert await client.rest() == [CLOSE]
        if closing is not None:
            await closing


async def test_a_lost_connection_gives_its_descriptor_up_while_it_is_its_own(
    town: ScriptedProvider,
) -> None:
    """Another connection can get the number only after that: no client gets another's frames."""
    async with (
        asyncio.timeout(PATIENCE),
        serving(town) as server,
        in_step(server, town) as (client, connection),
    ):
        session = connection.observer
        number = connection.descriptor
        own = os.fstat(number).st_ino
        seen: list[int] = []

        class WriteObserver:
            def stop_direct_writes(self) -> None:
                seen.append(os.fstat(number).st_ino)
                session.stop_direct_writes()

            def fall_behind(self) -> None:
                session.fall_behind()

            def recover(self) -> None:
                session.recover()

        connection.observer = WriteObserver()
        reset_at_once = struct.pack("ii", 1, 0)
        peer = client.writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_at_once)
        client.writer.transport.abort()
        await until(lambda: seen)
        assert seen[0] == own
        assert connection.descriptor is None
        await until(lambda: not server.connections)


async def test_an_aborted_connection_is_written_to_no_more(town: ScriptedProvider) -> None:
    """From the call on, and not only from the end of the connection."""
    async with (
        asyncio.timeout(PATIENCE),
        serving(town) as server,
        in_step(server, town) as (_, connection),
    ):
        connection.abort()
        assert connection.descriptor is None
        assert [each.descriptor for each in server.live.servers["1"].sessions.values()] == [None]


async def test_many_pings_are_answered_in_one_write(
    town: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write for each pong would be a line of asyncio's log for each, if the client resets."""
    writes: list[bytes] = []
    async with (
        asyncio.timeout(PATIENCE),
        serving(town) as server,
        in_step(server, town) as (client, connection),
    ):
        write = connection.transport.write

        def counted(octets: bytes) -> None:
            writes.append(octets)
            write(octets)

        monkeypatch.setattr(connection.transport, "write", counted)
        client.writer.write((bytes((0x89, 0x84)) + bytes(4) + b"ping") * 300)
        for _ in range(300):
            assert await client.frame() == b"\x8a\x04ping"
    assert len(writes) < 10


@pytest.mark.parametrize("first", [b"\x89\x80", b"\x8a\x80", b"\x00\x80"], ids=lambda b: b.hex())
async def test_too_many_small_frames_close_with_1008(town: ScriptedProvider, first: bytes) -> None:
    """Each frame costs as much as a message; pings, pongs and empty fragments have no other
    limit."""
    async with asyncio.timeout(PATIENCE), serving(town) as server, raw(server) as client:
        await client.frame()
        client.writer.write(b"\x01\x80" + bytes(4) if first == b"\x00\x80" else b"")
        client.writer.write((first + bytes(4)) * 5000)
        assert await client.closing() == b"\x03\xf0too many frames"
        client.writer.write((first + bytes(4)) * 5000)
        for session in server._run.gateway.sessions:  # noqa: SLF001  no public name
            session.ping()
            session.ping()
        await until(lambda: not server.connections)


async def test_a_client_may_send_many_frames_over_time(town: ScriptedProvider) -> None:
    """They count until the keepalive pings it again."""
    async with (
        asyncio.timeout(PATIENCE),
        serving(town) as server,
        in_step(server, town) as (client, connection),
    ):
        for _ in range(3):
            for session in server._run.gateway.sessions:  # noqa: SLF001  no public name
                session.ping()
            client.writer.write((b"\x89\x80" + bytes(4)) * 300)
            for _ in range(301):
                assert await client.frame() in {b"\x89\0", b"\x8a\0"}
        assert connection.frames == 300


class Encrypted(NamedTuple):
    """What a gateway with TLS is configured with, and who trusts it."""

    tls: dict[str, str]
    trusting: ssl.SSLContext


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Encrypted:
    authority, folder = trustme.CA(), tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert")
    issued.private_key_pem.write_to_path(folder / "key")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    return Encrypted({"cert": str(folder / "cert"), "key": str(folder / "key")}, trusting)


async def test_over_tls_nothing_is_written_past_the_encryption(
    town: ScriptedProvider, encrypted: Encrypted
) -> None:
    """Deltas arrive there too, on the plain path."""
    async with (
        asyncio.timeout(PATIENCE),
        serving(town, tls=encrypted.tls) as server,
        raw(server, tls=encrypted.trusting) as client,
    ):
        client.say(1, b'{"type":"connect"}')
        await client.frame()
        await client.frame()
        statuses: list[Status] = ["dnd", "idle", "online"]
        for status in statuses:
            change(town, status)
            assert b'"status":"%s"' % status.encode() in await client.frame()
        [connection] = server.connections
        assert isinstance(connection, Connection)
        assert connection.descriptor is None


async def test_r29_over_tls_what_waits_is_bounded_too(
    town: ScriptedProvider, encrypted: Encrypted
) -> None:
    """A client that does not read is held up, and brought up to date when it does."""
    async with (
        asyncio.timeout(PATIENCE),
        serving(town, tls=encrypted.tls) as server,
        raw(server, tls=encrypted.trusting) as client,
    ):
        client.say(1, b'{"type":"connect"}')
        await client.frame()
        [connection] = server.connections
        number = 0
        while not server.live.counters.conflated:
            number += 1
            name = f"{number} " + 5000 * "x"
            town.emit(UserChanged(server_id="1", uid="7", username=name))
            await server.live.settle()
            assert connection.transport.get_write_buffer_size() < 80_000
        frame = b""
        while b'"resync":true' not in frame:
            frame = await client.frame()
        assert f'"username":"{number} '.encode() in frame
        change(town, "dnd")
        assert b'"status":"dnd"' in await client.frame()


async def test_over_tls_the_end_is_not_a_cut_connection(
    town: ScriptedProvider, encrypted: Encrypted
) -> None:
    """After the close frames the gateway ends TLS, too, and does not wait for its time limit."""

    def close(port: int) -> None:
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
            encrypted.trusting.wrap_socket(
                plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            ) as client,
        ):
            client.sendall(REQUEST + b"\r\n" + b"\x88\x82" + bytes(4) + b"\x03\xe8")
            while client.recv(65_536):  # raises SSLEOFError if the connection is cut
                pass

    async with serving(town, tls=encrypted.tls) as server:
        await asyncio.to_thread(close, server.port)


@pytest.mark.parametrize(("offer", "first"), [(OFFER, 0xC1), (b"", 0x81)])
async def test_a_long_list_of_servers_is_compressed_once(offer: bytes, first: int) -> None:
    """For clients that take it; the others get the same list as it is."""
    servers: Mapping[str, Server] = {str(n): Server(name=f"Server {n}") for n in range(1, 300)}
    town = ScriptedProvider(servers, {})
    async with asyncio.timeout(PATIENCE), serving(town) as server:
        async with raw(server, offer=offer) as client, raw(server, offer=offer) as other:
            frame = await client.frame()
            assert frame[0] == first
            assert await other.frame() == frame
        async with connect(server.url) as client_of_the_library:
            greeting = json.loads(await client_of_the_library.recv())
        assert greeting["data"].keys() == servers.keys()
