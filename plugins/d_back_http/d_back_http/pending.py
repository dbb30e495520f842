"""What the stream of one run has still to yield."""

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeAlias

from d_back_core import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Reload,
    UserChanged,
    UserRemoved,
)

MAX_EVENTS = 1000
"""Events that wait; if there are more, everything is fetched."""
MAX_MESSAGES = 1000
"""Messages, edits and deletions that wait; more are refused."""
Chat: TypeAlias = Message | MessageEdited | MessageDeleted


class Pending:
    """The newest event of each user and server, and messages, in order and never too many."""

    def __init__(self) -> None:
        self._events: dict[tuple[object, ...], Event] = {}
        self._messages = 0
        self._number = 0
        self._wanted = asyncio.Event()
        self._ended = False

    def put(self, event: Event) -> None:
        """Add a change of a user or a server, or a `Reload`."""
        key = _key(event)
        self._events.pop(key, None)
        self._events[key] = event
        if len(self._events) - self._messages > MAX_EVENTS:
            self._events = {
                each: event for each, event in self._events.items() if isinstance(event, Chat)
            }
            self._events[_key(Reload())] = Reload()
        self._wanted.set()

    def say(self, chat: Chat) -> bool:
        """Add a message, an edit or a deletion; False if too many wait."""
        if self._messages >= MAX_MESSAGES:
            return False
        self._number += 1
        self._messages += 1
        self._events["chat", self._number] = chat
        self._wanted.set()
        return True

    def end(self) -> None:
        """End the stream."""
        self._ended = True
        self._wanted.set()

    async def events(self) -> AsyncGenerator[Event]:
        """Yield what is added, until `end`."""
        while True:
            await self._wanted.wait()
            if self._ended:
                return
            self._wanted.clear()
            events, self._events, self._messages = self._events, {}, 0
            for event in events.values():
                yield event


def _key(event: Event) -> tuple[object, ...]:
    match event:
        case UserChanged() | UserRemoved():
            return "user", event.server_id, event.uid
        case Reload():
            return "reload", event.server_id
    return "server", event.server_id
