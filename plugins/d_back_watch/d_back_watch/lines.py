"""For pipes, files and scripts: one line for each thing that happens, at once."""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from d_back_core.client import ClientWorld, Listener, decoded
from d_back_core.errors import DBackError
from d_back_watch.words import Sentence, lost, told

Write: TypeAlias = Callable[[bytes], object]
Now: TypeAlias = Callable[[], datetime]

_OBEYED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What may stand in JSON as it is, but not in a terminal."""


class NobodyReadsError(Exception):
    """Whoever read the lines has gone."""


class CannotWriteError(Exception):
    """The lines cannot be written, as on a full disk."""


class Output:
    """Writes all of what it is given, past every buffer; a reader that does not read holds it
    up. Raises `NobodyReadsError` or `CannotWriteError`."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._is_writing = False

    def write(self, line: bytes) -> None:
        """Write the line."""
        self._is_writing = True
        try:
            while line:
                line = line[os.write(self.descriptor, line) :]
        except BrokenPipeError as error:
            raise NobodyReadsError from error
        except OSError as error:
            raise CannotWriteError(f"the output cannot be written: {error.strerror}") from error
        finally:
            self._is_writing = False

    def give_up(self) -> None:
        """From a signal's handler: end a write that is held up; it raises `NobodyReadsError`."""
        if self._is_writing:
            raise NobodyReadsError


def utc() -> datetime:
    """The time."""
    return datetime.now(UTC)


class JsonLines(Listener):
    """JSON Lines: ``{"time": …, "frame": …}`` for every frame, as it came but for white space and
    escapes, and ``{"time": …, "lost": {"code": …}}``. The time comes first and is as long on every
    line, so that sorting the lines sorts by it."""

    def __init__(self, write: Write, now: Now = utc) -> None:
        self._write = write
        self._now = now

    def received(self, frame: bytes, world: ClientWorld) -> None:  # noqa: ARG002  not looked at
        """Write the frame."""
        try:
            text = msgspec.json.format(frame, indent=-1).decode()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DBackError(f"not a frame of d-back: {error}") from error
        self._line("frame", _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text))

    def lost(self, code: int | None) -> None:
        """Write that."""
        self._line("lost", f'{{"code":{"null" if code is None else code}}}')

    def _line(self, kind: str, text: str) -> None:
        time = self._now().astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        self._write(f'{{"time":"{time}Z","{kind}":{text}}}\n'.encode())


class PlainLines(Listener):
    """Sentences, each behind the local time."""

    def __init__(self, write: Write, encoding: str = "utf-8", now: Now = utc) -> None:
        self._write = write
        self._encoding = encoding
        self._now = now

    def received(self, frame: bytes, world: ClientWorld) -> None:
        """Write what the frame tells."""
        known = decoded(frame)
        if known is not None and (sentence := told(known, world)) is not None:
            self._say(sentence)

    def lost(self, code: int | None) -> None:
        """Write that."""
        self._say(lost(code))

    def _say(self, sentence: Sentence) -> None:
        colon = ":" if sentence.is_message else ""
        time = self._now().astimezone().strftime("%H:%M:%S")
        line = f"{time} {sentence.name}{colon} {sentence.text}\n"
        self._write(line.encode(self._encoding, errors="backslashreplace"))
