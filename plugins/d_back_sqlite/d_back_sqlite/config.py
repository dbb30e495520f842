"""``[providers.sqlite]``: where the file is, and what is kept in it."""

import os
from pathlib import Path

import platformdirs
from msgspec import Struct

from d_back_core import Duration, File

FILE_NAME = "memory.sqlite3"


class SqliteConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.sqlite]``."""

    path: File | None = None
    """The file; its folder must exist. Unset: ``memory.sqlite3`` in the state folder of systemd,
    else in the user's data folder."""
    keep_offline: bool = False
    """If true, the recorder keeps users who are gone, as offline, instead of deleting them."""
    forget_after: Duration | None = None
    """Delete what no provider has supplied for this time, such as ``"90d"``. Unset: nothing is
    deleted by age."""

    def __post_init__(self) -> None:
        if self.forget_after is not None and self.forget_after <= 0:
            raise ValueError("forget_after: expected a duration greater than 0")

    @property
    def file(self) -> Path:
        """The file, with an absolute path."""
        return default_path() if self.path is None else Path(self.path).absolute()


def default_path() -> Path:
    """Return where the file is if the configuration has no ``path``."""
    # systemd sets it for StateDirectory=; several folders are separated by colons.
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    folder = Path(state) if state else platformdirs.user_data_path("d-back", appauthor=False)
    return folder / FILE_NAME
