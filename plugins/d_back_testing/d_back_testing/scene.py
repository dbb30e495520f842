"""A gateway that runs for a test: with given providers, on a free port, and on a clock that the
test moves."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

from websockets.asyncio.client import connect as open_connection

from d_back_core.client import ClientWorld, connect
from d_back_core.config import Config, parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.models import EffectiveUser, User
from d_back_core.state.resolver import Resolver
from d_back_core.wire import protocol
from d_back_testing.clock import ManualClock
from d_back_testing.guest import PATIENCE, Guest
from d_back_testing.leftovers import Leftovers

Table: TypeAlias = Mapping[str, Any]


class Scene:
    """A gateway, and those who are connected to it until it ends."""

    def __init__(self, server: WebSocketServer, clock: ManualClock) -> None:
        self.server = server
        self.live = server.live
        self.clock = clock
        self._guests = AsyncExitStack()

    @property
    def url(self) -> str:
        """Where a client connects."""
        return self.server.url

    async def join(self, server: str | None = None, **credentials: Any) -> ClientWorld:  # noqa: ANN401  those of `connect`
        """A client in that server (None: the default one); ``credentials`` as for
        `d_back_core.client.connect`. It stays until the gateway ends."""
        async with asyncio.timeout(PATIENCE):
            joining = connect(self.url, server, **credentials)
            return await self._guests.enter_async_context(joining)

    async def connect(self, kind: type[Guest] = Guest) -> Guest:
        """A guest that has not joined anything."""
        opening = open_connection(self.server.url, max_size=None)
        guest = kind(await self._guests.enter_async_context(opening), self.server)
        await guest.until(protocol.ServerList)
        return guest

    async def visit(self, server: str | None = "1", password: str | None = None) -> Guest:
        """A guest in that server."""
        guest = await self.connect()
        await guest.join(server, password)
        return guest

    async def advance(self, seconds: float) -> None:
        """Let time pass, and all that follows from it happen."""
        await self.clock.advance(seconds)
        await self.live.settle()

    async def settle(self) -> None:
        """Let happen whatever does not need time."""
        await self.live.settle()

    def resolver(self, server_id: str = "1") -> Resolver[User, EffectiveUser]:
        """The feed of a server that is held."""
        return self.live.servers[server_id].resolver

    def health(self, name: str) -> str:
        """The health of a provider: ``starting``, ``ready``, ``degraded`` or ``failed``."""
        return self.live.providers.supervisors[name].health.state

    async def stop(self, advancing: float = 0) -> None:
        """Let the guests go and stop the gateway; so much time passes meanwhile."""
        async with asyncio.timeout(PATIENCE):
            await self._guests.aclose()
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
    """A configuration with that order of providers; the others are the tables ``providers``,
    ``chain``, ``servers`` and ``gateway`` of d-back.toml."""
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
) -> AsyncIterator[Scene]:
    """A gateway that is still to be started. ``AssertionError`` where a task, a socket, a thread
    or a timer of it is left afterwards."""
    clock = clock or ManualClock()
    leftovers = Leftovers(clock)
    config = configured(providers, **tables)
    scene = Scene(WebSocketServer(0, config=config, providers=providers, clock=clock), clock)
    try:
        yield scene
    finally:
        await scene.stop()
    for _ in range(5):  # a cancelled task ends when it gets its turn
        await asyncio.sleep(0)
    if left := leftovers.found():
        raise AssertionError(f"left when the gateway had stopped: {', '.join(left)}")


@asynccontextmanager
async def served(
    providers: Mapping[str, object], clock: ManualClock | None = None, **tables: Table | None
) -> AsyncIterator[Scene]:
    """Serve these providers, in this order, highest priority first; ``tables`` as for
    `configured`.

    Its clock stands still until ``scene.advance(seconds)``. ``AssertionError`` where a task, a
    socket, a thread or a timer is left afterwards.
    """
    async with prepared(providers, clock, **tables) as scene, scene.server:
        yield scene
