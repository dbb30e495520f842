"""What operators are given: the unit, the image's description, proxies, the dashboard."""

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trustme
from docs_pages import DOCS, ROOT, all_blocks
from prometheus_client import CollectorRegistry, ProcessCollector
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from d_back_core import Counters, ProviderStats, Server, Stats, User, WebSocketServer
from d_back_core import config as configuration
from d_back_prometheus import PrometheusConfig, PrometheusProvider
from d_back_prometheus.metrics import Metrics
from d_back_testing import ScriptedProvider

PACKAGING = ROOT / "packaging"
PATIENCE = 30.0
EXPOSURE = 20
"""Tenths of what ``systemd-analyze security`` counts, 100 being a service that may do all."""


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where the program is not installed; in CI the test fails for want of it."""
    missing = shutil.which(program) is None and "D_BACK_CI" not in os.environ
    return pytest.mark.skipif(missing, reason=f"{program} is not installed")


async def run(*command: str, **environ: str) -> tuple[int, str]:
    """The exit status of a command and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environ},
    )
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


def test_files_in_the_pages() -> None:
    """A file of the folder that a page shows is shown as it is, and each text file is shown."""
    shown = {
        block.title: block.text
        for page in DOCS.glob("*.md")
        for block in all_blocks(page.name)
        if block.title is not None and block.title.startswith("packaging/")
    }
    files = {path for path in PACKAGING.iterdir() if path.suffix != ".json"}
    assert shown == {f"packaging/{path.name}": path.read_text() for path in files}


# The unit


@needs("systemd-analyze")
async def test_unit(tmp_path: Path) -> None:
    """Systemd understands every line of the unit."""
    unit = tmp_path / "d-back.service"
    text = (PACKAGING / "d-back.service").read_text()
    unit.write_text(text.replace("/opt/d-back/bin/d-back", sys.executable))
    assert await run("systemd-analyze", "verify", "--man=no", str(unit)) == (0, "")


@needs("systemd-analyze")
async def test_unit_may_do_little() -> None:
    """The unit keeps from the process nearly everything that systemd can keep from one."""
    status, output = await run(
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--threshold={EXPOSURE}",
        str(PACKAGING / "d-back.service"),
    )
    assert status == 0, output


# The image


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Containerfile, by their words."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").strip().splitlines()
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line)
    ]


def test_image_does_not_run_as_root() -> None:
    """The last user of the image is a number that is not root's, before it starts anything."""
    words = [word for word, _ in instructions()]
    (user,) = [rest for word, rest in instructions() if word == "USER"]
    assert int(user.partition(":")[0]) > 0
    assert words.index("USER") > max(at for at, word in enumerate(words) if word == "FROM")


async def test_health_check_of_the_image() -> None:
    """It succeeds while the gateway listens at the image's port, and fails when it is gone."""
    (check,) = [rest for word, rest in instructions() if word == "HEALTHCHECK"]
    command = json.loads(check.partition("CMD ")[2])
    assert command[0] == "python"
    command[0] = sys.executable
    script = ScriptedProvider({"1": Server(name="Plaza")}, {"1": {}})
    server = WebSocketServer(0, host="127.0.0.1", providers={"script": script})
    async with server:
        port = str(server.port)
        assert await run(*command, D_BACK_PORT=port) == (0, "")
    status, _ = await run(*command, D_BACK_PORT=port)
    assert status != 0


def test_image_has_what_it_copies() -> None:
    """What the build needs is not left out of its context."""
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    workspace = (ROOT / "pyproject.toml").read_text()
    members = re.search(r"\[tool\.uv\.workspace\]\nmembers = \[(.*)\]", workspace)
    assert members is not None
    folders = {entry.split("/")[0] for entry in re.findall(r'"([^"]+)"', members[1])}
    needed = {"LICENSE", "README.md", "d_back_core", "pyproject.toml", "uv.lock"}
    assert needed | folders == kept
    assert all((ROOT / name).exists() for name in kept)


def test_image_has_no_examples() -> None:
    """The packages in ``examples/`` are in the lock file, and not in the image."""
    (sync,) = [rest for word, rest in instructions() if rest.startswith("uv sync")]
    examples = {
        path.parent.name.replace("_", "-") for path in ROOT.glob("examples/*/pyproject.toml")
    }
    assert examples
    assert set(re.findall(r"--no-install-package (\S+)", sync)) == examples


# Proxies


@asynccontextmanager
async def proxied(tmp_path: Path, *command: str) -> AsyncIterator[None]:
    """Run a proxy in the foreground; what it says is shown where the test fails."""
    with (tmp_path / "proxy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=log, stderr=log, env={**os.environ, "HOME": str(tmp_path)}
        )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        print((tmp_path / "proxy.log").read_text())  # noqa: T201  pytest shows it


@asynccontextmanager
async def gateway() -> AsyncIterator[WebSocketServer]:
    """A gateway that believes the proxy, and lets one address connect once."""
    config = configuration.parse(
        {
            "chain": {"order": ["script"]},
            "gateway": {"http": ["prometheus"]},
            "limits": {"trusted_proxies": ["127.0.0.1"], "connections_per_address": 1},
        }
    )
    script = ScriptedProvider({"1": Server(name="Plaza")}, {"1": {"7": User(username="Ada")}})
    given = {"script": script, "prometheus": PrometheusProvider(PrometheusConfig())}
    async with WebSocketServer(0, "127.0.0.1", config=config, providers=given) as server:
        assert await get(server.port, "/metrics", None) == 200
        yield server


def free_ports(count: int) -> list[int]:
    """Ports at which nobody listens; to be asked for when all others listen."""
    with ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in found]


async def get(port: int, path: str, tls: ssl.SSLContext | None) -> int:
    """The status of a request through the proxy; 0 where nobody listens yet."""
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname="zone.example" if tls else None
        )
    except OSError:
        return 0
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: zone.example\r\nConnection: close\r\n\r\n".encode()
    )
    line = await reader.readline()
    writer.close()
    return int(line.split()[1]) if line else 0


async def passes(port: int, tls: ssl.SSLContext | None) -> None:
    """Check that the proxy does what the page says of it."""
    async with asyncio.timeout(PATIENCE):
        while await get(port, "/healthz", tls) != 200:  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0)
        assert await get(port, "/api/servers", tls) == 200
        assert await get(port, "/api/health", tls) == 404
        assert await get(port, "/metrics", tls) == 404
        async with visit(port, tls) as client:
            assert json.loads(await client.recv())["type"] == "server-list"
            await client.send('{"type": "connect"}')
            assert "7" in json.loads(await client.recv())["data"]["users"]
        # Both claim to come from a third, which is let in once: nobody believes them.
        async with (
            visit(port, tls, "203.0.113.8", source="127.0.0.2"),
            visit(port, tls, "203.0.113.8", source="127.0.0.3"),
        ):
            pass


def visit(
    port: int, tls: ssl.SSLContext | None, address: str | None = None, source: str = "127.0.0.1"
) -> connect:
    """A WebSocket through the proxy, of a client that may claim to be a proxy itself."""
    scheme = "ws" if tls is None else "wss"
    headers = {} if address is None else {"X-Forwarded-For": address}
    return connect(
        f"{scheme}://zone.example:{port}/",
        host="127.0.0.1",
        port=port,
        ssl=tls,
        additional_headers=headers,
        local_addr=(source, 0),
    )


@needs("nginx")
async def test_nginx(tmp_path: Path) -> None:
    """Nginx passes WebSockets on over TLS, and keeps the numbers to itself."""
    authority = trustme.CA()
    issued = authority.issue_cert("zone.example")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for pem in issued.cert_chain_pems:
        pem.write_to_path(chain, append=True)
    issued.private_key_pem.write_to_path(key)
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    async with gateway() as server:
        port, plain = free_ports(2)
        site = (PACKAGING / "nginx.conf").read_text()
        for old, new in (
            ("listen [::]:443 ssl;", ""),
            ("listen [::]:80;", ""),
            ("listen 443", f"listen 127.0.0.1:{port}"),
            ("listen 80", f"listen 127.0.0.1:{plain}"),
            ("127.0.0.1:3000", f"127.0.0.1:{server.port}"),
            ("/etc/letsencrypt/live/zone.example/fullchain.pem", str(chain)),
            ("/etc/letsencrypt/live/zone.example/privkey.pem", str(key)),
        ):
            assert old in site
            site = site.replace(old, new)
        bodies = "".join(
            f"{kind}_temp_path {tmp_path / kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        whole = tmp_path / "nginx.conf"
        whole.write_text(
            f"pid {tmp_path / 'pid'};\ndaemon off;\nmaster_process off;\nerror_log stderr;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{bodies}{site}}}\n"
        )
        async with proxied(
            tmp_path, "nginx", "-e", "stderr", "-p", str(tmp_path), "-c", str(whole)
        ):
            await passes(port, tls)
            assert await get(plain, "/", None) == 301
            # The client is on loopback, which is a trusted proxy: its word counts, too.
            async with visit(port, tls, "203.0.113.9"):
                with pytest.raises(InvalidStatus, match="429"):
                    async with visit(port, tls, "203.0.113.9"):
                        pass


@needs("caddy")
async def test_caddy(tmp_path: Path) -> None:
    """Caddy passes WebSockets on, and keeps the numbers to itself."""
    async with gateway() as server:
        (port,) = free_ports(1)
        site = (PACKAGING / "Caddyfile").read_text()
        site = site.replace("zone.example {", f"http://zone.example:{port} {{")
        site = site.replace("127.0.0.1:3000", f"127.0.0.1:{server.port}")
        whole = tmp_path / "Caddyfile"
        whole.write_text(f"{{\n\tadmin off\n}}\n{site}")
        arguments = ("--config", str(whole), "--adapter", "caddyfile")
        async with proxied(tmp_path, "caddy", "run", *arguments):
            await passes(port, None)


# The dashboard


def exported() -> dict[str, set[str]]:
    """The names of the metrics, and their labels, where there is something to export."""
    provider = ProviderStats(
        name="discord",
        mode="fallback",
        health="ready",
        since=1.0,
        next_retry=None,
        calls=1,
        failures=1,
        latency=0.1,
        records=1,
        refused=1,
        gauges={"reconnects": 1},
    )
    counters = Counters(
        refusals=Counter({"gone": 1}), rejections=Counter({"full": 1}), closes=Counter({1000: 1})
    )
    stats = Stats(counters=counters, providers=[provider], queued={"postgres": 1})
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(Metrics(lambda: stats))
    return {
        sample.name: set(sample.labels)
        for family in registry.collect()
        for sample in family.samples
    }


def targets() -> list[tuple[str, str]]:
    """Each query of the dashboard, and how its results are called."""
    dashboard = json.loads((PACKAGING / "grafana.json").read_text())
    return [
        (target["expr"], target["legendFormat"])
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


@pytest.mark.parametrize(("query", "legend"), targets(), ids=lambda text: text[:60])
def test_dashboard(query: str, legend: str) -> None:
    """Every metric that the dashboard asks for is exported, with the labels that it uses."""
    known = exported()
    asked = set(re.findall(r"\b(?:d_back|process)_\w+", query))
    assert asked
    assert asked <= known.keys()
    labels = set.intersection(*(known[name] for name in asked)) | {"instance", "job"}
    used = re.findall(r"\b(?:by|ignoring) \(([^)]*)\)", query)
    assert {label.strip() for group in used for label in group.split(",")} <= labels
    assert set(re.findall(r"[{,](\w+)[=!]", query)) <= labels
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels


def test_dashboard_leaves_no_count_out() -> None:
    """Every counter of the gateway has its place in the dashboard."""
    asked = {name for query, _ in targets() for name in re.findall(r"\bd_back_\w+", query)}
    unasked = {"d_back_provider_calls_total", "d_back_provider_health_seconds"}
    unasked |= {"d_back_provider_records"}
    assert {name for name in exported() if name.startswith("d_back_")} == asked | unasked
