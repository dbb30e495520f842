"""What the tests of the documentation share: the pages, taken apart."""

import re
import unicodedata
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple, TypeAlias

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "en"
GERMAN = ROOT / "docs" / "de"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(
    r'^(?P<indent> *)```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n'
    r"(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
HEADING = re.compile(r"^(#+) (.+?)(?: \{ *#([\w-]+) *\})?$", re.MULTILINE)

Table: TypeAlias = list[list[str]]


class Block(NamedTuple):
    """A piece of code in a page."""

    page: str
    language: str
    title: str | None
    text: str


class Heading(NamedTuple):
    """A heading, as the site's builder sees it."""

    level: int
    text: str
    anchor: str


def read(page: str, folder: Path = DOCS) -> str:
    return (folder / page).read_text(encoding="utf-8")


def all_blocks(page: str, folder: Path = DOCS) -> list[Block]:
    return [
        Block(page, found["language"], found["title"], dedent(found["text"]))
        for found in FENCE.finditer(read(page, folder))
    ]


def blocks(page: str, language: str) -> list[Block]:
    return [block for block in all_blocks(page) if block.language == language]


def headings(text: str) -> list[Heading]:
    """The headings of a page in their order."""
    return [
        Heading(len(marks), title.strip(), anchor or slug(title))
        for marks, title, anchor in HEADING.findall(FENCE.sub("", text))
    ]


def anchors(text: str) -> set[str]:
    """Where links into a page may lead."""
    return {heading.anchor for heading in headings(text)}


def slug(heading: str) -> str:
    """The anchor of a heading that names none, as Python-Markdown makes it."""
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    words = re.sub(r"[^\w\s-]", "", plain).strip().lower()
    return re.sub(r"[-\s]+", "-", words)


def sections(page: str) -> dict[str, str]:
    """What stands below each heading, up to the next heading of any level."""
    parts = re.split(r"^#+ (.+)$", FENCE.sub("", read(page)), flags=re.MULTILINE)
    titles = [title.strip() for title in parts[1::2]]
    assert len(set(titles)) == len(titles), titles
    return dict(zip(titles, parts[2::2], strict=True))


def tables(text: str) -> list[Table]:
    """The tables of a section, each without its head, cell by cell."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [
        [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
            for row in table.splitlines()[2:]
        ]
        for table in found
    ]


def named(cell: str) -> list[str]:
    """What a cell names in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def first_names(table: Table) -> list[str]:
    return [name for row in table for name in named(row[0])]
