"""An origin writes, edges serve: what reaches the clients of an edge."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
from nats_nodes import ADA, BOB, chat_of, flushed, provider_of, revision_of

from d_back_core import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
)
from d_back_core.client import (
    MessageDeleteFrame,
    MessageEditFrame,
    MessageFrame,
    ServerMessage,
)
from d_back_nats import NatsConfig
from d_back_nats.records import ChatValue, UserValue, encoded
from d_back_testing import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from conftest import Join, Listening, Nats, Origin, Serve, Until

    from d_back_core.embedding.server import WebSocketServer
    from d_back_nats.connection import Line

    Lines = Callable[[NatsConfig], Awaitable[Line]]


def town() -> ScriptedProvider:
    return ScriptedProvider(
        {"1": Server(name="Plaza", id="plaza"), "2": Server(name="Garden", id="garden")},
        {"1": {"7": ADA, "8": BOB}, "2": {"7": ADA}},
    )


def watched(server: WebSocketServer) -> set[str]:
    edge = provider_of(server)._edge  # noqa: SLF001
    return set() if edge is None else set(edge.watched)


async def test_changes_reach_the_clients_of_an_edge(
    nats: Nats, origin: Origin, serve: Serve, join: Join, until: Until, *, listening: Listening
) -> None:
    """The snapshot, a change, a newcomer, a removal, and what the newcomer says at once."""
    cluster, source = await nats(), town()
    await origin(cluster, source)
    world = await join(await serve(cluster), "plaza")
    assert {user.username for user in world.users.values()} == {"Ada", "Bob"}
    heard = await listening(world)
    source.emit(
        UserChanged(server_id="1", uid="7", status="dnd"),
        UserChanged(server_id="1", uid="9", username="Cid"),
        UserRemoved(server_id="1", uid="8"),
        Message(server_id="1", uid="9", message="hi", channel="2"),
    )
    await world.until(lambda w: set(w.users) == {"7", "9"} and w.users["7"].status == "dnd")
    await until(lambda: chat_of(heard) == ["hi"])


async def test_r23_edits_and_deletions_reach_the_clients_of_an_edge(
    nats: Nats, origin: Origin, serve: Serve, join: Join, until: Until, *, listening: Listening
) -> None:
    """With the ids and the times that the source gave, in order."""
    cluster, source = await nats(), town()
    await origin(cluster, source)
    world = await join(await serve(cluster), "plaza")
    heard = await listening(world)
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    events: list[Event] = [
        Message(server_id="1", uid="7", message="hi", channel="2", id="m1", at=at),
        MessageEdited(server_id="1", uid="7", message="hello", channel="2", id="m1", at=at),
        MessageDeleted(server_id="1", channel="2", id="m1"),
    ]
    found: list[ServerMessage] = []
    for count, event in enumerate(events, 1):
        source.emit(event)
        while len(found) < count:
            kinds = (MessageFrame, MessageEditFrame, MessageDeleteFrame)
            await until(lambda: heard)
            found += [each for each in heard if isinstance(each, kinds)]
            heard.clear()
    stamp = {"channel": "2", "id": "m1", "at": "2026-01-02T03:04:05Z"}
    assert [(each["type"], each["data"]) for each in map(msgspec.to_builtins, found)] == [
        ("message", {"uid": "7", "message": "hi", **stamp}),
        ("message-edit", {"uid": "7", "message": "hello", **stamp}),
        ("message-delete", {"id": "m1", "channel": "2"}),
    ]


async def test_r23_an_origin_without_a_connection_keeps_deletions_for_later(
    nats: Nats, origin: Origin, until: Until
) -> None:
    """What was deleted meanwhile is published then; what was said is not."""
    cluster, source = await nats(), town()
    writer = provider_of(await origin(cluster, source))._origin  # noqa: SLF001
    assert writer is not None
    gone = MessageDeleted(server_id="1", channel="2", id="m1")
    cluster.kill()
    await until(lambda: not writer.leads)
    late = Message(server_id="1", uid="7", message="late", channel="2", id="m2")
    source.emit(late, gone)
    await until(lambda: [*writer._chat] == [gone])  # noqa: SLF001
    cluster.start()
    await until(lambda: writer.leads and not writer._chat)  # noqa: SLF001


async def test_extra_texts_reach_the_clients_of_an_edge(
    nats: Nats, origin: Origin, serve: Serve, join: Join
) -> None:
    """Those that the origin's operator names, if the edge's operator names them, too."""
    cluster, source = await nats(), town()
    source.users_answers["1"] = {"7": User(username="Ada", extra={"mood": "fine", "secret": "x"})}
    await origin(cluster, source, servers={"1": {"extra": ["mood"]}})
    edge = await serve(cluster, servers={"1": {"extra": ["mood", "secret"]}})
    world = await join(edge, "plaza")
    assert world.users["7"].extra == {"mood": "fine"}
    source.emit(UserChanged(server_id="1", uid="7", extra={"mood": "tired"}))
    await world.until(lambda w: w.users["7"].extra == {"mood": "tired"})
    source.emit(UserChanged(server_id="1", uid="7", extra=None))
    await world.until(lambda w: not w.users["7"].extra)
    closed = await join(await serve(cluster), "plaza")
    assert not closed.users["7"].extra


async def test_nobody_speaks_before_they_are_there(
    nats: Nats, origin: Origin, serve: Serve, join: Join, until: Until, *,
    listening: Listening, lines: Lines,
) -> None:  # fmt: skip
    """Chat that overtakes its author waits, and what is said after it waits behind it."""
    cluster = await nats()
    await origin(cluster, town())
    world = await join(await serve(cluster), "plaza")
    heard = await listening(world)
    line = await lines(NatsConfig(urls=cluster.urls))
    revision = await revision_of(line)
    for uid, text, after in (("9", "hi", revision + 1), ("7", "hello", 0)):
        chat = ChatValue(channel="2", uid=uid, message=text, after=after)
        await line.client.publish("d-back.d-back.chat.1", encoded(chat))
    await flushed(line)
    user = encoded(UserValue(username="Cid", status="online"))
    await (await line.js.key_value("d-back")).put("users.1.9", user)
    await until(lambda: chat_of(heard) == ["hi", "hello"])


async def test_hostile_uids_reach_an_edge_unchanged(
    nats: Nats, origin: Origin, serve: Serve, join: Join
) -> None:
    """Wildcards and dots of NATS are users like others, also when they go."""
    cluster = await nats()
    uids = ["*", ">", ".", "a.b", "=2A", "$KV.d-back.>", "~" * 64]
    source = ScriptedProvider(
        {"1": Server(name="Odd")}, {"1": {uid: User(username=uid) for uid in uids}}
    )
    await origin(cluster, source)
    world = await join(await serve(cluster))
    assert {uid: user.username for uid, user in world.users.items()} == {uid: uid for uid in uids}
    for uid in uids[:-1]:
        source.emit(UserRemoved(server_id="1", uid=uid))
    await world.until(lambda w: set(w.users) == {uids[-1]})


async def test_the_list_of_servers_reaches_an_edge(
    nats: Nats, origin: Origin, serve: Serve, join: Join
) -> None:
    """New, renamed, protected and removed servers, with the public ids of the origin."""
    cluster, source = await nats(), town()
    await origin(cluster, source, servers={"1": {"alias": "the-plaza"}})
    world = await join(await serve(cluster), "2")
    assert {each.id for each in world.servers.values()} == {"the-plaza", "garden"}
    source.users_answers["3"] = {}
    source.emit(
        ServerChanged(server_id="3", name="Yard"),
        ServerChanged(server_id="2", name="Park"),
        ServerChanged(server_id="1", passworded=True),
    )
    await world.until(
        lambda w: {each.name for each in w.servers.values()} == {"Plaza", "Park", "Yard"}
    )
    await world.until(lambda w: w.servers["1"].passworded)
    source.emit(ServerRemoved(server_id="1"))
    await world.until(lambda w: {each.name for each in w.servers.values()} == {"Park", "Yard"})


async def test_a_client_id_reaches_an_edge(
    nats: Nats, origin: Origin, serve: Serve, join: Join
) -> None:
    """Clients of an edge log in with the OAuth2 application that the origin names."""
    cluster, source = await nats(), town()
    await origin(cluster, source)
    source.emit(ServerChanged(server_id="1", client_id="111"))
    edge = await serve(cluster)
    await (await join(edge, "plaza")).until(lambda w: w.client_id == "111")
    source.emit(ServerChanged(server_id="1", client_id="222"))
    world = await join(edge, "plaza")
    await world.until(lambda w: w.client_id == "222")


async def test_only_what_clients_watch_is_read(
    nats: Nats, origin: Origin, serve: Serve, join: Join, until: Until, *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """An edge reads the users of a server from the first join until the core lets it go."""
    monkeypatch.setattr("d_back_nats.edge.RELEASE_INTERVAL", 0.05)
    cluster = await nats()
    await origin(cluster, town())
    edge = await serve(cluster, chain={"idle": "50ms"})
    assert watched(edge) == set()
    plaza = await join(edge, "plaza")
    await join(edge, "garden")
    assert watched(edge) == {"1", "2"}
    assert set(plaza.users) == {"7", "8"}
    for session, live in list(edge.live.joins._joined.items()):  # noqa: SLF001
        if live.server_id == "1":
            edge.live.joins.detach(session)
    await until(lambda: watched(edge) == {"2"})
    again = await join(edge, "plaza")
    assert set(again.users) == {"7", "8"}


async def test_a_server_that_comes_later_can_be_joined(
    nats: Nats, origin: Origin, serve: Serve, join: Join, until: Until
) -> None:
    """An edge that was there first serves what the origin brings afterwards."""
    cluster, source = await nats(), ScriptedProvider({}, {"5": {"7": ADA}})
    await origin(cluster, source)
    edge = await serve(cluster, servers={"5": {"eager": True}})
    source.emit(ServerChanged(server_id="5", name="Late"))
    await until(lambda: "5" in edge.live.server_list.servers)
    world = await join(edge, "5")
    await world.until(lambda w: set(w.users) == {"7"})


async def test_both_sides_tell_figures(
    nats: Nats, origin: Origin, serve: Serve, join: Join, until: Until
) -> None:
    """Who writes, what is still to be written or read, and how often the line was lost."""
    cluster = await nats()
    server = await origin(cluster, town())
    edge = await serve(cluster)
    await join(edge, "plaza")

    def figures_of(server: WebSocketServer) -> dict[str, float]:
        return next(each.gauges for each in server.live.stats().providers if each.name == "nats")

    await until(
        lambda: (
            figures_of(server)
            == {"reconnects": 0, "writes": 1, "unwritten_keys": 0, "takeovers": 1}
        )
    )
    await until(
        lambda: figures_of(edge) == {"reconnects": 0, "lag_revisions": 0, "watched_servers": 1}
    )
    cluster.kill()
    cluster.start()
    await until(lambda: figures_of(edge)["reconnects"] == figures_of(server)["reconnects"] == 1)
