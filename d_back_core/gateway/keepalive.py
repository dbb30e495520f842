"""Pings for all clients, from one timer instead of a task for each of them."""

from typing import Protocol

from d_back_core.clock import Clock, Timer

INTERVAL = 20.0
"""Seconds between two pings of a client, and so what it has to answer one."""
SLOTS = 10
"""The clients are spread over these, so that they are not all pinged at once."""


class Pinged(Protocol):
    """Who is pinged."""

    def ping(self) -> None:
        """Ask for a sign of life; end the client where there was none since the last call."""


class Keepalive:
    """Pings everybody who was added, each once in ``INTERVAL``. Runs while there is anybody."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slots: list[set[Pinged]] = [set() for _ in range(SLOTS)]
        self._turn = 0
        self._timer: Timer | None = None

    def add(self, client: Pinged) -> None:
        """Ping it from now on; for the first time within ``INTERVAL``."""
        min(self._slots, key=len).add(client)
        if self._timer is None:
            self._timer = self._clock.call_later(INTERVAL / SLOTS, self._tick)

    def discard(self, client: Pinged) -> None:
        """Ping it no more."""
        for slot in self._slots:
            slot.discard(client)
        if self._timer is not None and not any(self._slots):
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = self._clock.call_later(INTERVAL / SLOTS, self._tick)
        self._turn = (self._turn + 1) % SLOTS
        for client in list(self._slots[self._turn]):
            client.ping()
