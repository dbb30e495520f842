"""Disks that are full or read-only, locks of others, gateways that are killed, and probes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from sqlite_files import PLAZA, WITHIN, execute, files_in, listed, make, said, shown, stored, town

from d_back_core import File, UserChanged
from d_back_sqlite import SqliteConfig, SqliteProvider
from d_back_sqlite.config import default_path
from d_back_sqlite.failure import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Begin, Health, Join, Serve, Until

    from d_back_core.embedding.server import WebSocketServer

NOT_ROOT = 65534


def health_of(server: WebSocketServer) -> tuple[str, str]:
    health = server.live.providers.supervisors["sqlite"].health
    return health.state, health.last_error


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of its own, of 256 KiB."""
    folder = Path(tempfile.mkdtemp(prefix="d-back-sqlite-"))
    mounted = subprocess.run(  # noqa: S603
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S603, S607
        folder.rmdir()


@contextmanager
def not_root() -> Iterator[Path]:
    """A folder of a user who is not root, as whom the test runs: root writes everywhere."""
    folder = Path(tempfile.mkdtemp(prefix="d-back-sqlite-"))
    before = os.geteuid()
    if before == 0:
        os.chown(folder, NOT_ROOT, NOT_ROOT)
        os.seteuid(NOT_ROOT)
    try:
        yield folder
    finally:
        os.seteuid(before)
        shutil.rmtree(folder)


# Locks of other programs


@pytest.mark.long
async def test_r49_a_file_that_is_locked(
    path: Path, serve: Serve, join: Join, until: Until
) -> None:
    """While another process keeps a lock the provider is degraded with the reason, clients go on,
    and what was recorded meanwhile is stored when it ends."""
    script = town()
    server = await serve(
        path, {"script": script}, order=("script", "sqlite"), recorders=("sqlite",)
    )
    world = await join(server)
    await until(lambda: shown(path) == world.users)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        script.emit(UserChanged(server_id="1", uid="9", username="Cy", status="online"))
        await world.until(lambda w: "9" in w.users)
        await until(lambda: health_of(server)[0] == "degraded", seconds=WITHIN)
        assert health_of(server)[1] == f"'{path}' is locked by another process"
        other.execute("ROLLBACK")
    await until(lambda: shown(path) == world.users)
    await until(lambda: health_of(server)[0] == "ready")


async def test_a_lock_of_a_moment_is_waited_for(plaza: Path, begin: Begin, health: Health) -> None:
    """A backup or an import delays a batch, and nothing more."""
    provider = await begin(plaza)
    with closing(sqlite3.connect(plaza, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        recording = asyncio.ensure_future(provider.record([said("9")]))
        assert not (await asyncio.wait([recording], timeout=0.3))[0]
        other.execute("ROLLBACK")
    await recording
    assert ("1", "9") in stored(plaza)
    assert health.said == []


async def test_a_reader_does_not_hold_up_the_recorder(plaza: Path, begin: Begin) -> None:
    """A program that reads all the time, such as a backup, sees its moment; batches are stored
    and the checks go on."""
    provider = await begin(plaza)
    events = provider.events()
    await provider.servers()
    await provider.users("1")
    with closing(sqlite3.connect(plaza, isolation_level=None)) as other:
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM users").fetchone() == (2,)
        for number in range(30):
            await provider.record([said(str(100 + number))])
            await anext(events)
        assert other.execute("SELECT count(*) FROM users").fetchone() == (2,)
        execute(plaza, "DELETE FROM users WHERE user_id = '8'")
        async with asyncio.timeout(WITHIN):
            await anext(events)  # a Reload, of the check
        other.execute("COMMIT")
    assert len(stored(plaza)) == 31


# Disks


async def test_a_full_disk(serve: Serve, join: Join, until: Until) -> None:
    """The provider is degraded with the reason, clients go on, and everything is stored when there
    is space."""
    with small_disk() as folder:
        path = folder / "memory.sqlite3"
        script = town()
        server = await serve(
            path, {"script": script}, order=("script", "sqlite"), recorders=("sqlite",)
        )
        world = await join(server)
        await until(lambda: shown(path) == world.users)
        ballast = folder / "ballast"
        fill(ballast)
        for number in range(200):
            script.emit(
                UserChanged(server_id="1", uid=f"u{number}", username="x" * 500, status="online")
            )
        await world.until(lambda w: len(w.users) == 202)
        await until(lambda: health_of(server)[0] == "degraded", seconds=WITHIN)
        assert health_of(server)[1] == f"'{path}' cannot grow: the disk is full"
        assert execute(path, "PRAGMA quick_check") == [("ok",)]
        ballast.unlink()
        await until(lambda: shown(path) == world.users)
        await until(lambda: health_of(server)[0] == "ready")
        await server.stop()


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(512)):
                pass
        except OSError:
            return


@pytest.mark.parametrize("has_file", [False, True])
async def test_a_read_only_folder(
    serve: Serve, join: Join, until: Until, *, has_file: bool
) -> None:
    """The provider is failed with the reason, and the chain goes on without it."""
    with not_root() as folder:
        path = folder / "memory.sqlite3"
        if has_file:
            make(path, PLAZA)
        folder.chmod(0o555)
        server = await serve(
            path, {"script": town()}, order=("script", "sqlite"), recorders=("sqlite",)
        )
        world = await join(server)
        assert set(world.users) == {"7", "8"}
        await until(lambda: health_of(server)[0] == "failed")
        assert "cannot be opened or made" in health_of(server)[1] or (
            "Permission denied" in health_of(server)[1]
        )
        folder.chmod(0o755)
        await until(lambda: health_of(server)[0] == "ready")
        await until(lambda: shown(path) == world.users)
        await server.stop()


async def test_a_folder_that_is_missing(tmp_path: Path, begin: Begin) -> None:
    """The folder of a path that is named is not made: it may be a disk that is not mounted."""
    path = tmp_path / "disk" / "memory.sqlite3"
    with pytest.raises(StoreError, match=r"disk/memory.sqlite3': the folder does not exist$"):
        await begin(path)
    assert files_in(tmp_path) == set()


async def test_a_folder_in_its_place(tmp_path: Path, begin: Begin) -> None:
    """A path that is a folder is an error in one line."""
    with pytest.raises(StoreError, match=r"cannot be opened or made$"):
        await begin(tmp_path)


async def test_only_its_owner_reads_the_file(path: Path, begin: Begin) -> None:
    """Only the gateway's user can read the names of members."""
    provider = await begin(path)
    await provider.record([listed(), said("7")])
    modes = {each.name: each.stat().st_mode & 0o077 for each in path.parent.iterdir()}
    del modes[f"{path.name}.lock"]  # has nothing in it
    assert set(modes.values()) == {0}


# The default path


async def test_the_state_folder_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, health: Health
) -> None:
    """Without a path the file is in the first state folder of the unit."""
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path / 'one'}:{tmp_path / 'two'}")
    provider = SqliteProvider(SqliteConfig())
    await provider.start(health.context())
    await provider.stop()
    assert (tmp_path / "one" / "memory.sqlite3").exists()


def test_the_data_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without systemd it is in the user's data folder."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_path() == tmp_path / "d-back" / "memory.sqlite3"


def test_forget_after_must_be_positive() -> None:
    """A duration of 0 would forget everything."""
    with pytest.raises(ValueError, match="forget_after: expected a duration greater than 0"):
        SqliteConfig(forget_after=0.0)  # type: ignore[arg-type]


# Two gateways


async def test_two_gateways_on_one_file(path: Path, begin: Begin, health: Health) -> None:
    """The second one is refused, by name, until the first one ends."""
    first = await begin(path)
    second = SqliteProvider(SqliteConfig(path=File(path)))
    with pytest.raises(StoreError, match=r"sqlite3' is in use by another gateway: stop it, or"):
        await second.start(health.context())
    await second.stop()
    await first.record([said("7")])
    await first.stop()
    await second.start(health.context())
    assert set(await second.users("1") or {}) == {"7"}
    await second.stop()


async def test_a_probe_changes_nothing(path: Path, begin: Begin) -> None:
    """``d-back explain`` reads beside a gateway, and makes no file."""
    probe = await begin(path, probe=True)
    assert await probe.servers() == {}
    await probe.stop()
    assert files_in(path.parent) == set()
    gateway = await begin(path)
    await gateway.record([listed(), said("7")])
    probe = await begin(path, probe=True)
    assert set(await probe.users("1") or {}) == {"7"}


async def test_a_probe_before_the_first_start(
    tmp_path: Path, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``d-back check --live`` does not miss the folder that the start will make."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    probe = SqliteProvider(SqliteConfig())
    await probe.start(health.context(probe=True))
    assert await probe.servers() == {}
    await probe.stop()
    assert files_in(tmp_path) == set()


async def test_stop_does_not_wait_for_a_slow_statement(plaza: Path, begin: Begin) -> None:
    """What is under way ends with stop."""
    provider = await begin(plaza)
    store = provider._store  # noqa: SLF001  no hook takes so long
    assert store is not None
    endless = (
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    )
    database = store._database  # noqa: SLF001
    waiting = asyncio.ensure_future(store._run(lambda: database.connection.execute(endless)))  # noqa: SLF001
    await asyncio.wait([waiting], timeout=0.1)
    async with asyncio.timeout(2.0):
        await provider.stop()
    with pytest.raises(StoreError, match="is being closed"):
        await waiting


# Killed


class Gateway:
    """A process of its own: the mock in a storm of changes, recorded into the file."""

    def __init__(self, path: Path, seed: int) -> None:
        config = path.with_name("d-back.toml")
        config.write_text(
            "[gateway]\nport = 0\n"
            '[chain]\norder = ["mock", "sqlite"]\nrecorders = ["sqlite"]\n'
            f"[providers.mock]\nusers = 300\nseed = {seed}\n"
            'presence_interval = "2ms"\nmessage_interval = 0\n'
            f'[providers.sqlite]\npath = "{path}"\n'
        )
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "d_back_core", "--config", config],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


async def test_killed_in_a_storm(path: Path, serve: Serve, join: Join, until: Until) -> None:
    """After each SIGKILL the file is whole and free, and the next gateway records into it; one
    without the source shows what was stored last."""
    random = Random(7)  # noqa: S311  must be repeatable, guards nothing
    for seed in range(3):
        gateway = await asyncio.to_thread(Gateway, path, seed)
        try:
            await until(lambda: changes_seen(path) > 5 or not gateway.runs)  # noqa: B023
            assert gateway.runs
            await asyncio.sleep(random.random() * 0.5)
        finally:
            await asyncio.to_thread(gateway.kill)
        assert execute(path, "PRAGMA integrity_check") == [("ok",)]
        assert len(stored(path)) == 300
    last = execute(path, "SELECT server_id FROM servers")[0][0]
    world = await join(await serve(path))
    rows = {uid: row[1] for (server_id, uid), row in stored(path).items() if server_id == last}
    assert {uid: user.status for uid, user in world.users.items()} == rows
    assert len(rows) == 300


_versions: dict[Path, set[object]] = {}


def changes_seen(path: Path) -> int:
    """How many different states the file had whenever this was called."""
    if not path.exists():
        return 0
    try:
        state = execute(path, "SELECT max(last_seen) FROM users")
    except sqlite3.Error:
        return 0
    seen = _versions.setdefault(path, set())
    seen.add(state[0])
    return len(seen)
