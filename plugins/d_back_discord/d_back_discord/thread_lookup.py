"""Threads that Discord has not announced, for example those of a channel that the bot came to see
later: looked up over REST.

The messages of such a thread wait until it is known, in order. What cannot be looked up does not
pass: only a thread of a known channel shows who may read it. A thread is asked for once, and again
only `FAILED` seconds after an answer that did not help.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import discord
from msgspec import Struct

from d_back_core import Clock
from d_back_discord.channels import place

MAX_LOOKUPS, WINDOW = 30, 60.0
"""Requests in so many seconds."""
TIMEOUT = 10.0
"""Seconds for one answer."""
FAILED = 300.0
"""Seconds until a thread that was not found is asked for again."""
MAX_WAITING = 20
"""Messages that wait for one thread."""
MAX_KEPT = 1000
"""Threads that are remembered."""

T = TypeVar("T")
Pass: TypeAlias = Callable[[discord.Message], None]


class _Waiting(Struct):
    task: asyncio.Task[None]
    messages: dict[int, tuple[discord.Message, Pass]] = {}
    """By their ids: what becomes of each once the thread is known."""


class ThreadLookup:
    """Finds the thread of a message. ``dropped`` is called for each message whose thread cannot be
    found."""

    def __init__(self, clock: Clock, dropped: Pass) -> None:
        self._clock = clock
        self._dropped = dropped
        self._known: dict[int, discord.Thread] = {}
        self._failed: dict[int, float] = {}
        """Threads that were not found, and when."""
        self._waiting: dict[int, _Waiting] = {}
        self._began: deque[float] = deque(maxlen=MAX_LOOKUPS)

    def channel(self, message: discord.Message) -> discord.abc.Messageable | None:
        """The channel of the message, if it is known."""
        if place(message.channel) is not None:
            return message.channel
        thread = self._known.get(message.channel.id)
        if thread is None or thread.guild is not message.guild or place(thread) is None:
            return None
        return thread

    def wait(self, message: discord.Message, then: Pass) -> None:
        """Call ``then`` with the message once its thread is known."""
        waiting = self._waiting.get(message.channel.id) or self._begin(message)
        if waiting is None or len(waiting.messages) >= MAX_WAITING:
            self._dropped(message)
        else:
            waiting.messages[message.id] = message, then

    def replace(self, message: discord.Message) -> None:
        """The message has another text now, if it waits."""
        waiting = self._waiting.get(message.channel.id)
        if waiting is not None and message.id in waiting.messages:
            waiting.messages[message.id] = message, waiting.messages[message.id][1]

    def forget(self, channel_id: int, message_id: int) -> None:
        """The message is gone, if it waits."""
        if (waiting := self._waiting.get(channel_id)) is not None:
            waiting.messages.pop(message_id, None)

    async def close(self) -> None:
        """Cancel what is under way; may be called twice."""
        tasks = [waiting.task for waiting in self._waiting.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, message: discord.Message) -> _Waiting | None:
        """Ask for the thread; None if that is not to be done now."""
        channel_id, guild, now = message.channel.id, message.guild, self._clock.time()
        if guild is None or now < self._failed.get(channel_id, -FAILED) + FAILED:
            return None
        if len(self._began) == MAX_LOOKUPS and now < self._began[0] + WINDOW:
            return None
        self._began.append(now)
        task = asyncio.create_task(self._look_up(guild, channel_id), name="look up a thread")
        waiting = self._waiting[channel_id] = _Waiting(task)
        return waiting

    async def _look_up(self, guild: discord.Guild, channel_id: int) -> None:
        try:
            async with self._clock.timeout(TIMEOUT):
                found = await guild.fetch_channel(channel_id)
        except Exception:  # noqa: BLE001  also what discord.py cannot parse does not pass
            found = None
        finally:
            messages = self._waiting.pop(channel_id).messages
        # Not a channel: of one that is not announced, later changes of its permissions are not
        # announced either.
        if isinstance(found, discord.Thread) and place(found) is not None:
            self._failed.pop(channel_id, None)
            _keep(self._known, channel_id, found)
        else:
            _keep(self._failed, channel_id, self._clock.time())
        for message, then in messages.values():
            if self.channel(message) is None:
                self._dropped(message)
            else:
                then(message)


def _keep(kept: dict[int, T], key: int, value: T) -> None:
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > MAX_KEPT:
        del kept[next(iter(kept))]
