"""A server of the comparison as a process of its own: started, told what to send, measured, and
stopped whatever happens."""

import contextlib
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.errors import BenchError

ROOT = Path(__file__).parent.parent
START_TIMEOUT = 60.0
STOP_TIMEOUT = 2.0


class ServerProcess:
    """Runs from ``__enter__`` to ``__exit__``.

    A server gets the number of users of each of its servers, and the number of these, as its
    last two arguments. It writes ``port N`` when it listens, and then obeys lines on its
    standard input (``burst N``, ``lone``) until that ends.
    """

    def __init__(self, command: Sequence[str], *, users: int, servers: int = 1) -> None:
        self._command = [*command, str(users), str(servers)]
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(  # noqa: S603  the peers are ours
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=ROOT,
        )
        try:
            self.port = self._announced_port()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    def burst(self, events: int) -> None:
        """Let so many events happen at once."""
        self._tell(b"burst %d\n" % events)

    def lone(self) -> None:
        """Let one event happen."""
        self._tell(b"lone\n")

    def cpu_ns(self) -> int:
        """Nanoseconds that all its threads have run. Read when it has come to rest: of a thread
        that runs at this moment the kernel counts up to its last tick only."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # has just ended
                total += int((task / "schedstat").read_text().split()[0])
        return total

    def rested_cpu_ns(self) -> int:
        """The same, after it has come to rest: for 4 ms nothing was added; 2 s at most."""
        before = self.cpu_ns()
        for _ in range(500):
            time.sleep(0.004)
            now = self.cpu_ns()
            if now == before:
                break
            before = now
        return before

    def memory(self) -> int:
        """Bytes of memory that are its own (PSS)."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Pss":
                return int(value.split()[0]) * 1024
        raise BenchError("no Pss in smaps_rollup")

    def last_words(self) -> str:
        """The last line that it wrote to its standard error."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no error message"

    def stop(self) -> None:
        """End it, with force after two seconds; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._log.close()

    def _announced_port(self) -> int:
        process = self._running()
        stdout = process.stdout
        if stdout is None:
            raise BenchError("no pipe")
        line = b""
        deadline = time.monotonic() + START_TIMEOUT
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([stdout], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(stdout.fileno(), 100) if readable else b""
            if not chunk:
                raise BenchError(f"does not start: {self.last_words()}")
            line += chunk
        word, _, port = line.decode(errors="replace").partition(" ")
        if word != "port":
            raise BenchError(f"does not start: it says {line[:80]!r}")
        return int(port)

    def _tell(self, line: bytes) -> None:
        stdin = self._running().stdin
        if stdin is None:
            raise BenchError("no pipe")
        try:
            stdin.write(line)
            stdin.flush()
        except BrokenPipeError as error:
            raise BenchError(f"has ended: {self.last_words()}") from error

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise BenchError("does not run")
        return self._process
