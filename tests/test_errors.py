"""Text of strangers in errors: on one line, printable, and bounded (R47)."""

import json

import pytest

from d_back_core.errors import MAX_LINE, ProviderError, described, one_line, printable

EVIL = "\x1b]52;c;aGFja2Vk\x07\x1b[2J\x9b2J\u202e end\u2028\ud800"
FAMILY = "👨\u200d👩\u200d👧"


def test_r47_what_a_terminal_executes_is_escaped() -> None:
    """Escape sequences, control characters and bidi overrides become visible text."""
    text = printable(f"Ann{EVIL}")
    assert text.isprintable()
    assert text.startswith("Ann\\u001b]52;c;aGFja2Vk\\u0007")
    assert "\\u202e" in text


@pytest.mark.parametrize("name", ["Zoë", "Иван", "李", "שרה", FAMILY, "a  b"])
def test_r47_names_stay_as_they_are(name: str) -> None:
    """Also those with joined emoji, and those that are written from right to left."""
    assert printable(name) == name


def test_r47_json_stays_the_same_json() -> None:
    """The escapes are those of JSON."""
    text = json.dumps({"name": f"Ann{EVIL}"}, ensure_ascii=False)
    assert json.loads(printable(text)) == json.loads(text)


@pytest.mark.parametrize("text", ["x" * 100_000, "\x1b" * 100_000, "\n x" * 100_000])
def test_r47_a_long_text_is_one_bounded_line(text: str) -> None:
    """Also if its characters have to be escaped, or it has many lines."""
    line = one_line(text)
    assert line.isprintable()
    assert MAX_LINE / 2 < len(line) <= MAX_LINE


def test_r47_an_exception_is_one_bounded_line() -> None:
    """Its type comes first, so that it is not cut off."""
    line = described(ValueError(f"{EVIL}\nforged\n" + "x" * 100_000))
    assert line.isprintable()
    assert line.startswith("ValueError: ")
    assert len(line) < MAX_LINE + 20


def test_secrets_are_masked_before_a_text_is_cut() -> None:
    """The end of a line is not half a secret."""
    secret = "s3cret" * 10
    text = "x" * (MAX_LINE - 20) + secret
    error = ProviderError(
        "town", "users", ValueError(text), lambda text: text.replace(secret, "*")
    )
    assert "s3cret" not in str(error)
