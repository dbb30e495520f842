"""One server and its members: what they do next, and the statuses that this has left them in."""

import asyncio
from collections.abc import Iterator, Mapping
from itertools import chain
from random import Random
from typing import NamedTuple, Protocol

from d_back_core import UNSET, Message, Server, Status, User, UserChanged
from d_back_mock.chat import CHANNEL, CHANNEL_NAME, LINES

SLICE = 1000
"""Users that are made before the event loop gets its turn; about 2 ms."""

NEXT: Mapping[Status, Mapping[Status, int]] = {
    "online": {"idle": 5, "dnd": 2, "offline": 3},
    "idle": {"online": 7, "offline": 3},
    "dnd": {"online": 7, "idle": 1, "offline": 2},
    "offline": {"online": 8, "idle": 1, "dnd": 1},
}
"""What follows a status, and how often in ten times; never the same again."""


class Member(NamedTuple):
    """A member, and the status at the beginning."""

    uid: str
    username: str
    status: Status
    role_color: str
    activity: str = ""


class Members(Protocol):
    """All members of a server, by index; each may be made only when it is looked at."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Member: ...


class Community:
    """A server of which a member is always online; a member who is alone is never offline.

    At the beginning a member has to be online.
    """

    def __init__(self, server_id: str, server: Server, members: Members) -> None:
        self.server_id = server_id
        self.server = server
        self._members = members
        self._changed: dict[int, Status] = {}
        self._line = 0

    @property
    def members(self) -> Members:
        """Who they are, in the status that each begins with."""
        return self._members

    async def users(self) -> dict[str, User]:
        """All users as they are now, by uid.

        Changes while it runs may be in it or not, as the hook `users` allows.
        """
        users = {}
        for index in range(len(self._members)):
            if index and index % SLICE == 0:
                # A turn for the others, no time: the clock has no part in it.
                await asyncio.sleep(0)
            member = self._members[index]
            users[member.uid] = User(
                username=member.username,
                status=self._changed.get(index, member.status),
                role_color=member.role_color,
                extra={"activity": member.activity} if member.activity else UNSET,
            )
        return users

    def change(self, random: Random) -> UserChanged:
        """Change the status of one member."""
        size = len(self._members)
        index = random.randrange(size)
        if size > 1 and self._last_online(index):
            index = (index + random.randrange(1, size)) % size
        choices = dict(NEXT[self._status(index)])
        if size == 1:
            choices.pop("offline", None)
        (status,) = random.choices(list(choices), list(choices.values()))
        self._changed[index] = status
        return UserChanged(server_id=self.server_id, uid=self._members[index].uid, status=status)

    def speak(self, random: Random) -> Message:
        """Let a member who is there say something else than what was said last."""
        start = random.randrange(len(self._members))
        author = next(index for index in self._from(start) if self._status(index) != "offline")
        self._line = (self._line + random.randrange(1, len(LINES))) % len(LINES)
        return Message(
            server_id=self.server_id,
            uid=self._members[author].uid,
            message=LINES[self._line],
            channel=CHANNEL,
            channel_name=CHANNEL_NAME,
        )

    def _status(self, index: int) -> Status:
        return self._changed.get(index) or self._members[index].status

    def _last_online(self, index: int) -> bool:
        # Looking is cheap in a crowd too: some two in five are online, the next is not far.
        online = (other for other in self._from(index) if self._status(other) == "online")
        return next(online) == index and next(online, None) is None

    def _from(self, start: int) -> Iterator[int]:
        return chain(range(start, len(self._members)), range(start))
