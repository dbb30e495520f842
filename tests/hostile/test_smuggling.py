"""Requests that a proxy and the gateway might divide differently, behind real proxies.

The proxies keep clients from ``/metrics``. A request for it that reaches the gateway has been
smuggled past them, inside of another one.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from http_line import line
from proxies import HOST, PROXIES, Door, Proxy
from sample_users import ADA, ONE
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from d_back_core import hookimpl
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_testing import ScriptedProvider

HIDDEN = f"GET /metrics HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
START = f"POST /echo HTTP/1.1\r\nHost: {HOST}\r\n".encode()
CHUNK = b"%x\r\n%s\r\n" % (len(HIDDEN), HIDDEN)
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def sized(length: object) -> bytes:
    return f"Content-Length: {length}\r\n".encode()


AMBIGUOUS = {
    "length and chunks": START + sized(6) + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN,
    "chunks and length": START + CHUNKED + sized(4) + b"\r\n" + CHUNK + b"0\r\n\r\n",
    "two lengths": START + sized(0) + sized(len(HIDDEN)) + b"\r\n" + HIDDEN,
    "list of lengths": START + sized(f"0, {len(HIDDEN)}") + b"\r\n" + HIDDEN,
    "signed length": START + sized(f"+{len(HIDDEN)}") + b"\r\n" + HIDDEN,
    "negative length": START + sized(-1) + b"\r\n" + HIDDEN,
    "hexadecimal length": START + sized("0x0") + b"\r\n" + HIDDEN,
    "empty length": START + sized("") + b"\r\n" + HIDDEN,
    "length with an underscore": START + sized("0_0") + b"\r\n" + HIDDEN,
    "space before the colon": START + sized(0) + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNK,
    "tab before the value": START + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "unknown coding": START + sized(0) + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNK,
    "coding behind chunked": START + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNK,
    "two codings": START + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + CHUNK,
    "quoted coding": START + sized(0) + b'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNK,
    "line feeds only": START.replace(b"\r\n", b"\n") + CHUNKED + b"\n" + CHUNK,
    "carriage return in a header": START + b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + CHUNK,
    "null in a header": START + b"X: a\x00\r\n" + CHUNKED + b"\r\n" + CHUNK,
    "folded header": START + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n" + CHUNK,
    "folded coding": START + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "space before the first header": b"GET /echo HTTP/1.1\r\n Host: x\r\nHost: y\r\n\r\n" + HIDDEN,
    "chunk that is too large": START + CHUNKED + b"\r\nffffffffffffffff0\r\n" + HIDDEN,
    "negative chunk": START + CHUNKED + b"\r\n-1\r\n" + HIDDEN,
    "chunk in hexadecimal": START + CHUNKED + b"\r\n0x0\r\n\r\n" + HIDDEN,
    "line feed in an extension": START + CHUNKED + b"\r\n0;a\n\r\n\r\n" + HIDDEN,
    "body without a length": b"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\n"
    + CHUNKED
    + b"\r\n0\r\n\r\n"
    + HIDDEN,
    "body of a GET": b"GET /echo HTTP/1.1\r\nHost: x\r\n" + sized(len(HIDDEN)) + b"\r\n" + HIDDEN,
    "two hosts": b"GET /echo HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + HIDDEN,
    "line end in the target": b"GET /echo%0d%0aX:%20y HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "space in the target": b"GET /echo HTTP/1.1\r\nX: HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "old version": b"GET /echo\r\n" + HIDDEN,
    "version of the future": b"GET /echo HTTP/1.9\r\nHost: x\r\n\r\n" + HIDDEN,
}
"""What one of the two might read as one request, and the other one as two."""

TUNNELS = {
    "old version of WebSocket": b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 7\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    "handshake without a key": b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\n",
    "HTTP/2 in plain text": b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    b"Connection: Upgrade, HTTP2-Settings\r\n",
    "another protocol": b"Upgrade: tunnel\r\nConnection: Upgrade\r\n",
}
"""Upgrades that a proxy might believe while the gateway refuses them."""


class Site(ScriptedProvider):
    """Counts what reaches it."""

    def __init__(self) -> None:
        super().__init__(ONE, {"1": {"7": ADA}})
        self.hidden = 0

    @hookimpl
    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/metrics", self._hide),
            Route("/echo", self._echo, methods=["GET", "POST"]),
            Route("/own/{token}", self._own),
        ]

    async def _hide(self, _: Request) -> Response:
        self.hidden += 1
        return PlainTextResponse("HIDDEN")

    async def _echo(self, request: Request) -> Response:
        return Response(await request.body())

    async def _own(self, request: Request) -> Response:
        return PlainTextResponse(request.path_params["token"])


@asynccontextmanager
async def serving(site: Site) -> AsyncIterator[WebSocketServer]:
    config = parse(
        {
            "gateway": {"http": ["site"]},
            "chain": {"order": ["site"]},
            "limits": {"body_timeout": "500ms", "handshake_timeout": "500ms"},
        }
    )
    async with WebSocketServer(0, "127.0.0.1", config=config, providers={"site": site}) as server:
        yield server


@pytest.mark.long
@pytest.mark.parametrize("proxy", PROXIES)
async def test_r41_nothing_is_smuggled_past_a_proxy(proxy: Proxy, tmp_path: Path) -> None:
    """The next client gets its own answer, on all the connections that the proxy keeps."""
    site = Site()
    async with serving(site) as server, proxy(tmp_path, server.port) as door:
        for name, octets in AMBIGUOUS.items():
            await _say(door, octets + HIDDEN)
            await _check(door, name)
            assert site.hidden == 0, name
        for name, headers in TUNNELS.items():
            head = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n".encode() + headers + b"\r\n"
            assert b" 101 " not in await _say(door, head + HIDDEN)
            await _check(door, name)
            assert site.hidden == 0, name


async def _say(door: Door, octets: bytes) -> bytes:
    """What comes back; the proxy may wait for more, as it may have understood less."""
    try:
        async with asyncio.timeout(1):
            return await door.say(octets)
    except TimeoutError:
        return b""


async def _check(door: Door, name: str) -> None:
    for number in range(3):
        token = f"{number}-mine"
        assert (await door.ask(f"/own/{token}")).endswith(token.encode()), name


@pytest.mark.parametrize(
    "name",
    [
        *("length and chunks", "chunks and length", "two lengths", "list of lengths"),
        *("signed length", "negative length", "hexadecimal length", "empty length"),
        *("length with an underscore", "space before the colon", "tab before the value"),
        *("coding behind chunked", "carriage return in a header", "null in a header"),
        *("chunk that is too large", "negative chunk", "chunk in hexadecimal"),
        *("line feed in an extension", "version of the future"),
    ],
)
async def test_r41_an_ambiguous_request_is_400(name: str) -> None:
    """From a client that comes without a proxy; the connection ends, and nothing follows."""
    site = Site()
    async with serving(site) as server, line(server) as client:
        client.send(AMBIGUOUS[name])
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == 1
    assert site.hidden == 0
