"""What the documentation and the examples import from the core is public."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_pages import DOCS, FENCE, ROOT

import d_back_core
from d_back_core import client

PUBLIC = {
    "d_back_core": {*d_back_core.__all__, "client", "config", "hookspecs"},
    "d_back_core.client": {*client.__all__},
    "d_back_core.config": {"Config", "load", "parse"},
    "d_back_core.hookspecs": set(),
}
"""Module → the names in it that may be imported; `hookspecs` is to be read."""
TEXTS = [
    *sorted(DOCS.glob("*.md")),
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted(ROOT.glob("compat/*/README.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]
EXAMPLES = sorted(path for path in (ROOT / "examples").rglob("*.py") if ".venv" not in path.parts)
MENTION = re.compile(r"`(?:::: )?(d_back_core(?:\.\w+)+)")


def imported(source: str) -> Iterator[str]:
    """Each module of the core and each name in one that the source imports, with its path."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)


def is_private(path: str) -> bool:
    """True if the path leads into the core, but not to a public name."""
    module, _, name = path.rpartition(".")
    in_core = path.split(".", maxsplit=1)[0] == "d_back_core"
    return in_core and path not in PUBLIC and name not in PUBLIC.get(module, ())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_pages_import_and_mention_public_names_only(page: Path) -> None:
    """A name of the core in a program, or in backticks in the text, is a public one."""
    text = page.read_text(encoding="utf-8")
    blocks = [each["text"] for each in FENCE.finditer(text) if each["language"] == "python"]
    paths = [path for block in blocks for path in imported(block)]
    paths += MENTION.findall(FENCE.sub("", text))
    assert [path for path in paths if is_private(path)] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_examples_import_public_names_only(example: Path) -> None:
    """Neither the examples nor their tests import a private module of the core."""
    paths = imported(example.read_text(encoding="utf-8"))
    assert [path for path in paths if is_private(path)] == []
