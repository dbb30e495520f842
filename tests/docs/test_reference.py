"""The reference pages that come from the sources: they are what ``tools.reference`` writes."""

from pathlib import Path

import pytest

from tools import reference

PAGES = reference.pages()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_page_is_current(path: Path) -> None:
    """If this fails: change the docstring or the help, and ``python -m tools.reference``."""
    assert path.read_text(encoding="utf-8") == PAGES[path]
