"""Passes discord.py's events about members and roles to the layers of their guilds."""

import discord

from d_back_discord.guilds import Guilds


class MemberEvents:
    """The methods are discord.py's events of the same names."""

    def __init__(self, guilds: Guilds) -> None:
        self._guilds = guilds

    def guild_role_update(self, before: discord.Role, after: discord.Role) -> None:
        layer = self._guilds.layer(after.guild)
        looks = [(role.colour, role.position, role.name) for role in (before, after)]
        if layer is not None and looks[0] != looks[1]:
            layer.sweep()

    def guild_role_delete(self, role: discord.Role) -> None:
        layer = self._guilds.layer(role.guild)
        if layer is not None:
            layer.sweep()

    def member_join(self, member: discord.Member) -> None:
        layer = self._guilds.layer(member.guild)
        if layer is not None:
            layer.join(member)

    def member_update(self, _before: discord.Member, after: discord.Member) -> None:
        layer = self._guilds.layer(after.guild)
        if layer is not None:
            layer.refresh(after)

    def presence_update(self, _before: discord.Member, after: discord.Member) -> None:
        layer = self._guilds.layer(after.guild)
        if layer is not None:
            layer.refresh(after, presence=True)

    def raw_presence_update(self, presence: discord.RawPresenceUpdateEvent) -> None:
        layer = self._guilds.layer(presence.guild)
        if layer is not None and layer.guild.get_member(presence.user_id) is None:
            layer.note(presence.user_id, presence.client_status.raw_status)

    def user_update(self, _before: discord.User, after: discord.User) -> None:
        for layer in self._guilds.layers.values():
            member = layer.guild.get_member(after.id)
            if member is not None:
                # Private: in our own client each member has a user of their own.
                member._user = after  # noqa: SLF001
                layer.refresh(member)

    def raw_member_remove(self, removal: discord.RawMemberRemoveEvent) -> None:
        layer = self._guilds.layers.get(str(removal.guild_id))
        if layer is not None:
            layer.remove(removal.user.id)
