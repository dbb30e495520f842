"""Writing the bucket: every write names the revision that it follows.

So the server takes a write only if nobody else has written since, and of a batch that is sent
without waiting, each part only if the part before it was taken: that the last one was taken proves
it of all. A former origin's late writes are refused, whatever it believes; what of a batch was
lost on its way loses the rest, and never its order.
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
    """None: it is deleted."""
    ttl: float = 0
    """Seconds after which it is gone unless it is written again."""

    def headers(self, revision: int) -> dict[str, str]:
        """What the server is told beside the value."""
        headers = {EXPECTED: str(revision)}
        if self.value is None:
            headers |= _DELETED
        elif self.ttl:
            headers["Nats-TTL"] = f"{self.ttl:.0f}s"
        return headers


class Chain:
    """The writes of one origin over one connection."""

    def __init__(self, line: Line, subjects: Subjects, revision: int) -> None:
        self.revision = revision
        """The bucket's last one, all of it ours since the first write."""
        self._line = line
        self._subjects = subjects

    async def write(self, writes: Sequence[Write], timeout: float = WRITE_TIMEOUT) -> None:
        """Write all, in order; returns when the servers have them. Raises `OvertakenError` where
        somebody else has written, and what nats-py raises; then nobody knows how many of them
        were taken, and this chain is at its end."""
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
            raise NatsError(f"revision {taken.seq} was given where {revision + 1} was due")
        self.revision = revision + 1
