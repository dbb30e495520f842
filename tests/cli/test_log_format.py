"""The lines of the log: printable, bounded, and not to be mistaken for each other (R47)."""

import json
import logging

import pytest

from d_back_core.cli.log_format import FORMAT, INDENT, MAX_LINES, formatter
from d_back_core.errors import MAX_LINE

EVIL = "Ann\x1b]52;c;aGFja2Vk\x07\x9b2J\u202e"


def record(message: str, *args: object, error: Exception | None = None) -> logging.LogRecord:
    """A record of a plugin."""
    failure = None if error is None else (type(error), error, None)
    return logging.LogRecord("d_back.x", logging.INFO, __file__, 1, message, args, failure)


def test_r47_a_message_is_printable() -> None:
    """A plugin may log the names of strangers as they are."""
    text = formatter("text").format(record("member %s", EVIL))
    assert text.isprintable()
    assert "member Ann\\u001b]52" in text


@pytest.mark.parametrize("kind", ["text", "json"])
def test_r47_a_traceback_is_printable(kind: str) -> None:
    """The text of the exception is in it."""
    text = formatter(kind).format(record("failed", error=ValueError(EVIL)))
    assert text.replace("\n", "").isprintable()
    assert "ValueError: Ann" in text


def test_r47_no_line_looks_like_another_record() -> None:
    """The lines of a text after the first one are indented."""
    forged = logging.Formatter(FORMAT).format(record("forged"))
    text = formatter("text").format(record("member %s", f"Ann\n{forged}"))
    first, second = text.split("\n")
    assert second == INDENT + forged
    assert not first.startswith(INDENT)


@pytest.mark.parametrize("kind", ["text", "json"])
@pytest.mark.parametrize("text", ["x" * 10**6, "x\n" * 10**6])
def test_r47_a_record_is_bounded(kind: str, text: str) -> None:
    """In the length of its lines and in their number."""
    line = formatter(kind).format(record("%s", text))
    assert len(line) < MAX_LINES * 10 + MAX_LINE
    assert line.count("\n") <= MAX_LINES


def test_a_record_of_others_stays_as_it_is() -> None:
    """Another handler of the process may need the message and the exception."""
    there = record("member %s", EVIL, error=ValueError(EVIL))
    formatter("text").format(there)
    assert (there.args, there.exc_text) == ((EVIL,), None)
    assert there.exc_info is not None


def test_json_has_the_fields_of_the_documentation() -> None:
    """One object for each line."""
    line = json.loads(formatter("json").format(record("hello %s", "Ann")))
    assert line.keys() == {"asctime", "level", "name", "message"}
    assert (line["level"], line["message"]) == ("INFO", "hello Ann")
