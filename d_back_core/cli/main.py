"""The command line: ``d-back`` without a command runs the gateway."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from msgspec import structs

from d_back_core import config as configuration
from d_back_core.embedding.server import WebSocketServer
from d_back_core.errors import ConfigError, described
from d_back_core.providers.entry_points import installed, installed_commands

PAGE = "page"
"""The plugin whose page is shown where it is installed and nothing else is configured."""
LEVELS = ["debug", "info", "warning", "error"]
LEAVE_TIMEOUT = 0.5
STANDARD_ERROR = 2
LOG_FIELDS = ["asctime", "levelname", "name", "message"]
LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

log = logging.getLogger("d_back")


class _Group(click.Group):
    """Tells the operator's errors in one line, with exit status 2, and finds the commands that
    installed plugins bring."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise _OperatorError(str(error)) from error
        except OSError as error:  # of a command that cannot write its output
            if ctx.invoked_subcommand is None:
                raise
            raise click.ClickException(described(error)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_commands().COMMANDS, *installed_commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name) or _commands().COMMANDS.get(cmd_name)
        return found or _commands().installed_command(cmd_name)


class _OperatorError(click.ClickException):
    exit_code = 2


def _commands() -> Any:  # noqa: ANN401  a module
    """The other commands, imported when one of them is typed."""
    from d_back_core.cli import commands  # noqa: PLC0415

    return commands


def load(ctx: click.Context) -> configuration.Config:
    """The configuration that the command line, the environment and the file make together."""
    flags: dict[str, Any] = ctx.find_root().params
    path = configuration.find(flags["config"], Path(click.get_app_dir("d-back")), os.environ)
    overrides = {key: flags[key] for key in ("host", "port", "static_dir")}
    page = PAGE if PAGE in installed() else None
    config = configuration.load(path, os.environ, page=page, **overrides)
    return config if path is not None else _with_the_only_plugin(config)


def _with_the_only_plugin(config: configuration.Config) -> configuration.Config:
    """Without a file: the plugin that somebody tries out, where there is no other."""
    names = tuple(name for name in installed() if name != PAGE)
    if len(names) != 1:
        return config
    return structs.replace(config, chain=structs.replace(config.chain, order=names))


@click.group(cls=_Group, invoke_without_command=True)
@click.option("--config", metavar="FILE", help="The configuration, in place of ./d-back.toml.")
@click.option("--host", metavar="HOST", help="Listen on this host [default: localhost].")
@click.option("--port", metavar="PORT", type=click.IntRange(0, 65535), help="[default: 3000]")
@click.option("--static-dir", metavar="DIR", help="Serve this folder at /.")
@click.option("--watch", is_flag=True, help="Apply the configuration anew when its file changes.")
@click.option(
    "--log-level", type=click.Choice(LEVELS), help="[default: info; for a command: warning]"
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.version_option(package_name="d-back-core", prog_name="d-back")
@click.pass_context
def main(
    ctx: click.Context,
    /,
    *,
    log_level: str | None,
    log_format: str,
    watch: bool,
    **_flags: object,
) -> None:
    """Serve the live state of chat communities over one WebSocket.

    Without a command it runs the gateway. Configuration: --config, $D_BACK_CONFIG,
    ./d-back.toml, the user's configuration folder, or the built-in default: the mock provider, or
    whatever plugin is the only one that is installed.
    """
    _begin_log(log_level or ("info" if ctx.invoked_subcommand is None else "warning"), log_format)
    ctx.obj = partial(load, ctx)
    if ctx.invoked_subcommand is None:
        config = load(ctx)
        server = WebSocketServer(config=config)
        watched = config.path if watch else None
        _occupy_standard_streams()
        with (
            suppress(KeyboardInterrupt),  # where there are no signal handlers
            asyncio.Runner(loop_factory=_loop_factory()) as runner,
        ):
            runner.run(_serve(server, lambda: load(ctx), watched))


def _occupy_standard_streams() -> None:
    """Where we were started without some of them: libuv aborts the process when it closes what
    has their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        pass
    os.close(descriptor)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """That of uvloop, where it is installed (``d-back-core[speed]``)."""
    if find_spec("uvloop") is None:
        return None
    from uvloop import new_event_loop  # noqa: PLC0415

    return new_event_loop


def _begin_log(level: str, kind: str) -> None:
    logging.raiseExceptions = False  # a log that cannot be written must not stop the gateway
    logging.basicConfig(level=level.upper(), format=LOG_FORMAT)
    # It tells of every change in the folder, so also of a log that is written there: for ever.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    if kind == "json":
        from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415

        for sink in logging.getLogger().handlers:
            sink.setFormatter(JsonFormatter(LOG_FIELDS, rename_fields={"levelname": "level"}))


async def _serve(
    server: WebSocketServer, reread: Callable[[], configuration.Config], watched: Path | None
) -> None:
    """Serve until a signal comes; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(server.start())
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.ensure_future(_reload(server, reread))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        serving.cancel()

    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGHUP, reload)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    watching = asyncio.ensure_future(_watch(watched, reload))
    try:
        await serving
    except asyncio.CancelledError:
        await _leave()
        log.info("stopped")
    finally:
        for task in (watching, *reloads):
            task.cancel()


async def _leave() -> None:
    """End what is left; a provider that sits out its cancellation does not keep the process."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        _, stubborn = await asyncio.wait(left, timeout=LEAVE_TIMEOUT)
        if stubborn:
            log.warning("stopped, without waiting for what does not end")
            os._exit(0)


async def _reload(server: WebSocketServer, reread: Callable[[], configuration.Config]) -> None:
    try:
        config = await asyncio.to_thread(reread)
        await server.reload(config)
    except ConfigError as error:
        log.warning("the configuration stays as it is: %s", error)
    else:
        log.info("%s is applied", config.source)


async def _watch(path: Path | None, changed: Callable[[], None]) -> None:
    if path is None:
        return
    folder = await asyncio.to_thread(path.parent.absolute)
    from watchfiles import awatch  # noqa: PLC0415

    # The folder, not the file: editors put a new file in the old one's place.
    async for changes in awatch(folder):
        if any(Path(name).name == path.name for _, name in changes):
            changed()
