"""A stream of random events, an origin that brings it to NATS, and edges that serve it: all of
them processes that can be killed."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, Self

import msgspec
from nats_nodes import LOG, PATIENCE, NatsCluster, users_of
from ports import free_port
from websockets.exceptions import WebSocketException

from d_back_core import DBackError, User
from d_back_core.client import ClientWorld, connect
from d_back_core.models import EffectiveUser
from d_back_core.wire import protocol
from d_back_nats import NatsConfig
from d_back_nats.connection import connected

STATUSES = ("online", "idle", "dnd", "offline")
UIDS = [*(str(uid) for uid in range(300)), "*", ">", "a.b", ".", "=2A", "$KV", "~!|{}"]


class Process:
    """A d-back that can be killed, paused, and started again."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._arguments = arguments
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, *self._arguments], stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def tell(self, line: object) -> None:
        """Send a line to it."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(line) + b"\n")
        self._process.stdin.flush()


class Audience:
    """A client of an edge, that checks each frame against those before it."""

    def __init__(self, world: ClientWorld) -> None:
        self.world = world
        self.wrong: list[str] = []
        self.frames = 0
        self._shown = set(world.users)

    async def listen(self) -> None:
        async for frame in self.world.events():
            self._hear(frame)

    def _hear(self, frame: protocol.ServerMessage) -> None:
        match frame:
            case protocol.ServerJoin(data=joined):
                self._shown = set(joined.users)
            case protocol.Resumed():
                self._shown |= set(self.world.users)
            case protocol.PresenceFrame(data=told):
                self.frames += 1
                if told.delete:
                    if told.uid not in self._shown:
                        self.wrong.append(f"{told.uid} was removed twice")
                    self._shown.discard(told.uid)
                else:
                    self._shown.add(told.uid)


class Storm:
    """Everything, from `__aenter__` on."""

    def __init__(self, cluster: NatsCluster, folder: Path, seed: int, **options: Any) -> None:  # noqa: ANN401
        self.cluster = cluster
        self.random = Random(seed)  # noqa: S311
        self.users: dict[str, dict[str, str]] = {}
        """How it is."""
        self.origins: list[Process] = []
        self.edges: list[Process] = []
        self.audience: list[Audience] = []
        self._urls: list[str] = []
        self._folder = folder
        self._options: dict[str, Any] = {
            "urls": list(cluster.urls),
            "replicas": len(cluster.nodes),
            **options,
        }
        self._stack = AsyncExitStack()
        self._listening: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for uid in UIDS[::2]:
            self.users[uid] = self._user(uid)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        await self._stack.aclose()
        for process in (*self.origins, *self.edges):
            process.kill()

    def add_origin(self) -> Process:
        """Another origin, that knows how it is."""
        table = {
            "gateway": {"host": "127.0.0.1", "port": 0},
            "chain": {"order": ["source"], "recorders": ["nats"]},
            "providers": {"nats": self._options},
        }
        script = str(Path(__file__).with_name("storm_origin.py"))
        log = self._folder / f"origin{len(self.origins)}.log"
        process = Process([script, msgspec.json.encode(table).decode()], log)
        self.origins.append(process)
        self.start_origin(process)
        return process

    def start_origin(self, process: Process) -> None:
        process.start()
        process.tell(self.users)

    async def add_edge(self) -> Process:
        """Another edge, with a client."""
        number, port = len(self.edges), free_port()
        config = self._folder / f"edge{number}.toml"
        config.write_text(
            f'[gateway]\nhost = "127.0.0.1"\nport = {port}\n'
            '[chain]\norder = ["nats"]\nfailback_after = "100ms"\n'
            f"[providers.nats]\nurls = {list(self.cluster.urls)}\n"
        )
        arguments = ["-m", "d_back_core", "--config", str(config)]
        process = Process(arguments, self._folder / f"edge{number}.log")
        self.edges.append(process)
        process.start()
        world = await self._joined(f"ws://127.0.0.1:{port}")
        audience = Audience(world)
        self.audience.append(audience)
        self._listening.append(asyncio.create_task(audience.listen()))
        return process

    async def _joined(self, url: str) -> ClientWorld:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await self._stack.enter_async_context(connect(url))
                except (OSError, DBackError, WebSocketException):
                    await asyncio.sleep(0.05)  # it is not up yet

    async def rage(self, events: int) -> None:
        """Let that much happen, in bursts."""
        while events > 0:
            burst = min(events, self.random.randint(1, 60))
            events -= burst
            changes = [self._change() for _ in range(burst)]
            for origin in self.origins:
                if origin.runs:
                    origin.tell(changes)
            await asyncio.sleep(0.01)

    def _change(self) -> tuple[str, dict[str, str] | None]:
        uid = self.random.choice(UIDS)
        if self.random.random() < 0.2:
            self.users.pop(uid, None)
            return uid, None
        self.users[uid] = self._user(uid)
        return uid, self.users[uid]

    def _user(self, uid: str) -> dict[str, str]:
        color = f"#{self.random.randrange(0x1000000):06x}"
        name = f"{uid} {self.random.randrange(1000)}"
        status = self.random.choice(STATUSES)
        return {"username": name, "status": status, "role_color": color}

    async def calm(self) -> float:
        """Return when every client of every edge sees what is; after how many seconds."""
        began = perf_counter()
        wanted = {
            uid: EffectiveUser(uid, user["username"], user["status"], user["role_color"])  # type: ignore[arg-type]
            for uid, user in self.users.items()
        }
        async with asyncio.timeout(PATIENCE):
            for audience in self.audience:
                await audience.world.until(lambda world: world.users == wanted)
        for audience in self.audience:
            assert audience.wrong == []
        await self._stored()
        return perf_counter() - began

    async def _stored(self) -> None:
        """Return when the bucket, too, holds what is."""
        wanted = {uid: User(**user) for uid, user in self.users.items()}  # type: ignore[arg-type]
        line = await connected(NatsConfig(urls=self.cluster.urls), "storm", LOG)
        try:
            async with asyncio.timeout(PATIENCE):
                while await users_of(line) != wanted:  # noqa: ASYNC110  NATS has no event for it
                    await asyncio.sleep(0.1)
        finally:
            await line.close()
