"""Requests for all members of a guild that are refused, lost, or many."""

import discord_payloads as say
import pytest
from discord_core import Begin, Core, until
from discord_loopback import Loopback

from d_back_core import Reload

LARGE = 600
MANY = 130
"""More than the gateway takes requests in a minute."""


def crowd(count: int = LARGE) -> list[say.Payload]:
    return [say.member(number, f"user{number}") for number in range(1, count + 1)]


def large(guild_id: str = say.GUILD_ID, member_count: int = LARGE) -> say.Payload:
    return say.guild(guild_id, members=crowd(2), member_count=member_count)


async def asked(begin: Begin, loopback: Loopback) -> Core:
    """A large guild, whose members have been asked for."""
    loopback.guilds = [large()]
    loopback.members[say.GUILD_ID] = crowd()
    core = await begin()
    await until(lambda: loopback.member_requests)
    return core


async def test_members_do_not_come(
    begin: Begin, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """Members that do not come are asked for again, in the same session."""
    loopback.guilds = [say.guild(members=crowd(10), member_count=LARGE)]
    loopback.members[say.GUILD_ID] = crowd()
    loopback.hold_members = True
    core = await begin()
    await until(lambda: loopback.member_requests)
    await core.wait(lambda: "members did not come: no answer in 30 s" in caplog.text)
    assert await core.provider.users(say.GUILD_ID) is None
    loopback.hold_members = False
    await core.wait(lambda: Reload(server_id=say.GUILD_ID) in core.events)
    assert len(await core.users()) == LARGE
    assert len(loopback.identifies) == 1
    assert core.degraded == []


async def test_asked_too_soon(
    begin: Begin, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that is answered with RATE_LIMITED is sent again when Discord says, in the same
    session; until then the users are not known."""
    loopback.refused_requests = [17.0, 4.0]
    core = await asked(begin, loopback)
    await until(lambda: "RATE_LIMITED" in caplog.text)
    assert await core.provider.users(say.GUILD_ID) is None
    await core.clock.advance(16)
    assert len(loopback.member_requests) == 1
    await core.clock.advance(2)
    await until(lambda: len(loopback.member_requests) == 2)
    await core.wait(lambda: Reload(server_id=say.GUILD_ID) in core.events)
    assert len(await core.users()) == LARGE
    assert len(loopback.member_requests) == 3
    assert len(loopback.identifies) == 1


async def test_unavailable_while_asked(begin: Begin, loopback: Loopback) -> None:
    """A guild that becomes unavailable while its members come is asked again when it is back."""
    loopback.hold_members = True
    core = await asked(begin, loopback)
    await core.happen("GUILD_DELETE", {"id": say.GUILD_ID, "unavailable": True})
    await until(lambda: Reload(server_id=say.GUILD_ID) in core.events)
    core.events.clear()
    loopback.hold_members = False
    await core.happen("GUILD_CREATE", large() | {"unavailable": False})
    await until(lambda: len(loopback.member_requests) == 2)
    assert len(await core.whole()) == LARGE
    assert len(loopback.identifies) == 1


async def test_presences_of_a_huge_guild(begin: Begin, loopback: Loopback) -> None:
    """Above 75,000 members Discord brings statuses only with the members: they are asked for
    together, also for those who are known already."""
    loopback.guilds = [large(member_count=75_001)]
    loopback.members[say.GUILD_ID] = crowd(5)
    loopback.presences[say.GUILD_ID] = [say.presence(1, "dnd"), say.presence(5, "idle")]
    core = await begin()
    users = await core.whole()
    assert {uid: user.status for uid, user in users.items() if user.status != "offline"} == {
        say.uid(1): "dnd",
        say.uid(5): "idle",
    }
    assert [request["presences"] for request in loopback.member_requests] == [True]


async def test_many_guilds(
    begin: Begin, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """More guilds than the gateway takes requests in a minute are asked one after another; the
    log tells of the progress."""
    caplog.set_level("INFO", "d_back.providers.discord")
    ids = [str(400_000_000_000_000_000 + number) for number in range(MANY)]
    loopback.guilds = [say.guild(each, members=crowd(1), member_count=3) for each in ids]
    loopback.members = {each: crowd(3) for each in ids}
    core = await begin()
    await until(lambda: len(loopback.member_requests) == 109)
    await core.clock.advance(30)
    assert len(loopback.member_requests) == 109
    await core.wait(lambda: len(loopback.member_requests) == MANY)
    await until(lambda: sum(isinstance(event, Reload) for event in core.events) > MANY)
    assert "guilds have come" in caplog.text
    assert [await core.users(each) for each in ids]
