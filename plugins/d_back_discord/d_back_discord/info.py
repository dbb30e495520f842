"""Answers a command with the address of the page that shows the guild."""

import asyncio
import logging

import discord
from yarl import URL

from d_back_core import Clock
from d_back_discord.config import DiscordConfig

COOLDOWN = 60.0
"""Seconds between two answers in one channel."""
MAX_CHANNELS = 1000
"""Channels whose last answer is remembered."""


class InfoCommand:
    """Answers ``info_command`` with ``info_url`` and the server's id.

    The id is the snowflake: an alias of the operator can make a short id that of another server.
    """

    def __init__(self, config: DiscordConfig, clock: Clock, log: logging.Logger) -> None:
        self._command = config.info_command
        self._url = config.info_url
        self._clock = clock
        self._log = log
        self._answered: dict[int, float] = {}
        self._answers: set[asyncio.Task[None]] = set()

    def on_message(self, message: discord.Message) -> None:
        """Answer the message if it is the command, and the channel's cooldown is over."""
        if self._url is None or message.content.strip() != self._command:
            return
        if message.author.bot or message.guild is None:
            return
        now = self._clock.time()
        self._answered = {
            channel: at for channel, at in self._answered.items() if now < at + COOLDOWN
        }
        if message.channel.id in self._answered or len(self._answered) >= MAX_CHANNELS:
            return
        self._answered[message.channel.id] = now
        url = URL(self._url).update_query(s=str(message.guild.id))
        task = asyncio.create_task(self._answer(message, str(url)))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def close(self) -> None:
        """Cancel answers that are still on their way."""
        answers = [*self._answers]
        for task in answers:
            task.cancel()
        if answers:
            await asyncio.wait(answers)

    async def _answer(self, message: discord.Message, url: str) -> None:
        try:
            await message.channel.send(url, allowed_mentions=discord.AllowedMentions.none())
        except (discord.DiscordException, OSError, TimeoutError) as error:
            self._log.info("cannot answer the info command: %s", error)
