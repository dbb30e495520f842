"""``d-back plugins``: what is installed, and with ``--all`` what is wrong with it."""

import json
from collections.abc import Iterator

import click
import msgspec
from msgspec import Struct

from d_back_core.config import Config
from d_back_core.errors import PluginError
from d_back_core.providers.entry_points import (
    InstalledPlugin,
    installed,
    misplaced,
    only,
    provider_class,
)
from d_back_core.providers.plugin_checks import find_problems, hooks_of


class Row(Struct, frozen=True, kw_only=True):
    """One installed plugin."""

    name: str
    distribution: str
    version: str
    configured: bool
    hooks: list[str]
    error: str | None


class Whole(Row, frozen=True, kw_only=True):
    """The same, looked at in full."""

    file: str
    problems: list[str]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--all", "in_full", is_flag=True, help="Also say what is wrong with each of them.")
@click.pass_context
def plugins(ctx: click.Context, /, *, as_json: bool, in_full: bool) -> None:
    """List the installed provider plugins."""
    config: Config = ctx.find_root().obj()
    used = {config.provider(name).core.use for name in config.names}
    rows = [
        _whole(plugin, candidates, used) if in_full else _row(plugin, used)
        for candidates in installed().values()
        for plugin in candidates
    ]
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(rows), indent=2))
        return
    for row in rows:
        click.echo(_line(row))
        if isinstance(row, Whole):
            click.echo("".join(f"  {each}\n" for each in [row.file, *row.problems]), nl=False)
    if in_full:
        for error in misplaced():
            click.echo(f"not a plugin: {error}")


def _line(row: Row) -> str:
    state = "configured" if row.configured else "not configured"
    says = row.error or f"hooks: {', '.join(row.hooks)}"
    if isinstance(row, Whole) and row.problems:
        says = "broken"
    return f"{row.name} ({row.distribution} {row.version}), {state}; {says}"


def _row(plugin: InstalledPlugin, used: set[str]) -> Row:
    hooks: list[str] = []
    problem = None
    try:
        hooks = hooks_of(provider_class(plugin))
    except PluginError as error:
        problem = str(error)
    return Row(
        name=plugin.name,
        distribution=plugin.distribution,
        version=plugin.version,
        configured=plugin.name in used,
        hooks=hooks,
        error=problem,
    )


def _whole(plugin: InstalledPlugin, candidates: list[InstalledPlugin], used: set[str]) -> Whole:
    row = _row(plugin, used)
    problems = list(dict.fromkeys(_problems(plugin, candidates, row.error)))
    return Whole(**msgspec.structs.asdict(row), file=plugin.file, problems=problems)


def _problems(
    plugin: InstalledPlugin, candidates: list[InstalledPlugin], error: str | None
) -> Iterator[str]:
    try:
        only(candidates)
    except PluginError as ambiguous:
        yield str(ambiguous)
    if error is not None:
        yield error
        return
    for problem in find_problems(provider_class(plugin)):
        yield str(plugin.error(problem.what, problem.remedy, problem.place))
