"""Start the installed ``d-back`` without any configuration and join its default server.

Run by ``nox -s release`` with the interpreter of an environment that holds only the wheels.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import connect

PATIENCE = 30.0


def main() -> None:
    """Raise unless a client is served, and the process ends when it is asked to."""
    command = [str(Path(sys.executable).with_name("d-back")), "--port", "0"]
    with TemporaryDirectory() as nowhere:
        # Neither a configuration of the user's nor the source tree is in reach.
        environ = {key: text for key, text in os.environ.items() if not key.startswith("D_BACK_")}
        environ |= {"HOME": nowhere, "XDG_CONFIG_HOME": nowhere}
        with subprocess.Popen(
            command, cwd=nowhere, env=environ, stderr=subprocess.PIPE, text=True
        ) as server:
            too_long = Timer(PATIENCE, server.kill)
            too_long.start()
            try:
                url = address(server)
                join(url)
                see(url.replace("ws:", "http:"))
                server.send_signal(signal.SIGTERM)
                _, rest = server.communicate()
            finally:
                too_long.cancel()
                server.kill()
        if server.returncode != 0:
            raise SystemExit(f"d-back ended with status {server.returncode}:\n{rest}")


def address(server: subprocess.Popen[str]) -> str:
    """The URL that the server says it listens on."""
    lines = []
    for line in server.stderr or ():
        lines.append(line)
        if found := re.search(r"listening on (ws://localhost:\d+)", line):
            return found[1]
    raise SystemExit(f"d-back does not listen:\n{''.join(lines)}")


def join(url: str) -> None:
    """Ask for the default server and expect users in it."""
    with connect(url, open_timeout=PATIENCE) as client:
        expect("server-list", json.loads(client.recv(PATIENCE)))
        client.send(json.dumps({"type": "connect", "data": {"server": "default"}}))
        joined = expect("server-join", json.loads(client.recv(PATIENCE)))
        if not joined["data"]["users"]:
            raise SystemExit(f"no users: {joined}")


def see(url: str) -> None:
    """Ask for the page and what it is made of."""
    with urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310  the server's own address
        page = answer.read().decode()
    for path in re.findall(r'(?:src|href)="(page/[^"]+)"', page):
        with urlopen(f"{url}/{path}", timeout=PATIENCE) as answer:  # noqa: S310  the same
            if not answer.read():
                raise SystemExit(f"{path} is empty")
    if "page/app.js" not in page:
        raise SystemExit(f"this is not the live page: {page}")


def expect(kind: str, frame: dict[str, Any]) -> dict[str, Any]:
    if frame["type"] != kind:
        raise SystemExit(f"expected {kind}, got {frame}")
    return frame


if __name__ == "__main__":
    main()
