"""What operators are given: the unit, the image's description, proxies, the dashboard."""

import asyncio
import json
import os
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from docs_pages import DOCS, ROOT, all_blocks
from prometheus_client import CollectorRegistry, ProcessCollector
from proxies import HOST, PACKAGING, PROXIES, Door, Proxy, needs, nginx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from d_back_core import Counters, ProviderStats, Server, Stats, User, WebSocketServer
from d_back_core import config as configuration
from d_back_prometheus import PrometheusConfig, PrometheusProvider
from d_back_prometheus.metrics import Metrics
from d_back_testing import ScriptedProvider

PATIENCE = 60.0
EXPOSURE = 20
"""Tenths of what ``systemd-analyze security`` counts, 100 being a service that may do all."""


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
    needed = {"LICENSE", "README.md", "clients", "d_back_core", "pyproject.toml", "uv.lock"}
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
        assert await Door(server.port, None).get("/metrics") == 200
        yield server


ODD_SPELLINGS = [
    *("//metrics", "//x/metrics", "/./metrics", "/x/../metrics", "/%6detrics", "/%2fmetrics"),
    *("/METRICS", "/metrics/", "/metrics%00", "/metrics%20", "/metrics;x", "/metrics%3fx"),
    *("/metrics?x=1", "/metrics#x", "/metrics%23x", "/%252e/metrics", "/x%2f..%2fmetrics"),
    *("//api/health", "/api//health", "/api/./health", "/api%2fhealth", "/api/%68ealth"),
    *("/API/Health", "/api/health/", "/api/health/.", "/api/servers/../health", "/api\\health"),
    *("http://zone.example/metrics", "http://zone.example//metrics", "HTTP://x/api/health"),
]
"""Paths that a proxy and the gateway might understand differently."""


@pytest.mark.parametrize("proxy", PROXIES)
async def test_proxies(proxy: Proxy, tmp_path: Path) -> None:
    """Each passes WebSockets on, keeps the numbers to itself, and is believed about addresses."""
    async with (
        gateway() as server,
        asyncio.timeout(PATIENCE),
        proxy(tmp_path, server.port) as door,
    ):
        assert await door.get("/api/servers") == 200
        assert await door.get("/api/health") == 404
        assert await door.get("/metrics") == 404
        async with visit(door) as client:
            assert json.loads(await client.recv())["type"] == "server-list"
            await client.send('{"type": "connect"}')
            assert "7" in json.loads(await client.recv())["data"]["users"]
        # Both claim to come from a third, which is let in once: nobody believes them.
        async with (
            visit(door, "203.0.113.8", source="127.0.0.2"),
            visit(door, "203.0.113.8", source="127.0.0.3"),
        ):
            pass
        if door.plain is not None:
            assert await Door(door.plain, None).get("/") in {301, 302}


@pytest.mark.parametrize("proxy", PROXIES)
async def test_r41_no_spelling_gets_past_the_rules_of_a_proxy(
    proxy: Proxy, tmp_path: Path
) -> None:
    """What the proxy does not take for a path that it keeps, the gateway does not either."""
    async with gateway() as server, proxy(tmp_path, server.port) as door:
        for path in ODD_SPELLINGS:
            answer = await door.ask(path)
            assert answer.startswith(b"HTTP/1.1 "), path
            assert b"d_back_sessions" not in answer, path
            assert b"providers" not in answer, path


@needs("nginx")
async def test_nginx_appends_to_what_a_proxy_before_it_says(tmp_path: Path) -> None:
    """The client is on loopback, which is a trusted proxy: its word counts, too."""
    async with (
        gateway() as server,
        nginx(tmp_path, server.port) as door,
        visit(door, "203.0.113.9"),
    ):
        with pytest.raises(InvalidStatus, match="429"):
            async with visit(door, "203.0.113.9"):
                pass


def visit(door: Door, address: str | None = None, source: str = "127.0.0.1") -> connect:
    """A WebSocket through the proxy, of a client that may claim to be a proxy itself."""
    scheme = "ws" if door.tls is None else "wss"
    return connect(
        f"{scheme}://{HOST}:{door.port}/",
        host="127.0.0.1",
        port=door.port,
        ssl=door.tls,
        additional_headers={} if address is None else {"X-Forwarded-For": address},
        local_addr=(source, 0),
    )


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
