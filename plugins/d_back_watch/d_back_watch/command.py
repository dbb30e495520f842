"""``d-back watch``: which server, with what password, for whom; and how it ends."""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import NamedTuple, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import click

from d_back_core import config as configuration
from d_back_core.client import FINAL_CODES, UNREACHABLE, ClientWorld, Listener, connect
from d_back_core.errors import DBackError, JoinError, described
from d_back_watch.lines import (
    CannotWriteError,
    JsonLines,
    NobodyReadsError,
    Output,
    PlainLines,
)
from d_back_watch.words import harmless

PASSWORD_VARIABLE = "D_BACK_PASSWORD"  # noqa: S105  the name of the variable
TRIES = 3
"""How often a password is asked for."""
NO_SCREEN = (
    "the screen needs textual: pip install 'd-back-core[watch]'"
    " (without it: d-back watch --json, or d-back watch | cat)"
)
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_EVERYWHERE = {"", "0.0.0.0", "::"}  # noqa: S104  not to listen on

_PROBLEMS: tuple[type[Exception], ...] = (DBackError, *UNREACHABLE)

Stay: TypeAlias = Callable[[ClientWorld], Awaitable[None]]


class Target(NamedTuple):
    """What is watched."""

    url: str
    server: str | None
    """None: the default one."""


@click.command()
@click.argument("url", required=False)
@click.argument("server", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines, for scripts and replays.")
@click.option(
    "--password-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"Where the password of a protected server is [default: ${PASSWORD_VARIABLE}, or asked].",
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
    """Watch SERVER (its id; the default one without it) of the gateway at URL.

    Without a URL it is the gateway that the configuration describes. In a terminal it draws the
    members and what they say; into a pipe or a file it writes a line for each change.
    """
    target = _target(ctx, url, server)
    on_screen = not as_json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    if on_screen and find_spec("textual") is None:
        raise click.ClickException(NO_SCREEN)
    password = _password(password_file)
    for left in reversed(range(TRIES)):
        try:
            asyncio.run(_watch(target, password, as_json=as_json, on_screen=on_screen))
        except JoinError as error:
            if error.code != "unauthorized" or password_file or not left or not _can_ask():
                raise _refused(target, error) from error
            click.echo(f"{shown(target.url)}: {harmless(str(error))}", err=True)
            password = click.prompt("Password", hide_input=True, err=True)
        except (NobodyReadsError, asyncio.CancelledError, KeyboardInterrupt):
            return
        except CannotWriteError as error:
            raise click.ClickException(str(error)) from error
        except _PROBLEMS as error:
            problem = str(error) if isinstance(error, DBackError) else described(error)
            raise click.ClickException(harmless(f"{shown(target.url)}: {problem}")) from error
        else:
            return


async def _watch(target: Target, password: str | None, *, as_json: bool, on_screen: bool) -> None:
    if on_screen:
        from d_back_watch.screen import Watch  # noqa: PLC0415  not everybody has it

        app = Watch(shown(target.url))
        await _follow(target, password, app.ear, app.stay)
        return
    output = Output(sys.stdout.fileno())
    listener: Listener = PlainLines(output.write, sys.stdout.encoding)
    if as_json:
        listener = JsonLines(output.write)
    with _ending(output):
        await _follow(target, password, listener, partial(_while_read, output))


async def _follow(target: Target, password: str | None, listener: Listener, stay: Stay) -> None:
    url, server = target
    async with connect(url, server, password=password, listener=listener) as world:
        await stay(world)
    if world.close_code in FINAL_CODES:
        raise DBackError(f"the gateway closed the connection with {world.close_code}")


async def _while_read(output: Output, world: ClientWorld) -> None:
    """Stay until the connection has ended, or the other end of the pipe is closed."""
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    watched = sys.platform != "win32" and stat.S_ISFIFO(os.fstat(output.descriptor).st_mode)
    over = asyncio.ensure_future(world.until(lambda world: world.close_code is not None))
    if watched:  # nothing can be read there: it tells of its end only
        loop.add_reader(output.descriptor, _set, gone)
    try:
        await asyncio.wait((over, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        over.cancel()
        if watched:
            loop.remove_reader(output.descriptor)
    if gone.done():
        raise NobodyReadsError


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextmanager
def _ending(output: Output) -> Iterator[None]:
    """SIGINT and SIGTERM end the task, also while its output is held up; a second one ends the
    process at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def end(_number: int, _frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, signal.SIG_DFL)
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)
        output.give_up()

    # Not the loop's own handlers: those are called between two turns, and a write may not end.
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def shown(url: str) -> str:
    """A URL without the credentials that may be in it."""
    parts = urlsplit(url)
    return harmless(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))


def _target(ctx: click.Context, first: str | None, second: str | None) -> Target:
    """One argument alone is a server unless it looks like an address."""
    if first is None or (second is None and not set(first) & set(":/.")):
        return Target(_configured(ctx), first)
    url = first if "://" in first else f"ws://{first}"
    try:
        parts = urlsplit(url)
        known = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:  # a port that is none
        known = False
    if not known:
        raise click.UsageError(f"'{harmless(first)}' is no URL (ws://HOST:PORT, wss://HOST/PATH)")
    return Target(urlunsplit(parts._replace(scheme=_SCHEMES[parts.scheme])), second)


def _configured(ctx: click.Context) -> str:
    """Where the gateway listens that the configuration describes."""
    config: configuration.Config = ctx.find_root().obj()
    gateway = config.gateway
    if gateway.path is not None or not gateway.port:
        key = "path" if gateway.path is not None else "port"
        raise click.UsageError(f"{config.source}: gateway.{key} says no address; give the URL")
    host = "localhost" if gateway.host in _EVERYWHERE else gateway.host
    scheme = "ws" if gateway.tls is None else "wss"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{gateway.port}"


def _password(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(PASSWORD_VARIABLE) or None
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise click.UsageError(f"--password-file '{file}': {reason}") from None


def _can_ask() -> bool:
    return not os.environ.get(PASSWORD_VARIABLE) and sys.stdin.isatty()


def _refused(target: Target, error: JoinError) -> click.ClickException:
    wanted = "the default server" if target.server is None else f"server '{target.server}'"
    problem = harmless(f"{wanted}: {error} ({error.code})")
    return click.ClickException(f"{shown(target.url)}: {problem}")
