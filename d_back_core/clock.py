"""The one clock: every wait, deadline and age in the core is taken from it, so that a test can
hold the time and move it on by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None: ...


class Clock:
    """The running event loop's own time."""

    def time(self) -> float:
        """Monotonic seconds; only differences mean something."""
        return asyncio.get_running_loop().time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call back in ``delay`` seconds, on the event loop."""
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
            now = asyncio.get_running_loop().time
            timer = self.call_later(delay, lambda: scope.reschedule(now()))
            try:
                yield
            finally:
                timer.cancel()
