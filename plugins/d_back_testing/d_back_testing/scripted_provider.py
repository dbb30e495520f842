"""A provider whose answers, failures and events a test decides."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from d_back_core import Context, Credentials, Event, Grant, Server, User, hookimpl

DOWN = RuntimeError("down")
"""The error that a broken stream raises."""


class ScriptedProvider:
    """A provider that answers as the test says, and records its calls.

    The hooks return ``servers_answer`` and ``users_answers``; an exception among these is raised
    instead. A call of a hook named in ``hang`` never returns. `emit` puts an event into the
    stream; an exception breaks the stream, and None ends it. After `hold`, calls of a hook wait
    until `release`. With ``ignores_cancellation``, a waiting call continues to wait when it is
    cancelled, and returns its answer.
    """

    ignores_cancellation = False

    def __init__(
        self,
        servers: Mapping[str, Server] | Exception | None = None,
        users: Mapping[str, Mapping[str, User] | Exception | None] | None = None,
    ) -> None:
        self.servers_answer = servers
        self.users_answers = dict(users or {})
        self.start_answer: Exception | None = None
        self.authorize_answer: bool | Grant | Exception | None = None
        self.reauthorize_answer: bool | Exception | None = None
        self.hang: set[str] = set()
        self.broken = False
        """True if the stream raises as soon as it is started."""
        self.calls: list[str] = []
        """The hooks that were called, in order, with the server_id if they take one."""
        self.cancelled: list[str] = []
        """The hooks whose calls were cancelled while they waited."""
        self.offered: list[tuple[Credentials, str]] = []
        """The credentials and addresses that `authorize` was called with."""
        self.context: Context | None = None
        self._stream: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self._held: dict[str, asyncio.Event] = {}

    def emit(self, *events: Event | Exception | None) -> None:
        """Put events into the stream."""
        for event in events:
            self._stream.put_nowait(event)

    def hold(self, hook: str) -> asyncio.Event:
        """Make calls of that hook wait from now on, until `release`. The returned event lets only
        the calls up to the next `hold` continue."""
        held = self._held[hook] = asyncio.Event()
        return held

    def release(self, hook: str) -> None:
        """Let the waiting calls of that hook continue, and let later ones pass."""
        self._held.pop(hook).set()

    def break_stream(self) -> None:
        """Make the stream raise now, and again each time it is started."""
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
    ) -> bool | Grant | None:
        self.offered.append((credentials, address))
        await self._called("authorize", server_id)
        if isinstance(self.authorize_answer, Exception):
            raise self.authorize_answer
        return self.authorize_answer

    @hookimpl
    async def reauthorize(self, server_id: str, person: str) -> bool | None:
        await self._called("reauthorize", f"{server_id} {person}")
        if isinstance(self.reauthorize_answer, Exception):
            raise self.reauthorize_answer
        return self.reauthorize_answer

    async def _called(self, hook: str, server_id: str = "") -> None:
        self.calls.append(f"{hook} {server_id}".strip())
        if hook in self.hang:
            await asyncio.Event().wait()
        held = self._held.get(hook)
        while held is not None and not held.is_set():
            try:
                await held.wait()
            except asyncio.CancelledError:
                self.cancelled.append(hook)
                if not self.ignores_cancellation:
                    raise
