"""Long loops in slices: clients are served in between."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

SLICE = 1000

T = TypeVar("T")


async def stepping(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, with a turn of the event loop after each slice."""
    for number, item in enumerate(items, 1):
        yield item
        if number % SLICE == 0:
            await asyncio.sleep(0)
