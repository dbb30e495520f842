"""Guilds come, go, change their name, and are unavailable for a while."""

import gc
import logging

import discord
import discord_payloads as say
import pytest
from discord.utils import SnowflakeList
from discord_core import Begin, Core, until
from discord_loopback import Loopback
from discord_worlds import ADA, BOB, EVE, GENERAL, QUIET, club, update
from msgspec import structs

from d_back_core import (
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
)

OTHER = "400000000000000001"
CLUB = Server(name="D-World", id="dworld", client_id=say.APPLICATION_ID)
LARGE = 600


def crowd(count: int = LARGE, roles: tuple[str, ...] = ()) -> list[say.Payload]:
    return [say.member(number, f"user{number}", roles=roles) for number in range(1, count + 1)]


def parts() -> int:
    """The number of statuses and lists of roles that discord.py holds."""
    kinds = discord.ClientStatus, SnowflakeList
    return sum(type(each) in kinds for each in gc.get_objects())


async def test_guild(begin: Begin, loopback: Loopback) -> None:
    """A guild becomes a server, its members users with their names, statuses and colours."""
    loopback.guilds = [club()]
    core = await begin()
    assert await core.whole() == {
        say.uid(1): User(username="Ada L.", status="online", role_color="#ff0000"),
        say.uid(2): User(username="Bob", status="idle", role_color="#ffffff"),
        say.uid(5): User(username="robot", status="offline", role_color="#ffffff"),
        say.uid(99): User(username="eve", status="offline", role_color="#ffffff"),
        say.BOT_ID: User(username="zone-bot", status="offline", role_color="#ffffff"),
    }
    assert await core.provider.servers() == {say.GUILD_ID: CLUB}
    assert loopback.member_requests == []


async def test_no_guild(begin: Begin) -> None:
    """A bot that is in no guild has no servers, and can say so."""
    core = await begin()
    await until(lambda: Reload() in core.events)
    assert await core.provider.servers() == {}
    assert await core.provider.users(say.GUILD_ID) is None


async def test_start_does_not_wait(begin: Begin, loopback: Loopback) -> None:
    """The start is over while the members of a large guild are still on their way; the server is
    known, its users are not known."""
    loopback.guilds = [say.guild(members=crowd(10), member_count=LARGE)]
    loopback.members[say.GUILD_ID] = crowd()
    loopback.hold_members = True
    core = await begin()
    await until(lambda: loopback.member_requests)
    assert list(await core.provider.servers() or {}) == [say.GUILD_ID]
    assert await core.provider.users(say.GUILD_ID) is None
    await loopback.release_members()
    assert len(await core.whole()) == LARGE


async def test_chunks(begin: Begin, loopback: Loopback) -> None:
    """The members of a large guild come in chunks; statuses are those that the guild brought."""
    loopback.guilds = [
        say.guild(members=crowd(10), presences=[say.presence(3, "dnd")], member_count=LARGE)
    ]
    loopback.members[say.GUILD_ID] = crowd()
    loopback.chunk_size = 100
    core = await begin()
    users = await core.whole()
    assert len(users) == LARGE
    assert {uid for uid, user in users.items() if user.status != "offline"} == {say.uid(3)}


async def test_presence_before_the_member(begin: Begin, loopback: Loopback) -> None:
    """The status of a member who comes with a later chunk is kept until then, and the next
    presence replaces it."""
    loopback.guilds = [say.guild(members=crowd(10), member_count=LARGE)]
    loopback.members[say.GUILD_ID] = crowd()
    loopback.hold_members = True
    core = await begin()
    await until(lambda: loopback.member_requests)
    await core.happen("PRESENCE_UPDATE", say.presence(500, "idle", say.GUILD_ID))
    await loopback.release_members()
    assert (await core.whole())[say.uid(500)].status == "idle"
    await core.happen("PRESENCE_UPDATE", say.presence(500, "offline", say.GUILD_ID))
    assert await core.heard() == [
        UserChanged(server_id=say.GUILD_ID, uid=say.uid(500), status="offline")
    ]


async def test_join_and_leave_while_chunks_come(begin: Begin, loopback: Loopback) -> None:
    """Who joins while the members come is there, who leaves is not."""
    loopback.guilds = [say.guild(members=crowd(10), member_count=LARGE)]
    loopback.members[say.GUILD_ID] = crowd()
    loopback.hold_members = True
    core = await begin()
    await until(lambda: loopback.member_requests)
    newcomer = say.member(LARGE + 1, "late") | {"guild_id": say.GUILD_ID}
    await core.happen("GUILD_MEMBER_ADD", newcomer)
    await core.happen(
        "GUILD_MEMBER_REMOVE", {"guild_id": say.GUILD_ID, "user": say.user(say.uid(5), "user5")}
    )
    loopback.members[say.GUILD_ID] = [each for each in crowd() if each["user"]["id"] != say.uid(5)]
    await loopback.release_members()
    users = await core.whole()
    assert say.uid(LARGE + 1) in users
    assert say.uid(5) not in users


async def test_newcomer_with_a_presence_while_chunks_come(
    begin: Begin, loopback: Loopback
) -> None:
    """A status that came before a member who joins while the members come is kept, also when
    all members are compared later."""
    role = say.role(say.snowflake(1), "red", color=0xFF0000)
    loopback.guilds = [say.guild(members=crowd(10), roles=[role], member_count=LARGE)]
    loopback.members[say.GUILD_ID] = crowd()
    loopback.hold_members = True
    core = await begin()
    await until(lambda: loopback.member_requests)
    await core.happen("PRESENCE_UPDATE", say.presence(LARGE + 1, "idle", say.GUILD_ID))
    newcomer = say.member(LARGE + 1, "late", roles=(role["id"],)) | {"guild_id": say.GUILD_ID}
    await core.happen("GUILD_MEMBER_ADD", newcomer)
    await loopback.release_members()
    assert (await core.whole())[say.uid(LARGE + 1)].status == "idle"
    blue = say.role(role["id"], "red", color=0x0000FF)
    await core.happen("GUILD_ROLE_UPDATE", {"guild_id": say.GUILD_ID, "role": blue})
    await until(lambda: core.events)
    assert (await core.users())[say.uid(LARGE + 1)] == User(
        username="late", status="idle", role_color="#0000ff"
    )


async def test_members_share_what_is_equal(begin: Begin, loopback: Loopback) -> None:
    """Members of a large guild share one status while they are offline, and one list of roles
    each set of them; a member who comes online or loses a role changes alone."""
    role = say.role(say.snowflake(1), "red", color=0xFF0000)
    loopback.guilds = [say.guild(members=[], roles=[role], member_count=LARGE)]
    loopback.members[say.GUILD_ID] = crowd(roles=(role["id"], say.snowflake(2)))
    before = parts()
    core = await begin()
    users = await core.whole()
    assert len(users) == LARGE
    assert parts() - before < 20
    await core.happen("PRESENCE_UPDATE", say.presence(1, "idle", say.GUILD_ID))
    bare = say.member(2, "user2") | {"guild_id": say.GUILD_ID}
    await core.happen("GUILD_MEMBER_UPDATE", bare)
    await until(lambda: len(core.events) == 2)
    changed = await core.users()
    assert changed.pop(say.uid(1)).status == "idle"
    assert changed.pop(say.uid(2)).role_color == "#ffffff"
    assert set(changed.values()) == {users[uid] for uid in changed}


async def test_new_session_while_chunks_come(begin: Begin, loopback: Loopback) -> None:
    """A session that ends while the members come leaves no half of them: they are asked for
    again."""
    loopback.guilds = [say.guild(members=crowd(10), member_count=LARGE)]
    loopback.members[say.GUILD_ID] = crowd()
    loopback.hold_members = True
    core = await begin()
    await until(lambda: loopback.member_requests)
    loopback.resumable = False
    loopback.cut()
    await core.wait(lambda: len(loopback.member_requests) > 1)
    assert await core.provider.users(say.GUILD_ID) is None
    await loopback.release_members()
    assert len(await core.whole()) == LARGE


async def test_guild_joined(begin: Begin, loopback: Loopback) -> None:
    """A guild that invites the bot while it runs is announced with its name and id, and read."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    loopback.members[OTHER] = [EVE]
    await core.happen("GUILD_CREATE", say.guild(OTHER, "The Other", members=[EVE]))
    await until(lambda: Reload(server_id=OTHER) in core.events)
    assert core.events == [
        ServerChanged(
            server_id=OTHER, name="The Other", id="theother", client_id=say.APPLICATION_ID
        ),
        Reload(server_id=OTHER),
    ]
    assert list(await core.users(OTHER)) == [say.uid(99)]


async def test_guild_left(begin: Begin, loopback: Loopback) -> None:
    """A guild that the bot has left is removed."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await core.happen("GUILD_DELETE", {"id": say.GUILD_ID})
    await until(lambda: core.events)
    assert core.events == [ServerRemoved(server_id=say.GUILD_ID)]
    assert await core.provider.servers() == {}
    assert await core.provider.users(say.GUILD_ID) is None


async def test_guild_renamed(begin: Begin, loopback: Loopback) -> None:
    """A new name goes out; the public id stays."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    renamed = {
        key: value
        for key, value in club(name="New World").items()
        if key not in {"members", "presences", "channels", "threads", "member_count"}
    }
    await core.happen("GUILD_UPDATE", renamed)
    assert await core.heard() == [ServerChanged(server_id=say.GUILD_ID, name="New World")]
    renamed_club = structs.replace(CLUB, name="New World")
    assert await core.provider.servers() == {say.GUILD_ID: renamed_club}


async def test_guild_unavailable(
    begin: Begin, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """While a guild is unavailable its users are not known, the server stays
    in the list, and the log says so in one line."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await core.happen("GUILD_DELETE", {"id": say.GUILD_ID, "unavailable": True})
    await until(lambda: core.events)
    assert core.events == [Reload(server_id=say.GUILD_ID)]
    assert await core.provider.users(say.GUILD_ID) is None
    assert list(await core.provider.servers() or {}) == [say.GUILD_ID]
    lines = [line for line in caplog.messages if "unavailable" in line]
    assert lines == ["guild 'D-World' is unavailable on Discord's side"]


async def test_guild_back(begin: Begin, loopback: Loopback) -> None:
    """A guild that is back is read again: who left meanwhile is gone, who went offline is
    offline."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await core.happen("GUILD_DELETE", {"id": say.GUILD_ID, "unavailable": True})
    await until(lambda: core.events)
    core.events.clear()
    # As of a large guild: who is offline and has no role does not come with it.
    loopback.members[say.GUILD_ID] = [BOB, EVE]
    back = say.guild(members=[EVE], presences=[say.presence(99, "online")], member_count=2)
    await core.happen("GUILD_CREATE", back | {"unavailable": False})
    assert await core.whole() == {
        say.uid(2): User(username="Bob", status="offline", role_color="#ffffff"),
        say.uid(99): User(username="eve", status="online", role_color="#ffffff"),
    }


async def test_guild_back_with_as_many(begin: Begin, loopback: Loopback) -> None:
    """Who left while the guild was unavailable is gone, also where as many have joined."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await core.happen("GUILD_DELETE", {"id": say.GUILD_ID, "unavailable": True})
    await until(lambda: core.events)
    core.events.clear()
    members = [say.bot_member(), EVE, BOB, ADA, say.member(7, "gus")]
    loopback.members[say.GUILD_ID] = members
    back = say.guild(members=[EVE], member_count=len(members))
    await core.happen("GUILD_CREATE", back | {"unavailable": False})
    assert set(await core.whole()) == {each["user"]["id"] for each in members}


async def opted_out_meanwhile(begin: Begin, loopback: Loopback) -> Core:
    """A guild that is read again, in a session in which the members do not come."""
    loopback.guilds = [club()]
    core = await begin(opt_out_role="quiet")
    await core.whole()
    loopback.resumable, loopback.hold_members = False, True
    loopback.guilds = [club(members=[EVE, say.bot_member()], member_count=LARGE)]
    loopback.members[say.GUILD_ID] = [EVE, say.bot_member()]
    loopback.cut()
    await core.wait(lambda: loopback.member_requests)
    core.events.clear()
    return core


async def test_opt_out_while_all_is_read_again(begin: Begin, loopback: Loopback) -> None:
    """Who opts out while the guild is read again disappears at once, not when it is whole."""
    core = await opted_out_meanwhile(begin, loopback)
    await core.happen("GUILD_MEMBER_UPDATE", update(EVE, roles=[QUIET]))
    gone = UserRemoved(server_id=say.GUILD_ID, uid=say.uid(99))
    await until(lambda: gone in core.events)
    assert set(await core.users()) == {say.uid(1), say.uid(2), say.uid(5), say.BOT_ID}
    await loopback.release_members()
    assert set(await core.whole()) == {say.BOT_ID}


async def test_words_of_who_opted_out_meanwhile(begin: Begin, loopback: Loopback) -> None:
    """A message of a member who opted out while the connection was lost does not pass."""
    core = await opted_out_meanwhile(begin, loopback)
    hidden = say.member(2, "bob", roles=(QUIET,))
    await core.happen("MESSAGE_CREATE", say.message(hidden, "hi", GENERAL))
    assert await core.heard() == []


async def test_unavailable_from_the_start(begin: Begin, loopback: Loopback) -> None:
    """A guild that is unavailable when the bot comes holds up the others only for a while."""
    loopback.guilds = [club(), {"id": OTHER, "unavailable": True}]
    core = await begin()
    await core.whole()
    assert await core.provider.servers() is None
    await core.clock.advance(3)
    assert list(await core.provider.servers() or {}) == [say.GUILD_ID]
    await core.happen(
        "GUILD_CREATE", say.guild(OTHER, "The Other", members=[EVE]) | {"unavailable": False}
    )
    await core.whole(OTHER)
    assert list(await core.provider.servers() or {}) == [say.GUILD_ID, OTHER]


async def test_allowed_guilds(begin: Begin, loopback: Loopback) -> None:
    """With an allow-list, other guilds do not exist, also those that come later."""
    loopback.guilds = [club(), say.guild(OTHER, "The Other", members=[EVE])]
    core = await begin(guilds=frozenset({say.GUILD_ID}))
    await core.whole()
    await core.happen("GUILD_CREATE", say.guild("400000000000000002", "Third", members=[EVE]))
    assert await core.heard() == []
    assert list(await core.provider.servers() or {}) == [say.GUILD_ID]
    assert await core.provider.users(OTHER) is None


async def test_same_names(begin: Begin, loopback: Loopback) -> None:
    """Of two guilds with the same name the older one gets the id, whichever comes first; it
    keeps it when the other one goes and comes back."""
    loopback.guilds = [say.guild(OTHER, "D World", members=[EVE]), club()]
    core = await begin()
    await core.whole()
    servers = await core.provider.servers() or {}
    ids = {server_id: server.id for server_id, server in servers.items()}
    assert ids == {say.GUILD_ID: "dworld", OTHER: "dworld-0001"}
    await core.happen("GUILD_DELETE", {"id": say.GUILD_ID})
    await until(lambda: ServerRemoved(server_id=say.GUILD_ID) in core.events)
    servers = await core.provider.servers() or {}
    assert {server.id for server in servers.values()} == {"dworld-0001"}


async def test_client_id(begin: Begin, loopback: Loopback) -> None:
    """The client id of every guild is that of the bot's own application."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    servers = await core.provider.servers() or {}
    assert {key: server.client_id for key, server in servers.items()} == {
        say.GUILD_ID: say.APPLICATION_ID
    }


async def test_intents(begin: Begin, loopback: Loopback) -> None:
    """Discord is asked for what is needed and for nothing else."""
    guilds, members, presences, messages, content = 1, 1 << 1, 1 << 8, 1 << 9, 1 << 15
    needed = guilds | members | presences
    for chat, more in (("off", 0), ("activity", messages), ("text", messages | content)):
        await begin(chat=chat)
        assert loopback.identifies[-1]["intents"] == needed | more


async def test_token_is_not_logged(
    begin: Begin, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """At no level does a log line of ours hold the token."""
    caplog.set_level(logging.DEBUG, "d_back")
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    assert loopback.token not in caplog.text
