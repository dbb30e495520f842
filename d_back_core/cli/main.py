"""The command line: ``d-back`` without a command runs the gateway."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from msgspec import structs

from d_back_core import config as configuration
from d_back_core.cli.allocator import return_freed_memory
from d_back_core.cli.log_format import formatter
from d_back_core.cli.reloading import Reloader
from d_back_core.embedding.server import WebSocketServer
from d_back_core.errors import ConfigError, closest, described, nearest
from d_back_core.providers.entry_points import installed, installed_commands

PAGE = "page"
"""The plugin that serves `/` if it is installed and no other page is configured."""
LEVELS = ["debug", "info", "warning", "error"]
WORDS = {
    **dict.fromkeys(("run", "serve", "start", "up"), "d-back without a command runs the gateway"),
    **dict.fromkeys(("stop", "restart", "reload"), "send SIGTERM to stop it, SIGHUP to reload"),
    **dict.fromkeys(("config", "validate", "test", "lint"), "did you mean 'd-back check'?"),
    **dict.fromkeys(("status", "list", "show"), "did you mean 'd-back explain'?"),
    "help": "did you mean 'd-back --help'?",
    "version": "did you mean 'd-back --version'?",
}
"""Words that other programs have as commands → what does it here."""
EXIT_TIMEOUT = 0.5
"""Seconds that tasks have to end after their cancellation."""
STANDARD_ERROR = 2

log = logging.getLogger("d_back")


class _Group(click.Group):
    """Prints errors of the operator in one line, with exit status 2, and finds the commands of
    installed packages."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise _OperatorError("\n".join((str(error), *error.excerpt))) from error
        except OSError as error:  # a command cannot write its output
            if ctx.invoked_subcommand is None:
                raise
            raise click.ClickException(described(error)) from error
        except click.NoSuchOption as error:
            option = error.option_name
            ours = closest(option, {name: name for name in _options(self)})
            if ours is None or error.possibilities:
                raise
            what = f"'{option}'"
            if ours != option:
                what = f"No such option '{option}'. Did you mean '{ours}'? It"
            example = f"d-back {ours} … {ctx.invoked_subcommand}"
            message = f"{what} stands before the command ({example})"
            raise click.UsageError(message, ctx=error.ctx) from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [*args]
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            option = error.option_name
            owners = [
                name
                for name, command in _commands().COMMANDS.items()
                if option in _options(command)
            ]
            named = [name for name in owners if name in words]
            if not owners:
                raise
            example = f"d-back {(named or owners)[0]} {option}"
            what = f"'{option}' stands after the command ({example})"
            raise click.UsageError(what, ctx=error.ctx) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None:
            ctx.fail(f"No such command '{args[0]}'{self._meant(ctx, args[0])}")
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: click.Context, word: str) -> str:
        """Return what was probably meant by a word that is not a command."""
        if word in WORDS:
            return f" ({WORDS[word]})"
        if Path(word).suffix == ".toml" or os.path.isfile(word):  # noqa: PTH113  any text
            return f" (did you mean 'd-back --config {word}'?)"
        return nearest(word, self.list_commands(ctx))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_commands().COMMANDS, *installed_commands()})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As the base class, but a package that is broken does not break the help of the rest."""
        names = self.list_commands(ctx)
        width = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._summary(ctx, name, width)) for name in names])

    def _summary(self, ctx: click.Context, name: str, width: int) -> str:
        try:
            command = self.get_command(ctx, name)
        except ConfigError:
            return f"(broken: run d-back {name})"
        return command.get_short_help_str(width) if command else ""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name) or _commands().COMMANDS.get(cmd_name)
        return found or _commands().installed_command(cmd_name)


class _OperatorError(click.ClickException):
    exit_code = 2


def _options(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def _commands() -> Any:  # noqa: ANN401  a module
    """Import the other commands; running the gateway does not need them."""
    from d_back_core.cli import commands  # noqa: PLC0415

    return commands


def source(ctx: click.Context) -> configuration.Source:
    """Return the file, environment and flags that the process was started with."""
    flags: dict[str, Any] = ctx.find_root().params
    path = configuration.find(flags["config"], Path(click.get_app_dir("d-back")), os.environ)
    overrides = {key: flags[key] for key in ("host", "port", "static_dir")}
    page = PAGE if PAGE in installed() else None
    return configuration.Source(path, os.environ, page=page, **overrides)


def load(source: configuration.Source) -> configuration.Config:
    """Load the configuration, also again for a reload."""
    config = source.load()
    return config if source.path is not None else _with_the_only_plugin(config)


def _with_the_only_plugin(config: configuration.Config) -> configuration.Config:
    """Use the only installed plugin, so that it can be tried without a configuration."""
    names = tuple(name for name in installed() if name != PAGE)
    if len(names) != 1:
        return config
    return structs.replace(config, chain=structs.replace(config.chain, order=names))


@click.group(cls=_Group, invoke_without_command=True, context_settings={"show_default": True})
@click.option("--config", metavar="FILE", help="Read this file; see above.")
@click.option("--host", metavar="HOST", help="Listen on this host  [default: localhost]")
@click.option("--port", metavar="PORT", type=click.IntRange(0, 65535), help="[default: 3000]")
@click.option("--static-dir", metavar="DIR", help="Serve this directory at /.")
@click.option("--watch", is_flag=True, help="Reload the configuration when its file changes.")
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

    Without a command it runs the gateway. The configuration is the first of: --config,
    $D_BACK_CONFIG, ./d-back.toml, d-back.toml in the user's configuration folder. Without any, the
    only installed plugin is used, else the mock provider. $D_BACK_HOST, $D_BACK_PORT and
    $D_BACK_STATIC_DIR are used if the option is not given.
    """
    _configure_logging(
        log_level or ("info" if ctx.invoked_subcommand is None else "warning"), log_format
    )
    ctx.obj = lambda: load(source(ctx))
    if ctx.invoked_subcommand is None:
        with _killed_by_ctrl_c():
            return_freed_memory()
            started = source(ctx)
            server = WebSocketServer(config=load(started))
            gc.freeze()  # collections need not look at what is imported: it stays
            _occupy_standard_streams()
        with (
            suppress(KeyboardInterrupt),  # on Windows, which has no signal handlers
            asyncio.Runner(loop_factory=_loop_factory()) as runner,
        ):
            runner.run(_serve(server, started, watch=watch))


@contextmanager
def _killed_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end the process as SIGTERM does: at once, and without a traceback.

    Otherwise a plugin that is being imported would be blamed for the `KeyboardInterrupt`.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # as under nohup
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _occupy_standard_streams() -> None:
    """Open the standard streams that the process was started without.

    Otherwise another file gets such a number, and libuv aborts the process when it closes it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        pass
    os.close(descriptor)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop factory if it is installed (``d-back-core[speed]``)."""
    if find_spec("uvloop") is None:
        return None
    from uvloop import new_event_loop  # noqa: PLC0415

    return new_event_loop


def _configure_logging(level: str, kind: str) -> None:
    logging.raiseExceptions = False  # a log that cannot be written must not stop the gateway
    logging.basicConfig(level=level.upper())
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter(kind))


async def _serve(server: WebSocketServer, source: configuration.Source, *, watch: bool) -> None:
    """Serve until a signal arrives; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(server.start())
    reloader = Reloader(server, source, partial(load, source))
    reloading = [asyncio.ensure_future(reloader.run())]
    if watch:
        reloading.append(asyncio.ensure_future(reloader.watch()))

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        serving.cancel()

    if sys.platform != "win32":
        ends_with_terminal = _ends_with_terminal()

        def hang_up() -> None:
            if ends_with_terminal and not _has_terminal():
                log.info("the terminal is closed")
                stop()
            else:
                reloader.request()

        loop.add_signal_handler(signal.SIGHUP, hang_up)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    try:
        await serving
    except asyncio.CancelledError:
        await _cancel_all()
        log.info("stopped")
    finally:
        for task in reloading:
            task.cancel()


def _ends_with_terminal() -> bool:
    """True if a terminal started the process, and nohup does not keep it alive after that."""
    return _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


def _has_terminal() -> bool:
    """True if the process has a controlling terminal. It loses it when the window is closed; the
    kernel and the shell then send SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def _cancel_all() -> None:
    """Cancel all other tasks. One that ignores cancellation does not keep the process alive."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        _, running = await asyncio.wait(left, timeout=EXIT_TIMEOUT)
        if running:
            log.warning("stopped; %d tasks ignore cancellation", len(running))
            os._exit(0)
