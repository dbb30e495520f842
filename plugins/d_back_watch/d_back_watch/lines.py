"""The output for pipes, files and scripts: one line per frame, written at once."""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from d_back_core import DBackError
from d_back_core.client import ClientWorld, Listener, decoded
from d_back_watch.descriptions import Description, describe, describe_loss

Write: TypeAlias = Callable[[bytes], object]
Now: TypeAlias = Callable[[], datetime]

_CONTROL = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that JSON allows without an escape, and that a terminal executes."""


class ReaderClosedError(Exception):
    """The reader of the output has closed it."""


class WriteError(Exception):
    """The output cannot be written: for example, the disk is full."""


class Output:
    """Writes to a file descriptor without a buffer.

    A write blocks while the reader does not read. Raises `ReaderClosedError` or `WriteError`.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._is_writing = False

    def write(self, line: bytes) -> None:
        """Write the whole line."""
        self._is_writing = True
        try:
            while line:
                line = line[os.write(self.descriptor, line) :]
        except BrokenPipeError as error:
            raise ReaderClosedError from error
        except OSError as error:
            raise WriteError(f"the output cannot be written: {error.strerror}") from error
        finally:
            self._is_writing = False

    def interrupt(self) -> None:
        """Called by a signal handler: make a blocked write raise `ReaderClosedError`."""
        if self._is_writing:
            raise ReaderClosedError


def utc_now() -> datetime:
    return datetime.now(UTC)


class JsonLines(Listener):
    """JSON Lines: ``{"time": …, "frame": …}`` for every frame, and
    ``{"time": …, "lost": {"code": …}}`` for every lost connection.

    A frame is written as it was received, except for white space and escapes. The time is the
    first field and always has the same length, so that sorting the lines sorts them by time.
    """

    def __init__(self, write: Write, now: Now = utc_now) -> None:
        self._write = write
        self._now = now

    def received(self, frame: bytes, world: ClientWorld) -> None:  # noqa: ARG002  of the base class
        """Write the frame."""
        try:
            text = msgspec.json.format(frame, indent=-1).decode()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DBackError(f"not a frame of d-back: {error}") from error
        self._write_line("frame", _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))

    def lost(self, code: int | None) -> None:
        """Write the close code."""
        self._write_line("lost", f'{{"code":{"null" if code is None else code}}}')

    def _write_line(self, kind: str, text: str) -> None:
        time = self._now().astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        self._write(f'{{"time":"{time}Z","{kind}":{text}}}\n'.encode())


class PlainLines(Listener):
    """Lines for people: the local time and a description."""

    def __init__(self, write: Write, encoding: str = "utf-8", now: Now = utc_now) -> None:
        self._write = write
        self._encoding = encoding
        self._now = now

    def received(self, frame: bytes, world: ClientWorld) -> None:
        """Write the description of the frame, if it has one."""
        known = decoded(frame)
        if known is not None and (description := describe(known, world)) is not None:
            self._write_line(description)

    def lost(self, code: int | None) -> None:
        """Write the reason."""
        self._write_line(describe_loss(code))

    def _write_line(self, description: Description) -> None:
        colon = ":" if description.is_message else ""
        time = self._now().astimezone().strftime("%H:%M:%S")
        line = f"{time} {description.name}{colon} {description.text}\n"
        self._write(line.encode(self._encoding, errors="backslashreplace"))
