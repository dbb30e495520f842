"""Write the reference pages that come from the sources.

The English tables of the page Configuration come from the structs: each key with its type, its
default, and the docstring below it. To change a text, change the docstring.

The page Command line shows, in both languages, what ``--help`` prints for every command of this
project's packages. What stands above the first of them is written by hand.

    python -m tools.reference
"""

import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import click
from click.testing import CliRunner
from msgspec import NODEFAULT, Struct, structs

from d_back_core import config
from d_back_core.chain.policy import Policy
from d_back_core.cli.commands import COMMANDS, installed_command
from d_back_core.cli.config_template import descriptions, toml
from d_back_core.cli.main import main
from d_back_core.config.decoding import Duration, File, Timeout
from d_back_core.providers.entry_points import CORE, installed, installed_commands, only
from d_back_core.secret import Secret

ROOT = Path(__file__).parents[1]
ENGLISH, GERMAN = (ROOT / "docs" / language for language in ("en", "de"))
PACKAGE, PAKET = "Package {0}", "Paket {0} {{#package-{0}}}"
"""The headings of the page Command line, and the German anchor, which is the English one."""
TABLES: dict[str, type[Struct]] = {
    "`[gateway]`": config.GatewayConfig,
    "`gateway.tls`": config.Tls,
    "`[limits]`": config.LimitsConfig,
    "`[chain]`": config.ChainConfig,
    "`[providers.NAME]`": config.ProviderConfig,
    "`[servers.ID]`": Policy,
}
"""Heading of the page Configuration → the struct whose keys the table below it describes."""
WORDS: dict[object, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Duration: "duration",
    Timeout: "duration > 0",
    File: "path",
    Secret: "secret",
}
"""Type → its name in the section Types."""
GIVEN = {"use": "the name"}
"""Keys without a default that the core sets if the file does not."""
HEAD = "| key | type | default | meaning |\n| --- | --- | --- | --- |"
TABLE = re.compile(r"(?:\|.*\|\n)+")


def pages() -> dict[Path, str]:
    """Return each page with what it should contain."""
    path = ENGLISH / "configuration.md"
    found = {path: with_tables(path.read_text(encoding="utf-8"))}
    for folder, heading in ((ENGLISH, PACKAGE), (GERMAN, PAKET)):
        path = folder / "cli.md"
        introduction, _, _ = path.read_text(encoding="utf-8").partition("\n## ")
        found[path] = f"{introduction.rstrip()}\n{''.join(help_sections(heading))}"
    return found


def with_tables(text: str) -> str:
    """Return the page Configuration with the first table below each heading made again."""
    for heading, kind in TABLES.items():
        found = re.search(rf"^#+ {re.escape(heading)}\n(?:[^#|\n].*\n|\n)*", text, re.MULTILINE)
        old = TABLE.match(text, found.end()) if found else None
        if old is None:
            raise ValueError(f"configuration.md: {heading}: expected a table below it")
        table = "\n".join([HEAD, *config_rows(kind)])
        text = f"{text[: old.start()]}{table}\n{text[old.end() :]}"
    return text


def config_rows(kind: type[Struct]) -> Iterator[str]:
    """Return a row for each key: name, type, default and meaning."""
    texts = descriptions(kind)
    for field in structs.fields(kind):
        default = default_in_words(field)
        cells = (f"`{field.encode_name}`", in_words(field.type), default, cell(texts[field.name]))
        yield f"| {' | '.join(cells)} |".replace("|  |", "| |")


def cell(text: str) -> str:
    """Return a description as the cells of tables are written: without a capital and a stop."""
    first, _, _ = text.partition(" ")
    if first.istitle():
        text = text[0].lower() + text[1:]
    return text.removesuffix(".")


def default_in_words(field: structs.FieldInfo) -> str:
    """Return the default of a key in TOML; empty if the key is unset by default."""
    default = field.default
    if field.default_factory is not NODEFAULT:
        default = field.default_factory()
    if default is NODEFAULT:
        return GIVEN.get(field.name, "required")
    return "" if default is None else f"`{toml(default)}`"


def in_words(hint: object) -> str:
    """Return a type as the page calls it."""
    origin, args = get_origin(hint), [each for each in get_args(hint) if each is not type(None)]
    if isinstance(hint, type) and issubclass(hint, Struct):
        return "table"
    if origin in {Union, UnionType, Annotated}:
        return in_words(args[0])
    if origin is Literal:
        return "one of " + ", ".join(f'`"{choice}"`' for choice in args)
    if origin in {tuple, frozenset}:
        choices = in_words(args[0]).removeprefix("one of ")
        return "list of texts" if choices == "text" else f"list of {choices}"
    return WORDS[hint]


def help_sections(heading: str) -> Iterator[str]:
    """Return a section for each distribution, and in it the help of each of its commands."""
    owners: dict[str, list[tuple[str, ...]]] = {CORE: [(), *((name,) for name in COMMANDS)]}
    for name, candidates in (installed_commands() | installed()).items():
        distribution = only(candidates).distribution
        if is_ours(distribution) and (command := installed_command(name)) is not None:
            owners.setdefault(distribution, []).extend(paths((name,), command))
    for distribution in sorted(owners):
        yield f"\n## {heading.format(distribution)}\n"
        for words in owners[distribution]:
            line = " ".join(("d-back", *words))
            yield f"\n### `{line}`\n\n```text\n$ {line} --help\n{help_of(words)}```\n"


def is_ours(distribution: str) -> bool:
    """Return True for a package of this repository that is published."""
    return (ROOT / "plugins" / distribution.replace("-", "_")).is_dir()


def paths(words: tuple[str, ...], command: click.Command) -> Iterator[tuple[str, ...]]:
    """Return the words of a command, or of all commands of a group."""
    if not isinstance(command, click.Group):
        yield words
        return
    for name, below in sorted(command.commands.items()):
        yield from paths((*words, name), below)


def help_of(words: tuple[str, ...]) -> str:
    """Return what a command prints with ``--help`` in a terminal of 80 columns."""
    arguments = [*words, "--help"]
    done = CliRunner().invoke(main, arguments, prog_name="d-back", terminal_width=80)
    if done.exit_code:
        raise ValueError(f"d-back {' '.join(arguments)}: {done.output}")
    return done.output


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
