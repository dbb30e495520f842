"""Decides which messages pass, and follows their edits and deletions."""

from collections.abc import Callable
from datetime import datetime

import discord
from msgspec import Struct

from d_back_core import Event, Message, MessageDeleted, MessageEdited
from d_back_discord.channels import Audience, place
from d_back_discord.config import DiscordConfig
from d_back_discord.layer import Layer
from d_back_discord.members import Rules
from d_back_discord.text import readable
from d_back_discord.thread_lookup import ThreadLookup

ACTIVITY = "…"
"""The text of every message with ``chat = "activity"``."""
MAX_PASSED = 10_000
"""Messages that are remembered, so that their deletion reaches clients even if their channel is
gone."""


class _Passed(Struct, frozen=True):
    """A message that has passed."""

    channel: str
    channel_name: str
    edited_at: datetime | None


class Chat:
    """Messages of members who are shown, from channels that may be shown."""

    def __init__(
        self,
        config: DiscordConfig,
        rules: Rules,
        put: Callable[[Event], None],
        threads: ThreadLookup,
    ) -> None:
        self._config = config
        self._rules = rules
        self._put = put
        self._threads = threads
        self._audience = Audience(config)
        self._passed: dict[int, _Passed] = {}

    def on_message(self, message: discord.Message, layer: Layer, me: int | None) -> None:
        """Pass on a message of that guild; ``me`` is the bot's own id."""
        if not self._admits(message, layer, me):
            return
        channel = self._threads.channel(message)
        if channel is None:
            # Everything is decided again then: the author may be hidden by now.
            self._threads.wait(message, lambda newest: self.on_message(newest, layer, me))
            return
        passed = self._passing(message, channel)
        if passed is None:
            return
        where, text = passed
        self._remember(message, where)
        self._put(
            Message(
                server_id=layer.server_id,
                uid=str(message.author.id),
                message=text,
                channel=where.channel,
                channel_name=where.channel_name,
                id=str(message.id),
                at=message.created_at,
            )
        )

    def on_edit(self, message: discord.Message, layer: Layer, me: int | None) -> None:
        """Pass on the new text of a message; its deletion if the new one may not be shown."""
        before = self._passed.get(message.id)
        if message.edited_at is None or (before and before.edited_at == message.edited_at):
            return  # links got their preview, or the message was pinned
        channel = self._threads.channel(message)
        passed = None
        if channel is None:
            self._threads.replace(message)
        elif self._admits(message, layer, me):
            passed = self._passing(message, channel)
        if passed is None:
            if before is not None:
                self._delete(message.id, before, layer)
            return
        where, text = passed
        self._remember(message, where)
        if self._config.chat == "text":
            self._put(
                MessageEdited(
                    server_id=layer.server_id,
                    uid=str(message.author.id),
                    message=text,
                    channel=where.channel,
                    channel_name=where.channel_name,
                    id=str(message.id),
                    at=message.edited_at,
                )
            )

    def on_deletion(self, message_id: int, channel_id: int, layer: Layer) -> None:
        """Pass on that a message is gone. If it is not remembered, because of a restart, that
        passes if its channel may be shown."""
        self._threads.forget(channel_id, message_id)
        where = self._passed.get(message_id)
        if where is None and self._config.chat != "off":
            channel = layer.guild.get_channel_or_thread(channel_id)
            at = place(channel)
            if at is not None and self._audience.passes(channel):
                where = _Passed(*at, None)
        if where is not None:
            self._delete(message_id, where, layer)

    def _delete(self, message_id: int, where: _Passed, layer: Layer) -> None:
        self._passed.pop(message_id, None)
        self._put(
            MessageDeleted(
                server_id=layer.server_id,
                channel=where.channel,
                channel_name=where.channel_name,
                id=str(message_id),
            )
        )

    def _admits(self, message: discord.Message, layer: Layer, me: int | None) -> bool:
        """Return True if messages of this kind and author pass."""
        author = message.author
        if self._config.chat == "off" or author.id == me or message.is_system():
            return False
        if author.bot and not self._config.passes_bot_chat:
            return False
        # The layer may be out of date; the author's roles came with the message.
        if not isinstance(author, discord.Member):
            return False
        return layer.shows(author.id) and not self._rules.hides(author)

    def _passing(self, message: discord.Message, channel: object) -> tuple[_Passed, str] | None:
        """Return the channel and the text, or None if the message does not pass there."""
        where = place(channel)
        if where is None or not self._audience.passes(channel):
            return None
        text = ACTIVITY
        if self._config.chat == "text":
            text = readable(message, self._rules, self._audience)
        return (_Passed(*where, message.edited_at), text) if text else None

    def _remember(self, message: discord.Message, where: _Passed) -> None:
        self._passed.pop(message.id, None)
        self._passed[message.id] = where
        if len(self._passed) > MAX_PASSED:
            del self._passed[next(iter(self._passed))]
