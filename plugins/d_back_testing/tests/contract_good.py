"""Correct providers. `contract_defects` derives the defective ones from `Good`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from enum import Enum, auto
from typing import TypeAlias

import click
from msgspec import Struct, structs
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from d_back_core import (
    Change,
    Context,
    Credentials,
    Event,
    Reload,
    Secret,
    Server,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
    UserSet,
    hookimpl,
)

TOKEN = "the-right-token"


class ClubConfig(Struct, frozen=True, kw_only=True):
    """``[providers.club]``."""

    token: Secret = Secret(TOKEN)
    port: int = 7000

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError(f"port '{self.port}': is not a port")


class Link(Enum):
    """What happens to the connection of a provider."""

    LOST = auto()
    FOUND = auto()


Queue: TypeAlias = asyncio.Queue[Event | Link | None]


class Source:
    """The members, and the queues of the providers that subscribed to changes."""

    def __init__(self) -> None:
        self.there = True
        self.members: dict[str, dict[str, User]] = {
            "1": {"7": User(username="Ada", status="online"), "8": User(username="Bob")},
            "2": {"9": User(username="Cid", role_color="#00ff00")},
        }
        self.listeners: list[Queue] = []
        self.lost: list[Queue] = []
        """The queues whose connection was lost."""

    def change(self, server_id: str, uid: str, event: UserChanged) -> None:
        """Change a member and send the event to all subscribers."""
        before = self.members[server_id][uid]
        self.members[server_id][uid] = structs.replace(before, status=event.status)
        for listener in self.listeners:
            listener.put_nowait(event)

    def lose(self) -> None:
        """End all connections, and accept no other."""
        self.there = False
        self.lost, self.listeners = self.listeners, []
        for listener in self.lost:
            listener.put_nowait(Link.LOST)

    def restore(self) -> None:
        """Change a member, and accept connections again."""
        bob = self.members["1"]["8"]
        status = "online" if bob.status == "idle" else "idle"
        self.members["1"]["8"] = structs.replace(bob, status=status)
        self.there = True
        for listener in self.lost:
            listener.put_nowait(Link.FOUND)


class Good:
    """A provider with every hook that follows every rule. Its stream raises when the source is
    lost."""

    Config = ClubConfig

    def __init__(self, config: ClubConfig, source: Source | None = None) -> None:
        self.config = config
        self.source = source or Source()
        self.recorded: dict[str, dict[str, User]] = {}
        self.queue: Queue | None = None
        self.task: asyncio.Task[None] | None = None
        self.log = logging.getLogger(__name__)

    @hookimpl
    async def start(self, context: Context) -> None:
        self.log = context.log
        await asyncio.sleep(0)
        if not self.source.there:
            raise ConnectionError("no answer")
        self.queue = asyncio.Queue()
        self.source.listeners.append(self.queue)
        if not context.probe:
            self.task = asyncio.create_task(self.work())
        await asyncio.sleep(0)

    @hookimpl
    async def stop(self) -> None:
        queue, self.queue = self.queue, None
        task, self.task = self.task, None
        if queue is not None:
            if queue in self.source.listeners:
                self.source.listeners.remove(queue)
            queue.put_nowait(None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def work(self) -> None:
        await asyncio.Event().wait()

    @hookimpl
    async def servers(self) -> dict[str, Server] | None:
        await asyncio.sleep(0)
        return {"1": Server(name="One"), "2": Server(name="Two", passworded=True)}

    @hookimpl
    async def users(self, server_id: str) -> dict[str, User] | None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if self.queue not in self.source.listeners:
            raise ConnectionError("the connection is lost")
        members = self.source.members.get(server_id, self.recorded.get(server_id))
        return None if members is None else dict(members)

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        queue = self.queue
        while queue is not None and (event := await queue.get()) is not None:
            if isinstance(event, Link):
                raise ConnectionError("the connection is lost")
            yield event

    @hookimpl
    async def authorize(self, server_id: str, credentials: Credentials) -> bool | None:
        if server_id != "2" or credentials.discord_token is None:
            return None
        return Secret(credentials.discord_token) == self.config.token

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        for change in changes:
            await asyncio.sleep(0)
            match change:
                case UserSet(server_id=server_id, uid=uid, user=user):
                    self.recorded.setdefault(server_id, {})[uid] = user
                case UserRemoved(server_id=server_id, uid=uid):
                    self.recorded.get(server_id, {}).pop(uid, None)
                case ServerRemoved(server_id=server_id):
                    self.recorded.pop(server_id, None)

    @hookimpl
    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/club", self.show)]

    async def show(self, _: Request) -> Response:
        return PlainTextResponse("open")

    @classmethod
    @hookimpl
    def commands(cls, group: click.Group) -> None:
        @group.command()
        def members() -> None:
            """Print the members."""


class Reconnecting(Good):
    """A provider that reports a lost source, and reconnects in the same run."""

    context: Context

    @hookimpl
    async def start(self, context: Context) -> None:
        self.context = context
        await super().start(context)

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        queue = self.queue
        while queue is not None and (event := await queue.get()) is not None:
            if event is Link.LOST:
                self.context.degraded("the connection is lost")
            elif event is Link.FOUND:
                self.source.listeners.append(queue)
                self.context.recovered()
                yield Reload()
            else:
                yield event


class Polled:
    """A provider without a stream."""

    Config = ClubConfig

    def __init__(self, config: ClubConfig, source: Source | None = None) -> None:
        self.config = config
        self.source = source or Source()

    @hookimpl
    async def servers(self) -> dict[str, Server] | None:
        if not self.source.there:
            raise ConnectionError("no answer")
        return {"1": Server(name="One")}

    @hookimpl
    async def users(self, server_id: str) -> dict[str, User] | None:
        if not self.source.there:
            raise ConnectionError("no answer")
        members = self.source.members.get(server_id)
        return None if members is None else dict(members)
