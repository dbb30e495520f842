"""A discord.py bot that the embedding program runs."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import discord
from discord.ext import commands

from d_back_core import ConfigError
from d_back_discord.intents import not_in

Bot: TypeAlias = commands.Bot | commands.AutoShardedBot
Listener: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


def require_bot(bot: object) -> None:
    """Raise ``TypeError`` unless it is a bot with listeners."""
    if not isinstance(bot, commands.Bot | commands.AutoShardedBot):
        raise TypeError(
            "from_bot: expected a Bot or AutoShardedBot of discord.ext.commands, got"
            f" {type(bot).__module__}.{type(bot).__qualname__}, which has no listeners"
        )


class Embedded:
    """Hears the events of a running bot, or of one that will run; never logs it in or out."""

    def __init__(
        self,
        bot: Bot,
        needed: discord.Intents,
        heard: Callable[[str, tuple[Any, ...]], None],
        events: tuple[str, ...],
    ) -> None:
        self.bot = bot
        self._needed = needed
        self._heard = heard
        self._events = events
        self._listeners: dict[str, Listener] = {}

    def open(self) -> None:
        """Listen; raises `ConfigError` if the bot was made without an intent that is needed."""
        missing = not_in(self.bot.intents, self._needed)
        if missing:
            listed = ", ".join(missing)
            raise ConfigError(
                f"the bot asks Discord for too little: discord.Intents lacks {listed}"
            )
        for event in self._events:
            self._listeners[event] = self._listener(event)
            self.bot.add_listener(self._listeners[event], f"on_{event}")

    def close(self) -> None:
        """Listen no more; may be called twice."""
        for event, listener in self._listeners.items():
            self.bot.remove_listener(listener, f"on_{event}")
        self._listeners.clear()

    def _listener(self, event: str) -> Listener:
        async def listen(*arguments: Any) -> None:  # noqa: ANN401  discord.py's
            if event in self._listeners:  # not what was on its way when it was closed
                self._heard(event, arguments)

        return listen
