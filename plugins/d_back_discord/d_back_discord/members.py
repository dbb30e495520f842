"""Decides who is shown, and makes d-back's user of Discord's member."""

from functools import lru_cache

import discord

from d_back_core import UNSET, Status, User
from d_back_discord.config import DiscordConfig
from d_back_discord.extra import extra

DEFAULT_COLOR = "#ffffff"
BLANKS = " \u115f\u1160\u2800\u3164\uffa0"
"""Characters that count as printable and show nothing."""

_STATUSES: dict[str, Status] = {"online": "online", "idle": "idle", "dnd": "dnd"}
"""Every other status of Discord (``invisible``, ``offline``) is offline."""


class Rules:
    """The operator's rules about members; the same for every guild."""

    def __init__(self, config: DiscordConfig) -> None:
        self.ignore_offline = config.ignore_offline
        self._ignored = config.ignore_users
        self._roles = config.roles
        self._opt_out = config.opt_out_role
        self._bots = config.shows_bots
        self._extra = config.extra

    def shown(self, member: discord.Member, status: str) -> User | None:
        """Return the member with that status of Discord; None: the member is hidden."""
        roles = member.roles  # sorted by Discord's hierarchy, lowest first
        if self._hides(member, roles):
            return None
        color = next((role.colour.value for role in reversed(roles) if role.colour.value), None)
        return User(
            username=_name(member),
            status=_STATUSES.get(status, "offline"),
            role_color=DEFAULT_COLOR if color is None else _hex(color),
            extra=extra(member, self._extra) if self._extra else UNSET,
        )

    def hides(self, member: discord.Member) -> bool:
        """Return True if the member is hidden, also as a name in a message."""
        return self._hides(member, member.roles)

    def _hides(self, member: discord.Member, roles: list[discord.Role]) -> bool:
        if member.bot and not self._bots:
            return True
        if self._ignored and str(member.id) in self._ignored:
            return True
        if self._opt_out is not None and any(is_role(role, self._opt_out) for role in roles):
            return True
        wanted = self._roles
        return wanted is not None and not any(
            role.name in wanted or str(role.id) in wanted for role in roles
        )


def is_role(role: discord.Role, named: str) -> bool:
    """Return True if this role has that id or name."""
    return named in {role.name, str(role.id)}


def _name(member: discord.Member) -> str:
    """Return the name that Discord shows; one of blanks only gives way to the next."""
    shown = member.display_name
    if shown[:1] > " " and shown.isascii():  # as nearly all are, of up to 100,000 members
        return shown
    names = (member.nick, member.global_name, member.name)
    return next((name for name in names if name and not is_blank(name)), member.name)


def is_blank(text: str) -> bool:
    """Return True if all characters of the text are invisible."""
    return not any(each.isprintable() and each not in BLANKS for each in text)


@lru_cache(maxsize=4096)
def _hex(color: int) -> str:
    """Return the colour as text: the same object for all members."""
    return f"#{color:06x}"
