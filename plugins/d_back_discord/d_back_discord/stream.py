"""The queue of events to the core: in order, and bounded."""

import asyncio
from collections import deque

from d_back_core import Event, Reload

MAX_EVENTS = 10_000
"""With more than that, to fetch everything again costs less."""


class Stream:
    """Events of one run of the provider. What overflows becomes one `Reload` of everything."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._ended = False
        self._error: BaseException | None = None
        self._wake = asyncio.Event()

    def put(self, event: Event) -> None:
        """Queue an event; nothing after `end`."""
        if self._ended:
            return
        if len(self._events) >= MAX_EVENTS:
            self._events.clear()
            event = Reload()
        self._events.append(event)
        self._wake.set()

    async def take(self) -> Event | None:
        """Return the next event, or None once the stream has ended; raises if the run failed."""
        while not self._events:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._wake.clear()
            await self._wake.wait()
        return self._events.popleft()

    def fail(self, error: BaseException) -> None:
        """End the stream: `take` raises the error from now on."""
        self._error = error
        self.end()

    def end(self) -> None:
        """Drop what is queued, and end the stream."""
        self._ended = True
        self._events.clear()
        self._wake.set()
