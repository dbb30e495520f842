"""What recorders are given, and what they are spared (R21, R22, R23)."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs
from sample_users import ADA, BOB, CID, ONE

from d_back_core import (
    Change,
    ConfigError,
    Message,
    Reload,
    Server,
    ServerChanged,
    ServerRemoved,
    ServerSet,
    Snapshot,
    User,
    UserChanged,
    UserRemoved,
    UserSet,
    hookimpl,
)
from d_back_core.config import parse
from d_back_core.providers.loader import load
from d_back_testing import ScriptedProvider, configured, served
from d_back_testing.scripted_provider import DOWN

GRACE = 30.0
WITH_CLIENT_ID = ServerSet(server_id="1", server=Server(name="One", id="one", client_id="42"))


class Recorder(ScriptedProvider):
    """A provider that remembers what it is given."""

    def __init__(self, *args: Any) -> None:  # noqa: ANN401  those of a script
        super().__init__(*args)
        self.batches: list[list[Change]] = []
        self.failing = False

    @property
    def got(self) -> list[Change]:
        return [change for batch in self.batches for change in batch]

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        await self._called("record")
        if self.failing:
            raise DOWN
        self.batches.append(list(changes))


class PublicRecorder(Recorder):
    """One that wants what may leave this machine."""

    records = "public"


def town() -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}})


def users_of(changes: list[Change]) -> dict[str, User | None]:
    """The state that the changes leave behind."""
    state: dict[str, User | None] = {}
    for change in changes:
        match change:
            case UserSet(uid=uid, user=user):
                state[uid] = user
            case UserRemoved(uid=uid):
                state[uid] = None
            case Snapshot(server_id=str(), keys=keys):
                state = {uid: user for uid, user in state.items() if uid in keys}
    return state


async def test_r22_a_recorded_server_is_eager() -> None:
    """A recorder is given the users of a server that no client has joined."""
    recorder = Recorder()
    async with gateway_of(town(), recorder) as gateway:
        await gateway.settle()
    assert users_of(recorder.got) == {"7": ADA, "8": BOB}


def gateway_of(town: ScriptedProvider, recorder: Recorder, **tables: Any) -> Any:  # noqa: ANN401  a gateway
    chain = {"order": ["town"], "recorders": ["recorder"]}
    return served({"town": town, "recorder": recorder}, chain=chain, **tables)


@pytest.mark.parametrize("told", ["by an event", "by its next list"])
async def test_r22_what_a_provider_takes_back_is_recorded(told: str) -> None:
    """It no longer lists the server, and says None about its users: that is no outage."""
    above, below, recorder = town(), ScriptedProvider(ONE, {"1": {"8": CID}}), Recorder()
    providers = {"town": above, "below": below, "recorder": recorder}
    chain = {"order": ["town", "below"], "recorders": ["recorder"]}
    tables = {"below": {"mode": "merge"}}
    async with served(providers, chain=chain, tables=tables) as gateway:
        await gateway.settle()
        assert users_of(recorder.got) == {"7": ADA, "8": BOB}
        del above.users_answers["1"]
        above.servers_answer = {}
        above.emit(ServerRemoved(server_id="1") if told == "by an event" else Reload())
        await gateway.settle()
        assert {k: v for k, v in users_of(recorder.got).items() if v is not None} == {"8": CID}


async def test_r12_a_server_is_recorded_with_its_public_id() -> None:
    """The public id in use is stored, so that it is the same after a restart."""
    recorder = Recorder()
    async with gateway_of(town(), recorder) as gateway:
        await gateway.settle()
    expected = ServerSet(server_id="1", server=Server(name="One", id="one"))
    assert expected in recorder.got


async def test_a_whole_snapshot_is_said_to_be_complete() -> None:
    """A recorder may forget whom a whole snapshot does not hold."""
    recorder = Recorder()
    async with gateway_of(town(), recorder) as gateway:
        await gateway.settle()
    assert Snapshot(server_id=None, keys=frozenset({"1"})) in recorder.got
    assert Snapshot(server_id="1", keys=frozenset({"7", "8"})) in recorder.got


async def test_what_is_only_a_part_is_not_said_to_be_complete() -> None:
    """Neither an overlay nor a provider that is asked for some servers only stands for all, and
    a recorder that is asked for some may remember others."""
    for tables in (
        {"town": {"mode": "merge"}},
        {"town": {"servers": ["1"]}},
        {"recorder": {"servers": ["1"]}},
    ):
        recorder = Recorder()
        async with gateway_of(town(), recorder, tables=tables) as gateway:
            await gateway.settle()
        assert "1" in [each.server_id for each in recorder.got if isinstance(each, ServerSet)]
        assert [
            each
            for each in recorder.got
            if each == Snapshot(server_id=None, keys=frozenset({"1"}))
        ] == []


async def test_events_are_recorded() -> None:
    """A change, a new user and a removal each reach the recorder."""
    source, recorder = town(), Recorder()
    async with gateway_of(source, recorder) as gateway:
        source.emit(
            UserChanged(server_id="1", uid="7", status="dnd"),
            UserChanged(server_id="1", uid="9", username="Cid"),
            UserRemoved(server_id="1", uid="8"),
        )
        await gateway.settle()
        state = users_of(recorder.got)
    assert state["7"] == User(username="Ada", status="dnd", role_color="#aaaaaa")
    assert state["9"] == User(username="Cid")
    assert state["8"] is None


async def test_r22_an_outage_erases_nothing() -> None:
    """A provider that fails past its grace takes nothing out of the memory."""
    source, recorder = town(), Recorder(ONE, {"1": {"9": CID}})
    chain = {"order": ["town", "recorder"], "recorders": ["recorder"]}
    async with served({"town": source, "recorder": recorder}, chain=chain) as gateway:
        await gateway.settle()
        before = len(recorder.got)
        source.break_stream()
        source.servers_answer = source.users_answers["1"] = DOWN
        await gateway.advance(GRACE + 1)
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"9"}
        assert recorder.got[before:] == []


async def test_r22_a_user_who_left_meanwhile_is_forgotten_when_the_source_is_back() -> None:
    """The snapshot of a source that returns is whole, and says who is gone."""
    source, recorder = town(), Recorder(ONE, {"1": {"9": CID}})
    chain = {"order": ["town", "recorder"], "recorders": ["recorder"]}
    async with served({"town": source, "recorder": recorder}, chain=chain) as gateway:
        source.break_stream()
        source.users_answers["1"] = DOWN
        await gateway.advance(GRACE + 1)
        source.broken = False
        source.users_answers["1"] = {"7": ADA}
        await gateway.advance(100)
        assert users_of(recorder.got) == {"7": ADA}


async def test_r21_a_recorder_hears_only_of_the_layers_above_it() -> None:
    """What a layer below says, or lends to the merge, is not recorded."""
    above = ScriptedProvider(ONE, {"1": {"7": User(username="Ada")}})
    below = ScriptedProvider(None, {"1": {"7": User(status="dnd"), "9": CID}})
    recorder = Recorder()
    providers = {"above": above, "recorder": recorder, "below": below}
    tables = {"below": {"mode": "merge"}}
    async with served(providers, tables=tables, chain={"recorders": ["recorder"]}) as gateway:
        below.emit(UserChanged(server_id="1", uid="7", status="idle"))
        await gateway.settle()
    assert users_of(recorder.got) == {"7": User(username="Ada")}


def test_r21_a_recorder_at_the_top_of_the_order_is_an_error() -> None:
    """It has no provider above it whose state it could store."""
    with pytest.raises(ConfigError, match=r"'postgres': is first in chain\.order"):
        parse({"chain": {"order": ["postgres", "mock"], "recorders": ["postgres"]}})


def test_a_recorder_that_records_nothing_is_an_error() -> None:
    """A plugin without the hook cannot be named as a recorder."""
    config = parse({"chain": {"order": ["a"], "recorders": ["b"]}})
    with pytest.raises(
        ConfigError, match=r"provider 'b' \(ScriptedProvider\) does not implement record"
    ):
        load(config, {"a": ScriptedProvider(), "b": ScriptedProvider()})


async def test_r23_chat_is_for_public_recorders_only() -> None:
    """A memory is not given what was said; a public recorder is."""
    source, memory, public = town(), Recorder(), PublicRecorder()
    providers = {"town": source, "memory": memory, "public": public}
    chain = {"order": ["town"], "recorders": ["memory", "public"]}
    said = [
        Message(server_id="1", uid=uid, message=text, channel="c")
        for uid, text in (("7", "hello"), ("8", "hi"), ("7", "hello"))
    ]
    async with served(providers, chain=chain) as gateway:
        await gateway.settle()
        source.emit(*said)
        await gateway.settle()
    assert [each for each in public.got if isinstance(each, Message)] == said
    assert not [each for each in memory.got if isinstance(each, Message)]


async def test_public_recorders_get_the_state_after_the_policy() -> None:
    """Hidden users and ignored channels stay here; a memory must not forget whom the operator
    hides today."""
    source, memory, public = town(), Recorder(), PublicRecorder()
    providers = {"town": source, "memory": memory, "public": public}
    chain = {"order": ["town"], "recorders": ["memory", "public"]}
    policies = {"1": {"ignore_users": ["8"], "ignore_channels": ["secret"]}}
    async with served(providers, chain=chain, policies=policies) as gateway:
        await gateway.settle()
        said = {
            text: Message(server_id="1", uid=uid, message=text, channel=channel)
            for uid, text, channel in (
                ("7", "psst", "secret"),
                ("8", "I am hidden", "c"),
                ("7", "hello", "c"),
            )
        }
        source.emit(*said.values(), UserChanged(server_id="1", uid="8", status="dnd"))
        await gateway.settle()
    assert users_of(public.got) == {"7": ADA, "8": None}
    assert "8" not in [change.uid for change in public.got if isinstance(change, UserSet)]
    assert users_of(memory.got) == {"7": ADA, "8": structs.replace(BOB, status="dnd")}
    assert [each for each in public.got if isinstance(each, Message)] == [said["hello"]]


@pytest.mark.parametrize(
    ("order", "modes", "status"),
    [(["b", "a"], ("merge", "merge"), "idle"), (["a", "b"], ("enrich", "merge"), "online")],
)
async def test_r22_what_another_order_or_mode_changes_is_recorded(
    order: list[str], modes: tuple[str, str], status: str
) -> None:
    """The layers are the same, and make other users."""
    a = ScriptedProvider(ONE, {"1": {"7": ADA, "9": CID}})
    b = ScriptedProvider(ONE, {"1": {"7": structs.replace(ADA, status="idle")}})
    recorder = Recorder()
    chain = {"order": ["a", "b"], "recorders": ["recorder"]}
    tables = {"a": {"mode": "merge"}, "b": {"mode": "merge"}}
    providers = {"a": a, "b": b, "recorder": recorder}
    async with served(providers, chain=chain, tables=tables) as gateway:
        await gateway.settle()
        tables = {name: {"mode": mode} for name, mode in zip("ab", modes, strict=True)}
        chain["order"] = order
        await gateway.server.reload(configured(order, tables, chain))
        await gateway.settle()
        [world] = [server.world for server in gateway.live.servers.values()]
    stored = {uid: user for uid, user in users_of(recorder.got).items() if user is not None}
    assert stored["7"] == structs.replace(ADA, status=status)
    assert stored.keys() == world.users.keys()


async def test_r6_protection_is_recorded() -> None:
    """What a source protects is still protected when the memory speaks for it."""
    source = ScriptedProvider({"1": Server(name="One", passworded=True)}, {"1": {}})
    recorder = Recorder()
    async with gateway_of(source, recorder) as gateway:
        await gateway.settle()
    [recorded] = [each.server for each in recorder.got if isinstance(each, ServerSet)]
    assert recorded.passworded is True


async def test_a_removed_server_is_recorded() -> None:
    """A source that takes a server out of its list takes it out of the memory."""
    source, recorder = town(), Recorder()
    async with gateway_of(source, recorder) as gateway:
        await gateway.settle()
        source.servers_answer = {}
        await gateway.advance(0)
        assert source.context is not None
        source.context.degraded("changed")
        source.context.recovered()
        await gateway.settle()
    assert ServerRemoved(server_id="1") in recorder.got


async def test_client_ids_are_recorded() -> None:
    """A changed OAuth2 client id is recorded with its server."""
    source, recorder = town(), Recorder()
    async with gateway_of(source, recorder) as gateway:
        await gateway.settle()
        source.emit(ServerChanged(server_id="1", client_id="42"))
        await gateway.settle()
    assert recorder.got[-1] == WITH_CLIENT_ID


async def test_r23_while_a_recorder_is_slow_the_newest_state_wins() -> None:
    """Of each user only the last state waits, and clients do not."""
    source, recorder = town(), Recorder()
    async with gateway_of(source, recorder) as gateway:
        await gateway.settle()
        recorder.hold("record")
        client = await gateway.connect_and_join()
        for status in ("dnd", "idle", "offline", "online", "dnd"):
            source.emit(UserChanged(server_id="1", uid="7", status=status))
            source.emit(UserChanged(server_id="1", uid="8", status=status))
        await gateway.settle()
        assert len(await client.new_frames()) > 0
        assert client.users["7"].status == "dnd"
        before = len(recorder.got)
        recorder.release("record")
        await gateway.settle()
        # One batch was under way when the others came.
        assert len(recorder.got) - before <= 3
        assert users_of(recorder.got)["7"] == User(
            username="Ada", status="dnd", role_color="#aaaaaa"
        )


async def test_a_batch_that_failed_is_given_again() -> None:
    """Nothing is lost while a recorder is down."""
    source, recorder = town(), Recorder()
    recorder.failing = True
    async with gateway_of(source, recorder) as gateway:
        await gateway.settle()
        assert recorder.got == []
        recorder.failing = False
        await gateway.advance(70)
        assert users_of(recorder.got) == {"7": ADA, "8": BOB}


async def test_r23_the_queue_is_stored_before_the_recorder_is_asked() -> None:
    """The memory answers with what it was just given."""
    source, recorder = town(), Recorder(ONE, {"1": {"9": CID}})
    chain = {"order": ["town", "recorder"], "recorders": ["recorder"]}
    async with served({"town": source, "recorder": recorder}, chain=chain) as gateway:
        await gateway.settle()
        source.users_answers["1"] = None
        assert source.context is not None
        source.context.degraded("gone")
        await gateway.advance(GRACE - 1)
        recorder.hold("record")
        source.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await gateway.advance(1)
        assert recorder.calls[-1] == "record"
        recorder.release("record")
        await gateway.settle()
        assert recorder.calls[-1] == "users 1"


async def test_what_waits_is_stored_on_stop() -> None:
    """The last changes are not lost when the gateway stops."""
    source, recorder = town(), Recorder()
    async with gateway_of(source, recorder) as gateway:
        await gateway.settle()
        source.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await gateway.settle()
        recorder.hold("record")
        source.emit(UserChanged(server_id="1", uid="7", status="idle"))
        await gateway.settle()
        stopping = asyncio.create_task(gateway.server.stop())
        await gateway.settle()
        recorder.release("record")
        await stopping
    assert users_of(recorder.got)["7"] == User(username="Ada", status="idle", role_color="#aaaaaa")
    assert recorder.calls[-1] == "stop"


# Reloads

RECORDED = {"recorders": ["r"]}


async def test_r21_a_recorder_that_is_added_hears_what_there_is() -> None:
    """It need not wait for changes to know the community."""
    recorder = Recorder()
    async with served({"a": town(), "r": recorder}) as gateway:
        await gateway.connect_and_join()
        await gateway.server.reload(configured("ar", chain=RECORDED))
        await gateway.settle()
        assert users_of(recorder.got).keys() == {"7", "8"}
        assert any(isinstance(each, ServerSet) for each in recorder.got)


async def test_r21_a_policy_that_protects_a_server_reaches_who_records_the_public_state() -> None:
    """Who serves it elsewhere must not leave it open."""
    recorder = PublicRecorder()
    async with served({"a": town(), "r": recorder}, chain=RECORDED) as gateway:
        await gateway.settle()
        recorder.batches.clear()
        await gateway.server.reload(
            configured("ar", chain=RECORDED, policies={"1": {"password": "x"}})
        )
        await gateway.settle()
        servers = [each.server for each in recorder.got if isinstance(each, ServerSet)]
        assert [each.passworded for each in servers] == [True]


async def test_r21_a_policy_that_disables_a_server_takes_it_from_the_public_state() -> None:
    """And from whatever is made of that."""
    recorder = PublicRecorder()
    async with served({"a": town(), "r": recorder}, chain=RECORDED) as gateway:
        await gateway.settle()
        recorder.batches.clear()
        await gateway.server.reload(
            configured("ar", chain=RECORDED, policies={"1": {"enabled": False}})
        )
        await gateway.settle()
        assert ServerRemoved(server_id="1") in recorder.got


async def test_r21_users_whom_a_policy_hides_leave_the_public_state_and_come_back() -> None:
    """With the reload that says so."""
    recorder = PublicRecorder()
    hiding = {"1": {"ignore_users": ["7"]}}
    async with served({"a": town(), "r": recorder}, chain=RECORDED, policies=hiding) as gateway:
        await gateway.settle()
        assert users_of(recorder.got).get("7") is None
        await gateway.server.reload(configured("ar", chain=RECORDED))
        await gateway.settle()
        assert users_of(recorder.got)["7"] is not None
        await gateway.server.reload(configured("ar", chain=RECORDED, policies=hiding))
        await gateway.settle()
        assert users_of(recorder.got).get("7") is None


async def test_r23_a_recorder_that_is_taken_away_stores_what_waits_before_it_stops() -> None:
    """Nothing that was said is lost by a reload."""
    recorder = Recorder()
    async with served({"a": town(), "r": recorder}, chain=RECORDED) as gateway:
        await gateway.settle()
        recorder.calls.clear()
        recorder.hold("record")
        gateway.live.reports.on_event("a", UserChanged(server_id="1", uid="9", username="Zoe"))
        await gateway.settle()
        reloading = asyncio.create_task(gateway.server.reload(configured("a")))
        await gateway.settle()
        recorder.release("record")
        await reloading
        assert recorder.calls == ["record", "stop"]
        assert "9" in users_of(recorder.got)


async def test_r23_a_provider_that_records_no_longer_is_asked_without_waiting() -> None:
    """There is no queue any more that would have to be stored first."""
    recorder = Recorder()
    overlay = {"r": {"mode": "merge"}}
    async with served({"a": town(), "r": recorder}, chain=RECORDED, tables=overlay) as gateway:
        await gateway.settle()
        recorder.hold("record")
        gateway.live.reports.on_event("a", UserChanged(server_id="1", uid="9", username="Zoe"))
        await gateway.settle()
        reloading = asyncio.create_task(gateway.server.reload(configured("ar", overlay)))
        await gateway.settle()
        await gateway.advance(6)
        await reloading
        recorder.calls.clear()
        recorder.emit(Reload())
        await gateway.settle()
        assert "servers" in recorder.calls


async def test_r23_a_recorder_receives_client_ids_before_any_join() -> None:
    """A recorder that is added later receives those that are known, too."""
    source, recorder = town(), Recorder()
    source.servers_answer = {"1": Server(name="One", client_id="42")}
    async with served({"a": source, "r": recorder}, chain=RECORDED) as gateway:
        await gateway.settle()
        assert recorder.got.count(WITH_CLIENT_ID) == 1
        await gateway.server.reload(configured("ar"))
        recorder.batches.clear()
        await gateway.server.reload(configured("ar", chain=RECORDED))
        await gateway.settle()
        assert WITH_CLIENT_ID in recorder.got


async def test_r23_a_client_id_that_comes_before_its_server_is_recorded() -> None:
    """A provider in mode ``enrich`` may supply it before another one lists the server."""
    ids, source, recorder = ScriptedProvider({}), ScriptedProvider({}, {}), Recorder()
    providers = {"ids": ids, "a": source, "r": recorder}
    chain = {"order": ["ids", "a"], "recorders": ["r"]}
    async with served(providers, chain=chain, tables={"ids": {"mode": "enrich"}}) as gateway:
        ids.emit(ServerChanged(server_id="1", client_id="42"))
        await gateway.settle()
        assert not [each for each in recorder.got if isinstance(each, ServerSet)]
        source.emit(ServerChanged(server_id="1", name="One"))
        await gateway.settle()
        assert WITH_CLIENT_ID in recorder.got
