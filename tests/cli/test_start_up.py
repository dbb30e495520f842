"""What a start costs: only what is needed is imported."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest

PATIENCE = 30.0
"""Seconds after which a process is taken for lost."""
NOT_NEEDED = {
    "discord",
    "asyncpg",
    "d_back_core.client",
    "d_back_core.cli.commands",
    "d_back_testing",
    "rich",
}
"""What belongs to plugins that the order does not name, to tests, or to other commands."""
NEEDED = {"d_back_core.cli.main", "d_back_core.gateway.gateway", "d_back_test_club", "websockets"}

CLUB = """
from d_back_core import Server, hookimpl


class Provider:
    def __init__(self, config): pass

    @hookimpl
    async def servers(self):
        return {"1": Server(name="The club")}
"""

COUNTING = """
import gc
import logging
from d_back_core import hookimpl


class Provider:
    def __init__(self, config): pass

    @hookimpl
    async def start(self, context):
        logging.getLogger("club").warning("%d objects are collected", len(gc.get_objects()))
"""


def install(site: Path, name: str, source: str) -> None:
    """A distribution ``d-back-NAME`` with a plugin of that name."""
    (site / f"d_back_test_{name}.py").write_text(source)
    info = site / f"d_back_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: d-back-{name}\nVersion: 1.0\n")
    point = f"[d_back.providers]\n{name} = d_back_test_{name}:Provider\n"
    (info / "entry_points.txt").write_text(point)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The working folder, with one plugin that is used and two, with their libraries, that are
    not."""
    site = tmp_path / "site"
    site.mkdir()
    install(site, "club", CLUB)
    for library in ("discord", "asyncpg"):
        (site / f"{library}.py").write_text("")
        install(site, f"with_{library}", f"import {library}\nclass Provider: ...\n")
    (tmp_path / "d-back.toml").write_text("chain.order = ['club']\n")
    return site


def imported(site: Path, *arguments: str) -> tuple[set[str], str]:
    """What a process imports until it listens or ends, and the rest of what it says."""
    inherited = os.environ.get("PYTHONPATH", "")
    environ = {key: text for key, text in os.environ.items() if not key.startswith("D_BACK_")}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), inherited]))
    command = [sys.executable, "-v", "-m", "d_back_core", *arguments]
    modules: set[str] = set()
    other: list[str] = []
    with subprocess.Popen(  # noqa: S603  it is ours
        command,
        cwd=site.parent,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        too_long = Timer(PATIENCE, process.kill)
        too_long.start()
        for line in process.stderr or ():
            if found := re.match(r"import '(\S+)' # ", line):
                modules.add(found[1])
            else:
                other.append(line)
            if "listening on" in line:
                process.send_signal(signal.SIGTERM)
                break
        for _ in process.stderr or ():  # it must not wait for us
            pass
        process.wait()
        too_long.cancel()
    return modules, "".join(other)


def in_vain(modules: set[str]) -> set[str]:
    """Those that were not needed, with their submodules."""
    return {
        name
        for name in modules
        if any(name == each or name.startswith(f"{each}.") for each in NOT_NEEDED)
    }


def test_a_start_imports_only_what_it_needs(site: Path) -> None:
    """Up to listening: the plugin that the order names, and no other one's library."""
    modules, said = imported(site, "--port", "0")
    assert "listening on" in said
    assert modules >= NEEDED
    assert not in_vain(modules)
    assert not {"d_back_test_with_discord", "d_back_test_with_asyncpg"} & modules


def test_collections_leave_out_what_is_imported(site: Path) -> None:
    """A full garbage collection looks only at what was made since the imports."""
    (site / "d_back_test_club.py").write_text(COUNTING)
    _, said = imported(site, "--port", "0")
    count = re.search(r"(\d+) objects are collected", said)
    assert count is not None
    assert int(count[1]) < 10_000


def test_the_version_is_said_without_any_plugin(site: Path) -> None:
    """Not even the one that the order names, and without a server."""
    modules, _ = imported(site, "--version")
    assert not {"starlette", "uvicorn", "websockets"} & modules
    assert "d_back_core.cli.main" in modules
    assert not in_vain(modules)
    assert not {name for name in modules if name.startswith("d_back_test_")}
