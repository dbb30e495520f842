"""An HTTP connection of which a test decides every byte."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import Message as Headers
from email.parser import BytesHeaderParser
from typing import NamedTuple

from d_back_core.embedding.server import WebSocketServer

PATIENCE = 30.0


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    headers: Headers
    body: bytes


class Line:
    """The client's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    def ask(self, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> None:
        """Send a request, and do not wait for its answer."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode() + body)

    async def reply(self, *, head: bool = False) -> Reply:
        """Read one answer; ``head``: to a HEAD, which has no body."""
        async with asyncio.timeout(PATIENCE):
            status, _, fields = (await self._reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            headers = BytesHeaderParser().parsebytes(fields)
            length = 0 if head else int(headers["Content-Length"] or 0)
            body = await self._reader.readexactly(length)
        return Reply(int(status.split()[1]), headers, body)

    async def some(self) -> bytes:
        """Read what has come."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read(65_536)

    async def rest(self) -> bytes:
        """Read what comes until the connection ends, however it does."""
        received = bytearray()
        async with asyncio.timeout(PATIENCE):
            try:
                while part := await self._reader.read(65_536):
                    received += part
            except ConnectionError:
                pass
        return bytes(received)


@asynccontextmanager
async def line(server: WebSocketServer) -> AsyncIterator[Line]:
    """A connection to the gateway."""
    reader, writer = await asyncio.open_connection(server.config.gateway.host, server.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
