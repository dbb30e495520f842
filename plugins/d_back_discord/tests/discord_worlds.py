"""Guilds that several tests use."""

import discord_payloads as say

GENERAL, SECRET, ADULT = say.snowflake(11), say.snowflake(12), say.snowflake(13)
LOUNGE, VIP, FORUM = say.snowflake(14), say.snowflake(15), say.snowflake(16)
TOPIC, POST = say.snowflake(21), say.snowflake(22)
WHISPER, HUSHED = say.snowflake(23), say.snowflake(24)
RED, BLUE, QUIET = say.snowflake(1), say.snowflake(2), say.snowflake(3)

ADA = say.member(1, "ada", nick="Ada L.", roles=(RED, BLUE))
BOB = say.member(2, "bob", global_name="Bob")
ROBOT = say.member(5, "robot", bot=True)
EVE = say.member(99, "eve")


def club(**changes: object) -> say.Payload:
    """Ada (red above blue), Bob, a robot, and Eve; channels of every kind."""
    return say.guild(
        members=[ADA, BOB, ROBOT, EVE, say.bot_member()],
        presences=[say.presence(1, "online"), say.presence(2, "idle")],
        roles=[
            say.role(RED, "red", color=0xFF0000, position=3),
            say.role(BLUE, "blue", color=0x0000FF, position=2),
            say.role(QUIET, "quiet", position=1),
        ],
        channels=[
            say.channel(GENERAL, "general"),
            say.channel(SECRET, "secret", hidden=True),
            say.channel(ADULT, "adult", nsfw=True),
            say.channel(LOUNGE, "lounge", kind=say.VOICE),
            say.channel(VIP, "vip", kind=say.VOICE, closed=True),
            say.channel(FORUM, "ideas", kind=say.FORUM),
        ],
        threads=[
            say.thread(TOPIC, "a topic", GENERAL),
            say.thread(POST, "an idea", FORUM),
            say.thread(WHISPER, "whisper", GENERAL, private=True),
            say.thread(HUSHED, "hushed", SECRET),
        ],
    ) | dict(changes)


def update(member: say.Payload, **changes: object) -> say.Payload:
    """GUILD_MEMBER_UPDATE: the member as it is now, without what only a guild's own object
    has."""
    kept = {key: value for key, value in member.items() if key not in {"deaf", "mute"}}
    return kept | {"guild_id": say.GUILD_ID} | changes
