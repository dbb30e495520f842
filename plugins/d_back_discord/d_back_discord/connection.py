"""Our own connection to Discord, from login to close."""

import asyncio
from contextlib import suppress
from typing import Any, Protocol

import discord

from d_back_core import Secret
from d_back_discord import intents
from d_back_discord.client import OwnClient
from d_back_discord.config import DiscordConfig
from d_back_discord.host import Host
from d_back_discord.logs import OneLine
from d_back_discord.refusals import explained, intents_missing

CLOSE_PATIENCE = 0.8
"""Seconds for the gateway to answer the close frame."""
END_PATIENCE = 0.2
"""Seconds for discord.py to notice that it was closed; it may also be waiting for its next try."""
FIRST_RETRY, LAST_RETRY = 5.0, 600.0
"""Seconds before a new login, after discord.py has given up; doubled each time."""


class Listener(Protocol):
    """Who is told what happens; nothing of it may raise."""

    def follow(self, client: discord.Client) -> None:
        """This client is about to connect."""

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """discord.py's event of that name, without ``on_``."""

    def lost(self, reason: str) -> None:
        """The session is over; a new one begins after a while."""


class Connection:
    """Runs a client of our own. discord.py reconnects and resumes; where it gives up, on a
    token revoked or an error of its own, a new client logs in after a while."""

    def __init__(
        self, config: DiscordConfig, token: Secret, host: Host, listener: Listener
    ) -> None:
        self._config = config
        self._intents = intents.wanted(config)
        self._token = token
        self._host = host
        self._listener = listener
        self._lines = OneLine()
        self._client: OwnClient | None = None
        self._running: asyncio.Task[None] | None = None
        self._greeted: asyncio.Future[None] | None = None
        self._settled = asyncio.Event()
        """Whether discord.py has no task under way that waits for guilds."""
        self._settled.set()

    async def log_in(self) -> OwnClient:
        """Log in over REST; raises `ConfigError` for a token or intents that Discord refuses,
        and what discord.py raises where it cannot be asked."""
        self._lines.attach()
        with self._lines.speaking():
            client = OwnClient(self._config, self._intents, self._hear, self._host.clock)
            self._client = client
            try:
                await client.login(self._token.reveal())
            except discord.DiscordException as error:
                raise explained(error, None, self._intents) from error
        missing = intents.not_allowed(client.application, self._intents)
        if missing:
            raise intents_missing(missing)
        return client

    async def open(self) -> None:
        """Log in and connect; returns when the gateway has let the bot in, whatever guilds are
        still to come. Raises as `log_in`."""
        client = await self.log_in()
        self._greeted = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run(client), name="discord connection")
        await self._greeted

    async def close(self) -> None:
        """Leave Discord; may be called twice, and after a failed `open`."""
        task, self._running = self._running, None
        await self._leave()
        if task is not None:
            # Ended by itself it has ended its thread for heartbeats, too.
            await asyncio.wait([task], timeout=END_PATIENCE)
            task.cancel()
            await asyncio.wait([task])
        self._lines.detach()

    async def renew(self) -> None:
        """Begin a new session with a new client."""
        if self._client is not None:
            await self._client.close()

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "connect":
            self._settled.clear()
        elif event == "ready":
            self._settled.set()
        if event == "connect" and self._greeted is not None and not self._greeted.done():
            self._greeted.set_result(None)
        self._listener.heard(event, arguments)

    async def _run(self, client: OwnClient) -> None:
        with self._lines.speaking():
            while self._running is not None:
                self._listener.follow(client)
                ended = await self._connected(client)
                if self._running is None:
                    return
                if self._greeted is not None and not self._greeted.done():
                    self._greeted.set_exception(ended)
                    return
                client = await self._again(ended)

    async def _connected(self, client: OwnClient) -> Exception:
        """Stay connected as long as discord.py can; return why it gave up."""
        try:
            await client.connect()
        except Exception as error:  # noqa: BLE001  what the gateway sends can break any parser
            return explained(error, client.application, self._intents)
        return ConnectionError("the session was given up")

    async def _again(self, reason: Exception) -> OwnClient:
        wait = FIRST_RETRY
        while True:
            said = " ".join(str(reason).split()) or type(reason).__name__
            self._listener.lost(f"{said}; a new login in {wait:.0f} s")
            await self._leave()
            await self._host.clock.sleep(wait)
            try:
                return await self.log_in()
            except Exception as error:  # noqa: BLE001  discord.py raises whatever it meets
                reason, wait = error, min(2 * wait, LAST_RETRY)

    async def _leave(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(CLOSE_PATIENCE):
                await client.close()
        except TimeoutError:
            self._host.log.info("Discord did not answer the farewell")
        await client.http.close()
        # discord.py's task that waits for guilds survives `close`, and says so at its end.
        with suppress(TimeoutError):
            async with asyncio.timeout(END_PATIENCE):
                await self._settled.wait()
