"""The bucket: a stream as JetStream's key-value store makes them, with keys that can expire."""

import datetime as dt
import logging

import msgspec
import nats.js.errors
from msgspec import Struct
from nats.js.api import DiscardPolicy, StorageType, StreamConfig, StreamInfo

from d_back_nats.config import NatsConfig
from d_back_nats.connection import REQUEST_TIMEOUT, Line
from d_back_nats.failure import NatsError
from d_back_nats.keys import Subjects

NOT_FOUND = 404


class BucketState(Struct, frozen=True):
    """The state of the bucket at one moment."""

    created: str
    """The time when the stream was created. A restored backup keeps that of the original."""
    now: dt.datetime
    """The NATS server's clock: ages of messages are computed with it, not with our own."""
    last_revision: int
    messages: int
    """Values and deletion markers."""


class _Counts(Struct, frozen=True):
    messages: int
    last_seq: int


class _Error(Struct, frozen=True):
    code: int
    description: str = ""


class _Answer(Struct, frozen=True):
    created: str = ""
    ts: dt.datetime | None = None
    state: _Counts | None = None
    error: _Error | None = None


async def state(line: Line, subjects: Subjects) -> BucketState:
    """Return the state of the bucket; raise `NatsError` if there is none.

    nats-py drops the server's time from this answer, so it is decoded here.
    """
    subject = f"$JS.API.STREAM.INFO.{subjects.stream}"
    message = await line.client.request(subject, timeout=REQUEST_TIMEOUT)
    try:
        answer = msgspec.json.decode(message.data, type=_Answer)
    except msgspec.DecodeError:
        raise NatsError("JetStream's answer about the bucket cannot be read") from None
    if answer.error is not None and answer.error.code == NOT_FOUND:
        raise NatsError(_missing(subjects))
    if answer.error is not None:
        raise NatsError(" ".join(answer.error.description.split()))
    if answer.state is None or answer.ts is None:
        raise NatsError("nats-server 2.11 or newer is needed")
    return BucketState(answer.created, answer.ts, answer.state.last_seq, answer.state.messages)


async def describe(line: Line, subjects: Subjects) -> StreamInfo:
    """Return the bucket's description; raise `NatsError` if there is none."""
    try:
        return await line.js.stream_info(subjects.stream)
    except nats.js.errors.NotFoundError:
        raise NatsError(_missing(subjects)) from None


def _missing(subjects: Subjects) -> str:
    return f"there is no bucket '{subjects.bucket}'; an origin makes it"


async def ensure(
    line: Line, subjects: Subjects, config: NatsConfig, log: logging.Logger
) -> StreamInfo:
    """Create the bucket if there is none, set its configured replicas, and return it."""
    wanted = StreamConfig(
        name=subjects.stream,
        description="d-back: what gateways serve",
        subjects=[subjects.all_keys],
        max_msgs_per_subject=1,
        discard=DiscardPolicy.NEW,
        storage=StorageType(config.storage),
        num_replicas=config.replicas,
        allow_rollup_hdrs=True,
        allow_direct=True,
        allow_msg_ttl=True,
        deny_delete=True,
        duplicate_window=120,
        max_msgs=-1,
        max_bytes=-1,
        max_consumers=-1,
    )
    try:
        info = await line.js.stream_info(subjects.stream)
    except nats.js.errors.NotFoundError:
        info = await line.js.add_stream(wanted)
        log.info("made the bucket '%s'", subjects.bucket)
    is_kept = StorageType(info.config.storage or StorageType.FILE)
    if is_kept != wanted.storage:
        log.warning("the bucket is kept in %s; only a new one can be elsewhere", is_kept.value)
    if info.config.num_replicas != config.replicas or not info.config.allow_msg_ttl:
        info = await line.js.update_stream(wanted.evolve(storage=is_kept))
    if not info.config.allow_msg_ttl:
        raise NatsError("keys cannot expire: nats-server 2.11 or newer is needed")
    return info
