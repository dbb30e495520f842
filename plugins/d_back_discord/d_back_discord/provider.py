"""The provider that d-back loads: its hooks."""

from collections.abc import AsyncIterator
from typing import Self

import click

from d_back_core import (
    Context,
    Credentials,
    Event,
    Grant,
    Server,
    User,
    hookimpl,
)
from d_back_discord import commands, names
from d_back_discord.config import DiscordConfig, token_of
from d_back_discord.embedded import Bot, require_bot
from d_back_discord.identify_budget import IdentifyBudget
from d_back_discord.public_ids import PublicIds
from d_back_discord.run import Kept, Run
from d_back_discord.waits import Waits


class DiscordProvider:
    """Every guild that a bot is in is a server. ``bot``: see `from_bot`. ``waits``: for tests."""

    Config = DiscordConfig

    def __init__(
        self, config: DiscordConfig, *, bot: Bot | None = None, waits: Waits | None = None
    ) -> None:
        self._config = config
        self._bot = bot
        self._token = token_of(config) if bot is None else None
        self._kept = Kept(PublicIds(), IdentifyBudget(waits or Waits()))
        self._run: Run | None = None
        self._context: Context | None = None

    @classmethod
    def from_bot(cls, bot: Bot, config: DiscordConfig | None = None) -> Self:
        """A provider that listens to a bot which the program runs, before or after it has
        logged in. It needs no token, and neither connects nor closes the bot. Raises
        ``TypeError`` for a plain `discord.Client`, which has no listeners."""
        require_bot(bot)
        return cls(config or DiscordConfig(), bot=bot)

    @hookimpl
    async def start(self, context: Context) -> None:
        """Log in and connect; returns when the gateway has let the bot in. Guilds come later,
        each with a `Reload` when it is whole."""
        if self._run is not None:
            return
        self._context = context
        self._run = Run(self._config, self._kept, context, token=self._token, bot=self._bot)
        await (self._run.log_in() if context.probe else self._run.begin())

    @hookimpl
    async def stop(self) -> None:
        """Leave Discord."""
        run, self._run = self._run, None
        if run is not None:
            await run.end()

    @hookimpl
    async def servers(self) -> dict[str, Server] | None:
        """Return all guilds; None until Discord has listed them."""
        servers = None if self._run is None else self._run.guilds.servers()
        if servers is not None and self._run is not None and self._context is not None:
            guilds = [layer.guild for layer in self._run.guilds.layers.values()]
            names.report(self._config, guilds, self._context)
        return servers

    @hookimpl
    async def users(self, server_id: str) -> dict[str, User] | None:
        """Return the members who are shown; None until the guild is whole, and while it is
        unavailable."""
        if self._run is None:
            return None
        layers = self._run.guilds.layers.values()
        if self._context is not None and all(layer.whole for layer in layers):
            names.report_users(self._config, [layer.guild for layer in layers], self._context)
        return self._run.guilds.users(server_id)

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        """Yield what happens from `start` to `stop`."""
        run = self._run
        while run is not None and (event := await run.stream.take()) is not None:
            yield event

    @hookimpl
    async def authorize(self, server_id: str, credentials: Credentials) -> bool | Grant | None:
        """Admit a member by an OAuth2 token of the bot's application. None for other servers and
        if no token is offered."""
        run = self._run
        return None if run is None else await run.access.authorize(server_id, credentials)

    @hookimpl
    async def reauthorize(self, server_id: str, person: str) -> bool | None:
        """Return True if that person may still see the server; None while its members are not
        known."""
        return None if self._run is None else self._run.access.reauthorize(server_id, person)

    @classmethod
    @hookimpl
    def commands(cls, group: click.Group) -> None:
        """``d-back discord audit`` and ``d-back discord invite``."""
        commands.add(group)
