"""``d-back nats status``, as an operator types it."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from nats_nodes import ADA, BOB
from storm import Storm

from d_back_core import Server
from d_back_core.cli.main import main
from d_back_nats.status import _ago
from d_back_testing import ScriptedProvider

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Join, Nats, Origin, Serve, Until
    from nats_nodes import NatsCluster

pytestmark = pytest.mark.long


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "d-back.toml"


async def typed(config: Path, cluster: NatsCluster, *words: str) -> tuple[int, str]:
    """The exit status, and all that is printed."""
    text = f"[providers.nats]\nurls = {list(cluster.urls)}\n"
    await asyncio.to_thread(config.write_text, text)
    arguments = ["--config", str(config), "nats", *words]
    # A command runs an event loop of its own.
    outcome = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    return outcome.exit_code, outcome.output


def town() -> ScriptedProvider:
    return ScriptedProvider({"1": Server(name="Plaza", id="plaza")}, {"1": {"7": ADA, "8": BOB}})


async def test_status_of_a_bucket_that_is_written(
    nats: Nats, origin: Origin, serve: Serve, join: Join, config: Path
) -> None:
    """It names the server, the bucket, its revision, what is in it, and the origin."""
    cluster = await nats()
    await origin(cluster, town(), lease="5s")
    await join(await serve(cluster))
    code, printed = await typed(config, cluster, "status")
    assert code == 0
    assert re.fullmatch(
        r"server    nats-server [\d.]+, not encrypted\n"
        r"bucket    'd-back', file, 1 of it\n"
        r"revision  \d+\n"
        r"keys      4, \d+ bytes\n"
        r"servers   1\n"
        r"watches   2\n"
        r"origin    \S+ since 20\S+ \S+, lease of 5 s, last heartbeat \d s ago\n",
        printed,
    )


async def test_status_of_three_nodes(
    nats: Nats, origin: Origin, config: Path, until: Until
) -> None:
    """It names the leader, and who is behind."""
    cluster = await nats(3)
    await origin(cluster, town())

    async def all_well() -> bool:
        code, printed = await typed(config, cluster, "status")
        return code == 0 and re.search(r"^replicas  n\d leads$", printed, re.MULTILINE) is not None

    await until(all_well)
    cluster.nodes[0].kill()

    async def one_is_behind() -> bool:
        code, printed = await typed(config, cluster, "status")
        return code == 1 and "leads; behind: n0" in printed

    await until(one_is_behind)


@pytest.mark.parametrize("lease", [None, "2s"])
async def test_r49_status_tells_for_how_long_an_origin_is_dead(
    nats: Nats, folder: Path, config: Path, until: Until, lease: str | None
) -> None:
    """With and without a lease it says when the last heartbeat came, with exit status 1."""
    cluster = await nats()
    options = {} if lease is None else {"lease": lease}
    async with Storm(cluster, folder, seed=1, **options) as storm:
        process = storm.add_origin()
        alive = re.compile(r"^origin .*, last heartbeat \d s ago$", re.MULTILINE)

        async def is_alive() -> bool:
            code, printed = await typed(config, cluster, "status")
            return code == 0 and alive.search(printed) is not None

        await until(is_alive)
        process.kill()
        dead = re.compile(r"^origin .*, dead: last heartbeat [\d]+ s ago$", re.MULTILINE)

        async def is_dead() -> bool:
            code, printed = await typed(config, cluster, "status")
            return code == 1 and dead.search(printed) is not None

        await until(is_dead)


async def test_r49_status_tells_that_an_origin_has_stopped(
    nats: Nats, origin: Origin, config: Path
) -> None:
    """One that was stopped is not dead, but it does not write either."""
    cluster = await nats()
    server = await origin(cluster, town())
    await server.stop()
    code, printed = await typed(config, cluster, "status")
    assert code == 1
    assert re.search(r"^origin .*, stopped \d s ago$", printed, re.MULTILINE)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (754, "12 min 34 s"), (7260, "2 h 1 min"), (90061, "1 d 1 h")],
)
def test_r49_ages_have_two_units(seconds: float, text: str) -> None:
    """An age is short, and never rounded to nothing."""
    assert _ago(seconds) == f"{text} ago"


async def test_status_without_a_bucket(nats: Nats, config: Path) -> None:
    """What is missing is said, with exit status 1."""
    code, printed = await typed(config, await nats(), "status")
    assert code == 1
    assert "bucket  there is no bucket 'd-back'; an origin makes it" in printed


async def test_status_without_nats(nats: Nats, config: Path) -> None:
    """A NATS that is not there is one line."""
    cluster = await nats()
    cluster.kill()
    code, printed = await typed(config, cluster, "status")
    assert (code, printed) == (1, "Error: cannot be reached: Connection refused\n")
