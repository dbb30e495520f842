import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from msgspec import structs

from d_back_core import Clock, Context, Message, UserChanged
from d_back_mock import MockConfig, MockProvider

Begin = Callable[..., Awaitable[MockProvider]]
Timed = Callable[[MockProvider, float], Awaitable[list[tuple[float, UserChanged | Message]]]]
Listen = Callable[[MockProvider, float], Awaitable[list[UserChanged | Message]]]


class ManualTimer:
    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock(Clock):
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[ManualTimer] = []

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(self._now + delay, callback)
        self._timers.append(timer)
        return timer

    def waiting(self) -> list[ManualTimer]:
        return [timer for timer in self._timers if not timer.cancelled]

    async def advance(self, seconds: float) -> None:
        end = self._now + seconds
        await settle()
        while due := [timer for timer in self.waiting() if timer.due <= end]:
            first = min(due, key=lambda timer: timer.due)
            self._timers.remove(first)
            self._now = first.due
            first.callback()
            await settle()
        self._timers = self.waiting()
        self._now = end


async def settle() -> None:
    """Give everything that is ready its turn."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def advance(clock: ManualClock) -> Callable[[float], Awaitable[None]]:
    """Move the time on by so many seconds; the loop runs after each timer on the way."""
    return clock.advance


@pytest.fixture
def timers(clock: ManualClock) -> Callable[[], int]:
    """How many timers are waiting."""
    return lambda: len(clock.waiting())


@pytest.fixture
def context(clock: Clock) -> Context:
    return Context(
        name="mock",
        log=logging.getLogger("d_back.providers.mock"),
        clock=clock,
        probe=False,
        degraded=pytest.fail,
        recovered=lambda: pytest.fail("it was never degraded"),
    )


@pytest.fixture
async def begin(context: Context) -> AsyncIterator[Begin]:
    """Make a provider with these options and start it; it is stopped after the test."""
    begun = []

    async def begin(**options: object) -> MockProvider:
        provider = MockProvider(structs.replace(MockConfig(), **options))
        begun.append(provider)
        await provider.start(context)
        return provider

    yield begin
    for provider in begun:
        await provider.stop()


@pytest.fixture
def timed(clock: ManualClock) -> Timed:
    """What the provider's stream brings within so many seconds, and when."""

    async def listen(
        provider: MockProvider, seconds: float
    ) -> list[tuple[float, UserChanged | Message]]:
        heard = []

        async def drain() -> None:
            async for event in provider.events():
                assert isinstance(event, UserChanged | Message)
                heard.append((clock.time(), event))

        draining = asyncio.create_task(drain())
        await clock.advance(seconds)
        assert not draining.done()
        draining.cancel()
        await asyncio.wait([draining])
        return heard

    return listen


@pytest.fixture
def listen(timed: Timed) -> Listen:
    """What the provider's stream brings within so many seconds."""

    async def listen(provider: MockProvider, seconds: float) -> list[UserChanged | Message]:
        return [event for _, event in await timed(provider, seconds)]

    return listen
