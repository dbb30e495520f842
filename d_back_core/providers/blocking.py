"""Report awaitables that block the event loop.

Timing every step of one awaitable finds the provider that blocks; asyncio's debug mode, which
times every callback of the whole process, costs far more and names only a task.
"""

from collections.abc import Awaitable, Callable, Generator
from time import perf_counter
from typing import Any, Generic, TypeVar

T = TypeVar("T")

TOO_LONG = 0.1
"""Seconds; a longer step, from one suspension to the next, is reported."""


class TimedAwaitable(Generic[T]):
    """Awaits an awaitable; calls ``blocked`` with the seconds of each step that is too long."""

    def __init__(self, awaitable: Awaitable[T], blocked: Callable[[float], None]) -> None:
        self.resumed_at: float | None = None
        """When it was last resumed, as ``perf_counter``; None if it was never suspended."""
        self._awaitable = awaitable
        self._blocked = blocked

    def __await__(self) -> Generator[Any, Any, T]:
        steps: Any = self._awaitable.__await__()
        # By hand, as `yield from` would do it: only between two steps is there a clock to read.
        step, value = steps.send, None
        while True:
            began = perf_counter()
            try:
                waited_for = step(value)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            finally:
                took = perf_counter() - began
                if took > TOO_LONG:
                    self._blocked(took)
            try:
                step, value = steps.send, (yield waited_for)
            except BaseException as error:  # noqa: BLE001  thrown into the awaitable, as await does
                step, value = steps.throw, error
            self.resumed_at = perf_counter()
