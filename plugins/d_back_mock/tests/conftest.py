import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from msgspec import structs

from d_back_core import Clock, Context
from d_back_mock import MockConfig, MockProvider

Begin = Callable[..., Awaitable[MockProvider]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


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
