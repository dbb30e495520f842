"""What operators are given: the unit, the image's description, proxies, the dashboard."""

import asyncio
import json
import os
import re
import shutil
import sys
import tomllib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs_pages import DOCS, ROOT, all_blocks, blocks
from ports import free_ports
from prometheus_client import CollectorRegistry, ProcessCollector
from proxies import HOST, PACKAGING, PROXIES, Door, Proxy, needs, nginx
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from wheelhouse import Wheelhouse

from d_back_core import Counters, ProviderStats, Server, Stats, User, WebSocketServer
from d_back_core import config as configuration
from d_back_prometheus import PrometheusConfig, PrometheusProvider
from d_back_prometheus.metrics import Metrics
from d_back_testing import ScriptedProvider

pytestmark = pytest.mark.long

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


UNITS = ["d-back.service", "d-back@.service"]


@needs("systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
async def test_unit(name: str, tmp_path: Path) -> None:
    """Systemd understands every line of the unit."""
    unit = tmp_path / name.replace("@", "@edge")
    text = (PACKAGING / name).read_text()
    unit.write_text(text.replace("/opt/d-back/bin/d-back", sys.executable))
    assert await run("systemd-analyze", "verify", "--man=no", str(unit)) == (0, "")


@needs("systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
async def test_unit_may_do_little(name: str, tmp_path: Path) -> None:
    """The unit keeps from the process nearly everything that systemd can keep from one."""
    unit = shutil.copy(PACKAGING / name, tmp_path / name.replace("@", "@edge"))
    options = ("--offline=true", f"--threshold={EXPOSURE}")
    status, output = await run("systemd-analyze", "security", *options, str(unit))
    assert status == 0, output


def test_the_unit_of_a_cluster_is_as_hardened() -> None:
    """The template has every line of the unit, apart from those that name its instance."""
    unit, template = ((PACKAGING / name).read_text().splitlines() for name in UNITS)
    other = {line.partition("=")[0] for line in set(unit) - set(template)}
    assert {each for each in other if not each.startswith("#")} == {
        *("Description", "ExecStart", "LimitNOFILE", "RuntimeDirectory", "StateDirectory"),
    }


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


def environment() -> dict[str, str]:
    """The variables of the image that runs."""
    text = [rest for word, rest in instructions() if word == "ENV"][-1]
    return dict(pair.split("=", 1) for pair in text.split())


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_image_is_built_and_serves(tmp_path: Path) -> None:
    """Its lines, with other folders and without an engine: what they install listens, is healthy,
    and answers `explain` over its control socket."""
    context, installed, state = tmp_path / "src", tmp_path / "opt", tmp_path / "state"
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line.removeprefix("**/") for line in kept if line.startswith("**/")]
    left_out = shutil.ignore_patterns(*patterns)
    context.mkdir()
    for name in (line[1:] for line in kept if line.startswith("!")):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, context / name)
    house = Wheelhouse(tmp_path)
    (sync,) = [rest for word, rest in instructions() if rest.startswith("uv sync")]
    house.environ |= {"UV_PROJECT_ENVIRONMENT": str(installed)}
    house.run(*sync.split(), cwd=context)
    (made,) = [rest for word, rest in instructions() if rest.startswith("install -d")]
    assert made.endswith(environment()["STATE_DIRECTORY"])
    state.mkdir(mode=0o700)
    (port,) = free_ports(1)
    environ = environment() | {
        "D_BACK_HOST": "127.0.0.1",
        "D_BACK_PORT": str(port),
        "STATE_DIRECTORY": str(state),
        "PATH": f"{installed / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    where = tmp_path / "etc"
    where.mkdir()
    (where / "d-back.toml").write_text(
        f'gateway.control = "{state / "control.sock"}"\nchain.order = ["mock"]\n'
    )
    words = dict(instructions())
    command = [installed / "bin" / json.loads(words["ENTRYPOINT"])[0], *json.loads(words["CMD"])]
    process = await asyncio.create_subprocess_exec(*command, cwd=where, env=environ)
    try:
        check = json.loads(words["HEALTHCHECK"].partition("CMD ")[2])
        check[0] = str(installed / "bin" / check[0])
        async with asyncio.timeout(PATIENCE):
            while (await run(*check, **environ))[0] != 0:
                assert process.returncode is None
        async with connect(f"ws://127.0.0.1:{port}") as client:
            await client.send('{"type": "connect"}')
            while json.loads(await client.recv())["type"] != "server-join":
                pass
            explained = await asyncio.create_subprocess_exec(
                *(command[0], "explain", "--json"),
                cwd=where,
                env=environ,
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await explained.communicate()
        assert sum(server["sessions"] for server in json.loads(output)["servers"]) == 1
    finally:
        process.terminate()
        await process.wait()


def test_image_has_no_examples() -> None:
    """The packages in ``examples/`` are in the lock file, and not in the image."""
    (sync,) = [rest for word, rest in instructions() if rest.startswith("uv sync")]
    examples = {
        path.parent.name.replace("_", "-") for path in ROOT.glob("examples/*/pyproject.toml")
    }
    assert examples
    assert set(re.findall(r"--no-install-package (\S+)", sync)) == examples


# Compose


def test_compose_publishes_only_the_proxy() -> None:
    """The gateway is reached through Caddy alone, which shares its network and its Caddyfile."""
    services = yaml.safe_load((PACKAGING / "compose.yaml").read_text())["services"]
    assert services["gateway"]["ports"] == ["80:80", "443:443"]
    assert services["caddy"]["network_mode"] == "service:gateway"
    assert "127.0.0.1:3000" in (PACKAGING / "Caddyfile").read_text()
    assert any(volume.startswith("./Caddyfile:") for volume in services["caddy"]["volumes"])


def test_compose_mounts_what_the_image_expects() -> None:
    """Its volumes are at the folders of the image, and the page's configuration finds them."""
    compose = yaml.safe_load((PACKAGING / "compose.yaml").read_text())
    gateway = compose["services"]["gateway"]
    targets = {volume.split(":")[1] for volume in gateway["volumes"]}
    words = dict(instructions())
    assert f"{words['WORKDIR']}/d-back.toml" in targets
    assert environment()["STATE_DIRECTORY"] in targets
    (shown,) = [each.text for each in blocks("deployment.md", "toml") if "sqlite" in each.text]
    table = tomllib.loads(shown)
    assert table["gateway"]["control"].startswith(environment()["STATE_DIRECTORY"])
    (secret,) = gateway["secrets"]
    assert table["providers"]["discord"]["token"] == {"file": f"/run/secrets/{secret}"}
    assert secret in compose["secrets"]
    assert gateway["read_only"]
    assert gateway["cap_drop"] == ["ALL"]


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
        for path in ("/metrics", "/readyz/script"):
            assert await Door(server.port, None).get(path) == 200
        yield server


ODD_SPELLINGS = [
    *("//metrics", "//x/metrics", "/./metrics", "/x/../metrics", "/%6detrics", "/%2fmetrics"),
    *("/METRICS", "/metrics/", "/metrics%00", "/metrics%20", "/metrics;x", "/metrics%3fx"),
    *("/metrics?x=1", "/metrics#x", "/metrics%23x", "/%252e/metrics", "/x%2f..%2fmetrics"),
    *("//api/health", "/api//health", "/api/./health", "/api%2fhealth", "/api/%68ealth"),
    *("/API/Health", "/api/health/", "/api/health/.", "/api/servers/../health", "/api\\health"),
    *("http://zone.example/metrics", "http://zone.example//metrics", "HTTP://x/api/health"),
    *("/readyz/script", "//readyz/script", "/readyz//script", "/readyz/./script"),
    *("/%72eadyz/script", "/readyz%2fscript", "/READYZ/script", "/readyz/%73cript?x=1"),
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
        assert await door.get("/readyz/script") == 404
        assert await door.get("/readyz") == 200
        async with visit(door) as client:
            assert json.loads(await client.recv())["type"] == "server-list"
            await client.send('{"type": "connect"}')
            assert "7" in json.loads(await client.recv())["data"]["users"]
        # Both claim to come from a third, which is let in once: neither is believed.
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
            assert not answer.endswith(b"ready\n"), path


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


# The alerts


def alerts() -> list[dict[str, Any]]:
    """The rules of the file."""
    file = yaml.safe_load((PACKAGING / "alerts.yml").read_text())
    return [rule for group in file["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_alert(rule: dict[str, Any]) -> None:
    """Every metric is exported, with the labels that the alert asks for and names."""
    known = exported() | {"up": set()}
    asked = set(re.findall(r"\b(?:d_back_\w+|up)\b", rule["expr"]))
    assert asked
    assert asked <= known.keys()
    labels = set.union(*(known[name] for name in asked)) | {"instance", "job"}
    used = {
        label.strip()
        for by in re.findall(r"by \(([^)]*)\)", rule["expr"])
        for label in by.split(",")
    }
    used |= set(re.findall(r"[{,]\s*(\w+)[=!]", rule["expr"]))
    assert used | set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= labels


@needs("promtool")
async def test_alerts_fire(tmp_path: Path) -> None:
    """Prometheus accepts the rules; each fires for its fault, and not before its time."""
    shutil.copy(PACKAGING / "alerts.yml", tmp_path)
    cases = shutil.copy(Path(__file__).with_name("alerts_test.yml"), tmp_path)
    status, output = await run("promtool", "check", "rules", str(tmp_path / "alerts.yml"))
    assert status == 0, output
    status, output = await run("promtool", "test", "rules", str(cases))
    assert status == 0, output


def test_every_alert_is_tested() -> None:
    """The cases of promtool have one in which it fires."""
    cases = yaml.safe_load(Path(__file__).with_name("alerts_test.yml").read_text())
    fired = {
        case["alertname"]
        for test in cases["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in alerts()}
