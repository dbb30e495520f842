"""The JavaScript client as one of the clients of a run: one Node process has all of them."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from promise.client import ATTEMPTS, PATIENCE, Client

PROGRAM = Path(__file__).with_suffix(".js")
WAIT = 0.03
"""Seconds between two questions, if Node has something left to do."""
FLAGS = ("--experimental-websocket", "--no-warnings")


class Node:
    """A process that runs node_client.js."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, action: str, **fields: object) -> Any:  # noqa: ANN401  JSON
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        request = {"number": number, "action": action, **fields}
        stdin = cast("asyncio.StreamWriter", self._process.stdin)
        stdin.write(json.dumps(request).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def read(self) -> None:
        async for line in cast("asyncio.StreamReader", self._process.stdout):
            answer = json.loads(line)
            self._answers.pop(answer["number"]).set_result(answer["value"])


@contextlib.asynccontextmanager
async def running(program: str) -> AsyncIterator[Node]:
    """Start Node; ``program`` is its path."""
    process = await asyncio.create_subprocess_exec(
        program,
        *FLAGS,
        str(PROGRAM),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**26,  # a line holds all users
    )
    node = Node(process)
    reading = asyncio.create_task(node.read())
    try:
        yield node
    finally:
        cast("asyncio.StreamWriter", process.stdin).close()
        await process.wait()
        await reading


class NodeClient(Client):
    """What `Client` is, but the copy is that of d-back-client. It is fetched by `idle`."""

    def __init__(self, name: str, url: str, wanted: str, password: str, node: Node) -> None:
        super().__init__(name, url, wanted, password)
        self._node = node
        self._attempts = 0
        self._number: int | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["NodeClient"]:
        wanted = {"server": self.wanted, "password": self.password}
        self._number = await self._node.ask("connect", url=self._url, **wanted)
        yield self

    def try_again(self) -> None:
        self._attempts = ATTEMPTS

    async def join(self, server_id: str) -> None:
        self.wanted = server_id
        wanted = {"server": server_id, "password": self.password}
        await self._node.ask("join", client=self._number, **wanted)

    async def idle(self) -> bool:
        found = await self._node.ask("settled", client=self._number)
        if found is None:
            await asyncio.sleep(WAIT)  # time is real in Node
            return False
        copy = self.copy
        copy.servers, copy.users = found["servers"], found["users"]
        copy.server_id = found["serverId"]
        # After a refused join, d-back-client stays where it was, and does not try again.
        copy.subscribed = found["subscribed"] and copy.server_id == self.wanted
        copy.chat += found["chat"]
        copy.faults += found["faults"]
        copy.kept_up &= found["keptUp"]
        copy.resyncs += found["resyncs"]
        self.resumes = found["resumes"]
        if found["subscribed"] and not copy.subscribed and self.wanted in copy.servers:
            await self.join(self.wanted)
            return False
        if not copy.subscribed and self.wanted in copy.servers and self._attempts:
            self._attempts -= 1  # it does not know that a reload may have let it in again
            await self.join(self.wanted)
            return False
        return True
