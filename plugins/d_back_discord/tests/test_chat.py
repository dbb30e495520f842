"""Which messages pass, and which part of them."""

from datetime import UTC, datetime
from typing import Any

import discord_payloads as say
import pytest
from discord.utils import snowflake_time
from discord_core import Begin, Core
from discord_loopback import Loopback
from discord_worlds import (
    ADA,
    ADULT,
    BOB,
    EVE,
    FORUM,
    GENERAL,
    HUSHED,
    LOUNGE,
    POST,
    QUIET,
    RED,
    ROBOT,
    SECRET,
    TOPIC,
    VIP,
    WHISPER,
    club,
)

from d_back_core import Message, MessageDeleted, MessageEdited


@pytest.fixture
def spoken(begin: Begin, loopback: Loopback) -> Any:  # noqa: ANN401  a function
    """What passes of these messages in the club."""

    async def spoken(*messages: say.Payload, **options: Any) -> list[tuple[str, str, str | None]]:  # noqa: ANN401
        loopback.guilds = [options.pop("guild", None) or club()]
        core: Core = await begin(**options)
        await core.whole()
        for message in messages:
            await core.happen("MESSAGE_CREATE", message)
        heard = await core.heard()
        assert all(isinstance(each, Message) for each in heard)
        return [
            (each.message, each.channel, each.channel_name)
            for each in heard
            if isinstance(each, Message)
        ]

    return spoken


async def texts(spoken: Any, content: str, **options: Any) -> list[str]:  # noqa: ANN401
    return [text for text, _, _ in await spoken(say.message(ADA, content, GENERAL, **options))]


async def test_message(begin: Begin, loopback: Loopback) -> None:
    """A message goes out with its author, and its channel by id and by name."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await core.happen("MESSAGE_CREATE", say.message(ADA, "Hello!", GENERAL))
    assert await core.heard() == [
        Message(
            server_id=say.GUILD_ID,
            uid=say.uid(1),
            message="Hello!",
            channel=GENERAL,
            channel_name="general",
            id=say.message(ADA, "", GENERAL)["id"],
            at=snowflake_time(900_000_000_000_000_001),
        )
    ]


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (f"<@{say.uid(1)}> and <@!{say.uid(2)}>", "@Ada L. and @Bob"),
        (f"<@{say.uid(404)}>", "@deleted-user"),
        (f"<@&{RED}>, <@&{say.snowflake(404)}>", "@red, @deleted-role"),
        (f"see <#{GENERAL}> or <#{TOPIC}>", "see #general or #a topic"),
        (f"<#{SECRET}>, <#{HUSHED}>, <#{WHISPER}>", "#private, #private, #private"),
        (f"<#{say.snowflake(404)}>", "#deleted-channel"),
        ("<:wave:123456789012345678> <a:party:123456789012345678>", ":wave: :party:"),
        ("</zone map:123456789012345678>", "/zone map"),
        ("<t:0:R>, <t:1700000000>", "1970-01-01 00:00 UTC, 2023-11-14 22:13 UTC"),
        ("<t:999999999999>", "<t:999999999999>"),
        ("@everyone", "@\u200beveryone"),
        ("a < b > c, <3 👋", "a < b > c, <3 👋"),
    ],
)
async def test_readable(spoken: Any, content: str, shown: str) -> None:  # noqa: ANN401
    """Discord's marks are shown as people read them, and nothing that is not for everyone."""
    assert await texts(spoken, content) == [shown]


async def test_mention_of_a_member_who_left(spoken: Any) -> None:  # noqa: ANN401
    """A mention of a user who is no member has the name that came with the message."""
    gone = say.user(say.uid(404), "zoe", global_name="Zoe")
    assert await texts(spoken, f"<@{say.uid(404)}>", mentions=[gone]) == ["@Zoe"]


async def test_mention_of_a_hidden_member(spoken: Any) -> None:  # noqa: ANN401
    """The name of a member who opted out is not shown in what others say."""
    hidden = say.member(2, "bob", global_name="Bob", roles=(QUIET,))
    world = club(members=[ADA, hidden, EVE], member_count=3)
    said = say.message(ADA, f"Hi <@{say.uid(2)}>", GENERAL)
    assert await spoken(said, guild=world, opt_out_role="quiet") == [
        ("Hi @someone", GENERAL, "general")
    ]


async def test_attachments(spoken: Any) -> None:  # noqa: ANN401
    """Attachments and stickers are named; a message that is nothing else passes too."""
    said = say.message(ADA, "Look:", GENERAL, attachments=["cat.png", "dog.png"])
    bare = say.message(ADA, "", GENERAL, attachments=["cat.png"])
    sticker = say.message(ADA, "", GENERAL) | {
        "sticker_items": [{"id": say.snowflake(70), "name": "Wumpus", "format_type": 1}]
    }
    assert [text for text, _, _ in await spoken(said, bare, sticker)] == [
        "Look: [cat.png] [dog.png]",
        "[cat.png]",
        "[Wumpus]",
    ]


async def test_empty(spoken: Any) -> None:  # noqa: ANN401
    """A message without anything to read (an embed alone) does not pass."""
    embed = say.message(ADA, "", GENERAL) | {"embeds": [{"type": "rich", "title": "x"}]}
    assert await spoken(embed) == []


async def test_places(spoken: Any) -> None:  # noqa: ANN401
    """Threads and a forum's posts are heard in their channel, and voice channels have chat."""
    said = [say.message(ADA, "hi", where) for where in (TOPIC, POST, LOUNGE)]
    assert await spoken(*said) == [
        ("hi", GENERAL, "general"),
        ("hi", FORUM, "ideas"),
        ("hi", LOUNGE, "lounge"),
    ]


@pytest.mark.parametrize("where", [SECRET, HUSHED, WHISPER, ADULT, VIP, say.snowflake(404)])
async def test_private(spoken: Any, where: str) -> None:  # noqa: ANN401
    """Nothing passes from where @everyone may not read, nor from where Discord asks for an
    age, nor from a channel that is not known."""
    assert await spoken(say.message(ADA, "hush", where)) == []


async def test_channel_becomes_private(begin: Begin, loopback: Loopback) -> None:
    """A channel that is closed to everyone is silent from that moment."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    closed = say.channel(GENERAL, "general", hidden=True) | {"guild_id": say.GUILD_ID}
    await core.happen("CHANNEL_UPDATE", closed)
    await core.happen("MESSAGE_CREATE", say.message(ADA, "hush", GENERAL))
    assert await core.heard() == []


async def test_listen_channels(spoken: Any) -> None:  # noqa: ANN401
    """Only the listed channels pass, private ones and their threads too; of private threads
    those that are listed themselves."""
    said = [say.message(ADA, "hi", where) for where in (GENERAL, SECRET, HUSHED, WHISPER, LOUNGE)]
    heard = await spoken(*said, listen_channels=frozenset({"secret", LOUNGE}))
    assert [channel for _, channel, _ in heard] == [SECRET, SECRET, LOUNGE]


async def test_listen_to_a_private_thread(spoken: Any) -> None:  # noqa: ANN401
    """The channel's name opens none of its private threads, a thread's own name does."""
    said = say.message(ADA, "hi", WHISPER)
    assert await spoken(said, listen_channels=frozenset({"general"})) == []
    assert await spoken(said, listen_channels=frozenset({"whisper"})) == [
        ("hi", GENERAL, "general")
    ]


@pytest.mark.parametrize("named", ["general", GENERAL])
async def test_ignore_channels(spoken: Any, named: str) -> None:  # noqa: ANN401
    """An ignored channel and its threads do not pass."""
    said = [say.message(ADA, "hi", where) for where in (GENERAL, TOPIC, POST)]
    heard = await spoken(*said, ignore_channels=frozenset({named}))
    assert [channel for _, channel, _ in heard] == [FORUM]


async def test_activity(spoken: Any) -> None:  # noqa: ANN401
    """With ``activity`` only the fact that a member writes passes."""
    said = say.message(ADA, "a secret", GENERAL)
    assert await spoken(said, chat="activity") == [("…", GENERAL, "general")]


async def test_activity_without_content(spoken: Any) -> None:  # noqa: ANN401
    """Without the intent Discord sends no content, and the fact that a member writes passes."""
    assert await spoken(say.message(ADA, "", GENERAL), chat="activity") == [
        ("…", GENERAL, "general")
    ]


async def test_off(spoken: Any) -> None:  # noqa: ANN401
    """With ``off`` nothing passes."""
    assert await spoken(say.message(ADA, "hi", GENERAL), chat="off") == []


async def test_bots(spoken: Any) -> None:  # noqa: ANN401
    """Other bots are heard only where the operator says so; our own never."""
    said = [
        say.message(ROBOT, "beep", GENERAL),
        say.message(say.bot_member(), "https://example.org", GENERAL),
    ]
    assert await spoken(*said) == []
    assert await spoken(*said, bots=True) == [("beep", GENERAL, "general")]


async def test_webhook(spoken: Any) -> None:  # noqa: ANN401
    """A webhook is no member: what it says does not pass."""
    hook = say.user(say.snowflake(999), "hook")
    assert await spoken(say.message(hook, "hi", GENERAL, webhook=True), bots=True) == []


async def test_direct_message(spoken: Any) -> None:  # noqa: ANN401
    """What is said to the bot alone does not pass."""
    said = say.message(BOB["user"], "psst", say.snowflake(77), guild_id=None)
    assert await spoken(said) == []


async def test_system_message(spoken: Any) -> None:  # noqa: ANN401
    """What Discord itself writes (a member joined, a message was pinned) does not pass."""
    assert await spoken(*(say.message(ADA, "x", GENERAL, kind=kind) for kind in (6, 7, 8))) == []


async def test_reply(spoken: Any) -> None:  # noqa: ANN401
    """A reply is a message like another."""
    reply = say.message(ADA, "yes", GENERAL, kind=19) | {
        "message_reference": {"channel_id": GENERAL, "guild_id": say.GUILD_ID, "message_id": "1"},
        "referenced_message": None,
    }
    assert await spoken(reply) == [("yes", GENERAL, "general")]


async def test_hidden_author(spoken: Any) -> None:  # noqa: ANN401
    """What a member says who is not shown does not pass."""
    said = say.message(BOB, "hi", GENERAL)
    assert await spoken(said, ignore_users=frozenset({say.uid(2)})) == []


async def test_message_before_the_guild_is_whole(begin: Begin, loopback: Loopback) -> None:
    """Chat of a guild whose users are not known yet does not pass."""
    loopback.guilds = [club(member_count=300)]
    loopback.hold_members = True
    core = await begin()
    await core.loopback.dispatch("MESSAGE_CREATE", say.message(ADA, "hi", GENERAL))
    await loopback.release_members()
    await core.whole()
    assert await core.heard() == []


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("read the <id:guide>", "read the Server Guide"),
        ("<id:customize> or <id:browse>", "Channels & Roles or Browse Channels"),
        ("<id:linked-roles:300000000000000001>", "Linked Roles"),
        ("<id:something-new>", "something-new"),
        ("<sound:0:7>", "[sound]"),
        (f"<sound:{say.GUILD_ID}:300000000000000077>", "[sound quack]"),
    ],
)
async def test_marks_of_the_client(spoken: Any, content: str, shown: str) -> None:  # noqa: ANN401
    """Links to parts of Discord's client and to sounds become readable."""
    sound = {
        "name": "quack",
        "sound_id": "300000000000000077",
        "volume": 1.0,
        "emoji_id": None,
        "emoji_name": None,
        "guild_id": say.GUILD_ID,
        "available": True,
    }
    said = say.message(ADA, content, GENERAL)
    heard = await spoken(said, guild=club(soundboard_sounds=[sound]))
    assert [text for text, _, _ in heard] == [shown]


async def test_poll(spoken: Any) -> None:  # noqa: ANN401
    """A poll is its question and its answers."""
    poll = {
        "question": {"text": "Tea?"},
        "answers": [
            {"answer_id": 1, "poll_media": {"text": "yes"}},
            {"answer_id": 2, "poll_media": {"text": "no"}},
        ],
        "expiry": "2099-01-01T00:00:00+00:00",
        "allow_multiselect": False,
        "layout_type": 1,
    }
    said = say.message(ADA, "", GENERAL) | {"poll": poll}
    assert [text for text, _, _ in await spoken(said)] == ["[poll] Tea? (yes / no)"]


async def test_forwarded(spoken: Any) -> None:  # noqa: ANN401
    """A forwarded message says what it says, with names replaced as in any other."""
    original = say.message(BOB, f"see <#{SECRET}>", SECRET, attachments=["a.png"])
    snapshot = {
        key: original[key]
        for key in ("content", "embeds", "attachments", "timestamp", "edited_timestamp", "flags")
    }
    said = say.message(ADA, "", GENERAL) | {
        "message_reference": {"type": 1, "channel_id": SECRET, "message_id": original["id"]},
        "message_snapshots": [{"message": snapshot | {"mentions": [], "type": 0}}],
    }
    assert [text for text, _, _ in await spoken(said)] == ["[forwarded] see #private [a.png]"]


@pytest.mark.parametrize(("level", "passes"), [(0, True), (1, False), (2, True), (3, False)])
async def test_age_restricted_guild(spoken: Any, level: int, *, passes: bool) -> None:  # noqa: ANN401
    """The chat of a guild for which Discord asks for an age does not pass."""
    heard = await spoken(say.message(ADA, "hi", GENERAL), guild=club(nsfw_level=level))
    assert bool(heard) == passes


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({}, False),
        ({"bots": True}, True),
        ({"bot_chat": True}, True),
        ({"bots": True, "bot_chat": False}, False),
        ({"bot_chat": True, "bot_members": False}, False),
    ],
)
async def test_words_of_bots(spoken: Any, options: dict[str, bool], *, passes: bool) -> None:  # noqa: ANN401
    """Chat of bots passes only with an option, and only if they are shown."""
    assert bool(await spoken(say.message(ROBOT, "beep", GENERAL), **options)) == passes


EDITED = {"edited_timestamp": "2024-05-06T07:09:09.000000+00:00"}
FIRST = say.message(ADA, "", GENERAL)["id"]


async def said_before(begin: Begin, loopback: Loopback, **options: Any) -> Core:  # noqa: ANN401
    """Ada has said something in #general."""
    loopback.guilds = [club()]
    core = await begin(**options)
    await core.whole()
    await core.happen("MESSAGE_CREATE", say.message(ADA, "Helo!", GENERAL))
    await core.heard()
    return core


async def test_edit(begin: Begin, loopback: Loopback) -> None:
    """A new text goes out once; the preview of a link is no edit."""
    core = await said_before(begin, loopback)
    await core.happen("MESSAGE_UPDATE", say.message(ADA, "Helo!", GENERAL))
    for _ in range(2):
        await core.happen("MESSAGE_UPDATE", say.message(ADA, "Hello!", GENERAL) | EDITED)
    assert await core.heard() == [
        MessageEdited(
            server_id=say.GUILD_ID,
            uid=say.uid(1),
            message="Hello!",
            channel=GENERAL,
            channel_name="general",
            id=FIRST,
            at=datetime(2024, 5, 6, 7, 9, 9, tzinfo=UTC),
        )
    ]


async def test_edit_without_text(begin: Begin, loopback: Loopback) -> None:
    """With ``chat = "activity"`` an edit changes nothing, a deletion does."""
    core = await said_before(begin, loopback, chat="activity")
    await core.happen("MESSAGE_UPDATE", say.message(ADA, "Hello!", GENERAL) | EDITED)
    assert await core.heard() == []


async def test_edit_of_hidden_author(begin: Begin, loopback: Loopback) -> None:
    """The message of a member who has opted out since is deleted with the edit."""
    core = await said_before(begin, loopback, opt_out_role="quiet")
    quiet = say.member(1, "ada", roles=(QUIET,))
    await core.happen("MESSAGE_UPDATE", say.message(quiet, "Hello!", GENERAL) | EDITED)
    assert await core.heard() == [gone()]


def gone(message_id: str = FIRST, channel: str = GENERAL, name: str = "general") -> MessageDeleted:
    return MessageDeleted(
        server_id=say.GUILD_ID, channel=channel, channel_name=name, id=message_id
    )


def deletion(channel_id: str, *ids: str) -> say.Payload:
    chosen = {"ids": list(ids)} if len(ids) > 1 else {"id": ids[0]}
    return {"guild_id": say.GUILD_ID, "channel_id": channel_id} | chosen


async def test_delete(begin: Begin, loopback: Loopback) -> None:
    """A deleted message is gone, also one of before the start; one in a channel that is not for
    everyone is not told of."""
    core = await said_before(begin, loopback)
    await core.happen("MESSAGE_DELETE", deletion(GENERAL, FIRST))
    await core.happen("MESSAGE_DELETE", deletion(GENERAL, "77"))
    await core.happen("MESSAGE_DELETE", deletion(SECRET, "78"))
    assert await core.heard() == [gone(), gone("77")]


async def test_delete_many(begin: Begin, loopback: Loopback) -> None:
    """Messages that are deleted together, as with a ban, are gone; one of a thread is one of its
    channel."""
    core = await said_before(begin, loopback)
    await core.happen("MESSAGE_DELETE_BULK", deletion(TOPIC, "78", "77"))
    assert await core.heard() == [gone("77"), gone("78")]


async def test_delete_in_a_channel_that_is_hidden_now(begin: Begin, loopback: Loopback) -> None:
    """A message that has passed is deleted, whatever has become of its channel."""
    core = await said_before(begin, loopback)
    hidden = say.channel(GENERAL, "general", hidden=True) | {"guild_id": say.GUILD_ID}
    await core.happen("CHANNEL_UPDATE", hidden)
    await core.happen("MESSAGE_DELETE", deletion(GENERAL, FIRST))
    assert await core.heard() == [gone()]
