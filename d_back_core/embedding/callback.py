"""One function of an embedding program, called the way it was written."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any


class Callback:
    """A registered function: async or plain, with or without its optional arguments.

    ``counts`` are the numbers of arguments that it may take, the preferred one first. Another
    signature raises ``TypeError`` at once, not at the first call.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        counts: Sequence[int],
        *,
        ttl: float = 0.0,
        blocking: bool = False,
    ) -> None:
        if not callable(function):
            raise TypeError(f"{function!r} is not a function")
        if blocking and inspect.iscoroutinefunction(function):
            raise TypeError(f"{function!r} is async: blocking=True is for plain functions")
        if not ttl >= 0:
            raise ValueError(f"ttl '{ttl}': expected seconds, 0 or more")
        self.ttl = ttl
        self._function = function
        self._blocking = blocking
        self._count = _taken(function, counts)

    async def __call__(self, *arguments: object) -> Any:  # noqa: ANN401  other people's code
        """Return what the function returns. A plain one runs on the event loop, or, with
        ``blocking``, in a thread, which continues after a time-out."""
        given = arguments[: self._count]
        if self._blocking:
            return await asyncio.to_thread(self._function, *given)
        answer = self._function(*given)
        return await answer if inspect.isawaitable(answer) else answer


def _taken(function: Callable[..., Any], counts: Sequence[int]) -> int:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-ins have no signature
        return counts[0]
    for count in counts:
        try:
            signature.bind(*(None,) * count)
        except TypeError:
            continue
        return count
    possible = " or ".join(map(str, sorted(counts)))
    raise TypeError(f"{function!r} must take {possible} positional arguments, not {signature}")
