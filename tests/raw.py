"""A client that sees the bytes of the frames, and answers nothing by itself."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from d_back_core.embedding.server import WebSocketServer

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


class Raw:
    """A client that sees the bytes of the frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader

    async def frame(self) -> bytes:
        """The next frame, with its header."""
        head = await self._reader.readexactly(2)
        length = head[1]
        if length >= 126:
            more = await self._reader.readexactly(2 if length == 126 else 8)
            head, length = head + more, int.from_bytes(more)
        return head + await self._reader.readexactly(length)

    async def rest(self) -> list[int]:
        """The opcodes of all frames, which are short, up to the end of the connection."""
        stream = await self._reader.read()
        opcodes = []
        while stream:
            assert stream[1] < 126
            opcodes.append(stream[0] & 15)
            stream = stream[2 + stream[1] :]
        return opcodes

    async def closing(self) -> bytes:
        """The payload of the close frame; frames before it are passed over."""
        while (frame := await self.frame())[0] != 0x88:
            pass
        return frame[2:]

    def say(self, opcode: int, payload: bytes) -> None:
        """Send a frame, masked with zeros."""
        self.writer.write(bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload)


@asynccontextmanager
async def raw(
    server: WebSocketServer, *, offer: bytes = b"", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Raw]:
    """A client that has been sent nothing but the answer to its handshake. It reads little more
    than what is asked of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls, limit=4096)
    writer.write(REQUEST + offer + b"\r\n")
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
