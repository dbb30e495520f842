"""What something has left behind: tasks, sockets, threads, timers."""

import asyncio
import os
import socket
import stat
import threading

from d_back_testing.clock import ManualClock

EXECUTORS = ("asyncio_", "AnyIO worker thread")
"""How the threads of the event loop's own executor are called, and those of anyio's, which
``watchfiles.awatch`` uses; they end with the loop."""


class Leftovers:
    """What is there that was not there when this was made."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self._tasks = asyncio.all_tasks()
        self._sockets = sockets()
        self._threads = set(threading.enumerate())
        self._clock = clock

    def found(self) -> list[str]:
        """A few words for each of them."""
        tasks = asyncio.all_tasks() - self._tasks
        left = [
            f"task {task.get_name()} ({_where(task)})"
            for task in tasks
            if task is not asyncio.current_task()
        ]
        left += [text for key, text in sockets().items() if key not in self._sockets]
        left += [
            f"thread {thread.name}"
            for thread in threading.enumerate()
            if thread not in self._threads and not thread.name.startswith(EXECUTORS)
        ]
        if self._clock is not None and self._clock.pending:
            left.append(f"{self._clock.pending} timers of the clock")
        return sorted(left)


def sockets() -> dict[tuple[int, int], str]:
    """The sockets that this process holds; none are seen where there is no ``/dev/fd``."""
    found: dict[tuple[int, int], str] = {}
    for name in os.listdir("/dev/fd") if os.path.isdir("/dev/fd") else ():  # noqa: PTH112, PTH208  numbers, no paths
        try:
            status = os.fstat(int(name))
        except OSError:  # the one that listed the others
            continue
        if stat.S_ISSOCK(status.st_mode):
            found[status.st_dev, status.st_ino] = _ends(int(name))
    return found


def open_sockets() -> int:
    """How many sockets this process holds."""
    return len(sockets())


def _ends(fd: int) -> str:
    with socket.socket(fileno=os.dup(fd)) as end:
        own = _address(end.getsockname())
        try:
            return f"socket {own} to {_address(end.getpeername())}"
        except OSError:  # it listens, or the other end has gone
            return f"socket {own}"


def _address(address: object) -> str:
    return ":".join(map(str, address[:2])) if isinstance(address, tuple) else repr(address)


def _where(task: "asyncio.Task[object]") -> str:
    stack = task.get_stack(limit=1)
    coroutine = getattr(task.get_coro(), "__qualname__", "?")
    return f"{coroutine}, line {stack[0].f_lineno}" if stack else coroutine
