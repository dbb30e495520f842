"""``d-back plugins``: list the installed plugins, and with ``--all`` their problems."""

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


class CheckedRow(Row, frozen=True, kw_only=True):
    """One installed plugin with its problems."""

    file: str
    problems: list[str]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--all", "check", is_flag=True, help="Also check each plugin, and list its problems."
)
@click.pass_context
def plugins(ctx: click.Context, /, *, as_json: bool, check: bool) -> None:
    """List the installed provider plugins."""
    config: Config = ctx.find_root().obj()
    used = {config.provider(name).core.use for name in config.names}
    rows = [
        _checked_row(plugin, candidates, used) if check else _row(plugin, used)
        for candidates in installed().values()
        for plugin in candidates
    ]
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(rows), indent=2))
        return
    for row in rows:
        click.echo(_line(row))
        if isinstance(row, CheckedRow):
            click.echo("".join(f"  {each}\n" for each in [row.file, *row.problems]), nl=False)
    if check:
        for error in misplaced():
            click.echo(f"not a plugin: {error}")


def _line(row: Row) -> str:
    state = "configured" if row.configured else "not configured"
    summary = row.error or f"hooks: {', '.join(row.hooks)}"
    if isinstance(row, CheckedRow) and row.problems:
        summary = "broken"
    return f"{row.name} ({row.distribution} {row.version}), {state}; {summary}"


def _row(plugin: InstalledPlugin, used: set[str]) -> Row:
    hooks: list[str] = []
    error = None
    try:
        hooks = hooks_of(provider_class(plugin))
    except PluginError as caught:
        error = str(caught)
    return Row(
        name=plugin.name,
        distribution=plugin.distribution,
        version=plugin.version,
        configured=plugin.name in used,
        hooks=hooks,
        error=error,
    )


def _checked_row(
    plugin: InstalledPlugin, candidates: list[InstalledPlugin], used: set[str]
) -> CheckedRow:
    row = _row(plugin, used)
    problems = list(dict.fromkeys(_problems(plugin, candidates, row.error)))
    return CheckedRow(**msgspec.structs.asdict(row), file=plugin.file, problems=problems)


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
