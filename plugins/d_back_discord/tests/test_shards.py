"""A bot in thousands of guilds: several connections, each with its own guilds."""

import time

import discord_payloads as say
import pytest
from discord_core import Begin, Core, Prepare, until
from discord_loopback import Loopback
from discord_worlds import ADA, EVE, GENERAL, club

from d_back_core import Message, Reload, UserChanged

COUNT = 3
OTHERS = [str(400_000_000_000_000_000 + (number << 22)) for number in range(COUNT)]
"""A guild for each shard."""
LOST = 1


def shard_of(guild_id: str, count: int = COUNT) -> int:
    return (int(guild_id) >> 22) % count


def guild_of(shard: int) -> str:
    return next(each for each in OTHERS if shard_of(each) == shard)


@pytest.fixture
async def core(prepare: Prepare, loopback: Loopback) -> Core:
    """A bot of three shards, with a guild for each, all of them whole."""
    loopback.recommended_shards = COUNT
    loopback.guilds = [say.guild(each, f"Guild {each}", members=[ADA, EVE]) for each in OTHERS]
    core = prepare()
    await started(core)
    everything = [Reload(), *(Reload(server_id=each) for each in OTHERS)]
    await core.wait(lambda: all(each in core.events for each in everything))
    core.events.clear()
    return core


async def started(core: Core) -> None:
    starting = core.starting()
    await core.wait(starting.done)
    await starting


async def test_as_many_as_recommended(core: Core, loopback: Loopback) -> None:
    """As many shards connect as Discord recommends, five seconds apart; the list of guilds is
    published when all have come."""
    assert [asked["shard"] for asked in loopback.identifies] == [
        [shard, COUNT] for shard in range(COUNT)
    ]
    assert core.clock.time() - 1000 >= 5 * (COUNT - 1)
    assert set(await core.provider.servers() or {}) == set(OTHERS)
    assert core.degraded == []


async def test_configured_number(begin: Begin, loopback: Loopback) -> None:
    """A configured number of shards counts, whatever Discord recommends."""
    loopback.recommended_shards = 7
    loopback.guilds = [club()]
    core = await begin(shards=1)
    await core.whole()
    assert [asked["shard"] for asked in loopback.identifies] == [[0, 1]]


async def test_events_of_every_shard(core: Core) -> None:
    """What happens in a guild of any shard goes out."""
    for each in OTHERS:
        await core.happen("PRESENCE_UPDATE", say.presence(1, "dnd", each))
    changes = [UserChanged(server_id=each, uid=say.uid(1), status="dnd") for each in OTHERS]
    await until(lambda: len(core.events) == COUNT)
    assert sorted(core.events, key=str) == sorted(changes, key=str)


async def test_one_shard_lost(core: Core, loopback: Loopback) -> None:
    """A lost shard degrades its own guilds only: they are not answered until it is back."""
    server_id, other = guild_of(LOST), guild_of(0)
    loopback.open_to_gateway = False
    loopback.cut(LOST)
    lost = Reload(server_id=server_id)
    await core.wait(lambda: lost in core.events)
    with pytest.raises(ConnectionError, match="shard 1: the connection to Discord is lost"):
        await core.provider.users(server_id)
    assert len(await core.users(other)) == 2
    assert core.degraded == []
    assert core.gauges["shards lost"] == 1
    core.events.clear()
    loopback.open_to_gateway = True
    await core.wait(lambda: lost in core.events)
    assert len(await core.users(server_id)) == 2
    assert core.gauges["shards lost"] == 0
    assert len(loopback.identifies) == COUNT


async def test_new_session_of_one_shard(core: Core, loopback: Loopback) -> None:
    """A shard with a new session reads its own guilds again; one that was left is gone, those of
    other shards stay."""
    loopback.guilds = [each for each in loopback.guilds if each["id"] != guild_of(LOST)]
    loopback.resumable = False
    loopback.cut(LOST)
    await core.wait(lambda: len(loopback.identifies) > COUNT)
    await core.wait(lambda: core.gauges.get("shards lost") == 0)
    assert set(await core.provider.servers() or {}) == set(OTHERS) - {guild_of(LOST)}
    assert core.degraded == []


async def test_all_shards_lost(core: Core, loopback: Loopback) -> None:
    """With all shards lost the provider is degraded."""
    loopback.open_to_gateway = False
    loopback.cut()
    await core.wait(lambda: core.degraded)
    loopback.open_to_gateway = True
    await core.wait(lambda: core.recovered)
    await core.wait(lambda: core.gauges["shards lost"] == 0)
    assert len(await core.users(guild_of(LOST))) == 2


async def test_members_are_asked_for_at_their_shard(begin: Begin, loopback: Loopback) -> None:
    """A request for members goes to the connection that the guild belongs to."""
    loopback.recommended_shards, loopback.start_limit["max_concurrency"] = COUNT, 16
    loopback.guilds = [
        say.guild(each, "Large", members=[EVE], member_count=300) for each in OTHERS
    ]
    loopback.members = {each: [ADA, EVE] for each in OTHERS}
    core = await begin()
    everything = [Reload(server_id=each) for each in OTHERS]
    await until(lambda: all(each in core.events for each in everything))
    assert [len(await core.users(each)) for each in OTHERS] == [2] * COUNT


async def test_four_thousand_guilds(begin: Begin, loopback: Loopback) -> None:
    """4,000 guilds on four shards come whole, and chat passes in the last one."""
    count = 4000
    ids = [str((300_000_000_000 + number) << 22) for number in range(count)]
    loopback.recommended_shards, loopback.start_limit["max_concurrency"] = 4, 16
    loopback.guilds = [
        say.guild(each, f"Guild {each}", members=[ADA], channels=[say.channel(GENERAL, "general")])
        for each in ids
    ]
    core = await begin()
    whole = time.process_time()
    await until(lambda: sum(isinstance(event, Reload) for event in core.events) > count)
    assert time.process_time() - whole < 60  # nothing is quadratic in the number of guilds
    servers = await core.provider.servers() or {}
    assert set(servers) == set(ids)
    assert len({server.id for server in servers.values()}) == count
    await core.happen("MESSAGE_CREATE", say.message(ADA, "hi", GENERAL, guild_id=ids[-1]))
    await until(lambda: any(isinstance(event, Message) for event in core.events))
