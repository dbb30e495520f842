"""NATS for each test, gateways that use it, and their clients."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from inspect import isawaitable
from pathlib import Path
from typing import Any, Protocol

import pytest

from d_back_core import Clock, Context
from d_back_core.client import ClientWorld, connect
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.wire import protocol
from d_back_nats.config import NatsConfig
from d_back_nats.connection import Line, connected

sys.path.insert(0, str(Path(__file__).parent))  # for the module that the tests share

from nats_nodes import LOG, PATIENCE, NatsCluster, unwritten


class Nats(Protocol):
    """Starts a cluster of that size; it ends with the test."""

    async def __call__(self, size: int = 1) -> NatsCluster: ...


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own: the paths of sockets and stores stay short."""
    path = Path(tempfile.mkdtemp(prefix="d-back-nats-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def nats(folder: Path) -> AsyncIterator[Nats]:
    clusters: list[NatsCluster] = []

    async def started(size: int = 1) -> NatsCluster:
        cluster = NatsCluster(folder, size)
        clusters.append(cluster)
        cluster.start()
        await cluster.up()
        return cluster

    yield started
    for cluster in clusters:
        cluster.kill()


@pytest.fixture
async def lines() -> AsyncIterator[Callable[[NatsConfig], Awaitable[Line]]]:
    """Connections of another program."""
    opened: list[Line] = []

    async def line(config: NatsConfig) -> Line:
        opened.append(await connected(config, "test", LOG))
        return opened[-1]

    yield line
    for each in opened:
        await each.close()


class Serve(Protocol):
    """Serves a chain until the test ends; ``given`` are further providers, ``options`` the table
    of NATS, ``servers`` the policies."""

    async def __call__(
        self,
        cluster: NatsCluster,
        given: Mapping[str, object] | None = None,
        *,
        order: Sequence[str] = ("nats",),
        recorders: Sequence[str] = (),
        servers: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        chain: Mapping[str, Any] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> WebSocketServer: ...


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def served(
            cluster: NatsCluster,
            given: Mapping[str, object] | None = None,
            *,
            order: Sequence[str] = ("nats",),
            recorders: Sequence[str] = (),
            servers: Mapping[str, Any] | None = None,
            clock: Clock | None = None,
            chain: Mapping[str, Any] | None = None,
            **options: Any,  # noqa: ANN401
        ) -> WebSocketServer:
            options.setdefault("urls", list(cluster.urls))
            options.setdefault("replicas", min(len(cluster.nodes), 3))
            table = {
                "gateway": {"host": "127.0.0.1", "port": 0},
                "limits": {"chat_burst": 1_000_000},
                "chain": {
                    "order": list(order),
                    "recorders": list(recorders),
                    "failback_after": "100ms",
                    **(chain or {}),
                },
                "providers": {"nats": {"timeout": "30s", **options}},
                "servers": servers or {},
            }
            server = WebSocketServer(config=parse(table), providers=given, clock=clock)
            return await stack.enter_async_context(server)

        yield served


class Origin(Protocol):
    """Serves an origin, whose only provider is given; by default it has written what it knows."""

    async def __call__(
        self,
        cluster: NatsCluster,
        source: object,
        *,
        wait: bool = True,
        **options: Any,  # noqa: ANN401
    ) -> WebSocketServer: ...


@pytest.fixture
def origin(serve: Serve, until: "Until") -> Origin:
    async def served(
        cluster: NatsCluster,
        source: object,
        *,
        wait: bool = True,
        **options: Any,  # noqa: ANN401
    ) -> WebSocketServer:
        server = await serve(
            cluster, {"source": source}, order=["source"], recorders=["nats"], **options
        )
        if wait:
            await server.live.settled()
            await until(lambda: unwritten(server) == 0)
        return server

    return served


class Join(Protocol):
    """Connects a client over a real socket; it stays until the test ends."""

    async def __call__(
        self,
        server: WebSocketServer,
        wanted: str = "",
        **credentials: Any,  # noqa: ANN401
    ) -> ClientWorld: ...


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    async with AsyncExitStack() as clients:

        async def joined(
            server: WebSocketServer,
            wanted: str = "",
            **credentials: Any,  # noqa: ANN401
        ) -> ClientWorld:
            async with asyncio.timeout(PATIENCE):
                return await clients.enter_async_context(
                    connect(server.url, wanted, **credentials)
                )

        yield joined


class Until(Protocol):
    """Returns when the condition holds; it may be one that asks NATS."""

    async def __call__(self, condition: Callable[[], object]) -> None: ...


@pytest.fixture
def until() -> Until:
    async def holds(condition: Callable[[], object]) -> object:
        held = condition()
        return await held if isawaitable(held) else held

    async def held(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await holds(condition):  # noqa: ASYNC110  of anything there is no event
                await asyncio.sleep(0.005)

    return held


class Said:
    """What a provider said of itself."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def context(self, *, clock: Clock | None = None) -> Context:
        """A context that notes it."""
        return Context(
            name="nats",
            log=LOG,
            clock=clock or Clock(),
            degraded=self.said.append,
            recovered=lambda: self.said.append("recovered"),
            holds=lambda _server_id: True,
        )


@pytest.fixture
def said() -> Said:
    return Said()


class Listening(Protocol):
    """The frames of a client from now on, as they come."""

    async def __call__(self, world: ClientWorld) -> list[protocol.ServerMessage]: ...


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    tasks = []

    async def listened(world: ClientWorld) -> list[protocol.ServerMessage]:
        frames: list[protocol.ServerMessage] = []
        began = asyncio.Event()

        async def listen() -> None:
            stream = world.events()
            first = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)  # it has begun to listen
            began.set()
            frames.append(await first)
            async for frame in stream:
                frames.append(frame)  # noqa: PERF401  it is read while it grows

        tasks.append(asyncio.create_task(listen()))
        await began.wait()
        return frames

    yield listened
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
