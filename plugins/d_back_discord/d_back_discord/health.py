"""The health of the connections to Discord's gateway.

Each shard is connected or not, and lost or not. It is lost when its connection is not resumed
within `PATIENCE`, when its session is over, and from a new session on until all its guilds are
read again. With all shards lost the provider is ``degraded``. With some of them lost it is not:
only their guilds cannot be answered. They get a ``Reload`` when the shard is lost or is back.
"""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from d_back_discord.host import Host

PATIENCE = 5.0
"""Seconds that a resume may take; Discord asks for one every few hours."""


class Timer(Protocol):
    def cancel(self) -> None: ...


class _Shard(Struct):
    connected: bool = False
    lost: str = ""
    """Why what is known may be out of date; "" if it is not."""
    timer: Timer | None = None


class Health:
    """Reports ``degraded`` when every connection is lost beyond a resume, ``recovered`` when one
    is there and its guilds are read again. ``changed`` is called for a shard of several."""

    def __init__(self, host: Host, changed: Callable[[int], None]) -> None:
        self._host = host
        self._changed = changed
        self._shards: dict[int, _Shard] = {}
        self._degraded = False
        self._closed = False

    def unsettled(self, shard: int) -> bool:
        """Return True if guilds of that shard are still to be read again."""
        return bool(self._shard(shard).lost)

    def lost_alone(self, shard: int) -> str:
        """Return why that shard is lost while others are not, or ""."""
        return "" if self._degraded else self._shard(shard).lost

    def disconnected(self, shard: int = 0) -> None:
        """Note that the connection is gone; it may be resumed at once, with nothing missed."""
        state = self._shard(shard)
        if not state.connected:
            return
        state.connected = False
        self._host.log.info("disconnected from Discord, resuming%s", self._named(shard))
        state.timer = self._host.clock.call_later(
            PATIENCE, lambda: self.lost("the connection to Discord is lost", shard)
        )

    def resumed(self, shard: int = 0) -> None:
        """Note that the session goes on; what was missed has been sent."""
        self._host.log.info("resumed the session with Discord%s", self._named(shard))
        self._shard(shard).connected = True
        self.settled(shard)

    def connected(self, shard: int, *, again: bool) -> None:
        """Note that a session has begun. ``again``: what was known before is to be read again."""
        self._shard(shard).connected = True
        if again:
            self.lost("Discord has begun a new session, reading everything again", shard)

    def settled(self, shard: int) -> None:
        """Note that all of that shard is known again, if it is connected."""
        state = self._shard(shard)
        if not state.connected:
            return
        self._cancel(state)
        if state.lost:
            state.lost = ""
            self._report(shard)

    def lost(self, reason: str, shard: int = 0) -> None:
        """Note that what is known of that shard may be out of date."""
        state = self._shard(shard)
        self._cancel(state)
        state.lost = reason
        self._report(shard)

    def close(self) -> None:
        """Report nothing more: the connection is about to be closed."""
        self._closed = True
        for state in self._shards.values():
            state.connected = False
            self._cancel(state)

    def _shard(self, shard: int) -> _Shard:
        return self._shards.setdefault(shard, _Shard())

    def _named(self, shard: int) -> str:
        return f" (shard {shard} of {len(self._shards)})" if len(self._shards) > 1 else ""

    def _report(self, shard: int) -> None:
        if self._closed:
            return
        lost = [state.lost for state in self._shards.values() if state.lost]
        self._host.gauge("shards", len(self._shards))
        self._host.gauge("shards lost", len(lost))
        was, self._degraded = self._degraded, len(lost) == len(self._shards)
        if self._degraded:
            self._host.degraded(self._shard(shard).lost)
        elif was:
            self._host.recovered()
        elif len(self._shards) > 1:
            reason = self._shard(shard).lost
            if reason:
                self._host.log.warning("shard %d: %s", shard, reason)
            self._changed(shard)

    def _cancel(self, state: _Shard) -> None:
        if state.timer is not None:
            state.timer.cancel()
            state.timer = None
