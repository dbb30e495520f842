"""A terminal in which a test runs a command, types, and looks at what is drawn."""

import os
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path
from time import monotonic

import pyte

PATIENCE = 60.0
"""Seconds after which what a test waits for is taken for lost."""


class Terminal:
    """One that understands what those of the VT100 family do."""

    def __init__(
        self,
        arguments: tuple[str, ...],
        folder: Path,
        environ: Mapping[str, str],
        columns: int,
        rows: int,
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.raw = b""
        """All that was written to it."""
        self._stream = pyte.ByteStream(self.screen)
        self._ours, theirs = os.openpty()
        ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        known = {
            key: text
            for key, text in os.environ.items()
            if not key.startswith("D_BACK_") and key not in {"COLUMNS", "LINES"}  # the size is set
        }
        self.process = subprocess.Popen(  # noqa: S603  it is ours
            [sys.executable, "-m", "d_back_core", *arguments],
            cwd=folder,
            env={**known, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environ},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    @property
    def text(self) -> str:
        """What is to be seen."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._ours, text.encode())

    def until(self, condition: str | Callable[[str], object]) -> str:
        """Return what is to be seen as soon as it has that text, or fulfils the condition."""
        deadline = monotonic() + PATIENCE
        while not (condition in self.text if isinstance(condition, str) else condition(self.text)):
            assert self._read(deadline - monotonic()), f"{condition} never came:\n{self.text}"
        return self.text

    def end(self) -> int:
        """Take in the rest; the exit status."""
        deadline = monotonic() + PATIENCE
        while self._read(deadline - monotonic()):
            pass
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """End what still runs."""
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._ours)

    def _read(self, seconds: float) -> bool:
        """Whether something came."""
        if seconds <= 0 or not select.select([self._ours], [], [], seconds)[0]:
            return False
        taken = b""
        with suppress(OSError):  # so does a terminal end on Linux
            taken = os.read(self._ours, 65536)
        self.raw += taken
        self._stream.feed(taken)
        return bool(taken)


@contextmanager
def terminal(
    *arguments: str,
    folder: Path,
    environ: Mapping[str, str] | None = None,
    columns: int = 100,
    rows: int = 30,
) -> Iterator[Terminal]:
    """Run ``d-back`` with these arguments in a terminal, until the block ends."""
    opened = Terminal(arguments, folder, environ or {}, columns, rows)
    try:
        yield opened
    finally:
        opened.close()
