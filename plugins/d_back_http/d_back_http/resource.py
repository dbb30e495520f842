"""One URL of a JSON API, asked again and again."""

import asyncio
import random
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from http import HTTPStatus
from time import time
from typing import Generic, TypeVar

import aiohttp

from d_back_core import Clock
from d_back_http.failure import HttpError, described, shown

LONGEST_WAIT = 300.0
"""Seconds between two attempts after failures."""
LONGEST_RETRY_AFTER = 3600.0
"""Seconds that a source may ask to wait."""
IN_THREAD = 65_536
"""Bytes from which an answer is decoded in a thread."""

T = TypeVar("T")


class Resource(Generic[T]):
    """The newest answer of a URL, and when to ask again.

    An answer is asked for with ``ETag`` and ``Last-Modified``: one that has not changed is neither
    sent nor decoded. After a failure the waits grow, and are as long as ``Retry-After`` says.
    """

    def __init__(  # noqa: PLR0913  what a request needs
        self,
        url: str,
        session: aiohttp.ClientSession,
        clock: Clock,
        decode: Callable[[bytes], T],
        *,
        every: float,
        max_size: int,
    ) -> None:
        self.url = url
        self.due = 0.0
        """When to ask again."""
        self.error: HttpError | None = None
        """Why the last request has failed."""
        self._session = session
        self._clock = clock
        self._decode = decode
        self._every = every
        self._max_size = max_size
        self._alone = asyncio.Lock()
        self.answer: T | None = None
        """The newest one; None if the source has none."""
        self._is_known = False
        self._digest = b""
        self._validators: dict[str, str] = {}
        self._failures = 0

    async def get(self) -> T | None:
        """Return the answer, asked for again if it is due; None if the source has none (404).
        Raises `HttpError`, without a request while it is not time for the next attempt."""
        await self.refresh()
        if self.error is not None:
            raise self.error
        return self.answer

    async def refresh(self) -> bool:
        """Ask if it is due. Return True if the answer, or whether there is one, has changed."""
        async with self._alone:  # who waits here gets the answer of the one before
            if self._clock.time() < self.due:
                return False
            had_failed = self.error is not None
            try:
                is_new = await self._request()
            except HttpError as error:
                self._on_failed(error)
                return not had_failed
            self.error = None
            self._failures = 0
            self.due = self._clock.time() + self._every
            return is_new or had_failed

    def _on_failed(self, error: HttpError) -> None:
        self.error = error
        self._failures += 1
        wait = min(self._every * 2.0 ** (self._failures - 1), LONGEST_WAIT)
        wait *= 1 + random.random() / 4  # noqa: S311  many gateways must not come back at once
        if error.retry_after is not None:
            wait = max(wait, min(error.retry_after, LONGEST_RETRY_AFTER))
        self.due = self._clock.time() + wait

    async def _request(self) -> bool:
        headers = self._validators if self.error is None else {}
        try:
            async with self._session.get(self.url, headers=headers) as response:
                return await self._read(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise HttpError(f"{shown(self.url)}: {described(error)}") from None

    async def _read(self, response: aiohttp.ClientResponse) -> bool:
        if response.status == HTTPStatus.NOT_MODIFIED and self._is_known:
            return False
        if response.status == HTTPStatus.NOT_FOUND:
            return self._keep(None, b"", {})
        if response.status != HTTPStatus.OK:
            answer = f"{response.status} {response.reason or ''}".rstrip()
            raise HttpError(
                f"{shown(self.url)}: the answer is {answer}",
                _retry_after(response.headers.get("Retry-After", "")),
            )
        body = bytearray()
        async for chunk in response.content.iter_chunked(65_536):
            body += chunk
            if len(body) > self._max_size:
                raise HttpError(
                    f"{shown(self.url)}: the answer is larger than max_size ({self._max_size})"
                )
        digest = blake2b(body).digest()
        validators = {
            name: response.headers[header]
            for header, name in (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since"))
            if header in response.headers
        }
        if self._is_known and digest == self._digest:
            self._validators = validators
            return False
        return self._keep(await self._decoded(bytes(body)), digest, validators)

    async def _decoded(self, body: bytes) -> T:
        try:
            if len(body) < IN_THREAD:
                return self._decode(body)
            return await asyncio.to_thread(self._decode, body)
        except HttpError as error:
            raise HttpError(f"{shown(self.url)}: {error}") from None

    def _keep(self, answer: T | None, digest: bytes, validators: dict[str, str]) -> bool:
        is_new = not self._is_known or digest != self._digest
        self._is_known, self._digest, self._validators = True, digest, validators
        self.answer = answer
        return is_new


def _retry_after(text: str) -> float | None:
    """Return the seconds of a ``Retry-After``: a number, or a date."""
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except ValueError:
        return None
