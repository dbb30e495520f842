"""Requests for all members of a guild, which Discord answers in chunks of up to 1,000.

Discord answers one request per guild in 30 s, and refuses the next one with RATE_LIMITED. A
request that is refused, or not answered at all, is sent again in the same session: after the wait
that Discord asks for, or after a growing one. Meanwhile the guild is not whole.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import discord
from discord.state import ChunkRequest

from d_back_core import Clock
from d_back_discord.gateway import REQUEST_MEMBERS

AT_ONCE = 2
"""Guilds that wait for their members at the same time."""
SILENCE = 30.0
"""Seconds without a chunk after which a request counts as lost."""
LONGEST_WAIT = 600.0
MAX_PRESENCES = 75_000
"""In a guild with more members Discord sends presences only together with the members."""
REPORT = 10.0
"""Seconds between two log lines about the progress."""


class _UnansweredError(Exception):
    """The members did not come. ``wait``: the seconds that Discord asks to wait."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class MemberRequests:
    """Requests the members of guilds, of a few at a time. ``current``: see `Guilds.current`."""

    def __init__(
        self, current: Callable[[discord.Guild], bool], clock: Clock, log: logging.Logger
    ) -> None:
        self._current = current
        self._clock = clock
        self._log = log
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._limited: dict[int, asyncio.Future[float]] = {}
        """The guilds whose members are requested: the seconds to wait, once Discord refuses."""
        self._waiting = self._whole = 0
        self._report_at = 0.0

    async def members(self, guild: discord.Guild) -> list[discord.Member] | None:
        """Return all members; None if the session ends before they have come."""
        self._waiting += 1
        try:
            return await self._members(guild)
        finally:
            self._waiting -= 1
            self._whole += 1
            self._report()

    def rate_limited(self, refusal: Mapping[str, Any]) -> None:
        """Take in RATE_LIMITED, with its fields: Discord refuses a request for some seconds."""
        if refusal["opcode"] != REQUEST_MEMBERS:
            return
        limited = self._limited.get(int(refusal["meta"]["guild_id"]))
        if limited is not None and not limited.done():
            limited.set_result(float(refusal["retry_after"]))

    async def _members(self, guild: discord.Guild) -> list[discord.Member] | None:
        wait = SILENCE
        state = guild._state  # noqa: SLF001
        other = state._chunk_requests.get(guild.id)  # noqa: SLF001  of a bot's own author
        while True:
            async with self._turns:
                if not self._current(guild):
                    return None
                try:
                    return await self._asked(guild, other)
                except (_UnansweredError, OSError, discord.DiscordException) as error:
                    reason = str(error) or type(error).__name__
                    again = getattr(error, "wait", None)
            if not self._current(guild):
                return None
            other = None  # discord.py keeps a lost request, and would wait for it forever
            if again is None:
                again, wait = wait, min(2 * wait, LONGEST_WAIT)
            self._log.warning(
                "guild '%s': its members did not come: %s; asking again in %.0f s",
                guild.name,
                reason,
                again,
            )
            await self._clock.sleep(again)

    async def _asked(
        self, guild: discord.Guild, request: ChunkRequest | None
    ) -> list[discord.Member]:
        """Wait for the answer to that request, or send one; raises if it is not answered."""
        # Private: `Guild.chunk` has no way to ask for presences, nor to ask again after an
        # answer was lost.
        state = guild._state  # noqa: SLF001
        requests = state._chunk_requests  # noqa: SLF001
        limited = self._limited[guild.id] = asyncio.get_running_loop().create_future()
        try:
            if request is None:
                request = ChunkRequest(guild.id, guild.shard_id, state.loop, state._get_guild)  # noqa: SLF001
                requests[request.nonce] = request
                presences = (guild.member_count or 0) > MAX_PRESENCES
                await state.chunker(guild.id, presences=presences, nonce=request.nonce)
            return await self._answered(request, limited)
        finally:
            del self._limited[guild.id]
            if request is not None:  # one of a bot's author has another key, and stays
                requests.pop(request.nonce, None)

    async def _answered(
        self, request: ChunkRequest, limited: "asyncio.Future[float]"
    ) -> list[discord.Member]:
        answer = request.get_future()
        either: list[asyncio.Future[Any]] = [answer, limited]
        came = -1
        while len(request.buffer) > came:
            came = len(request.buffer)
            try:
                async with self._clock.timeout(SILENCE):
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            except TimeoutError:
                continue
            if limited.done():
                raise _UnansweredError("asked too soon (RATE_LIMITED)", limited.result())
            return answer.result()
        raise _UnansweredError(f"no answer in {SILENCE:.0f} s")

    def _report(self) -> None:
        if self._waiting == 0:
            self._whole = 0
        elif self._clock.time() >= self._report_at:
            self._report_at = self._clock.time() + REPORT
            self._log.info(
                "members of %d of %d guilds have come", self._whole, self._whole + self._waiting
            )
