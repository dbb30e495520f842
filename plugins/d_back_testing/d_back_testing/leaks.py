"""Tasks, sockets, threads and timers that code under test does not release."""

import asyncio
import os
import socket
import stat
import threading

from d_back_testing.clock import ManualClock

EXECUTORS = ("asyncio_", "AnyIO worker thread")
"""Prefixes of the names of executor threads: those of the event loop, and those of anyio, which
``watchfiles.awatch`` uses. They end with the loop."""


class Leaks:
    """Finds what exists now and did not exist when this object was made."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self._tasks = asyncio.all_tasks()
        self._sockets = sockets()
        self._threads = set(threading.enumerate())
        self._clock = clock

    def found(self) -> list[str]:
        """Return a short description of each leak."""
        tasks = asyncio.all_tasks() - self._tasks
        left = [
            f"task {task.get_name()} ({_position(task)})"
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
    """Return the open sockets of this process; empty if the system has no ``/dev/fd``."""
    found: dict[tuple[int, int], str] = {}
    for name in os.listdir("/dev/fd") if os.path.isdir("/dev/fd") else ():  # noqa: PTH112, PTH208  numbers, not paths
        try:
            status = os.fstat(int(name))
        except OSError:  # the descriptor that listed the others
            continue
        if stat.S_ISSOCK(status.st_mode):
            found[status.st_dev, status.st_ino] = _addresses(int(name))
    return found


def open_sockets() -> int:
    """Return the number of open sockets of this process."""
    return len(sockets())


def _addresses(fd: int) -> str:
    with socket.socket(fileno=os.dup(fd)) as opened:
        own = _address(opened.getsockname())
        try:
            return f"socket {own} to {_address(opened.getpeername())}"
        except OSError:  # it listens, or the peer has closed
            return f"socket {own}"


def _address(address: object) -> str:
    return ":".join(map(str, address[:2])) if isinstance(address, tuple) else repr(address)


def _position(task: "asyncio.Task[object]") -> str:
    stack = task.get_stack(limit=1)
    coroutine = getattr(task.get_coro(), "__qualname__", "?")
    return f"{coroutine}, line {stack[0].f_lineno}" if stack else coroutine
