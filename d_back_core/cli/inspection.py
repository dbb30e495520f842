"""``d-back check`` and ``d-back explain``: what would run, and what runs.

Both print sentences and tables for people, and with ``--plain`` or ``--json`` for scripts. Ids are
never cut: a table that is wider than the terminal is folded in its other columns.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import click
import msgspec
from msgspec import Struct, structs

from d_back_core import config as configuration
from d_back_core.admin.control_socket import Question, Reply, ask
from d_back_core.admin.explain import Explanation, Supplied, explain
from d_back_core.clock import Clock
from d_back_core.embedding.server import WebSocketServer
from d_back_core.errors import DBackError, JoinError, ProviderError, printable
from d_back_core.providers.loader import Plugin, load
from d_back_core.state.live import Live

IDS = frozenset({"provider", "server_id", "id", "uid"})
"""Columns that are not folded."""


TOLD_BELOW = ("d_back.names", "d_back.providers")
"""Loggers whose lines these commands print themselves."""


class CheckedProvider(Struct, frozen=True, kw_only=True):
    """One provider of the configuration."""

    name: str
    plugin: str
    mode: str | None
    """None if it is not in the order."""
    recorder: bool
    lists: bool
    """True if it lists servers; False: it only supplies data of servers that others list."""
    servers: list[str] | None
    fields: list[str] | None


class Checked(Struct, frozen=True, kw_only=True):
    """What ``d-back check --json`` prints."""

    source: str
    url: str
    providers: list[CheckedProvider]
    """In the order of the chain, then the others."""
    live: Explanation | None
    """What the providers have answered, with ``--live``."""


class Table(NamedTuple):
    """One kind of rows; ``kind`` begins each line of ``--plain``."""

    kind: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


plain_option = click.option(
    "--plain", "form", flag_value="plain", help="Print tab-separated values."
)
json_option = click.option("--json", "form", flag_value="json", help="Print JSON.")


@click.command()
@click.option(
    "--live", is_flag=True, help="Also ask each provider once; exit status 1 if one fails."
)
@json_option
@plain_option
@click.pass_context
def check(ctx: click.Context, /, *, live: bool, form: str | None) -> None:
    """Check the configuration and list what would run, without starting it."""
    config: configuration.Config = ctx.find_root().obj()
    server = WebSocketServer(config=config)
    explanation = _ask(config, Question(), probe=True) if live else None
    checked = Checked(
        source=config.source,
        url=server.url,
        providers=list(_checked(config, server.live.plugins)),
        live=explanation,
    )
    if form == "json":
        _print_json(checked)
    elif form == "plain":
        columns = CheckedProvider.__struct_fields__
        rows = [tuple(map(_text, structs.astuple(each))) for each in checked.providers]
        _print_plain([Table("provider", columns, rows)])
    else:
        click.echo(f"{config.source}: is valid; would listen on {server.url}")
        for place, provider in enumerate(checked.providers, 1):
            click.echo(f"{_place(place, provider)} {provider.name}: {_summary(provider)}")
    if explanation is not None:
        if form is None:
            _print_health(explanation)
        if form != "json":
            _print_problems(explanation, plain=form == "plain")
        if explanation.problems or any(p.stats.health != "ready" for p in explanation.providers):
            ctx.exit(1)


def _checked(config: configuration.Config, plugins: Iterable[Plugin]) -> Iterator[CheckedProvider]:
    loaded = {plugin.name: plugin for plugin in plugins}
    order, recorders = config.chain.order, config.chain.recorders
    unused = [name for name in config.providers if name not in config.names]
    for name in dict.fromkeys((*order, *recorders, *unused)):
        plugin = loaded.get(name)
        core = config.provider(name).core if plugin is None else plugin.core
        yield CheckedProvider(
            name=name,
            plugin=core.use,
            mode=core.mode if name in order else None,
            recorder=name in recorders,
            lists=plugin is not None and plugin.implements("servers"),
            servers=None if core.servers is None else sorted(core.servers),
            fields=None if core.fields is None else sorted(core.fields),
        )


def _place(place: int, provider: CheckedProvider) -> str:
    return "  " if provider.mode is None else f"{place}."


def _summary(provider: CheckedProvider) -> str:
    if provider.mode is None:
        return "recorder" if provider.recorder else "configured, but not in chain.order"
    notes = [f"plugin {provider.plugin}", provider.mode]
    if provider.mode == "fallback" and not provider.lists:
        notes.append("lists no servers")
    if provider.recorder:
        notes.append("recorder")
    for key, names in (("servers", provider.servers), ("fields", provider.fields)):
        if names is not None:
            notes.append(f"{key} {', '.join(names)}")
    return ", ".join(notes)


def _print_health(explanation: Explanation) -> None:
    for provider in explanation.providers:
        stats = provider.stats
        problem = f": {printable(provider.error)}" if provider.error else ""
        click.echo(f"{stats.name}: {stats.health}, {stats.records} records{problem}")


@click.command("explain")
@click.argument("server", required=False)
@click.argument("uid", required=False)
@json_option
@plain_option
@click.pass_context
def explain_command(
    ctx: click.Context, /, *, server: str | None, uid: str | None, form: str | None
) -> None:
    """Show which provider supplies which field: of all servers, or of the users of SERVER (or of
    one user, UID).

    Asks the running process if gateway.control is set; otherwise starts the configured providers,
    queries each once, and stops them.
    """
    explanation = _ask(ctx.find_root().obj(), Question(server=server, uid=uid))
    if form == "json":
        _print_json(explanation)
        return
    tables = list(_tables(explanation))
    if form == "plain":
        _print_plain(tables)
    else:
        _print_tables(tables)
        for provider in explanation.providers:
            if provider.error:
                click.echo(f"{provider.stats.name}: {printable(provider.error)}")
            for name, value in provider.stats.gauges.items():
                click.echo(f"{provider.stats.name}: {printable(name)}: {value:g}")
    _print_problems(explanation, plain=form == "plain")


def _tables(explanation: Explanation) -> Iterator[Table]:
    columns = (
        "provider",
        "mode",
        "lists",
        "health",
        "since",
        "latency",
        "records",
        "refused",
        "error",
    )
    rows: list[tuple[str, ...]] = []
    for provider in explanation.providers:
        stats = provider.stats
        latency = "" if stats.latency is None else f"{stats.latency * 1000:.0f} ms"
        counts = str(stats.records), str(stats.refused)
        health = stats.health, f"{stats.since:.0f} s", latency
        lists = "yes" if provider.lists else "no"
        rows.append((stats.name, stats.mode, lists, *health, *counts, provider.error))
    yield Table("provider", columns, rows)
    if explanation.users is not None:
        named = ["username", "status", "role_color"]
        extra = sorted({field for each in explanation.users for field in each.fields} - {*named})
        cells = [
            (user.uid, *(_cell(user.fields.get(field)) for field in (*named, *extra)))
            for user in explanation.users
        ]
        yield Table("user", ("uid", "username", "status", "roleColor", *extra), cells)
        return
    rows = []
    for server in explanation.servers:
        answers = ", ".join(server.providers) + (" (stale)" if server.stale else "")
        counts = _text(server.users), str(server.sessions)
        name = _cell(server.fields["name"])
        rows.append((server.server_id, server.public_id, name, answers, *counts))
    yield Table("server", ("server_id", "id", "name", "users from", "users", "sessions"), rows)


def _cell(supplied: Supplied | None) -> str:
    if supplied is None:
        return ""
    lost = "".join(f"; {name}: {value}" for name, value in supplied.lost.items())
    return f"{supplied.value} ({supplied.provider or 'default'}{lost})"


def _text(value: object) -> str:
    """Return the value as a cell of ``--plain``."""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)


def _print_json(answer: Struct) -> None:
    text = msgspec.json.format(msgspec.json.encode(answer)).decode()
    click.echo("\n".join(map(printable, text.split("\n"))))


def _print_plain(tables: Iterable[Table]) -> None:
    for table in tables:
        for row in table.rows:
            cells = (printable(" ".join(cell.split())) for cell in row)
            click.echo("\t".join((table.kind, *cells)))


def _print_tables(tables: Iterable[Table]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table as Drawn  # noqa: PLC0415

    literal = partial(Console, markup=False, emoji=False)  # a name like [link=…] is a name
    for table in tables:
        drawn = Drawn()
        shown = [column for column in table.columns if column != "error"]  # below the table
        for column in shown:
            drawn.add_column(column, no_wrap=column in IDS, overflow="fold")
        for row in table.rows:
            drawn.add_row(*map(printable, row[: len(shown)]))
        console = literal()
        needed = literal(width=sys.maxsize).measure(drawn)
        # In a pipe the lines may be of any length; programs search for ids in them.
        width = max(console.width, needed.minimum) if console.is_terminal else needed.maximum
        literal(width=width).print(drawn)


def _print_problems(explanation: Explanation, *, plain: bool) -> None:
    for problem in explanation.problems:
        click.echo(f"problem\t{printable(problem)}" if plain else printable(problem))


def _ask(config: configuration.Config, question: Question, *, probe: bool = False) -> Explanation:
    reply = asyncio.run(_asked(config, question, probe=probe))
    if reply.explanation is None:
        raise click.ClickException(reply.error or "the control socket has sent no answer")
    return reply.explanation


async def _asked(config: configuration.Config, question: Question, *, probe: bool) -> Reply:
    if config.gateway.control is not None:
        reply = await ask(config.gateway.control, question)
        if reply is not None:
            return reply
    live = Live(config, [each.probing() for each in load(config)], Clock())
    told_below = [logging.getLogger(name) for name in TOLD_BELOW]
    for logger in told_below:
        logger.disabled = True
    try:
        await live.start()
        failures = [each async for each in _probed(live)] if probe else []
        if question.server is not None:
            with suppress(JoinError):  # `explain` raises the same error below
                await live.joins.hold(question.server)
        explanation = explain(live, question.server, question.uid)
        problems = [*failures, *explanation.problems]
        return Reply(explanation=structs.replace(explanation, problems=problems))
    except DBackError as error:
        return Reply(error=str(error))
    finally:
        await live.stop()
        for logger in told_below:
            logger.disabled = False


async def _probed(live: Live) -> AsyncIterator[str]:
    """Ask each provider for the users of one server, and yield what fails (R38)."""
    for source in list(live.list_resolver.sources.values()):
        supervisor = source.supervisor
        own = source.records or live.server_list.servers
        server_id = next((each for each in own if source.link.admits(each)), None)
        if (
            server_id is None
            or not supervisor.running
            or not supervisor.plugin.implements("users")
        ):
            continue
        try:
            answer = await supervisor.call("users", server_id=server_id)
        except ProviderError as error:
            yield str(error)
            continue
        if answer is not None and not isinstance(answer, Mapping):
            yield f"provider {supervisor.name}: users: returned {type(answer).__name__}"
    # What `ignore_users` and `extra` name is known only of servers that are held.
    for server_id in [*live.server_list.servers]:
        policy = live.registry.policy(server_id)
        if policy.ignore_users or policy.extra:
            with suppress(JoinError):
                await live.joins.hold(server_id)
