"""A copy of the tree, in which one file is changed and tests run."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from msgspec import Struct

ROOT = Path(__file__).parents[1]
COPIED = (
    "d_back_core",
    "tests",
    "tools",
    "plugins",
    "clients",
    "docs",
    "pyproject.toml",
    "README.md",
)
OUTPUT, CHOSEN = "output.txt", "tests.txt"
"""In the copy: the output of the last run of pytest, and the tests, one per line."""
FAILED, PASSED = 1, 0
"""Exit statuses of pytest. Others mean that it could not run the tests: an import failed."""


class Ended(Struct, frozen=True):
    """How a run of pytest has ended."""

    status: int | None
    """None: it took longer than its limit."""
    output: str

    @property
    def passed(self) -> bool:
        return self.status == PASSED

    def __str__(self) -> str:
        if self.status is None:
            return "found: the tests take too long"
        if self.passed:
            return "survived"
        if self.status != FAILED:
            return "found: the tests cannot run"
        # One that has nothing to do with the change may fail because the machine is busy.
        failed = re.search(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", self.output, re.MULTILINE)
        return f"found by {failed[1] if failed else 'a crash'}"


class TreeCopy:
    """Runs pytest in a copy of the tree, until the first failure."""

    def __init__(self, folder: Path, per_test: float) -> None:
        """``per_test``: the seconds that one test may take."""
        self.folder = folder
        self._per_test = per_test
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=ignored)
            else:
                shutil.copy(source, folder)
        # The bytecode is checked by a hash of the source: by time and size it would also be used
        # for a file that is changed within a second and keeps its size.
        checked = ["-m", "compileall", "-q", "--invalidation-mode=checked-hash", "d_back_core"]
        subprocess.run([sys.executable, *checked], cwd=folder, check=True)  # noqa: S603

    @contextmanager
    def changed(self, path: str, content: bytes) -> Iterator[None]:
        """Let the file have another content."""
        file = self.folder / path
        before = file.read_bytes()
        file.write_bytes(content)
        try:
            yield
        finally:
            file.write_bytes(before)

    def run(
        self,
        tests: Sequence[str],
        limit: float | None = None,
        options: Sequence[str] = (),
        *,
        unchanged: bool = False,
    ) -> Ended:
        """Run pytest. ``limit`` is in seconds. ``unchanged``: the tree is as it was, so tests may
        take any time, and the bytecode of all modules is kept."""
        (self.folder / CHOSEN).write_text("\n".join(tests))
        per_test = 0 if unchanged else self._per_test
        usual = ["-q", "-p", "no:cacheprovider", f"--timeout={per_test:g}"]
        if not unchanged:
            usual.append("-x")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([".", "tests"])}
        if not unchanged:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        output = self.folder / OUTPUT
        with output.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603  our own Python
                [sys.executable, "-m", "pytest", *usual, *options, f"@{CHOSEN}"],
                cwd=self.folder,
                env=environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _kill_session(process)
        return Ended(status, output.read_text(errors="replace"))

    def run_unchanged(self, tests: Sequence[str], options: Sequence[str] = ()) -> str:
        """Run pytest without a change, and return its last line: how many tests failed."""
        ended = self.run(tests, None, options, unchanged=True)
        if ended.status not in {PASSED, FAILED}:
            raise click.ClickException(f"the tests cannot run:\n{ended.output[-2000:]}")
        return ended.output.rstrip().rpartition("\n")[2]


def _kill_session(process: "subprocess.Popen[bytes]") -> None:
    """End pytest and every process that a test has started."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        return
    finally:
        process.wait()
