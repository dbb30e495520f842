"""Pings for all clients from one timer, instead of a task per client."""

from typing import Protocol

from d_back_core.clock import Clock, Timer

INTERVAL = 20.0
"""Seconds between two pings of a client, in which it must answer."""
SLOTS = 10
"""Groups of clients that are pinged one after another, so that not all are pinged at once."""


class Pinged(Protocol):
    """A client that is pinged."""

    def ping(self) -> None:
        """Send a ping; end the client if nothing arrived from it since the last call."""


class Keepalive:
    """Pings every client that was added once per ``INTERVAL``. Its timer runs while there are
    clients."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slots: list[set[Pinged]] = [set() for _ in range(SLOTS)]
        self._turn = 0
        self._timer: Timer | None = None

    def add(self, client: Pinged) -> None:
        """Ping the client from now on; the first ping comes within ``INTERVAL``."""
        min(self._slots, key=len).add(client)
        if self._timer is None:
            self._timer = self._clock.call_later(INTERVAL / SLOTS, self._tick)

    def discard(self, client: Pinged) -> None:
        """Stop pinging the client."""
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
