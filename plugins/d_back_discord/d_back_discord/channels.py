"""Decides which channels' chat passes."""

import discord
from discord.abc import GuildChannel

from d_back_discord.config import DiscordConfig

ADULT = {discord.NSFWLevel.explicit, discord.NSFWLevel.age_restricted}
"""Levels of a whole guild at which Discord asks for an age."""


class Audience:
    """Decides by the channel's permissions and the operator's lists."""

    def __init__(self, config: DiscordConfig) -> None:
        self._ignored = _bare(config.ignore_channels)
        self._listened = None
        if config.listen_channels is not None:
            self._listened = _bare(config.listen_channels)

    def passes(self, channel: object) -> bool:
        """Return True if messages in that channel may be shown to everyone.

        A thread or a post of a forum has its own id and name and those of its channel; a private
        thread only its own.
        """
        if not isinstance(channel, GuildChannel | discord.Thread):
            return False
        if _names(channel) & self._ignored:
            return False
        if self._listened is None:
            return self.everyone_reads(channel)
        private = isinstance(channel, discord.Thread) and channel.is_private()
        names = _own_names(channel) if private else _names(channel)
        return bool(names & self._listened)

    def everyone_reads(self, channel: GuildChannel | discord.Thread) -> bool:
        """Return True if the guild's @everyone may read there. An age-restricted channel counts as
        not readable: a browser does not ask for an age."""
        if isinstance(channel, discord.Thread):
            parent = channel.parent
            return not channel.is_private() and parent is not None and self.everyone_reads(parent)
        if getattr(channel, "nsfw", False) or channel.guild.nsfw_level in ADULT:
            return False
        allowed = channel.permissions_for(channel.guild.default_role)
        if isinstance(channel, discord.VoiceChannel | discord.StageChannel):
            return allowed.view_channel and allowed.connect  # without it their chat is closed
        return allowed.view_channel


def place(channel: object) -> tuple[str, str] | None:
    """Return the id and the name of the channel that a message belongs to: of a thread, those of
    its parent. None if it is not known."""
    if isinstance(channel, discord.Thread):
        parent = channel.parent
        return None if parent is None else (str(parent.id), parent.name)
    if isinstance(channel, GuildChannel):
        return str(channel.id), channel.name
    return None


def _bare(names: frozenset[str]) -> set[str]:
    """Return the names without the ``#`` with which people write them."""
    return {name.removeprefix("#") for name in names}


def _own_names(channel: GuildChannel | discord.Thread) -> set[str]:
    return {str(channel.id), channel.name}


def _names(channel: GuildChannel | discord.Thread) -> set[str]:
    parent = channel.parent if isinstance(channel, discord.Thread) else None
    return _own_names(channel) | (_own_names(parent) if parent is not None else set())
