"""The commands of ``d-back``, except running the gateway."""

import asyncio
import json
from contextlib import suppress

import click
import msgspec

from d_back_core import config as configuration
from d_back_core.admin.control_socket import Question, Reply, ask
from d_back_core.admin.explain import Explanation, Supplied, explain
from d_back_core.cli.init import init
from d_back_core.cli.plugins import plugins
from d_back_core.clock import Clock
from d_back_core.embedding.server import WebSocketServer
from d_back_core.errors import JoinError, printable
from d_back_core.providers.entry_points import installed, installed_commands, only
from d_back_core.providers.entry_points import load as load_entry_point
from d_back_core.providers.loader import add_commands, load
from d_back_core.secret import hash_password
from d_back_core.state.live import Live
from d_back_core.wire import protocol


def _config(ctx: click.Context) -> configuration.Config:
    """Return the configuration of the command line, the environment and the file."""
    loaded: configuration.Config = ctx.find_root().obj()
    return loaded


@click.command()
@click.option("--live", is_flag=True, help="Also start each provider and query it once.")
@click.pass_context
def check(ctx: click.Context, /, *, live: bool) -> None:
    """Check the configuration and list what would run, without starting it."""
    config = _config(ctx)
    server = WebSocketServer(config=config)
    click.echo(f"{config.source}: is valid; would listen on {server.url}")
    cores = {plugin.name: plugin.core for plugin in server.live.plugins}
    for place, name in enumerate(config.chain.order, 1):
        core = cores[name]
        click.echo(f"{place}. {name}: plugin {core.use}, {core.mode}{_filters(core)}")
    for name in config.chain.recorders:
        click.echo(f"   {name}: recorder")
    for name in config.providers:
        if name in config.names:
            continue
        click.echo(f"   {name}: configured, but not in chain.order")
    if live and not _all_ready(_ask(config, Question())):
        ctx.exit(1)


def _filters(core: configuration.ProviderConfig) -> str:
    parts = [
        f", {key} {', '.join(sorted(values))}"
        for key, values in (("servers", core.servers), ("fields", core.fields))
        if values is not None
    ]
    return "".join(parts)


def _all_ready(explanation: Explanation) -> bool:
    for provider in explanation.providers:
        stats = provider.stats
        problem = f": {printable(provider.error)}" if provider.error else ""
        click.echo(f"{stats.name}: {stats.health}, {stats.records} records{problem}")
    return all(provider.stats.health == "ready" for provider in explanation.providers)


@click.command("explain")
@click.argument("server", required=False)
@click.argument("uid", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def explain_command(
    ctx: click.Context, /, *, server: str | None, uid: str | None, as_json: bool
) -> None:
    """Show which provider supplies which field: of all servers, or of the users of SERVER (or of
    one user, UID).

    Asks the running process if gateway.control is set; otherwise starts the configured providers,
    queries each once, and stops them.
    """
    explanation = _ask(_config(ctx), Question(server=server, uid=uid))
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(explanation)).decode()
        click.echo("\n".join(map(printable, text.split("\n"))))
    else:
        _print_tables(explanation)


def _ask(config: configuration.Config, question: Question) -> Explanation:
    reply = asyncio.run(_asked(config, question))
    if reply.explanation is None:
        raise click.ClickException(reply.error or "the control socket has sent no answer")
    return reply.explanation


async def _asked(config: configuration.Config, question: Question) -> Reply:
    if config.gateway.control is not None:
        reply = await ask(config.gateway.control, question)
        if reply is not None:
            return reply
    live = Live(config, [each.probing() for each in load(config)], Clock())
    try:
        await live.start()
        if question.server is not None:
            with suppress(JoinError):  # `explain` raises the same error below
                await live.joins.hold(question.server)
        return Reply(explanation=explain(live, question.server, question.uid))
    except JoinError as error:
        return Reply(error=str(error))
    finally:
        await live.stop()


def _print_tables(explanation: Explanation) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console(markup=False, emoji=False)  # a name like [link=…] is a name
    providers = Table(
        "provider", "mode", "health", "since", "latency", "records", "refused", "error"
    )
    for each in explanation.providers:
        stats = each.stats
        latency = "" if stats.latency is None else f"{stats.latency * 1000:.0f} ms"
        since = f"{stats.since:.0f} s"
        counts = str(stats.records), str(stats.refused)
        providers.add_row(
            stats.name, stats.mode, stats.health, since, latency, *counts, printable(each.error)
        )
    console.print(providers)
    if explanation.users is not None:
        users = Table("uid", "username", "status", "roleColor")
        for user in explanation.users:
            users.add_row(user.uid, *(_cell(each) for each in user.fields.values()))
        console.print(users)
        return
    servers = Table("server_id", "id", "name", "users from", "users", "sessions")
    for server in explanation.servers:
        answers = ", ".join(server.providers) + (" (stale)" if server.stale else "")
        counts = "" if server.users is None else str(server.users), str(server.sessions)
        fields = server.fields
        servers.add_row(
            server.server_id, server.public_id, _cell(fields["name"]), answers, *counts
        )
    console.print(servers)


def _cell(supplied: Supplied) -> str:
    lost = "".join(f"; {name}: {value}" for name, value in supplied.lost.items())
    return printable(f"{supplied.value} ({supplied.provider or 'default'}{lost})")


@click.command("hash-password")
def hash_password_command() -> None:
    """Ask for a password and print its hash, for servers.ID.password."""
    click.echo(hash_password(click.prompt("Password", hide_input=True, confirmation_prompt=True)))


@click.command()
@click.argument("what", type=click.Choice(["protocol", "config"]))
def schema(what: str) -> None:
    """Print the JSON Schema of the protocol or of d-back.toml."""
    described = protocol.schema() if what == "protocol" else configuration.schema()
    click.echo(json.dumps(described, indent=2))


def installed_command(name: str) -> click.Command | None:
    """Import and return a command of an installed package; None if there is none.

    A stand-alone command (entry-point group ``d_back.commands``) takes precedence over the
    commands of a provider plugin. Raises `PluginError`.
    """
    if candidates := installed_commands().get(name):
        plugin = only(candidates)
        command = load_entry_point(plugin)
        if not isinstance(command, click.Command):
            raise plugin.error("the entry point is not a click.Command", plugin.remedy)
        return command
    if candidates := installed().get(name):
        group = click.Group(name, help=f"Commands of the provider plugin {name}.")
        return group if add_commands(only(candidates), group) else None
    if name in SEPARATE:
        message = f"'d-back {name}' needs {SEPARATE[name]} (pip install {SEPARATE[name]})"
        raise click.ClickException(message)
    return None


SEPARATE = {"new-plugin": "d-back-testing", "watch": "d-back-watch"}
"""Command → the distribution of this project that installs it."""

COMMANDS: dict[str, click.Command] = {
    command.name or "": command
    for command in (check, explain_command, hash_password_command, init, plugins, schema)
}
