"""A provider without a bot: the public widget of guilds whose owner has switched it on.

``widget.json`` has the name of the guild, and names, statuses and avatars of up to 100 members who
are online. It has no colours, no roles, no chat, and no members who are offline. The ids in it are
numbers from 0 on, and belong to another member after the next change. So a uid is made of the
name, and of the avatar if several members have the same name.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import aiohttp
import msgspec
from discord import http as discord_http
from msgspec import Meta, Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from d_back_core import UNSET, Context, Credentials, Server, Status, User, hookimpl
from d_back_discord.config import check_url

REFRESH = 60.0
"""Seconds between two requests; Discord renews the widget about every minute."""
KEPT = 5.0
"""Seconds for which an answer is used again: `servers` and `users` are asked together."""
TIMEOUT = 4.0
"""Seconds for one answer; the core waits 5 for a hook by default."""
AT_ONCE = 4
"""Requests that are under way at the same time."""
DEFAULT_PAUSE = 60.0
"""Seconds without a request after a limit without a Retry-After."""
UNKNOWN_GUILD, WIDGET_OFF = 10004, 50004
"""Discord's error codes. Another 403 or 404 is from what stands before it, such as Cloudflare."""

Snowflake = Annotated[str, Meta(pattern=r"^[0-9]{15,20}$")]


class WidgetConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.NAME]`` with ``use = "discord-widget"``."""

    guilds: Annotated[list[Snowflake], Meta(min_length=1, examples=[["123456789012345678"]])]
    """Ids of the guilds whose widget is read."""
    extra: frozenset[Literal["activity", "avatar"]] = frozenset()
    """Further texts of a member that are read. Clients receive those in ``gateway.extra``."""
    invite_path: str = "/invite"
    """Below it ``/GUILD_ID`` leads to the invite link of the widget, if ``gateway.http`` names
    the provider."""
    api_url: str | None = None
    """REST of a server that speaks Discord's API, with its version, instead of Discord's."""

    def __post_init__(self) -> None:
        if not self.invite_path.startswith("/"):
            raise ValueError(
                f"invite_path '{self.invite_path}': expected a path that begins with /"
            )
        check_url("api_url", self.api_url, {"http", "https"})


class _Game(Struct):
    name: str = ""


class _Member(Struct):
    username: str
    status: str = "online"
    avatar_url: str = ""
    game: _Game | None = None


class _Widget(Struct):
    name: str
    instant_invite: str | None = None
    members: list[_Member] = []
    presence_count: int = 0


_STATUSES: dict[str, Status] = {"online": "online", "idle": "idle", "dnd": "dnd"}


class WidgetProvider:
    """Polls the widget of each guild. A guild whose widget is off is not in the list."""

    Config = WidgetConfig
    refresh = REFRESH

    def __init__(self, config: WidgetConfig) -> None:
        self._guilds = config.guilds
        self._extra = config.extra
        self._invite_path = config.invite_path.rstrip("/")
        self._invites: dict[str, str] = {}
        """The invite link of each guild, from its last widget."""
        self._url = (config.api_url or discord_http.Route.BASE).rstrip("/")
        self._http: aiohttp.ClientSession | None = None
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._kept: dict[str, tuple[float, _Widget | None]] = {}
        self._names: dict[str, str] = {}
        """The guilds of the last list."""
        self._paused_until = 0.0
        self._off: set[str] = set()
        self._context: Context | None = None

    @hookimpl
    async def start(self, context: Context) -> None:
        """Send nothing yet: `servers` comes next."""
        self._context = context
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    @hookimpl
    async def stop(self) -> None:
        """Close the connections."""
        http, self._http = self._http, None
        self._kept.clear()
        self._invites.clear()
        if http is not None:
            await http.close()

    @hookimpl
    async def servers(self) -> dict[str, Server] | None:
        """Return the guilds whose widget is on. One whose widget cannot be read now stays in the
        list under its last name; without any, that raises."""
        requests = (self._widget(each) for each in self._guilds)
        answers = await asyncio.gather(*requests, return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        names: dict[str, str] = {}
        for guild_id, answer in zip(self._guilds, answers, strict=True):
            if isinstance(answer, _Widget):
                names[guild_id] = answer.name
            elif answer is not None:
                if guild_id not in self._names or len(failures) == len(answers):
                    raise answer
                names[guild_id] = self._names[guild_id]
        self._names = names
        return {guild_id: Server(name=name) for guild_id, name in names.items()}

    @hookimpl
    async def users(self, server_id: str) -> dict[str, User] | None:
        """Return the members who are online; None for other guilds and while the widget is off."""
        if server_id not in self._guilds:
            return None
        widget = await self._widget(server_id)
        return None if widget is None else _users(widget, self._extra)

    @hookimpl
    def routes(self) -> Sequence[BaseRoute]:
        """Serve the invite links: one address stays, the link changes now and then."""
        return [Route(f"{self._invite_path}/{{guild_id}}", self._invite)]

    async def _invite(self, request: Request) -> Response:
        """Redirect to the invite link of the guild's last widget, without asking Discord. A client
        that may not join the server here gets no link."""
        guild_id = request.path_params["guild_id"]
        address = "" if request.client is None else request.client.host
        context, link = self._context, self._invites.get(guild_id)
        if context is None or link is None:
            raise HTTPException(404)
        if not await context.authorize(guild_id, Credentials(), address):
            raise HTTPException(404)
        return RedirectResponse(link, 302, {"Cache-Control": "no-store"})

    async def _widget(self, guild_id: str) -> _Widget | None:
        """Return the widget, or None if it is off; raises if it cannot be read."""
        context, http = self._context, self._http
        if context is None or http is None:
            return None
        async with self._turns:
            now = context.clock.time()
            kept = self._kept.get(guild_id)
            if kept is not None and now < kept[0] + KEPT:
                return kept[1]
            if now < self._paused_until:
                left = self._paused_until - now
                raise ConnectionError(f"Discord limits the requests, for {left:.0f} s")
            async with context.clock.timeout(TIMEOUT):
                widget = await self._fetched(http, guild_id, context)
            self._kept[guild_id] = now, widget
            self._note_invite(guild_id, widget)
            return widget

    def _note_invite(self, guild_id: str, widget: _Widget | None) -> None:
        link = None if widget is None else widget.instant_invite
        if link is not None and link.startswith("https://"):
            self._invites[guild_id] = link
        else:
            self._invites.pop(guild_id, None)

    async def _fetched(
        self, http: aiohttp.ClientSession, guild_id: str, context: Context
    ) -> _Widget | None:
        async with http.get(f"{self._url}/guilds/{guild_id}/widget.json") as response:
            body = await response.read()
            match response.status:
                case 200:
                    self._off.discard(guild_id)
                    try:
                        return msgspec.json.decode(body, type=_Widget)
                    except msgspec.DecodeError as error:
                        raise ConnectionError(
                            f"Discord sent an unreadable widget: {error}"
                        ) from error
                case 403 | 404 if _code(body) in (WIDGET_OFF, UNKNOWN_GUILD):
                    self._report_off(guild_id, _code(body), context)
                    return None
                case 429:
                    pause = _seconds(response.headers.get("Retry-After", ""))
                    self._paused_until = context.clock.time() + pause
                    raise ConnectionError("Discord limits the requests")
            raise ConnectionError(f"Discord answered with status {response.status}")

    def _report_off(self, guild_id: str, code: int, context: Context) -> None:
        if guild_id in self._off:
            return
        self._off.add(guild_id)
        if code == UNKNOWN_GUILD:
            context.log.warning("Discord knows no guild %s", guild_id)
            return
        context.log.warning(
            "guild %s has no widget: its owner switches it on at Server Settings → Engagement →"
            " Server Widget",
            guild_id,
        )


class _Refusal(Struct):
    code: int = 0


def _code(body: bytes) -> int:
    """Return the error code in an answer of Discord, or 0."""
    try:
        return msgspec.json.decode(body, type=_Refusal).code
    except msgspec.DecodeError:
        return 0


def _users(widget: _Widget, keys: frozenset[str]) -> dict[str, User]:
    names = Counter(member.username for member in widget.members)
    users: dict[str, User] = {}
    for member in widget.members:
        distinct = member.avatar_url if names[member.username] > 1 else ""
        status = _STATUSES.get(member.status, "online")
        activity = "" if member.game is None else member.game.name
        texts = {"activity": activity, "avatar": member.avatar_url}
        extra = {key: text for key, text in texts.items() if key in keys and text}
        users[_uid(member.username, distinct)] = User(
            username=member.username, status=status, extra=extra or UNSET
        )
    return users


def _uid(name: str, distinct: str) -> str:
    digest = hashlib.blake2b(f"{name}\n{distinct}".encode(), digest_size=8)
    return f"widget-{digest.hexdigest()}"


def _seconds(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:
        return DEFAULT_PAUSE
