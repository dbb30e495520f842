"""The servers that take part, and what has to be there before they can be started."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bench.errors import BenchError
from bench.process import ROOT

PEERS = Path(__file__).parent / "peers"
CACHE = Path(__file__).parent / ".cache"
"""Environments and programs that are made once; may be deleted at any time."""
PREPARE_TIMEOUT = 300

OURS = "d-back"
OURS_UVLOOP = "d-back, uvloop"
OLD = "d-back 0.0.18"
WEBSOCKETS = "websockets"
PICOWS = "picows"
NODE = "ws on Node"
FLOOR = "C floor"

OLD_VERSION = "0.0.18"
WS_VERSION = "8.18.3"


@dataclass(frozen=True)
class Contestant:
    """A server and how it is started."""

    name: str
    command: Sequence[str]

    @property
    def ours(self) -> bool:
        """Whether it is the gateway of this repository."""
        return self.name in {OURS, OURS_UVLOOP}

    @property
    def has_users(self) -> bool:
        """Whether it serves users, so that a join is what it is in life."""
        return self.ours or self.name == OLD


def prepare(names: Sequence[str] | None = None) -> tuple[list[Contestant], list[str]]:
    """Those of these names (None: all) that can run here, and a sentence for each that cannot."""
    contestants, notes = [], []
    for name, command in _COMMANDS.items():
        if names is not None and name not in names:
            continue
        try:
            contestants.append(Contestant(name, command()))
        except BenchError as error:
            notes.append(f"{name} is left out: {error}")
    return contestants, notes


def _python(module: str, *requirements: str, flags: Sequence[str] = ()) -> list[str]:
    for requirement in requirements:
        if find_spec(requirement) is None:
            raise BenchError(f"{requirement} is not installed")
    return [sys.executable, "-m", f"bench.peers.{module}", *flags]


def _old() -> list[str]:
    folder = CACHE / f"d-back-{OLD_VERSION}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        uv = shutil.which("uv")
        requirement = f"d-back=={OLD_VERSION}"
        if uv is None:
            _prepare(sys.executable, "-m", "venv", str(folder))
            _prepare(str(python), "-m", "pip", "install", "--quiet", requirement)
        else:
            _prepare(uv, "venv", "--quiet", "--python", sys.executable, str(folder))
            _prepare(uv, "pip", "install", "--quiet", "--python", str(python), requirement)
        (folder / "complete").touch()
    return [str(python), "-m", "bench.peers.d_back_0018"]


def _node() -> list[str]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise BenchError("node and npm are not installed")
    folder = CACHE / f"ws-{WS_VERSION}"
    module = folder / "node_modules" / "ws"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        quiet = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts")
        _prepare(npm, "install", *quiet, "--prefix", str(folder), f"ws@{WS_VERSION}")
        (folder / "complete").touch()
    return [node, str(PEERS / "node_ws.js"), str(module)]


def _floor() -> list[str]:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchError("there is no C compiler")
    CACHE.mkdir(exist_ok=True)
    program = CACHE / "floor"
    _prepare(compiler, "-O2", "-Wall", "-o", str(program), str(PEERS / "floor.c"))
    return [str(program)]


def _prepare(*command: str) -> None:
    try:
        subprocess.run(  # noqa: S603  what stands above
            command, check=True, capture_output=True, cwd=ROOT, timeout=PREPARE_TIMEOUT
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit status {error.returncode}"
        raise BenchError(f"{Path(command[0]).name}: {reason}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{Path(command[0]).name}: {error}") from error


_COMMANDS: dict[str, Callable[[], list[str]]] = {
    OURS: lambda: _python("ours"),
    OURS_UVLOOP: lambda: _python("ours", "uvloop", flags=["--uvloop"]),
    OLD: _old,
    WEBSOCKETS: lambda: _python("websockets_broadcast"),
    PICOWS: lambda: _python("picows_send", "picows", "uvloop"),
    NODE: _node,
    FLOOR: _floor,
}
NAMES = tuple(_COMMANDS)
