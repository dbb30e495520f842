"""Ending tasks that nats-py does not want to end: some of its calls swallow a cancellation, and
then return as if nothing had been."""

import asyncio
from typing import Any

AGAIN = 0.2
"""Seconds after which a task that is still there is cancelled again."""


async def ended(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel them, and return when they are done."""
    left = {task for task in tasks if task is not None}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN)
