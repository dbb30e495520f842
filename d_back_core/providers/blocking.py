"""Tells when an awaitable holds up the event loop."""

from collections.abc import Awaitable, Callable, Generator
from time import perf_counter
from typing import Any, Generic, TypeVar

T = TypeVar("T")

TOO_LONG = 0.1
"""Seconds that one step, from one suspension to the next, may take."""


class TimedAwaitable(Generic[T]):
    """Awaits what it is given, and reports every step of it that took too long."""

    def __init__(self, awaitable: Awaitable[T], blocked: Callable[[float], None]) -> None:
        self._awaitable = awaitable
        self._blocked = blocked

    def __await__(self) -> Generator[Any, Any, T]:
        steps: Any = self._awaitable.__await__()
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
            except BaseException as error:  # noqa: BLE001  passed on as it is, as await does
                step, value = steps.throw, error
