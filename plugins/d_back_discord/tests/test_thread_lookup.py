"""Messages in threads that Discord has not announced."""

import asyncio
from typing import Any

import discord_payloads as say
import pytest
from discord_core import Begin, Core, until
from discord_loopback import Answer, Loopback, failing, held
from discord_worlds import ADA, GENERAL, SECRET, club

from d_back_core import Message
from d_back_discord.thread_lookup import FAILED, MAX_LOOKUPS, MAX_WAITING, TIMEOUT

UNKNOWN = say.snowflake(404)
PATH = f"/channels/{UNKNOWN}"
OLD = say.thread(UNKNOWN, "an old topic", GENERAL)


@pytest.fixture
async def core(begin: Begin, loopback: Loopback) -> Core:
    """A bot in the club, whose old thread it has never heard of."""
    loopback.guilds = [club()]
    loopback.channels[UNKNOWN] = OLD
    core = await begin()
    await core.whole()
    return core


async def write(core: Core, text: str, channel: str = UNKNOWN, number: int = 1) -> say.Payload:
    """Ada writes something there."""
    written = say.message(ADA, text, channel, message_id=number)
    await core.happen("MESSAGE_CREATE", written)
    return written


def texts(core: Core) -> list[str]:
    return [event.message for event in core.events if isinstance(event, Message)]


def lookups(loopback: Loopback) -> list[str]:
    return [path for _, path, _ in loopback.requests if path.startswith("/channels/")]


def dropped(core: Core) -> float:
    return core.gauges.get("messages in unknown channels", 0)


async def test_is_looked_up(core: Core, loopback: Loopback) -> None:
    """Its messages pass in order, as those of its channel, and the thread is asked for once."""
    for number in range(1, 4):
        await write(core, f"word {number}", number=number)
    await until(lambda: len(texts(core)) == 3)
    await write(core, "one more", number=4)
    await until(lambda: len(texts(core)) == 4)
    assert texts(core) == ["word 1", "word 2", "word 3", "one more"]
    assert {
        (each.channel, each.channel_name) for each in core.events if type(each) is Message
    } == {(GENERAL, "general")}
    assert lookups(loopback) == [PATH]
    assert dropped(core) == 0


@pytest.mark.parametrize(
    "found",
    [
        say.thread(UNKNOWN, "whisper", GENERAL, private=True),
        say.thread(UNKNOWN, "hushed", SECRET),
    ],
    ids=["private", "of a hidden channel"],
)
async def test_is_not_for_everyone(core: Core, loopback: Loopback, found: say.Payload) -> None:
    """A private thread, or one of a hidden channel, does not pass when it is looked up either."""
    loopback.channels[UNKNOWN] = found
    await write(core, "psst")
    await until(lambda: lookups(loopback))
    assert await core.heard() == []
    await until(lambda: not lookup_tasks())
    assert await core.heard() == []


@pytest.mark.parametrize(
    "answer",
    [
        failing(403),
        failing(404),
        held(asyncio.Event(), {}),
        say.thread(UNKNOWN, "lost", say.snowflake(405)),
        say.thread(UNKNOWN, "elsewhere", GENERAL, guild_id=say.snowflake(406)),
        say.channel(UNKNOWN, "a channel") | {"guild_id": say.GUILD_ID},
        {"id": UNKNOWN, "type": say.PUBLIC_THREAD, "guild_id": say.GUILD_ID},
    ],
    ids=["403", "404", "silence", "no parent", "other guild", "no thread", "unreadable"],
)
async def test_cannot_be_looked_up(
    core: Core,
    loopback: Loopback,
    answer: Answer | say.Payload,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What cannot be looked up does not pass: it is counted, the first one is logged, and the
    thread is asked for again only after a while."""
    if isinstance(answer, dict):
        loopback.channels[UNKNOWN] = answer
    else:
        loopback.answers[PATH].append(answer)
    await write(core, "hi")
    await until(lambda: lookups(loopback))
    await core.clock.advance(TIMEOUT + 1)
    await until(lambda: dropped(core) == 1)
    loopback.channels[UNKNOWN] = OLD
    await write(core, "hi", number=2)
    await until(lambda: dropped(core) == 2)
    assert texts(core) == []
    assert len(lookups(loopback)) == 1
    assert caplog.text.count("has not announced the channel") == 1
    await core.clock.advance(FAILED)
    await write(core, "there", number=3)
    await until(lambda: texts(core) == ["there"])


async def test_changes_while_it_waits(core: Core, loopback: Loopback) -> None:
    """A message that waits passes with its newest text, and not if it is deleted or if its author
    opts out meanwhile."""
    found = asyncio.Event()
    loopback.answers[PATH].append(held(found, OLD))
    first = await write(core, "teh words", number=1)
    second = await write(core, "regretted", number=2)
    await until(lambda: lookups(loopback))
    edited = {"content": "the words", "edited_timestamp": "2024-05-06T07:09:09.000000+00:00"}
    await core.happen("MESSAGE_UPDATE", first | edited)
    gone = {"id": second["id"], "channel_id": UNKNOWN, "guild_id": say.GUILD_ID}
    await core.happen("MESSAGE_DELETE", gone)
    assert await core.heard() == []
    found.set()
    await until(lambda: texts(core))
    await until(lambda: not lookup_tasks())
    assert texts(core) == ["the words"]


async def test_author_leaves_while_it_waits(core: Core, loopback: Loopback) -> None:
    """A message does not pass if its author is not shown any more when its thread is known."""
    found = asyncio.Event()
    loopback.answers[PATH].append(held(found, OLD))
    await write(core, "bye")
    await until(lambda: lookups(loopback))
    removal = {"guild_id": say.GUILD_ID, "user": ADA["user"]}
    await core.happen("GUILD_MEMBER_REMOVE", removal)
    await core.heard()
    found.set()
    await until(lambda: not lookup_tasks())
    assert texts(core) == []


async def test_new_session(core: Core, loopback: Loopback) -> None:
    """A new session forgets the thread: it is looked up again, with the permissions of now."""
    await write(core, "hi")
    await until(lambda: texts(core))
    loopback.guilds = [club(channels=[say.channel(GENERAL, "general", hidden=True)], threads=[])]
    loopback.resumable = False
    loopback.cut()
    await core.wait(lambda: core.recovered)
    await core.whole()
    await write(core, "secret", number=2)
    await until(lambda: len(lookups(loopback)) == 2 and not lookup_tasks())
    assert texts(core) == []


async def test_bounds(core: Core, loopback: Loopback) -> None:
    """Only so many messages wait for a thread, and only so many threads are asked for in a
    minute: the rest is counted."""
    never: Answer = held(asyncio.Event(), {})
    loopback.answers[PATH].append(never)
    for number in range(MAX_WAITING + 2):
        await write(core, "hi", number=number)
    await until(lambda: dropped(core) == 2)
    for number in range(MAX_LOOKUPS + 1):
        await write(core, "hi", say.snowflake(500 + number), number=100 + number)
    await until(lambda: len(lookups(loopback)) == MAX_LOOKUPS)
    await until(lambda: dropped(core) == 2 + 2 + MAX_LOOKUPS - 1)
    await core.stop()
    assert len(lookups(loopback)) == MAX_LOOKUPS
    assert lookup_tasks() == []


def lookup_tasks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "look up a thread"]
