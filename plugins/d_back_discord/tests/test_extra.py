"""Extra texts of members: nothing by default, and only what the operator names."""

from typing import Any

import discord_payloads as say
import pytest
from discord_core import Begin, Core
from discord_loopback import Loopback
from discord_worlds import BOB, club, update

from d_back_core import UNSET, UserChanged

GAME = {"name": "Chess", "type": 0, "created_at": 1, "id": "x"}
CUSTOM = {
    "name": "Custom Status",
    "type": 4,
    "state": "reading",
    "emoji": {"name": "📖"},
    "created_at": 1,
    "id": "custom",
}
SONG = {
    "name": "Spotify",
    "type": 2,
    "details": "Blue",
    "state": "Ann; Ben",
    "created_at": 1,
    "id": "spotify:1",
    "sync_id": "1",
    "session_id": "1",
    "flags": 48,
    "party": {"id": "spotify:1"},
    "assets": {"large_text": "Album"},
    "timestamps": {"start": 1, "end": 2},
}


async def joined(begin: Begin, loopback: Loopback, *keys: str) -> Core:
    loopback.guilds = [club()]
    core = await begin(extra=frozenset(keys))
    await core.whole()
    return core


def doing(*activities: Any) -> say.Payload:  # noqa: ANN401
    presence = say.presence(1, "online", say.GUILD_ID)
    return presence | {"activities": list(activities)}


async def test_nothing_by_default(begin: Begin, loopback: Loopback) -> None:
    """Without the option there is nothing, and another activity is no event."""
    core = await joined(begin, loopback)
    assert {user.extra for user in (await core.users()).values()} == {UNSET}
    await core.happen("PRESENCE_UPDATE", doing(GAME))
    assert await core.heard() == []


@pytest.mark.parametrize(
    ("activities", "shown"),
    [
        ([GAME], "Chess"),
        ([GAME, CUSTOM], "📖 reading"),
        ([SONG], "Blue - Ann; Ben"),
        ([CUSTOM | {"state": None, "emoji": {"name": "wave", "id": "1"}}], ":wave:"),
        ([GAME | {"name": "x" * 300}], "x" * 256),
    ],
)
async def test_activity(
    begin: Begin, loopback: Loopback, activities: list[say.Payload], shown: str
) -> None:
    """A custom status comes before a game or a song; without any of them the text is gone."""
    core = await joined(begin, loopback, "activity")
    await core.happen("PRESENCE_UPDATE", doing(*activities))
    await core.happen("PRESENCE_UPDATE", doing())
    assert await core.heard() == [
        UserChanged(server_id=say.GUILD_ID, uid=say.uid(1), extra=texts)
        for texts in ({"activity": shown}, None)
    ]


async def test_avatar_and_bot(begin: Begin, loopback: Loopback) -> None:
    """An avatar is the address of a small picture, that of the guild first; bots are marked."""
    core = await joined(begin, loopback, "avatar", "bot")
    users = await core.users()
    robot = users[say.uid(5)].extra
    assert isinstance(robot, dict)
    assert robot["bot"] == "true"
    assert robot["avatar"].startswith("https://cdn.discordapp.com/embed/avatars/")
    await core.happen("GUILD_MEMBER_UPDATE", update(BOB, avatar="abc"))
    (changed,) = await core.heard()
    assert isinstance(changed, UserChanged)
    assert changed.extra == {
        "avatar": f"https://cdn.discordapp.com/guilds/{say.GUILD_ID}/users/{say.uid(2)}"
        "/avatars/abc.png?size=64"
    }
