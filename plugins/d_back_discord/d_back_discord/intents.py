"""The intents: which events Discord sends, and which of them the operator must allow first."""

import discord

from d_back_discord.config import DiscordConfig

PORTAL = "https://discord.com/developers/applications"

_PRIVILEGED = {
    "presences": ("Presence Intent", "gateway_presence"),
    "members": ("Server Members Intent", "gateway_guild_members"),
    "message_content": ("Message Content Intent", "gateway_message_content"),
}
"""discord.py's name of an intent → the portal's, and the flag of an application that has it."""


def wanted(config: DiscordConfig) -> discord.Intents:
    """Return the intents that this configuration needs, and no other."""
    intents = discord.Intents.none()
    intents.guilds = intents.members = intents.presences = True
    intents.guild_messages = config.chat != "off" or config.info_command is not None
    intents.message_content = config.chat == "text" or config.info_command is not None
    return intents


def not_in(intents: discord.Intents, needed: discord.Intents) -> list[str]:
    """Return the needed intents that a client does not have, by discord.py's names."""
    asked = dict(intents)
    return [name for name, on in needed if on and not asked[name]]


def not_allowed(application: discord.AppInfo | None, needed: discord.Intents) -> list[str]:
    """Return the privileged intents that are switched off in the portal, by the portal's names.
    Empty if the application has no flags."""
    if application is None or not application.flags.value:
        return []
    allowed = dict(application.flags)
    return [
        title
        for name, (title, flag) in _PRIVILEGED.items()
        if getattr(needed, name) and not (allowed[flag] or allowed[f"{flag}_limited"])
    ]


def privileged(needed: discord.Intents) -> list[str]:
    """Return the privileged ones of these intents, by the portal's names."""
    return [title for name, (title, _) in _PRIVILEGED.items() if getattr(needed, name)]
