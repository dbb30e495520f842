"""The server as an object in another program: its life, its address, its names."""

import asyncio
import errno
import json
import logging
import os
import runpy
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from peers import PATIENCE, Dial, until
from websockets.asyncio.client import connect

import d_back
import d_back.mock
import d_back.mock.data
import d_back.server
import d_back_core
import d_back_mock
from d_back_core import ConfigError, Server, User, WebSocketServer
from d_back_core.config import parse
from d_back_testing import ManualClock, ScriptedProvider

ADA = {"uid": "7", "username": "Ada", "status": "online", "roleColor": "#5865f2"}


def town() -> ScriptedProvider:
    return ScriptedProvider({"1": Server(name="Plaza")}, {"1": {"7": User(username="Ada")}})


def serving(**options: Any) -> WebSocketServer:  # noqa: ANN401
    return WebSocketServer(port=0, providers={"town": town()}, **options)


async def running(server: WebSocketServer) -> asyncio.Task[None]:
    """The task of a start that listens."""
    task = asyncio.create_task(server.start())
    await until(lambda: server.port != 0)
    return task


async def answers(server: WebSocketServer, port: int | None = None) -> bool:
    """Whether a client is greeted at that port."""
    try:
        async with connect(f"ws://localhost:{port or server.port}") as connection:
            return "server-list" in str(await connection.recv())
    except OSError:
        return False


# Start and stop


@pytest.mark.parametrize("method", ["start", "run_forever"])
async def test_it_serves_until_it_is_stopped(method: str) -> None:
    """Both start and run_forever return when stop is called, not before, and close the port."""
    server = serving()
    task = asyncio.create_task(getattr(server, method)())
    await until(lambda: server.port != 0)
    assert await answers(server)
    assert not task.done()
    await server.stop()
    await task
    assert not await answers(server)


async def test_a_stop_may_come_at_any_time() -> None:
    """Before the start, twice, at the same time, and after the end it does no harm."""
    unused, server = serving(), serving()
    for _ in range(2):
        await unused.stop()
    async with server:
        await asyncio.gather(server.stop(), server.stop())
        await server.stop()
    await server.stop()


async def test_a_stop_while_it_starts_ends_it() -> None:
    """A provider that is slow to start does not hold up the end, and start returns."""
    slow = town()
    slow.hang.add("start")
    server = WebSocketServer(port=0, providers={"slow": slow}, clock=ManualClock())
    task = asyncio.create_task(server.start())
    await until(lambda: "start" in slow.calls)
    async with asyncio.timeout(PATIENCE):
        await server.stop()
        await task
    assert slow.calls[-1] == "stop"


async def test_a_stop_before_the_start_had_its_turn_ends_it() -> None:
    """A task that was only just created for start does not serve after the stop."""
    server = serving()
    task = asyncio.create_task(server.start())
    await server.stop()
    await task
    assert not await answers(server)


async def test_a_start_while_it_runs_joins_the_run() -> None:
    """A second start returns when the run ends; to cancel it leaves the run alone."""
    server = serving()
    first = await running(server)
    second, third = (asyncio.create_task(server.start()) for _ in range(2))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    assert await answers(server)
    await server.stop()
    await asyncio.gather(first, third)


async def test_to_cancel_who_started_it_stops_it() -> None:
    """The task that a program ends takes the server with it."""
    server = serving()
    task = await running(server)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not await answers(server)


@pytest.mark.parametrize("begun", [False, True])
async def test_it_cannot_be_started_again(*, begun: bool) -> None:
    """After a stop, each way to start it raises ``RuntimeError``, and nothing listens."""
    server = serving()
    if begun:
        async with server:
            assert await answers(server)
    await server.stop()
    for start in (server.start, server.run_forever, server.__aenter__):
        with pytest.raises(RuntimeError, match="make another one"):
            await start()
    assert not await answers(server)


def test_it_can_be_made_before_there_is_an_event_loop() -> None:
    """A module can make it; it belongs to the event loop that starts it."""
    server = serving()

    async def run() -> bool:
        async with server:
            return await answers(server)

    assert asyncio.run(run())


async def test_the_block_is_for_one_run() -> None:
    """To enter it while it runs is an error, which leaves the run alone."""
    async with serving() as server:
        with pytest.raises(RuntimeError, match="runs already"):
            async with server:
                pass
        assert await answers(server)


async def test_an_exception_in_the_block_stops_it() -> None:
    """Leaving the block, however, ends the run."""
    server = serving()
    with pytest.raises(KeyError):
        async with server:
            raise KeyError
    assert not await answers(server)


async def test_a_port_in_use_is_an_error_of_every_start() -> None:
    """The start that failed and one that joined it raise ``ConfigError``, which is an
    ``OSError`` as well, with the port in it."""
    async with serving() as other:
        server = WebSocketServer(port=other.port, providers={"town": town()})
        results = await asyncio.gather(server.start(), server.start(), return_exceptions=True)
        for error in results:
            assert isinstance(error, ConfigError), error
            assert isinstance(error, OSError)
            assert error.errno == errno.EADDRINUSE
            assert str(other.port) in str(error)
        assert await answers(other)


# What it says of itself


async def test_the_port_is_the_real_one_and_the_same_for_all_addresses() -> None:
    """Port 0 becomes a free one, for IPv4 and IPv6 of localhost alike."""
    async with serving() as server:
        addresses = {
            str(address[0])
            for *_, address in socket.getaddrinfo(
                "localhost", server.port, type=socket.SOCK_STREAM
            )
        }
        for address in addresses:
            host = f"[{address}]" if ":" in address else address
            async with connect(f"ws://{host}:{server.port}"):
                pass
        assert server.url == f"ws://localhost:{server.port}"


async def test_host_and_port_are_3000_of_localhost_and_can_be_set() -> None:
    """The defaults are those of d-back 0.0.x, and so is assigning others before the start."""
    server = WebSocketServer()
    assert server.url == "ws://localhost:3000"
    assert server.static_dir is None
    server.host, server.port = "127.0.0.1", 0
    async with server:
        assert server.url == f"ws://127.0.0.1:{server.port}"


async def test_the_connections_are_those_that_are_open(dial: Dial) -> None:
    """One for each client, with its address, until it is gone."""
    async with serving() as server:
        assert not server.connections
        first, second = await dial(server), await dial(server)
        assert len(server.connections) == 2
        ports = {connection.remote_address[1] for connection in server.connections}
        assert ports == {peer.connection.local_address[1] for peer in (first, second)}
        await first.connection.close()
        await until(lambda: len(server.connections) == 1)


async def test_a_static_dir_can_be_set_also_while_it_runs(tmp_path: Path) -> None:
    """The folder is served at once; one that is none is refused and changes nothing."""
    (tmp_path / "index.html").write_text("my page")

    async def page(server: WebSocketServer) -> bytes:
        reader, writer = await asyncio.open_connection("localhost", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        try:
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()

    server = serving()
    server.static_dir = str(tmp_path)
    async with server:
        assert b"my page" in await page(server)
        server.static_dir = None
        assert b"my page" not in await page(server)
        server.static_dir = tmp_path
        with pytest.raises(ConfigError, match="is not a directory"):
            server.static_dir = tmp_path / "nowhere"
        assert server.static_dir == tmp_path
        server.host = "127.0.0.1"
        assert b"my page" in await page(server)


async def test_callbacks_stand_above_what_the_configuration_names(dial: Dial) -> None:
    """They are first, unless the order itself names them; a reload keeps them."""
    config = parse({"gateway": {"port": 0}, "chain": {"order": ["town"]}})
    server = WebSocketServer(config=config, providers={"town": town()})
    assert "callbacks" not in server.config.chain.order
    server.on_get_user_data(lambda server_id: {"7": ADA})  # noqa: ARG005
    assert server.config.chain.order == ("callbacks", "town")
    async with server:
        peer = await dial(server)
        assert (await peer.join())["users"] == {"7": ADA}
        chain = {"order": ["town", "callbacks"], "failback_after": 0}
        await server.reload(parse({"gateway": {"port": 0}, "chain": chain}))
        await server.live.settle()
        (frame,) = await peer.pending()
        assert frame["data"] == {"uid": "7", "status": "offline", "roleColor": "#ffffff"}


async def test_broadcasts_while_it_does_not_run_are_dropped(dial: Dial) -> None:
    """Before the start and after the end they raise nothing, and change nothing."""
    server = serving()
    server.on_get_user_data(lambda server_id: {"7": ADA})  # noqa: ARG005

    async def all_of_them() -> None:
        await server.broadcast_presence("1", "7", "dnd")
        await server.broadcast_message("1", "7", "hello", "general")
        await server.broadcast_message({"type": "refresh_data"})
        await server.broadcast_message({"type": "error", "data": {"message": "hello"}})
        await server.broadcast_client_id_update("1", "100")

    await all_of_them()
    async with server:
        joined = await (await dial(server)).join()
        assert joined["users"] == {"7": ADA}
        assert "clientId" not in joined
    await all_of_them()


async def test_r27_a_loop_of_broadcasts_leaves_in_one_write(dial: Dial) -> None:
    """Awaited broadcasts stay in one turn of the event loop, and all have left, in order, when
    ``settled`` returns."""
    async with serving() as server:
        peer = await dial(server)
        await peer.join()
        await server.broadcast_presence("1", "7", "dnd")  # with the first, the callbacks begin
        await server.settled()
        await peer.expect("presence")
        turned = asyncio.Event()
        asyncio.get_running_loop().call_soon(turned.set)
        for number in range(100):
            await server.broadcast_presence("1", f"u{number}", "online")
            await server.broadcast_message("1", f"u{number}", "hello", f"c{number}")
        assert not turned.is_set()
        await server.settled()
        frames = await peer.pending()
        uids = [frame["data"]["uid"] for frame in frames]
        assert uids == [f"u{number}" for number in range(100) for _ in range(2)]
        assert [frame["type"] for frame in frames[:2]] == ["presence", "message"]


async def test_r19_a_long_loop_of_broadcasts_waits_for_the_core() -> None:
    """A program that is 256 events ahead waits, so other tasks run and the queue is bounded."""
    async with serving() as server:
        turned = asyncio.Event()
        asyncio.get_running_loop().call_soon(turned.set)
        for number in range(300):
            await server.broadcast_presence("1", f"u{number}", "online")
        assert turned.is_set()


async def test_settled_returns_while_it_does_not_run() -> None:
    """Before the start and after the end there is nothing to wait for."""
    server = serving()
    await server.settled()
    async with server:
        await server.settled()
    await server.settled()


async def test_a_last_word_is_sent_before_the_end(dial: Dial) -> None:
    """A stop sends what was broadcast before it."""
    server = serving()
    async with server:
        peer = await dial(server)
        await peer.join()
        await server.broadcast_presence("1", "8", "online", "Bo")
    assert (await peer.expect("presence"))["data"]["uid"] == "8"


async def test_it_leaves_nothing_behind() -> None:
    """No task of a run is left when it has ended, hanging callbacks and all."""
    before = asyncio.all_tasks()
    asked = asyncio.Event()

    async def hangs(server_id: str) -> dict[str, Any]:  # noqa: ARG001
        asked.set()
        return await asyncio.Event().wait()  # type: ignore[return-value]

    server = serving()
    server.on_get_user_data(hangs)
    async with server, connect(server.url) as connection:
        await connection.send(json.dumps({"type": "connect"}))
        await asked.wait()
    await until(lambda: asyncio.all_tasks() <= before)


# The name d_back


def test_d_back_is_the_same_under_its_old_name() -> None:
    """The old import names are the new objects, or a subclass with the old attributes."""
    assert issubclass(d_back.WebSocketServer, d_back_core.WebSocketServer)
    assert d_back.WebSocketServer is d_back.server.WebSocketServer
    assert d_back.MockDataProvider is d_back.mock.data.MockDataProvider
    assert d_back.MockDataProvider is d_back.mock.MockDataProvider is d_back_mock.MockDataProvider
    assert d_back.__version__.startswith("1.")


async def test_the_old_attributes_are_there(dial: Dial) -> None:
    """The listening server, the mock of callbacks, and what a connection has joined."""
    server = d_back.WebSocketServer(port=0)
    assert getattr(server, "server") is None  # noqa: B009  or mypy would know it to be None
    server.on_get_user_data(server.mock_provider.get_mock_user_data)
    async with server:
        assert server.server.sockets[0].getsockname()[1] == server.port
        peer, other = await dial(server), await dial(server)
        assert len((await peer.join("dworld"))["users"]) == 4
        joined = [each for each in server.connections if hasattr(each, "discordServer")]
        assert [(each.discordServer, each.server_id) for each in joined] == [
            ("232769614004748288", "dworld")
        ]
        assert joined[0] in server.connections
        await joined[0].send(json.dumps({"type": "error", "data": {"message": "directly"}}))
        assert (await peer.expect("error"))["data"]["message"] == "directly"
        await other.connection.close()
        await until(lambda: len(server.connections) == 1)


async def test_an_old_subclass_may_assign_its_attributes(dial: Dial) -> None:
    """Attributes of the old class keep the gateway's values, new names become the subclass's,
    and a function that is assigned to the name of a callback is registered."""

    class Old(d_back.WebSocketServer):
        def __init__(self) -> None:
            super().__init__(port=0, host="127.0.0.1")
            self.server, self.connections = None, set()
            self.config, self.listener = "mine", "mine"  # type: ignore[assignment]
            self.on_get_user_data = self.users  # type: ignore[method-assign, assignment]

        async def users(self, server_id: str) -> dict[str, Any]:  # noqa: ARG002
            return {"7": ADA}

    server = Old()
    async with server:
        peer = await dial(server)
        assert (await peer.join("dworld"))["users"] == {"7": ADA}
        assert len(server.connections) == len(server.server.connections) == 1
        old: Any = server
        old.url = "mine"
        assert {old.url, old.listener, old.config} == {"mine"}


def test_an_old_static_dir_that_is_missing_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that is not there is not served, as in d-back 0.0.x."""
    server = d_back.WebSocketServer()
    server.static_dir = tmp_path / "missing"
    assert server.static_dir is None
    assert "is not a directory" in caplog.text
    server.static_dir = tmp_path
    assert server.static_dir == tmp_path


async def test_the_old_mock_sends_to_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both periodic methods send frames of a user of the joined server until sending fails."""
    monkeypatch.setattr("d_back_mock.still.STATUS_INTERVAL", 0)
    monkeypatch.setattr("d_back_mock.still.MESSAGE_INTERVAL", 0)

    class Closing:
        discordServer = "232769614004748288"  # noqa: N815

        def __init__(self) -> None:
            self.frames: list[dict[str, Any]] = []

        async def send(self, text: str) -> None:
            self.frames.append(json.loads(text))
            if len(self.frames) == 3:
                raise ConnectionError

    mock, known = d_back.MockDataProvider(), demo_uids()
    for send, kind in (
        (mock.periodic_status_updates, "presence"),
        (mock.periodic_messages, "message"),
    ):
        websocket = Closing()
        with pytest.raises(ConnectionError):
            await send(websocket)
        assert [frame["type"] for frame in websocket.frames] == [kind] * 3
        assert {frame["data"]["uid"] for frame in websocket.frames} <= known


def demo_uids() -> set[str]:
    return set(d_back.MockDataProvider().get_mock_user_data("232769614004748288"))


def test_the_old_functions_of_the_command_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options have the old defaults, and the version is the package's."""
    monkeypatch.setattr(sys, "argv", ["d_back", "--port", "1"])
    options = d_back.server.parse_args()
    assert (options.port, options.host, options.static_dir) == (1, "localhost", None)
    assert d_back.server.get_version() == d_back.__version__


async def test_the_old_main_serves_until_it_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A folder that is missing is a warning; the demo communities are served."""
    caplog.set_level(logging.INFO, "d_back")
    options = ["--host", "127.0.0.1", "--port", "0", "--static-dir", str(tmp_path / "missing")]
    monkeypatch.setattr(sys, "argv", ["d_back", *options])
    task = asyncio.create_task(d_back.server.main())
    await until(lambda: "listening on " in caplog.text)
    url = caplog.text.partition("listening on ")[2].split()[0]
    async with connect(url) as connection:
        assert "dworld" in str(await connection.recv())
    assert "is not a directory" in caplog.text
    task.cancel()
    await asyncio.wait([task])


def test_the_old_mock_data_is_what_it_was() -> None:
    """Four servers with the fields of d-back 0.0.x, the default flag only on one; users by
    server, none for others."""
    mock = d_back.MockDataProvider()
    servers = mock.get_mock_server_data()
    assert [server["id"] for server in servers.values()] == ["dworld", "docs", "oauth", "repos"]
    assert [key for key, server in servers.items() if "default" in server] == [
        "232769614004748288"
    ]
    assert [len(mock.get_mock_user_data(server_id)) for server_id in servers] == [4, 1, 1, 21]
    assert mock.get_mock_user_data("482241773318701056") == {
        "223456789012345001": {
            "uid": "223456789012345001",
            "username": "nntin.xyz/me",
            "status": "online",
            "roleColor": "#feca57",
        }
    }
    assert mock.get_mock_user_data() == mock.get_mock_user_data("5") == {}


@pytest.mark.parametrize("command", [[sys.executable, "-m", "d_back"], ["d_back"]])
@pytest.mark.parametrize("folder", ["", "missing"])
async def test_the_old_command_serves(command: list[str], folder: str, tmp_path: Path) -> None:
    """The command and the module take the options of d-back 0.0.x, warn of a missing folder,
    serve, and end at SIGTERM."""
    (tmp_path / "index.html").write_text("my page")
    found = Path(sys.executable).parent / command[0]
    options = ["--host", "127.0.0.1", "--port", "0", "--static-dir", str(tmp_path / folder)]
    process = await asyncio.create_subprocess_exec(
        command[0] if command[1:] else str(found),
        *command[1:],
        *options,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(d_back_core.__file__).parents[1])},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    warned = False
    try:
        async with asyncio.timeout(PATIENCE):
            while b"listening on " not in (line := await process.stderr.readline()):
                assert line, "it has ended"
                warned = warned or b"Warning: static_dir" in line
        assert warned == bool(folder)
        url = line.split()[-1].decode()
        assert url.startswith("ws://127.0.0.1:")
        async with connect(url) as connection:
            assert "dworld" in str(await connection.recv())
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0


def test_the_old_module_tells_its_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option --version prints one, as it did."""
    monkeypatch.setattr(sys, "argv", ["d_back", "--version"])
    monkeypatch.setattr(logging, "raiseExceptions", True)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("d_back", run_name="__main__")
    assert ended.value.code == 0
    assert "1." in capsys.readouterr().out
