"""What the Python servers have in common: the same users and events, and the control pipe.

It runs in the environment of d-back 0.0.18 too, so it imports nothing but the standard library.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

FIRST_SERVER_ID = 232_769_614_004_748_288
FIRST_UID = 100_000_000_000_000_000
STATUSES = ("online", "idle", "dnd")
LIST_JSON = '{"type":"server-list","data":{}}'
JOIN_JSON = '{"type":"server-join","data":{"users":{}}}'
"""What peers without servers and users greet with."""


class Presence(NamedTuple):
    """One event."""

    number: int
    server_id: str
    uid: str
    status: str

    def json(self) -> str:
        """The frame as our gateway writes it."""
        return (
            f'{{"type":"presence","server":"{self.server_id}","seq":{self.number},'
            f'"data":{{"uid":"{self.uid}","status":"{self.status}"}}}}'
        )


class Load:
    """``users`` of each of ``servers``; every event is another user of the next server, who
    changes to a status that they did not have."""

    def __init__(self) -> None:
        self.users, self.servers = map(int, sys.argv[-2:])
        self._next = self.users * self.servers
        """The first round of numbers is how all users were at the beginning."""

    def events(self, count: int) -> Iterator[Presence]:
        """The next ones."""
        for number in range(self._next, self._next + count):
            turn, place = divmod(number, self.users * self.servers)
            yield Presence(
                number=number,
                server_id=server_id(place % self.servers),
                uid=uid(place // self.servers),
                status=STATUSES[turn % len(STATUSES)],
            )
        self._next += count


def server_id(number: int) -> str:
    """A snowflake; the public id is ``s`` and the number."""
    return str(FIRST_SERVER_ID + number)


def uid(number: int) -> str:
    """A snowflake."""
    return str(FIRST_UID + number)


async def obey(port: int, burst: Callable[[int], Awaitable[None]]) -> None:
    """Tell the port, and then let happen what standard input asks for, until it ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    os.write(1, f"port {port}\n".encode())  # whatever the server prints elsewhere
    async for line in reader:
        _, _, count = line.partition(b" ")
        await burst(int(count or 1))
