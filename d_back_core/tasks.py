"""Tasks with an owner: who starts one ends it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """The tasks of one object. Close it when the object ends; the error of a task is logged."""

    def __init__(self, log: logging.Logger, ended: Callable[[], None] | None = None) -> None:
        self._log = log
        self._ended = ended
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __bool__(self) -> bool:
        return bool(self._running)

    def start(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Run the coroutine in the background, on the running event loop. After `close` it is
        cancelled before its first step: it would have no owner."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        if self._closed:
            task.cancel()
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    async def join(self) -> None:
        """Return when none is running."""
        while self._running:  # again: a task may have started another one
            await asyncio.wait(self._running)

    async def close(self) -> None:
        """Cancel all and wait until they have ended; may be called twice.

        The calling task is not among those that are cancelled, even if it is one of them.
        """
        self._closed = True
        ending = [task for task in self._running if task is not asyncio.current_task()]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if self._ended is not None:
            self._ended()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("task %s failed", task.get_name(), exc_info=error)
