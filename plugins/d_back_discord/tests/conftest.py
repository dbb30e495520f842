"""A Discord on the loopback interface, and providers that connect to it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from d_back_core import Secret
from d_back_discord import DiscordConfig, DiscordProvider
from d_back_testing import ManualClock

sys.path.insert(0, str(Path(__file__).parent))  # for the modules that the tests share

from discord_core import Begin, Core, Prepare, own_tasks, until
from discord_loopback import TOKEN, Loopback, serving


@pytest.fixture
async def loopback(clock: ManualClock) -> AsyncIterator[Loopback]:
    async with serving() as served:
        served.time = clock.time
        yield served


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def config(loopback: Loopback) -> DiscordConfig:
    return DiscordConfig(
        token=Secret(TOKEN), api_url=loopback.api_url, gateway_url=loopback.gateway_url
    )


@pytest.fixture
async def prepare(
    loopback: Loopback, clock: ManualClock, config: DiscordConfig
) -> AsyncIterator[Prepare]:
    """Make a provider with these options; it is stopped after the test, and leaves nothing."""
    made: list[Core] = []

    def prepare(**options: Any) -> Core:  # noqa: ANN401  of any type
        provider = DiscordProvider(structs.replace(config, **options))
        made.append(Core(provider, clock, loopback))
        return made[-1]

    before = asyncio.all_tasks()
    yield prepare
    for core in made:
        await core.stop()
    loopback.cut()
    await until(lambda: not loopback.wires)
    await until(lambda: not own_tasks(before))


@pytest.fixture
async def begin(prepare: Prepare) -> Begin:
    """Make a provider with these options and start it."""

    async def begin(**options: Any) -> Core:  # noqa: ANN401  of any type
        core = prepare(**options)
        await core.start()
        return core

    return begin
