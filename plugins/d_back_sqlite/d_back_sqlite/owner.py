"""One file belongs to one gateway at a time.

Two gateways that recorded into the same file would remove each other's users. The owner holds an
exclusive lock on a file beside it: SQLite's own lock, because it works on every system, and the
operating system ends it with the process. It is not a lock on the file itself, so the commands of
``d-back sqlite`` and the ``sqlite3`` shell can use the file of a running gateway.
"""

import sqlite3
from pathlib import Path

from d_back_sqlite.failure import ReopenError, StoreError, result_code, told


class Owner:
    """Holds the lock from `acquire` to `release`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = file.with_name(f"{file.name}.lock")
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def acquire(self) -> None:
        """Raises `StoreError` if another gateway has the lock."""
        with told(self._lock):
            connection = sqlite3.connect(self._lock, timeout=0, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = MEMORY")  # no further file
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error as error:
                connection.close()
                if result_code(error) == sqlite3.SQLITE_BUSY:
                    raise StoreError(
                        f"'{self._file}' is in use by another gateway: stop it, or give each of"
                        " them a `path` of its own"
                    ) from None
                raise
            self._connection = connection
            self._identity = self._present()

    def check(self) -> None:
        """Raises `ReopenError` if the lock was deleted: another gateway could acquire it."""
        if self._connection is not None and self._present() != self._identity:
            raise ReopenError(f"'{self._lock}' was deleted")

    def release(self) -> None:
        """Let others have it; may be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _present(self) -> tuple[int, int] | None:
        try:
            found = self._lock.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def is_held(self) -> bool:
        """Return True if a gateway has the lock now."""
        if self._present() is None:
            return False
        try:
            self.acquire()
        except StoreError:
            return True
        self.release()
        return False
