"""Only what is shown of a member goes out, and only where it changed."""

from typing import Any

import discord_payloads as say
import pytest
from discord_core import Begin, Core, until
from discord_loopback import Loopback
from discord_worlds import ADA, BLUE, BOB, EVE, QUIET, RED, club, update

from d_back_core import Reload, UserChanged, UserRemoved


@pytest.fixture
def joined(begin: Begin, loopback: Loopback) -> Any:  # noqa: ANN401  a function
    """The club, whole."""

    async def joined(**options: Any) -> Core:  # noqa: ANN401
        loopback.guilds = [club()]
        core = await begin(**options)
        await core.whole()
        return core

    return joined


def changed(number: int, **fields: Any) -> UserChanged:  # noqa: ANN401
    return UserChanged(server_id=say.GUILD_ID, uid=say.uid(number), **fields)


def removed(number: int) -> UserRemoved:
    return UserRemoved(server_id=say.GUILD_ID, uid=say.uid(number))


@pytest.mark.parametrize(
    ("status", "shown"),
    [("idle", "idle"), ("dnd", "dnd"), ("offline", "offline"), ("invisible", "offline")],
)
async def test_presence(joined: Any, status: str, shown: str) -> None:  # noqa: ANN401
    """A new status goes out alone; invisible is offline."""
    core = await joined()
    await core.happen("PRESENCE_UPDATE", say.presence(1, status, say.GUILD_ID))
    assert await core.heard() == [changed(1, status=shown)]
    assert (await core.users())[say.uid(1)].status == shown


async def test_presence_that_changes_nothing(joined: Any) -> None:  # noqa: ANN401
    """A presence with another game, or from another device, is no news."""
    core = await joined()
    gaming = say.presence(1, "online", say.GUILD_ID)
    gaming["activities"] = [{"name": "Chess", "type": 0, "created_at": 1, "id": "x"}]
    gaming["client_status"] = {"mobile": "online"}
    await core.happen("PRESENCE_UPDATE", gaming)
    await core.happen("PRESENCE_UPDATE", say.presence(12345, "online", say.GUILD_ID))
    assert await core.heard() == []


async def test_nick(joined: Any) -> None:  # noqa: ANN401
    """A new nick goes out; without one the global name is shown, without that the user's."""
    core = await joined()
    await core.happen("GUILD_MEMBER_UPDATE", update(BOB, nick="Bobby"))
    await core.happen("GUILD_MEMBER_UPDATE", update(BOB, nick=None))
    nameless = update(BOB, user=say.user(say.uid(2), "bob"))
    await core.happen("GUILD_MEMBER_UPDATE", nameless)
    assert await core.heard() == [
        changed(2, username="Bobby"),
        changed(2, username="Bob"),
        changed(2, username="bob"),
    ]


async def test_member_update_that_changes_nothing(joined: Any) -> None:  # noqa: ANN401
    """A time-out, an avatar or a colourless role is no news."""
    core = await joined()
    await core.happen(
        "GUILD_MEMBER_UPDATE",
        update(BOB, avatar="abc", roles=[QUIET], communication_disabled_until="2099-01-01T00:00Z"),
    )
    assert await core.heard() == []


async def test_global_name_in_every_guild(begin: Begin, loopback: Loopback) -> None:
    """A new global name that one guild tells of is shown in every guild of that user."""
    other = "400000000000000001"
    loopback.guilds = [club(), say.guild(other, "The Other", members=[BOB, EVE])]
    core = await begin()
    await until(lambda: Reload(server_id=other) in core.events)
    await core.whole()
    renamed = say.user(say.uid(2), "bob", global_name="Robert")
    await core.happen("GUILD_MEMBER_UPDATE", update(BOB, user=renamed))
    assert await core.heard() == [
        changed(2, username="Robert"),
        UserChanged(server_id=other, uid=say.uid(2), username="Robert"),
    ]


async def test_role_given(joined: Any) -> None:  # noqa: ANN401
    """A coloured role given or taken changes the colour; the highest coloured one counts."""
    core = await joined()
    await core.happen("GUILD_MEMBER_UPDATE", update(BOB, roles=[BLUE]))
    await core.happen("GUILD_MEMBER_UPDATE", update(ADA, roles=[BLUE]))
    await core.happen("GUILD_MEMBER_UPDATE", update(ADA, roles=[]))
    assert await core.heard() == [
        changed(2, role_color="#0000ff"),
        changed(1, role_color="#0000ff"),
        changed(1, role_color="#ffffff"),
    ]


async def test_role_recoloured(joined: Any) -> None:  # noqa: ANN401
    """A role's new colour recolours those who show it."""
    core = await joined()
    role = say.role(RED, "red", color=0x00AA00, position=3)
    await core.happen("GUILD_ROLE_UPDATE", {"guild_id": say.GUILD_ID, "role": role})
    assert await core.heard() == [changed(1, role_color="#00aa00")]


async def test_roles_reordered(joined: Any) -> None:  # noqa: ANN401
    """When another coloured role comes to stand above, its colour is shown."""
    core = await joined()
    for role_id, name, color, position in ((BLUE, "blue", 0xFF, 3), (RED, "red", 0xFF0000, 2)):
        role = say.role(role_id, name, color=color, position=position)
        await core.happen("GUILD_ROLE_UPDATE", {"guild_id": say.GUILD_ID, "role": role})
    assert await core.heard() == [changed(1, role_color="#0000ff")]


async def test_role_deleted(joined: Any) -> None:  # noqa: ANN401
    """Without their highest coloured role members show the next one's colour."""
    core = await joined()
    await core.happen("GUILD_ROLE_DELETE", {"guild_id": say.GUILD_ID, "role_id": RED})
    assert await core.heard() == [changed(1, role_color="#0000ff")]


async def test_many_recoloured(begin: Begin, loopback: Loopback) -> None:
    """A role of very many members is one reload instead of an event for each."""
    crowd = [say.member(number, f"user{number}", roles=(RED,)) for number in range(100, 1300)]
    loopback.guilds = [
        say.guild(
            members=[EVE, *crowd],
            roles=[say.role(RED, "red", color=0xFF0000)],
        )
    ]
    core = await begin()
    await core.whole()
    role = say.role(RED, "red", color=0x00AA00)
    await core.happen("GUILD_ROLE_UPDATE", {"guild_id": say.GUILD_ID, "role": role})
    await until(lambda: Reload(server_id=say.GUILD_ID) in core.events)
    assert len(core.events) == 1001
    colors = {user.role_color for user in (await core.users()).values()}
    assert colors == {"#00aa00", "#ffffff"}


async def test_join(joined: Any) -> None:  # noqa: ANN401
    """A new member goes out with everything that is shown."""
    core = await joined()
    newcomer = say.member(7, "gus", roles=(BLUE,)) | {"guild_id": say.GUILD_ID}
    await core.happen("GUILD_MEMBER_ADD", newcomer)
    assert await core.heard() == [
        changed(7, username="gus", status="offline", role_color="#0000ff")
    ]


async def test_leave(joined: Any) -> None:  # noqa: ANN401
    """Who leaves is removed."""
    core = await joined()
    await core.happen("GUILD_MEMBER_REMOVE", {"guild_id": say.GUILD_ID, "user": BOB["user"]})
    assert await core.heard() == [removed(2)]
    assert say.uid(2) not in await core.users()


async def test_ban(joined: Any) -> None:  # noqa: ANN401
    """Who is banned is removed once: Discord tells of the ban and of the leave."""
    core = await joined()
    ban = {"guild_id": say.GUILD_ID, "user": BOB["user"]}
    await core.happen("GUILD_BAN_ADD", ban)
    await core.happen("GUILD_MEMBER_REMOVE", ban)
    assert await core.heard() == [removed(2)]


async def test_ignore_users(joined: Any) -> None:  # noqa: ANN401
    """An ignored user is not there, and has no events."""
    core = await joined(ignore_users=frozenset({say.uid(2)}))
    assert say.uid(2) not in await core.users()
    await core.happen("PRESENCE_UPDATE", say.presence(2, "dnd", say.GUILD_ID))
    await core.happen("GUILD_MEMBER_REMOVE", {"guild_id": say.GUILD_ID, "user": BOB["user"]})
    assert await core.heard() == []


async def test_opt_out(joined: Any) -> None:  # noqa: ANN401
    """Who takes the role disappears at once, and comes back whole without it."""
    core = await joined(opt_out_role="quiet")
    await core.happen("GUILD_MEMBER_UPDATE", update(BOB, roles=[QUIET]))
    assert await core.heard() == [removed(2)]
    await core.happen("GUILD_MEMBER_UPDATE", update(BOB, roles=[]))
    assert await core.heard() == [changed(2, username="Bob", status="idle", role_color="#ffffff")]


async def test_opt_out_role_by_its_new_name(joined: Any) -> None:  # noqa: ANN401
    """A role that is given the name of the opt-out role hides its members."""
    core = await joined(opt_out_role="hidden")
    role = say.role(RED, "hidden", color=0xFF0000, position=3)
    await core.happen("GUILD_ROLE_UPDATE", {"guild_id": say.GUILD_ID, "role": role})
    assert await core.heard() == [removed(1)]


@pytest.mark.parametrize("named", ["red", RED])
async def test_roles(joined: Any, named: str) -> None:  # noqa: ANN401
    """Only members with one of the roles are shown, as they get it and lose it."""
    core = await joined(roles=frozenset({named, say.uid(99), "@everyone2", "quiet"}))
    assert set(await core.users()) == {say.uid(1)}
    await core.happen("GUILD_MEMBER_UPDATE", update(EVE, roles=[QUIET]))
    await core.happen("GUILD_MEMBER_UPDATE", update(BOB, roles=[RED]))
    await core.happen("GUILD_MEMBER_UPDATE", update(BOB, roles=[]))
    assert await core.heard() == [
        changed(2, username="Bob", status="idle", role_color="#ff0000"),
        removed(2),
    ]


async def test_ignore_offline(joined: Any) -> None:  # noqa: ANN401
    """Offline members are left out; going offline is sent as a status, coming online as a whole
    user."""
    core = await joined(ignore_offline=True)
    assert set(await core.users()) == {say.uid(1), say.uid(2)}
    await core.happen("PRESENCE_UPDATE", say.presence(2, "offline", say.GUILD_ID))
    await core.happen("PRESENCE_UPDATE", say.presence(2, "idle", say.GUILD_ID))
    assert await core.heard() == [
        changed(2, status="offline"),
        changed(2, username="Bob", status="idle", role_color="#ffffff"),
    ]


async def test_ignore_offline_and_leave(joined: Any) -> None:  # noqa: ANN401
    """A member who was passed on as offline is removed when they leave; another one is not."""
    core = await joined(ignore_offline=True)
    await core.happen("PRESENCE_UPDATE", say.presence(2, "offline", say.GUILD_ID))
    for number, name in ((2, "bob"), (5, "robot")):
        gone = {"guild_id": say.GUILD_ID, "user": say.user(say.uid(number), name)}
        await core.happen("GUILD_MEMBER_REMOVE", gone)
    assert await core.heard() == [changed(2, status="offline"), removed(2)]


async def test_update_of_an_unknown_member(joined: Any) -> None:  # noqa: ANN401
    """A member whom Discord tells of only by an update is shown, with the next presence, too."""
    core = await joined()
    await core.happen("GUILD_MEMBER_UPDATE", update(say.member(7, "gus")))
    await core.happen("PRESENCE_UPDATE", say.presence(7, "idle", say.GUILD_ID))
    assert await core.heard() == [
        changed(7, username="gus", status="offline", role_color="#ffffff"),
        changed(7, status="idle"),
    ]


async def test_presence_before_a_new_member(joined: Any) -> None:  # noqa: ANN401
    """A presence that comes just before its member counts; one of long before does not."""
    core = await joined()
    for number, wait, status in ((7, 1, "dnd"), (8, 60, "offline")):
        await core.happen("PRESENCE_UPDATE", say.presence(number, "dnd", say.GUILD_ID))
        assert await core.heard() == []
        await core.clock.advance(wait)
        newcomer = say.member(number, "new") | {"guild_id": say.GUILD_ID}
        await core.happen("GUILD_MEMBER_ADD", newcomer)
        shown = changed(number, username="new", status=status, role_color="#ffffff")
        assert await core.heard() == [shown]


@pytest.mark.parametrize("blank", ["   ", "\u2800\u3164", "\u200b\u200d", ""])
async def test_blank_name(joined: Any, blank: str) -> None:  # noqa: ANN401
    """A nick of blanks only gives way to the global name, that to the user's name."""
    core = await joined()
    await core.happen("GUILD_MEMBER_UPDATE", update(BOB, nick="Bobby"))
    await core.happen("GUILD_MEMBER_UPDATE", update(BOB, nick=blank))
    nameless = say.user(say.uid(2), "bob", global_name=blank)
    await core.happen("GUILD_MEMBER_UPDATE", update(BOB, nick=blank, user=nameless))
    assert await core.heard() == [
        changed(2, username="Bobby"),
        changed(2, username="Bob"),
        changed(2, username="bob"),
    ]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, True),
        ({"bots": False}, False),
        ({"bots": True}, True),
        ({"bot_members": False}, False),
        ({"bots": False, "bot_members": True}, True),
    ],
)
async def test_bots(joined: Any, options: dict[str, bool], *, shown: bool) -> None:  # noqa: ANN401
    """Bots are shown unless an option hides them, the bot of d-back itself included."""
    core = await joined(**options)
    users = await core.users()
    assert (say.uid(5) in users) == (say.BOT_ID in users) == shown
    assert say.uid(1) in users
