"""The command line: ``d-back``."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from d_back_core import config as configuration
from d_back_core import plugins as discovery
from d_back_core.errors import ConfigError, PluginError
from d_back_core.server import WebSocketServer

LEVELS = ["debug", "info", "warning", "error"]
LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

F = TypeVar("F", bound=Callable[..., Any])


class _Group(click.Group):
    """Tells the operator's errors in one line, with exit status 2."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise _OperatorError(str(error)) from error


class _OperatorError(click.ClickException):
    exit_code = 2


def _load(ctx: click.Context) -> configuration.Config:
    flags: dict[str, Any] = ctx.find_root().params
    path = configuration.find(flags["config"], Path(click.get_app_dir("d-back")), os.environ)
    overrides = {key: flags[key] for key in ("host", "port", "static_dir")}
    return configuration.load(path, os.environ, **overrides)


@click.group(cls=_Group, invoke_without_command=True)
@click.option("--config", metavar="FILE", help="The configuration, in place of ./d-back.toml.")
@click.option("--host", metavar="HOST", help="Listen on this host [default: localhost].")
@click.option("--port", metavar="PORT", type=click.IntRange(0, 65535), help="[default: 3000]")
@click.option("--static-dir", metavar="DIR", help="Serve this folder at /.")
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@click.version_option(package_name="d-back-core", prog_name="d-back")
@click.pass_context
def main(ctx: click.Context, /, log_level: str, **_flags: object) -> None:
    """Serve the live state of chat communities over one WebSocket.

    Without a command it runs the gateway. Configuration: --config, $D_BACK_CONFIG,
    ./d-back.toml, the user's configuration folder, or the built-in default, the mock provider.
    """
    logging.raiseExceptions = False  # a log that cannot be written must not stop the gateway
    logging.basicConfig(level=log_level.upper(), format=LOG_FORMAT)
    if ctx.invoked_subcommand is None:
        server = WebSocketServer(config=_load(ctx))
        asyncio.run(_serve(server))


async def _serve(server: WebSocketServer) -> None:
    """Serve until a signal comes; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(server.start())

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        serving.cancel()

    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    try:
        await serving
    except asyncio.CancelledError:
        logging.getLogger("d_back").info("stopped")


@main.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Check the configuration and say what would run, without starting it."""
    config = _load(ctx)
    server = WebSocketServer(config=config)
    click.echo(f"{config.source}: fine; would listen on {server.url}")
    for place, name in enumerate(config.chain.order, 1):
        core = config.provider(name).core
        click.echo(f"{place}. {name}: plugin {core.use}, {core.mode}{_narrowed(core)}")
    for name in config.providers.keys() - set(config.chain.order):
        click.echo(f"   {name}: configured, but not in chain.order")


def _narrowed(core: configuration.ProviderConfig) -> str:
    parts = [
        f", {key} {', '.join(sorted(values))}"
        for key, values in (("servers", core.servers), ("fields", core.fields))
        if values is not None
    ]
    return "".join(parts)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plugins(ctx: click.Context, *, as_json: bool) -> None:
    """List the installed provider plugins."""
    config = _load(ctx)
    used = {config.provider(name).core.use for name in config.chain.order}
    rows = [
        _row(plugin, configured=plugin.name in used)
        for candidates in discovery.installed().values()
        for plugin in candidates
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        state = "configured" if row["configured"] else "not configured"
        says = row["error"] or f"hooks: {', '.join(row['hooks'])}"
        click.echo(f"{row['name']} ({row['distribution']} {row['version']}), {state}; {says}")


def _row(plugin: discovery.Installed, *, configured: bool) -> dict[str, Any]:
    hooks: list[str] = []
    problem = None
    try:
        hooks = discovery.hooks_of(discovery.provider_class(plugin))
    except PluginError as error:
        problem = str(error)
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "configured": configured,
        "hooks": hooks,
        "error": problem,
    }


@main.command("hash-password")
def hash_password() -> None:
    """Ask for a password and print its hash, for servers.ID.password."""
    from d_back_core.secret import hash_password as hashed  # noqa: PLC0415

    click.echo(hashed(click.prompt("Password", hide_input=True, confirmation_prompt=True)))


@main.command()
@click.argument("what", type=click.Choice(["protocol", "config"]))
def schema(what: str) -> None:
    """Print the JSON Schema of the protocol or of d-back.toml."""
    from d_back_core import protocol  # noqa: PLC0415

    described = protocol.schema() if what == "protocol" else configuration.schema()
    click.echo(json.dumps(described, indent=2))
