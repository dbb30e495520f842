"""The German half of the documentation: the same pages, and in them the same things.

Programs and configurations are the same but for their comments, so that the tests that run the
English ones hold for both.
"""

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from docs_pages import (
    DOCS,
    FENCE,
    GERMAN,
    HEADING,
    PAGES,
    ROOT,
    Table,
    all_blocks,
    headings,
    named,
    read,
    tables,
)

NAMES = [page.name for page in PAGES]
COMMENT = re.compile(r"(^|\s+)#.*$", re.MULTILINE)
ITEM = re.compile(r"^ *(?:[-*]|\d+\.) (?:\[[ x]\] )?", re.MULTILINE)
LINK = re.compile(r"\]\(([^)]+)\)")
WORDS = 4
"""A line of so many words is never the same in both languages."""


def parts(name: str, folder: Path) -> dict[str, str]:
    """The text below each heading, by its anchor."""
    text = FENCE.sub("", read(name, folder))
    starts = [found.end() for found in HEADING.finditer(text)]
    ends = [*[found.start() for found in HEADING.finditer(text)][1:], len(text)]
    anchors = [heading.anchor for heading in headings(text)]
    assert len(set(anchors)) == len(anchors), anchors
    return {
        anchor: text[start:end] for anchor, start, end in zip(anchors, starts, ends, strict=True)
    }


def both(name: str) -> Iterator[tuple[str, str, str]]:
    """Each section's anchor, and its text in English and in German."""
    english, german = parts(name, DOCS), parts(name, GERMAN)
    assert list(english) == list(german)
    for anchor, text in english.items():
        yield anchor, text, german[anchor]


def prose(text: str) -> str:
    """A section without its tables."""
    return re.sub(r"^\|.*\n", "", text, flags=re.MULTILINE)


def test_pages() -> None:
    """Both halves have the same pages."""
    assert [page.name for page in sorted(GERMAN.rglob("*.md"))] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_headings(name: str) -> None:
    """A page has the same headings in the same order, with the same anchors."""
    english, german = headings(read(name)), headings(read(name, GERMAN))
    assert [(each.level, each.anchor) for each in english] == [
        (each.level, each.anchor) for each in german
    ]


@pytest.mark.parametrize("name", NAMES)
def test_blocks(name: str) -> None:
    """A page has the same code, byte for byte, except for comments."""
    english, german = (
        [
            (block.language, block.title, COMMENT.sub("", block.text))
            for block in all_blocks(name, folder)
        ]
        for folder in (DOCS, GERMAN)
    )
    assert english == german


@pytest.mark.parametrize("name", NAMES)
def test_tables(name: str) -> None:
    """A page has the same tables, and each row names the same things."""
    for anchor, english, german in both(name):
        assert shape(tables(english)) == shape(tables(german)), anchor


def shape(found: list[Table]) -> list[list[tuple[int, list[str]]]]:
    return [[(len(row), sorted(named(" ".join(row)))) for row in table] for table in found]


@pytest.mark.parametrize("name", NAMES)
def test_first_columns(name: str) -> None:
    """What a row of a table is about stands in its first column in both."""
    for anchor, english, german in both(name):
        for ours, theirs in zip(tables(english), tables(german), strict=True):
            first = [named(row[0]) for row in ours]
            assert first == [named(row[0]) for row in theirs], anchor


@pytest.mark.parametrize("name", ["configuration.md", "protocol.md"])
def test_words_of_second_columns(name: str) -> None:
    """Types, and whether a field is there, are always called by the same German words."""
    english_of, german_of = defaultdict(set), defaultdict(set)
    for _, english, german in both(name):
        for ours, theirs in zip(heads(english), heads(german), strict=True):
            if ours[0][1] in {"type", "there"}:
                for row, other in zip(ours[1:], theirs[1:], strict=True):
                    english_of[other[1]].add(row[1])
                    german_of[row[1]].add(other[1])
    assert german_of
    for words in (*english_of.values(), *german_of.values()):
        assert len(words) == 1, words


def heads(text: str) -> list[Table]:
    """The tables of a section with their heads."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()]
        for table in found
    ]


@pytest.mark.parametrize("name", NAMES)
def test_names_in_the_text(name: str) -> None:
    """Each section names the same keys, hooks and values, and links to the same places."""
    for anchor, english, german in both(name):
        assert set(named(prose(english))) == set(named(prose(german))), anchor
        assert sorted(LINK.findall(english)) == sorted(LINK.findall(german)), anchor


@pytest.mark.parametrize("name", NAMES)
def test_entries_of_the_reference(name: str) -> None:
    """Each section has the same entries made from docstrings."""
    for anchor, english, german in both(name):
        entries = re.compile(r"^::: .*$", re.MULTILINE)
        assert entries.findall(english) == entries.findall(german), anchor


@pytest.mark.parametrize("name", NAMES)
def test_lists(name: str) -> None:
    """Each section has lists of the same length."""
    for anchor, english, german in both(name):
        assert len(ITEM.findall(english)) == len(ITEM.findall(german)), anchor


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_in_english(name: str) -> None:
    """No line or cell with a sentence in it is the same in both halves."""
    for anchor, english, german in both(name):
        same = sentences(english) & sentences(german)
        assert not same, (anchor, same)


def sentences(text: str) -> set[str]:
    text = re.sub(r"^(\| `\w+` \| )[A-Z][^|]+", r"\1", text, flags=re.MULTILINE)  # on the wire
    text = re.sub(r"^::: .*$", "", text, flags=re.MULTILINE)
    pieces = re.split(r"\n|(?<!\\)\|", text)
    plain = (re.sub(r"`[^`]*`|\([^)]*\)|\s+", " ", piece).strip() for piece in pieces)
    return {each for each in plain if len(re.findall(r"[^\W\d_]{2,}", each)) >= WORDS}


@pytest.mark.parametrize("name", [path.name for path in sorted((DOCS / "images").glob("*.svg"))])
def test_pictures(name: str) -> None:
    """A picture has the same elements in both halves, and its words are translated."""
    english, german = (ET.parse(folder / "images" / name) for folder in (DOCS, GERMAN))  # noqa: S314  ours
    assert [each.tag for each in english.iter()] == [each.tag for each in german.iter()]
    title = "{http://www.w3.org/2000/svg}title"
    assert english.findtext(title) != german.findtext(title)


def test_same_files() -> None:
    """What is no page lies in both halves."""
    english, german = (
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        for folder in (DOCS, GERMAN)
    )
    assert english == german


def test_navigation() -> None:
    """Both halves of the site list every page once, in the same order."""
    english, german = (
        list(listed(tomllib.loads((ROOT / config).read_text())["project"]["nav"]))
        for config in ("zensical.toml", "zensical.de.toml")
    )
    assert english == german
    assert sorted(english) == NAMES


def listed(nav: list[object]) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, dict):
            for below in entry.values():
                yield from listed(below)
        else:
            yield str(entry)
