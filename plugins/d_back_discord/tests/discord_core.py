"""The core's side of a provider, as far as the tests want to see it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import discord_payloads as say
import pytest
from discord_loopback import Loopback

from d_back_core import Context, Event, Reload, User, UserChanged
from d_back_discord import DiscordProvider
from d_back_testing import ManualClock

PATIENCE = 60.0
"""Seconds after which what a test waits for is taken for lost."""


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; the loop, and what the sockets bring, goes on."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  there is no event for most of them
            await asyncio.sleep(0)


class Core:
    """What the core does with a provider, as far as a test wants to see it."""

    def __init__(self, provider: DiscordProvider, clock: ManualClock, loopback: Loopback) -> None:
        self.provider = provider
        self.clock = clock
        self.loopback = loopback
        self.events: list[Event] = []
        self.degraded: list[str] = []
        self.recovered = 0
        self.gauges: dict[str, float] = {}
        self._draining: asyncio.Task[None] | None = None

    async def start(self, *, probe: bool = False) -> None:
        context = Context(
            name="discord",
            log=logging.getLogger("d_back.providers.discord"),
            clock=self.clock,
            stats=pytest.fail,
            probe=probe,
            degraded=self.degraded.append,
            recovered=self._recovered,
            gauge=self.gauges.__setitem__,
        )
        await self.provider.start(context)
        self._draining = asyncio.create_task(self._drain())

    def starting(self) -> asyncio.Task[None]:
        """Begin to start."""
        return asyncio.create_task(self.start())

    async def stop(self) -> None:
        await self.provider.stop()
        if self._draining is not None:
            async with asyncio.timeout(PATIENCE):
                await self._draining

    async def users(self, guild_id: str = say.GUILD_ID) -> dict[str, User]:
        users = await self.provider.users(guild_id)
        assert users is not None, f"{guild_id}: cannot say"
        return users

    async def whole(self, guild_id: str = say.GUILD_ID) -> dict[str, User]:
        """The users, as soon as the guild is whole; events up to then are forgotten."""
        await until(lambda: Reload(server_id=guild_id) in self.events)
        users = await self.users(guild_id)
        self.events.clear()
        return users

    async def wait(self, condition: Callable[[], object], step: float = 1.0) -> None:
        """Let time pass until the condition holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self.clock.advance(step)

    async def happen(self, event: str, payload: say.Payload) -> None:
        await self.loopback.dispatch(event, payload)

    async def heard(self, guild_id: str = say.GUILD_ID) -> list[Event]:
        """Everything that was passed on so far; a member who changes back and forth comes behind
        it. To be used with guilds that have the member 99."""
        for status in ("dnd", "online"):
            await self.happen("PRESENCE_UPDATE", say.presence(99, status, guild_id))
        last = UserChanged(server_id=guild_id, uid=say.uid(99), status="online")
        await until(lambda: last in self.events)
        heard = [each for each in self.events if getattr(each, "uid", None) != say.uid(99)]
        self.events.clear()
        return heard

    def _recovered(self) -> None:
        self.recovered += 1

    async def _drain(self) -> None:
        async for event in self.provider.events():
            self.events.append(event)


Begin: TypeAlias = Callable[..., Awaitable[Core]]
Prepare: TypeAlias = Callable[..., Core]


def own_tasks(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Tasks that were begun since, but for the one that asks."""
    return [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
