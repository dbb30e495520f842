"""The provider keeps the contract, over a real file."""

from collections.abc import Iterator
from pathlib import Path

from sqlite_files import PLAZA, execute, make

from d_back_core import File
from d_back_sqlite import SqliteConfig, SqliteProvider
from d_back_testing import ProviderContract


class TestFile(ProviderContract):
    """A file whose folder is moved away, as a disk that is not mounted."""

    def provider(self, tmp_path: Path) -> Iterator[SqliteProvider]:
        self.folder = tmp_path / "state"
        self.away = tmp_path / "away"
        self.folder.mkdir()
        self.path = self.folder / "memory.sqlite3"
        make(self.path, PLAZA)
        yield SqliteProvider(SqliteConfig(path=File(self.path)))

    def unavailable(self, tmp_path: Path) -> SqliteProvider:
        return SqliteProvider(SqliteConfig(path=File(tmp_path / "missing" / "memory.sqlite3")))

    async def trigger_event(self) -> None:
        execute(self.path, "UPDATE users SET status = 'dnd' WHERE user_id = '7'")

    async def lose_source(self) -> None:
        self.folder.rename(self.away)

    async def restore_source(self) -> None:
        self.away.rename(self.folder)
        execute(self.path, "UPDATE users SET username = username || '.' WHERE user_id = '8'")
