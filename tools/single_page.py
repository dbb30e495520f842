"""Write the documentation as one page, and as texts for language models.

    python -m tools.single_page FOLDER

makes in FOLDER a project of the site's builder with all pages in one, for printing and searching,
and in ``site/`` the files of https://llmstxt.org: ``llms.txt`` lists the pages, ``llms-full.txt``
has their text. The pages that are made of docstrings are left out of both long versions.
"""

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
from markdown.extensions.toc import slugify_unicode
from msgspec import Struct

ROOT = Path(__file__).parents[1]
SITE = ROOT / "site"
FENCE = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^(#+) (.+?)(?: \{ *#([\w-]+) *\})?$", re.MULTILINE)
NAV = re.compile(r"^nav = \[.*?^\]$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:)([\w-]+\.md)?(?:#([\w-]+))?\)")
OTHER = re.compile(r'(href="|\]\((?=[\w.-]+\.json\)))')
TITLE = "The documentation on one page"


class Page(Struct, frozen=True):
    """A page of the documentation in English."""

    name: str
    """Of its file, without ``.md``."""
    text: str

    @property
    def title(self) -> str:
        return self.text.partition("\n")[0].removeprefix("# ")

    @property
    def summary(self) -> str:
        """The first sentence, without markup."""
        paragraphs = self.text.split("\n\n")[1:]
        paragraph = next(each for each in paragraphs if not each.startswith("#")).replace(
            "\n", " "
        )
        plain = re.sub(r"\[([^]]+)\]\([^)]+\)|[`*]", r"\1", paragraph)
        return plain.partition(". ")[0].rstrip(".") + "."

    @property
    def is_generated(self) -> bool:
        """True if the text is made of docstrings by the site's builder."""
        return "\n::: " in self.text


def pages() -> list[tuple[str, Page]]:
    """Return all pages in the order of the navigation, each with the title of its section."""
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    return [
        (section, Page(name.removesuffix(".md"), (ROOT / "docs/en" / name).read_text("utf-8")))
        for section, name in _listed(nav, "")
    ]


def _listed(nav: list[object], section: str) -> Iterator[tuple[str, str]]:
    for entry in nav:
        if isinstance(entry, dict):
            for title, below in entry.items():
                yield from _listed(below, title)
        else:
            yield section, str(entry)


def joined(found: list[Page]) -> str:
    """Return the pages as one: each is a section, and links between them stay inside."""
    names = {page.name for page in found}
    return f"# {TITLE}\n\n" + "\n".join(_as_section(page, names) for page in found)


def _as_section(page: Page, names: set[str]) -> str:
    def heading(found: re.Match[str]) -> str:
        marks, title, anchor = found.groups()
        anchor = anchor or slugify_unicode(title, "-")
        own = page.name if marks == "#" else f"{page.name}--{anchor}"
        return f"#{marks} {title} {{#{own}}}"

    def link(found: re.Match[str]) -> str:
        target, anchor = found.groups()
        name = page.name if target is None else target.removesuffix(".md")
        if name not in names:
            return f"](../{name}/{f'#{anchor}' if anchor else ''})"
        return f"](#{name}--{anchor})" if anchor else f"](#{name})"

    parts = FENCE.split(page.text)
    for number in range(0, len(parts), 2):  # the others are code
        text = LINK.sub(link, HEADING.sub(heading, parts[number]))
        # Other files are beside the first page, which is above.
        parts[number] = OTHER.sub(r"\1../", text)
    return "".join(parts)


def write_project(folder: Path, text: str) -> None:
    """Write a project of the site's builder whose only page has that text."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs/en/images", folder / "docs/images")
    shutil.copy(ROOT / "docs/en/extra.css", folder / "docs")
    shutil.copytree(ROOT / "docs/theme", folder / "theme")
    (folder / "docs/index.md").write_text(text, encoding="utf-8")
    config = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    config = re.sub(
        r"^nav = \[.*?^\]$", 'nav = ["index.md"]', config, flags=re.DOTALL | re.MULTILINE
    )
    config = config.partition("[[project.extra.alternate]]")[0]
    config = config.replace('"docs/en"', '"docs"').replace('"docs/theme"', '"theme"')
    config = re.sub("^source = .*\n", "", config, flags=re.MULTILINE)  # it has no file of its own
    (folder / "zensical.toml").write_text(config, encoding="utf-8")


def index(found: list[tuple[str, Page]]) -> str:
    """Return ``llms.txt``."""
    summary = found[0][1].summary
    lines = [f"# d-back\n\n> {summary}\n"]
    latest = ""
    for section, page in found:
        if section != latest:
            lines.append(f"\n## {section}\n")
            latest = section
        if section:
            lines.append(f"- [{page.title}]({page.name}/): {page.summary}")
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Write the project of the single page into FOLDER, and the texts into site/."""
    found = pages()
    written = [page for _, page in found if not page.is_generated]
    write_project(folder, joined(written))
    SITE.mkdir(exist_ok=True)
    (SITE / "llms.txt").write_text(index(found), encoding="utf-8")
    (SITE / "llms-full.txt").write_text("\n\n".join(page.text for page in written), "utf-8")


if __name__ == "__main__":
    main()
