"""The errors that d-back raises on purpose, and how text of others is shown.

The form of a message is: where, what 'value' (alternatives).

Names, messages and exception texts come from strangers. `printable` makes them safe to write to a
terminal or a log (R47), `one_line` to write them into a line.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

ErrorCode: TypeAlias = Literal[
    "invalid_encoding",
    "invalid_json",
    "invalid_message",
    "unknown_type",
    "unknown_server",
    "no_server",
    "unauthorized",
    "authentication_failed",
    "gone",
    "rate_limited",
    "notice",
]
"""The ``code`` of an ``error`` message, for programs."""


MAX_LINE = 1000
"""Characters of one line of text of others."""
_UNSAFE = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, line separators, bidi overrides and surrogates. The joiners of emoji are not
among them."""


class DBackError(Exception):
    """The base class of all errors of d-back."""


class ConfigError(DBackError):
    """An error that the operator must fix: one line, exit status 2.

    If a provider's ``start`` raises it, the failure is permanent: there is no retry until the
    configuration changes.
    """

    def __init__(self, message: str, excerpt: Iterable[str] = ()) -> None:
        super().__init__("".join(map(_printable, message)))
        self.excerpt = tuple(excerpt)
        """Lines that show the place; for a terminal, below the message."""


class ListenError(ConfigError, OSError):
    """The gateway cannot listen where it should; ``errno`` is that of the operating system.

    It is an ``OSError`` as well: that is what programs expect that open a port.
    """

    def __init__(self, message: str, cause: OSError) -> None:
        super().__init__(message)
        self.errno = cause.errno


class PluginError(ConfigError):
    """An installed plugin does not load; names provider, distribution and cause."""


class ProviderError(DBackError):
    """A provider failed at run time. It is logged, and the chain continues without it.

    ``masked`` returns a text without the provider's secrets.
    """

    def __init__(
        self,
        provider: str,
        hook: str,
        cause: BaseException,
        masked: Callable[[str], str] = str,
    ) -> None:
        super().__init__(f"provider {provider}: {hook}: {described(cause, masked)}")
        self.provider = provider
        self.hook = hook


class JoinError(DBackError):
    """A client's request is refused. The client receives the message and the code."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def _printable(char: str) -> str:
    return char if char.isprintable() else ascii(char)[1:-1]


def printable(text: str) -> str:
    """Return the text with the JSON escape instead of each character that a terminal executes. In
    JSON the texts stay the same."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """Return the text as one printable line of at most ``MAX_LINE`` characters."""
    # The second cut bounds the escapes, the first one the work.
    line = printable(" ".join(text[: 2 * MAX_LINE].split()))
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"


def described(error: BaseException, masked: Callable[[str], str] = str) -> str:
    """Return the exception's type and text as one line, without the numbers of the system.

    ``masked`` returns a text without secrets. It sees the whole text: half a secret is one, too.
    """
    text = str(error)
    name = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        if error.filename is not None:
            text += f": '{os.fsdecode(error.filename)}'"
        if name == "gaierror":
            name = "unknown host"
    text = one_line(masked(text))
    return f"{name}: {text}" if text else name


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the nearest known word and all known words, as the end of an error message."""
    choices = sorted(known)
    if not choices:
        return " (there are none)"
    close = closest(word, {choice: choice for choice in choices})
    meant = f"did you mean '{close}'? " if close else ""
    return f" ({meant}known: {', '.join(choices)})"


MAX_COMPARED = 1000
"""Names that are compared for the nearest one; among more, only an equal one is found."""


def meant(word: str, names: Mapping[str, str]) -> str:
    """Return what was probably meant, as the end of a message; "" if nothing is near.

    ``names``: what people see → what to write.
    """
    close = closest(word, names)
    return f" (did you mean '{close}'?)" if close else ""


def closest(word: str, names: Mapping[str, str]) -> str | None:
    """Return what was probably meant; None if nothing is near. ``names`` is as for `meant`."""
    from difflib import get_close_matches  # noqa: PLC0415  a start without errors does not need it

    folded = {seen.casefold(): right for seen, right in names.items()}
    word = word.casefold()
    close = [word] if len(folded) > MAX_COMPARED else get_close_matches(word, folded, n=1)
    return folded.get(close[0]) if close else None
