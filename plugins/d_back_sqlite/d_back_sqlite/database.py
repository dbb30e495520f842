"""The file: how it is opened, and how it is noticed that it is another one.

All methods run in the thread of the worker, except `interrupt`.

With its write-ahead log (WAL) SQLite survives that this process is killed, and that another one
writes. It cannot notice that the file was deleted, replaced by another one or overwritten by
``cp``. `check` does, from the outside:

    noticed by                                                       means
    another inode, or none                                           deleted or replaced
    another time or size, and SQLite knows of no writer              overwritten in place
    ``PRAGMA data_version``, which own writes leave as it is         others have changed rows

The first two end the run: the file is opened again. So that they do no harm, each check writes the
log back into the file and empties it: SQLite would apply what is left of it to the file that took
the place of its own.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from d_back_sqlite.failure import (
    TEXTS,
    CorruptError,
    ReopenError,
    StoreError,
    result_code,
    told,
)

BUSY_TIMEOUT = 2.0
"""Seconds to wait for other processes that write; shorter than the core waits for an answer."""
APPLICATION_ID = 0x0D_BACC
"""Marks the file as one of this plugin."""

Inode: TypeAlias = tuple[int, int]


def migrations() -> list[str]:
    """Return the scripts that make the tables, oldest first. Each may be run again."""
    scripts = sorted(
        files(__package__).joinpath("migrations").iterdir(), key=lambda each: each.name
    )
    return [script.read_text(encoding="utf-8") for script in scripts]


class Database:
    """One file. `open` or `open_read_only` comes first, `close` last."""

    connection: sqlite3.Connection

    def __init__(self, path: Path, log: logging.Logger) -> None:
        self.path = path
        self._log = log
        self._is_open = False
        self._inode: Inode | None = None
        self._log_inode: Inode | None = None
        self._state = (0, 0)
        """Time and size of the file after our last access."""
        self._version = 0
        self._has_written = False

    def open(self, *, replace_corrupt: bool = False) -> None:
        """Open the file, or make it. With ``replace_corrupt``, a corrupt one is moved aside."""
        with told(self.path):
            self._make()
            try:
                self._connect()
            except CorruptError as error:
                if not replace_corrupt:
                    raise
                self.close()
                self._move_aside(error)
                self._make()
                self._connect()

    def open_read_only(self) -> None:
        """Open the file as it is. One that does not exist reads as one without rows: to make it
        here would make it as the user who only asks."""
        with told(self.path):
            exists = self.path.exists()
            uri = f"file:{quote(str(self.path))}?mode=ro" if exists else ":memory:"
            self.connection = sqlite3.connect(
                uri, uri=exists, timeout=BUSY_TIMEOUT, isolation_level=None
            )
            self._is_open = True
            if exists:
                self._check_contents()
            else:
                self._migrate()

    def check_folder(self) -> None:
        """Raises `StoreError` if the folder of the file is missing."""
        if not self.path.parent.is_dir():
            raise StoreError(f"'{self.path}': the folder does not exist")

    def close(self) -> None:
        """Close the file; may be called twice."""
        if not self._is_open:
            return
        self._is_open = False
        replaced = self._inode is not None and _inode(self.path) != self._inode
        with suppress(sqlite3.Error):
            # An interrupt would end the writing back of the log as well. A statement clears it.
            self.connection.execute("SELECT 1")
        with suppress(sqlite3.Error):  # it cannot be helped any more
            self.connection.close()
        if replaced:
            # SQLite leaves the log of a file that was moved. The one in its place is not its file.
            wal = self._beside("-wal")
            if _inode(wal) == self._log_inode:
                with suppress(OSError):
                    wal.unlink()
                    self._beside("-shm").unlink()

    def interrupt(self) -> None:
        """End the statement that runs now, from any thread."""
        if self._is_open:
            with suppress(sqlite3.ProgrammingError):  # closed meanwhile
                self.connection.interrupt()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing of what is written here is stored."""
        self._check_file(self._data_version())
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        self._has_written = True
        self._state = self._present_state()  # a large log is written back at a COMMIT

    def check(self) -> bool:
        """Return True if others have changed the tables. Raises `ReopenError` if the file is not
        the one that was opened any more."""
        version = self._data_version()
        self._check_file(version)
        is_changed, self._version = version != self._version, version
        if self._has_written or is_changed:
            self._write_back()
        self._state = self._present_state()
        return is_changed

    def _write_back(self) -> None:
        """Empty the log, as far as no other connection reads from it."""
        self.connection.execute("PRAGMA busy_timeout = 0")
        try:
            busy, _, _ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._has_written = bool(busy)
        except sqlite3.Error as error:
            if result_code(error) not in TEXTS:
                raise
            # A full disk, for example: tables and log can still be read.
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {round(BUSY_TIMEOUT * 1000)}")

    def version(self) -> int:
        """Return the number of migrations that the file has."""
        found: int = self.connection.execute("PRAGMA user_version").fetchone()[0]
        return found

    def _make(self) -> None:
        """Make the file; what it will hold is personal data, so only its owner may read it."""
        self.check_folder()
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))

    def _connect(self) -> None:
        self.connection = connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT, isolation_level=None
        )
        self._is_open = True
        self._inode = _inode(self.path)
        self._check_contents()
        connection.execute("PRAGMA journal_mode = WAL")
        # With a WAL this loses the last moments when the machine loses power, but nothing when
        # the process is killed, and the file stays whole. A source supplies them again.
        connection.execute("PRAGMA synchronous = NORMAL")
        self._migrate()
        self._version = self._data_version()
        self._has_written = True
        self._log_inode = _inode(self._beside("-wal"))
        self._state = self._present_state()

    def _check_contents(self) -> None:
        connection = self.connection
        with told(self.path):
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise CorruptError(f"'{self.path}' is corrupt: {' '.join(found.split())}")
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            version = self.version()
        if tables and application != APPLICATION_ID:
            raise StoreError(f"'{self.path}' is a database of another program: set another `path`")
        if version > len(migrations()):
            raise StoreError(
                f"'{self.path}' was written by a newer d-back-sqlite: its tables have version"
                f" {version}, expected {len(migrations())} at most"
            )

    def _migrate(self) -> None:
        """Make tables that are missing, also if they have been dropped."""
        scripts = migrations()
        tables = {
            name
            for (name,) in self.connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            )
        }
        if self.version() == len(scripts) and {"servers", "users"} <= tables:
            return
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            for script in scripts:
                for statement in script.split(";"):
                    self.connection.execute(statement)
            self.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self.connection.execute(f"PRAGMA user_version = {len(scripts)}")
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def _move_aside(self, error: CorruptError) -> None:
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
        aside = self.path.with_name(f"{self.path.name}.corrupt-{stamp}")
        self.path.rename(aside)
        wal = self._beside("-wal")
        if wal.exists():
            wal.rename(aside.with_name(f"{aside.name}-wal"))
        self._beside("-shm").unlink(missing_ok=True)
        self._log.warning("%s; moved to '%s', an empty file takes its place", error, aside.name)

    def _check_file(self, version: int) -> None:
        found = _inode(self.path)
        if found is None:
            raise ReopenError(f"'{self.path}' was deleted")
        if found != self._inode:
            raise ReopenError(f"'{self.path}' was replaced by another file")
        if version == self._version and self._present_state() != self._state:
            raise ReopenError(f"'{self.path}' was overwritten")

    def _present_state(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_mtime_ns, found.st_size

    def _data_version(self) -> int:
        found: int = self.connection.execute("PRAGMA data_version").fetchone()[0]
        return found

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


def _inode(path: Path) -> Inode | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
