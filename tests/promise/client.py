"""A client that is written from docs/en/protocol.md alone. It imports nothing from d-back.

`Copy` folds frames into what a client knows; `Client` keeps one connection, joins, and connects
again with `resume`. Whatever the page rules out is kept in ``Copy.faults``.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

Frame = dict[str, Any]
Person = dict[str, str]

FIELDS = ("uid", "username", "status", "roleColor")
PATIENCE = 20.0
"""Real seconds after which an answer counts as missing."""
ATTEMPTS = 2
"""Joins that may be refused until `Client.try_again`: more would close the connection."""


class Copy:
    """What a client knows of the list of servers and of the server that it joined."""

    def __init__(self) -> None:
        self.servers: dict[str, dict[str, Any]] = {}
        self.subscribed = False
        self.server_id: str | None = None
        self.public_id = ""
        self.epoch = ""
        self.seq = 0
        self.users: dict[str, Person] = {}
        self.chat: list[str] = []
        self.kept_up = True
        """False if chat may be missing since this was last set."""
        self.resyncs = 0
        self.faults: list[str] = []

    def take(self, frame: Frame) -> None:
        match frame["type"]:
            case "server-list":
                self.servers = frame["data"]
            case "server-list-update":
                removed = frame.get("removed", [])
                kept = {key: each for key, each in self.servers.items() if key not in removed}
                self.servers = kept | frame["data"]
            case "server-join":
                self._join(frame["data"])
            case "resumed":
                self._resumed(frame)
            case "presence":
                self._number(frame)
                self._presence(frame["data"])
            case "message":
                self._number(frame)
                self._message(frame["data"])
            case "error" if frame["data"]["code"] == "gone":
                self.subscribed = False
                self.epoch = ""

    def lost(self) -> None:
        """Note that the connection is lost: what is known stays, the subscription ends."""
        self.subscribed = self.kept_up = False

    def _join(self, data: Frame) -> None:
        self.public_id = data["request"]["server"]
        listed = (key for key, each in self.servers.items() if each["id"] == self.public_id)
        self.server_id = next(listed, None)
        if self.server_id is None:
            self.faults.append(f"joined '{self.public_id}', which is not listed")
        self.epoch, self.seq, self.users = data["epoch"], data["seq"], data["users"]
        self.subscribed, self.kept_up = True, False

    def _resumed(self, frame: Frame) -> None:
        if (frame["server"], frame["epoch"]) != (self.server_id, self.epoch):
            self.faults.append(f"resumed another server or epoch: {frame}")
        if not self.subscribed and frame["seq"] != self.seq:
            self.faults.append(f"resumed at {frame['seq']}, not at {self.seq}")
        self.seq = frame["seq"]
        self.subscribed, self.kept_up = True, False

    def _number(self, frame: Frame) -> None:
        """Take the number of a frame, by the three rules of the page's section "Numbers"."""
        if not self.subscribed or frame["server"] != self.server_id:
            self.faults.append(f"a frame of a server that is not joined: {frame}")
        if frame.get("resync"):
            self.resyncs += 1
            self.kept_up = False
        elif frame["seq"] not in (self.seq, self.seq + 1):
            self.faults.append(f"a gap: {frame['seq']} follows {self.seq}")
        self.seq = frame["seq"]

    def _presence(self, change: Person) -> None:
        uid = change["uid"]
        if change.get("delete"):
            if self.users.pop(uid, None) is None:
                self.faults.append(f"the removal of '{uid}', which is not known")
        elif uid in self.users:
            self.users[uid] |= {key: change[key] for key in FIELDS if key in change}
        elif missing := [key for key in FIELDS if key not in change]:
            self.faults.append(f"'{uid}' is new and lacks {missing}")
        else:
            self.users[uid] = {key: change[key] for key in FIELDS}

    def _message(self, said: Frame) -> None:
        if said["uid"] not in self.users:
            self.faults.append(f"chat of '{said['uid']}', which is not known")
        self.chat.append(said["message"])


class Client:
    """One client that always wants to be joined to one server, and connects again when cut."""

    def __init__(
        self, name: str, url: str, wanted: str, password: str | None, *, compression: bool = False
    ) -> None:
        self.name = name
        self.wanted = wanted
        """The server_id that it joins."""
        self.password = password
        self.copy = Copy()
        self.resumes = 0
        self._url = url
        self._compression = "deflate" if compression else None
        self._socket: ClientConnection | None = None
        self._asking = False
        self._refusals = 0
        self._answers = 0
        self._moved = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Client"]:
        task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def join(self, server_id: str) -> None:
        """Want another server; a join under way is answered first, or a client could not tell
        which of the two an error answers.
        """
        self.wanted = server_id
        if self._socket is not None and not self._asking:
            with contextlib.suppress(ConnectionClosed):  # it was cut; the next one joins
                await self._connect(self._socket)

    def try_again(self) -> None:
        """Ask again for a server that may be joined now."""
        self._refusals = 0

    async def idle(self) -> bool:
        """True if no join is under way and everything that was sent to this client is read."""
        socket, before = self._socket, self._answers
        if socket is None or self._asking:
            return False
        with contextlib.suppress(ConnectionClosed):
            await socket.send('{"type": "get_server_data"}')
        await self.until(lambda: self._answers > before or self._socket is not socket)
        return self._socket is socket and not self._asking

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._moved:
            await self._moved.wait_for(condition)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError, WebSocketException, EOFError):
                socket = connect(
                    self._url,
                    compression=self._compression,
                    max_queue=1,
                    max_size=None,
                    ping_interval=None,
                    close_timeout=1,
                    proxy=None,
                )
                async with socket as connection:
                    await self._read(connection)
            self._socket, self._asking = None, False
            self.copy.lost()
            await self._wake()

    async def _read(self, socket: ClientConnection) -> None:
        first = True
        async for text in socket:
            frame = json.loads(text)
            if first != (frame["type"] == "server-list"):
                self.copy.faults.append(f"server-list is not once and first: {frame}")
            self.copy.take(frame)
            if frame["type"] == "server-list-update":
                self.try_again()
            if frame["type"] == "error" and frame["data"]["code"] == "unauthorized":
                # As the answer to `connect` it leaves the present subscription as it was.
                self._refusals += 1
                if not self._asking:
                    self.copy.lost()
            if first:
                self._socket, first = socket, False
                await self._connect(socket, resume=True)
            elif frame["type"] in ("server-join", "resumed", "error"):
                self._asking = False
                self.resumes += frame["type"] == "resumed"
            elif frame["type"] == "server_data":
                self._answers += 1
            if not self._asking and self._must_join(frame):
                await self._connect(socket)
            await self._wake()

    def _must_join(self, frame: Frame) -> bool:
        if self.copy.subscribed:
            return self.copy.server_id != self.wanted
        # One attempt for each list and each question: a refusal is not repeated at once.
        news = frame["type"] in ("server-list-update", "server_data")
        return news and self.wanted in self.copy.servers and self._refusals < ATTEMPTS

    async def _connect(self, socket: ClientConnection, *, resume: bool = False) -> None:
        data: Frame = {"server": self.wanted, "password": self.password}
        if resume and self.copy.epoch and self.copy.server_id == self.wanted:
            data["resume"] = {"epoch": self.copy.epoch, "seq": self.copy.seq}
        self._asking = True
        await socket.send(json.dumps({"type": "connect", "data": data}))

    async def _wake(self) -> None:
        async with self._moved:
            self._moved.notify_all()
