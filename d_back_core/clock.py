"""The clock of every wait, deadline and age in the core. Tests replace it to move time by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol


class Timer(Protocol):
    """A scheduled call that can be cancelled."""

    def cancel(self) -> None: ...


class Clock:
    """The running event loop's clock."""

    def time(self) -> float:
        """Return monotonic seconds from an arbitrary origin."""
        return asyncio.get_running_loop().time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Schedule ``callback`` on the event loop in ``delay`` seconds."""
        return asyncio.get_running_loop().call_later(delay, callback)

    async def sleep(self, delay: float) -> None:
        """Return after ``delay`` seconds of this clock."""
        over = asyncio.Event()
        timer = self.call_later(delay, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()

    @asynccontextmanager
    async def timeout(self, delay: float) -> AsyncIterator[None]:
        """Cancel the block after ``delay`` seconds of this clock and raise ``TimeoutError``."""
        async with asyncio.timeout(None) as scope:
            # The scope's deadline is in loop time, ``delay`` in this clock's time: when this
            # clock's timer fires, the deadline becomes the present.
            now = asyncio.get_running_loop().time
            timer = self.call_later(delay, lambda: scope.reschedule(now()))
            try:
                yield
            finally:
                timer.cancel()
