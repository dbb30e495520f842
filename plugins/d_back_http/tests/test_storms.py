"""Storms: a chain of what is pushed or pulled, with a memory below it, while everything fails."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from http_api import ADA, SECRET, Api, pulling

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Join, Push, Serve, Until

SOURCES = {"bot": {"secret": SECRET}}
STATUSES = ("online", "idle", "dnd", "offline")
STEPS = 40
LOCKED = 0.2
"""Seconds for which another process holds the file."""


def deleted(path: Path) -> None:
    """``rm memory.sqlite3*``."""
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink(missing_ok=True)


def replaced(path: Path) -> None:
    """An empty file in its place."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(b"")
    fresh.replace(path)


def emptied(path: Path) -> None:
    """``DELETE FROM users``."""
    with closing(sqlite3.connect(path, timeout=1)) as database, database:
        database.execute("DELETE FROM users")


async def locked(path: Path) -> None:
    """Another process keeps a write lock for a moment."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=1)) as database:
        database.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(LOCKED)  # a lock has a length
        database.execute("ROLLBACK")


async def mishap(random: Random, path: Path) -> None:
    """One of these; what fails because the owner has the file has not happened."""
    with contextlib.suppress(OSError, sqlite3.Error):
        kind = random.choice([deleted, replaced, emptied, None])
        await locked(path) if kind is None else kind(path)


def stored(path: Path) -> dict[str, tuple[str, str]]:
    """What the file has of server 1."""
    with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=1)) as database:
        rows = database.execute(
            "SELECT user_id, username, status FROM users WHERE server_id = '1'"
        ).fetchall()
        return {uid: (name, status) for uid, name, status in rows}
    return {}


def shown(users: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {uid: (user.username, user.status) for uid, user in users.items()}


def person(random: Random) -> dict[str, str]:
    return {"username": random.choice(["Ada", "Bo", "Cy"]), "status": random.choice(STATUSES)}


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_r49_a_storm_of_pushes(  # noqa: PLR0917  fixtures
    serve: Serve, join: Join, push: Push, until: Until, tmp_path: Path, seed: int
) -> None:
    """While the file is deleted, replaced, emptied and locked, and the gateway restarts, a program
    pushes: in the end clients and the file have what was pushed last."""
    random = Random(seed)  # noqa: S311  must be repeatable, guards nothing
    path = tmp_path / "memory.sqlite3"
    chain: Any = {"order": ("http", "sqlite"), "recorders": ("sqlite",), "sqlite": path}
    truth: dict[str, dict[str, str]] = {"7": {"username": "Ada", "status": "online"}}
    server = await serve(push=SOURCES, **chain)
    assert (await push(server, "PUT", "/http/1/users", truth))[0] == 204
    world = await join(server, "1")
    for step in range(STEPS):
        if random.random() < 0.2:
            await mishap(random, path)
        if step == STEPS // 2:  # the program notices that it has to push everything again
            await server.stop()
            server = await serve(push=SOURCES, **chain)
            answer, _ = await push(server, "PATCH", "/http/1/users/7", {"status": "dnd"})
            assert answer == 409
            assert (await push(server, "PUT", "/http/1/users", truth))[0] == 204
            world = await join(server, "1")
        uid = str(random.randrange(5))
        if uid in truth and random.random() < 0.3:
            del truth[uid]
            assert (await push(server, "DELETE", f"/http/1/users/{uid}"))[0] == 204
        else:
            truth[uid] = person(random)
            assert (await push(server, "PATCH", f"/http/1/users/{uid}", truth[uid]))[0] == 204
    expected = {uid: (user["username"], user["status"]) for uid, user in truth.items()}
    await until(lambda: shown(world.users) == expected)
    await until(lambda: stored(path) == expected)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_r49_a_storm_of_polls(  # noqa: PLR0917  fixtures
    api: Api, serve: Serve, join: Join, until: Until, tmp_path: Path, seed: int
) -> None:
    """While the API ends, answers 503 and is back, and the file is lost, clients end with what the
    API has last, and so does the file."""
    random = Random(seed)  # noqa: S311  the same
    path = tmp_path / "memory.sqlite3"
    options = pulling(api)
    server = await serve(
        users_url=options.users_url,
        servers_url=options.servers_url,
        token=SECRET,
        every="1s",
        grace="200ms",
        order=("http", "sqlite"),
        recorders=("sqlite",),
        sqlite=path,
    )
    world = await join(server, "plaza")
    for _ in range(STEPS // 2):
        match random.choice(["ends", "fails", "is lost", "changes"]):
            case "ends":
                await api.end()
            case "fails":
                api.status = 503
            case "is lost":
                await mishap(random, path)
        api.users["1"] = {
            "7": {**ADA, **person(random)},
            str(random.randrange(20)): person(random),
        }
        await asyncio.sleep(random.random() * 0.4)  # a source is polled in real time
        api.status = 200
        await api.end()
        await api.begin()
    truth = {uid: (user["username"], user["status"]) for uid, user in api.users["1"].items()}
    await until(lambda: shown(world.users) == truth)
    await until(lambda: stored(path) == truth)
    assert world.joins == 1
