"""Whether the connection to Discord's gateway stands, and who is told when it does not."""

from typing import Protocol

from d_back_discord.host import Host

PATIENCE = 5.0
"""Seconds that a resume may take; Discord asks for one every few hours."""


class Timer(Protocol):
    def cancel(self) -> None: ...


class Health:
    """Says ``degraded`` when the connection is lost beyond a resume, ``recovered`` when all is
    read anew."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._connected = False
        self._lost = False
        self._timer: Timer | None = None

    @property
    def unsettled(self) -> bool:
        """Whether something is still to be read anew."""
        return self._lost

    def disconnected(self) -> None:
        """The connection is gone; it may be resumed at once, with nothing missed."""
        if not self._connected:
            return
        self._connected = False
        self._host.log.info("disconnected from Discord, resuming")
        self._timer = self._host.clock.call_later(
            PATIENCE, lambda: self.lost("the connection to Discord is lost")
        )

    def resumed(self) -> None:
        """The session goes on; what was missed has been sent."""
        self._host.log.info("resumed the session with Discord")
        self._connected = True
        self.settled()

    def connected(self, *, anew: bool) -> None:
        """A session has begun; ``anew``: what was known of a former one is to be read again."""
        self._connected = True
        if anew:
            self.lost("Discord has begun a new session, reading everything anew")

    def settled(self) -> None:
        """All is known again, if the connection stands."""
        if not self._connected:
            return
        self._cancel()
        if self._lost:
            self._lost = False
            self._host.recovered()

    def lost(self, reason: str) -> None:
        """What is known may be out of date."""
        self._cancel()
        self._lost = True
        self._host.degraded(reason)

    def close(self) -> None:
        """Say nothing more: that the connection goes is what is wanted now."""
        self._connected = False
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
