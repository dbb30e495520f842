"""Passes the events of one provider's stream on, and gives way to the rest of the gateway."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter

from d_back_core.models import Event
from d_back_core.providers.blocking import TimedAwaitable

EVENTS_PER_TURN = 256
SECONDS_PER_TURN = 0.01
"""A stream that never awaits gives way to the rest of the gateway after so many events or so much
time, whichever comes first."""
LONGEST_PAUSE = 1.0


async def pass_on(
    stream: AsyncIterator[Event],
    on_event: Callable[[Event], None],
    on_blocking: Callable[[float], None],
    has_ended: Callable[[], bool],
) -> None:
    """Call ``on_event`` with each event, until the stream returns. ``on_blocking`` receives the
    seconds of each step that blocked the event loop. A stream that ignores its cancellation is
    left as soon as ``has_ended`` returns True."""
    blocked = 0.0

    def note(took: float) -> None:
        nonlocal blocked
        blocked = took
        on_blocking(took)

    count, turn_began = 0, perf_counter()
    async with _closing(stream):
        while True:
            following = TimedAwaitable(anext(stream), note)
            try:
                event = await following
            except StopAsyncIteration:
                return
            finally:
                if has_ended():  # it has ignored its cancellation
                    raise asyncio.CancelledError
            if following.resumed_at is not None:  # the others had their turn while it waited
                count, turn_began = 0, following.resumed_at
            on_event(event)
            count += 1
            took = perf_counter() - turn_began
            if count >= EVENTS_PER_TURN or took >= SECONDS_PER_TURN or blocked:
                # After a step that blocked the loop, the others get as much time as it took.
                await asyncio.sleep(min(blocked, LONGEST_PAUSE))
                count, turn_began, blocked = 0, perf_counter(), 0.0


@asynccontextmanager
async def _closing(stream: AsyncIterator[Event]) -> AsyncIterator[None]:
    """Close the generator at once, not whenever it is collected."""
    try:
        yield
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
