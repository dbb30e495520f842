"""A discord.py bot that the embedding program runs."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import discord
from discord.ext import commands

from d_back_core import ConfigError
from d_back_discord.intents import not_in

Bot: TypeAlias = commands.Bot | commands.AutoShardedBot
RATE_LIMITED = "RATE_LIMITED"
Listener: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


def require_bot(bot: object) -> None:
    """Raise ``TypeError`` unless it is a bot with listeners."""
    if not isinstance(bot, commands.Bot | commands.AutoShardedBot):
        raise TypeError(
            "from_bot: expected a Bot or AutoShardedBot of discord.ext.commands, got"
            f" {type(bot).__module__}.{type(bot).__qualname__}, which has no listeners"
        )


class Embedded:
    """Listens to the events of a bot that runs or will run; never logs it in or out."""

    def __init__(
        self,
        bot: Bot,
        needed: discord.Intents,
        on_event: Callable[[str, tuple[Any, ...]], None],
        events: tuple[str, ...],
    ) -> None:
        self.bot = bot
        self._needed = needed
        self._on_event = on_event
        self._events = events
        self._listeners: dict[str, Listener] = {}

    def open(self) -> None:
        """Listen; raises `ConfigError` if the bot was made without an intent that is needed."""
        missing = not_in(self.bot.intents, self._needed)
        if missing:
            listed = ", ".join(missing)
            raise ConfigError(f"the bot needs more intents: its discord.Intents lacks {listed}")
        for event in self._events:
            self._listeners[event] = self._listener(event)
            self.bot.add_listener(self._listeners[event], f"on_{event}")
        # discord.py drops this event. Its public `on_socket_event_type` gives only the name, and
        # `on_socket_raw_receive` is off by default, so the private table of parsers is what is
        # left. Without it a refused request counts as lost after a while.
        self._parsers().setdefault(RATE_LIMITED, self._rate_limited)

    def close(self) -> None:
        """Stop listening; may be called twice."""
        for event, listener in self._listeners.items():
            self.bot.remove_listener(listener, f"on_{event}")
        self._listeners.clear()
        if self._parsers().get(RATE_LIMITED) == self._rate_limited:
            del self._parsers()[RATE_LIMITED]

    def _parsers(self) -> dict[str, Callable[[Any], None]]:
        return getattr(self.bot._connection, "parsers", {})  # noqa: SLF001

    def _rate_limited(self, refusal: Any) -> None:  # noqa: ANN401  any JSON
        self._on_event("rate_limited", (refusal,))

    def _listener(self, event: str) -> Listener:
        async def listen(*arguments: Any) -> None:  # noqa: ANN401  discord.py's
            if event in self._listeners:  # an event may be on its way when it is closed
                self._on_event(event, arguments)

        return listen
