"""Check the English of the documentation, with proselint and the words of this project.

    python -m tools.prose

prints a line for each place, and ends with 1 if there is any. In pages, code is left out. In
Python files only the words of this project are checked, in comments, docstrings and errors.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, CheckFlags, types
from proselint.registry.checks.engine import Fancy, RegexOptions
from proselint.tools import LintFile

ROOT = Path(__file__).parents[1]
PAGES = ("*.md", "docs/en/*.md", "plugins/*/README.md", "compat/*/README.md", "bench/README.md")
SOURCES = (
    *("d_back_core/**/*.py", "*/*/d_back_*/**/*.py", "tools/*.py", "bench/**/*.py", "*.py"),
    *("tests/**/*.py", "*/*/tests/**/*.py", "docs/tests/**/*.py"),
)
PREFERRED = {
    "anew": "again",
    "are told": "receive",
    "everybody": "everyone",
    "gets? well": "recovers",
    "in place of": "instead of",
    "is told": "receives",
    "is well": "is ready",
    "nobody": "a noun, such as “no client”",
    "save for": "except for",
    "so often": "every …",
    "somebody": "a noun, such as “a member”",
    "whether or not": "if",
    "whither": "where",
    "whoever": "a noun, such as “a client that”",
}
"""Words that readers whose first language is not English may not know, or not understand at once →
what to write instead."""
OFF = ("typography", "spelling.consistency", "lexical_illusions", "redundancy")
"""Checks of proselint that do not fit: they know no Markdown, and want curly quotes."""
CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]+`|<[^>\n]+>|\]\([^)\n]+\)", re.DOTALL | re.MULTILINE)

WORDS = Check(
    check_type=types.PreferredForms(PREFERRED),
    engine=Fancy(RegexOptions(case_insensitive=True)),
    path="words",
    message="'{1}': write {0}.",
    flags=CheckFlags(allow_quotes=True),
)


def found(path: Path, config: Config) -> Iterator[str]:
    """Yield a line for each place."""
    # What is left out keeps its length, so that the lines stay where they are.
    text = CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), path.read_text(encoding="utf-8"))
    for each in LintFile(path, text).lint(config):
        line, column = each.pos
        yield f"{path.relative_to(ROOT)}:{line}:{column}: {each.check_result.message}"


def main() -> None:
    """Check all pages."""
    registry = CheckRegistry()
    registry.register_many(_checks())
    everything = Config(max_errors=1000, checks=DEFAULT["checks"] | {"words": True})
    words = Config(max_errors=1000, checks={"words": True})
    pages, sources = _files(PAGES), _files(SOURCES) - {Path(__file__)}
    lines = [line for path in sorted(pages) for line in found(path, everything)]
    lines += [line for path in sorted(sources) for line in found(path, words)]
    for line in lines:
        click.echo(line)
    click.echo(f"{len(pages)} pages, {len(sources)} Python files, {len(lines)} places")
    sys.exit(bool(lines))


def _files(patterns: Sequence[str]) -> set[Path]:
    return {path for pattern in patterns for path in ROOT.glob(pattern)}


def _checks() -> tuple[Check, ...]:
    from proselint.checks import __register__  # noqa: PLC0415

    return (*(each for each in __register__ if not each.path.startswith(OFF)), WORDS)


if __name__ == "__main__":
    main()
