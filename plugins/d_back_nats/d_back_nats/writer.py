"""Writing the bucket: every write names the revision that it follows.

So the NATS server takes a write only if no other client has written since. Of a batch that is sent
without waiting, each part is taken only if the part before it was taken: the answer to the last
part stands for all of them. Late writes of a previous origin are refused. If a part of a batch is
lost on its way, the rest is refused, so the order never changes.
"""

from collections.abc import Sequence

import nats.js.errors
from msgspec import Struct
from nats.js.api import PubAck

from d_back_nats.connection import Line
from d_back_nats.failure import WRONG_REVISION, NatsError, OvertakenError
from d_back_nats.keys import Subjects
from d_back_nats.watch import MARKER_TTL

EXPECTED = "Nats-Expected-Last-Sequence"
WRITE_TIMEOUT = 5.0

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
        *first, last = writes
        prefix, revision = self._subjects.prefix, self.revision
        for write in first:
            await self._line.client.publish(
                prefix + write.key, write.value or b"", headers=write.headers(revision)
            )
            revision += 1
        try:
            taken: PubAck = await self._line.js.publish(
                prefix + last.key,
                last.value or b"",
                timeout=timeout,
                headers=dict(last.headers(revision)),
            )
        except nats.js.errors.APIError as error:
            if error.err_code in WRONG_REVISION:
                raise OvertakenError from None
            raise
        if taken.seq != revision + 1:
            raise NatsError(f"got revision {taken.seq}, expected {revision + 1}")
        self.revision = revision + 1
