"""NATS servers and gateways as processes, all of which end with the block."""

import asyncio
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import msgspec

from d_back_core import DBackError
from d_back_core.client import ClientWorld, connect

NATS = Path(sysconfig.get_path("scripts"), "nats-server")
PATIENCE = 60.0
TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port on which no program listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """One program."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path) -> None:
        self.name = name
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  ours
                command, stdin=subprocess.PIPE, stdout=output, stderr=output
            )

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def tell(self, line: str) -> None:
        """Send a line to it."""
        if self._process.stdin is not None:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has taken."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK


class Machines:
    """Starts processes, and ends them all with the block."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._folder = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="d-back-"))
        )
        self._urls: list[str] = []
        self._count = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def nats(self, size: int) -> list[Process]:
        """Servers of one cluster."""
        routes = [free_port() for _ in range(size)]
        every = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
        nodes = []
        for number, route in enumerate(routes, 1):
            port = free_port()
            self._urls.append(f"nats://127.0.0.1:{port}")
            conf = self._folder / f"n{number}.conf"
            cluster = f"cluster {{ name: d-back, listen: 127.0.0.1:{route}, routes: [{every}] }}"
            conf.write_text(
                f"server_name: n{number}\nlisten: 127.0.0.1:{port}\n"
                f'jetstream {{ store_dir: "{self._folder}/n{number}" }}\n'
                f"{cluster if size > 1 else ''}\n"
            )
            nodes.append(self._run(f"n{number}", [NATS, "-c", conf]))
        return nodes

    def gateway(
        self, name: str, chain: Mapping[str, Any], providers: Mapping[str, Any], *, module: str
    ) -> tuple[Process, str]:
        """A d-back of our own making, and where it listens."""
        port = free_port()
        nats = {
            "urls": self._urls,
            "replicas": min(3, len(self._urls)),
            **providers.get("nats", {}),
        }
        table = {
            "gateway": {"host": "127.0.0.1", "port": port},
            "chain": {"failback_after": "100ms", **chain},
            "limits": {"connections_per_address": 100_000},
            "providers": {**providers, "nats": nats},
        }
        command = [sys.executable, "-m", module, msgspec.json.encode(table).decode()]
        return self._run(name, command), f"ws://127.0.0.1:{port}"

    def edge(self, name: str) -> tuple[Process, str]:
        """An edge, and where it listens."""
        return self.gateway(name, {"order": ["nats"]}, {}, module="bench.cluster.gateway")

    def nginx(self, urls: Sequence[str]) -> tuple[Process, str]:
        """A proxy in front of these edges as in the guide, without TLS, and where it listens."""
        port = free_port()
        upstream = "".join(f" server {url.removeprefix('ws://')} max_fails=0;" for url in urls)
        conf = self._folder / "nginx.conf"
        conf.write_text(
            f"pid {self._folder}/nginx.pid; daemon off; master_process off; error_log stderr;\n"
            f"worker_rlimit_nofile 65536; events {{ worker_connections 32768; }}\n"
            f"http {{ access_log off; {_temporary(self._folder)}\n"
            f"upstream d_back {{ hash $remote_addr;{upstream} keepalive 16; }}\n"
            f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://d_back;\n"
            "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;\n"
            "proxy_set_header Connection upgrade; proxy_buffering off; } } }\n"
        )
        command: list[str | Path] = ["nginx", "-e", "stderr", "-p", self._folder, "-c", conf]
        return self._run("nginx", command), f"ws://127.0.0.1:{port}"

    async def client(self, url: str) -> ClientWorld:
        """A client, as soon as it can join."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await self._stack.enter_async_context(connect(url))
                except (OSError, DBackError):
                    await asyncio.sleep(0.1)

    def _run(self, name: str, command: Sequence[str | Path]) -> Process:
        self._count += 1
        process = Process(name, command, self._folder / f"{name}.{self._count}.log")
        self._stack.callback(process.kill)
        return process


def _temporary(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
