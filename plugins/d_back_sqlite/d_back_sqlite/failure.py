"""What went wrong with the file, in words for the operator."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d_back_core import DBackError

TEXTS = {
    sqlite3.SQLITE_BUSY: "'{path}' is locked by another process",
    sqlite3.SQLITE_LOCKED: "'{path}' is locked by another process",
    sqlite3.SQLITE_FULL: "'{path}' cannot grow: the disk is full",
    sqlite3.SQLITE_READONLY: "'{path}', its folder or its disk is read-only",
    sqlite3.SQLITE_PERM: "'{path}' cannot be opened: permission denied",
    sqlite3.SQLITE_CANTOPEN: "'{path}', or a file beside it, cannot be opened or made",
    sqlite3.SQLITE_INTERRUPT: "'{path}' is being closed",
}
"""Result code → text, of what may pass while the file stays open."""
CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class StoreError(DBackError):
    """The file cannot be used, or cannot do what it was asked."""


class ReopenError(StoreError):
    """It will not get better before the file is opened again: it was replaced, its disk failed, a
    table is missing."""


class CorruptError(ReopenError):
    """The file is not an SQLite database, or is damaged."""


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Raise what goes wrong with this file as `StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise _described(error, path) from None
    except OSError as error:
        raise StoreError(f"'{path}': {error.strerror or error}") from None


def result_code(error: sqlite3.Error) -> int | None:
    """Return SQLite's result code, without the details that its higher bytes have; None for an
    error of the module `sqlite3` itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _described(error: sqlite3.Error, path: Path) -> StoreError:
    code = result_code(error)
    if code in CORRUPT:
        return CorruptError(f"'{path}' is corrupt: {error}")
    if code in TEXTS:
        return StoreError(TEXTS[code].format(path=path))
    if code == sqlite3.SQLITE_IOERR:
        name = getattr(error, "sqlite_errorname", "")
        return ReopenError(f"'{path}' cannot be read or written ({name})")
    return ReopenError(f"'{path}': {error}")
