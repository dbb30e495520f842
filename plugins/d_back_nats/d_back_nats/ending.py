"""Tasks that go on until they are ended.

nats-py does not always want to end: some of its calls swallow a cancellation, and return as if
nothing had been. And a task that dies of a mistake of ours must not do so in silence.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

AGAIN = 0.2
"""Seconds after which a task that is still there is cancelled again."""

log = logging.getLogger("d_back.nats")


def begun(
    work: Coroutine[Any, Any, None], name: str, failed: Callable[[str], None]
) -> asyncio.Task[None]:
    """Do that in the background; ``failed`` hears if it ends by itself in an exception."""

    def over(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", name, exc_info=error)
            failed(f"{name} failed")

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(over)
    return task


def is_cancelled() -> bool:
    """Whether somebody has cancelled the task that is running."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def ended(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel them, and return when they are done."""
    left = {task for task in tasks if task is not None}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN)
