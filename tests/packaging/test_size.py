"""The counting of the core's lines, and the figures that the README names."""

import re
import runpy

import pytest
from docs_pages import ROOT

SIZE = runpy.run_path(str(ROOT / "tools" / "size.py"))
SOURCE = '''
"""The module."""

import os  # noqa: F401

LIMIT = 3
"""An attribute."""


# Why it is so.
def call(  # in two lines
    text: str,
) -> str:
    """Of two
    lines."""
    return """a text
    of two lines"""
'''


def test_only_code_is_counted() -> None:
    """Docstrings, comments and blank lines are not code; other texts of several lines are."""
    assert SIZE["size_of"](SOURCE) == (7, 2)


def test_each_package_has_a_budget() -> None:
    """Each one is in one group."""
    grouped = [package for _, packages in SIZE["BUDGETS"].values() for package in packages]
    assert sorted(grouped) == sorted(SIZE["sizes"]())


@pytest.mark.parametrize("group", SIZE["BUDGETS"])
def test_the_readme_names_the_figures(group: str) -> None:
    """In one line, and they differ from what is counted by less than 5 %."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("Lines of code")]
    (named,) = re.findall(rf"\b{group} ([\d,]+)", line)
    counted = SIZE["totals"](SIZE["sizes"]())[group]
    assert int(named.replace(",", "")) == pytest.approx(counted, rel=0.05)
