"""The command that says where a guild can be seen."""

import asyncio

import discord_payloads as say
import pytest
from discord_core import Begin, Core, until
from discord_loopback import Loopback, failing
from discord_worlds import ADA, GENERAL, ROBOT, SECRET, club

OPTIONS = {"info_command": "!d-zone", "info_url": "https://zone.example/?theme=1"}
ANSWER = f"https://zone.example/?theme=1&s={say.GUILD_ID}"


async def said(core: Core, content: str = "!d-zone", where: str = GENERAL) -> None:
    await core.happen("MESSAGE_CREATE", say.message(ADA, content, where))
    await core.heard()


def answers_under_way() -> list[str]:
    coroutines = (task.get_coro() for task in asyncio.all_tasks())
    return [name for each in coroutines if (name := each.__qualname__).startswith("InfoCommand")]  # type: ignore[union-attr]


async def test_answer(begin: Begin, loopback: Loopback) -> None:
    """The command is answered where it was given, with the URL and the server's id."""
    loopback.guilds = [club()]
    core = await begin(**OPTIONS)
    await core.whole()
    await said(core)
    await until(lambda: loopback.said)
    channel, answer = loopback.said[0]
    assert (channel, answer["content"]) == (GENERAL, ANSWER)
    assert answer["allowed_mentions"] == {"parse": []}


async def test_cooldown(begin: Begin, loopback: Loopback) -> None:
    """Each channel gets one answer in a minute."""
    loopback.guilds = [club()]
    core = await begin(**OPTIONS)
    await core.whole()
    await said(core)
    await said(core)
    await core.clock.advance(59)
    await said(core)
    await said(core, where=SECRET)
    await until(lambda: not answers_under_way())
    assert [channel for channel, _ in loopback.said] == [GENERAL, SECRET]
    await core.clock.advance(1)
    await said(core)
    await until(lambda: len(loopback.said) > 2)


@pytest.mark.parametrize("content", ["!d-zone please", "d-zone", ""])
async def test_other_messages(begin: Begin, loopback: Loopback, content: str) -> None:
    """Nothing else is answered."""
    loopback.guilds = [club()]
    core = await begin(**OPTIONS)
    await core.whole()
    await said(core, content)
    await said(core, where=SECRET)
    await until(lambda: loopback.said)
    assert [channel for channel, _ in loopback.said] == [SECRET]


async def test_bots_are_not_answered(begin: Begin, loopback: Loopback) -> None:
    """Bots could answer each other for ever."""
    loopback.guilds = [club()]
    core = await begin(bots=True, **OPTIONS)
    await core.whole()
    await core.happen("MESSAGE_CREATE", say.message(ROBOT, "!d-zone", GENERAL))
    await said(core, where=SECRET)
    await until(lambda: loopback.said)
    assert [channel for channel, _ in loopback.said] == [SECRET]


async def test_off_by_default(begin: Begin, loopback: Loopback) -> None:
    """Without the option nothing is ever said."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await said(core)
    assert not [method for method, _, _ in loopback.requests if method == "POST"]


async def test_not_allowed_to_speak(
    begin: Begin, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """A channel where the bot may not speak is left in silence."""
    caplog.set_level("INFO")
    loopback.guilds = [club()]
    loopback.answers[f"/channels/{GENERAL}/messages"] = [failing(403)]
    core = await begin(**OPTIONS)
    await core.whole()
    await said(core)
    await until(lambda: "cannot answer the info command: 403" in caplog.text)


async def test_needs_content_without_chat(begin: Begin, loopback: Loopback) -> None:
    """The command needs the content of messages also if chat is off."""
    loopback.guilds = [club()]
    await begin(chat="off", **OPTIONS)
    assert loopback.identifies[-1]["intents"] & (1 << 15)
