"""The page about problems quotes messages as d-back prints them."""

import re
from pathlib import Path

import pytest
from docs_pages import read, tables

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("d_back_core/**/*.py"), *ROOT.glob("plugins/*/d_back_*/**/*.py")]
VARIABLE = re.compile(
    r"'[^']*'|\d+|NAME|\[\w+\]|[():;,.?]|returned int|localhost|providers|disabled|yet|port:|chain"
    r"|connections_per_address"
)
"""Parts of a message that are filled in."""
MESSAGES = [
    message
    for table in tables(read("troubleshooting.md"))
    for row in table
    for message in re.findall(r"`([^`]+)`", row[0])
]


def source() -> str:
    """All sources, with the literals of a call joined."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    return re.sub(r"\"\n\s+f?\"", "", text)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_that_is_printed(message: str) -> None:
    """Its fixed parts are in the sources, in this order of words."""
    known = source()
    parts = [part.strip() for part in VARIABLE.split(message)]
    assert [part for part in parts if part not in known] == []
