"""The files for programs beside the pages: they are what ``d-back schema`` writes."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from docs_pages import DOCS, GERMAN, blocks, sections, tables

from d_back_core.cli import main as cli
from d_back_testing.schema import asyncapi, openapi

FILES = {"asyncapi.json": "asyncapi", "openapi.json": "openapi", "d-back.schema.json": "config"}


@pytest.mark.parametrize("folder", [DOCS, GERMAN], ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", FILES)
def test_files_are_current(name: str, folder: Path) -> None:
    """If this fails: ``d-back schema WHAT --output docs/en/FILE``, and the same in docs/de."""
    written = CliRunner().invoke(cli.main, ["schema", FILES[name]])
    assert (folder / name).read_text(encoding="utf-8") == written.output


def test_the_page_shows_how_to_write_them() -> None:
    """It has a link to each file of the protocol, and the command that writes it."""
    shown = "".join(block.text for block in blocks("protocol.md", "sh"))
    section = sections("protocol.md")["Documents for programs"]
    for name in ("asyncapi.json", "openapi.json"):
        assert f"]({name})" in section
        assert f"d-back schema {FILES[name]} --output {name}\n" in shown


def test_close_codes() -> None:
    """The document says of each close code what the page says."""
    (table,) = tables(sections("protocol.md")["Close codes"])
    assert {int(code): (reason, todo) for code, reason, todo in table} == asyncapi.CLOSE_CODES


def test_statuses() -> None:
    """The page names each status that a document has."""
    section = sections("protocol.md")["HTTP"] + sections("protocol.md")["Close codes"]
    statuses = {status for status, _ in openapi.REFUSALS.values()} | set(asyncapi.REFUSALS)
    assert [status for status in statuses if f"{status}" not in section] == []
