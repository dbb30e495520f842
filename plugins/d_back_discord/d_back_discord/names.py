"""Reports names in the options that match nothing on Discord."""

from collections.abc import Iterable

import discord

from d_back_core import Context
from d_back_discord.config import DiscordConfig

ROLES = ("roles", "opt_out_role", "require_role")
CHANNELS = ("ignore_channels", "listen_channels")


def report(config: DiscordConfig, guilds: Iterable[discord.Guild], context: Context) -> None:
    """Report them, and the channels of each guild. ``guilds`` are all that are served."""
    guilds = list(guilds)
    ids = {str(guild.id) for guild in guilds}
    context.unresolved("guilds", sorted((config.guilds or frozenset()) - ids), ids)
    roles = {
        name for guild in guilds for role in guild.roles for name in (role.name, str(role.id))
    }
    for key in ROLES:
        context.unresolved(key, sorted(_named(config, key) - roles), roles)
    channels: set[str] = set()
    for guild in guilds:
        own = _channels(guild)
        context.channels(str(guild.id), own)
        channels |= own
    for key in CHANNELS:
        missing = (name for name in _named(config, key) if name.removeprefix("#") not in channels)
        context.unresolved(key, sorted(missing), channels)


def report_users(config: DiscordConfig, guilds: Iterable[discord.Guild], context: Context) -> None:
    """Report ids of members in ``ignore_users``. ``guilds`` are all, with all their members."""
    if not config.ignore_users:
        return
    guilds = list(guilds)
    missing = [each for each in config.ignore_users if not _is_member(each, guilds)]
    context.unresolved("ignore_users", sorted(missing), ())


def _is_member(user_id: str, guilds: list[discord.Guild]) -> bool:
    number = int(user_id) if user_id.isdecimal() else 0
    return any(guild.get_member(number) is not None for guild in guilds)


def _named(config: DiscordConfig, key: str) -> set[str]:
    value = getattr(config, key)
    return {value} if isinstance(value, str) else set(value or ())


def _channels(guild: discord.Guild) -> set[str]:
    readable = [each for each in guild.channels if not isinstance(each, discord.CategoryChannel)]
    return {name for each in (*readable, *guild.threads) for name in (str(each.id), each.name)}
