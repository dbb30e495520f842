"""An origin in a process of its own, that can be killed. What happens there comes in as lines:
first all users of server 1, then lists of changes."""

import asyncio
import sys
from typing import TypedDict

import msgspec

from d_back_core import Server, Status, User, UserChanged, UserRemoved
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_testing import ScriptedProvider


class Fields(TypedDict):
    """A user."""

    username: str
    status: Status
    role_color: str


Users = dict[str, Fields]
Changes = list[tuple[str, Fields | None]]


async def main(table: str) -> None:
    """Serve until there is no more input."""
    first = await asyncio.to_thread(sys.stdin.buffer.readline)
    users = {uid: User(**user) for uid, user in msgspec.json.decode(first, type=Users).items()}
    source = ScriptedProvider({"1": Server(name="Plaza", id="plaza")}, {"1": users})
    config = parse(msgspec.json.decode(table))
    async with WebSocketServer(config=config, providers={"source": source}):
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            for uid, fields in msgspec.json.decode(line, type=Changes):
                if fields is None:
                    users.pop(uid, None)
                    source.emit(UserRemoved(server_id="1", uid=uid))
                else:
                    users[uid] = User(**fields)
                    source.emit(UserChanged(server_id="1", uid=uid, **fields))


asyncio.run(main(sys.argv[1]))
