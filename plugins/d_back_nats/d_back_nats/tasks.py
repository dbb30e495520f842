"""Tasks that run until they are stopped.

Some calls of nats-py swallow a cancellation and return as if nothing had happened, so a task is
cancelled until it is done. A task that ends with an exception is logged and reported.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

AGAIN = 0.2
"""Seconds after which a task that still runs is cancelled again."""

log = logging.getLogger("d_back.nats")


def start_task(
    work: Coroutine[Any, Any, None], name: str, failed: Callable[[str], None]
) -> asyncio.Task[None]:
    """Start a task; ``failed`` is called if it ends with an exception."""

    def over(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", name, exc_info=error)
            failed(f"{name} failed")

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(over)
    return task


def is_cancelled() -> bool:
    """Return True if the current task has been cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def stop_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks, and return when they are done."""
    left = {task for task in tasks if task is not None}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN)
