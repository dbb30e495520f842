"""Verifies OAuth2 tokens with Discord, for the bot's own application only.

The implicit grant gives the client a token. One that was issued to another application may have
been stolen from its owner there, so the application counts as much as the person.
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
"""Tokens that Discord may refuse in `KEPT` seconds before it is asked nothing for a while: it bans
addresses that send too many, and the bot has the same address."""
DEFAULT_PAUSE = 5.0
"""Seconds without a request after a rate limit without a Retry-After."""

_TOKEN = re.compile(r"[!-~]{1,512}")
OK, UNAUTHORIZED, RATE_LIMITED = 200, 401, 429


class Verdict(Struct, frozen=True):
    """Discord's answer about a token."""

    user_id: str | None
    """The owner; None: the token proves nothing."""
    reason: str = ""


class _UnansweredError(Exception):
    """Discord did not decide."""


class Authorization:
    """Asks Discord for the owner of a token; keeps the answers for minutes, by the hash of it."""

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
        """Return the owner of the token, if it was issued to that application. Never raises: if
        Discord cannot be reached, the verdict has no owner and is not kept."""
        if _TOKEN.fullmatch(token) is None:
            return Verdict(None, "this is not a token of Discord")
        key = hashlib.sha256(f"{application_id} {token}".encode()).digest()
        now = self._clock.time()
        if (kept := self._kept.get(key)) is not None and now < kept[0] + KEPT:
            return kept[1]
        if now < self._paused_until:
            return Verdict(None, "Discord limits the requests; try again later")
        try:
            async with self._clock.timeout(TIMEOUT):
                verdict = await self._asked(token, application_id)
        except TimeoutError:
            return Verdict(None, f"Discord did not answer within {TIMEOUT:g} s")
        except _UnansweredError as error:
            return Verdict(None, str(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Verdict(None, f"Discord cannot be reached: {type(error).__name__}")
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
            return Verdict(None, "Discord does not name the owner of the token")
        return Verdict(user_id)

    async def _get(self, path: str, token: str) -> Mapping[str, Any] | None:
        """Return the answer, or None if the token is refused."""
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
                raise _UnansweredError("Discord limits the requests; try again later")
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
