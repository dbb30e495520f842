"""Inside a bot that the embedding program runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import discord
import discord_payloads as say
import pytest
from discord.ext import commands
from discord.gateway import DiscordWebSocket
from discord.http import Route
from discord_core import Core, until
from discord_loopback import TOKEN, Loopback
from discord_worlds import ADA, GENERAL, club
from yarl import URL

from d_back_core import ConfigError, Message, User, UserChanged
from d_back_discord import DiscordConfig, DiscordProvider
from d_back_discord.embedded import Embedded
from d_back_testing import ManualClock

Bot: TypeAlias = commands.Bot | commands.AutoShardedBot
Run = Callable[[Bot], Awaitable[None]]


class OwnersBot(commands.Bot):
    async def before_identify_hook(self, _shard: int | None, *, initial: bool = False) -> None:
        """Begin new sessions at once."""


class OwnersShards(commands.AutoShardedBot):
    async def before_identify_hook(self, _shard: int | None, *, initial: bool = False) -> None:
        """Begin new sessions at once."""


@pytest.fixture(params=["bot", "sharded"])
def bot(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, loopback: Loopback
) -> Bot:
    """A bot as its own author would write it, which connects to the loopback."""
    monkeypatch.setattr(Route, "BASE", loopback.api_url)
    monkeypatch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", URL(loopback.gateway_url))
    intents = discord.Intents.default()
    intents.members = intents.presences = intents.message_content = True
    loopback.guilds = [club()]
    if request.param == "sharded":
        return OwnersShards("!", intents=intents, guild_ready_timeout=0.05, shard_count=1)
    return OwnersBot("!", intents=intents, guild_ready_timeout=0.05)


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Run a bot until the test ends."""
    running: list[tuple[Bot, asyncio.Task[None]]] = []

    async def run(bot: Bot) -> None:
        running.append((bot, asyncio.create_task(bot.start(TOKEN))))

    yield run
    for bot, task in running:
        await bot.close()
        await task


@pytest.fixture
async def core(bot: Bot, clock: ManualClock, loopback: Loopback) -> AsyncIterator[Core]:
    core = Core(DiscordProvider.from_bot(bot), clock, loopback)
    yield core
    await core.stop()


async def test_before_the_bot(core: Core, bot: Bot, run: Run) -> None:
    """A provider that starts before its bot answers None until the bot is there."""
    await core.start()
    assert await core.provider.servers() is None
    await run(bot)
    users = await core.whole()
    assert users[say.uid(1)] == User(username="Ada L.", status="online", role_color="#ff0000")
    assert core.degraded == []
    servers = await core.provider.servers() or {}
    assert servers[say.GUILD_ID].client_id == say.APPLICATION_ID


async def test_after_the_bot(core: Core, bot: Bot, run: Run) -> None:
    """A provider that starts in a running bot has its guilds at once."""
    await run(bot)
    await until(bot.is_ready)
    await core.start()
    assert list(await core.provider.servers() or {}) == [say.GUILD_ID]
    assert len(await core.whole()) == 5


async def test_lost_after_a_late_start(core: Core, bot: Bot, run: Run, loopback: Loopback) -> None:
    """A provider that started in a running bot notices, too, when the connection is lost."""
    await run(bot)
    await until(bot.is_ready)
    await core.start()
    await core.whole()
    loopback.open_to_gateway = False
    loopback.cut()
    await core.wait(lambda: core.degraded)
    loopback.open_to_gateway = True
    await until(lambda: core.recovered)


async def test_bot_that_asks_for_members(
    core: Core, bot: Bot, run: Run, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """While the bot itself waits for the members of a large guild, the guild is in the list and
    not called unavailable."""
    loopback.guilds = [club(member_count=300)]
    loopback.hold_members = True
    await core.start()
    await run(bot)
    await until(lambda: loopback.member_requests)
    await core.clock.advance(3)
    assert list(await core.provider.servers() or {}) == [say.GUILD_ID]
    assert await core.provider.users(say.GUILD_ID) is None
    await loopback.release_members()
    await core.whole()
    assert "unavailable" not in caplog.text


async def test_members_asked_for_too_soon(
    core: Core, bot: Bot, run: Run, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """The bot's RATE_LIMITED, which discord.py drops, is taken in: members are asked for again
    when Discord says."""
    bot._connection._chunk_guilds = False  # noqa: SLF001  as its author's option says
    loopback.guilds, loopback.refused_requests = [club(member_count=300)], [17.0]
    await core.start()
    await run(bot)
    await until(lambda: "asked too soon (RATE_LIMITED); asking again in 17 s" in caplog.text)
    await core.clock.advance(16)
    assert len(loopback.member_requests) == 1
    await core.clock.advance(1)
    assert len(await core.whole()) == 5
    assert len(loopback.member_requests) == 2


async def test_refusals_without_parsers(
    core: Core, bot: Bot, run: Run, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where discord.py has no such table, a refused request counts as lost, and is sent again."""
    bot._connection._chunk_guilds = False  # noqa: SLF001  as its author's option says
    monkeypatch.setattr(Embedded, "_parsers", lambda _self: {})
    loopback.guilds, loopback.refused_requests = [club(member_count=300)], [17.0]
    await core.start()
    await run(bot)
    await core.wait(lambda: len(loopback.member_requests) == 2)
    assert len(await core.whole()) == 5


async def test_request_of_the_bot_is_lost(
    core: Core, bot: Bot, run: Run, loopback: Loopback
) -> None:
    """A request of the bot itself that is never answered does not stand in the way of our own:
    discord.py would wait for it without end."""
    bot._connection._chunk_guilds = False  # noqa: SLF001  as its author's option says
    loopback.guilds, loopback.hold_members = [club(member_count=300)], True
    await run(bot)
    await until(bot.is_ready)
    asked = asyncio.create_task(bot.guilds[0].chunk())
    await until(lambda: loopback.member_requests)
    loopback.hold_members = False
    await core.start()
    await core.wait(lambda: len(loopback.member_requests) == 2)
    assert len(await core.whole()) == 5
    asked.cancel()


async def test_events(core: Core, bot: Bot, run: Run) -> None:
    """Presence and chat of the bot's guilds go out; the bot's own handlers are left alone."""
    heard: list[str] = []

    @bot.event
    async def on_message(message: discord.Message) -> None:
        heard.append(message.content)

    await core.start()
    await run(bot)
    await core.whole()
    await core.happen("PRESENCE_UPDATE", say.presence(1, "dnd", say.GUILD_ID))
    await core.happen("MESSAGE_CREATE", say.message(ADA, "hi", GENERAL))
    first, second = await core.heard()
    assert first == UserChanged(server_id=say.GUILD_ID, uid=say.uid(1), status="dnd")
    assert isinstance(second, Message)
    assert heard == ["hi"]


async def test_stop(core: Core, bot: Bot, run: Run) -> None:
    """A stop takes the listeners away and leaves the bot connected."""
    before = {name: len(each) for name, each in bot.extra_events.items()}
    await core.start()
    await run(bot)
    await core.whole()
    assert "RATE_LIMITED" in bot._connection.parsers  # noqa: SLF001  that it is taken away
    await core.stop()
    assert "RATE_LIMITED" not in bot._connection.parsers  # noqa: SLF001
    after = {name: len(each) for name, each in bot.extra_events.items() if each}
    assert after == {name: count for name, count in before.items() if count}
    assert not bot.is_closed()
    await until(bot.is_ready)


async def test_new_session(core: Core, bot: Bot, run: Run, loopback: Loopback) -> None:
    """A bot that had to begin a new session is read again."""
    await core.start()
    await run(bot)
    await core.whole()
    loopback.resumable = False
    loopback.cut()
    await until(lambda: core.recovered)
    assert len(await core.whole()) == 5
    assert core.degraded


async def test_intents(clock: ManualClock, loopback: Loopback) -> None:
    """A bot that asks Discord for too little is the operator's to mend."""
    bot = commands.Bot("!", intents=discord.Intents.default())
    core = Core(DiscordProvider.from_bot(bot, DiscordConfig()), clock, loopback)
    with pytest.raises(ConfigError, match=r"Intents lacks members, presences, message_content"):
        await core.start()
    await core.stop()


def test_plain_client() -> None:
    """A plain client, which has no listeners, is refused when it is handed over."""
    client = discord.Client(intents=discord.Intents.default())
    with pytest.raises(TypeError, match=r"AutoShardedBot of .*, got discord\.client\.Client"):
        DiscordProvider.from_bot(client)  # type: ignore[arg-type]
