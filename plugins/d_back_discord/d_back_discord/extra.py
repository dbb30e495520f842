"""Extra texts of a member: avatar, activity, and the mark of a bot."""

import discord

from d_back_discord.config import ExtraKey

AVATAR_SIZE = 64
"""Pixels."""
MAX_LENGTH = 256


def extra(member: discord.Member, keys: frozenset[ExtraKey]) -> dict[str, str] | None:
    """Return the texts of these keys; None if there are none."""
    texts: dict[str, str] = {}
    if "avatar" in keys:
        avatar = member.display_avatar.replace(size=AVATAR_SIZE, static_format="png")
        texts["avatar"] = avatar.url
    if "activity" in keys and (activity := _activity(member)):
        texts["activity"] = activity[:MAX_LENGTH]
    if "bot" in keys and member.bot:
        texts["bot"] = "true"
    return texts or None


def _activity(member: discord.Member) -> str:
    """Return the custom status, or what the member plays, listens to, watches or streams."""
    custom = [each for each in member.activities if isinstance(each, discord.CustomActivity)]
    for activity in (*custom, *member.activities):
        if text := _text(activity):
            return text
    return ""


def _text(activity: discord.activity.ActivityTypes) -> str:
    match activity:
        case discord.CustomActivity():
            emoji = activity.emoji
            symbol = "" if emoji is None else emoji.name if emoji.id is None else f":{emoji.name}:"
            return f"{symbol} {activity.name or ''}".strip()
        case discord.Spotify():
            return f"{activity.title} - {activity.artist}"
    return activity.name or ""
