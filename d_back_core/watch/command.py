"""``d-back watch``: which server, with what password, for whom; and how it ends."""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import click

from d_back_core import config as configuration
from d_back_core.client import FINAL_CODES, UNREACHABLE, ClientWorld, Listener, connect
from d_back_core.errors import DBackError, JoinError, described
from d_back_core.watch.lines import (
    CannotWriteError,
    JsonLines,
    NobodyReadsError,
    PlainLines,
    to_descriptor,
)
from d_back_core.watch.words import harmless

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
            with _until_told():
                asyncio.run(_watch(target, password, as_json=as_json, on_screen=on_screen))
        except JoinError as error:
            if error.code != "unauthorized" or password_file or not left or not _can_ask():
                raise _refused(target, error) from error
            click.echo(f"{shown(target.url)}: {harmless(str(error))}", err=True)
            password = click.prompt("Password", hide_input=True, err=True)
        except NobodyReadsError:
            return
        except KeyboardInterrupt:
            return
        except CannotWriteError as error:
            raise click.ClickException(str(error)) from error
        except _PROBLEMS as error:
            problem = harmless(described(error))
            raise click.ClickException(f"{shown(target.url)}: {problem}") from error
        else:
            return


async def _watch(target: Target, password: str | None, *, as_json: bool, on_screen: bool) -> None:
    listener: Listener
    stay: Stay
    if on_screen:
        from d_back_core.watch.screen import Watch  # noqa: PLC0415  not everybody has it

        app = Watch(shown(target.url))
        listener, stay = app.ear, app.stay
    else:
        descriptor = sys.stdout.fileno()
        write = to_descriptor(descriptor)
        encoding = sys.stdout.encoding
        listener = JsonLines(write) if as_json else PlainLines(write, encoding)
        stay = _while_read(descriptor)
    url, server = target
    async with connect(url, server, password=password, listener=listener) as world:
        await stay(world)
    if world.close_code in FINAL_CODES:
        raise DBackError(f"the gateway closed the connection with {world.close_code}")


def _while_read(descriptor: int) -> Stay:
    """Stay until the connection has ended, or the other end of the pipe is closed."""

    async def stay(world: ClientWorld) -> None:
        over = asyncio.ensure_future(world.until(lambda world: world.close_code is not None))
        gone = asyncio.get_running_loop().create_future()
        watched = sys.platform != "win32" and stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        if watched:  # nothing can be read there: this tells of its end only
            asyncio.get_running_loop().add_reader(descriptor, gone.set_exception, NobodyReadsError)
        try:
            await asyncio.wait((over, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            if watched:
                asyncio.get_running_loop().remove_reader(descriptor)
        if gone.done():
            gone.result()

    return stay


@contextmanager
def _until_told() -> Iterator[None]:
    """SIGINT and SIGTERM raise ``KeyboardInterrupt``, also in a write that nobody reads; a second
    one ends the process at once."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        for number in before:
            signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, end) for number in numbers}
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
    return PASSWORD_VARIABLE not in os.environ and sys.stdin.isatty()


def _refused(target: Target, error: JoinError) -> click.ClickException:
    wanted = "the default server" if target.server is None else f"server '{target.server}'"
    problem = harmless(f"{wanted}: {error} ({error.code})")
    return click.ClickException(f"{shown(target.url)}: {problem}")
