"""A clock that stands still until it is moved."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from d_back_core.clock import Clock, Timer

TURNS = 20
"""Turns of the event loop that what a timer began gets before the next timer fires."""


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock(Clock):
    """Time goes on by `advance` only, so that nothing in a test has to wait."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = count()

    def time(self) -> float:
        return self._now

    @property
    def pending(self) -> int:
        """How many timers are still to come."""
        return sum(not timer.cancelled for _, _, timer in self._timers)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = _Timer(callback)
        heapq.heappush(self._timers, (self._now + delay, next(self._numbers), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Let that much time pass: everything that is due happens, in order, each at its time."""
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
