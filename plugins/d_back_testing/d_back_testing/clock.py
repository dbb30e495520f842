"""A clock that only the test moves."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from d_back_core import Clock

TURNS = 20
"""Turns of the event loop between two timers, so that what the first one started can run."""


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock(Clock):
    """A clock that stands still until `advance` moves it, so that no test has to sleep."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = count()

    def time(self) -> float:
        return self._now

    @property
    def pending(self) -> int:
        """The number of timers that are neither fired nor cancelled."""
        return sum(not timer.cancelled for _, _, timer in self._timers)

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(callback)
        heapq.heappush(self._timers, (self._now + delay, next(self._numbers), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Move the clock. Every timer that becomes due fires, in order and at its own time."""
        end = self._now + seconds
        await _turns()
        while self._timers and self._timers[0][0] <= end:
            at, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, at)
            if not timer.cancelled:
                timer.callback()
                await _turns()
        self._now = end
        await _turns()


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)
