"""Which messages pass, and what of them."""

from collections.abc import Callable

import discord

from d_back_core import Event, Message
from d_back_discord.channels import Audience, place
from d_back_discord.config import DiscordConfig
from d_back_discord.layer import Layer
from d_back_discord.members import Rules
from d_back_discord.text import readable

ACTIVITY = "…"
"""What is shown of a message with ``chat = "activity"``."""


class Chat:
    """Messages of members who are shown, from channels that may be shown."""

    def __init__(self, config: DiscordConfig, rules: Rules, put: Callable[[Event], None]) -> None:
        self._config = config
        self._rules = rules
        self._put = put
        self._audience = Audience(config)

    def hear(self, message: discord.Message, layer: Layer, me: int | None) -> None:
        """Pass on a message of that guild; ``me`` is the bot's own id."""
        author = message.author
        if self._config.chat == "off" or author.id == me or message.is_system():
            return
        if author.bot and not self._config.bots:
            return
        where = place(message.channel)
        if where is None or not isinstance(author, discord.Member):
            return
        # What is in use may be of before; the author's roles came with the message.
        if not layer.shows(author.id) or self._rules.hides(author):
            return
        if not self._audience.passes(message.channel):
            return
        text = ACTIVITY
        if self._config.chat == "text":
            text = readable(message, self._rules, self._audience)
        if text:
            channel, name = where
            self._put(
                Message(
                    server_id=layer.server_id,
                    uid=str(author.id),
                    message=text,
                    channel=channel,
                    channel_name=name,
                )
            )
