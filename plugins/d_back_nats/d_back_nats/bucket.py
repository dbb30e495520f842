"""The bucket: a stream as JetStream's key-value store makes them, with keys that can expire."""

import logging

import nats.js.errors
from nats.js.api import DiscardPolicy, StorageType, StreamConfig, StreamInfo

from d_back_nats.config import NatsConfig
from d_back_nats.connection import Line
from d_back_nats.failure import NatsError
from d_back_nats.keys import Subjects


async def found(line: Line, subjects: Subjects) -> StreamInfo:
    """The bucket as it is; raises `NatsError` where there is none."""
    try:
        return await line.js.stream_info(subjects.stream)
    except nats.js.errors.NotFoundError:
        missing = f"there is no bucket '{subjects.bucket}'; an origin makes it"
        raise NatsError(missing) from None


async def made(
    line: Line, subjects: Subjects, config: NatsConfig, log: logging.Logger
) -> StreamInfo:
    """The bucket, made where there is none, and brought to the replicas that are configured."""
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
