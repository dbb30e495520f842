"""The hostile clients of the long run: ``python -m hostile.attacks GROUP PORT``.

Each attack is one connection, or a few, which a group repeats many times at once. Clients from
many addresses come through the proxy that 127.0.0.1 is: each sends ``X-Forwarded-For``. The
process is nice: what the attackers cost themselves is not the gateway's.
"""

import asyncio
import os
import random
import socket
import ssl
import struct
import sys
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from raw import OFFER, REQUEST

from hostile.town import LARGE, PROTECTED

NICENESS = 15
LONGEST = 120.0
"""Seconds after which an attack is over."""
STEP = 1.0
"""Seconds between two pieces of a slow client."""
HELLO = bytes.fromhex("16030100a5010000a10303") + bytes(32) + b"\x20" + bytes(120)
"""The beginning of a TLS handshake."""

dice = random.Random()  # noqa: S311  these numbers are no secrets

Attack = Callable[[], Awaitable[None]]


class Client:
    """The client's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def send(self, octets: bytes) -> None:
        self._writer.write(octets)
        await self._writer.drain()

    async def rest(self) -> None:
        """Read and forget everything that comes."""
        while await self.reader.read(65_536):
            pass

    def reset(self) -> None:
        """End the connection without a goodbye."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def read_nothing(self) -> None:
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]


class Target:
    """The gateway."""

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self._port = port
        self._tls = tls

    @asynccontextmanager
    async def tcp(self, *, buffer: int = 0, tls: bool = True) -> AsyncIterator[Client]:
        """A connection, from any address of the loopback network; with little room for what
        it receives if ``buffer`` says so. ``tls=False``: in plain text, whatever is expected."""
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.bind((f"127.0.0.{dice.randrange(1, 250)}", 0))
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
        except BaseException:
            sock.close()
            raise
        context, name = (self._tls, "localhost") if tls and self._tls else (None, None)
        reader, writer = await asyncio.open_connection(
            sock=sock, limit=4096, ssl=context, server_hostname=name
        )
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()

    @asynccontextmanager
    async def websocket(self, *, buffer: int = 0, offer: bytes = b"") -> AsyncIterator[Client]:
        async with self.tcp(buffer=buffer) as client:
            await client.send(REQUEST + forwarded() + offer + b"\r\n")
            if b" 101 " in await client.reader.readuntil(b"\r\n\r\n"):
                yield client
            else:
                raise ConnectionRefusedError


def forwarded() -> bytes:
    """A header that names one of 1,000 addresses."""
    number = dice.randrange(1000)
    return b"X-Forwarded-For: 198.51.%d.%d\r\n" % (number // 250, number % 250)


def request(path: str, *headers: bytes, method: str = "GET") -> bytes:
    more = b"".join(header + b"\r\n" for header in headers)
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n".encode() + forwarded() + more + b"\r\n"


def frame(first: int, payload: bytes, announced: int | None = None) -> bytes:
    """A client's frame, masked with zeros, which may announce more than there is."""
    size = len(payload) if announced is None else announced
    return struct.pack("!BBQ4x", first, 0xFF, size) + payload


def connecting(server: str, **credentials: str) -> bytes:
    more = "".join(f',"{key}":"{value}"' for key, value in credentials.items())
    return frame(0x81, f'{{"type":"connect","data":{{"server":"{server}"{more}}}}}'.encode())


# Slow clients


async def slow(target: Target, start: bytes, piece: bytes) -> None:
    """Some bytes, and then further ones without an end."""
    async with target.tcp() as client:
        resting = asyncio.create_task(client.rest())
        await client.send(start)
        while piece and not resting.done():
            await client.send(piece)
            await asyncio.sleep(STEP)
        await resting


async def slow_reader(target: Target) -> None:
    """An answer of 5 MB, of which nothing is read."""
    async with target.tcp(buffer=4096) as client:
        client.read_nothing()
        await client.send(request(f"/api/servers/{LARGE}"))
        await asyncio.sleep(30)


async def unread_snapshot(target: Target) -> None:
    """A snapshot of 5 MB, of which nothing is read."""
    async with target.websocket(buffer=4096) as client:
        client.read_nothing()
        await client.send(connecting(LARGE))
        await asyncio.sleep(LONGEST)


# Many connections


async def come_and_go(target: Target) -> None:
    """Connections that end at once, each in another way."""
    async with target.tcp():
        pass
    async with target.tcp() as client:
        client.reset()
    async with target.tcp() as client:
        await client.send(REQUEST[: dice.randrange(len(REQUEST))])  # half of a handshake
        client.reset()
    async with target.websocket():
        pass
    async with target.websocket() as client:
        await client.send(connecting(dice.choice(["default", LARGE])))
        client.reset()


async def crowd(target: Target) -> None:
    """More silent connections than there is room for."""
    held = []
    try:
        for _ in range(60):
            context = target.tcp()
            await context.__aenter__()
            held.append(context)
            await asyncio.sleep(0.01)
        await asyncio.sleep(dice.uniform(1, 15))
    finally:
        for context in held:
            await context.__aexit__(None, None, None)


# Requests


async def flood(target: Target) -> None:
    """Requests of one address, as fast as they are answered, and left before the last answer."""
    path = dice.choice(["/", "/api/servers", f"/api/servers/{LARGE}", "/api/health", "/none"])
    asked = request(path, dice.choice([b"Accept-Encoding: gzip", b"X: y", b"Range: bytes=1-"]))
    async with target.tcp() as client:
        for _ in range(dice.randrange(200)):
            await client.send(asked)
            await client.reader.read(4096)


async def leave_at_once(target: Target) -> None:
    """Requests for long lists, of which no answer is awaited."""
    for _ in range(20):
        async with target.tcp() as client:
            await client.send(request(f"/api/servers/{LARGE}"))


async def pipeline(target: Target) -> None:
    """Hundreds of requests at once."""
    async with target.tcp() as client:
        await client.send(request("/api/servers") * 300)
        await client.rest()


async def wrong_request(target: Target) -> None:
    """Something that is not served."""
    wrong = dice.choice(
        [
            request("/" + "x" * 10_000),
            request("/", *(b"X-%d: %s" % (n, b"y" * 100) for n in range(1000))),
            request("/", *([b"a:"] * 60_000)),
            request("/", method="BREW"),
            request("/", method="POST") + b"x=1",
            request("/", b"Transfer-Encoding: chunked", method="POST") + b"zz\r\n",
            request("/", b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
            request("http://[::1", b"Connection: close"),
            request("/%00%ff/../..//", b"Connection: close"),
            b"\x00\xff" * 1000,
            os.urandom(2000),
            HELLO,
        ]
    )
    async with target.tcp() as client:
        await client.send(wrong)
        await client.rest()


async def large_body(target: Target) -> None:
    """A body that is too large, announced, or in chunks without an end."""
    path = dice.choice(["/echo", "/healthz"])
    size, piece = dice.choice(
        [
            (b"Content-Length: 9999999999", bytes(16_384)),
            (b"Transfer-Encoding: chunked", b"4000\r\n" + bytes(0x4000) + b"\r\n"),
            (b"Transfer-Encoding: chunked", b"1\r\nx\r\n" * 3000),
        ]
    )
    async with target.tcp() as client:
        await client.send(request(path, size, method="POST"))
        for _ in range(100):
            await client.send(piece)
        await client.rest()


# Upgrades, frames, and messages


async def wrong_upgrade(target: Target) -> None:
    """A handshake that cannot succeed."""
    wrong = dice.choice(
        [
            REQUEST.replace(b"Version: 13", b"Version: 7"),
            REQUEST.replace(b"Key: A", b"Key: A\xff"),
            REQUEST.replace(b"Connection: Upgrade\r\n", b""),
            REQUEST.replace(b"GET", b"POST") + b"Content-Length: 10\r\n",
            REQUEST + b"Origin: https://elsewhere.example\r\n",
            REQUEST + b"Sec-WebSocket-Extensions: permessage-deflate; x=\r\n",
            REQUEST.replace(b"websocket", b"h2c"),
        ]
    )
    async with target.tcp() as client:
        await client.send(wrong + forwarded() + b"\r\n")
        await client.rest()


async def wrong_frame(target: Target) -> None:
    """Something that is not a frame, or not one of a client."""
    bomb = zlib.compressobj(wbits=-15)
    packed = bomb.compress(bytes(10**7)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    wrong = dice.choice(
        [
            frame(0x81, b'{"type":"\xff\xfe"}'),
            frame(0x81, b"x", announced=2**62),
            frame(0x81, b"x" * 200_000),
            frame(0x01, b"x") + frame(0x00, b"x") * 20_000,
            frame(0x89, b"ping") * 20_000,
            b"\x89\x80\0\0\0\0" * 40_000,  # pings of six bytes
            b"\x01\x80\0\0\0\0" + b"\0\x80\0\0\0\0" * 40_000,  # empty fragments
            frame(0xF1, b"x"),
            frame(0xC1, packed.removesuffix(b"\0\0\xff\xff")),
            frame(0x88, b"\x03"),
            b"\x81\x02hi",  # not masked
            os.urandom(5000),
        ]
    )
    async with target.websocket(offer=dice.choice([b"", OFFER])) as client:
        await client.send(wrong)
        await client.rest()


async def many_messages(target: Target) -> None:
    """Joins and questions, as fast as they can be sent."""
    asked = dice.choice(
        [
            connecting(LARGE),
            connecting("default") + connecting("none"),
            frame(0x81, b'{"type":"get_user_data","data":{"server":"2"}}'),
            frame(0x81, b'{"type":"get_server_data"}'),
            frame(0x81, b'{"type":"nonsense"}'),
            frame(0x81, b"[" * 5000),
        ]
    )
    async with target.websocket() as client:
        await client.send(asked * 200)
        await client.rest()


async def guess(target: Target) -> None:
    """Wrong passwords for the protected server."""
    if dice.random() < 0.5:
        async with target.websocket() as client:
            for number in range(10):
                await client.send(connecting(PROTECTED, password=f"wrong {number}"))
            async with asyncio.timeout(10):
                await client.rest()
    else:
        password = b64encode(b"x:%d" % dice.randrange(1000))
        async with target.tcp() as client:
            asked = request(f"/api/servers/{PROTECTED}", b"Authorization: Basic " + password)
            await client.send(asked * 3)
            await client.reader.read(4096)


async def wrong_tls(target: Target) -> None:
    """TLS that is none, or that stops within the handshake."""
    async with target.tcp(tls=False) as client:
        await client.send(dice.choice([HELLO, HELLO[:20], os.urandom(500), b"GET / HTTP/1.1"]))
        await client.rest()


BODY = request("/echo", b"Content-Length: 60000", method="POST")
UNREAD = request("/healthz", b"Content-Length: 60000", method="POST")
SLOWNESS = [
    (b"", b""),
    (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
    (REQUEST, b"X: y\r\n"),
    (BODY, b"x"),
    (UNREAD, b"x"),
    (request("/healthz"), b"\r\n"),
]


def group(name: str, target: Target) -> list[tuple[int, float, Attack]]:
    """How often each attack of a group runs at once, the mean pause before it is repeated, and
    the attack."""

    def of(
        count: int, pause: float, attack: Callable[[Target], Awaitable[None]]
    ) -> tuple[int, float, Attack]:
        return count, pause, lambda: attack(target)

    def slowly(start: bytes, piece: bytes) -> Attack:
        return lambda: slow(target, start, piece)

    groups = {
        "slow": [(15, 1.0, slowly(*each)) for each in SLOWNESS] + [of(15, 1, slow_reader)],
        "unread": [of(40, 1, unread_snapshot)],
        "connections": [of(10, 0.5, come_and_go), of(10, 20, crowd)],
        "requests": [
            *(of(3, 1, flood), of(2, 2, leave_at_once), of(2, 2, pipeline)),
            *(of(4, 1, wrong_request), of(2, 2, large_body)),
        ],
        "frames": [of(4, 1, wrong_upgrade), of(5, 1, wrong_frame), of(4, 2, many_messages)],
        "guesses": [of(3, 2, guess), of(5, 1, wrong_tls)],
    }
    return groups[name]


GROUPS = ("slow", "unread", "connections", "requests", "frames", "guesses")


async def repeat(pause: float, attack: Attack) -> None:
    while True:
        await asyncio.sleep(dice.uniform(0, 2 * pause))
        try:
            async with asyncio.timeout(LONGEST):
                await attack()
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            pass  # the gateway has had enough of it


async def main(name: str, port: int, authority: str = "") -> None:
    tls = ssl.create_default_context(cafile=authority) if authority else None
    async with asyncio.TaskGroup() as tasks:
        for count, pause, attack in group(name, Target(port, tls)):
            for _ in range(count):
                tasks.create_task(repeat(pause, attack))


if __name__ == "__main__":
    os.nice(NICENESS)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
