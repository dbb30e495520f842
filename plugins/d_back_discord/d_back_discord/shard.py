"""One shard: keeps a session with Discord's gateway, over as many connections as that takes.

A shard without a session waits for its turn in the `IdentifyBudget`, connects and sends IDENTIFY.
From READY on it has a session. When the connection ends, it connects again and resumes: at once
the first time, then after waits that grow up to a minute. Discord ends the session by a close
code, or by INVALID_SESSION as the answer to a RESUME. An outage alone never ends it,
so an outage costs no IDENTIFY.
"""

import asyncio
from typing import Any, Protocol

import aiohttp
import discord
from yarl import URL

from d_back_core import ConfigError
from d_back_discord.client import OwnClient
from d_back_discord.gateway import (
    KEEP,
    LEAVE,
    REFUSED_CODES,
    ConnectionEndedError,
    Gateway,
    Session,
)
from d_back_discord.host import Host
from d_back_discord.identify_budget import IdentifyBudget
from d_back_discord.waits import growing

LASTING = 60.0
"""Seconds after which a connection counts as a good one: the next attempt is at once."""
MAX_RESUMES = 5
"""Attempts in a row that reached the gateway and were not resumed, before the session is given
up; after as many that did not reach it, the gateway's usual address is tried, too."""
LONGEST_REFUSED = 600.0
"""Seconds between two checks of a bot that Discord refuses."""


class Listener(Protocol):
    """Follows what happens to a shard."""

    def dropped(self, shard: int) -> None:
        """The connection of a session has ended; the next one resumes it."""

    def lost(self, shard: int, error: Exception, wait: float) -> None:
        """There is no session; a new one begins in ``wait`` seconds, or later."""

    async def check(self) -> None:
        """Raise `ConfigError` if Discord still refuses the bot, without an IDENTIFY."""

    async def ask_limits(self) -> None:
        """Ask how many sessions may begin; raises if Discord cannot be reached."""

    def identifies(self) -> None:
        """An IDENTIFY is about to be sent."""


class Shard:
    """One of the bot's connections; ``run`` it in a task, and cancel that to leave Discord."""

    def __init__(
        self,
        number: int,
        client: OwnClient,
        listener: Listener,
        budget: IdentifyBudget,
        host: Host,
    ) -> None:
        self.number = number
        self.gateway: Gateway | None = None
        """The connection; None between two of them."""
        self._client = client
        self._listener = listener
        self._budget = budget
        self._waits = budget.waits
        self._clock = host.clock
        self._log = host.log
        self._session: Session | None = None
        self._began = 0.0
        """When the session began."""
        self._opened = 0.0
        """When the connection was opened."""
        self._up = False
        """True while the connection has a session: from READY or RESUMED on."""
        self._identified = False
        """True if this attempt has sent an IDENTIFY."""
        self._attempts = 0
        """Attempts in a row that brought no connection of `LASTING` seconds."""
        self._resumes = 0
        """Attempts in a row that reached the gateway, and that it did not answer with RESUMED."""
        self._refused = False
        """True from a close code that forbids to connect again, until the next READY."""

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                await self._connected()
            except (OSError, aiohttp.ClientError, discord.DiscordException, ConfigError) as error:
                wait = self._wait_after(error)
                if wait:
                    await self._clock.sleep(wait)

    async def _connected(self) -> None:
        """Connect and pass on events until the connection ends, which raises."""
        self._identified = False
        code = KEEP
        try:
            gateway = await (
                self._begin() if self._session is None else self._resume(self._session)
            )
            await gateway.run()
        except asyncio.CancelledError:
            code = LEAVE
            raise
        finally:
            ended, self.gateway = self.gateway, None
            if ended is not None:
                await ended.close(code)

    async def _begin(self) -> Gateway:
        """Ask for a new session."""
        async with self._budget.slot(self.number, self._clock):
            if self._refused:
                await self._listener.check()
            await self._listener.ask_limits()
            await self._budget.turn(self.number, self._clock)  # by the limits of this moment
            gateway = await self._open(self._client.gateway_url)
            self._identified = True
            self._budget.spend(self.number, self._clock.time())
            self._listener.identifies()
            shard = self.number, self._client.shard_count or 1
            await gateway.identify(self._token, self._client.intents.value, shard)
        return gateway

    async def _resume(self, session: Session) -> Gateway:
        """Ask for the rest of the session."""
        usual = self._client.gateway_url
        url = session.url or usual
        gateway = await self._open(url if self._attempts < MAX_RESUMES else usual)
        self._resumes += 1
        await gateway.resume(self._token, session)
        return gateway

    async def _open(self, url: URL) -> Gateway:
        self.gateway = await Gateway.open(self._client.http, url, self._clock, self._take)
        self._opened = self._clock.time()
        return self.gateway

    @property
    def _token(self) -> str:
        return self._client.http.token or ""

    def _take(self, event: str, fields: Any) -> None:  # noqa: ANN401  any JSON
        gateway = self.gateway
        if event == "READY" and gateway is not None:
            self._session = gateway.session
            self._began = self._clock.time()
            self._refused = False
        if event in {"READY", "RESUMED"}:
            self._resumes = 0
            self._up = True
        try:
            self._client.take(event, fields, self.number)
        except Exception as error:
            # Only READY raises: without it there is no session.
            reason = f"{event} cannot be read: {type(error).__name__}: {error}"
            raise ConnectionEndedError(reason, resumable=False) from error

    def _wait_after(self, error: Exception) -> float:
        """Take in why the attempt ended; return the seconds until the next one."""
        now = self._clock.time()
        if self._up:
            self._up = False
            self._listener.dropped(self.number)
            if now >= self._opened + LASTING:
                self._attempts = 0
        ended = isinstance(error, ConnectionEndedError) and not error.resumable
        if ended or self._resumes >= MAX_RESUMES or (self._identified and self._session is None):
            return self._end(error, now)
        self._attempts += 1
        if self._session is None:
            longest = LONGEST_REFUSED if self._refused else self._waits.longest_reconnect
            wait = growing(self._waits.reconnect, longest, self._attempts)
            self._listener.lost(self.number, error, wait)
            return wait
        if self._attempts == 1:
            return 0.0
        wait = growing(self._waits.reconnect, self._waits.longest_reconnect, self._attempts - 1)
        self._log.warning("%s; connecting again in %.0f s", one_line(error), wait)
        return wait

    def _end(self, error: Exception, now: float) -> float:
        """The session is over, or could not begin."""
        lasted = 0.0 if self._session is None else now - self._began
        self._session = None
        self._attempts = self._resumes = 0
        self._refused = isinstance(error, ConnectionEndedError) and error.code in REFUSED_CODES
        self._budget.ended(self.number, lasted, now)
        self._listener.lost(self.number, error, self._budget.wait(self.number, now))
        return 0.0  # the budget's wait comes first


def one_line(error: BaseException) -> str:
    """Return the text of the error in one line."""
    return " ".join(str(error).split()) or type(error).__name__
