"""Publish the files of ``dist/`` to an index on this machine, and install them from there by name.

    python -m tools.local_index

The index is pypiserver, which knows only what is uploaded to it; everything else comes from the
configured index. The environment is empty before, and no source tree is in reach.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection, create_server
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from tools.release import ROOT, projects

DIST = ROOT / "dist"
PATIENCE = 60.0
"""Seconds that the index has to listen."""
POLL = 0.05
OURS = ("UV_LOCKED", "UV_PROJECT", "VIRTUAL_ENV", "PYTHON", "D_BACK_", "NOX_")
"""How variables begin that say in which environment this runs."""
SMOKE = ROOT / "tests" / "smoke.py"


@contextmanager
def index(folder: Path) -> Iterator[str]:
    """Serve an index of what is uploaded into that folder; its URL."""
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    anybody = ("--passwords", ".", "--authenticate", ".", "--disable-fallback")
    options = ("--interface", "127.0.0.1", "--port", str(port), "--server", "wsgiref")
    command = [sys.executable, "-m", "pypiserver", "run", *options, *anybody, str(folder)]
    with subprocess.Popen(command) as process:  # noqa: S603  our own command
        try:
            wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return as soon as the process listens."""
    until = monotonic() + PATIENCE
    while True:
        try:
            create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None or monotonic() > until:
                raise
            sleep(POLL)
        else:
            return


def run(*command: str | Path, cwd: Path) -> str:
    """Return what the command prints; it must succeed."""
    environ = {key: text for key, text in os.environ.items() if not key.startswith(OURS)}
    done = subprocess.run(  # noqa: S603  our own commands
        command, cwd=cwd, env=environ, check=True, stdout=subprocess.PIPE
    )
    return done.stdout.decode()


def main() -> None:
    """Fail unless every package can be uploaded and installed, and serves a client."""
    uv = shutil.which("uv") or "uv"
    names = [project["project"]["name"] for project in projects().values()]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        uploaded = folder / "index"
        uploaded.mkdir()
        with index(uploaded) as url:
            files = sorted(str(path) for path in DIST.glob("d_back*"))
            to = ("--publish-url", f"{url}/", "--username", "x", "--password", "x")
            run(uv, "publish", "--quiet", "--trusted-publishing", "never", *to, *files, cwd=folder)
            python = folder / "empty" / "bin" / "python"
            run(uv, "venv", "--python", sys.executable, "empty", cwd=folder)
            # An index of an earlier run may have had the same address, and other files.
            again = [f"--refresh-package={name}" for name in names]
            wanted = [*names, "d-back-core[standard]"]
            install = ("pip", "install", "--quiet", "--python", python)
            run(uv, *install, "--index", f"{url}/simple/", *again, *wanted, cwd=folder)
        run(python, "-I", SMOKE, cwd=folder)
        listed = run(python.with_name("d-back"), "plugins", "--all", cwd=folder)
    missing = {name for name in names if plugin(name) and f"({name} " not in listed}
    if missing or "broken" in listed:
        raise SystemExit(f"installed, but not found: {sorted(missing)}\n{listed}")
    print(f"{len(files)} files: published, installed by name, and served")  # noqa: T201


def plugin(name: str) -> bool:
    """True if the package has a provider."""
    (project,) = [each for each in projects().values() if each["project"]["name"] == name]
    return "d_back.providers" in project["project"].get("entry-points", {})


if __name__ == "__main__":
    main()
