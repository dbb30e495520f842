"""``d-back init``: write a first configuration, from answers, flags, or defaults."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from d_back_core import config as configuration
from d_back_core.cli.config_template import (
    BARE_KEY,
    ProviderTable,
    is_secret,
    render,
    required,
    variable,
)
from d_back_core.config.loading import FILE_NAME
from d_back_core.errors import ConfigError, PluginError, nearest
from d_back_core.providers.entry_points import installed, provider_class
from d_back_core.providers.loader import load
from d_back_core.providers.plugin_checks import hooks_of

MEMORY = "d-back-sqlite"
"""The package of the memory that needs no settings."""


class Candidate(Struct, frozen=True, kw_only=True):
    """An installed plugin that can be chosen."""

    table: ProviderTable
    hooks: frozenset[str]
    is_memory: bool
    """True if it can store the data of others and needs no settings for that."""

    @property
    def name(self) -> str:
        """The name of the plugin, and of its provider."""
        return self.table.name

    @property
    def is_source(self) -> bool:
        """True if it supplies servers or users, and so belongs in the order."""
        return bool(self.hooks & {"servers", "users"})


@click.command()
@click.option(
    "--provider",
    "names",
    metavar="NAME",
    multiple=True,
    help="Use this installed provider; repeatable, highest priority first.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.pass_context
def init(ctx: click.Context, /, *, names: tuple[str, ...], force: bool) -> None:
    """Write a first d-back.toml (or the file of --config), with an explanation of every key.

    Asks which of the installed providers to use, unless --provider is given or there is no
    terminal. Never asks for secrets: the file refers to environment variables.
    """
    flag = ctx.find_root().params["config"]
    path = Path(flag or FILE_NAME)
    if path.exists() and not force:
        raise click.ClickException(f"{path}: already exists (overwrite it with --force)")
    candidates = _candidates()
    asking = not names and sys.stdin.isatty() and sys.stdout.isatty()
    chosen = _ask_which(candidates) if asking else _named(names, candidates)
    sources = [candidate for candidate in chosen if candidate.is_source]
    recorders = [
        candidate
        for candidate in chosen
        if "record" in candidate.hooks and not candidate.is_source
    ]
    if not asking:
        recorders += [candidate for candidate in sources[1:] if candidate.is_memory]
    if asking:
        sources = _ask_order(sources)
        recorders += [
            candidate
            for candidate in sources[1:]
            if "record" in candidate.hooks and _ask_recorder(candidate)
        ]
        chosen = [_ask_required(candidate) for candidate in chosen]
    text = render(
        [candidate.table for candidate in chosen],
        [candidate.name for candidate in sources],
        [candidate.name for candidate in recorders],
        [candidate.name for candidate in chosen if "routes" in candidate.hooks],
    )
    with path.open("w" if force else "x", encoding="utf-8") as file:
        file.write(text)
    _print_next_steps(path, flag, chosen)
    if _needs_memory(chosen) and not any(each.is_memory for each in candidates.values()):
        click.echo(f"To keep the last state through outages and restarts: pip install {MEMORY}.")


def _candidates() -> dict[str, Candidate]:
    candidates = {}
    for name, plugins in installed().items():
        plugin = plugins[0]
        if not BARE_KEY.fullmatch(name):  # not valid as a provider's name
            continue
        try:
            cls = provider_class(plugin)
        except PluginError as error:
            click.echo(f"skipped: {error}", err=True)
            continue
        kind = getattr(cls, "Config", None)
        if not (isinstance(kind, type) and issubclass(kind, Struct)):
            kind = None
        table = ProviderTable(name=name, summary=plugin.summary, options=kind)
        hooks = frozenset(hooks_of(cls))
        is_memory = (
            {"users", "record"} <= hooks
            and getattr(cls, "records", "merged") == "merged"
            and not required(kind)
        )
        candidates[name] = Candidate(table=table, hooks=hooks, is_memory=is_memory)
    if not any(candidate.is_source for candidate in candidates.values()):
        raise click.ClickException("no plugin is installed that supplies servers or users")
    return candidates


def _defaults(candidates: dict[str, Candidate]) -> list[str]:
    """Return the default providers: those of the built-in order, else the first source."""
    built_in = [name for name in configuration.ChainConfig().order if name in candidates]
    return built_in or [
        next(name for name, candidate in candidates.items() if candidate.is_source)
    ]


def _named(names: Sequence[str], candidates: dict[str, Candidate]) -> list[Candidate]:
    for name in names:
        if name not in candidates:
            known = nearest(name, candidates).replace("known:", "installed:")
            raise ConfigError(f"--provider '{name}': is not installed{known}")
    chosen = _with_source([candidates[name] for name in dict.fromkeys(names)], candidates)
    memory = next((each for each in candidates.values() if each.is_memory), None)
    if memory is not None and _needs_memory(chosen):
        chosen.append(memory)
    return chosen


def _needs_memory(chosen: Sequence[Candidate]) -> bool:
    """True if a real source is among them, and none that could store what it supplies."""
    demonstrations = configuration.ChainConfig().order
    return any(each.is_source and each.name not in demonstrations for each in chosen) and not any(
        "record" in each.hooks for each in chosen
    )


def _with_source(chosen: list[Candidate], candidates: dict[str, Candidate]) -> list[Candidate]:
    if any(candidate.is_source for candidate in chosen):
        return chosen
    return [*chosen, *(candidates[name] for name in _defaults(candidates))]


def _ask_which(candidates: dict[str, Candidate]) -> list[Candidate]:
    defaults = _defaults(candidates)
    chosen: list[Candidate] = []
    for name, candidate in candidates.items():
        click.echo(candidate.table.summary)
        default = name in defaults or (candidate.is_memory and _needs_memory(chosen))
        if click.confirm(f"Use {name}?", default=default):
            chosen.append(candidate)
    return _with_source(chosen, candidates)


def _ask_order(sources: list[Candidate]) -> list[Candidate]:
    """Ask for the order. A memory comes below the others; providers of the built-in order are
    demonstrations, so they come last."""
    if len(sources) == 1:
        return sources
    last = configuration.ChainConfig().order
    known = {
        candidate.name: candidate
        for candidate in sorted(sources, key=lambda each: (each.name in last, each.is_memory))
    }

    def order(text: str) -> list[str]:
        names = [name for part in text.split(",") if (name := part.strip())]
        if sorted(names) != sorted(known):
            raise click.BadParameter(f"expected each of {', '.join(known)} once")
        return names

    wanted = click.prompt(
        "Order, highest priority first", default=", ".join(known), value_proc=order
    )
    return [known[name] for name in wanted]


def _ask_recorder(candidate: Candidate) -> bool:
    return click.confirm(
        f"Let {candidate.name} store the data of the providers above it?", default=True
    )


def _ask_required(candidate: Candidate) -> Candidate:
    """Ask for the values of required keys, except secrets."""
    table = candidate.table
    given = {}
    for field in required(table.options):
        if is_secret(field.type):
            continue

        def value(text: str, hint: object = field.type) -> object:
            try:
                return msgspec.convert(text, hint, strict=False, dec_hook=_unconverted)
            except msgspec.ValidationError as error:
                raise click.BadParameter(str(error)) from error

        key = field.encode_name
        given[key] = click.prompt(f"providers.{table.name}.{key}", value_proc=value)
    return msgspec.structs.replace(candidate, table=msgspec.structs.replace(table, given=given))


def _unconverted(_kind: type, value: object) -> object:
    return value  # the plugin's own type; the file needs the text


def _problem(candidate: Candidate) -> str:
    """Return what the plugin itself misses in its defaults, such as a token; "" if nothing."""
    if not candidate.is_source or required(candidate.table.options):
        return ""
    config = configuration.parse({"chain": {"order": [candidate.name]}})
    try:
        load(config)
    except ConfigError as error:
        return str(error).removeprefix(f"{config.source}: ")
    return ""


def _print_next_steps(path: Path, flag: str | None, chosen: Iterable[Candidate]) -> None:
    click.echo(f"Wrote {path}.")
    for candidate in chosen:
        for field in required(candidate.table.options):
            key = f"providers.{candidate.name}.{field.encode_name}"
            if is_secret(field.type):
                name = variable(candidate.name, field.encode_name)
                click.echo(f"Set the environment variable {name} ({key}).")
            elif field.encode_name not in candidate.table.given:
                click.echo(f"Edit {key}: its value is an example.")
        if problem := _problem(candidate):
            click.echo(f"{problem}.")
    command = f"d-back --config {flag}" if flag else "d-back"
    click.echo(f"Then check it with `{command} check --live`, and start it with `{command}`.")
