"""What the tests of the chain share: scripted providers behind a real gateway, a clock that they
move by hand, and guests that are connected to it."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_connection

from d_back_core import protocol
from d_back_core.client import ClientWorld, decoded
from d_back_core.config import Config, parse
from d_back_core.feed import Feed
from d_back_core.hookspecs import hookimpl
from d_back_core.models import EffectiveUser, Event, Server, User
from d_back_core.server import WebSocketServer
from d_back_core.testing import ManualClock, Script

PATIENCE = 10.0
"""Seconds after which what a test waits for is taken for lost."""
ONE: Mapping[str, Server] = {"1": Server(name="One")}
ADA = User(username="Ada", status="online", role_color="#aaaaaa")
BOB = User(username="Bob", status="idle", role_color="#bbbbbb")
DOWN = RuntimeError("down")
CID = User(username="Cid", status="dnd", role_color="#cccccc")

Table: TypeAlias = Mapping[str, Any]


class Gated(Script):
    """A script whose hooks can be held, and whose stream can be down.

    A call of a hook that is held waits until it is let go. With ``stubborn``, it sits out its
    cancellation and answers nevertheless.
    """

    stubborn = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  those of a script
        super().__init__(*args, **kwargs)
        self.broken = False
        """Whether the stream raises at once whenever it is called."""
        self.cancelled: list[str] = []
        """The hooks whose calls were cancelled while they were held."""
        self._gates: dict[str, asyncio.Event] = {}

    def hold(self, hook: str) -> None:
        """Let the calls of that hook wait from now on."""
        self._gates[hook] = asyncio.Event()

    def let_go(self, hook: str) -> None:
        """Let those that wait go on, and later ones pass."""
        self._gates.pop(hook).set()

    def break_stream(self) -> None:
        """Let the stream raise, and raise again whenever it is called."""
        self.broken = True
        self.emit(DOWN)

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        self.calls.append("events")
        while not self.broken and (event := await self._stream.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event
        if self.broken:
            raise DOWN

    async def _called(self, hook: str, server_id: str = "") -> None:
        await super()._called(hook, server_id)
        gate = self._gates.get(hook)
        while gate is not None and not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                self.cancelled.append(hook)
                if not self.stubborn:
                    raise


class Guest:
    """A client that takes its frames when it is told to, and folds them into a world.

    A gap in the sequence raises, and so does a presence of a user who was never introduced.
    """

    def __init__(self, connection: ClientConnection, server: WebSocketServer) -> None:
        self.world = ClientWorld()
        self.frames: list[protocol.ServerMessage] = []
        """All that it was ever sent, in order."""
        self.connection = connection
        self._server = server

    @property
    def users(self) -> dict[str, EffectiveUser]:
        return self.world.users

    async def send(self, message: protocol.ClientMessage) -> None:
        """Send a message."""
        await self.connection.send(msgspec.json.encode(message), text=True)

    async def ask(self, server: str | None = None, password: str | None = None) -> None:
        """Ask to join a server."""
        request = protocol.ConnectRequest(server=server, password=password)
        await self.send(protocol.Connect(data=request))

    async def receive(self) -> protocol.ServerMessage:
        """The next frame, once it is there."""
        async with asyncio.timeout(PATIENCE):
            frame = decoded(await self.connection.recv(decode=False))
        assert frame is not None
        self.take(frame)
        return frame

    def take(self, frame: protocol.ServerMessage) -> None:
        """Fold a frame in."""
        self.frames.append(frame)
        self.world.fold(frame)

    async def join(self, server: str | None = None, password: str | None = None) -> None:
        """Join a server."""
        await self.ask(server, password)
        await self.until(protocol.ServerJoin)

    async def until(self, kind: type[protocol.ServerMessage]) -> None:
        """Take frames until one is of that kind."""
        while not isinstance(await self.receive(), kind):
            pass

    async def news(self) -> list[protocol.ServerMessage]:
        """Every frame that was sent since the last one that was taken, once all is settled."""
        await self._server.live.settle()
        # The answer to a question comes behind them.
        await self.send(protocol.GetServerData())
        frames: list[protocol.ServerMessage] = []
        while not isinstance(frame := await self.receive(), protocol.ServerData):
            frames.append(frame)
        return frames


class Scene:
    """A gateway with scripted providers, and its guests."""

    def __init__(self, server: WebSocketServer, clock: ManualClock) -> None:
        self.server = server
        self.live = server.live
        self.clock = clock
        self._guests = AsyncExitStack()

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

    def feed(self, server_id: str = "1") -> Feed[User, EffectiveUser]:
        """The feed of a server that is held."""
        return self.live.servers[server_id].feed

    def health(self, name: str) -> str:
        """The health of a provider."""
        return self.live.roster.supervisors[name].health

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
) -> Config:
    """A configuration with that order of providers."""
    return parse(
        {
            "chain": {"order": list(order), **(chain or {})},
            "limits": {"message_burst": 1_000_000, "chat_burst": 1_000_000},
            "providers": tables or {},
            "servers": policies or {},
        }
    )


@asynccontextmanager
async def prepared(
    providers: Mapping[str, object], **tables: Table | None
) -> AsyncIterator[Scene]:
    """A gateway that is still to be started; nothing may be left of it afterwards."""
    before, sockets = asyncio.all_tasks(), open_sockets()
    clock = ManualClock()
    config = configured(providers, **tables)
    scene = Scene(WebSocketServer(0, config=config, providers=providers, clock=clock), clock)
    try:
        yield scene
    finally:
        await scene.stop()
    for _ in range(5):  # a cancelled task ends when it gets its turn
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert open_sockets() == sockets
    assert not [timer for _, _, timer in clock._timers if not timer.cancelled]  # noqa: SLF001


@asynccontextmanager
async def served(providers: Mapping[str, object], **tables: Table | None) -> AsyncIterator[Scene]:
    """Serve these providers, in this order, as `configured`."""
    async with prepared(providers, **tables) as scene, scene.server:
        yield scene


def open_sockets() -> int:
    """How many sockets this process holds."""
    links = (os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))  # noqa: PTH208  numbers, no paths
    return sum("socket:" in link for link in links)
