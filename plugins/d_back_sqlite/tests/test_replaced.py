"""R49: others delete, replace, restore, damage, lock or change the file behind our back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sqlite3
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING

import pytest
from sqlite_files import WITHIN, complete, execute, make, read, said, shown, stored, town, write

from d_back_core import UserChanged
from d_back_sqlite.failure import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from conftest import Begin, Health, Join, Serve, Until

    from d_back_core.embedding.server import WebSocketServer
    from d_back_testing import ScriptedProvider

OTHER = """
INSERT INTO servers VALUES ('1', 'Old plaza', 0, 1, 1, 'plaza', '2026-01-01T00:00:00.000Z');
INSERT INTO users (server_id, user_id, username, status, role_color, last_seen) VALUES
    ('1', '7', 'Ada II', 'dnd', '#000000', '2026-01-01T00:00:00.000Z'),
    ('1', '9', 'Gone', 'idle', '#000000', '2026-01-01T00:00:00.000Z');
"""
"""An older state, as a recorder has written it."""


def copy_of_other(path: Path) -> Path:
    """A file beside it with that state."""
    other = path.with_name("other.sqlite3")
    other.unlink(missing_ok=True)  # of an earlier mishap: its rows would be in the way
    make(other, OTHER)
    return other


def replaced(path: Path) -> None:
    """``mv backup memory.sqlite3``."""
    copy_of_other(path).replace(path)


def deleted_with_log(path: Path) -> None:
    """``rm memory.sqlite3*``."""
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def deleted(path: Path) -> None:
    """``rm memory.sqlite3``: its log stays."""
    path.unlink()


def overwritten(path: Path) -> None:
    """``cp backup memory.sqlite3``: the same inode."""
    shutil.copyfile(copy_of_other(path), path)


def restored(path: Path) -> None:
    """``sqlite3 memory.sqlite3 ".restore backup"``."""
    with (
        closing(sqlite3.connect(copy_of_other(path))) as source,
        closing(sqlite3.connect(path)) as target,
    ):
        source.backup(target)


def damaged(path: Path) -> None:
    """A disk that returns other bytes."""
    path.write_bytes(os.urandom(path.stat().st_size))


def truncated(path: Path) -> None:
    """Nothing is left in it."""
    path.write_bytes(b"")


def dropped(path: Path) -> None:
    """``DROP TABLE users``."""
    execute(path, "DROP TABLE users")


def emptied(path: Path) -> None:
    """``DELETE FROM users``."""
    execute(path, "DELETE FROM users")


def lock_deleted(path: Path) -> None:
    """Only the file with the lock is deleted."""
    path.with_name(f"{path.name}.lock").unlink()


MISHAPS = [
    replaced,
    deleted,
    deleted_with_log,
    overwritten,
    restored,
    damaged,
    truncated,
    dropped,
    emptied,
    lock_deleted,
]


async def recorded(serve: Serve, path: Path, script: ScriptedProvider) -> WebSocketServer:
    return await serve(path, {"script": script}, order=("script", "sqlite"), recorders=("sqlite",))


def health_of(server: WebSocketServer) -> tuple[str, str]:
    health = server.live.providers.supervisors["sqlite"].health
    return health.state, health.last_error


def is_stored(path: Path, world: Mapping[str, object]) -> bool:
    """True if the file can be read and holds that world."""
    try:
        return path.exists() and shown(path) == world
    except sqlite3.Error:
        return False


@pytest.mark.parametrize("mishap", MISHAPS)
async def test_r49_what_was_recorded_is_stored_again(
    path: Path, serve: Serve, join: Join, until: Until, mishap: Callable[[Path], None]
) -> None:
    """Whatever happens to the file, it is what the source supplies again in time, and changes are
    stored again."""
    script = town()
    server = await recorded(serve, path, script)
    world = await join(server)
    await until(lambda: is_stored(path, world.users))
    mishap(path)
    await until(
        lambda: is_stored(path, world.users) and health_of(server)[0] == "ready", seconds=WITHIN
    )
    script.emit(UserChanged(server_id="1", uid="7", status="dnd"))
    await world.until(lambda w: w.users["7"].status == "dnd")
    await until(lambda: is_stored(path, world.users), seconds=WITHIN)
    assert {user.username for user in world.users.values()} == {"Ada", "Bo"}


@pytest.mark.parametrize("mishap", [replaced, overwritten, restored])
async def test_r49_another_file_is_shown(
    plaza: Path, serve: Serve, join: Join, until: Until, mishap: Callable[[Path], None]
) -> None:
    """A file that is only read is shown as it is now."""
    world = await join(await serve(plaza))
    mishap(plaza)
    await until(lambda: world.users == shown(plaza), seconds=WITHIN)
    assert {user.username for user in world.users.values()} == {"Ada II", "Gone"}
    execute(plaza, "UPDATE users SET username = 'Zoe' WHERE user_id = '7'")
    await world.until(lambda w: w.users["7"].username == "Zoe")


async def test_rows_that_others_change_are_shown(plaza: Path, serve: Serve, join: Join) -> None:
    """Each change of another program arrives."""
    world = await join(await serve(plaza))
    for name in ("Eve", "Fay", "Gil"):
        execute(plaza, "UPDATE users SET username = ? WHERE user_id = '7'", name)
        await world.until(lambda w: w.users == shown(plaza))
    assert world.users["7"].username == "Gil"


async def test_r49_a_log_of_a_file_that_is_gone_is_not_applied(path: Path, begin: Begin) -> None:
    """The log of the old file does not become a part of the one that takes its place."""
    provider = await begin(path)
    await provider.record([said(str(number)) for number in range(500)])
    replaced(path)
    await provider.stop()
    assert execute(path, "PRAGMA integrity_check") == [("ok",)]
    assert {uid for _, uid in stored(path)} == {"7", "9"}


async def test_r49_nothing_is_written_into_a_file_that_is_gone(path: Path, begin: Begin) -> None:
    """A batch that would be lost with the deleted file is refused."""
    provider = await begin(path)
    deleted(path)
    with pytest.raises(StoreError, match=r"memory.sqlite3' was deleted$"):
        await provider.record([said("7")])


async def test_r49_what_is_wanted_survives_a_restart_of_the_provider(
    path: Path, begin: Begin, health: Health
) -> None:
    """The core does not pass again what it has passed: the next run of the same provider stores
    it in the new file."""
    provider = await begin(path)
    await provider.record([said("7"), complete("7")])
    await provider.stop()
    deleted_with_log(path)
    await provider.start(health.context())
    assert set(stored(path)) == {("1", "7")}


# Corrupt files


@pytest.mark.parametrize(
    "content",
    [b"not a database, but long enough to be read as one " * 100, b"SQLite format 3\x00" * 300],
)
async def test_a_corrupt_file_is_moved_aside(
    path: Path,
    serve: Serve,
    join: Join,
    until: Until,
    *,
    content: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line says so, the file is kept beside the new one, and the chain goes on."""
    write(path, content)
    script = town()
    world = await join(await recorded(serve, path, script))
    await until(lambda: is_stored(path, world.users))
    lines = [each.message for each in caplog.records if each.name == "d_back.providers.sqlite"]
    assert len(lines) == 1
    aside = re.fullmatch(
        r"'.*/memory\.sqlite3' is corrupt: .*;"
        r" moved to '(memory\.sqlite3\.corrupt-\d{8}T\d{6})', an empty file takes its place",
        lines[0],
    )
    assert aside is not None
    assert read(path.with_name(aside[1])) == content


async def test_a_damaged_page_is_found(path: Path, begin: Begin) -> None:
    """A file of which only a part is damaged is moved aside, too."""
    provider = await begin(path)
    await provider.record([said(str(number)) for number in range(5000)])
    await provider.stop()
    whole = read(path)
    middle = len(whole) // 2
    write(path, whole[:middle] + os.urandom(8192) + whole[middle + 8192 :])
    other = await begin(path)
    assert await other.servers() == {}
    assert len(list(path.parent.glob("*.corrupt-*"))) == 1


async def test_a_database_of_another_program_is_left_alone(path: Path, begin: Begin) -> None:
    """It is neither written to nor moved."""
    execute(path, "CREATE TABLE users (name text)")
    before = read(path)
    with pytest.raises(StoreError, match="is a database of another program: set another `path`"):
        await begin(path)
    assert read(path) == before


async def test_a_file_of_a_newer_version_is_left_alone(plaza: Path, begin: Begin) -> None:
    """The error names both versions."""
    execute(plaza, "PRAGMA user_version = 9")
    with pytest.raises(StoreError, match=r"newer d-back-sqlite: .* version 9, expected 1 at most"):
        await begin(plaza)


# A storm


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_r49_a_storm(path: Path, serve: Serve, join: Join, until: Until, seed: int) -> None:
    """All of these mishaps, at random among changes: in the end the file is what was recorded."""
    random = Random(seed)  # noqa: S311  must be repeatable, guards nothing
    script = town()
    server = await recorded(serve, path, script)
    world = await join(server)
    await until(lambda: is_stored(path, world.users))
    for _ in range(60):
        if random.random() < 0.1:
            mishap = random.choice(MISHAPS)
            # What is done to a file while its owner opens it may fail: then it has not happened.
            with contextlib.suppress(OSError, sqlite3.Error):
                mishap(path)
        script.emit(
            UserChanged(
                server_id="1",
                uid=str(random.randrange(20)),
                username=random.choice(["Ada", "Bo", "Cy"]),
                status="online",
                role_color="#000000",
            )
        )
        await asyncio.sleep(random.random() * 0.1)
    await until(lambda: health_of(server)[0] == "ready" and is_stored(path, world.users))
