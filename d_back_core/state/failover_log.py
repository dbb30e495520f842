"""Which providers the users of one server came from over time, and the deltas of each exchange."""

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from d_back_core.clock import Clock
from d_back_core.stats import Exchange

KEPT = 8
"""Exchanges that are remembered of each server."""


class _Noted(Struct, frozen=True):
    at: float
    before: tuple[str, ...]
    after: tuple[str, ...]
    epoch: str
    first: int
    last: int


class FailoverLog:
    """The providers in use, and the last exchanges. At first there are none in use."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.time()
        self._names: tuple[str, ...] = ()
        self._noted: deque[_Noted] = deque(maxlen=KEPT)

    @property
    def since(self) -> float:
        """Seconds for which the present ones have been in use."""
        return self._clock.time() - self._since

    @property
    def names(self) -> tuple[str, ...]:
        """The providers in use, highest priority first."""
        return self._names

    def note(self, names: Iterable[str], epoch: str, first: int, last: int) -> bool:
        """These are in use from now on. Returns True if they replace others.

        The exchange brought the deltas from ``first`` to ``last``, none if ``last`` is lower.
        """
        after, before = tuple(names), self._names
        if after == before:
            return False
        now = self._clock.time()
        if before:  # the beginning is not an exchange
            self._noted.append(_Noted(now, before, after, epoch, first, last))
        self._since, self._names = now, after
        return bool(before)

    def exchanges(self) -> list[Exchange]:
        """Return the last exchanges, the newest one last."""
        now = self._clock.time()
        return [
            Exchange(
                age=now - each.at,
                before=each.before,
                after=each.after,
                epoch=each.epoch,
                first=each.first,
                last=each.last,
            )
            for each in self._noted
        ]
