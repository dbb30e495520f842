"""Discord resets a bot's token after 1,000 IDENTIFYs in 24 hours: the bot stays far below that."""

import asyncio
from collections.abc import Awaitable, Callable

import discord_payloads as say
import pytest
from aiohttp import web
from discord_core import Begin, Core, Prepare, until
from discord_loopback import Loopback, failing, limited
from discord_worlds import club

from d_back_discord.identify_budget import DAY, IdentifyBudget, StartLimit
from d_back_discord.waits import Waits, growing

STEP = 60.0
Failure = Callable[[Loopback], Awaitable[None]]


async def close_4004(loopback: Loopback) -> None:
    """Refuse the token from now on, at the gateway only."""
    loopback.identify_closes_with, loopback.resumable = 4004, False
    loopback.cut()


async def close_4011(loopback: Loopback) -> None:
    """Close every new session with a code that forbids to connect again."""
    loopback.identify_closes_with, loopback.resumable = 4011, False
    loopback.cut()


async def close_4014(loopback: Loopback) -> None:
    """Refuse the intents from now on, without a word over REST."""
    loopback.identify_closes_with, loopback.resumable = 4014, False
    loopback.cut()


async def close_4000(loopback: Loopback) -> None:
    """Close each connection as soon as it asks for a session."""
    loopback.identify_closes_with, loopback.resumable = 4000, False
    loopback.cut()


async def invalid_session(loopback: Loopback) -> None:
    """Answer every IDENTIFY with INVALID_SESSION."""
    loopback.refuse_sessions, loopback.resumable = 1_000_000, False
    loopback.cut()


async def bad_guild(loopback: Loopback) -> None:
    """Send a guild that cannot be parsed, in the next session."""
    broken = club()
    del broken["roles"][0]["position"]
    loopback.guilds, loopback.resumable = [broken], False
    loopback.cut()


async def bad_event(loopback: Loopback) -> None:
    """Send an event that cannot be parsed."""
    await loopback.dispatch("GUILD_MEMBER_ADD", {"guild_id": say.GUILD_ID})


async def no_members(loopback: Loopback) -> None:
    """Send a large guild, whose members never come, in the next session."""
    loopback.guilds, loopback.hold_members = [club(member_count=1000)], True
    loopback.resumable = False
    loopback.cut()


async def resumable_session(loopback: Loopback) -> None:
    """Call every session resumable, and resume none."""
    loopback.invalid_sessions = True
    await invalid_session(loopback)


async def no_hello(loopback: Loopback) -> None:
    """Take connections, and send no HELLO."""
    loopback.greets = False
    loopback.cut()


async def no_session(loopback: Loopback) -> None:
    """Take every IDENTIFY, and never answer it."""
    loopback.deaf, loopback.refuse_sessions, loopback.resumable = True, 1, False
    loopback.cut()


async def refused_connections(loopback: Loopback) -> None:
    """Refuse connections, those of REST too, once the session is over."""
    await loopback.drop(4009)
    await loopback.vanish()


async def limited_rest(loopback: Loopback) -> None:
    """Answer REST with 429, and end every session."""
    loopback.broken = limited(600)
    await invalid_session(loopback)


async def page_of_cloudflare(loopback: Loopback) -> None:
    """Answer REST with a page that bans the address for a while, and end every session."""
    page = "<!DOCTYPE html>\n<html><head><title>Access denied</title></head></html>"
    headers = {"Content-Type": "text/html", "Retry-After": "300"}

    async def banned(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, text=page, headers=headers)

    loopback.broken = banned
    await invalid_session(loopback)


async def broken_rest(loopback: Loopback) -> None:
    """Answer REST with an error, and end every session."""
    loopback.broken = failing(501)  # discord.py itself waits after a 500
    await invalid_session(loopback)


FAILURES = [
    close_4000,
    close_4004,
    close_4011,
    close_4014,
    invalid_session,
    resumable_session,
    bad_guild,
    bad_event,
    no_members,
    no_hello,
    no_session,
    refused_connections,
    limited_rest,
    page_of_cloudflare,
    broken_rest,
]


@pytest.mark.parametrize("fail", FAILURES, ids=[each.__name__ for each in FAILURES])
async def test_day_of_failures(begin: Begin, loopback: Loopback, fail: Failure) -> None:
    """A failure that lasts for a day costs at most 100 IDENTIFYs, and the bot is back after it."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await fail(loopback)
    await pass_day(core)
    assert 1 <= len(loopback.identifies) <= 100
    assert core.gauges["identifies in 24 h"] <= 100
    await recover(loopback)
    await core.wait(lambda: any(wire.session is not None for wire in loopback.wires), STEP)


async def test_day_of_short_sessions(begin: Begin, loopback: Loopback) -> None:
    """Sessions that end after five minutes, all day, cost at most 100 IDENTIFYs."""
    loopback.guilds, loopback.resumable = [club()], False
    core = await begin()
    for _ in range(int(DAY / 300)):
        for _ in range(5):
            await core.clock.advance(STEP)
        loopback.cut()
        await core.clock.advance(0)
    assert 1 < len(loopback.identifies) <= 100


async def test_day_of_failed_starts(prepare: Prepare, loopback: Loopback) -> None:
    """A start that fails and is tried again each minute, for a day, costs at most 100 IDENTIFYs:
    what was used outlives the run."""
    loopback.identify_closes_with = 4000
    core = prepare()
    for _ in range(int(DAY / STEP)):
        starting = core.starting()
        await core.wait(starting.done)
        assert isinstance(starting.exception(), ConnectionError)
        await core.stop()
        await core.clock.advance(STEP)
    assert 1 < len(loopback.identifies) <= 100


async def test_discords_own_limit(prepare: Prepare, loopback: Loopback) -> None:
    """With Discord's count of session starts nearly used up, the bot waits for its reset."""
    loopback.guilds = [club()]
    loopback.start_limit |= {"remaining": 10, "reset_after": 3_600_000}
    core = prepare()
    starting = core.starting()
    await until(lambda: any(path == "/gateway/bot" for _, path, _ in loopback.requests))
    await core.clock.advance(3500)
    assert loopback.identifies == []
    starting.cancel()
    await asyncio.wait([starting])
    await core.stop()
    with pytest.raises(ConnectionError, match="Discord allows only 10 more logins; the next"):
        await core.start()
    await core.stop()
    loopback.start_limit["remaining"] = 1000
    await core.clock.advance(200)
    await core.start()
    await core.whole()


async def test_without_session_start_limit(begin: Begin, loopback: Loopback) -> None:
    """A server with Discord's API that has no ``/gateway/bot`` gets one connection."""
    loopback.guilds, loopback.gateway_bot = [club()], False
    core = await begin()
    await core.whole()
    assert len(loopback.identifies) == 1


def test_waits_grow() -> None:
    """The wait doubles with each session, and shrinks by one step for each quarter of an hour
    that a session lasts."""
    budget, now = IdentifyBudget(Waits()), 0.0
    waits = []
    for _ in range(10):
        budget.spend(0, now)
        budget.ended(0, 0.0, now)
        waits.append(budget.wait(0, now))
        now += waits[-1]
    assert all(1 <= wait / step < 1.26 for wait, step in zip(waits, steps(10), strict=True))
    budget.spend(0, now)
    budget.ended(0, 4 * 900.0 + 10, now + 3610)
    assert 80 <= budget.wait(0, now + 3610) <= 100


def test_waits_stay_bounded() -> None:
    """The wait after a day of attempts is the longest one."""
    assert 60 <= growing(1.0, 60.0, 100_000) <= 75


def steps(count: int) -> list[float]:
    return [min(5 * 2.0**number, 1200) for number in range(count)]


def test_daily_budget() -> None:
    """The first half of the daily budget is there at once, the rest is spread over the day."""
    budget = IdentifyBudget(Waits(new_session=0.0, between_identifies=0.0))
    for _ in range(49):
        budget.spend(0, 0.0)
    assert budget.wait(0, 0.0) == 0
    budget.spend(0, 0.0)
    assert budget.wait(0, 0.0) == DAY / 50
    assert "50 of 100 logins in 24 h are used" in budget.reason(0, 0.0)
    assert budget.wait(0, DAY + 1) == 0


def test_concurrency() -> None:
    """Shards whose numbers are equal modulo ``max_concurrency`` begin five seconds apart."""
    budget = IdentifyBudget(Waits())
    budget.limit(StartLimit(max_concurrency=2), 4, 0.0)
    budget.spend(0, 0.0)
    assert [budget.wait(shard, 0.0) for shard in (1, 2, 3)] == [0.0, 5.0, 0.0]


async def recover(loopback: Loopback) -> None:
    """Be well again, with a new session."""
    loopback.identify_closes_with, loopback.refuse_sessions = None, 0
    loopback.guilds, loopback.hold_members = [club()], False
    loopback.resumable = loopback.invalid_sessions = loopback.deaf = False
    loopback.greets = True
    loopback.broken = None
    if not loopback.runner.sites:
        await loopback.listen()
    loopback.cut()


async def pass_day(core: Core) -> None:
    end = core.clock.time() + DAY
    while core.clock.time() < end:
        await core.clock.advance(STEP)
