"""``d-back`` as an operator runs it: in a process of its own, with a plugin that needs nothing."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest

PATIENCE = 30.0
"""Seconds after which a process that does not end, or does not listen, is taken for lost."""
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and descriptors")

CLUB = """
import sys
import time

import click
from asyncio import CancelledError, Event
from contextlib import suppress
from msgspec import Struct

from d_back_core import Secret, Server, User, hookimpl


class ClubProvider:
    class Config(Struct):
        token: Secret | None = None
        stop: str = "at once"
        users: int = 1

    def __init__(self, config):
        self.config = config

    @hookimpl
    async def stop(self):
        print("stopping", file=sys.stderr, flush=True)
        while self.config.stop == "sits out":
            with suppress(CancelledError):
                await Event().wait()
        if self.config.stop == "never":
            await Event().wait()
        elif self.config.stop == "blocks":
            time.sleep(600)

    @hookimpl
    async def servers(self):
        return {"1": Server(name="The club")}

    @hookimpl
    async def users(self, server_id):
        return {str(uid): User(username="Ada") for uid in range(self.config.users)}

    @classmethod
    @hookimpl
    def commands(cls, group):
        @group.command()
        def greet():
            click.echo("hello")
"""
"""A plugin that needs nothing, of which a test decides how it ends."""


class Operator:
    """Runs ``d-back`` in a folder of its own, with the plugin ``club`` installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "site"
        self.site.mkdir()
        self.install("club", CLUB, "ClubProvider")
        home = folder / "home"
        home.mkdir()
        inherited = os.environ.get("PYTHONPATH", "")
        self.environ = {
            **{key: text for key, text in os.environ.items() if not key.startswith("D_BACK_")},
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.site), inherited])),
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
        }

    def install(self, name: str, source: str, cls: str = "Provider") -> None:
        """A distribution ``d-back-NAME`` with a plugin of that name."""
        (self.site / f"d_back_test_{name}.py").write_text(source)
        info = self.site / f"d_back_{name}-1.0.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: d-back-{name}\nVersion: 1.0\n"
        (info / "METADATA").write_text(metadata)
        points = f"[d_back.providers]\n{name} = d_back_test_{name}:{cls}\n"
        (info / "entry_points.txt").write_text(points)

    def hide_uvloop(self) -> None:
        """Let ``d-back`` run on asyncio's loop, also if uvloop is installed."""
        (self.site / "uvloop.py").write_text("from asyncio import new_event_loop\n")

    def configure(self, text: str = "chain.order = ['club']", name: str = "d-back.toml") -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(
        self,
        *arguments: str,
        typed: str = "",
        redirect: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A command to its end; ``redirect`` redirects, as in ``>&-``."""
        return subprocess.run(  # noqa: S603  it is ours
            self.command(arguments, redirect),
            cwd=self.folder,
            env={**self.environ, **(environ or {})},
            input=typed,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=PATIENCE,
            check=False,
            start_new_session=True,  # without a terminal to ask for passwords
        )

    def command(
        self, arguments: tuple[str, ...], redirect: str = "", limits: str = ""
    ) -> list[str]:
        command = [sys.executable, "-m", "d_back_core", *arguments]
        before = f"ulimit {limits}; " if limits else ""
        script = f'{before}exec "$@" {redirect}'
        return ["sh", "-c", script, "sh", *command] if before or redirect else command

    @contextmanager
    def serving(
        self,
        *arguments: str,
        redirect: str = "",
        limits: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> Iterator["Serving"]:
        """A gateway that runs until the block ends, and not a moment longer. ``limits`` are those
        of ``ulimit``."""
        process = subprocess.Popen(  # noqa: S603  it is ours
            self.command(arguments, redirect, limits),
            cwd=self.folder,
            env={**self.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        too_long = Timer(PATIENCE, process.kill)
        too_long.start()
        try:
            with process:
                yield Serving(process)
                process.kill()
        finally:
            process.kill()
            too_long.cancel()


class Serving:
    """A running gateway, and what it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def until(self, pattern: str) -> re.Match[str]:
        """Read its log until a line matches."""
        for line in self.process.stderr or ():
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no line matches {pattern}:\n{''.join(self.lines)}")

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        return self.until(r"listening on (ws://localhost:\d+)$")[1]

    def end(self, number: int = signal.SIGTERM, within: float = PATIENCE) -> str:
        """Send a signal and wait; the rest of its log."""
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=within)
        return rest
