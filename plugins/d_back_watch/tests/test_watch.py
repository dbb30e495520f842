"""``d-back watch`` as a process: its output, its errors and its end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from fcntl import F_GETPIPE_SZ, fcntl, ioctl
from pathlib import Path
from termios import FIONREAD
from typing import Any, ClassVar

import msgspec
import pytest
from docs_pages import blocks, named, sections, tables
from terminal import Terminal, terminal
from textual.binding import Binding
from websockets.asyncio.server import ServerConnection, serve

from d_back_core import (
    DBackError,
    Message,
    MessageDeleted,
    MessageEdited,
    Server,
    ServerChanged,
    User,
    UserChanged,
    UserRemoved,
    WebSocketServer,
)
from d_back_core.client import (
    ClientWorld,
    Error,
    ErrorReason,
    Joined,
    PresenceFrame,
    Request,
    ServerJoin,
    ServerMessage,
    WirePresence,
)
from d_back_core.config import parse
from d_back_testing import ScriptedProvider
from d_back_watch.descriptions import describe, sanitized
from d_back_watch.lines import JsonLines, PlainLines
from d_back_watch.screen import WatchApp

PATIENCE = 60.0
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eEve\r\n"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def town(extra: Mapping[str, User] | None = None) -> ScriptedProvider:
    return ScriptedProvider(
        {
            "1": Server(name="Plaza", id="plaza", default=True),
            "3": Server(name="Vault", id="vault", passworded=True),
        },
        {
            "1": {
                "7": User(username="Ada", status="online", role_color="#ff6b6b"),
                "8": User(username="Bob", status="idle"),
                **(extra or {}),
            },
            "3": {"9": User(username="Guard", status="dnd")},
        },
    )


VAULT = {"3": {"password": "open sesame"}}


def serving(
    provider: ScriptedProvider, port: int = 0, tables: Mapping[str, Any] = VAULT
) -> WebSocketServer:
    table = {"gateway": {"port": port}, "chain": {"order": ["a"]}, "servers": tables}
    return WebSocketServer(config=parse(table), providers={"a": provider})


class Watching:
    """A ``d-back watch`` whose output goes into a pipe."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        """Return the next line, without the line break."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = (await self.process.stdout.readline()).decode()
        assert line.endswith("\n"), line
        return line[:-1]

    async def frame(self) -> dict[str, Any]:
        """Return the frame of the next line."""
        frame: dict[str, Any] = json.loads(await self.line())["frame"]
        return frame

    async def end(self, number: int = 0) -> tuple[int, str, str]:
        """Send the signal, if any, and return the exit status and the rest of both outputs."""
        if number:
            self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            output, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, (output or b"").decode(), errors.decode()


@asynccontextmanager
async def watching(
    *arguments: str,
    stdout: int = subprocess.PIPE,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> AsyncIterator[Watching]:
    known = {key: text for key, text in os.environ.items() if not key.startswith("D_BACK_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "d_back_core"),
        *(arguments if "watch" in arguments else ("watch", *arguments)),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**known, **(environ or {})},
        cwd=folder,
        start_new_session=True,
        limit=2**24,
    )
    try:
        yield Watching(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


# JSON Lines


async def test_json_lines_are_the_frames_as_they_come() -> None:
    """Each frame is written at once, from the list of servers on, with its time."""
    provider = town()
    began = datetime.now(UTC)
    async with serving(provider) as server, watching("--json", server.url) as watch:
        first = json.loads(await watch.line())
        assert first.keys() == {"time", "frame"}
        assert began <= datetime.fromisoformat(first["time"]) <= datetime.now(UTC)
        assert first["frame"]["type"] == "server-list"
        assert set((await watch.frame())["data"]["users"]) == {"7", "8"}
        provider.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        assert await watch.frame() == {
            "type": "presence",
            "server": "1",
            "seq": 1,
            "data": {"uid": "7", "status": "dnd"},
        }


async def test_a_lost_connection_is_a_line_of_its_own() -> None:
    """The frames of the next connection follow."""
    async with serving(town()) as server, watching("--json", server.url) as watch:
        await watch.line(), await watch.line()
        port = server.port
        await server.stop()
        assert json.loads(await watch.line())["lost"] == {"code": 1001}
        async with serving(town(), port):
            assert (await watch.frame())["type"] == "server-list"
            assert (await watch.frame())["type"] == "server-join"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("form", ["--json", "--"])
async def test_a_signal_ends_it(form: str, number: signal.Signals) -> None:
    """The exit status is 0, all lines are complete, and no error is printed."""
    async with serving(town()) as server, watching(form, server.url) as watch:
        await watch.line()
        status, rest, errors = await watch.end(number)
        assert (status, errors) == (0, "")
        assert not rest or rest.endswith("\n")


async def test_a_signal_ends_a_blocked_write() -> None:
    """The process ends although the reader of the pipe does not read."""
    crowd = {str(uid): User(username=f"Member {uid}") for uid in range(100, 5000)}
    reading, writing = os.pipe()
    async with (
        serving(town(crowd)) as server,
        watching("--json", server.url, stdout=writing) as watch,
    ):
        os.close(writing)
        await until_full(reading)
        status, _, errors = await watch.end(signal.SIGINT)
        assert (status, errors) == (0, "")
    os.close(reading)


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0)


async def until_full(pipe: int) -> None:
    """Return when a writer is blocked because the pipe is nearly full."""
    half = fcntl(pipe, F_GETPIPE_SZ) / 2
    await until(lambda: int.from_bytes(ioctl(pipe, FIONREAD, bytes(4)), sys.byteorder) > half)


@pytest.mark.parametrize("form", ["--json", "--"])
async def test_it_ends_with_its_reader(form: str) -> None:
    """The process ends at once when the pipe is closed, with status 0 and without an error."""
    reading, writing = os.pipe()
    async with serving(town()) as server, watching(form, server.url, stdout=writing) as watch:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert await asyncio.to_thread(pipe.readline)
        status, _, errors = await watch.end()
        assert (status, errors) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
async def test_a_full_disk_is_an_error() -> None:
    """The error is one line, with status 1."""
    with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230  a device
        async with (
            serving(town()) as server,
            watching("--json", server.url, stdout=full.fileno()) as watch,
        ):
            status, _, errors = await watch.end()
    assert status == 1
    assert errors == "Error: the output cannot be written: No space left on device\n"


# Plain lines


async def test_plain_lines_describe_changes() -> None:
    """A line for each join, leave, change and message."""
    provider = town()
    async with serving(provider) as server, watching(server.url, "plaza") as watch:
        line = await watch.line()
        assert line[2] == line[5] == ":"
        assert line[9:] == "Plaza (plaza): 2 members: 1 online, 1 idle, 0 dnd, 0 offline"
        provider.emit(
            UserChanged(server_id="1", uid="9", username="Cy", status="dnd"),
            UserChanged(server_id="1", uid="9", status="online"),
            UserChanged(server_id="1", uid="9", username="Cyd"),
            Message(server_id="1", uid="9", message="hello\nworld", channel="5", id="m"),
        )
        shown = [(await watch.line())[9:] for _ in range(4)]
        provider.emit(
            MessageEdited(server_id="1", uid="9", message="hi\nworld", channel="5", id="m")
        )
        shown.append((await watch.line())[9:])
        provider.emit(
            MessageDeleted(server_id="1", channel="5", id="m"),
            UserRemoved(server_id="1", uid="9"),
        )
        assert [*shown, *[(await watch.line())[9:] for _ in range(2)]] == [
            "Cy joined, dnd",
            "Cy is online",
            "Cyd is the new name of Cy",
            "Cyd: hello world",
            "Cyd: hi world (edited)",
            "chat a message was deleted",
            "Cyd left",
        ]


@pytest.mark.parametrize("form", ["--json", "--"])
async def test_control_characters_are_not_written(form: str) -> None:
    """Names, messages and the name of the server reach the terminal without them."""
    provider = town({"9": User(username=HOSTILE, status="online")})
    provider.servers_answer = {"1": Server(name=HOSTILE, id="plaza", default=True)}
    async with serving(provider) as server, watching(form, server.url) as watch:
        written = await watch.line() + (await watch.line() if form == "--json" else "")
        provider.emit(
            Message(server_id="1", uid="9", message=HOSTILE, channel="5"),
            UserChanged(server_id="1", uid="9", status="dnd"),
        )
        written += await watch.line() + await watch.line()
    assert "Eve" in written
    assert not set(written) & set("\x1b\x07\x9b\u202e\r\n")


# Passwords and errors


async def refused(*arguments: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    async with watching(*arguments, environ=environ) as watch:
        status, _, errors = await watch.end()
    return status, errors


async def test_a_password_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    """The file has precedence, and no output contains the password."""
    path = tmp_path / "password"
    path.write_bytes(b"\xef\xbb\xbfopen sesame\r\n")  # as Windows writes it
    right, wrong = {"D_BACK_PASSWORD": "open sesame"}, {"D_BACK_PASSWORD": "guess"}
    by_file = ("--password-file", str(path))
    async with serving(town()) as server:
        for options, environ in (((), right), (by_file, wrong)):
            async with watching("--json", *options, server.url, "vault", environ=environ) as watch:
                written = await watch.line() + await watch.line()
                assert '"serverName":"Vault"' in written
                assert "sesame" not in written


@pytest.mark.parametrize("environ", [{}, {"D_BACK_PASSWORD": "guess"}, {"D_BACK_PASSWORD": ""}])
async def test_a_missing_password_is_an_error(environ: Mapping[str, str]) -> None:
    """Without a terminal there is no prompt, and the error is one line."""
    async with serving(town()) as server:
        status, errors = await refused(server.url, "vault", environ=environ)
        assert status == 1
        assert errors.startswith(f"Error: {server.url}: server 'vault': This server requires")
        assert errors.endswith(" (unauthorized)\n")
        assert errors.count("\n") == 1


async def test_an_unknown_server_is_an_error() -> None:
    """The error is one line, with status 1."""
    async with serving(town()) as server:
        status, errors = await refused(server.url, "nowhere")
        assert (status, errors.count("\n")) == (1, 1)
        assert errors.endswith(" (unknown_server)\n")


async def test_an_unreachable_gateway_is_an_error() -> None:
    """The error is one line with the URL, without its credentials."""
    async with serving(town()) as server:
        url = server.url
    status, errors = await refused(url.replace("//", "//me:secret@"))
    assert (status, errors) == (
        1,
        f"Error: {url}: nothing listens there, or it cannot be reached\n",
    )


async def test_an_unknown_host_is_an_error() -> None:
    """The error contains no number of the system."""
    status, errors = await refused("ws://gateway.invalid")
    assert (status, errors) == (1, "Error: ws://gateway.invalid: the host is not known\n")


@pytest.mark.parametrize("url", ["ftp://localhost", "ws://", "ws://localhost:x", "localhost:0"])
async def test_an_invalid_url_is_a_usage_error(url: str) -> None:
    """The exit status is 2."""
    status, errors = await refused(url)
    assert status == 2
    assert f"'{url}' is not a URL" in errors


async def test_a_final_close_code_is_an_error() -> None:
    """The client does not reconnect, and the error has the close code."""

    async def handle(connection: ServerConnection) -> None:
        await connection.send('{"type":"server-list","data":{}}')
        await connection.recv()
        joined = Joined(request=Request(server="x"), server_name="X", epoch="e", seq=0, users={})
        await connection.send(as_json(ServerJoin(data=joined)))
        await connection.close(1008)

    async with serve(handle, "localhost", 0) as server:
        url = f"ws://localhost:{server.sockets[0].getsockname()[1]}"
        status, errors = await refused(url)
    assert (status, errors) == (1, f"Error: {url}: the gateway closed the connection with 1008\n")


def as_json(frame: ServerMessage) -> str:
    return msgspec.json.encode(frame).decode()


# The choice of the gateway


@pytest.mark.parametrize("by", ["file", "flag"])
async def test_without_a_url_the_configured_gateway_is_watched(tmp_path: Path, by: str) -> None:
    """A single argument is then the server."""
    async with serving(town()) as server:
        port = str(server.port) if by == "file" else "1"
        (tmp_path / "d-back.toml").write_text(f'gateway = {{ host = "0.0.0.0", port = {port} }}')
        flags = ("--port", str(server.port)) if by == "flag" else ()
        async with watching(*flags, "watch", "plaza", folder=tmp_path) as watch:
            assert "Plaza (plaza)" in await watch.line()


async def test_a_url_needs_no_scheme() -> None:
    """``HOST:PORT`` is accepted, and so are the URLs of a browser."""
    async with serving(town()) as server:
        for url in (f"localhost:{server.port}", f"http://localhost:{server.port}/"):
            async with watching(url) as watch:
                assert "Plaza (plaza)" in await watch.line()


async def test_a_configuration_without_an_address_is_a_usage_error(tmp_path: Path) -> None:
    """With port 0, the address is not known in advance."""
    (tmp_path / "d-back.toml").write_text("gateway.port = 0")
    async with watching("watch", folder=tmp_path) as watch:
        status, _, errors = await watch.end()
    assert status == 2
    assert "d-back.toml: gateway.port gives no address: pass the URL" in errors


# The format of lines


def test_json_lines_can_be_sorted_by_time() -> None:
    """For any fraction and time zone, and each frame is one line."""
    written: list[bytes] = []
    times = iter([NOON, NOON.astimezone().replace(microsecond=5)])
    lines = JsonLines(written.append, lambda: next(times))
    lines.received(
        b'{\n "type": "x",\r\n "a": "\x9b" }'.replace(b"\x9b", b"\xc2\x9b"), ClientWorld()
    )
    lines.lost(None)
    assert written == [
        b'{"time":"2026-11-24T12:00:00.000000Z","frame":{"type":"x","a":"\\u009b"}}\n',
        b'{"time":"2026-11-24T12:00:00.000005Z","lost":{"code":null}}\n',
    ]
    assert written == sorted(written)


@pytest.mark.parametrize("frame", [b"nope", b'{"a":', b"{} {}", b'{"a":"\xff"}'])
def test_invalid_json_is_not_written(frame: bytes) -> None:
    """An invalid line would make the file unreadable."""
    written: list[bytes] = []
    with pytest.raises(DBackError, match="not a frame of d-back"):
        JsonLines(written.append).received(frame, ClientWorld())
    assert not written


def test_plain_lines_can_be_written_in_any_encoding() -> None:
    """A character that the encoding lacks is written as an escape."""
    written: list[bytes] = []
    error = Error(data=ErrorReason(message="é 🍵", code="notice"))
    lines = PlainLines(written.append, "latin-1", lambda: NOON)
    lines.received(as_json(error).encode(), ClientWorld())
    assert written[0].endswith(b" gateway error: \xe9 \\U0001f375\n")


def test_control_characters_are_replaced() -> None:
    """Control characters and bidi overrides are replaced; emoji and other scripts are kept."""
    assert sanitized(HOSTILE) == "\ufffd[2J\ufffd]0;owned\ufffd\ufffd31m\ufffdEve "
    assert sanitized("a\tb\u2028c\0d\x7f") == "a b c\ufffdd\ufffd"
    assert sanitized("\ud800") == "\ufffd"
    kept = "👩‍👧 שלום é"
    assert sanitized(kept) == kept


def test_a_change_of_color_is_not_described() -> None:
    """A line of text would not show the color."""
    world = ClientWorld()
    data = WirePresence(uid="7", status="idle", username="Ada", role_color="#ffffff")
    frame = PresenceFrame(server="1", seq=1, data=data)
    assert describe(frame, world) == ("Ada", "#ffffff", "joined, idle", False, None)
    world.apply(frame)
    data = WirePresence(uid="7", status="idle", role_color="#000000")
    assert describe(PresenceFrame(server="1", seq=2, data=data), world) is None


# The screen


async def seen(opened: Terminal, *texts: str) -> str:
    """Return the text of the terminal as soon as it contains all of these."""
    return await asyncio.to_thread(
        opened.until, lambda shown: all(each in shown for each in texts)
    )


async def test_the_screen_survives_a_restart(tmp_path: Path) -> None:
    """It shows members, chat and the state of the connection; ``q`` restores the terminal."""
    provider = town()
    async with serving(provider) as server:
        with terminal("watch", server.url, folder=tmp_path) as opened:
            await seen(opened, "Plaza (plaza)", "● live", "online — 1", "● Ada", "◐ Bob")
            provider.emit(
                Message(server_id="1", uid="7", message="good morning", channel="5"),
                UserChanged(server_id="1", uid="8", status="dnd"),
            )
            await seen(opened, "Ada good morning", "⊖ Bob", "1 online, 0 idle, 1 dnd")
            port = server.port
            await server.stop()
            await seen(opened, "○ reconnecting", "lost (closed with 1001)")
            async with serving(town({"9": User(username="Cy", status="online")}), port):
                await seen(opened, "● live", "● Cy", "online — 2")
                opened.type("q")
                assert await asyncio.to_thread(opened.end) == 0
            assert b"\x1b[?1049l" in opened.raw


async def test_control_characters_are_not_drawn(tmp_path: Path) -> None:
    """Escape sequences in names and messages are shown as text."""
    provider = town({"9": User(username=HOSTILE, status="online")})
    async with serving(provider) as server:
        with terminal("watch", server.url, folder=tmp_path) as opened:
            await seen(opened, "● Ada", "Eve")
            provider.emit(Message(server_id="1", uid="9", message=f"{HOSTILE}!", channel="5"))
            shown = await seen(opened, "owned\ufffd\ufffd31m\ufffdEve !", "● Ada", "◐ Bob")
            assert "\ufffd[2J" in shown
            assert b"owned\x07" not in opened.raw
            assert b"\xc2\x9b" not in opened.raw
            assert opened.screen.title != "owned"
            opened.type("q")
            assert await asyncio.to_thread(opened.end) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_restores_the_terminal(tmp_path: Path, number: signal.Signals) -> None:
    """SIGINT and SIGTERM end the screen as ``q`` does."""
    async with serving(town()) as server:
        with terminal("watch", server.url, folder=tmp_path) as opened:
            await seen(opened, "● Ada")
            opened.process.send_signal(number)
            assert await asyncio.to_thread(opened.end) == 0
            assert b"\x1b[?1049l" in opened.raw


async def test_an_error_ends_the_screen(tmp_path: Path) -> None:
    """A server that becomes protected ends the command with status 1 and the reason."""
    provider = town()
    environ = {"D_BACK_PASSWORD": "guess"}
    async with serving(provider) as server:
        with terminal("watch", server.url, folder=tmp_path, environ=environ) as opened:
            await seen(opened, "● Ada")
            provider.emit(ServerChanged(server_id="1", passworded=True))
            assert await asyncio.to_thread(opened.end) == 1
            assert "(unauthorized)" in opened.text


async def test_a_password_prompt(tmp_path: Path) -> None:
    """A terminal is asked again after a wrong password, and the password is not shown."""
    async with serving(town()) as server:
        with terminal("watch", server.url, "vault", folder=tmp_path) as opened:
            await seen(opened, "requires", "Password:")
            opened.type("guess\n")
            await asyncio.to_thread(opened.until, lambda text: text.count("Password:") == 2)
            opened.type("open sesame\n")
            await seen(opened, "Vault (vault)", "⊖ Guard")
            assert b"sesame" not in opened.raw
            opened.type("q")
            assert await asyncio.to_thread(opened.end) == 0


async def test_a_password_prompt_appears_three_times(tmp_path: Path) -> None:
    """After the third wrong password the command fails."""
    async with serving(town()) as server:
        with terminal("watch", "--json", server.url, "vault", folder=tmp_path) as opened:
            await seen(opened, "Password:")
            opened.type("guess\n")
            await asyncio.to_thread(opened.until, lambda text: text.count("Password:") == 2)
            opened.type("guess\n")
            assert await asyncio.to_thread(opened.end) == 1


class Clubs(ScriptedProvider):
    """Two servers that the provider protects; it decides by the credentials of its class."""

    credentials: ClassVar[frozenset[str]] = frozenset({"login"})

    def __init__(self) -> None:
        servers = {
            "3": Server(name="Vault", id="vault", passworded=True),
            "4": Server(name="Cellar", id="cellar"),
            "5": Server(name="Club", id="club", passworded=True),
        }
        super().__init__(servers, {server_id: {} for server_id in servers})


class Closed(Clubs):
    credentials: ClassVar[frozenset[str]] = frozenset()


@pytest.mark.parametrize(
    ("kind", "reason"), [(Clubs, "Please login with Discord."), (Closed, "no client can join it.")]
)
async def test_r34_a_server_that_takes_no_password_asks_for_none(
    kind: type[Clubs], reason: str, tmp_path: Path
) -> None:
    """One that requires a login, or that is closed: the terminal shows the reason at once."""
    async with serving(kind()) as server:
        with terminal("watch", "--json", server.url, "club", folder=tmp_path) as opened:
            assert await asyncio.to_thread(opened.end) == 1
            text = " ".join(opened.text.split())
            assert reason in text
            assert "opens servers with a password only" in text
            assert "Password:" not in text


async def test_a_password_opens_its_server_and_no_other() -> None:
    """Neither one with another password, nor one that requires a login."""
    tables = {"3": {"password": "open sesame"}, "4": {"password": "close sesame"}}
    environ = {"D_BACK_PASSWORD": "open sesame"}
    async with serving(Clubs(), tables=tables) as server:
        async with watching("--json", server.url, "vault", environ=environ) as watch:
            assert '"serverName":"Vault"' in await watch.line() + await watch.line()
        for other in ("cellar", "club"):
            status, errors = await refused("--json", server.url, other, environ=environ)
            assert status == 1
            assert "(unauthorized)" in errors


async def test_a_dumb_terminal_gets_lines(tmp_path: Path) -> None:
    """A terminal without cursor control gets plain lines."""
    async with serving(town()) as server:
        with terminal("watch", server.url, folder=tmp_path, environ={"TERM": "dumb"}) as opened:
            await seen(opened, "Plaza (plaza): 2 members")
            assert b"\x1b" not in opened.raw


async def test_lines_do_not_import_textual(tmp_path: Path) -> None:
    """Only the screen needs it, so the output for scripts starts quickly."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['textual'] = None\n")
    environ = {"PYTHONPATH": str(tmp_path)}
    async with (
        serving(town()) as server,
        watching("--json", server.url, environ=environ) as watch,
    ):
        assert (await watch.frame())["type"] == "server-list"


async def test_the_session_ends_with_the_command() -> None:
    """The gateway has no connection afterwards."""
    async with serving(town()) as server:
        async with watching("--json", server.url) as watch:
            await watch.line(), await watch.line()
            assert len(server.connections) == 1
            await watch.end(signal.SIGINT)
        await until(lambda: not server.connections)


# The documentation


def test_the_lines_of_the_page_are_written() -> None:
    """Each example of the page is written as the page shows it."""
    for block in blocks("terminal.md", "json"):
        shown = json.loads(block.text)
        written: list[bytes] = []
        time = datetime.fromisoformat(shown["time"])
        lines = JsonLines(written.append, lambda time=time: time)  # type: ignore[misc]
        if "lost" in shown:
            lines.lost(shown["lost"]["code"])
        else:
            lines.received(json.dumps(shown["frame"]).encode(), ClientWorld())
        assert written == [block.text.encode()]


def test_fields_of_the_lines() -> None:
    """The table has the fields of the examples, and no other field."""
    (table,) = tables(sections("terminal.md")["JSON Lines"])
    shown = [json.loads(block.text) for block in blocks("terminal.md", "json")]
    fields = {key for line in shown for key in line} | {"lost.code"}
    assert {row[0].strip("`") for row in table} == fields


def test_keys_of_the_screen() -> None:
    """The table has each key that the screen binds."""
    (table,) = tables(sections("terminal.md")["The screen"])
    described = {name.lower() for row in table for name in named(row[0])}
    keys = {key for binding in WatchApp.BINDINGS for key in _keys(binding)}
    names = {"escape": "esc", "slash": "/", "ctrl+c": "ctrl-c"}
    assert {names.get(key, key) for key in keys} - {"ctrl+q"} <= described


def _keys(binding: object) -> list[str]:
    assert isinstance(binding, Binding)
    return binding.key.split(",")
