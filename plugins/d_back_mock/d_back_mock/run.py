"""When it happens: one line of time for all servers, from a start to a stop."""

import asyncio
from collections.abc import Callable, Iterable
from heapq import heapify, heapreplace
from random import Random
from typing import NamedTuple

from d_back_core import Clock, Message, Server, User, UserChanged
from d_back_mock.community import Community

MAX_LAG = 10.0
"""Seconds of the run that are made up for when it is drained late."""

JITTER = 0.25
"""By how much of the interval a gap is shorter or longer at most."""


class _Next(NamedTuple):
    """What comes next of one kind in one community, in the order in which it comes."""

    due: float
    """Seconds from the beginning of the run."""
    number: int
    """Decides between two that are due at the same time; unique."""
    interval: float
    happen: Callable[[Random], UserChanged | Message]


class Run:
    """All events of all communities, in one order that only the random numbers decide.

    An event happens when it is taken, so what the communities say agrees with the stream at
    every moment, and nothing piles up while no stream is open: up to `MAX_LAG` is then made up for
    at once, for the rest of the time the run has stood still.
    """

    def __init__(
        self,
        communities: Iterable[Community],
        random: Random,
        clock: Clock,
        *,
        presence_interval: float,
        message_interval: float,
    ) -> None:
        communities = list(communities)
        self._communities = {community.server_id: community for community in communities}
        self._random = random
        self._clock = clock
        self._origin = clock.time()
        self._ended = False
        self._wake = asyncio.Event()
        kinds = [
            (interval, happen)
            for community in communities
            for interval, happen in (
                (presence_interval, community.change),
                (message_interval, community.speak),
            )
            if interval
        ]
        # Begun at any point of its interval each, lest they all come at once.
        self._nexts = [
            _Next(random.uniform(0, interval), number, interval, happen)
            for number, (interval, happen) in enumerate(kinds)
        ]
        heapify(self._nexts)

    def servers(self) -> dict[str, Server]:
        """All servers, by server_id."""
        return {server_id: each.server for server_id, each in self._communities.items()}

    async def users(self, server_id: str) -> dict[str, User] | None:
        """All users of a server as they are now, by uid; None for other servers."""
        community = self._communities.get(server_id)
        return None if community is None else await community.users()

    async def next(self) -> UserChanged | Message | None:
        """What happens next, once it happens; None as soon as the run has ended."""
        return self.take() if await self.wait() else None

    async def wait(self) -> bool:
        """Return True as soon as an event is due, or False as soon as the run has ended."""
        while not self._ended:
            delay = self._delay()
            if delay is not None and delay <= 0:
                return True
            await self._pause(delay)
        return False

    def take(self) -> UserChanged | Message:
        """Let the next event happen, due or not."""
        due, number, interval, happen = self._nexts[0]
        gap = interval * self._random.uniform(1 - JITTER, 1 + JITTER)
        heapreplace(self._nexts, _Next(due + gap, number, interval, happen))
        return happen(self._random)

    def end(self) -> None:
        """End the run and every `wait` for it."""
        self._ended = True
        self._wake.set()

    def _delay(self) -> float | None:
        """Seconds until the next event, negative when it is late; None where none will come."""
        if not self._nexts:
            return None
        delay = self._origin + self._nexts[0].due - self._clock.time()
        if delay < -MAX_LAG:
            self._origin -= delay + MAX_LAG
        return delay

    async def _pause(self, delay: float | None) -> None:
        self._wake.clear()
        timer = None if delay is None else self._clock.call_later(delay, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()
