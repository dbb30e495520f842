"""What an origin writes: the public state, only what changed, without being in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from nats_nodes import ADA, BOB, flushed, health_of, keys_of, unwritten

from d_back_core import (
    Message,
    Reload,
    Server,
    ServerRemoved,
    Snapshot,
    User,
    UserChanged,
    UserRemoved,
    UserSet,
)
from d_back_core.config import parse
from d_back_nats import NatsConfig
from d_back_nats.contents import Stored, Wanted
from d_back_nats.keys import Place
from d_back_nats.records import encoded_user
from d_back_nats.watch import Entry
from d_back_testing import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from conftest import Join, Nats, Origin, Serve, Until
    from nats.aio.msg import Msg

    from d_back_nats.connection import Line

    Lines = Callable[[NatsConfig], Awaitable[Line]]

pytestmark = pytest.mark.long


def town() -> ScriptedProvider:
    return ScriptedProvider(
        {"1": Server(name="Plaza", id="plaza"), "2": Server(name="Garden", id="garden")},
        {"1": {"7": ADA, "8": BOB}, "2": {"7": ADA}},
    )


async def test_the_state_is_keys_and_values(nats: Nats, origin: Origin, lines: Lines) -> None:
    """Servers and users have the documented keys, and values that people can read."""
    cluster = await nats()
    await origin(cluster, town())
    keys = await keys_of(await lines(NatsConfig(urls=cluster.urls)))
    assert set(keys) == {
        "origin", "servers.1", "servers.2", "users.1.7", "users.1.8", "users.2.7"
    }  # fmt: skip
    assert msgspec.json.decode(keys["users.1.7"]) == {
        "username": "Ada", "status": "online", "roleColor": "#aaaaaa"
    }  # fmt: skip
    assert msgspec.json.decode(keys["servers.1"]) == {
        "name": "Plaza", "id": "plaza", "passworded": False
    }  # fmt: skip


async def test_only_the_public_state_leaves(
    nats: Nats, origin: Origin, lines: Lines, until: Until
) -> None:
    """Hidden members, ignored channels and passwords are in no key, value or message."""
    cluster, source = await nats(), town()
    line = await lines(NatsConfig(urls=cluster.urls))
    told: list[bytes] = []

    async def note(message: Msg) -> None:
        told.append(message.subject.encode() + message.data)

    await line.client.subscribe("$KV.>", cb=note)
    await line.client.subscribe("d-back.>", cb=note)
    await flushed(line)
    policy = {"password": "MARK-1", "ignore_users": ["8"], "ignore_channels": ["MARK-2"]}
    server = await origin(cluster, source, servers={"1": policy})
    await until(lambda: unwritten(server) == 0)
    source.emit(
        UserChanged(server_id="1", uid="8", username="MARK-3"),
        Message(server_id="1", uid="7", message="MARK-4", channel="MARK-2"),
        Message(server_id="1", uid="7", message="aloud", channel="2"),
    )
    await until(lambda: any(b"aloud" in each for each in told))
    assert any(b"users.1.7" in each for each in told)
    assert not [each for each in told if b"MARK" in each or b"Bob" in each or b"users.1.8" in each]


async def test_a_member_whom_a_reload_hides_is_taken_away(
    nats: Nats, origin: Origin, lines: Lines, until: Until
) -> None:
    """What the operator hides while it runs leaves the bucket."""
    cluster = await nats()
    server = await origin(cluster, town())
    line = await lines(NatsConfig(urls=cluster.urls))
    await until(lambda: unwritten(server) == 0)
    assert "users.1.8" in await keys_of(line)
    config = server.live.config
    table = {
        "chain": {"order": ["source"], "recorders": ["nats"]},
        "providers": {"nats": {"timeout": "30s", "urls": list(cluster.urls)}},
        "servers": {"1": {"ignore_users": ["8"]}},
    }
    await server.reload(parse(table))
    assert server.live.config is not config

    async def is_gone() -> bool:
        return "users.1.8" not in await keys_of(line)

    await until(is_gone)


async def test_a_restart_writes_only_what_differs(
    nats: Nats, origin: Origin, lines: Lines, until: Until
) -> None:
    """The next origin writes who it is, and what has changed since: no key that is right."""
    cluster = await nats()
    server = await origin(cluster, town())
    await server.stop()
    line = await lines(NatsConfig(urls=cluster.urls))
    kv = await line.js.key_value("d-back")
    before = [(await kv.get(key)).revision for key in ("users.1.7", "users.2.7", "servers.1")]
    changed = town()
    changed.users_answers["1"] = {"7": ADA, "9": BOB}
    server = await origin(cluster, changed)
    await until(lambda: unwritten(server) == 0)
    assert set(await keys_of(line)) >= {"users.1.7", "users.1.9", "users.2.7"}
    assert "users.1.8" not in await keys_of(line)
    after = [(await kv.get(key)).revision for key in ("users.1.7", "users.2.7", "servers.1")]
    assert after == before


async def test_what_a_dead_origin_left_is_purged(
    nats: Nats, origin: Origin, lines: Lines, until: Until
) -> None:
    """Servers that are not there any more go, with their users; keys of others stay."""
    cluster = await nats()
    server = await origin(cluster, town())
    await server.stop()
    line = await lines(NatsConfig(urls=cluster.urls))
    kv = await line.js.key_value("d-back")
    await kv.put("users.1.gone", b"{}")
    await kv.put("users.9.7", b"{}")
    await kv.put("notes", b"of another program")
    server = await origin(
        cluster, ScriptedProvider({"1": Server(name="Plaza")}, {"1": {"7": ADA}})
    )

    async def is_clean() -> bool:
        return set(await keys_of(line)) == {"notes", "origin", "servers.1", "users.1.7"}

    await until(is_clean)


async def test_who_is_missing_in_a_new_answer_is_purged(
    nats: Nats, origin: Origin, lines: Lines, until: Until
) -> None:
    """While it writes, too: a source that says again who is there takes the others away."""
    cluster, source = await nats(), town()
    await origin(cluster, source)
    line = await lines(NatsConfig(urls=cluster.urls))
    await (await line.js.key_value("d-back")).put("users.1.stray", b"{}")
    source.users_answers["1"] = {"8": BOB}
    source.emit(Reload(server_id="1"))

    async def is_gone() -> bool:
        return not {"users.1.7", "users.1.stray"} & set(await keys_of(line))

    await until(is_gone)
    assert "users.1.8" in await keys_of(line)


async def test_deletions_are_forgotten_after_a_while(
    nats: Nats, origin: Origin, lines: Lines, until: Until
) -> None:
    """The mark of a deleted key expires by itself, so that they do not gather."""
    cluster, source = await nats(), town()
    server = await origin(cluster, source)
    await until(lambda: unwritten(server) == 0)
    source.emit(UserRemoved(server_id="1", uid="8"), ServerRemoved(server_id="2"))
    line = await lines(NatsConfig(urls=cluster.urls))

    async def is_gone() -> bool:
        return not {"users.1.8", "users.2.7", "servers.2"} & set(await keys_of(line))

    await until(is_gone)
    for key in ("users.1.8", "users.2.7", "servers.2"):
        mark = await line.js.get_last_msg("KV_d-back", f"$KV.d-back.{key}")
        assert mark.headers is not None
        assert mark.headers["Nats-TTL"] == "3600s"


async def test_clients_are_served_while_a_large_state_is_written(
    nats: Nats, origin: Origin, lines: Lines, until: Until, join: Join
) -> None:
    """A hundred thousand users come in while clients join and hear of changes."""
    cluster = await nats()
    users = {str(uid): User(username=f"u{uid}", status="online") for uid in range(100_000)}
    source = ScriptedProvider(
        {"1": Server(name="One"), "2": Server(name="Two")}, {"1": users, "2": {}}
    )
    server = await origin(cluster, source, wait=False)
    world = await join(server, "2")
    source.emit(UserChanged(server_id="2", uid="7", username="Ada"))
    await world.until(lambda w: "7" in w.users)
    line = await lines(NatsConfig(urls=cluster.urls))

    async def is_whole() -> bool:
        return (await line.js.stream_info("KV_d-back")).state.messages == 100_004

    assert not await is_whole()
    await until(is_whole)
    await until(lambda: unwritten(server) == 0)  # the last batch is acknowledged a moment later


async def test_a_bucket_that_is_too_old(
    nats: Nats, origin: Origin, lines: Lines, until: Until
) -> None:
    """A bucket that was made without keys that expire is brought up to date."""
    cluster = await nats()
    line = await lines(NatsConfig(urls=cluster.urls))
    await line.js.add_stream(
        name="KV_d-back", subjects=["$KV.d-back.>"], max_msgs_per_subject=1,
        allow_rollup_hdrs=True, deny_delete=True,
    )  # fmt: skip
    server = await origin(cluster, town())
    await until(lambda: unwritten(server) == 0)
    assert (await line.js.stream_info("KV_d-back")).config.allow_msg_ttl
    assert health_of(server) == "ready"


async def test_an_edge_without_a_bucket_says_so(
    nats: Nats, serve: Serve, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """Before any origin has run, an edge names what is missing, and lists nothing."""
    server = await serve(await nats())
    await until(lambda: "there is no bucket 'd-back'; an origin makes it" in caplog.text)
    assert server.live.server_list.servers == {}


async def test_all_that_is_not_in_a_whole_answer_is_to_go() -> None:
    """Also when the answer comes after what the bucket holds was read."""
    stored = Stored(lambda: None)
    wanted = Wanted(stored)
    for revision, uid in enumerate(("7", "8"), 1):
        stored.put(Entry(f"users.1.{uid}", encoded_user(ADA), revision))
    stored.put(Entry("servers.1", b"{}", 3))
    await wanted.compare()
    assert not wanted.dirty
    await wanted.take(UserSet(server_id="1", uid="7", user=ADA))
    await wanted.take(Snapshot(server_id="1", keys=frozenset({"7"})))
    assert list(wanted.dirty) == [Place("users.1", "8")]
    await wanted.take(Snapshot(server_id=None, keys=frozenset()))
    assert set(wanted.dirty) == {
        Place("users.1", "7"), Place("users.1", "8"), Place("servers", "1")
    }  # fmt: skip
    assert not any(wanted.get(place) for place in wanted.dirty)
