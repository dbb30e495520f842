"""A TCP proxy on loopback for one client, which stalls, cuts at any byte, and goes on."""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from typing import Self

BUFFER = 4096
"""Bytes that each socket on the way may hold: the kernel's defaults hide slow clients."""
PIECE = 1024
"""Bytes that are passed on at once."""


class Proxy:
    def __init__(self, gateway_port: int) -> None:
        self.stalls = self.cuts = 0
        self._gateway = ("127.0.0.1", gateway_port)
        self._listening = _socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self._open = asyncio.Event()
        self._open.set()
        self._left: int | None = None
        self._lines: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._listening.getsockname()[1]}"

    def stall(self) -> None:
        """Pass nothing on to the client."""
        self.stalls += 1
        self._open.clear()

    def cut(self, after: int) -> None:
        """Cut the present connection when the client has been passed that many more bytes."""
        self._left = after

    def go_on(self) -> None:
        """End a stall."""
        self._open.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        accepting = asyncio.create_task(self._accept())
        try:
            yield self
        finally:
            tasks = {accepting, *self._lines}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._listening.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listening)
            client.settimeout(0)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = asyncio.create_task(self._pass(client))
            self._lines.add(line)
            line.add_done_callback(self._lines.discard)

    async def _pass(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with client, contextlib.suppress(OSError):
            with _socket() as gateway:
                await loop.sock_connect(gateway, self._gateway)
                both = {
                    asyncio.create_task(self._up(client, gateway)),
                    asyncio.create_task(self._down(gateway, client)),
                }
                try:
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in both:
                        task.cancel()
                    await asyncio.gather(*both, return_exceptions=True)
            # Closed with something unread, a socket is reset, and the other side loses what is
            # on its way: the client is to read all that was passed on.
            client.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(client, PIECE):
                pass

    async def _up(self, client: socket.socket, gateway: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while piece := await loop.sock_recv(client, PIECE):
            await loop.sock_sendall(gateway, piece)

    async def _down(self, gateway: socket.socket, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while piece := await loop.sock_recv(gateway, PIECE):
            await self._open.wait()
            if self._left is not None:
                piece, self._left = piece[: self._left], self._left - len(piece)
            await loop.sock_sendall(client, piece)
            if self._left is not None and self._left <= 0:
                self._left = None
                self.cuts += 1
                return


def small_send_buffers(port: int) -> None:
    """Let the kernel buffer little for connections to this port of this process."""
    for number in range(1024):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as each:
                    _shrink(each, port)


def _shrink(each: socket.socket, port: int) -> None:
    listens = each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listens and each.getsockname()[1] == port:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)


def _socket() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.settimeout(0)
    return made
