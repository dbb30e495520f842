"""``d-back watch``: the command line, the connection, and the end of both."""

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import click

from d_back_core import DBackError, JoinError
from d_back_core.client import FINAL_CODES, UNREACHABLE, ClientWorld, Listener, connect
from d_back_core.config import Config
from d_back_watch.descriptions import sanitized
from d_back_watch.lines import JsonLines, Output, PlainLines, ReaderClosedError, WriteError

PASSWORD_VARIABLE = "D_BACK_PASSWORD"  # noqa: S105  the name of the variable
PASSWORD_ATTEMPTS = 3
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_ALL_ADDRESSES = {"", "0.0.0.0", "::"}  # noqa: S104  compared only

_PROBLEMS: tuple[type[Exception], ...] = (DBackError, *UNREACHABLE)

Show: TypeAlias = Callable[[ClientWorld], Awaitable[None]]


class Target(NamedTuple):
    """The server to watch."""

    url: str
    server: str | None
    """A public id or server_id; None: the default server."""


@click.command()
@click.argument("url", required=False)
@click.argument("server", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines, for scripts and replays.")
@click.option(
    "--password-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"The file with the password [default: ${PASSWORD_VARIABLE}, or a prompt].",
)
@click.pass_context
def watch(
    ctx: click.Context,
    /,
    *,
    url: str | None,
    server: str | None,
    as_json: bool,
    password_file: Path | None,
) -> None:
    """Watch SERVER (by default, the default server) of the gateway at URL.

    Without URL, watch the gateway of the configuration. In a terminal, show the members and the
    chat. In a pipe or a file, write one line per change.
    """
    target = _target(ctx, url, server)
    on_screen = not as_json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    password = _password(password_file)
    for attempts_left in reversed(range(PASSWORD_ATTEMPTS)):
        try:
            asyncio.run(_watch(target, password, as_json=as_json, on_screen=on_screen))
        except JoinError as error:
            can_retry = attempts_left and not password_file and _can_prompt()
            if not _takes_password(error) or not can_retry:
                raise _refused(target, error) from error
            click.echo(f"{shown(target.url)}: {sanitized(str(error))}", err=True)
            password = click.prompt("Password", hide_input=True, err=True)
        except (ReaderClosedError, asyncio.CancelledError, KeyboardInterrupt):
            return
        except WriteError as error:
            raise click.ClickException(str(error)) from error
        except _PROBLEMS as error:
            raise click.ClickException(f"{shown(target.url)}: {_problem(error)}") from error
        else:
            return


async def _watch(target: Target, password: str | None, *, as_json: bool, on_screen: bool) -> None:
    if on_screen:
        from d_back_watch.screen import WatchApp  # noqa: PLC0415  lines do not need textual

        app = WatchApp(shown(target.url))
        await _follow(target, password, app.activity, app.run_until_closed)
        return
    output = Output(sys.stdout.fileno())
    listener: Listener = PlainLines(output.write, sys.stdout.encoding)
    if as_json:
        listener = JsonLines(output.write)
    with _stopped_by_signals(output):
        await _follow(target, password, listener, partial(_until_closed, output))


async def _follow(target: Target, password: str | None, listener: Listener, show: Show) -> None:
    url, server = target
    async with connect(url, server, password=password, listener=listener) as world:
        await show(world)
    if world.close_code in FINAL_CODES:
        raise DBackError(f"the gateway closed the connection with {world.close_code}")


async def _until_closed(output: Output, world: ClientWorld) -> None:
    """Return when the connection ends. Raises `ReaderClosedError` when the reader of the pipe
    closes it."""
    loop = asyncio.get_running_loop()
    reader_closed: asyncio.Future[None] = loop.create_future()
    is_pipe = sys.platform != "win32" and stat.S_ISFIFO(os.fstat(output.descriptor).st_mode)
    ended = asyncio.ensure_future(world.until(lambda world: world.close_code is not None))
    if is_pipe:  # the write end becomes readable only when the read end is closed
        loop.add_reader(output.descriptor, _set, reader_closed)
    try:
        await asyncio.wait((ended, reader_closed), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
        if is_pipe:
            loop.remove_reader(output.descriptor)
    if reader_closed.done():
        raise ReaderClosedError


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextmanager
def _stopped_by_signals(output: Output) -> Iterator[None]:
    """Cancel the current task on SIGINT and SIGTERM, also while it blocks in a write. A second
    signal ends the process."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, signal.SIG_DFL)
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)
        output.interrupt()

    # The handlers of the loop run between two callbacks only, and a blocked write never returns.
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def shown(url: str) -> str:
    """Return the URL without its credentials."""
    parts = urlsplit(url)
    return sanitized(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))


def _target(ctx: click.Context, first: str | None, second: str | None) -> Target:
    """Return the target of the arguments. A single argument is a server unless it looks like a
    URL."""
    if first is None or (second is None and not set(first) & set(":/.")):
        return Target(_configured(ctx), first)
    url = first if "://" in first else f"ws://{first}"
    try:
        parts = urlsplit(url)
        known = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:  # an invalid port
        known = False
    if not known:
        raise click.UsageError(
            f"'{sanitized(first)}' is not a URL (ws://HOST:PORT, wss://HOST/PATH)"
        )
    return Target(urlunsplit(parts._replace(scheme=_SCHEMES[parts.scheme])), second)


def _configured(ctx: click.Context) -> str:
    """Return the URL of the gateway in the configuration."""
    config: Config = ctx.find_root().obj()
    gateway = config.gateway
    if gateway.path is not None or not gateway.port:
        key = "path" if gateway.path is not None else "port"
        raise click.UsageError(f"{config.source}: gateway.{key} gives no address: pass the URL")
    host = "localhost" if gateway.host in _ALL_ADDRESSES else gateway.host
    scheme = "ws" if gateway.tls is None else "wss"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{gateway.port}"


def _password(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(PASSWORD_VARIABLE) or None
    try:
        return file.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise click.UsageError(f"--password-file '{file}': {reason}") from None


def _can_prompt() -> bool:
    return not os.environ.get(PASSWORD_VARIABLE) and sys.stdin.isatty()


def _takes_password(error: JoinError) -> bool:
    """True if a password could open the server; others require a login, or are closed (R34)."""
    return error.code == "unauthorized" and "password" in str(error)


def _problem(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, socket.gaierror):
        return "the host is not known"
    if isinstance(error, OSError) and "Connect call failed" in text:
        return "nothing listens there, or it cannot be reached"
    if isinstance(error, OSError) and error.strerror:
        return sanitized(error.strerror.lower())
    if not isinstance(error, DBackError):  # other errors may have a short text, or none
        name = type(error).__name__
        text = f"{name}: {text}" if text else name
    return sanitized(text)


def _refused(target: Target, error: JoinError) -> click.ClickException:
    wanted = "the default server" if target.server is None else f"server '{target.server}'"
    problem = sanitized(f"{wanted}: {error} ({error.code})")
    if error.code == "unauthorized" and not _takes_password(error):
        problem += "; d-back watch opens servers with a password only"
    return click.ClickException(f"{shown(target.url)}: {problem}")
