"""A recorded day again: its servers as they were, at the same pace or faster."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from typing import cast

from msgspec import UNSET, structs

from d_back_core import (
    Clock,
    Event,
    Message,
    Server,
    ServerChanged,
    ServerRemoved,
    Status,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_mock.recording import (
    Joined,
    ListChanged,
    Listed,
    ListedServer,
    Member,
    Moment,
    PresenceChanged,
    Recording,
    RecordingError,
    Said,
)
from d_back_mock.run import MAX_LAG

SHORTEST = 1.0
"""Seconds that a round takes at least, however short the recording is."""


class Replay:
    """Plays a recording from its first snapshot on, and then again or not.

    As in a run, what happens happens when it is taken: what is said of the users agrees with the
    stream, and up to `MAX_LAG` is made up for if no stream was open.
    """

    def __init__(
        self, path: str, clock: Clock, log: logging.Logger, *, speed: float, repeat: bool
    ) -> None:
        self._path = path
        self._recording = Recording(path, log)
        self._clock = clock
        self._speed = speed
        self._repeat = repeat
        self._servers: dict[str, Server] = {}
        self._users: dict[str, dict[str, User]] = {}
        self._listed: dict[str, ListedServer] = {}
        self._happened: deque[Event] = deque()
        self._due = 0.0
        """When what was taken last was due."""
        self._round = 0.0
        """When this round began."""
        self._time: float | None = None
        """The same in the recording; None before its first line."""
        self._over = False
        self._ended = False
        self._wake = asyncio.Event()

    async def begin(self) -> None:
        """Read up to the first snapshot; raises `RecordingError`."""
        while not self._servers:
            moment = await self._recording.peek()
            if moment is None:
                raise RecordingError(f"replay '{self._path}': there is no snapshot in it")
            self._take(moment)
        self._happened.clear()
        self._round = self._due = self._clock.time()

    async def next(self) -> Event | None:
        """What happens next, once it happens; None as soon as this has ended. Raises
        `RecordingError`, and again when it is called again."""
        while not self._ended:
            if self._happened:
                return self._happened.popleft()
            moment = None if self._over else await self._recording.peek()
            if moment is not None:
                await self._play(moment)
            elif self._repeat:
                self._begin_again()
            else:
                self._over = True
                await self._pause(None)
        return None

    def servers(self) -> dict[str, Server]:
        """The servers of which there was a snapshot, by server_id."""
        return dict(self._servers)

    async def users(self, server_id: str) -> dict[str, User] | None:
        """The users as they are now, by uid; None for other servers."""
        users = self._users.get(server_id)
        return None if users is None else dict(users)

    def end(self) -> None:
        """End it, and every `next`."""
        self._ended = True
        self._wake.set()
        self._recording.close()

    async def _play(self, moment: Moment) -> None:
        """Wait for the moment, and take it when it has come."""
        due = self._due_at(moment)
        now = self._clock.time()
        if due > now:
            await self._pause(due - now)
            return
        self._take(moment)
        self._due = max(due, now - MAX_LAG)

    def _due_at(self, moment: Moment) -> float:
        """When it happens; lines that go back in time follow at once."""
        passed = 0.0 if self._time is None else max(0.0, moment.time - self._time)
        return self._due + passed / self._speed

    def _begin_again(self) -> None:
        self._recording.take()
        self._time = None
        self._due = self._round = max(self._due, self._round + SHORTEST)

    async def _pause(self, delay: float | None) -> None:
        if self._ended:  # while a line was read
            return
        self._wake.clear()
        timer = None if delay is None else self._clock.call_later(delay, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _take(self, moment: Moment) -> None:
        match moment.frame:
            case Listed(data=listed):
                self._list(listed)
            case ListChanged(data=listed, removed=removed):
                self._list(listed)
                self._unlist(removed)
            case Joined(data=snapshot):
                self._join(moment, snapshot.request.server, snapshot.users)
            case PresenceChanged(server=server_id) if server_id in self._users:
                self._change(server_id, moment.frame)
            case Said(server=server_id, data=speech) if server_id in self._users:
                said = Message(
                    server_id=server_id,
                    uid=speech.uid,
                    message=speech.message,
                    channel=speech.channel,
                )
                self._happened.append(said)
        self._time = moment.time
        self._recording.take()

    def _list(self, listed: dict[str, ListedServer]) -> None:
        self._listed = self._listed | listed
        for server_id in self._servers.keys() & listed.keys():
            self._say(server_id, listed[server_id])

    def _unlist(self, removed: list[str]) -> None:
        for server_id in removed:
            self._listed.pop(server_id, None)
            self._users.pop(server_id, None)
            if self._servers.pop(server_id, None) is not None:
                self._happened.append(ServerRemoved(server_id=server_id))

    def _say(self, server_id: str, listed: ListedServer) -> None:
        server = Server(
            name=listed.name,
            id=listed.id,
            default=listed.default,
            passworded=listed.passworded,
        )
        if self._servers.get(server_id) != server:
            self._servers[server_id] = server
            fields = structs.asdict(server)
            self._happened.append(ServerChanged(server_id=server_id, **fields))

    def _join(self, moment: Moment, public_id: str, members: dict[str, Member]) -> None:
        found = (key for key, listed in self._listed.items() if listed.id == public_id)
        server_id = next(found, None)
        if server_id is None:
            problem = f"a snapshot of '{public_id}', which no list before it names"
            raise self._recording.problem(moment.number, problem)
        users = {uid: _user(member) for uid, member in members.items()}
        before = self._users.get(server_id)
        if before is not None:
            self._happened.extend(_differences(server_id, before, users))
        self._users[server_id] = users
        self._say(server_id, self._listed[server_id])

    def _change(self, server_id: str, frame: PresenceChanged) -> None:
        users, presence = self._users[server_id], frame.data
        if presence.delete:
            users.pop(presence.uid, None)
            self._happened.append(UserRemoved(server_id=server_id, uid=presence.uid))
            return
        said = User(
            username=presence.username,
            status=cast("Status", presence.status),  # the core looks at every value
            role_color=presence.role_color,
        )
        fields = {key: value for key, value in structs.asdict(said).items() if value is not UNSET}
        users[presence.uid] = structs.replace(users.get(presence.uid, User()), **fields)
        self._happened.append(UserChanged(server_id=server_id, uid=presence.uid, **fields))


def _user(member: Member) -> User:
    return User(
        username=member.username,
        status=cast("Status", member.status),  # the core looks at every value
        role_color=member.role_color,
    )


def _differences(
    server_id: str, before: dict[str, User], after: dict[str, User]
) -> Iterator[Event]:
    for uid in before.keys() - after.keys():
        yield UserRemoved(server_id=server_id, uid=uid)
    for uid, user in after.items():
        if before.get(uid) != user:
            yield UserChanged(server_id=server_id, uid=uid, **structs.asdict(user))
