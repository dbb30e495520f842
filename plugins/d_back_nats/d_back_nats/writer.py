"""Writing the bucket: every write names the revision that it follows.

So the NATS server takes a write only if no other client has written since, and late writes of a
previous origin are refused. The parts of a batch are sent without waiting; if one is lost on its
way, the rest is refused, so the order never changes.

The answer to the last part does not stand for all of them: if another client writes once before
the first part arrives, the server refuses that part, but the second one names just the revision
that the other client has made, and is taken. So each part is answered, and all answers count.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import nats.js.errors
from msgspec import Struct
from nats.aio.msg import Msg

from d_back_nats.connection import Line
from d_back_nats.failure import FAILURES, WRONG_REVISION, NatsError, OvertakenError
from d_back_nats.keys import Subjects
from d_back_nats.watch import MARKER_TTL

EXPECTED = "Nats-Expected-Last-Sequence"
WRITE_TIMEOUT = 5.0
NO_RESPONDERS = "503"

_DELETED = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": f"{MARKER_TTL}s"}


class Write(Struct, frozen=True, gc=False):
    """One key."""

    key: str
    value: bytes | None
    """None: the key is deleted."""

    def headers(self, revision: int) -> dict[str, str]:
        """Return what the server gets beside the value."""
        headers = {EXPECTED: str(revision)}
        if self.value is None:
            headers |= _DELETED
        return headers


class Writer:
    """The writes of one origin over one connection."""

    def __init__(self, line: Line, subjects: Subjects, revision: int) -> None:
        self.revision = revision
        """The bucket's last one, all of it ours since the first write."""
        self._line = line
        self._subjects = subjects

    async def write(self, writes: Sequence[Write], timeout: float = WRITE_TIMEOUT) -> None:
        """Write all, in order; return when the servers have stored them.

        Raises `OvertakenError` if another client has written, and what nats-py raises. After an
        exception it is not known how many of the writes were stored: this writer must not be used
        again, and the bucket must be read.
        """
        answers = _Answers(len(writes))
        inbox = self._line.client.new_inbox()
        subscription = await self._line.client.subscribe(inbox, cb=answers.take)
        try:
            async with asyncio.timeout(timeout):
                for revision, write in enumerate(writes, self.revision):
                    await self._line.client.publish(
                        self._subjects.prefix + write.key,
                        write.value or b"",
                        reply=inbox,
                        headers=write.headers(revision),
                    )
                newest = await answers.newest
        finally:
            answers.close()
            if not self._line.lost.is_set():
                with suppress(*FAILURES):
                    await subscription.unsubscribe()
        expected = self.revision + len(writes)
        if newest != expected:
            raise NatsError(f"got revision {newest}, expected {expected}")
        self.revision = expected


class _Error(Struct, frozen=True, gc=False):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(Struct, frozen=True, gc=False):
    seq: int = 0
    error: _Error | None = None


class _Answers:
    """The answers to one batch."""

    def __init__(self, number: int) -> None:
        self.newest: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The newest revision, once all parts are stored; or the error of one that is not."""
        self._left = number
        self._newest = 0

    def close(self) -> None:
        """Take no more answers. An error that came after a time-out is of no interest."""
        if not self.newest.cancel() and not self.newest.cancelled():
            self.newest.exception()

    async def take(self, message: Msg) -> None:
        """Note an answer."""
        if self.newest.done():
            return
        if (message.headers or {}).get("Status") == NO_RESPONDERS:
            self.newest.set_exception(nats.js.errors.NoStreamResponseError())
            return
        try:
            answer = msgspec.json.decode(message.data, type=_Answer)
        except msgspec.DecodeError:
            self.newest.set_exception(NatsError("JetStream's answer cannot be read"))
            return
        if answer.error is not None:
            self.newest.set_exception(_failure(answer.error))
            return
        self._newest = max(self._newest, answer.seq)
        self._left -= 1
        if not self._left:
            self.newest.set_result(self._newest)


def _failure(error: _Error) -> Exception:
    if error.err_code in WRONG_REVISION:
        return OvertakenError()
    return nats.js.errors.APIError(
        code=error.code, err_code=error.err_code, description=error.description
    )
