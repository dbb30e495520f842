"""Decides who may join a protected guild, and when that ends."""

import logging
from collections import defaultdict
from collections.abc import Callable

import discord

from d_back_core import AccessRevoked, Credentials, Event, Grant
from d_back_discord.config import DiscordConfig
from d_back_discord.guilds import Guilds
from d_back_discord.members import is_role
from d_back_discord.oauth import Authorization


class Access:
    """Admits members by an OAuth2 token of the bot's application. A member who leaves, is banned,
    or loses the required role loses the access."""

    def __init__(
        self,
        config: DiscordConfig,
        authorization: Authorization,
        guilds: Guilds,
        put: Callable[[Event], None],
        log: logging.Logger,
    ) -> None:
        self._role = config.require_role
        self._authorization = authorization
        self._guilds = guilds
        self._put = put
        self._log = log
        self._admitted: defaultdict[int, set[int]] = defaultdict(set)
        """The ids of the admitted members of each guild."""

    async def authorize(self, server_id: str, credentials: Credentials) -> bool | Grant | None:
        """Admit the owner of the token if it is of this application, of the person who is claimed
        (a token alone stands for its owner), and of a member of that guild."""
        layer = self._guilds.layers.get(server_id)
        application_id = self._guilds.client_id
        if layer is None or application_id is None or credentials.discord_token is None:
            return None
        claimed = credentials.discord_user
        verdict = await self._authorization.owner(credentials.discord_token, application_id)
        person, reason = verdict.user_id, verdict.reason
        if person is not None:
            if claimed is not None and claimed.get("id") != person:
                reason = "the token is not of the user who is claimed"
            else:
                reason = self._objection(layer.guild, person)
        if reason or person is None:
            self._log.warning("guild '%s': a login is refused: %s", layer.guild.name, reason)
            return False
        self._admitted[layer.guild.id].add(int(person))
        return Grant(person=person)

    def reauthorize(self, server_id: str, person: str) -> bool | None:
        """Return True if that person is still a member with the required role; None while the
        members are not known."""
        layer = self._guilds.layers.get(server_id)
        if layer is None or not layer.answers:
            return None
        allowed = not self._objection(layer.guild, person)
        if allowed:
            self._admitted[layer.guild.id].add(int(person))
        return allowed

    # discord.py's events of the same names

    def raw_member_remove(self, removal: discord.RawMemberRemoveEvent) -> None:
        self._revoke(removal.guild_id, removal.user.id)

    def member_ban(self, guild: discord.Guild, user: discord.abc.User) -> None:
        self._revoke(guild.id, user.id)

    def member_update(self, _before: discord.Member, after: discord.Member) -> None:
        self._check(after.guild, after.id)

    def guild_role_update(self, _before: discord.Role, after: discord.Role) -> None:
        self._check_all(after.guild)

    def guild_role_delete(self, role: discord.Role) -> None:
        self._check_all(role.guild)

    def _check_all(self, guild: discord.Guild) -> None:
        for user_id in [*self._admitted.get(guild.id, ())]:
            self._check(guild, user_id)

    def _check(self, guild: discord.Guild, user_id: int) -> None:
        if user_id in self._admitted.get(guild.id, ()) and self._objection(guild, str(user_id)):
            self._revoke(guild.id, user_id)

    def _revoke(self, guild_id: int, user_id: int) -> None:
        if user_id in self._admitted.get(guild_id, ()):
            self._admitted[guild_id].discard(user_id)
            self._put(AccessRevoked(server_id=str(guild_id), person=str(user_id)))

    def _objection(self, guild: discord.Guild, user_id: str) -> str:
        """Return why that person may not join, or ""."""
        member = guild.get_member(int(user_id)) if user_id.isdecimal() else None
        if member is None:
            return "the user is not a member"
        if self._role is not None and not any(is_role(each, self._role) for each in member.roles):
            return f"the member lacks the role '{self._role}'"
        return ""
