"""The site that ``nox -s docs`` has built: complete, and sufficient to itself."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"
CONFIGS = ("zensical.toml", "zensical.de.toml")
PAGES = sorted(SITE.rglob("*.html"))
FETCHED = {
    ("audio", "src"),
    ("embed", "src"),
    ("iframe", "src"),
    ("image", "href"),
    ("img", "src"),
    ("img", "srcset"),
    ("input", "src"),
    ("link", "href"),
    ("object", "data"),
    ("script", "src"),
    ("source", "src"),
    ("source", "srcset"),
    ("use", "href"),
    ("video", "poster"),
    ("video", "src"),
}
"""What a browser loads by itself."""
LOADS_A_LIBRARY = {"arithmatex", "mermaid"}
"""Classes at which the theme's script fetches a library from another host."""
ASKS_A_HOST = {"source"}
"""Components at which the theme's script asks a repository's host for its stars."""


class Page(HTMLParser):
    """What is in a page: what it loads, where it leads, and what has an id."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.classes: set[str] = set()
        self.components: set[str] = set()
        self.language: str | None = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if (tag, name) in FETCHED:
                self.loads.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)
            elif (tag, name) == ("html", "lang"):
                self.language = value
            elif name == "id":
                self.ids.add(value)
            elif name == "class":
                self.classes.update(value.split())
            elif name == "data-md-component":
                self.components.add(value)


@cache
def page_at(path: Path) -> Page:
    """A page of the site, read once."""
    return Page(path)


def named(nav: list[object]) -> Iterator[str]:
    """The pages of a navigation, in its order."""
    for entry in nav:
        if isinstance(entry, dict):
            for below in entry.values():
                yield from named(below)
        else:
            yield str(entry)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_page_is_built(config: str) -> None:
    """Every page of the navigation is there, in the language of its half."""
    project = tomllib.loads((ROOT / config).read_text(encoding="utf-8"))["project"]
    folder = ROOT / project["site_dir"]
    for name in named(project["nav"]):
        path = folder / name.removesuffix(".md").removesuffix("index") / "index.html"
        assert page_at(path).language == project["theme"]["language"]


def test_the_reference_is_filled() -> None:
    """The reference has an entry for what it is to describe, in both halves."""
    for folder in (SITE, SITE / "de"):
        ids = page_at(folder / "reference" / "index.html").ids
        assert {"d_back_core.WebSocketServer", "d_back_core.UserChanged"} <= ids


@pytest.mark.parametrize("config", CONFIGS)
def test_each_page_names_its_version_and_its_source(config: str) -> None:
    """Below the text, with a link that edits the file."""
    project = tomllib.loads((ROOT / config).read_text(encoding="utf-8"))["project"]
    version, source = project["extra"]["release"], project["extra"]["source"]
    folder = source.partition("/edit/main/")[2]
    for name in named(project["nav"]):
        path = SITE / ("de" if "de" in config else "") / name.removesuffix(".md")
        path = path.with_name("index.html") if name == "index.md" else path / "index.html"
        assert f"{source}{name}" in page_at(path).links
        assert (ROOT / folder / name).is_file()
        assert f"d-back {version}" in path.read_text(encoding="utf-8")


def test_all_pages_are_in_one() -> None:
    """The single page has every page but the one that is made of docstrings."""
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    names = {name.removesuffix(".md") for name in named(project["nav"])}
    assert names - {"reference"} <= page_at(SITE / "single" / "index.html").ids


def test_the_texts_for_language_models() -> None:
    """One lists every page with its first sentence, the other has the text of all of them."""
    listed = (SITE / "llms.txt").read_text(encoding="utf-8")
    links = re.findall(r"^- \[.+\]\((.+)/\): \S.+\.$", listed, re.MULTILINE)
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    names = [name.removesuffix(".md") for name in named(project["nav"])]
    assert ["index", *links] == names
    whole = (SITE / "llms-full.txt").read_text(encoding="utf-8")
    for name in set(names) - {"reference"}:
        assert (ROOT / "docs" / "en" / f"{name}.md").read_text(encoding="utf-8") in whole


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(SITE)))
def test_no_request_to_another_host(path: Path) -> None:
    """Nothing that a browser loads with the page lies elsewhere."""
    page = page_at(path)
    for target in page.loads:
        parts = urlsplit(target)
        assert not parts.netloc, target
        assert parts.scheme in {"", "data"}, target
    assert not page.classes & LOADS_A_LIBRARY
    assert not page.components & ASKS_A_HOST


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(SITE)))
def test_everything_is_there(path: Path) -> None:
    """What a browser loads with the page is a file of the site."""
    for target in page_at(path).loads:
        parts = urlsplit(target)
        assert parts.scheme or leads_to(path, unquote(parts.path)).is_file(), target


@pytest.mark.parametrize("path", sorted(SITE.rglob("*.css")), ids=lambda path: path.name)
def test_no_request_of_a_stylesheet(path: Path) -> None:
    """No stylesheet loads a font, a picture or another stylesheet from elsewhere."""
    text = path.read_text(encoding="utf-8")
    assert "@import" not in text
    assert not re.search(r"url\(\s*[\"']?(?:https?:)?//", text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(SITE)))
def test_links(path: Path) -> None:
    """Every link within the site leads to a file, and to an anchor that is there."""
    page = page_at(path)
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = leads_to(path, unquote(parts.path))
        assert target.is_file(), link
        if parts.fragment and target.suffix == ".html":
            ids = page_at(target).ids
            assert unquote(parts.fragment) in ids | {"__top"}, link


def leads_to(page: Path, path: str) -> Path:
    """The file that is served for a link; the site may lie at any address."""
    if not path:
        return page
    base = SITE if page.name == "404.html" and path.startswith("/") else page.parent
    target = (base / path.lstrip("/") if base is SITE else base / path).resolve()
    return target / "index.html" if target.is_dir() else target
