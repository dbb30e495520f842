"""Real NATS servers, which a test may kill and stop."""

import asyncio
import logging
import re
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import nats.js.errors
from ports import free_port

from d_back_core import User
from d_back_core.embedding.server import WebSocketServer
from d_back_core.wire import protocol
from d_back_nats import NatsConfig, NatsProvider
from d_back_nats.connection import Line, connected
from d_back_nats.failure import FAILURES, NatsError
from d_back_nats.keys import place_of
from d_back_nats.records import decoded_user

PATIENCE = 60.0
"""Seconds after which what a test waits for is taken for lost."""
GUIDE = Path(__file__).parents[3] / "docs" / "en" / "cluster.md"
PASSWORDS = {"ORIGIN_PASSWORD": "o-MARK", "EDGE_PASSWORD": "e-MARK"}
BINARY = Path(sysconfig.get_path("scripts"), "nats-server")
LOG = logging.getLogger("d_back.providers.nats")
ADA = User(username="Ada", status="online", role_color="#aaaaaa")
BOB = User(username="Bob", status="idle", role_color="#bbbbbb")


class Node:
    """One nats-server, in a folder of its own."""

    def __init__(self, folder: Path, name: str, conf: str = "", *, scheme: str = "nats") -> None:
        self.name = name
        self.port = free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._folder = folder / name
        self._folder.mkdir(parents=True)
        self._conf = self._folder / "nats.conf"
        self.configure(conf)
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, conf: str) -> None:
        """Say what else is in its configuration file; for the next start."""
        self._conf.write_text(
            f"server_name: {self.name}\nhost: 127.0.0.1\nport: {self.port}\n"
            f'jetstream {{ store_dir: "{self._folder}", max_file_store: 1GB }}\n'
            f'log_file: "{self._folder / "log"}"\n{conf}\n'
        )

    def start(self) -> None:
        """Start it; see `NatsCluster.up`."""
        self._process = subprocess.Popen([BINARY, "-c", self._conf])  # noqa: S603

    def kill(self) -> None:
        """End it as a crash would, at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it do nothing, and keep its sockets open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def save_store(self) -> None:
        """Copy what it has stored, as a backup of its disk; it must not run."""
        shutil.copytree(self._folder / "jetstream", self._folder / "backup")

    def restore_store(self) -> None:
        """Put that copy back; it must not run."""
        shutil.rmtree(self._folder / "jetstream")
        shutil.copytree(self._folder / "backup", self._folder / "jetstream")

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()


class NatsCluster:
    """One node, or several that replicate."""

    def __init__(self, folder: Path, size: int, conf: str = "", *, scheme: str = "nats") -> None:
        routes = [free_port() for _ in range(size)]
        self.nodes = []
        for number in range(size):
            cluster = ""
            if size > 1:
                others = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
                cluster = (
                    f"cluster {{ name: test, listen: 127.0.0.1:{routes[number]},"
                    f" routes: [{others}] }}\n"
                )
            self.nodes.append(Node(folder, f"n{number}", cluster + conf, scheme=scheme))

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(node.url for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def named(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    async def up(self, config: NatsConfig | None = None, *, whole: bool = True) -> None:
        """Return when JetStream answers; not ``whole``: when a login is taken."""
        config = config or NatsConfig(urls=self.urls)
        async with asyncio.timeout(PATIENCE):
            while not await self._answers(config, whole=whole):  # noqa: ASYNC110  it has no event
                await asyncio.sleep(0.05)

    async def _answers(self, config: NatsConfig, *, whole: bool) -> bool:
        try:
            line = await connected(config, "test", LOG)
        except NatsError:
            return False
        try:
            if whole:
                await line.js.streams_info()
        except FAILURES:
            return False
        finally:
            await line.close()
        return True


def guide_users() -> str:
    """The users of the configuration that the documentation gives."""
    block = re.search(r"```conf\n# nats.conf\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert block is not None
    text = block[1]
    for name, password in PASSWORDS.items():
        text = text.replace(f"${name}", password)
    return text[text.index("authorization") :]


def chat_of(frames: Sequence[protocol.ServerMessage]) -> list[str]:
    """What was said."""
    return [each.data.message for each in frames if isinstance(each, protocol.MessageFrame)]


async def keys_of(line: Line, bucket: str = "d-back") -> dict[str, bytes]:
    """What the bucket holds, without what was deleted."""
    try:
        kv = await line.js.key_value(bucket)
        # Forgotten by NATS a second after the end: it allows 1,000 of them for a bucket.
        watcher = await kv.watchall(ignore_deletes=True, inactive_threshold=1.0)
    except nats.js.errors.BucketNotFoundError:
        return {}
    found = {}
    async for entry in watcher:
        if entry is None:
            break
        found[entry.key] = entry.value or b""
    await watcher.stop()  # type: ignore[no-untyped-call]
    return found


async def flushed(line: Line) -> None:
    """Return when the server has read what was sent over that connection.

    Twice: nats-py sends a PING at once, and may still hold the commands before it.
    """
    await line.client.flush()
    await line.client.flush()


async def revision_of(line: Line, bucket: str = "d-back") -> int:
    """The last revision of the bucket."""
    return (await line.js.stream_info(f"KV_{bucket}")).state.last_seq


def health_of(server: WebSocketServer, name: str = "nats") -> str:
    """How the provider is."""
    return server.live.providers.supervisors[name].health.state


def provider_of(server: WebSocketServer) -> NatsProvider:
    """The provider itself."""
    instance = server.live.providers.supervisors["nats"].plugin.instance
    assert isinstance(instance, NatsProvider)
    return instance


def unwritten(server: WebSocketServer) -> int:
    """How many keys are still to be written."""
    origin = provider_of(server)._origin  # noqa: SLF001
    return 1 if origin is None or not origin.leads else origin.unwritten


class Proxy:
    """A TCP proxy before a node, that can hold back what one side sends, and cut connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self.answers = asyncio.Event()
        """Cleared: what the node sends is held back."""
        self.requests = asyncio.Event()
        """Cleared: what the clients send is held back."""
        self.answers.set()
        self.requests.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Cut all connections; what was held back is lost."""
        for writer in self._connections:
            writer.transport.abort()
        self._connections.clear()
        self.answers.set()
        self.requests.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            node_reader, node_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self._connections |= {writer, node_writer}
        await asyncio.gather(
            _pump(reader, node_writer, self.requests), _pump(node_reader, writer, self.answers)
        )
        self._connections -= {writer, node_writer}


async def _pump(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, flows: asyncio.Event
) -> None:
    with suppress(OSError):
        while part := await source.read(65536):
            await flows.wait()
            if target.transport.is_closing():  # the connection was cut
                return
            target.write(part)
    target.transport.abort()


async def users_of(line: Line, server_id: str = "1") -> dict[str, User]:
    """The users that the bucket holds for a server."""
    found = {}
    for key, value in (await keys_of(line)).items():
        place = place_of(key)
        if place is not None and place.group == f"users.{server_id}":
            user = decoded_user(value)
            assert user is not None
            found[place.name] = user
    return found
