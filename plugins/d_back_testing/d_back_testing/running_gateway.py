"""A gateway that runs for one test: with the given providers, on a free port, and on a clock that
the test moves.

This is the only module here that uses the state behind a `WebSocketServer`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

from websockets.asyncio.client import connect as open_connection

from d_back_core import User, WebSocketServer
from d_back_core.client import ClientWorld, EffectiveUser, ServerList, connect
from d_back_core.config import Config, parse
from d_back_core.state.resolver import Resolver
from d_back_testing.clock import ManualClock
from d_back_testing.leaks import Leaks
from d_back_testing.manual_client import RECEIVE_TIMEOUT, ManualClient

Table: TypeAlias = Mapping[str, Any]


class RunningGateway:
    """A gateway and the clients that are connected to it until it stops."""

    def __init__(self, server: WebSocketServer, clock: ManualClock) -> None:
        self.server = server
        self.live = server.live
        self.clock = clock
        self._clients = AsyncExitStack()

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        return self.server.url

    async def join(self, server: str | None = None, **credentials: Any) -> ClientWorld:  # noqa: ANN401  those of `connect`
        """Connect a client that follows that server (None: the default one) until the gateway
        stops. ``credentials`` are those of `d_back_core.client.connect`."""
        async with asyncio.timeout(RECEIVE_TIMEOUT):
            joining = connect(self.url, server, **credentials)
            return await self._clients.enter_async_context(joining)

    async def connect(self, kind: type[ManualClient] = ManualClient) -> ManualClient:
        """Connect a manual client that has not joined a server."""
        opening = open_connection(self.server.url, max_size=None)
        connection = await self._clients.enter_async_context(opening)
        client = kind(connection, self.settle)
        await client.until(ServerList)
        return client

    async def connect_and_join(
        self, server: str | None = "1", password: str | None = None
    ) -> ManualClient:
        """Connect a manual client and join that server."""
        client = await self.connect()
        await client.join(server, password)
        return client

    async def advance(self, seconds: float) -> None:
        """Move the clock, and wait for everything that follows from it."""
        await self.clock.advance(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Wait until the gateway has nothing left to do at this time."""
        await self.live.settle()

    def resolver(self, server_id: str = "1") -> Resolver[User, EffectiveUser]:
        """Return the resolver of a server that the gateway holds."""
        return self.live.servers[server_id].resolver

    def health(self, name: str) -> str:
        """Return the health of a provider: ``starting``, ``ready``, ``degraded`` or
        ``failed``."""
        return self.live.providers.supervisors[name].health.state

    async def stop(self, advancing: float = 0) -> None:
        """Disconnect the clients and stop the gateway. While it stops, move the clock by
        ``advancing`` seconds again and again."""
        async with asyncio.timeout(RECEIVE_TIMEOUT):
            await self._clients.aclose()
            stopping = asyncio.create_task(self.server.stop())
            while not stopping.done() and advancing:
                await self.clock.advance(advancing)
            await stopping


def configured(
    order: Iterable[str],
    tables: Table | None = None,
    chain: Table | None = None,
    policies: Table | None = None,
    gateway: Table | None = None,
) -> Config:
    """Return a configuration with that order of providers. The other arguments are the tables
    ``providers``, ``chain``, ``servers`` and ``gateway`` of d-back.toml."""
    return parse(
        {
            "gateway": gateway or {},
            "chain": {"order": list(order), **(chain or {})},
            "limits": {"message_burst": 1_000_000, "chat_burst": 1_000_000},
            "providers": tables or {},
            "servers": policies or {},
        }
    )


@asynccontextmanager
async def prepared(
    providers: Mapping[str, object], clock: ManualClock | None = None, **tables: Table | None
) -> AsyncIterator[RunningGateway]:
    """As `served`, but without starting the gateway: the test starts ``gateway.server``."""
    clock = clock or ManualClock()
    leaks = Leaks(clock)
    config = configured(providers, **tables)
    server = WebSocketServer(0, config=config, providers=providers, clock=clock)
    gateway = RunningGateway(server, clock)
    try:
        yield gateway
    finally:
        await gateway.stop()
    for _ in range(5):  # a cancelled task needs a turn of the event loop to end
        await asyncio.sleep(0)
    if left := leaks.found():
        raise AssertionError(f"left after the gateway has stopped: {', '.join(left)}")


@asynccontextmanager
async def served(
    providers: Mapping[str, object], clock: ManualClock | None = None, **tables: Table | None
) -> AsyncIterator[RunningGateway]:
    """Run a gateway with these providers, highest priority first; ``tables`` are those of
    `configured`.

    Its clock stands still until ``await gateway.advance(seconds)``. Raises ``AssertionError`` if
    a task, a socket, a thread or a timer is left after the block.
    """
    async with prepared(providers, clock, **tables) as gateway, gateway.server:
        yield gateway
