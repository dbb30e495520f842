"""discord.py's state of the shards: the guilds, and their members.

A guild may have 100,000 members, and most of what discord.py keeps of each is the same for
thousands of them, or is not read here. So members share those parts, which saves half of
discord.py's memory, and of the objects that Python's garbage collector looks at.
"""

import sys
from datetime import UTC, datetime
from typing import Any

import discord
from discord.state import AutoShardedConnectionState

OFFLINE = discord.ClientStatus()
"""The status of all who are offline. A presence replaces it; discord.py never changes it."""
JOINED_AT = datetime.fromtimestamp(0, UTC)
"""When all members joined: it is not read here, but discord.py takes a member without it for an
incomplete one."""


class OwnState(AutoShardedConnectionState[Any]):
    """discord.py's state of all shards. It reports each guild when it comes: `MemberRequests`
    asks for the members."""

    def parse_ready(self, data: Any) -> None:  # noqa: ANN401  discord.py's
        """Begin the session of one shard, with its guilds instead of those of the one before."""
        shard = data["shard"][0]
        self.clear_chunk_requests(shard)
        for guild in [guild for guild in self.guilds if guild.shard_id == shard]:
            self._remove_guild(guild)
        super().parse_ready(data)
        # discord.py waits, in two tasks, until no more guilds come, and only then reports them.
        self._ready_tasks.pop(shard).cancel()
        del self._ready_states[shard]
        if self._ready_task is not None:
            self._ready_task.cancel()
            self._ready_task = None

    def parse_guild_member_update(self, data: Any) -> None:  # noqa: ANN401  discord.py's
        """Take in a member; discord.py dispatches no event for one who was not known before."""
        guild, user_id = self._get_guild(int(data["guild_id"])), int(data["user"]["id"])
        known = guild is not None and guild.get_member(user_id) is not None
        super().parse_guild_member_update(data)
        member = None if guild is None or known else guild.get_member(user_id)
        if member is not None:
            self.dispatch("member_join", member)

    def parse_guild_members_chunk(self, data: Any) -> None:  # noqa: ANN401  discord.py's
        """Take in members; the presences among them also of members who are known already."""
        guild = self._get_guild(int(data["guild_id"]))
        presences = data.get("presences") or ()
        known = (
            []
            if guild is None
            else [
                (member, each)
                for each in presences
                if (member := guild.get_member(int(each["user"]["id"]))) is not None
            ]
        )
        super().parse_guild_members_chunk(data)
        for member, presence in known:
            raw = discord.RawPresenceUpdateEvent(data=presence, state=self)
            member._presence_update(raw, presence["user"])  # noqa: SLF001  as discord.py does

    def process_chunk_requests(
        self,
        guild_id: int,
        nonce: str | None,
        members: list[discord.Member],
        complete: bool,  # noqa: FBT001  discord.py's
    ) -> None:
        """Take in members, who share parts from here on."""
        _share(members)
        super().process_chunk_requests(guild_id, nonce, members, complete)

    def store_user(self, data: Any, *, cache: bool = True) -> discord.User:  # noqa: ANN401, ARG002  discord.py's
        """Make a user for one member alone: discord.py finds users again by a weak reference to
        each. Who is in several guilds has several; see `MemberEvents.user_update`."""
        return self.create_user(data)

    def parse_rate_limited(self, data: Any) -> None:  # noqa: ANN401  any JSON
        """Dispatch it: discord.py does not know this event."""
        self.dispatch("rate_limited", data)


def _share(members: list[discord.Member]) -> None:
    """Let members of one guild share what is equal or not read."""
    # Private: discord.py has no option for it. It replaces these objects, and never changes one.
    shared: dict[bytes, Any] = {}
    for member in members:
        roles = member._roles  # noqa: SLF001
        member._roles = shared.setdefault(roles.tobytes(), roles)  # noqa: SLF001
        member.joined_at = JOINED_AT
        if member.raw_status == "offline":
            member.client_status = OFFLINE
        user = member._user  # noqa: SLF001
        user.discriminator = sys.intern(user.discriminator)
