"""What ``d-back nats status`` finds."""

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import Struct
from nats.js.api import StreamInfo

from d_back_core import Clock, Context
from d_back_nats import bucket
from d_back_nats.config import NatsConfig
from d_back_nats.connection import Connection, Line
from d_back_nats.failure import NatsError, nats_errors
from d_back_nats.keys import Subjects
from d_back_nats.mirrors import ListMirror
from d_back_nats.ownership import SILENT_AFTER
from d_back_nats.records import OriginValue
from d_back_nats.watch import Watch

PATIENCE = 5.0
"""Seconds that the list of servers may take to come."""

log = logging.getLogger("d_back.providers.nats")


class Finding(Struct, frozen=True):
    """One line."""

    what: str
    says: str
    fine: bool = True


async def status(config: NatsConfig) -> list[Finding]:
    """Check everything that an edge may read; raises `NatsError` if NATS cannot be reached."""
    subjects = Subjects(config.bucket)
    context = Context(
        name="status", log=log, clock=Clock(), degraded=log.debug, recovered=lambda: None
    )
    connection = Connection(context, config, log.debug, lambda: None)
    await connection.open()
    try:
        line = await connection.line()
        findings = [_server(line, config)]
        try:
            with nats_errors():
                info = await bucket.describe(line, subjects)
        except NatsError as error:
            return [*findings, Finding("bucket", str(error), fine=False)]
        mirror = await _mirror(connection, subjects)
        now = connection.clock.time()
        return [*findings, *_bucket(info, config), *_content(info, mirror, now)]
    finally:
        await connection.close()


async def _mirror(connection: Connection, subjects: Subjects) -> ListMirror:
    mirror = ListMirror(lambda _server_id: None)
    watch = Watch(connection, subjects, subjects.list_keys, mirror, lambda _watch: None)
    watch.begin()
    try:
        async with asyncio.timeout(PATIENCE):
            await watch.filled.wait()
    except TimeoutError:
        raise NatsError(f"the bucket cannot be read: {watch.trouble or 'no answer'}") from None
    finally:
        await watch.end()
    return mirror


def _server(line: Line, config: NatsConfig) -> Finding:
    url = line.client.connected_url
    encrypted = config.tls is not None or (url is not None and url.scheme in {"tls", "wss"})
    version = line.client.connected_server_version
    said = f"nats-server {version.major}.{version.minor}.{version.patch}"
    return Finding("server", f"{said}, {'TLS' if encrypted else 'not encrypted'}")


def _bucket(info: StreamInfo, config: NatsConfig) -> Iterator[Finding]:
    kept = getattr(info.config.storage, "value", info.config.storage)
    replicas = info.config.num_replicas or 1
    yield Finding("bucket", f"'{config.bucket}', {kept}, {replicas} of it")
    cluster = info.cluster
    if cluster is not None and replicas > 1:
        others = cluster.replicas or []
        behind = [peer.name or "?" for peer in others if not peer.current or peer.offline]
        said = f"{cluster.leader} leads" if cluster.leader else "no leader"
        behind_said = f"; behind: {', '.join(sorted(behind))}" if behind else ""
        yield Finding("replicas", said + behind_said, bool(cluster.leader) and not behind)
    if not info.config.allow_msg_ttl:
        yield Finding("keys", "cannot expire; an origin brings that up to date", fine=False)


def _content(info: StreamInfo, mirror: ListMirror, now: float) -> Iterator[Finding]:
    state = info.state
    yield Finding("revision", str(state.last_seq))
    yield Finding("keys", f"{state.messages}, {state.bytes} bytes")
    yield Finding("servers", str(len(mirror.listed.servers)))
    yield Finding("watches", str(state.consumer_count))
    # The age comes from the NATS server's clock: that of this machine may be wrong.
    yield _origin(mirror.origin, max(0.0, now - mirror.heartbeat_at))


def _origin(origin: OriginValue | None, age: float) -> Finding:
    if origin is None:
        return Finding("origin", "none", fine=False)
    since = datetime.fromtimestamp(origin.since, UTC).isoformat(" ", "seconds")
    lease = f", lease of {origin.lease:g} s" if origin.lease else ""
    who = f"{origin.host} since {since}{lease}"
    if origin.stopped:
        return Finding("origin", f"{who}, stopped {_ago(age)}", fine=False)
    if age >= (origin.lease or SILENT_AFTER):
        return Finding("origin", f"{who}, dead: last heartbeat {_ago(age)}", fine=False)
    return Finding("origin", f"{who}, last heartbeat {_ago(age)}")


def _ago(seconds: float) -> str:
    """Return an age in its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    while len(parts) > 1 and not parts[0][0]:
        del parts[0]
    return " ".join(f"{number} {unit}" for number, unit in parts[:2]) + " ago"
