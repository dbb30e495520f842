"""Makes readable text of a message of Discord."""

import re
from datetime import UTC, datetime

import discord

from d_back_discord.channels import Audience
from d_back_discord.members import Rules

HIDDEN_MEMBER = "@someone"
"""Shown instead of a member who is hidden."""
HIDDEN_CHANNEL = "#private"
"""Shown instead of a channel that is not for everyone."""

TABS = {
    "browse": "Browse Channels",
    "customize": "Channels & Roles",
    "guide": "Server Guide",
    "home": "Server Guide",
    "linked-roles": "Linked Roles",
}
"""Links to parts of Discord's own client, and their names there. Others stay as they are."""

_MARK = re.compile(
    r"<(?:"
    r"(?P<kind>@!?|@&|#)(?P<id>[0-9]{15,20})"
    r"|a?:(?P<emoji>\w+):[0-9]+"
    r"|id:(?P<tab>[a-z-]+)(?::[0-9]+)?"
    r"|sound:(?:[0-9]+:)?(?P<sound>[0-9]+)"
    r"|/(?P<command>[^:<>]+):[0-9]+"
    r"|t:(?P<time>-?[0-9]{1,12})(?::[tTdDfFRsS])?"
    r")>"
)


def readable(message: discord.Message, rules: Rules, audience: Audience) -> str:
    """Return the text as Discord's own client shows it, without the names of members who are
    hidden and of channels that are not for everyone. Emoji are ``:name:``, times in UTC,
    attachments and stickers their names, a poll its question and answers, and a forwarded message
    its text."""

    def clean(text: str) -> str:
        guild = message.guild
        if guild is not None:
            text = _MARK.sub(lambda mark: _replaced(mark, message, guild, rules, audience), text)
        return discord.utils.escape_mentions(text).strip()

    parts = [clean(message.content), *_attached(message)]
    if message.poll is not None:
        answers = " / ".join(clean(answer.text) for answer in message.poll.answers)
        parts += ["[poll]", clean(message.poll.question), f"({answers})"]
    for forwarded in message.message_snapshots:
        parts += ["[forwarded]", clean(forwarded.content), *_attached(forwarded)]
    return " ".join(part for part in parts if part)


def _attached(message: discord.Message | discord.MessageSnapshot) -> list[str]:
    names = [each.filename for each in message.attachments]
    names += [sticker.name for sticker in message.stickers]
    return [f"[{name}]" for name in names]


def _replaced(
    mark: re.Match[str],
    message: discord.Message,
    guild: discord.Guild,
    rules: Rules,
    audience: Audience,
) -> str:
    if mark["emoji"]:
        return f":{mark['emoji']}:"
    if mark["tab"]:
        return TABS.get(mark["tab"], mark["tab"])
    if mark["sound"]:
        sound = guild.get_soundboard_sound(int(mark["sound"]))
        return "[sound]" if sound is None else f"[sound {sound.name}]"
    if mark["command"]:
        return f"/{mark['command']}"
    if mark["time"]:
        return _time(mark)
    named = int(mark["id"])
    if mark["kind"] == "@&":
        role = guild.get_role(named)
        return f"@{role.name}" if role is not None else "@deleted-role"
    if mark["kind"] == "#":
        channel = guild.get_channel_or_thread(named)
        if channel is None:
            return "#deleted-channel"
        return f"#{channel.name}" if audience.everyone_reads(channel) else HIDDEN_CHANNEL
    return _person(named, message, guild, rules)


def _person(named: int, message: discord.Message, guild: discord.Guild, rules: Rules) -> str:
    member = guild.get_member(named)
    if member is not None:
        return HIDDEN_MEMBER if rules.hides(member) else f"@{member.display_name}"
    user = discord.utils.get(message.mentions, id=named)
    return f"@{user.display_name}" if user is not None else "@deleted-user"


def _time(mark: re.Match[str]) -> str:
    try:
        return datetime.fromtimestamp(int(mark["time"]), UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):  # a year that no calendar has
        return mark[0]
