"""Wheels, and environments that hold nothing else: what runs in them is what is published."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Timer
from uuid import uuid4

import smoke

ROOT = Path(__file__).parents[1]
PATIENCE = 300.0
"""Seconds after which a command, or a gateway, is taken for lost."""
OURS = ("UV_LOCKED", "UV_FROZEN", "UV_PROJECT", "UV_WORKING", "VIRTUAL_ENV", "PYTHON", "PYTEST")
"""How variables begin that say how this test run came about."""


class Wheelhouse:
    """A folder of wheels, and the commands of a user who has only these."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder / uuid4().hex  # uv remembers what it had of a folder
        self.environ = {
            key: text
            for key, text in os.environ.items()
            if not key.startswith((*OURS, "D_BACK_", "NOX_"))
        } | {
            "UV_CACHE_DIR": self._cache(),
            "UV_FIND_LINKS": str(self.wheels),
            "UV_PYTHON": sys.executable,
            "UV_PYTHON_DOWNLOADS": "never",
            "XDG_CONFIG_HOME": str(folder / "home"),
        }
        kept = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "uv/uv.toml"
        if kept.is_file():  # it may say where packages come from
            self.environ["UV_CONFIG_FILE"] = str(kept)
        self.wheels.mkdir()

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        """What the command prints; it must succeed."""
        done = subprocess.run(  # noqa: S603  the commands of tests
            [self._found(command[0]), *map(str, command[1:])],
            cwd=cwd or self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        said = done.stdout + done.stderr
        if done.returncode:
            raise AssertionError(f"{' '.join(map(str, command))}: {done.returncode}\n{said}")
        return said

    def build(self, *packages: Path) -> None:
        """Add a wheel of each package."""
        for package in packages:
            self.run("uv", "build", "--wheel", "--out-dir", self.wheels, package)

    def environment(self, name: str, *distributions: str) -> Path:
        """The commands of a new environment that holds these, what they need, and nothing else."""
        path = self.folder / name
        self.run("uv", "venv", path)
        self.run("uv", "pip", "install", "--python", path, *distributions)
        return path / ("Scripts" if os.name == "nt" else "bin")

    @asynccontextmanager
    async def serving(self, commands: Path, config: Path) -> AsyncIterator[str]:
        """The address of a gateway that runs in that environment; it must end well."""
        with subprocess.Popen(  # noqa: ASYNC220, S603  it is waited for in threads
            [str(commands / "d-back"), "--config", str(config), "--port", "0"],
            cwd=self.folder,
            env=self.environ,
            stderr=subprocess.PIPE,
            text=True,
        ) as gateway:
            too_long = Timer(PATIENCE, gateway.kill)
            too_long.start()
            try:
                yield await asyncio.to_thread(smoke.address, gateway)
                gateway.terminate()
                _, rest = await asyncio.to_thread(gateway.communicate)
            finally:
                too_long.cancel()
                gateway.kill()
        assert gateway.returncode == 0, rest

    def _found(self, command: str | Path) -> str:
        found = shutil.which(command)
        assert found, f"{command} is not installed"
        return found

    def _cache(self) -> str:
        """Where uv keeps what it has downloaded, so that nothing is downloaded again."""
        command = [self._found("uv"), "cache", "dir"]
        return subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=True
        ).stdout.strip()
