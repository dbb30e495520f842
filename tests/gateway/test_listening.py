"""The addresses and the socket file that the gateway listens on."""

import asyncio
import logging
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from operating import posix
from peers import PATIENCE
from sample_users import ADA, ONE

from d_back_core import ConfigError
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.gateway import listening
from d_back_core.gateway.listening import SocketFile
from d_back_testing import ScriptedProvider

ABSENT = "192.0.2.1"
"""An address for documentation, which no machine has."""


def serving(**gateway: object) -> tuple[WebSocketServer, ScriptedProvider]:
    provider = ScriptedProvider(ONE, {"1": {"7": ADA}})
    config = parse({"gateway": gateway, "chain": {"order": ["a"]}})
    return WebSocketServer(config=config, providers={"a": provider}), provider


def accepts(port: int) -> bool:
    """Whether a connection to that port of the loopback address succeeds."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the name ``localhost`` have an address that the machine lacks, too."""
    resolve = socket.getaddrinfo

    def resolved(host: str | None, *args: Any, **options: Any) -> list[Any]:  # noqa: ANN401  as it
        if host != "localhost":
            return list(resolve(host, *args, **options))
        found = resolve("127.0.0.1", *args, **options)
        lacking = [(*entry[:4], (ABSENT, entry[4][1])) for entry in found]
        return [*lacking, *found]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


@pytest.mark.usefixtures("two_addresses")
async def test_one_address_that_the_machine_lacks_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It listens on the other one."""
    server, _ = serving(host="localhost", port=0)
    async with server:
        with socket.create_connection(("127.0.0.1", server.port), 10):
            pass
    warned = [each.getMessage() for each in caplog.records if each.name == "d_back.gateway"]
    line = f"built-in defaults: gateway.host 'localhost': this machine lacks {ABSENT}"
    assert warned.count(line) == 1


async def test_a_host_without_any_address_of_the_machine_is_an_error() -> None:
    """No provider starts."""
    server, provider = serving(host=ABSENT, port=0)
    with pytest.raises(ConfigError, match=f"host '{ABSENT}': is not an address of this machine"):
        await server.start()
    assert not provider.calls


async def test_a_start_that_is_cancelled_frees_the_port() -> None:
    """The stop that follows closes the sockets of a start that had only just begun to listen."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server, _ = serving(host="127.0.0.1", port=port)
    gateway = server._run.gateway  # noqa: SLF001  to cancel its start alone
    starting = asyncio.create_task(gateway.start())
    async with asyncio.timeout(PATIENCE):
        while not accepts(port):  # noqa: ASYNC110  in each turn of the loop
            await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    await gateway.stop()
    assert not accepts(port)


@posix
async def test_a_start_that_is_cancelled_removes_the_control_socket(tmp_path: Path) -> None:
    """Also at the moment at which it accepts its first connection."""
    path = tmp_path / "control"
    server, _ = serving(port=0, control=str(path))
    control = server._run._control  # noqa: SLF001  to cancel its start alone
    assert control is not None
    starting = asyncio.create_task(control.start())
    async with asyncio.timeout(PATIENCE):
        while not path.exists():  # noqa: ASYNC110  in each turn of the loop
            await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    await control.stop()
    assert not path.exists()
    await server.stop()


async def test_a_port_that_another_process_begins_to_listen_on_is_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both may bind it, as long as neither of them listens; the sockets are closed."""
    loop = asyncio.get_running_loop()
    create_server = loop.create_server

    async def overtaken(*args: Any, **options: Any) -> asyncio.Server:  # noqa: ANN401  as it
        bound = await create_server(*args, **options)
        other.listen()
        return bound

    monkeypatch.setattr(loop, "create_server", overtaken)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        server, _ = serving(host="127.0.0.1", port=port)
        with pytest.raises(ConfigError, match=rf"gateway\.port '{port}': is in use"):
            await server.start()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("host", "a..b", "is not a known host"),
        ("host", "x" * 70, "is not a known host"),
        ("control", "a\0b", "is not a valid path"),
        ("path", "a\0b", "is not a valid path"),
    ],
)
async def test_an_address_that_cannot_be_one_is_an_error(
    key: str, value: str, reason: str
) -> None:
    """It names the key and the value, and no provider starts."""
    server, provider = serving(port=0, **{key: value})
    with pytest.raises(ConfigError, match=rf"gateway\.{key} '.*': {reason}"):
        await server.start()
    assert not provider.calls


@pytest.mark.parametrize("port", [-1, 65_536])
async def test_a_port_that_a_program_sets_has_a_range(port: int) -> None:
    """Another number would be cut to sixteen bits by some event loops."""
    server, _ = serving(port=0)
    server.port = port
    with pytest.raises(ConfigError, match=rf"gateway\.port '{port}': expected 0 to 65535"):
        await server.start()


@posix
async def test_the_socket_file_is_removed_at_the_end(tmp_path: Path) -> None:
    """One that another process listens on is neither replaced nor removed."""
    path = tmp_path / "socket"
    first, _ = serving(path=str(path))
    async with first:
        second, provider = serving(path=str(path))
        with pytest.raises(ConfigError, match="is in use by another process"):
            await second.start()
        assert not provider.calls
        assert path.is_socket()
    assert not path.exists()


@posix
async def test_a_socket_file_that_was_left_is_replaced(tmp_path: Path) -> None:
    """A process that was killed removes nothing."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    server, _ = serving(path=str(path))
    async with server:
        assert path.is_socket()
    assert not path.exists()


@posix
def test_a_socket_that_was_made_since_the_check_is_not_replaced(tmp_path: Path) -> None:
    """Providers start between the check and the start to listen, and that may take long."""
    path = tmp_path / "socket"
    one, other = SocketFile(str(path)), SocketFile(str(path))
    for each in (one, other):
        each.check()
    with one.bind() as bound:
        bound.listen()
        made = path.stat()
        with pytest.raises(OSError, match="in use by another process"):
            other.bind()
        assert path.stat() == made


async def test_other_records_of_asyncio_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Only failed accepts are taken out of its log."""
    server, _ = serving(port=0)
    async with server:
        logging.getLogger("asyncio").error("a callback has failed")
    assert "a callback has failed" in caplog.text


async def test_the_log_of_asyncio_is_left_alone_after_the_end() -> None:
    """The gateway may be one of many in a program."""
    before = list(logging.getLogger("asyncio").filters)
    server, _ = serving(port=0)
    async with server:
        assert logging.getLogger("asyncio").filters != before
    assert logging.getLogger("asyncio").filters == before


@posix
async def test_a_file_that_is_not_a_socket_stays(tmp_path: Path) -> None:
    """The error names the key and the file."""
    path = tmp_path / "notes"
    path.write_text("keep")
    server, _ = serving(path=str(path))
    with pytest.raises(ConfigError, match=r"gateway\.path .*notes': exists and is not a socket"):
        await server.start()
    assert path.read_text() == "keep"


@posix
@pytest.mark.parametrize("key", ["path", "control"])
async def test_a_unix_socket_is_for_its_user_only(tmp_path: Path, key: str) -> None:
    """Its mode is 0600 from the moment at which it exists, and it is gone at the end."""
    path = tmp_path / "socket"
    server, _ = serving(port=0, **{key: str(path)})
    async with server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


@posix
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757])
@pytest.mark.parametrize("key", ["path", "control"])
async def test_a_folder_of_everybody_is_refused(tmp_path: Path, key: str, mode: int) -> None:
    """Another user could put a socket where ours was."""
    os.chmod(tmp_path, mode)  # noqa: PTH101  pathlib's is refused in coroutines
    server, _ = serving(port=0, **{key: str(tmp_path / "socket")})
    reason = "other users can write to its folder"
    with pytest.raises(ConfigError, match=rf"gateway\.{key} .*socket': {reason}"):
        await server.start()
    assert not (tmp_path / "socket").exists()


@posix
async def test_the_control_socket_of_another_program_stays(tmp_path: Path) -> None:
    """It listens there and gives no answer that d-back knows; no provider starts."""
    path = tmp_path / "socket"
    other = await asyncio.start_unix_server(lambda _, writer: writer.close(), path=str(path))
    async with other:
        before = path.stat().st_ino
        server, provider = serving(port=0, control=str(path))
        with pytest.raises(
            ConfigError, match=r"gateway\.control .*: is in use by another process"
        ):
            await server.start()
        assert not provider.calls
        assert path.stat().st_ino == before


@posix
def test_a_socket_file_that_another_process_made_stays(tmp_path: Path) -> None:
    """The end of this process removes only its own file."""
    path = tmp_path / "socket"
    file = listening.SocketFile(str(path))
    with file.bind(), socket.socket(socket.AF_UNIX) as theirs:
        path.rename(tmp_path / "old")
        theirs.bind(str(path))
        file.remove()
    assert path.is_socket()
