"""Our own connection to Discord, from login to close: REST, and the shards."""

import asyncio
from typing import Any, Protocol

import discord
from msgspec import convert

from d_back_core import Secret, Timer
from d_back_discord import intents
from d_back_discord.client import OwnClient
from d_back_discord.config import DiscordConfig
from d_back_discord.gateway import Gateway
from d_back_discord.host import Host
from d_back_discord.identify_budget import IdentifyBudget, StartLimit
from d_back_discord.logs import OneLine
from d_back_discord.refusals import PauseError, explained, intents_missing
from d_back_discord.shard import Shard, one_line

PUBLISH_INTERVAL = 600.0
"""Seconds between two updates of the metrics: what was used gets less as time passes."""
START_WAIT = 2.0
"""Seconds that a start waits for its turn to log in."""


class Listener(Protocol):
    """Follows what happens; its methods may not raise."""

    def follow(self, client: discord.Client) -> None:
        """This client is about to connect."""

    def on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take in discord.py's event of that name, without ``on_``."""

    def lost(self, shard: int, reason: str) -> None:
        """The session of that shard is over; a new one begins after a while."""

    def failed(self, error: BaseException) -> None:
        """The run cannot go on."""


class Connection:
    """Runs a client of our own, and its shards."""

    def __init__(
        self,
        config: DiscordConfig,
        token: Secret,
        host: Host,
        listener: Listener,
        budget: IdentifyBudget,
    ) -> None:
        self._config = config
        self._intents = intents.wanted(config)
        self._token = token
        self._host = host
        self._listener = listener
        self._budget = budget
        self._lines = OneLine()
        self._client: OwnClient | None = None
        self._shards: list[Shard] = []
        self._running: list[asyncio.Task[None]] = []
        self._greeted: asyncio.Future[None] | None = None
        self._publishing: Timer | None = None

    async def log_in(self) -> OwnClient:
        """Log in over REST; raises `ConfigError` for a token or intents that Discord refuses,
        and what discord.py raises if it cannot be asked."""
        self._require_turn()
        self._lines.attach()
        with self._lines.marked():
            client = OwnClient(self._config, self._intents, self._on_event, self._host.log)
            self._client = client
            try:
                await client.login(self._token.reveal())
            except discord.DiscordException as error:
                raise self._explained(error) from error
        self._require(client.application)
        return client

    async def open(self) -> None:
        """Log in and connect; returns when the gateway has let the bot in, whatever guilds are
        still to come. Raises as `log_in`, and `ConnectionError` if the first attempt fails, or
        would have to wait for longer than `START_WAIT`."""
        client = await self.log_in()
        with self._lines.marked():
            self._greeted = asyncio.get_running_loop().create_future()
            client.use_shards(await self._count_shards(), self._gateway)
            self._shards = [
                Shard(number, client, self, self._budget, self._host)
                for number in range(client.shard_count or 1)
            ]
            self._listener.follow(client)
            self._running = [
                asyncio.create_task(shard.run(), name=f"discord shard {shard.number}")
                for shard in self._shards
            ]
            for task in self._running:
                task.add_done_callback(self._failed)
        await self._greeted

    async def close(self) -> None:
        """Leave Discord; may be called twice, and after a failed `open`."""
        if self._publishing is not None:
            self._publishing.cancel()
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        self._lines.detach()

    def dropped(self, shard: int) -> None:
        self._listener.on_event("shard_disconnect", (shard,))

    def lost(self, shard: int, error: Exception, wait: float) -> None:
        reason = self._explained(error)
        text = f"{one_line(reason)}; a new session in {wait:.0f} s"
        if self._greeted is None or self._greeted.done():
            self._listener.lost(shard, text)
        else:
            self._greeted.set_exception(ConnectionError(text) if reason is error else reason)

    async def check(self) -> None:
        if self._client is None:
            return
        try:
            application = await self._client.application_info()
        except discord.DiscordException as error:
            raise self._explained(error) from error
        self._require(application)

    async def ask_limits(self) -> None:
        await self._recommended_shards()

    def identifies(self) -> None:
        self._publish()

    async def _count_shards(self) -> int:
        recommended = await self._recommended_shards()
        return recommended if self._config.shards == "auto" else self._config.shards

    async def _recommended_shards(self) -> int:
        """Ask Discord how many shards it recommends, and how many sessions may begin."""
        client = self._client
        recommended, limit = 1, StartLimit()
        if client is not None:
            try:
                recommended, _, session_starts = await client.http.get_bot_gateway()
                limit = convert(session_starts, StartLimit)
            except discord.RateLimited as error:
                raise self._explained(error) from error
            except discord.GatewayNotFound as error:
                # Another server with Discord's API may not have it.
                if isinstance(reason := self._explained(error.__cause__ or error), PauseError):
                    raise reason from error
        shards = len(self._shards) or recommended
        self._budget.limit(limit, shards, self._host.clock.time())
        return recommended

    def _publish(self) -> None:
        """Show the use of the budget in metrics, now and after a while."""
        if self._publishing is not None:
            self._publishing.cancel()
        clock = self._host.clock
        self._host.gauge("identifies in 24 h", self._budget.used(clock.time()))
        self._host.gauge("identifies allowed in 24 h", self._budget.daily)
        self._publishing = clock.call_later(PUBLISH_INTERVAL, self._publish)

    def _require_turn(self) -> None:
        """Raise if the wait is long: the core tries a failed start again, and shows the reason."""
        now = self._host.clock.time()
        wait = self._budget.wait(0, now)
        if wait > START_WAIT:
            why = self._budget.reason(0, now) or "the sessions before it were short"
            raise ConnectionError(f"{why}; the next login is possible in {wait:.0f} s")

    def _explained(self, error: BaseException) -> BaseException:
        application = None if self._client is None else self._client.application
        reason = explained(error, application, self._intents)
        if isinstance(reason, PauseError):
            self._budget.pause(reason.seconds, self._host.clock.time())
        return reason

    def _require(self, application: discord.AppInfo | None) -> None:
        missing = intents.not_allowed(application, self._intents)
        if missing:
            raise intents_missing(missing)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "shard_connect" and self._greeted is not None and not self._greeted.done():
            self._greeted.set_result(None)
        self._listener.on_event(event, arguments)

    def _gateway(self, shard: int) -> Gateway | None:
        return self._shards[shard].gateway

    def _failed(self, task: asyncio.Task[None]) -> None:
        """Fail the run, so that the core starts it again: only a bug ends the task of a shard."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        self._host.log.error("task %s failed", task.get_name(), exc_info=error)
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_exception(error)
        else:
            self._listener.failed(error)
