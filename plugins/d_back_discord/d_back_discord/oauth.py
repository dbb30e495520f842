"""Whose OAuth2 token it is: verified with Discord, for the bot's own application only.

The implicit grant gives the client a token; whoever has one issued to another application could
be anybody's phished member, so the application counts as much as the person.
"""

import hashlib
import logging
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

import aiohttp
from discord.http import Route
from msgspec import Struct

from d_back_core import Clock

TIMEOUT = 4.0
"""Seconds for Discord to answer; the core waits 5 by default."""
KEPT = 300.0
"""Seconds that an answer is good for."""
MAX_KEPT = 2000
MAX_REFUSED = 1000
"""Tokens that Discord may refuse in `KEPT` seconds before it is left alone for a while: it bans
addresses that offer it too many, and the bot has the same one."""
DEFAULT_PAUSE = 5.0
"""Seconds without a question after a rate limit that does not say how long it lasts."""

_TOKEN = re.compile(r"[!-~]{1,512}")
OK, UNAUTHORIZED, RATE_LIMITED = 200, 401, 429


class Verdict(Struct, frozen=True):
    """What Discord said of a token."""

    user_id: str | None
    """Whose it is; None: nobody's whom we may believe."""
    reason: str = ""


class _UnansweredError(Exception):
    """Discord did not say yes or no."""


class Authorization:
    """Asks Discord whose a token is; keeps the answers for minutes, by the token's hash."""

    def __init__(self, api_url: str | None, clock: Clock, log: logging.Logger) -> None:
        self._url = (api_url or Route.BASE).rstrip("/")
        self._clock = clock
        self._log = log
        self._http: aiohttp.ClientSession | None = None
        self._kept: dict[bytes, tuple[float, Verdict]] = {}
        self._paused_until = 0.0
        self._refused: deque[float] = deque(maxlen=MAX_REFUSED)
        self._closed = False

    async def close(self) -> None:
        """End the connections; may be called twice."""
        self._closed = True
        http, self._http = self._http, None
        self._kept.clear()
        if http is not None:
            await http.close()

    async def owner(self, token: str, application_id: str) -> Verdict:
        """Whose the token is, if it was issued to that application. Never raises: where Discord
        cannot be asked, the verdict names nobody and is not kept."""
        if _TOKEN.fullmatch(token) is None:
            return Verdict(None, "the token cannot be one of Discord's")
        key = hashlib.sha256(f"{application_id} {token}".encode()).digest()
        now = self._clock.time()
        if (kept := self._kept.get(key)) is not None and now < kept[0] + KEPT:
            return kept[1]
        if now < self._paused_until:
            return Verdict(None, "Discord limits how often it is asked; try again later")
        try:
            async with self._clock.timeout(TIMEOUT):
                verdict = await self._asked(token, application_id)
        except TimeoutError:
            return Verdict(None, f"Discord did not answer within {TIMEOUT:g} s")
        except _UnansweredError as error:
            return Verdict(None, str(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Verdict(None, f"Discord cannot be asked: {type(error).__name__}")
        self._keep(key, verdict)
        return verdict

    def _keep(self, key: bytes, verdict: Verdict) -> None:
        now = self._clock.time()
        self._kept.pop(key, None)
        if len(self._kept) >= MAX_KEPT:  # the oldest first: they are in the order of their coming
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (now, verdict)

    async def _asked(self, token: str, application_id: str) -> Verdict:
        authorization = await self._get("/oauth2/@me", token)
        if authorization is None:
            return Verdict(None, "Discord does not know the token")
        if _id(authorization.get("application")) != application_id:
            return Verdict(None, "the token was issued to another application")
        user_id = _id(await self._get("/users/@me", token))
        if user_id is None:
            return Verdict(None, "Discord does not say whose the token is")
        return Verdict(user_id)

    async def _get(self, path: str, token: str) -> Mapping[str, Any] | None:
        """The answer, or None where the token is refused."""
        if self._closed:
            raise _UnansweredError("the provider has stopped")
        if self._http is None:
            self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        headers = {"Authorization": f"Bearer {token}"}
        async with self._http.get(self._url + path, headers=headers) as response:
            if response.status == UNAUTHORIZED:
                self._count_refused()
                return None
            if response.status == RATE_LIMITED:
                self._pause(response.headers.get("Retry-After", ""))
                raise _UnansweredError("Discord limits how often it is asked; try again later")
            if response.status != OK:
                raise _UnansweredError(f"Discord answered with status {response.status}")
            answer = await response.json(content_type=None)
        if not isinstance(answer, dict):
            raise _UnansweredError("Discord answered with something unexpected")
        return answer

    def _count_refused(self) -> None:
        now = self._clock.time()
        self._refused.append(now)
        if len(self._refused) == MAX_REFUSED and now < self._refused[0] + KEPT:
            self._paused_until = self._refused[0] + KEPT

    def _pause(self, seconds: str) -> None:
        try:
            pause = max(0.0, min(float(seconds), KEPT))
        except ValueError:
            pause = DEFAULT_PAUSE
        self._paused_until = self._clock.time() + pause


def _id(record: object) -> str | None:
    found = record.get("id") if isinstance(record, Mapping) else None
    return found if isinstance(found, str) and found else None
