"""Objects as Discord sends them, after its documentation of API version 10.

Whole objects, with fields that no test reads, and one that Discord may add some day.
"""

from typing import Any, TypeAlias

Payload: TypeAlias = dict[str, Any]

APPLICATION_ID = "110000000000000001"
BOT_ID = "110000000000000002"
GUILD_ID = "232769614004748288"

TEXT, VOICE, CATEGORY, STAGE, FORUM = 0, 2, 4, 13, 15
PUBLIC_THREAD, PRIVATE_THREAD = 11, 12

VIEW_CHANNEL = 1 << 10
CONNECT = 1 << 20
EVERYONE = str(VIEW_CHANNEL | CONNECT | (1 << 11) | (1 << 16))
"""See channels, connect, send messages, read the history."""


def uid(number: int) -> str:
    return str(500_000_000_000_000_000 + number)


def snowflake(number: int) -> str:
    return str(300_000_000_000_000_000 + number)


def user(user_id: str, name: str, *, global_name: str | None = None, bot: bool = False) -> Payload:
    return {
        "id": user_id,
        "username": name,
        "discriminator": "0",
        "global_name": global_name,
        "avatar": None,
        "avatar_decoration_data": None,
        "banner": None,
        "accent_color": None,
        "public_flags": 0,
        "primary_guild": None,
        "clan": None,
        "collectibles": None,
        "display_name_styles": None,
        **({"bot": True} if bot else {}),
    }


def member(
    number: int,
    name: str,
    *,
    nick: str | None = None,
    global_name: str | None = None,
    roles: tuple[str, ...] = (),
    bot: bool = False,
) -> Payload:
    return {
        "user": user(uid(number), name, global_name=global_name, bot=bot),
        "nick": nick,
        "avatar": None,
        "avatar_decoration_data": None,
        "banner": None,
        "collectibles": None,
        "roles": list(roles),
        "joined_at": "2021-03-04T05:06:07.890000+00:00",
        "premium_since": None,
        "deaf": False,
        "mute": False,
        "flags": 0,
        "pending": False,
        "communication_disabled_until": None,
        "unusual_dm_activity_until": None,
        "some_future_field": {"nested": [1]},
    }


def bot_member() -> Payload:
    it = member(0, "zone-bot", bot=True)
    it["user"]["id"] = BOT_ID
    return it


def presence(number: int, status: str, guild_id: str | None = None) -> Payload:
    """In a guild it names its guild; inside of a guild's own object it does not. Of the user
    only the id is there."""
    return {
        "user": {"id": uid(number)},
        "status": status,
        "activities": [],
        "client_status": {} if status == "offline" else {"desktop": status},
        **({} if guild_id is None else {"guild_id": guild_id}),
    }


def role(role_id: str, name: str, *, color: int = 0, position: int = 1) -> Payload:
    return {
        "id": role_id,
        "name": name,
        "description": None,
        "color": color,
        "colors": {"primary_color": color, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "icon": None,
        "unicode_emoji": None,
        "position": position,
        "permissions": EVERYONE if position == 0 else "0",
        "managed": False,
        "mentionable": False,
        "flags": 0,
        "version": 1,
    }


def channel(
    channel_id: str,
    name: str,
    *,
    kind: int = TEXT,
    hidden: bool = False,
    closed: bool = False,
    nsfw: bool = False,
    guild_id: str = GUILD_ID,
) -> Payload:
    """``hidden``: @everyone may not see it; ``closed``: see, but not connect."""
    deny = (VIEW_CHANNEL if hidden else 0) | (CONNECT if closed else 0)
    overwrites = [{"id": guild_id, "type": 0, "allow": "0", "deny": str(deny)}] if deny else []
    voice = {"bitrate": 64000, "user_limit": 0, "rtc_region": None}
    return {
        "id": channel_id,
        "type": kind,
        "name": name,
        "position": 1,
        "permission_overwrites": overwrites,
        "parent_id": None,
        "topic": None,
        "nsfw": nsfw,
        "flags": 0,
        "last_message_id": None,
        "rate_limit_per_user": 0,
        "icon_emoji": {"id": None, "name": "wave"},
        "theme_color": None,
        **(voice if kind in {VOICE, STAGE} else {}),
        **({"available_tags": [], "default_reaction_emoji": None} if kind == FORUM else {}),
    }


def thread(
    thread_id: str, name: str, parent_id: str, *, private: bool = False, guild_id: str = GUILD_ID
) -> Payload:
    return {
        "id": thread_id,
        "guild_id": guild_id,
        "parent_id": parent_id,
        "owner_id": uid(1),
        "type": PRIVATE_THREAD if private else PUBLIC_THREAD,
        "name": name,
        "last_message_id": None,
        "message_count": 0,
        "member_count": 1,
        "rate_limit_per_user": 0,
        "flags": 0,
        "total_message_sent": 0,
        "thread_metadata": {
            "archived": False,
            "archive_timestamp": "2024-05-06T07:08:09.000000+00:00",
            "auto_archive_duration": 1440,
            "locked": False,
            "create_timestamp": "2024-05-06T07:08:09.000000+00:00",
        },
    }


def guild(
    guild_id: str = GUILD_ID,
    name: str = "D-World",
    *,
    members: list[Payload],
    presences: list[Payload] | None = None,
    roles: list[Payload] | None = None,
    channels: list[Payload] | None = None,
    threads: list[Payload] | None = None,
    member_count: int | None = None,
) -> Payload:
    """Without ``unavailable``; the gateway says that."""
    everyone = role(guild_id, "@everyone", position=0)
    return {
        "id": guild_id,
        "name": name,
        "icon": None,
        "splash": None,
        "discovery_splash": None,
        "home_header": None,
        "owner_id": uid(1),
        "region": "deprecated",
        "afk_channel_id": None,
        "afk_timeout": 300,
        "widget_enabled": False,
        "widget_channel_id": None,
        "verification_level": 1,
        "default_message_notifications": 1,
        "explicit_content_filter": 2,
        "roles": [everyone, *(roles or [])],
        "emojis": [],
        "stickers": [],
        "features": ["COMMUNITY", "SOME_FUTURE_FEATURE"],
        "mfa_level": 0,
        "application_id": None,
        "system_channel_id": None,
        "system_channel_flags": 0,
        "rules_channel_id": None,
        "max_presences": None,
        "max_members": 500000,
        "vanity_url_code": None,
        "description": None,
        "banner": None,
        "premium_tier": 0,
        "premium_subscription_count": 0,
        "preferred_locale": "en-US",
        "public_updates_channel_id": None,
        "max_video_channel_users": 25,
        "max_stage_video_channel_users": 50,
        "nsfw": False,
        "nsfw_level": 0,
        "premium_progress_bar_enabled": False,
        "safety_alerts_channel_id": None,
        "incidents_data": None,
        "hub_type": None,
        "joined_at": "2020-01-02T03:04:05.678000+00:00",
        "large": (member_count or 0) > 250,
        "member_count": len(members) if member_count is None else member_count,
        "version": 1700000000000,
        "members": members,
        "presences": presences or [],
        "channels": channels or [],
        "threads": threads or [],
        "voice_states": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
        "embedded_activities": [],
        "lazy": True,
    }


def message(
    author: Payload,
    content: str,
    channel_id: str,
    *,
    guild_id: str | None = GUILD_ID,
    mentions: list[Payload] | None = None,
    attachments: list[str] | None = None,
    kind: int = 0,
    webhook: bool = False,
    message_id: int = 1,
) -> Payload:
    """By a member of the guild, who stands in it without their user; or by a user, in a direct
    message."""
    of_user = author.get("user", author)
    partial = {key: value for key, value in author.items() if key != "user"}
    return {
        "id": str(900_000_000_000_000_000 + message_id),
        "channel_id": channel_id,
        "author": of_user,
        "content": content,
        "timestamp": "2024-05-06T07:08:09.123000+00:00",
        "edited_timestamp": None,
        "tts": False,
        "mention_everyone": False,
        "mentions": mentions or [],
        "mention_roles": [],
        "mention_channels": [],
        "attachments": [
            {
                "id": snowflake(800 + number),
                "filename": name,
                "size": 1234,
                "url": f"https://cdn.discordapp.com/attachments/1/2/{name}",
                "proxy_url": f"https://media.discordapp.net/attachments/1/2/{name}",
                "content_type": "image/png",
                "flags": 0,
            }
            for number, name in enumerate(attachments or [])
        ],
        "embeds": [],
        "pinned": False,
        "type": kind,
        "flags": 0,
        "components": [],
        "nonce": "1",
        "position": 0,
        "shared_client_theme": None,
        "channel_type": 0,
        **({"webhook_id": snowflake(999)} if webhook else {}),
        **({} if guild_id is None else {"guild_id": guild_id}),
        **({} if guild_id is None or webhook else {"member": partial}),
    }


def application(flags: int) -> Payload:
    return {
        "id": APPLICATION_ID,
        "name": "zone",
        "icon": None,
        "description": "",
        "summary": "",
        "type": None,
        "is_monetized": False,
        "is_verified": False,
        "is_discoverable": True,
        "bot": user(BOT_ID, "zone-bot", bot=True),
        "bot_public": True,
        "bot_require_code_grant": False,
        "integration_types_config": {"0": {}, "1": {}},
        "verify_key": "0" * 64,
        "flags": flags,
        "flags_new": str(flags),
        "hook": True,
        "storefront_available": False,
        "redirect_uris": [],
        "interactions_endpoint_url": None,
        "role_connections_verification_url": None,
        "owner": user(uid(1), "owner"),
        "approximate_guild_count": 1,
        "approximate_user_install_count": 0,
        "explicit_content_filter": 0,
        "team": None,
    }
