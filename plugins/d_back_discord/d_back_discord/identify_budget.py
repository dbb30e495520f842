"""When the bot may begin a new session: Discord resets the token of a bot that sends more than
1,000 IDENTIFYs in 24 hours.

Three rules, each of which alone keeps the bot far from that:

- Each shard's wait doubles with each new session. It shrinks again only by sessions that last: by
  one step for every `LASTING` seconds.
- No more than `DAILY` IDENTIFYs in any 24 hours; with half of them used, the rest is spread over
  the day. A bot of many shards has `DAILY_PER_SHARD` per shard, if that is more.
- Not when Discord's own count (``session_start_limit``) is nearly used up, by whatever program
  runs with the same token.
"""

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from d_back_core import Clock
from d_back_discord.waits import Waits, growing

DAY = 86_400.0
DAILY = 100
DAILY_PER_SHARD = 10
LASTING = 900.0
MAX_LEVEL = 9
"""The number of steps that lead to the longest wait."""
RESERVE = 10
"""IDENTIFYs of Discord's count that are left unused."""


class StartLimit(Struct, frozen=True, kw_only=True):
    """Discord's ``session_start_limit``."""

    total: int = 1000
    remaining: int = 1000
    reset_after: int = 0
    """Milliseconds."""
    max_concurrency: int = 1
    """How many shards may begin a session at the same time."""


class IdentifyBudget:
    """Counts the IDENTIFYs of one bot. It outlives the runs of a provider so that repeated starts
    count together."""

    def __init__(self, waits: Waits) -> None:
        self.waits = waits
        self._spent: deque[float] = deque()
        self._levels: defaultdict[int, int] = defaultdict(int)
        """The new sessions of each shard that no lasting one has compensated."""
        self._not_before: dict[int, float] = {}
        self._buckets: dict[int, float] = {}
        """Shards with the same number modulo `max_concurrency`: their last IDENTIFY."""
        self._slots: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._limit = StartLimit()
        self._limited_until = 0.0
        self._paused_until = 0.0
        self.daily = DAILY

    def used(self, now: float) -> int:
        """Return the number of IDENTIFYs in the last 24 hours."""
        while self._spent and self._spent[0] <= now - DAY:
            self._spent.popleft()
        return len(self._spent)

    def limit(self, limit: StartLimit, shards: int, now: float) -> None:
        """Take in Discord's limit."""
        self._limit = limit
        self.daily = min(max(DAILY, DAILY_PER_SHARD * shards), max(DAILY, limit.total // 2))
        self._limited_until = 0.0
        if limit.remaining <= RESERVE:
            self._limited_until = now + limit.reset_after / 1000

    def pause(self, seconds: float, now: float) -> None:
        """Send Discord nothing for so many seconds."""
        self._paused_until = now + seconds

    def wait(self, shard: int, now: float) -> float:
        """Return the seconds until that shard may begin a session."""
        until = max(self._not_before.get(shard, -math.inf), self._limited_until)
        until = max(until, self._paused_until)
        last = self._buckets.get(self._bucket(shard))
        if last is not None:
            until = max(until, last + self.waits.between_identifies)
        used = self.used(now)
        if used >= self.daily:
            until = max(until, self._spent[-self.daily] + DAY)
        elif used >= self.daily // 2:
            until = max(until, self._spent[-1] + DAY / (self.daily // 2))
        return max(0.0, until - now)

    @asynccontextmanager
    async def slot(self, shard: int, clock: Clock) -> AsyncIterator[None]:
        """Enter the block when that shard may begin a session. Other shards wait for its end, if
        they would come too soon after it."""
        await self.turn(shard, clock)  # may be long; other shards do not wait for it
        async with self._slots[self._bucket(shard)]:
            await self.turn(shard, clock)
            yield

    async def turn(self, shard: int, clock: Clock) -> None:
        """Return when that shard may begin a session."""
        while (wait := self.wait(shard, clock.time())) > 0:
            await clock.sleep(wait)

    def spend(self, shard: int, now: float) -> None:
        """Count an IDENTIFY of that shard."""
        self._spent.append(now)
        self._buckets[self._bucket(shard)] = now
        self._levels[shard] = min(self._levels[shard] + 1, MAX_LEVEL)
        self._postpone(shard, now)

    def ended(self, shard: int, lasted: float, now: float) -> None:
        """Note that a session of that shard is over, after so many seconds."""
        self._levels[shard] = max(0, self._levels[shard] - int(lasted // LASTING))
        self._postpone(shard, now)

    def reason(self, shard: int, now: float) -> str:
        """Return why that shard waits for longer than its own sessions require, or ""."""
        if self._paused_until > now:
            return "Discord limits the requests"
        if self._limited_until > now:
            return f"Discord allows only {self._limit.remaining} more logins"
        if self.used(now) >= self.daily // 2 and self.wait(shard, now):
            return f"{self.used(now)} of {self.daily} logins in 24 h are used"
        return ""

    def _postpone(self, shard: int, now: float) -> None:
        waits = self.waits
        wait = growing(waits.new_session, waits.longest_new_session, self._levels[shard])
        self._not_before[shard] = now + wait

    def _bucket(self, shard: int) -> int:
        return shard % max(1, self._limit.max_concurrency)
