"""The one thread in which all work with SQLite is done.

Why the standard library's sqlite3 and not aiosqlite, which has such a thread, too: aiosqlite sends
each statement to its thread. A batch of a recorder is a transaction of many statements, and an
answer has up to 100,000 rows. Here each of them is one function, which runs without the event
loop, and which no other call can interleave. The thread of aiosqlite also keeps the process alive
until its last statement has ended; on a network drive that is gone, it never ends. This one is a
daemon.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Runs functions one after the other, in a thread from its first call to `end`."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    async def run(self, function: Callable[[], T]) -> T:
        """Return what the function returns. If this is cancelled, a function that has begun runs
        to its end."""
        if self._thread.ident is None:
            self._thread.start()
        future: Future[T] = Future()
        self._jobs.put((future, function))
        return await asyncio.wrap_future(future)

    async def end(self, last: Callable[[], None]) -> None:
        """Run this last and end the thread."""
        if self._thread.ident is None:
            return
        self._jobs.put((ended := Future[None](), last))
        self._jobs.put(None)
        await asyncio.wrap_future(ended)
        while self._thread.is_alive():  # noqa: ASYNC110  it has nothing left to do; join() blocks
            await asyncio.sleep(0.001)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001  of a function; its caller receives it
                future.set_exception(error)
            else:
                future.set_result(result)
            del future, function, job  # not kept until the next one comes
