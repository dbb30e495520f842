"""Clients that take their time, in many connections, beside one that behaves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
from http_line import Line, line
from peers import until
from raw import REQUEST
from sample_users import ADA, ONE
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from d_back_core import UserChanged, hookimpl
from d_back_core.client import ClientWorld, connect
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_testing import ScriptedProvider

CONNECTIONS = 40
LIMITS = {
    "handshake_timeout": "500ms",
    "body_timeout": "500ms",
    "keep_alive": "500ms",
    "slow_client_timeout": "500ms",
}
STEP = 0.05
"""Seconds between two bytes of a slow client."""
PATIENCE = 60.0
LATE = 5.0
"""Seconds within which a client that behaves is served, on a busy machine."""

Slowness = Callable[[Line], Coroutine[None, None, None]]


class Town(ScriptedProvider):
    """One server, a page that reads a body, and one without an end."""

    def __init__(self) -> None:
        super().__init__(ONE, {"1": {"7": ADA}})

    @hookimpl
    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/read", self._read, methods=["POST"]), Route("/endless", self._endless)]

    async def _read(self, request: Request) -> Response:
        return Response(await request.body())

    async def _endless(self, _: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield bytes(65_536)

        return StreamingResponse(pieces())


async def drip(client: Line, octets: bytes) -> None:
    """Send these bytes one by one, as long as the gateway listens."""
    try:
        for octet in octets:
            client.send(bytes((octet,)))
            await asyncio.sleep(STEP)  # its slowness is what it is about
    except ConnectionError:
        pass


async def silent(client: Line) -> None:
    """Nothing at all."""


async def slow_head(client: Line) -> None:
    """A head that never ends."""
    await drip(client, b"GET / HTTP/1.1\r\n" + b"X-More: a\r\n" * 100)


async def slow_handshake(client: Line) -> None:
    """The head of a WebSocket handshake."""
    client.send(REQUEST)
    await drip(client, b"X-More: a\r\n" * 100)


async def slow_body(client: Line) -> None:
    """A body that never ends."""
    client.ask("/read", "Content-Length: 1000", method="POST")
    await drip(client, b"x" * 1000)


async def slow_unread_body(client: Line) -> None:
    """A body that is not needed, sent behind the answer."""
    client.ask("/healthz", "Content-Length: 1000", method="POST")
    await drip(client, b"x" * 1000)


async def slow_between_requests(client: Line) -> None:
    """Empty lines between two requests, which keep a connection busy."""
    client.ask("/healthz")
    await client.reply()
    await drip(client, b"\r\n" * 500)


async def slow_reader(client: Line) -> None:
    """An answer of which nothing is read."""
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.ask("/endless")
    await asyncio.sleep(1)  # the gateway has sent what the kernel holds
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]


async def idle(client: Line) -> None:
    """A request, and then nothing."""
    client.ask("/healthz")
    await client.reply()


@pytest.mark.parametrize(
    "slowness",
    [
        *(silent, slow_head, slow_handshake, slow_body, slow_unread_body, slow_between_requests),
        *(slow_reader, idle),
    ],
)
async def test_a_slow_client_is_ended_and_delays_no_other(slowness: Slowness) -> None:
    """Each of many such connections ends by itself; a client that behaves is served in time."""
    town = Town()
    config = parse(
        {
            "gateway": {"host": "127.0.0.1", "http": ["town"]},
            "chain": {"order": ["town"]},
            "limits": LIMITS,
        }
    )
    async with (
        asyncio.timeout(PATIENCE),
        WebSocketServer(0, config=config, providers={"town": town}) as server,
        beside(server, town),
    ):

        async def one() -> None:
            async with line(server) as client:
                acting = asyncio.create_task(slowness(client))
                await client.rest()
                acting.cancel()
                await asyncio.wait([acting])

        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(one())
        front = server._run.gateway._front  # noqa: SLF001  no public name shows it
        await until(lambda: not front.state.connections and not front.state.tasks)
        assert front.admission._connected == 1  # noqa: SLF001  the one that behaves


def is_named(world: ClientWorld, name: str) -> bool:
    return world.users["7"].username == name


@asynccontextmanager
async def beside(server: WebSocketServer, town: Town) -> AsyncIterator[None]:
    """A client that behaves, and gets each change in time until the block ends."""
    async with connect(server.url, reconnect=False) as world:
        stopped = asyncio.Event()

        async def watch() -> None:
            loop = asyncio.get_running_loop()
            while not stopped.is_set():
                began, name = loop.time(), f"Ada {world.seq}"
                town.emit(UserChanged(server_id="1", uid="7", username=name))
                await world.until(partial(is_named, name=name))
                assert loop.time() - began < LATE
                await asyncio.sleep(0.01)  # the others have their turn

        watching = asyncio.create_task(watch())
        yield
        stopped.set()
        await watching
