"""The clients: many sockets in one epoll loop, which join, count and, where told to, time."""

import json
import select
import socket
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from bench.errors import BenchError
from bench.frames import CLOSE, FrameCounter, client_frame

CHUNK = 262_144
"""Bytes read from one client at a time."""
CONNECTING_AT_ONCE = 64
ADDRESSES = 200
"""Source addresses (127.0.1.1 and on): one has ports for only some 28,000 connections."""
TEXT, PONG = 0x81, 0x8A
GREETING = 2
"""Messages until a client has joined: the list of servers, and the users."""
SMALL_BUFFER = 4_096
CONNECT_TIMEOUT = 10.0

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
"""As browsers write it."""
REQUEST = (
    "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Origin: http://127.0.0.1:{port}\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/130.0.0.0 Safari/537.36\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9,de;q=0.8\r\n"
    "Cookie: theme=dark; consent=2026-01-01T00:00:00.000Z; session=0123456789abcdef01234567\r\n"
    "{offer}\r\n"
)
"""With the headers of a browser: a server that keeps them has more to keep."""


class Client:
    """One connection. ``received`` counts messages; the first two are its greeting."""

    __slots__ = ("asked", "counter", "head", "received", "socket", "wanted")

    def __init__(self, connection: socket.socket, wanted: str) -> None:
        self.socket = connection
        self.wanted = wanted
        self.counter = FrameCounter()
        self.head: bytes | None = b""
        """What has come of the answer to the handshake; None when that is over."""
        self.asked = False
        self.received = 0

    def feed(self, chunk: bytes) -> int:
        """How many messages have become complete; answers what is to be answered."""
        if self.head is not None:
            head, end, chunk = (self.head + chunk).partition(b"\r\n\r\n")
            if not end:
                self.head = head
                return 0
            if b" 101 " not in head[:16]:
                raise BenchError(f"refused: {head[:80].decode(errors='replace')}")
            self.head = None
        complete = self.counter.feed(chunk)
        self.received += complete
        if self.received and not self.asked:
            self.asked = True
            self.say(
                TEXT, json.dumps({"type": "connect", "data": {"server": self.wanted}}).encode()
            )
        while self.counter.pings:
            self.say(PONG, self.counter.pings.pop())
        return complete

    def say(self, first: int, payload: bytes) -> None:
        """Send a frame."""
        self.socket.send(client_frame(first, payload))


class Crowd:
    """All clients of one server; closes them at its end."""

    def __init__(self, port: int, *, deflate: bool) -> None:
        self._port = port
        self._request = REQUEST.format(port=port, offer=OFFER if deflate else "").encode()
        self._plain = REQUEST.format(port=port, offer="").encode()
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._deaf: list[socket.socket] = []
        self._made = 0
        self._sent_at: list[int] | None = None
        self._before = 0
        self.joined: list[Client] = []
        """Those that have joined since the caller last emptied it."""
        self.deliveries = 0
        """Messages after the greetings, of all clients."""
        self.latencies: list[int] = []
        """Nanoseconds from the sending of an event to the arrival of each delivery."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for connection in [*self._deaf, *(each.socket for each in self._clients.values())]:
            connection.close()
        self._clients.clear()
        self._epoll.close()

    def __len__(self) -> int:
        return len(self._clients)

    def join(self, wanted: Iterable[str], timeout: float) -> None:
        """Connect a client for each of these servers' public ids and return when all have joined;
        raises `BenchError` after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        waiting, remaining = 0, iter(wanted)
        exhausted = False
        while waiting or not exhausted:
            while not exhausted and waiting < CONNECTING_AT_ONCE:
                server = next(remaining, None)
                exhausted = server is None
                if server is not None:
                    self.connect(server)
                    waiting += 1
            self.pump(0.1)
            waiting -= len(self.joined)
            self.joined.clear()
            if time.monotonic() > deadline:
                raise BenchError(f"{waiting} clients have not joined within {timeout:g} s")

    def connect(self, wanted: str) -> Client:
        """Connect one client; it appears in ``joined`` later."""
        client = Client(self._opened(), wanted)
        client.socket.send(self._request)
        self._clients[client.socket.fileno()] = client
        self._epoll.register(client.socket, select.EPOLLIN)
        return client

    def connect_deaf(self, wanted: str) -> None:
        """Connect a client that asks to join, without compression, and reads nothing then."""
        connection = self._opened(receive_buffer=SMALL_BUFFER)
        connection.settimeout(CONNECT_TIMEOUT)
        connection.sendall(self._plain)
        connection.recv(1024)
        connect = json.dumps({"type": "connect", "data": {"server": wanted}}).encode()
        connection.sendall(client_frame(TEXT, connect))
        self._deaf.append(connection)

    def leave(self, client: Client) -> None:
        """Close one client as a browser does: it goes when the server has answered."""
        client.say(CLOSE, (1000).to_bytes(2))

    def pump(self, timeout: float) -> None:
        """Read what is there; wait up to ``timeout`` seconds for something."""
        for number, _ in self._epoll.poll(timeout):
            client = self._clients[number]
            try:
                chunk = client.socket.recv(CHUNK)
            except ConnectionResetError:
                chunk = b""
            if chunk:
                self._count(client, client.feed(chunk))
            else:
                self._gone(client)

    def expect(self, deliveries: int, timeout: float) -> None:
        """Return when so many more have come than when this was called; raises `BenchError`."""
        self.reach(self.deliveries + deliveries, timeout)

    def reach(self, total: int, timeout: float) -> None:
        """Return when ``deliveries`` is ``total``; raises `BenchError` after ``timeout`` s."""
        deadline = time.monotonic() + timeout
        while self.deliveries < total:
            self.pump(0.1)
            if time.monotonic() > deadline:
                missing = total - self.deliveries
                raise BenchError(f"{missing} deliveries are missing after {timeout:g} s")

    def settle(self, quiet: float = 0.1) -> None:
        """Read until nothing comes for ``quiet`` seconds, 5 s at most."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and self._epoll.poll(quiet):
            self.pump(0)
        self.deliveries = 0

    def time_events(self, sent_at: list[int]) -> None:
        """From now on note the latency of every delivery: the caller appends the time of each
        event (``time.monotonic_ns``) before it is sent to all clients."""
        self._sent_at = sent_at
        self._before = 0
        for client in self._clients.values():
            client.received = GREETING
        self.latencies.clear()

    def _count(self, client: Client, complete: int) -> None:
        if not complete:
            return
        before = client.received - complete
        if before >= GREETING:
            self.deliveries += complete
            if self._sent_at is not None:
                sent = self._sent_at[before - GREETING : client.received - GREETING]
                now = time.monotonic_ns()
                self.latencies.extend([now - each for each in sent])
        elif client.received >= GREETING:
            self.joined.append(client)
            self.deliveries += client.received - GREETING

    def _gone(self, client: Client) -> None:
        del self._clients[client.socket.fileno()]
        closed = client.counter.closed
        client.socket.close()
        if not closed:
            raise BenchError("the server dropped a client")

    def _opened(self, receive_buffer: int | None = None) -> socket.socket:
        self._made += 1
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.bind((f"127.0.1.{1 + self._made % ADDRESSES}", 0))
        connection.settimeout(CONNECT_TIMEOUT)
        connection.connect(("127.0.0.1", self._port))
        connection.settimeout(0)
        return connection
