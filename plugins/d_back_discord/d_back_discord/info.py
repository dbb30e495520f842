"""Tells the people of a guild where to see it."""

import asyncio
import logging

import discord
from yarl import URL

from d_back_core import Clock
from d_back_discord.config import DiscordConfig

COOLDOWN = 60.0
"""Seconds in which one channel gets one answer."""
MAX_CHANNELS = 1000
"""How many channels' last answers are remembered."""


class InfoCommand:
    """Answers ``info_command`` with ``info_url`` and the server's id.

    The id is the snowflake: a short one could be another server's, where the operator's aliases
    say so.
    """

    def __init__(self, config: DiscordConfig, clock: Clock, log: logging.Logger) -> None:
        self._command = config.info_command
        self._url = config.info_url
        self._clock = clock
        self._log = log
        self._answered: dict[int, float] = {}
        self._answers: set[asyncio.Task[None]] = set()

    def hear(self, message: discord.Message) -> None:
        """Answer, if it is the command, and that channel's cooldown is over."""
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
        """Give up answers that are still on their way."""
        answers = [*self._answers]
        for task in answers:
            task.cancel()
        if answers:
            await asyncio.wait(answers)

    async def _answer(self, message: discord.Message, url: str) -> None:
        try:
            await message.channel.send(url, allowed_mentions=discord.AllowedMentions.none())
        except (discord.DiscordException, OSError, TimeoutError) as error:
            self._log.info("the info command cannot be answered: %s", error)
