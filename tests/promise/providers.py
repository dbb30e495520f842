"""Providers on the public hooks that do what a program tells them to.

`people` and `listed` are what the source knows: the truth. `said` and `said_list` are what the
core was given last, which is what has to stay in use where no provider answers.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal

from msgspec import UNSET, structs

from d_back_core import (
    Change,
    Clock,
    Context,
    Event,
    Message,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    Snapshot,
    User,
    UserChanged,
    UserRemoved,
    UserSet,
    hookimpl,
)

State = Literal["well", "fails", "hangs", "mute", "none"]
"""``mute``: connecting hangs, and calls are answered. ``none``: connected, calls return None."""

People = dict[str, User]

SLICE = 4
"""Users that an answer in slices takes at once."""


class Polled:
    """A provider without a stream."""

    streams = False

    def __init__(self, clock: Clock, listed: dict[str, Server], people: dict[str, People]) -> None:
        self.listed, self.people = listed, people
        self.said_list: dict[str, Server] = {}
        self.said: dict[str, People] = {}
        self.state: State = "well"
        self.login = 0.0
        """Seconds that connecting takes; until then calls return None."""
        self.in_slices = False
        self._clock = clock
        self._context: Context | None = None
        self._connected = False
        self._changed = asyncio.Event()
        self._stream: asyncio.Queue[Event | Exception | None] | None = None

    @property
    def answers(self) -> bool:
        return self.state == "well"

    @hookimpl
    async def start(self, context: Context) -> None:
        self._context = context
        await self._connect()

    @hookimpl
    async def stop(self) -> None:
        self._connected, self._stream = False, None

    @hookimpl
    async def servers(self) -> Mapping[str, Server] | None:
        if not await self._may_answer():
            return None
        self.said_list = dict(self.listed)
        return dict(self.listed)

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User] | None:
        if not await self._may_answer() or server_id not in self.people:
            return None
        people, answer = self.people[server_id], {}
        for number, uid in enumerate(list(people)):
            if self.in_slices and number % SLICE == 0:
                await asyncio.sleep(0)  # what changes meanwhile is in the stream
            if uid in people:
                answer[uid] = people[uid]
        if not await self._may_answer():
            return None
        self.said[server_id] = dict(people if self._stream is not None else answer)
        return answer

    async def _connect(self) -> None:
        while self.state in ("hangs", "mute"):
            await self._turned()
        if self.state == "fails":
            raise ConnectionError("the source is away")
        if self.login:
            await self._clock.sleep(self.login)
        self._connected = True
        self._stream = asyncio.Queue() if self.streams else None

    async def _may_answer(self) -> bool:
        while self.state == "hangs":
            await self._turned()
        if self.state == "fails":
            raise ConnectionError("the source is away")
        return self.state != "none" and (self._connected or self.state == "mute")

    async def _turned(self) -> None:
        await self._changed.wait()

    # What a program does

    def turn(self, state: State) -> None:
        """Be in another state from now on."""
        if state == "mute" and self._stream is None:
            state = "hangs"  # without a stream nothing would ever show it
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()
        if state in ("fails", "hangs", "mute"):
            self.break_off()
        else:
            self._emit(Reload(server_id=None))

    def break_off(self) -> None:
        """Lose the stream."""
        if self._stream is not None:
            self._stream.put_nowait(ConnectionError("the connection is lost"))
            self._stream = None
            self._connected = not self.login

    def dismiss(self) -> None:
        """Have no place in the chain any more: nothing that was said counts."""
        self.said.clear()
        self.said_list.clear()

    def recovered(self) -> None:
        """Tell the core that the data is current."""
        if self._context is not None:
            self._context.recovered()

    def end(self) -> None:
        """End the stream: there is no more news."""
        if self._stream is not None:
            self._stream.put_nowait(None)
            self._stream = None

    def change(self, server_id: str, uid: str, user: User) -> None:
        """Set a user at the source; the stream says so, if there is one."""
        if server_id in self.people:
            self.people[server_id][uid] = user
            event = UserChanged(
                server_id=server_id,
                uid=uid,
                username=None if user.username is UNSET else user.username,
                status=None if user.status is UNSET else user.status,
                role_color=None if user.role_color is UNSET else user.role_color,
            )
            if self._emit(event) and server_id in self.said:
                self.said[server_id][uid] = user

    def remove(self, server_id: str, uid: str) -> None:
        if self.people.get(server_id, {}).pop(uid, None) is not None:
            emitted = self._emit(UserRemoved(server_id=server_id, uid=uid))
            if emitted and server_id in self.said:
                self.said[server_id].pop(uid, None)

    def say(self, server_id: str, uid: str, text: str) -> bool:
        """Chat; False if the stream does not carry it."""
        return self._emit(Message(server_id=server_id, uid=uid, message=text, channel="c"))

    def list(self, server_id: str, server: Server, people: People) -> None:
        """Know one more server."""
        self.listed[server_id], self.people[server_id] = server, people
        if self._emit(ServerChanged(server_id=server_id, name=server.name, id=server.id)):
            self.said_list[server_id] = server

    def protect(self, server_id: str, *, on: bool) -> None:
        """Protect a server, or open it."""
        if server_id in self.listed:
            server = structs.replace(self.listed[server_id], passworded=on)
            self.listed[server_id] = server
            if self._emit(ServerChanged(server_id=server_id, passworded=on)):
                self.said_list[server_id] = server

    def unlist(self, server_id: str) -> None:
        if self.listed.pop(server_id, None) is not None:
            del self.people[server_id]
            if self._emit(ServerRemoved(server_id=server_id)):
                self.said_list.pop(server_id, None)

    def _emit(self, event: Event) -> bool:
        if self._stream is None or self.state not in ("well", "none"):
            return False
        if self.state == "none" and not isinstance(event, Reload):
            return False
        self._stream.put_nowait(event)
        return True


class Streaming(Polled):
    """A provider with a stream."""

    streams = True

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        if self._stream is None:  # it broke before it was read
            await self._connect()
        stream = self._stream
        while stream is not None:
            event = await stream.get()
            if event is None:
                return
            if isinstance(event, Exception):
                raise event
            yield event


class Recorder:
    """A recorder that keeps what it is given."""

    def __init__(self) -> None:
        self.people: dict[str, People] = {}

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        for change in changes:
            match change:
                case UserSet():
                    self.people.setdefault(change.server_id, {})[change.uid] = change.user
                case UserRemoved():
                    self.people.get(change.server_id, {}).pop(change.uid, None)
                case Snapshot(server_id=str() as server_id):
                    people = self.people.get(server_id, {})
                    self.people[server_id] = {k: people[k] for k in people if k in change.keys}
