"""Who answered for one server, one after the other, and which deltas each exchange brought."""

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
    """The providers in use, and the exchanges that led to them. Begins with nobody."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.time()
        self._names: tuple[str, ...] = ()
        self._noted: deque[_Noted] = deque(maxlen=KEPT)

    @property
    def since(self) -> float:
        """Seconds that the present ones are in use."""
        return self._clock.time() - self._since

    def note(self, names: Iterable[str], epoch: str, first: int, last: int) -> None:
        """These are in use from now on; it took the deltas from ``first`` up to ``last``, which
        are none where ``last`` is lower."""
        after = tuple(names)
        if after == self._names:
            return
        now = self._clock.time()
        if self._names:  # the beginning is no exchange
            self._noted.append(_Noted(now, self._names, after, epoch, first, last))
        self._since, self._names = now, after

    def exchanges(self) -> list[Exchange]:
        """The last exchanges, the newest one last."""
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
