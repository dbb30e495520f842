"""A provider whose answers, failures and events a test decides."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from d_back_core.hookspecs import Context, hookimpl
from d_back_core.models import Credentials, Event, Server, User

DOWN = RuntimeError("down")
"""What a broken stream raises."""


class Script:
    """Says what it is told to say, and remembers what it was asked.

    ``servers_answer`` and ``users_answers`` are what the hooks return; an exception among them
    is raised. ``hang`` names hooks that do not return. `emit` puts an event into the stream, an
    exception breaks it, None ends it. A call of a hook that is held (`hold`) waits until it is
    let go; with ``stubborn``, it sits out its cancellation and answers nevertheless.
    """

    stubborn = False

    def __init__(
        self,
        servers: Mapping[str, Server] | Exception | None = None,
        users: Mapping[str, Mapping[str, User] | Exception | None] | None = None,
    ) -> None:
        self.servers_answer = servers
        self.users_answers = dict(users or {})
        self.start_answer: Exception | None = None
        self.authorize_answer: bool | Exception | None = None
        self.hang: set[str] = set()
        self.broken = False
        """Whether the stream raises at once whenever it is called."""
        self.calls: list[str] = []
        """The hooks that were called, each with the server_id where it has one."""
        self.cancelled: list[str] = []
        """The hooks whose calls were cancelled while they were held."""
        self.offered: list[tuple[Credentials, str]] = []
        self.context: Context | None = None
        self._stream: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self._gates: dict[str, asyncio.Event] = {}

    def emit(self, *events: Event | Exception | None) -> None:
        """Put these into the stream."""
        for event in events:
            self._stream.put_nowait(event)

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
    async def start(self, context: Context) -> None:
        self.context = context
        await self._called("start")
        if self.start_answer is not None:
            raise self.start_answer

    @hookimpl
    async def stop(self) -> None:
        await self._called("stop")

    @hookimpl
    async def servers(self) -> Mapping[str, Server] | None:
        await self._called("servers")
        if isinstance(self.servers_answer, Exception):
            raise self.servers_answer
        return self.servers_answer

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User] | None:
        await self._called("users", server_id)
        answer = self.users_answers.get(server_id)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        self.calls.append("events")
        while not self.broken and (event := await self._stream.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event
        if self.broken:
            raise DOWN

    @hookimpl
    async def authorize(
        self, server_id: str, credentials: Credentials, address: str
    ) -> bool | None:
        self.offered.append((credentials, address))
        await self._called("authorize", server_id)
        if isinstance(self.authorize_answer, Exception):
            raise self.authorize_answer
        return self.authorize_answer

    async def _called(self, hook: str, server_id: str = "") -> None:
        self.calls.append(f"{hook} {server_id}".strip())
        if hook in self.hang:
            await asyncio.Event().wait()
        gate = self._gates.get(hook)
        while gate is not None and not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                self.cancelled.append(hook)
                if not self.stubborn:
                    raise
