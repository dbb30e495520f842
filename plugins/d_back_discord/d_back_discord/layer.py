"""The layer of one guild: a mapping uid → user, kept current."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import discord
from msgspec import UNSET, Struct

from d_back_core import Clock, Event, Reload, User, UserChanged, UserRemoved
from d_back_discord.member_requests import MAX_PRESENCES, MemberRequests
from d_back_discord.members import Rules

SLICE = 500
"""Members that are read before other tasks run: some 2 ms."""
MAX_CHANGES = 1000
"""Changes of one sweep that are passed on one by one; more are one `Reload`."""

EARLY = 10.0
"""Seconds by which a presence may come before its member."""
MAX_EARLY = 100


class Surroundings(Struct, frozen=True, kw_only=True):
    """What the layers of all guilds share."""

    rules: Rules
    put: Callable[[Event], None]
    current: Callable[[discord.Guild], bool]
    """Return True if Discord's client still keeps this guild object up to date."""
    clock: Clock
    log: logging.Logger
    requests: MemberRequests


class Layer:
    """The members of one guild who are shown.

    It answers None until it is whole for the first time, and while the guild is unavailable. While
    it is read again, the former state answers until the new one is whole.
    """

    def __init__(self, guild: discord.Guild, around: Surroundings) -> None:
        self.guild = guild
        self.server_id = str(guild.id)
        self.whole = False
        self.unavailable = False
        self._around = around
        self._users: dict[str, User] = {}
        self._next: dict[str, User] | None = None
        """What will be in use once it is whole; events go here, too, meanwhile."""
        self._statuses: dict[int, str] = {}
        """Statuses that Discord's client does not know: it drops the presence of a member who has
        not arrived yet, and keeps that of one who went offline while the guild was unavailable."""
        self._early: dict[int, tuple[str, float]] = {}
        """Statuses of users who are not members yet, and when they came."""
        self._faded: set[str] = set()
        """With ``ignore_offline``: the members who were passed on as offline."""
        self._left_online: dict[int, discord.Member] = {}
        self._swept = True
        self._task: asyncio.Task[None] | None = None

    def answer(self) -> dict[str, User] | None:
        """Return all users that are shown, or None while they are not known."""
        if not self.answers:
            return None
        self._faded.clear()
        return dict(self._users)

    @property
    def answers(self) -> bool:
        """True if the members are known now."""
        return self.whole and not self.unavailable

    def shows(self, member_id: int) -> bool:
        return self.answers and str(member_id) in self._users

    def fill(self, guild: discord.Guild) -> None:
        """Read everything from this guild, which has just come. `Reload` follows."""
        returned = guild is self.guild and self.unavailable
        if guild is not self.guild:
            self._statuses.clear()
            self._left_online.clear()
        self.guild = guild
        self._next = {}
        ask = returned or not guild.chunked
        self._begin(lambda: self._fill(ask=ask))

    def halt(self) -> None:
        """Cancel what is under way."""
        self._next = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def lose(self) -> None:
        """Note that the guild is unavailable."""
        if self.unavailable:
            return
        self.halt()
        self.unavailable = True
        self._left_online = {
            member.id: member for member in self.guild.members if member.raw_status != "offline"
        }
        self._around.put(Reload(server_id=self.server_id))

    def note(self, member_id: int, status: str) -> None:
        """Keep the status of a member who has not arrived yet: one of the members that are asked
        for, or a new one, whose presence may come first."""
        if self._next is not None:
            self._statuses[member_id] = status
        else:
            self._early.pop(member_id, None)
            self._early[member_id] = status, self._around.clock.time()
            if len(self._early) > MAX_EARLY:
                del self._early[next(iter(self._early))]

    def join(self, member: discord.Member) -> None:
        """Add a new member."""
        status, at = self._early.pop(member.id, ("", 0.0))
        if status and self._around.clock.time() <= at + EARLY:
            self._statuses[member.id] = status
        self.refresh(member)

    def refresh(self, member: discord.Member, *, presence: bool = False) -> None:
        """Compare this member with what was passed on. ``presence``: the status has changed."""
        if presence:
            self._statuses.pop(member.id, None)
        self._apply(str(member.id), self._shown(member))

    def remove(self, member_id: int) -> None:
        """Remove a member."""
        self._early.pop(member_id, None)
        self._statuses.pop(member_id, None)
        self._apply(str(member_id), None)

    def sweep(self) -> None:
        """Compare all members: any colour or visibility may have changed."""
        self._swept = False
        if self._task is None and self.whole and not self.unavailable:
            self._begin(self._sweep)

    def _begin(self, work: Callable[[], Awaitable[None]]) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.create_task(self._work(work), name=f"guild {self.server_id}")
        self._task.add_done_callback(self._ended)

    async def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        await work()
        while not self._swept:
            await self._sweep()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._around.log.error("guild '%s' cannot be read", self.guild.name, exc_info=error)

    async def _fill(self, *, ask: bool) -> None:
        guild = self.guild
        members = await self._around.requests.members(guild) if ask else [*guild.members]
        if members is None or not self._around.current(guild):
            return  # the session is over
        self._swept = True
        self._correct_statuses(guild)
        users = self._next if self._next is not None else {}
        for count, each in enumerate(members, 1):
            member = guild.get_member(each.id)
            if member is not None:
                self._put(users, str(member.id), self._shown(member))
            if count % SLICE == 0:
                await asyncio.sleep(0)
        self._users, self._next = users, None
        self.whole, self.unavailable = True, False
        self._left_online.clear()
        self._around.log.info("guild '%s' is whole: %d shown", guild.name, len(self._users))
        self._around.put(Reload(server_id=self.server_id))

    def _correct_statuses(self, guild: discord.Guild) -> None:
        """Keep only the statuses that Discord's client cannot know. A guild that was unavailable
        comes with all members who are online: the others have gone offline."""
        for member_id in [*self._statuses]:
            if guild.get_member(member_id) is None:
                del self._statuses[member_id]
        if (guild.member_count or 0) <= MAX_PRESENCES:
            for member_id, before in self._left_online.items():
                if guild.get_member(member_id) is before:
                    self._statuses[member_id] = "offline"

    async def _sweep(self) -> None:
        self._swept = True
        changes = 0
        for count, member in enumerate([*self.guild.members], 1):
            event = None
            if self.guild.get_member(member.id) is not None:
                event = self._changed(str(member.id), self._shown(member))
            if event is not None:
                changes += 1
                if changes <= MAX_CHANGES:
                    self._emit(event)
            if count % SLICE == 0:
                await asyncio.sleep(0)
        if changes > MAX_CHANGES:
            self._around.put(Reload(server_id=self.server_id))

    def _shown(self, member: discord.Member) -> User | None:
        status = self._statuses.get(member.id) or member.raw_status
        return self._around.rules.shown(member, status)

    def _apply(self, uid: str, user: User | None) -> None:
        """Apply a change, also while everything is read again: a member who opts out disappears at
        once."""
        if self._next is not None:
            self._put(self._next, uid, user)
        if self.whole:
            self._emit(self._changed(uid, user))

    def _put(self, users: dict[str, User], uid: str, user: User | None) -> None:
        if user is None or self._leaves_out(user):
            users.pop(uid, None)
        else:
            users[uid] = user

    def _leaves_out(self, user: User) -> bool:
        return user.status == "offline" and self._around.rules.ignore_offline

    def _changed(self, uid: str, user: User | None) -> Event | None:
        """Change what is in use; return the event of it, if there is one."""
        before = self._users.get(uid)
        known = before is not None or uid in self._faded
        if user is not None and before == user:
            return None
        self._put(self._users, uid, user)
        self._faded.discard(uid)
        if user is None:
            return UserRemoved(server_id=self.server_id, uid=uid) if known else None
        if not self._leaves_out(user):
            return _difference(self.server_id, uid, before, user)
        if known:
            self._faded.add(uid)
        if before is None:
            return None
        return UserChanged(server_id=self.server_id, uid=uid, status="offline")

    def _emit(self, event: Event | None) -> None:
        if event is not None:
            self._around.put(event)


def _difference(server_id: str, uid: str, before: User | None, user: User) -> UserChanged:
    known = before or User()
    return UserChanged(
        server_id=server_id,
        uid=uid,
        username=UNSET if known.username == user.username else user.username,
        status=UNSET if known.status == user.status else user.status,
        role_color=UNSET if known.role_color == user.role_color else user.role_color,
        extra=UNSET if known.extra == user.extra else user.extra,
    )
