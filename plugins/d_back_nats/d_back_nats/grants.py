"""What lets the clients of an edge into protected servers, and when that ends (R25).

The origin decides, and gives a grant with each yes that can end. The core of the edge keeps it,
and renews it by `Grants.reauthorize`. If the origin announces that a grant has ended, the edge
reports it to its core at once. If the origin announces that the rules have changed, the edge asks
again for all grants of the server. It also does so whenever it may have missed an announcement:
after each subscription to them, and if another origin has begun to write. A question without an
answer is repeated. If there is no answer for ten minutes, the grant expires.
"""

import asyncio
from collections.abc import Callable

from nats.errors import NoRespondersError

from d_back_core import Context, Credentials, Grant
from d_back_nats.connection import Connection
from d_back_nats.failure import FAILURES, NatsError, describe_error
from d_back_nats.records import OriginValue
from d_back_nats.sealing import Answer, Asked, asked, asked_again

ANSWER_TIMEOUT = 4.0
"""Seconds that the origin has to decide about a join; less than the core's own timeout."""
LASTS = 600.0
"""Seconds after which a grant that the core has not renewed is forgotten: it has expired."""
RETRY = 5.0
"""Seconds until the origin is asked again if it could not answer."""

Key = tuple[str, str]
"""A server_id, and the ``person`` of a `Grant`."""


class Grants:
    """Asks the origin. ``origin`` returns its record; ``revoked`` gets the grants that have
    ended."""

    def __init__(
        self,
        context: Context,
        connection: Connection,
        subject: str,
        origin: Callable[[], OriginValue | None],
        revoked: Callable[[str, str], None],
    ) -> None:
        self._context = context
        self._connection = connection
        self._subject = subject
        self._origin = origin
        self._revoked = revoked
        self._run = ""
        """Of the origin that gave the grants."""
        self._given: dict[Key, float] = {}
        """When each was given or renewed."""
        self._doubted: dict[Key, None] = {}
        self._is_doubted = asyncio.Event()
        self._doubts = 0
        """The number of times that all grants of a server were doubted."""

    async def authorize(
        self, server_id: str, credentials: Credentials, address: str
    ) -> Grant | bool:
        """Return the origin's answer; False if there is none in time."""
        origin, doubts = self._origin(), self._doubts
        if origin is None or not self._connection.is_up:
            self._context.log.warning("there is no origin to ask who may join; the answer is no")
            return False
        try:
            answer = await self._answer(asked(origin.seal, server_id, credentials, address))
        except (*FAILURES, NatsError) as error:
            is_absent = isinstance(error, NoRespondersError)
            reason = "none is connected" if is_absent else describe_error(error)
            self._context.log.warning(
                "the origin does not answer who may join (%s); the answer is no", reason
            )
            return False
        if answer.verdict is not True or answer.person is None:
            return answer.verdict is True
        self._given[server_id, answer.person] = self._context.clock.time()
        if doubts != self._doubts:  # the rules may have changed after the origin's decision
            self._doubt([(server_id, answer.person)])
        return Grant(person=answer.person, expires_after=answer.expires_after)

    async def reauthorize(self, server_id: str, person: str) -> bool | None:
        """Return the origin's answer; None if there is none."""
        verdict = await self._still_holds(server_id, person)
        if verdict is True:
            self._given[server_id, person] = self._context.clock.time()
        return verdict

    def changed(self, server_id: str, person: str | None = None) -> None:
        """That grant has ended; None: any of the server may have."""
        if person is not None:
            self._end((server_id, person))
            return
        self._doubts += 1
        self._doubt([key for key in self._given if key[0] == server_id])

    def check(self) -> None:
        """Ask again for everything if another origin writes, and forget what has expired."""
        forgotten = self._context.clock.time() - LASTS
        for key in [key for key, at in self._given.items() if at < forgotten]:
            del self._given[key]
        origin = self._origin()
        if origin is not None and origin.run != self._run:
            self._run = origin.run
            self._doubts += 1
            self._doubt([*self._given])

    async def ask_again(self) -> None:
        """Ask for the grants that are doubted, without an end."""
        while True:
            await self._is_doubted.wait()
            for key in [*self._doubted]:
                del self._doubted[key]  # first: it may be doubted again while the origin decides
                verdict = await self._still_holds(*key)
                if verdict is False:
                    self._end(key)
                elif verdict is None and key in self._given:
                    self._doubted[key] = None
            if self._doubted:
                await self._context.clock.sleep(RETRY)
            else:
                self._is_doubted.clear()

    def _doubt(self, keys: list[Key]) -> None:
        self._doubted.update(dict.fromkeys(keys))
        if self._doubted:
            self._is_doubted.set()

    def _end(self, key: Key) -> None:
        self._given.pop(key, None)
        self._revoked(*key)

    async def _still_holds(self, server_id: str, person: str) -> bool | None:
        origin = self._origin()
        if origin is None or not self._connection.is_up:
            return None
        try:
            answer = await self._answer(asked_again(origin.seal, server_id, person))
        except (*FAILURES, NatsError) as error:
            reason = describe_error(error)
            self._context.log.debug("the origin does not answer who may stay: %s", reason)
            return None
        return answer.verdict

    async def _answer(self, question: Asked) -> Answer:
        line = await self._connection.line()
        answer = await line.client.request(self._subject, question.sealed, timeout=ANSWER_TIMEOUT)
        return question.opened(answer.data)
