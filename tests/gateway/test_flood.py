"""What hostile clients do, bounded in count and time: afterwards all is as it was, and a client
that behaved missed nothing."""

import asyncio
import gc
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from sample_users import ADA, ONE

from d_back_core import Status, UserChanged
from d_back_core.client import connect
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_testing import ScriptedProvider, open_sockets

PATIENCE = 240.0
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
STATUSES: tuple[Status, ...] = ("online", "idle", "dnd", "offline")
TOLERATED_GROWTH = 16 * 2**20
"""Bytes by which an allocator may hold more than before."""

Attack = Callable[[WebSocketServer], Awaitable[None]]
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def resident() -> int:
    """The memory of this process, in bytes."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123  no path, a counter
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def raw(server: WebSocketServer) -> AsyncIterator[Ends]:
    """A TCP connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@asynccontextmanager
async def upgraded(server: WebSocketServer) -> AsyncIterator[Ends]:
    """A WebSocket connection, to be abused byte by byte."""
    async with raw(server) as (reader, writer):
        writer.write(REQUEST)
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    first = opcode | (0x80 if final else 0)
    if len(payload) < 126:
        return struct.pack("!BB4x", first, 0x80 | len(payload)) + payload
    if len(payload) < 2**16:
        return struct.pack("!BBH4x", first, 0x80 | 126, len(payload)) + payload
    return struct.pack("!BBQ4x", first, 0x80 | 127, len(payload)) + payload


async def until_ended(reader: asyncio.StreamReader) -> bytes:
    """All that the server says before it ends the connection."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def half_open(server: WebSocketServer) -> None:
    """200 connections that never say anything, until they are closed from here."""
    async with asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(_say(server, b""))


async def slow_loris(server: WebSocketServer) -> None:
    """100 connections with a request that does not end."""
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(_say(server, REQUEST[:-2] + b"X-More: " + b"a" * 500))


async def _say(server: WebSocketServer, said: bytes) -> None:
    async with raw(server) as (_, writer):
        writer.write(said)
        await writer.drain()


async def endless_headers(server: WebSocketServer) -> None:
    """A request of 1 MiB of headers is refused."""
    async with raw(server) as (reader, writer):
        writer.write(REQUEST[:-2] + b"".join(b"X-%d: a\r\n" % n for n in range(100_000)))
        answer = await until_ended(reader)
        assert b"101 Switching" not in answer


async def giant_frames(server: WebSocketServer) -> None:
    """20 messages that are too large, each the end of its connection."""
    for _ in range(20):
        async with upgraded(server) as (reader, writer):
            writer.write(frame(1, b"x" * 200_000))
            await until_ended(reader)


async def announced_giant(server: WebSocketServer) -> None:
    """A frame whose header announces 2**62 bytes."""
    async with upgraded(server) as (reader, writer):
        writer.write(struct.pack("!BBQ4x", 0x81, 0x80 | 127, 2**62))
        await until_ended(reader)


async def fragments(server: WebSocketServer) -> None:
    """50,000 fragments of one message that never ends."""
    async with upgraded(server) as (reader, writer):
        writer.write(frame(1, b"x", final=False))
        try:
            for _ in range(500):
                writer.write(frame(0, b"x", final=False) * 100)
                await writer.drain()
        except ConnectionError:
            return
        writer.write_eof()
        await until_ended(reader)


async def pings(server: WebSocketServer) -> None:
    """50,000 pings, whose pongs are not read until all are sent."""
    async with upgraded(server) as (reader, writer):
        try:
            async with asyncio.timeout(5):
                for _ in range(500):
                    writer.write(frame(9, b"ping") * 100)
                    await writer.drain()
        except (ConnectionError, TimeoutError):
            return
        writer.write_eof()
        await until_ended(reader)


async def comings_and_goings(server: WebSocketServer) -> None:
    """10,000 connections, 100 at a time."""

    async def come_and_go() -> None:
        for _ in range(100):
            async with upgraded(server):
                pass

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(come_and_go())


async def join_storm(server: WebSocketServer) -> None:
    """50 clients that ask to join 100 times each, as fast as they can."""

    async def storm() -> None:
        async with upgraded(server) as (reader, writer):
            writer.write(frame(1, b'{"type":"connect"}') * 100)
            await writer.drain()
            await until_ended(reader)

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(storm())


@asynccontextmanager
async def bystander(
    server: WebSocketServer, town: ScriptedProvider
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A client that behaves; the yielded check is that it has missed nothing."""
    async with connect(server.url, reconnect=False) as world:
        stop = asyncio.Event()
        expected: list[Status] = []

        async def change() -> None:
            while not stop.is_set():
                status = STATUSES[(len(expected) + 1) % len(STATUSES)]
                town.emit(UserChanged(server_id="1", uid="7", status=status))
                expected.append(status)
                await world.until(lambda world: world.seq >= len(expected))

        changing = asyncio.create_task(change())

        async def check() -> None:
            stop.set()
            await changing
            assert world.seq == len(expected)
            assert world.users["7"].status == expected[-1]
            assert world.close_code is None

        yield check


@pytest.mark.long
@pytest.mark.parametrize(
    "attack",
    [
        half_open,
        slow_loris,
        endless_headers,
        giant_frames,
        announced_giant,
        fragments,
        pings,
        comings_and_goings,
        join_storm,
    ],
)
async def test_a_flood_leaves_nothing_behind(
    attack: Attack, caplog: pytest.LogCaptureFixture
) -> None:
    """Tasks, sockets and memory are back where they were; the bystander missed nothing."""
    town = ScriptedProvider(ONE, {"1": {"7": ADA}})
    config = parse({"chain": {"order": ["town"]}, "gateway": {"host": "127.0.0.1"}})
    async with (
        asyncio.timeout(PATIENCE),
        WebSocketServer(0, config=config, providers={"town": town}) as server,
        bystander(server, town) as missed_nothing,
    ):
        sockets, tasks = open_sockets(), asyncio.all_tasks()
        if attack is not comings_and_goings:  # what is made once is there before it is measured
            await attack(server)
            await until_as_before(sockets, tasks)
        memory = resident()
        await attack(server)
        await until_as_before(sockets, tasks)
        await missed_nothing()
        gc.collect()
        assert resident() - memory < TOLERATED_GROWTH
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def until_as_before(sockets: int, tasks: set[asyncio.Task[None]]) -> None:
    """Return when there are no more sockets than these, and no other tasks."""
    while open_sockets() > sockets or asyncio.all_tasks() - tasks:  # noqa: ASYNC110  as it says
        await asyncio.sleep(0)
