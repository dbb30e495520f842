"""The metrics, scraped over HTTP from a running gateway."""

import asyncio
import re
from pathlib import Path

import pytest

from d_back_core import ConfigError, Server, User, UserChanged
from d_back_core.client import connect
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.providers.loader import load
from d_back_prometheus import PrometheusConfig, PrometheusProvider
from d_back_testing import ScriptedProvider

CONFIG = {"gateway": {"http": ["prometheus"]}, "chain": {"order": ["town"]}}


def serving(town: ScriptedProvider, path: str = "/metrics") -> WebSocketServer:
    metrics = PrometheusProvider(PrometheusConfig(path=path))
    providers = {"town": town, "prometheus": metrics}
    return WebSocketServer(0, config=parse(CONFIG), providers=providers)


async def scrape(server: WebSocketServer, path: str = "/metrics", accept: str = "") -> str:
    reader, writer = await asyncio.open_connection("localhost", server.port)
    lines = f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    writer.write(lines.encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return answer


def value(answer: str, metric: str) -> float:
    found = re.search(rf"^{re.escape(metric)} (\S+)$", answer, re.MULTILINE)
    assert found is not None, f"no {metric} in {answer}"
    return float(found[1])


@pytest.fixture
def town() -> ScriptedProvider:
    users = {"4711": User(username="Ada", status="online"), "8": User(username="Bob")}
    return ScriptedProvider({"815": Server(name="Town")}, {"815": users})


async def test_what_is_at_the_moment(town: ScriptedProvider) -> None:
    """Connected clients and held users are gauges."""
    async with serving(town) as server, connect(server.url):
        answer = await scrape(server)
    assert value(answer, "d_back_sessions") == 1
    assert value(answer, "d_back_servers") == 1
    assert value(answer, "d_back_users") == 2


async def test_deltas_are_counted_once_and_deliveries_per_session(town: ScriptedProvider) -> None:
    """One change that two clients see is one delta and two deliveries."""
    async with serving(town) as server, connect(server.url) as one, connect(server.url) as two:
        town.emit(UserChanged(server_id="815", uid="4711", status="dnd"))
        await one.until(lambda world: world.seq == 1)
        await two.until(lambda world: world.seq == 1)
        answer = await scrape(server)
    assert value(answer, "d_back_deltas_total") == 1
    assert value(answer, "d_back_deliveries_total") == 2
    assert value(answer, "d_back_joins_total") == 2


async def test_the_health_of_every_provider(town: ScriptedProvider) -> None:
    """A provider's present health is 1, its others are 0."""
    async with serving(town) as server:
        answer = await scrape(server)
    assert value(answer, 'd_back_provider_health{health="ready",provider="town"}') == 1
    assert value(answer, 'd_back_provider_health{health="failed",provider="town"}') == 0


async def test_the_gauges_of_a_provider_are_metrics(town: ScriptedProvider) -> None:
    """Each name is a label, with the last value that the provider set."""
    async with serving(town) as server:
        assert town.context is not None
        town.context.gauge("reconnects", 1)
        town.context.gauge("reconnects", 2)
        answer = await scrape(server)
    assert value(answer, 'd_back_provider_gauge{figure="reconnects",provider="town"}') == 2


async def test_no_label_holds_user_data(town: ScriptedProvider) -> None:
    """Neither uids nor names nor server_ids are in any metric."""
    async with serving(town) as server, connect(server.url):
        answer = await scrape(server)
    assert value(answer, "d_back_users") == 2
    names = re.findall(r"^[^# ][^ ]*", answer.split("\r\n\r\n", 1)[1], re.MULTILINE)
    for word in ("Ada", "4711", "815", "Town"):  # a figure may have such digits
        assert word not in " ".join(names).replace('provider="town"', "")


async def test_the_path_is_the_operator_s_choice(town: ScriptedProvider) -> None:
    """What is not the path is left to others."""
    async with serving(town, path="/inner/metrics") as server:
        assert "404" in (await scrape(server)).splitlines()[0]
        assert value(await scrape(server, "/inner/metrics"), "d_back_sessions") == 0


async def test_open_metrics_where_the_scraper_prefers_it(town: ScriptedProvider) -> None:
    """The format is negotiated."""
    async with serving(town) as server:
        answer = await scrape(server, accept="application/openmetrics-text; version=1.0.0")
    assert "application/openmetrics-text" in answer
    assert answer.endswith("# EOF\n")


async def test_it_can_be_started_again(town: ScriptedProvider) -> None:
    """The same instance serves again after it was stopped."""
    provider = PrometheusProvider(PrometheusConfig())
    for _ in range(2):
        providers = {"town": town, "prometheus": provider}
        async with WebSocketServer(0, config=parse(CONFIG), providers=providers) as server:
            assert value(await scrape(server), "d_back_sessions") == 0


def test_a_path_that_cannot_be_is_an_error() -> None:
    """A path without its slash is reported to the operator."""
    config = parse(
        CONFIG | {"chain": {"order": ["mock"]}, "providers": {"prometheus": {"path": "x"}}}
    )
    with pytest.raises(
        ConfigError, match=r"providers\.prometheus.*path 'x' does not begin with /"
    ):
        load(config)


async def test_every_metric_is_documented(town: ScriptedProvider) -> None:
    """The README names each metric of ours."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    async with serving(town) as server:
        names = re.findall(r"^# TYPE (d_back_\w+)", await scrape(server), re.MULTILINE)
    assert names
    assert [name for name in names if name not in readme] == []
