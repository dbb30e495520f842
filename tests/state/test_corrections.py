"""Edits and deletions of chat messages: no client and no recorder keeps, or gets later, a text
that was replaced or deleted (R11, R23, R29, R33)."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from sample_users import ADA, BOB, ONE

from d_back_core import (
    Change,
    Message,
    MessageDeleted,
    MessageEdited,
    UserChanged,
    UserRemoved,
    WebSocketServer,
    hookimpl,
)
from d_back_core.chain.world import ChatCleared, World, WorldChange
from d_back_core.client import (
    MessageDeleteFrame,
    MessageEditFrame,
    MessageFrame,
    Resumed,
    ServerMessage,
)
from d_back_core.models import EffectiveUser
from d_back_core.providers import recorder_queue
from d_back_core.state.backlog import Backlog
from d_back_core.wire.protocol import Connect, ConnectRequest, Resume
from d_back_testing import ManualClock, RunningGateway, ScriptedProvider, configured, served

RECORDED = {"order": ["a"], "recorders": ["r"]}
AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=timezone(timedelta(hours=2)))


def town() -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}})


def said(text: str, message_id: str | None = "m1", uid: str = "7", channel: str = "c") -> Message:
    return Message(server_id="1", uid=uid, message=text, channel=channel, id=message_id)


def edited(text: str, message_id: str = "m1", uid: str = "7", channel: str = "c") -> MessageEdited:
    return MessageEdited(server_id="1", uid=uid, message=text, channel=channel, id=message_id)


def deleted(message_id: str = "m1", channel: str = "c") -> MessageDeleted:
    return MessageDeleted(server_id="1", channel=channel, id=message_id)


def shape(frames: Sequence[ServerMessage]) -> list[tuple[str, ...]]:
    """The chat of these frames: what it does to which message."""
    found: list[tuple[str, ...]] = []
    for frame in frames:
        match frame:
            case MessageFrame(data=data):
                found.append(("say", str(data.id), data.message))
            case MessageEditFrame(data=data):
                found.append(("edit", data.id, data.message))
            case MessageDeleteFrame(data=gone):
                found.append(("delete", str(gone.id)))
    return found


async def heard(
    *events: Any,  # noqa: ANN401  events, also broken ones
    policy: dict[str, Any] | None = None,
) -> list[ServerMessage]:
    """What a client gets of these events, each in a turn of its own."""
    source = town()
    async with served({"a": source}, policies={"1": policy or {}}) as gateway:
        client = await gateway.connect_and_join()
        for event in events:
            source.emit(event)
            await gateway.settle()
        return await client.new_frames()


async def test_a_message_an_edit_and_a_deletion_as_they_are_sent() -> None:
    """Ids and times go out as they were given, the times in UTC with milliseconds."""
    frames = await heard(
        msgspec.structs.replace(said("hello"), at=AT),
        msgspec.structs.replace(edited("hi"), at=AT),
        deleted(),
        said("plain", None),
    )
    at = "2026-01-02T01:04:05.678000Z"
    assert [msgspec.to_builtins(frame) for frame in frames] == [
        {
            "type": "message",
            "server": "1",
            "seq": 1,
            "data": {"uid": "7", "message": "hello", "channel": "c", "id": "m1", "at": at},
        },
        {
            "type": "message-edit",
            "server": "1",
            "seq": 2,
            "data": {"uid": "7", "message": "hi", "channel": "c", "id": "m1", "at": at},
        },
        {"type": "message-delete", "server": "1", "seq": 3, "data": {"id": "m1", "channel": "c"}},
        {
            "type": "message",
            "server": "1",
            "seq": 4,
            "data": {"uid": "7", "message": "plain", "channel": "c"},
        },
    ]


async def test_a_bulk_deletion_leaves_in_one_write() -> None:
    """Each of its events has a number of its own."""
    source = town()
    async with served({"a": source}) as gateway:
        client = await gateway.connect_and_join()
        source.emit(*(said("spam", f"m{number}") for number in range(100)))
        await client.new_frames()
        before = gateway.live.counters.deltas
        source.emit(*(deleted(f"m{number}") for number in range(100)))
        frames = await client.new_frames()
        assert shape(frames) == [("delete", f"m{number}") for number in range(100)]
        assert gateway.live.counters.deltas == before + 100


# What comes in (R5)


async def test_r5_what_is_not_valid_in_chat() -> None:
    """A bad time is left out, an unfit id is mapped, a text that is empty deletes, and a
    correction that names no message is dropped."""
    naive = datetime(2026, 1, 2)  # noqa: DTZ001
    frames = await heard(
        msgspec.structs.replace(said("one", "m1"), at=naive),
        msgspec.structs.replace(said("two", "m2"), at="yesterday"),
        msgspec.structs.replace(said("three", "m3"), at=datetime.max.replace(tzinfo=UTC)),
        said("four", "a b"),
        edited("five", "a b"),
        deleted("a b"),
        said("six", 6),  # type: ignore[arg-type]
        edited("", "m2"),
        edited("seven", None),  # type: ignore[arg-type]
        deleted(None),  # type: ignore[arg-type]
    )
    mapped = shape(frames)[3][1]
    assert mapped.startswith("message-")
    assert shape(frames) == [
        ("say", "m1", "one"),
        ("say", "m2", "two"),
        ("say", "m3", "three"),
        ("say", mapped, "four"),
        ("edit", mapped, "five"),
        ("delete", mapped),
        ("say", "6", "six"),
        ("delete", "m2"),
    ]


# The operator's rules, at the moment of sending (R11, R33)


@pytest.mark.parametrize(
    ("policy", "event"),
    [
        ({"ignore_channels": ["c"]}, deleted()),
        ({"ignore_channels": ["c"]}, edited("hi")),
        ({"listen_channels": ["other"]}, deleted()),
    ],
)
async def test_r11_no_correction_of_a_hidden_channel_is_sent(
    policy: dict[str, Any], event: MessageEdited | MessageDeleted
) -> None:
    """Clients do not even learn that there was a message."""
    assert await heard(said("hello"), event, policy=policy) == []


@pytest.mark.parametrize("event", [deleted(), edited("hi")])
async def test_r11_what_was_sent_before_a_reload_is_taken_back(
    event: MessageEdited | MessageDeleted,
) -> None:
    """A channel that is hidden since cannot show the new text, but the old one goes."""
    source = town()
    async with served({"a": source}) as gateway:
        client = await gateway.connect_and_join()
        source.emit(said("hello"))
        await client.new_frames()
        hidden = configured(["a"], policies={"1": {"ignore_channels": ["c"]}})
        await gateway.server.reload(hidden)
        source.emit(event, deleted("unknown"))
        assert shape(await client.new_frames()) == [("delete", "m1")]


async def test_r11_an_edit_of_an_author_who_is_not_shown_takes_the_message_back() -> None:
    """The user who could say the new text is gone."""
    frames = await heard(said("hello"), UserRemoved(server_id="1", uid="7"), edited("hi"))
    assert shape(frames) == [("say", "m1", "hello"), ("delete", "m1")]


async def test_r33_an_edit_over_the_rate_takes_the_message_back() -> None:
    """Edits count as messages do; deletions have no limit."""
    source = town()
    async with served({"a": source}) as gateway:
        limited = configured(["a"])
        limits = msgspec.structs.replace(limited.limits, chat_burst=2)
        await gateway.server.reload(msgspec.structs.replace(limited, limits=limits))
        client = await gateway.connect_and_join()
        for event in (said("hello"), edited("hi"), edited("over"), said("over", "m2"), deleted()):
            source.emit(event)
            await gateway.settle()
        assert shape(await client.new_frames()) == [
            ("say", "m1", "hello"),
            ("edit", "m1", "hi"),
            ("delete", "m1"),
            ("delete", "m1"),
        ]
        assert gateway.live.counters.chat_dropped == 2


# Who comes back, or reads slowly (R29, R48)


@pytest.mark.parametrize("turns", [1, 2])
async def test_r29_a_resume_does_not_bring_a_text_that_was_deleted(turns: int) -> None:
    """The numbers have no gap; the deletion comes for those who had the message."""
    source = town()
    async with served({"a": source}) as gateway:
        client = await gateway.connect_and_join()
        epoch, users = client.world.epoch, dict(client.users)
        await client.connection.close()
        source.emit(said("secret"), edited("secret 2"), said("wrong", "m2"))
        if turns == 2:
            await gateway.settle()
        source.emit(deleted(), edited("right", "m2"), said("late", "m3"))
        await gateway.settle()
        back = await gateway.connect()
        back.world.epoch, back.world.users = epoch, users
        known = Resume(epoch=epoch, seq=0)
        await back.send(Connect(data=ConnectRequest(server="1", resume=known)))
        frames = await back.new_frames()
        assert isinstance(frames[0], Resumed)
        assert shape(frames) == [
            ("delete", "m1"),
            ("delete", "m1"),
            ("say", "m2", "right"),
            ("delete", "m1"),
            ("edit", "m2", "right"),
            ("say", "m3", "late"),
        ]


async def test_a_message_that_is_deleted_in_the_same_turn_is_not_sent() -> None:
    """What waits to be sent is corrected, too."""
    source = town()
    async with served({"a": source}) as gateway:
        client = await gateway.connect_and_join()
        source.emit(said("secret"), deleted())
        assert shape(await client.new_frames()) == [("delete", "m1"), ("delete", "m1")]


def released(*chat: Message | MessageEdited | MessageDeleted) -> list[WorldChange]:
    """What a client gets that did not read while this was said."""
    users = {uid: EffectiveUser(uid, uid, "online", "#ffffff") for uid in "78"}
    world = World("1", users)
    deltas = []
    for each in chat:
        world.say(each)
        deltas += world.take()  # at once: what is still in the world is corrected there
    first, *others = deltas
    backlog = Backlog(0, first)
    for delta in others:
        backlog.hold(delta)
    world.put("8", None)
    return backlog.release(world)


def test_r29_a_held_message_that_is_deleted_is_dropped() -> None:
    """The client has never had it; other corrections are kept, the last one of each message."""
    changes = released(
        said("held", "h1"),
        said("typo", "h2"),
        edited("early", "m1"),
        edited("fixed", "h2"),
        edited("late", "m1"),
        deleted("h1"),
        deleted("m2"),
        edited("of Bob, who leaves", "m3", uid="8"),
    )
    assert changes == [said("fixed", "h2"), edited("late", "m1"), deleted("m2"), deleted("m3")]


def test_r29_too_many_corrections_clear_the_chat_of_the_client() -> None:
    """None is lost without a word: the client drops all that it has shown."""
    most = [deleted(f"m{number}") for number in range(1000)]
    assert released(*most) == most
    changes = released(*most, deleted("x"), said("new", "n"), deleted("y"))
    assert changes == [ChatCleared(), said("new", "n"), deleted("y")]


# What recorders store (R23)


class Recorder(ScriptedProvider):
    """A recorder of the public state that remembers what it is given."""

    records = "public"

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Change] = []

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        await self._called("record")
        self.got += changes

    @property
    def chat(self) -> list[Change]:
        kinds = Message | MessageEdited | MessageDeleted
        return [change for change in self.got if isinstance(change, kinds)]


async def test_r23_a_public_recorder_gets_edits_and_deletions() -> None:
    """After the policy: it gets what clients get."""
    source, recorder = town(), Recorder()
    policies = {"1": {"ignore_channels": ["hidden"]}}
    providers = {"a": source, "r": recorder}
    async with served(providers, chain=RECORDED, policies=policies) as gateway:
        for event in (said("one"), edited("two"), deleted(), deleted("x", "hidden")):
            source.emit(event)
            await gateway.settle()
        assert recorder.chat == [said("one"), edited("two"), deleted()]


@pytest.mark.parametrize("limit", [10, 3])
async def test_r23_what_waits_for_a_recorder_is_corrected(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """A recorder that was down stores no text that was deleted meanwhile; deletions are the last
    to be dropped."""
    monkeypatch.setattr(recorder_queue, "MAX_MESSAGES", limit)
    source, recorder = town(), Recorder()
    async with served({"a": source, "r": recorder}, chain=RECORDED) as gateway:
        await gateway.settle()
        recorder.hold("record")
        source.emit(UserChanged(server_id="1", uid="8", status="dnd"))  # the call that waits
        await gateway.settle()
        source.emit(said("secret"), deleted("m1"), said("typo", "m2"), edited("fixed", "m2"))
        source.emit(said("three", "m3"), said("four", "m4"))
        await gateway.settle()
        recorder.release("record")
        await gateway.settle()
        kept = [said("fixed", "m2"), said("three", "m3"), said("four", "m4")]
        assert recorder.chat == [deleted("m1"), *kept[-limit + 1 :]]


# Programs that embed the gateway


async def test_a_program_edits_and_deletes_what_it_has_broadcast(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By a method, or by a frame of the protocol."""
    server = WebSocketServer(0)
    server.on_get_server_data(lambda: {"1": {"name": "One"}})
    server.on_get_user_data(lambda _: {"7": {"username": "Ada", "status": "online"}})
    async with server:
        gateway = RunningGateway(server, ManualClock())
        client = await gateway.connect_and_join()
        await server.broadcast_message("1", "7", "hello", "c", message_id="m1", at=AT)
        await server.broadcast_message_edit("1", "7", "hi", "c", "m1")
        await server.broadcast_message_delete("1", "c", "m1")
        entry = {"uid": 7, "message": "a", "channel": "c", "id": "m2", "at": AT.isoformat()}
        await server.broadcast_message({"type": "message", "server": "1", "data": entry})
        await server.broadcast_message({"type": "message-edit", "server": 1, "data": entry})
        await server.broadcast_message({"type": "message-delete", "server": 1, "data": entry})
        with caplog.at_level(logging.WARNING):
            wrong = entry | {"at": "yesterday", "id": "m3"}
            await server.broadcast_message({"type": "message", "server": "1", "data": wrong})
            await server.settled()
        frames = await client.new_frames()
        assert shape(frames) == [
            ("delete", "m1"),
            ("delete", "m1"),
            ("delete", "m1"),
            ("delete", "m2"),
            ("delete", "m2"),
            ("delete", "m2"),
            ("say", "m3", "a"),
        ]
        assert "events.at" in caplog.text
        bare = {"uid": "7", "message": "a", "channel": "c"}
        for kind in ("message-edit", "message-delete"):
            with pytest.raises(ValueError, match="incomplete"):
                await server.broadcast_message({"type": kind, "server": "1", "data": bare})
        await client.connection.close()
