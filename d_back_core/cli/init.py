"""``d-back init``: a first configuration, from answers, flags, or neither."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from d_back_core import config as configuration
from d_back_core.cli.config_template import BARE_KEY, Part, draft, is_secret, required, variable
from d_back_core.config.loading import FILE_NAME
from d_back_core.errors import ConfigError, PluginError, nearest
from d_back_core.providers.entry_points import installed, provider_class
from d_back_core.providers.plugin_checks import hooks_of


class Offer(Struct, frozen=True, kw_only=True):
    """An installed plugin that can be chosen."""

    part: Part
    hooks: frozenset[str]

    @property
    def name(self) -> str:
        """The plugin's, and the provider's."""
        return self.part.name

    @property
    def is_source(self) -> bool:
        """Whether it brings servers or users: its place is in the order."""
        return bool(self.hooks & {"servers", "users"})


@click.command()
@click.option(
    "--provider",
    "names",
    metavar="NAME",
    multiple=True,
    help="Use this installed provider; may be given again, highest priority first.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there already.")
@click.pass_context
def init(ctx: click.Context, /, *, names: tuple[str, ...], force: bool) -> None:
    """Write a first d-back.toml (or the file of --config), with every key explained.

    Asks which of the installed providers to use; without a terminal, or with --provider, it does
    not ask. Secrets are never asked for: the file refers to environment variables.
    """
    flag = ctx.find_root().params["config"]
    path = Path(flag or FILE_NAME)
    if path.exists() and not force:
        raise click.ClickException(f"{path}: is there already (overwrite it with --force)")
    offers = _offers()
    asking = not names and sys.stdin.isatty() and sys.stdout.isatty()
    chosen = _ask_which(offers) if asking else _named(names, offers)
    sources = [offer for offer in chosen if offer.is_source]
    recorders = [offer for offer in chosen if "record" in offer.hooks and not offer.is_source]
    if asking:
        sources = _ask_order(sources)
        recorders += [
            offer for offer in sources[1:] if "record" in offer.hooks and _remembers(offer)
        ]
        chosen = [_filled(offer) for offer in chosen]
    text = draft(
        [offer.part for offer in chosen],
        [offer.name for offer in sources],
        [offer.name for offer in recorders],
        [offer.name for offer in chosen if "http" in offer.hooks],
    )
    with path.open("w" if force else "x", encoding="utf-8") as file:
        file.write(text)
    _tell(path, flag, chosen)


def _offers() -> dict[str, Offer]:
    offers = {}
    for name, candidates in installed().items():
        plugin = candidates[0]
        if not BARE_KEY.fullmatch(name):  # no provider can be called so
            continue
        try:
            cls = provider_class(plugin)
        except PluginError as error:
            click.echo(f"left out: {error}", err=True)
            continue
        kind = getattr(cls, "Config", None)
        if not (isinstance(kind, type) and issubclass(kind, Struct)):
            kind = None
        part = Part(name=name, summary=plugin.summary, options=kind)
        offers[name] = Offer(part=part, hooks=frozenset(hooks_of(cls)))
    if not any(offer.is_source for offer in offers.values()):
        raise click.ClickException("no provider is installed that brings servers or users")
    return offers


def _usual(offers: dict[str, Offer]) -> list[str]:
    """Who is used where nobody says anything: the built-in order, or the first that there is."""
    built_in = [name for name in configuration.ChainConfig().order if name in offers]
    return built_in or [next(name for name, offer in offers.items() if offer.is_source)]


def _named(names: Sequence[str], offers: dict[str, Offer]) -> list[Offer]:
    for name in names:
        if name not in offers:
            known = nearest(name, offers).replace("known:", "installed:")
            raise ConfigError(f"--provider '{name}': is not installed{known}")
    chosen = [offers[name] for name in dict.fromkeys(names)]
    return _with_source(chosen, offers)


def _with_source(chosen: list[Offer], offers: dict[str, Offer]) -> list[Offer]:
    if any(offer.is_source for offer in chosen):
        return chosen
    return [*chosen, *(offers[name] for name in _usual(offers))]


def _ask_which(offers: dict[str, Offer]) -> list[Offer]:
    usual = _usual(offers)
    chosen = []
    for name, offer in offers.items():
        click.echo(offer.part.summary)
        if click.confirm(f"Use {name}?", default=name in usual):
            chosen.append(offer)
    return _with_source(chosen, offers)


def _ask_order(sources: list[Offer]) -> list[Offer]:
    """The usual ones are there for the worst case: they come last unless the person says so."""
    if len(sources) == 1:
        return sources
    last = configuration.ChainConfig().order
    known = {offer.name: offer for offer in sorted(sources, key=lambda each: each.name in last)}

    def order(text: str) -> list[str]:
        names = [name for part in text.split(",") if (name := part.strip())]
        if sorted(names) != sorted(known):
            raise click.BadParameter(f"each of {', '.join(known)} once")
        return names

    wanted = click.prompt(
        "Their order, highest priority first", default=", ".join(known), value_proc=order
    )
    return [known[name] for name in wanted]


def _remembers(offer: Offer) -> bool:
    return click.confirm(f"Shall {offer.name} remember what those above it say?", default=True)


def _filled(offer: Offer) -> Offer:
    """With values for the keys that must be there, other than secrets."""
    part = offer.part
    given = {}
    for field in required(part.options):
        if is_secret(field.type):
            continue

        def value(text: str, hint: object = field.type) -> object:
            try:
                return msgspec.convert(text, hint, strict=False, dec_hook=_as_written)
            except msgspec.ValidationError as error:
                raise click.BadParameter(str(error)) from error

        key = field.encode_name
        given[key] = click.prompt(f"providers.{part.name}.{key}", value_proc=value)
    return msgspec.structs.replace(offer, part=msgspec.structs.replace(part, given=given))


def _as_written(_kind: type, value: object) -> object:
    return value


def _tell(path: Path, flag: str | None, chosen: Iterable[Offer]) -> None:
    click.echo(f"{path} is written.")
    for offer in chosen:
        for field in required(offer.part.options):
            key = f"providers.{offer.name}.{field.encode_name}"
            if is_secret(field.type):
                name = variable(offer.name, field.encode_name)
                click.echo(f"Set the environment variable {name}: it is {key}.")
            elif field.encode_name not in offer.part.given:
                click.echo(f"Look at {key}: what is there is an example.")
    command = f"d-back --config {flag}" if flag else "d-back"
    click.echo(f"Then: `{command} check --live` says whether all is right, `{command}` runs it.")
