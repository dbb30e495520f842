"""What ``d-back watch --json`` has written, read line by line."""

import asyncio
import logging
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

BATCH = 1_000_000
"""Bytes that are read and decoded at once, in a thread; a longer line is read whole."""


class RecordingError(ValueError):
    """The file cannot be played; names it, and the line."""


class ListedServer(Struct, frozen=True, gc=False):
    """A server in a list."""

    id: str
    name: str
    default: bool = False
    passworded: bool = False


class Listed(Struct, frozen=True, tag="server-list"):
    """The servers that there were when the connection was made."""

    data: dict[str, ListedServer]


class ListChanged(Struct, frozen=True, tag="server-list-update"):
    """The list has changed: the servers that are new or changed, and those that are gone."""

    data: dict[str, ListedServer]
    removed: list[str] = []
    """server_ids."""


class Member(Struct, frozen=True, rename="camel", gc=False):
    """A user of a snapshot."""

    username: str
    status: str
    role_color: str


class Asked(Struct, frozen=True):
    """Which server a snapshot is of, by its public id."""

    server: str


class Snapshot(Struct, frozen=True):
    """All members."""

    request: Asked
    users: dict[str, Member]


class Joined(Struct, frozen=True, tag="server-join"):
    """A snapshot: the first one, or one after a connection that was lost."""

    data: Snapshot


class Presence(Struct, frozen=True, rename="camel", gc=False):
    """What changed of a user."""

    uid: str
    status: str
    username: str | UnsetType = UNSET
    role_color: str | UnsetType = UNSET
    delete: bool = False


class PresenceChanged(Struct, frozen=True, tag="presence"):
    """A user came, changed or went."""

    server: str
    data: Presence


class Speech(Struct, frozen=True, gc=False):
    """A message."""

    uid: str
    message: str
    channel: str


class Said(Struct, frozen=True, tag="message"):
    """Add a message."""

    server: str
    data: Speech


Frame: TypeAlias = Listed | ListChanged | Joined | PresenceChanged | Said


class _Line(Struct):
    time: datetime
    frame: Raw | UnsetType = UNSET


class _Kind(Struct):
    type: str


class Moment(NamedTuple):
    """A line that is played."""

    number: int
    time: float
    """Seconds since 1970."""
    frame: Frame


_PLAYED = {
    str(kind.__struct_config__.tag)
    for kind in (Listed, ListChanged, Joined, PresenceChanged, Said)
}
_line = msgspec.json.Decoder(_Line)
_kind = msgspec.json.Decoder(_Kind)
_frame: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(
    Listed | ListChanged | Joined | PresenceChanged | Said
)


class Recording:
    """A file, read from the beginning to the end, a batch at a time.

    For one reader; one that is cancelled loses nothing.
    """

    def __init__(self, path: str, log: logging.Logger) -> None:
        self._path = path
        self._log = log
        self._file: IO[bytes] | None = None
        self._number = 0
        self._ready: deque[Moment | RecordingError | None] = deque()
        self._reading: asyncio.Task[None] | None = None

    def problem(self, number: int, what: object) -> RecordingError:
        """The error of a line."""
        return RecordingError(f"replay '{self._path}', line {number}: {what}")

    async def peek(self) -> Moment | None:
        """What comes next, None at the end; raises `RecordingError` for a line that is none, and
        again when it is called again."""
        while not self._ready:
            if self._reading is None:
                self._reading = asyncio.create_task(asyncio.to_thread(self._read))
            await asyncio.shield(self._reading)
            self._reading = None
        first = self._ready[0]
        if isinstance(first, RecordingError):
            raise first
        return first

    def take(self) -> None:
        """Go on to the next; at the end, to the first line again."""
        self._ready.popleft()

    def close(self) -> None:
        """Let the file go; what is being read is read to its end first."""
        if self._reading is None:
            self._shut()
        else:
            self._reading.add_done_callback(lambda _: self._shut())

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> None:
        """In a thread: the next batch, and what comes behind it. It is the only one at work."""
        try:
            if self._file is None:
                self._number = 0
                self._file = Path(self._path).open("rb")  # noqa: SIM115  until `close`
            lines = self._file.readlines(BATCH)
        except OSError as error:
            self._ready.append(RecordingError(f"replay '{self._path}': {error.strerror}"))
            return
        for line in lines:
            self._number += 1
            try:
                moment = self._moment(line)
            except msgspec.DecodeError as error:
                if line.endswith(b"\n"):
                    self._ready.append(self.problem(self._number, error))
                    return
                self._log.warning("%s: it is cut off", self.problem(self._number, "left out"))
                break
            if moment is not None:
                self._ready.append(moment)
        if not lines:
            self._shut()
            self._ready.append(None)

    def _moment(self, text: bytes) -> Moment | None:
        line = _line.decode(text)
        if line.frame is UNSET or _kind.decode(line.frame).type not in _PLAYED:
            return None
        return Moment(self._number, line.time.timestamp(), _frame.decode(line.frame))
