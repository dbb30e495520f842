"""A provider's life: start, stream, retry, health, stop (R8, R10, R16, R17, R19); and what is
left of it when it misbehaves: nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from itertools import cycle, pairwise
from typing import Any

import pytest
from peers import until
from sample_users import ADA, BOB, ONE

from d_back_core import ConfigError, Context, Reload, Server, Status, User, UserChanged, hookimpl
from d_back_core.models import Event
from d_back_core.providers import blocking
from d_back_core.providers import supervisor as supervision
from d_back_core.retrying import LONGEST_WAIT
from d_back_core.wire.protocol import Error
from d_back_testing import RunningGateway, ScriptedProvider, configured, prepared, served
from d_back_testing.scripted_provider import DOWN

GRACE = 30.0
RETRY = 70.0
"""Longer than any wait between two attempts."""


def club() -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": {"7": ADA}})


async def opened(gateway: RunningGateway) -> asyncio.Task[Any]:
    """Begin to start the gateway, and let happen whatever does not need time."""
    opening = asyncio.create_task(gateway.server.__aenter__())
    # The address is looked up before, in a thread that may be late.
    await until(lambda: gateway.server.live.providers.supervisors or opening.done())
    for _ in range(10):  # as much as it takes to listen, and more
        await gateway.settle()
        await asyncio.get_running_loop().getaddrinfo("localhost", 0)
    return opening


# R8: when listening begins


@pytest.mark.parametrize("mode", ["fallback", "merge"])
async def test_r8_listening_begins_when_every_provider_is_ready(mode: str) -> None:
    """A client that comes early enough to see less would be told what is not so."""
    a, b = club(), ScriptedProvider(ONE, {"1": {"8": BOB}})
    b.hold("start")
    async with prepared({"a": a, "b": b}, tables={"b": {"mode": mode}}) as gateway:
        opening = await opened(gateway)
        assert gateway.health("b") == "starting"
        assert not opening.done()
        b.release("start")
        await opening
        client = await gateway.connect_and_join()
        assert client.users.keys() == ({"7", "8"} if mode == "merge" else {"7"})


async def test_r8_a_provider_that_fails_does_not_keep_others_waiting() -> None:
    """Failed is as good as ready: what there is can be shown."""
    a, b = club(), club()
    a.start_answer = DOWN
    async with served({"a": a, "b": b}) as gateway:
        assert gateway.health("a") == "failed"
        assert (await gateway.connect_and_join()).users.keys() == {"7"}


async def test_r8_listening_begins_after_startup_timeout_in_any_case() -> None:
    """A provider that hangs in its start keeps the gateway from nothing."""
    a, b = club(), ScriptedProvider(ONE, {"1": {"8": BOB}})
    a.hang.add("start")
    chain = {"startup_timeout": "4s"}
    tables = {"a": {"timeout": "1s"}}
    async with prepared({"a": a, "b": b}, chain=chain, tables=tables) as gateway:
        opening = await opened(gateway)
        await gateway.advance(3.9)
        assert not opening.done()
        await gateway.advance(0.1)
        await opening
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"8"}


async def test_r8_the_list_of_servers_is_waited_for_too() -> None:
    """The first frame of a client is the list; it is not empty for being early."""
    a = club()
    a.hold("servers")
    async with prepared({"a": a}) as gateway:
        opening = await opened(gateway)
        assert gateway.health("a") == "ready"
        assert not opening.done()
        a.release("servers")
        await opening
        client = await gateway.connect()
        assert client.world.servers.keys() == {"1"}


async def test_r8_a_starting_provider_counts_as_answering() -> None:
    """The fallback below it is asked for its list, but for users only once the other has failed
    to start."""
    a, b = club(), ScriptedProvider(ONE, {"1": {"8": BOB}})
    a.hang.add("start")
    async with prepared({"a": a, "b": b}, policies={"1": {"eager": True}}) as gateway:
        opening = await opened(gateway)
        await gateway.advance(9.9)
        assert "servers" in b.calls
        assert "users 1" not in b.calls
        await gateway.advance(0.1)
        await opening
        await gateway.settle()
        assert "users 1" in b.calls


# R10, R17: start


async def test_r17_start_is_tried_again_in_new_pairs() -> None:
    """Each failed start is followed by its stop, and is not called again once it succeeded."""
    a = club()
    a.start_answer = DOWN
    async with served({"a": a}) as gateway:
        while len(a.calls) < 6:
            await gateway.advance(1)
        assert a.calls == ["start", "stop"] * 3
        assert gateway.health("a") == "failed"
        a.calls.clear()
        a.start_answer = None
        await gateway.advance(RETRY)
        assert gateway.health("a") == "ready"
        assert a.calls[:2] == ["start", "events"]
        await gateway.advance(10 * RETRY)
        assert "start" not in a.calls[1:]
        assert "stop" not in a.calls
    assert a.calls[-1] == "stop"
    assert a.calls.count("stop") == 1


async def test_r17_the_waits_between_starts_grow() -> None:
    """A source that is down for long is not hammered; and not forgotten either."""
    a = club()
    a.start_answer = DOWN
    waits = []
    async with served({"a": a}) as gateway:
        supervisor = gateway.live.providers.supervisors["a"]
        for _ in range(10):
            assert supervisor.next_retry is not None
            wait = supervisor.next_retry - gateway.clock.time()
            waits.append(wait)
            starts = a.calls.count("start")
            await gateway.advance(wait - 0.01)
            assert a.calls.count("start") == starts
            await gateway.advance(0.01)
            assert a.calls.count("start") == starts + 1
    assert 0.5 <= waits[0] <= 1
    assert all(wait + 0.5 >= former for former, wait in pairwise(waits))
    assert 60 <= waits[-1] <= 60.5


async def test_r10_a_config_error_out_of_start_is_permanent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only the operator can mend it: there is no retry, and the others serve."""
    a, b = club(), ScriptedProvider(ONE, {"1": {"8": BOB}})
    a.start_answer = ConfigError("the token is refused")
    async with served({"a": a, "b": b}) as gateway:
        await gateway.advance(10 * RETRY)
        assert a.calls == ["start", "stop"]
        assert gateway.health("a") == "failed"
        assert (await gateway.connect_and_join()).users.keys() == {"8"}
    assert a.calls == ["start", "stop"]
    assert caplog.text.count("the token is refused") == 1


async def test_r10_a_config_error_may_come_with_a_later_attempt() -> None:
    """A token that is taken back ends the attempts."""
    a = club()
    a.start_answer = DOWN
    async with served({"a": a}) as gateway:
        a.start_answer = ConfigError("the token is refused")
        await gateway.advance(10 * RETRY)
        assert a.calls == ["start", "stop"] * 2


async def test_r10_a_config_error_is_tried_again_with_a_new_configuration() -> None:
    """A changed table is a new start."""
    a = club()
    a.start_answer = ConfigError("the token is refused")
    async with served({"a": a}) as gateway:
        a.start_answer = None
        await gateway.server.reload(configured("a", {"a": {"token": "new"}}))
        assert (await gateway.connect_and_join()).users.keys() == {"7"}


async def test_r17_stop_is_called_once_for_a_start() -> None:
    """Also when the gateway is stopped twice."""
    a = club()
    async with served({"a": a}) as gateway:
        await gateway.server.stop()
        await gateway.server.stop()
    assert [call for call in a.calls if call in {"start", "stop"}] == ["start", "stop"]


async def test_r17_a_start_that_hangs_is_followed_by_its_stop() -> None:
    """One that has taken too long has failed; there may be something to give back."""
    a = club()
    a.hang.add("start")
    async with prepared({"a": a}) as gateway:
        opening = await opened(gateway)
        await gateway.advance(10)
        await opening
        assert a.calls == ["start", "stop"]


async def test_r17_a_start_that_is_under_way_is_followed_by_its_stop() -> None:
    """The gateway is stopped while a provider starts."""
    a = club()
    a.hang.add("start")
    async with prepared({"a": a}) as gateway:
        opening = await opened(gateway)
        await gateway.server.stop()
        await gateway.advance(10)
        await opening
    assert a.calls == ["start", "stop"]


async def test_r17_a_provider_that_has_not_started_yet_is_not_stopped() -> None:
    """Between two attempts everything was given back already."""
    a = club()
    a.start_answer = DOWN
    async with served({"a": a}):
        assert a.calls == ["start", "stop"]
    assert a.calls == ["start", "stop"]


async def test_r17_a_changed_table_stops_the_old_keeps_its_layer_and_swaps_at_the_snapshot() -> (
    None
):
    """The client sees the difference between the two, and nothing in between."""
    a = club()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.calls.clear()
        a.users_answers["1"] = {"7": ADA, "8": BOB}
        a.hold("start")
        a.hold("users")
        await gateway.server.reload(configured("a", {"a": {"token": "new"}}))
        await gateway.settle()
        assert a.calls == ["stop", "start"]
        assert await client.new_frames() == []
        a.release("start")
        await gateway.settle()
        assert a.calls[:3] == ["stop", "start", "events"]
        assert "users 1" in a.calls
        assert await client.new_frames() == []
        a.release("users")
        assert len(await client.new_frames()) == 1
        assert client.users.keys() == {"7", "8"}


@pytest.mark.parametrize("mode", ["merge", "enrich"])
async def test_r17_a_changed_overlay_keeps_its_layer_until_its_snapshot(mode: str) -> None:
    """No provider stands in for it meanwhile, and nothing of it is missing."""
    a, b = club(), ScriptedProvider(ONE, {"1": {"7": User(role_color="#123456"), "8": BOB}})
    async with served({"b": b, "a": a}, tables={"b": {"mode": mode}}) as gateway:
        client = await gateway.connect_and_join()
        b.users_answers["1"] = {"7": User(role_color="#654321"), "8": BOB}
        b.hold("start")
        await gateway.server.reload(configured("ba", {"b": {"mode": mode, "token": "new"}}))
        assert await client.new_frames() == []
        b.release("start")
        assert len(await client.new_frames()) == 1
        assert client.users["7"].role_color == "#654321"


async def test_r17_an_untouched_table_keeps_its_instance() -> None:
    """A reload that changes the place or the mode of a provider does not start it again."""
    a, b = club(), ScriptedProvider(ONE, {"1": {"8": BOB}})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        tables = {"a": {"mode": "merge"}, "b": {"mode": "merge"}}
        await gateway.server.reload(configured("ba", tables))
        await client.new_frames()
        assert client.users.keys() == {"7", "8"}
        for script in (a, b):
            assert [call for call in script.calls if call in {"start", "stop"}] == ["start"]


async def test_r17_a_provider_that_leaves_the_order_is_stopped() -> None:
    """Its layer stays until the next one has answered."""
    a, b = club(), ScriptedProvider(ONE, {"1": {"8": BOB}})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        b.hold("users")
        await gateway.server.reload(configured("b"))
        assert a.calls[-1] == "stop"
        assert await client.new_frames() == []
        b.release("users")
        assert len(await client.new_frames()) == 2
        assert client.users.keys() == {"8"}


@pytest.mark.parametrize("next_one", ["answers", "cannot say"])
async def test_r17_a_provider_that_leaves_the_order_while_it_fails_is_not_asked_any_more(
    next_one: str,
) -> None:
    """Its stop was the last call, whether its layer stays for a while or not."""
    a = club()
    b = ScriptedProvider(ONE, {"1": {"8": BOB} if next_one == "answers" else None})
    async with served({"a": a, "b": b}) as gateway:
        await gateway.connect_and_join()
        a.users_answers["1"] = a.servers_answer = DOWN
        a.emit(Reload())
        await gateway.settle()
        await gateway.server.reload(configured("b"))
        await gateway.advance(10 * RETRY)
        assert a.calls[-1] == "stop"


# Rule 16, streams


async def test_r16_a_stream_that_raises_ends_the_run() -> None:
    """``stop`` is called, then after a growing wait ``start`` and ``events`` again."""
    a = club()
    async with served({"a": a}) as gateway:
        a.break_stream()
        await gateway.advance(20)
        run = ["start", "events", "stop"]
        runs = [call for call in a.calls if call in run]
        assert runs == run * (len(runs) // 3)
        assert 4 <= len(runs) // 3 <= 6


async def test_r16_what_a_failed_stream_missed_is_fetched_again() -> None:
    """The layer is degraded until its new answer, which the clients receive as deltas."""
    a = club()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.users_answers["1"] = {"7": BOB}
        a.hold("users")
        a.emit(DOWN)
        await gateway.settle()
        assert gateway.health("a") == "degraded"
        await gateway.advance(1.1)
        assert a.calls.count("start") == 2
        assert a.calls.count("users 1") == 2
        assert gateway.health("a") == "degraded"
        assert await client.new_frames() == []
        a.release("users")
        await client.new_frames()
        assert gateway.health("a") == "ready"
        assert client.users["7"].username == "Bob"


async def test_r16_the_waits_begin_small_again_after_a_long_run() -> None:
    """The wait after a stream that breaks once a day does not grow."""
    a = club()
    async with served({"a": a}) as gateway:
        for count in range(2, 12):
            a.emit(DOWN)
            await gateway.advance(1.1)
            assert a.calls.count("events") == count
            await gateway.advance(LONGEST_WAIT + 1)


async def test_r16_the_waits_grow_from_one_short_run_to_the_next() -> None:
    """A provider that logs in and fails soon afterwards does not log in every second."""
    a = club()
    waits = []
    async with served({"a": a}) as gateway:
        supervisor = gateway.live.providers.supervisors["a"]
        for _ in range(10):
            await gateway.advance(5)
            a.emit(DOWN)
            await gateway.settle()
            assert supervisor.next_retry is not None
            waits.append(supervisor.next_retry - gateway.clock.time())
            await gateway.advance(waits[-1])
            assert gateway.health("a") == "ready"
    assert 0.5 <= waits[0] <= 1
    assert all(wait + 0.5 >= former for former, wait in pairwise(waits))
    assert 60 <= waits[-1] <= 60.5


async def test_r10_a_provider_whose_users_fails_is_degraded_and_then_failed() -> None:
    """Its stream goes on meanwhile; the next answer makes it ready."""
    a = club()
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join()
        a.users_answers["1"] = DOWN
        a.emit(Reload(server_id="1"))
        await gateway.settle()
        assert gateway.health("a") == "degraded"
        await gateway.advance(GRACE)
        assert gateway.health("a") == "failed"
        a.users_answers["1"] = {"7": ADA}
        await gateway.advance(RETRY)
        assert gateway.health("a") == "ready"
        assert a.calls.count("start") == a.calls.count("events") == 1


async def test_r16_a_stream_that_returns_is_not_called_again() -> None:
    """It has no more news, and the provider stays ready."""
    a = club()
    async with served({"a": a}) as gateway:
        a.emit(None)
        await gateway.advance(10 * RETRY)
        assert a.calls.count("events") == 1
        assert gateway.health("a") == "ready"


async def test_r16_a_provider_whose_stream_has_returned_is_asked_every_30_seconds() -> None:
    """Not before, and not less often."""
    a = club()
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join()
        a.emit(None)
        await gateway.settle()
        for _ in range(2):
            a.calls.clear()
            await gateway.advance(29.9)
            assert a.calls == []
            await gateway.advance(0.1)
            assert a.calls == ["servers", "users 1"]


async def test_r16_a_stream_that_returns_after_it_has_failed_is_well() -> None:
    """There is no stream left that could fail: the provider is polled from now on."""
    a = club()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(DOWN, None)
        await gateway.advance(10 * GRACE)
        assert a.calls.count("events") == 2
        assert gateway.health("a") == "ready"
        a.users_answers["1"] = {"7": BOB}
        await gateway.advance(GRACE)
        await client.new_frames()
        assert client.users["7"].username == "Bob"


async def test_r14_what_happens_between_start_and_the_first_event_is_not_lost() -> None:
    """The provider subscribed in its start; the stream is drained from the beginning."""
    a = ScriptedProvider(ONE, {"1": {"7": ADA}})
    a.emit(UserChanged(server_id="1", uid="7", status="dnd"))
    a.hold("users")
    async with served({"a": a}) as gateway:
        client = await gateway.connect()
        await client.ask("1")
        await client.new_frames()
        a.emit(UserChanged(server_id="1", uid="7", status="idle"))
        await client.new_frames()
        a.release("users")
        await client.new_frames()
        assert client.users["7"].status == "idle"


class Torrent(ScriptedProvider):
    """Its stream never really awaits anything."""

    def __init__(self, events: list[Event]) -> None:
        super().__init__(ONE, {"1": {"7": ADA}})
        self.events_to_repeat = events
        self.yielded = 0
        self.over = False
        self._begun = asyncio.Event()
        self._under_way = asyncio.Event()

    async def begin(self) -> None:
        """Let it run; returns when it has been for a while.

        Not before clients are connected: to resolve a name takes a thread, and threads do starve
        beside a loop that never rests.
        """
        self._begun.set()
        await self._under_way.wait()

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        await self._begun.wait()
        for event in cycle(self.events_to_repeat):
            if self.over:
                return
            self.yielded += 1
            if self.yielded == 1000:
                self._under_way.set()
            yield event


async def test_r19_a_stream_that_never_awaits_does_not_starve_other_clients() -> None:
    """Another client of another server is greeted and joined meanwhile."""
    torrent = Torrent([UserChanged(server_id="9", uid="7", status="dnd")])
    async with served({"torrent": torrent}) as gateway:
        client = await gateway.connect()
        await torrent.begin()
        await client.join("1")
        torrent.over = True


async def test_r19_a_torrent_of_real_changes_does_not_starve_other_clients() -> None:
    """Each event changes a world that is held; who is in another one does not notice."""
    statuses: tuple[Status, ...] = ("dnd", "idle")
    torrent = Torrent([UserChanged(server_id="1", uid="7", status=each) for each in statuses])
    torrent.servers_answer = {**ONE, "2": Server(name="Two")}
    async with served({"torrent": torrent}, policies={"1": {"eager": True}}) as gateway:
        client = await gateway.connect()
        await torrent.begin()
        await client.join("2")
        assert gateway.live.servers["1"].world.seq > 256
        torrent.over = True


# Providers that misbehave, hook by hook


class Rude(ScriptedProvider):
    """Raises what is no ordinary error."""

    def __init__(self) -> None:
        super().__init__(ONE, {"1": {"7": ADA}})
        self.rude: set[str] = set()

    async def _called(self, hook: str, server_id: str = "") -> None:
        await super()._called(hook, server_id)
        if hook in self.rude:
            raise asyncio.CancelledError

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        self.calls.append("events")
        event = await self._stream.get()
        if "events" in self.rude:
            raise asyncio.CancelledError
        if isinstance(event, User):
            yield event


async def test_a_cancellation_out_of_start_is_a_failed_start() -> None:
    """A provider may have cancelled a task of its own and waited for it."""
    a = Rude()
    a.rude.add("start")
    async with served({"a": a}) as gateway:
        assert gateway.health("a") == "failed"
        a.rude.clear()
        await gateway.advance(RETRY)
        assert (await gateway.connect_and_join()).users.keys() == {"7"}


@pytest.mark.parametrize("hook", ["users", "authorize"])
async def test_a_cancellation_out_of_a_call_is_a_failed_call(hook: str) -> None:
    """A join that needs the call does not wait for ever."""
    a, b = Rude(), ScriptedProvider(ONE, {"1": {"8": BOB}})
    a.rude.add(hook)
    protected = {"1": {"passworded": True}} if hook == "authorize" else {}
    async with served({"a": a, "b": b}, policies=protected) as gateway:
        client = await gateway.connect()
        await client.ask("1")
        assert len(await client.new_frames()) == 1
        assert client.users.keys() == ({"8"} if hook == "users" else set())


async def test_a_cancellation_out_of_servers_is_a_failed_call() -> None:
    """The next one is asked."""
    a, b = Rude(), ScriptedProvider(ONE, {"1": {"8": BOB}})
    a.rude.add("servers")
    async with served({"a": a, "b": b}) as gateway:
        assert (await gateway.connect()).world.servers.keys() == {"1"}
        assert "servers" in b.calls


async def test_a_cancellation_out_of_a_stream_is_a_failed_stream() -> None:
    """The provider is degraded, and starts again."""
    a = Rude()
    a.rude.add("events")
    async with served({"a": a}) as gateway:
        a.emit(None)
        await gateway.settle()
        assert gateway.health("a") == "degraded"
        await gateway.advance(1.1)
        assert a.calls.count("events") == 2


class Ghost(ScriptedProvider):
    """Its streams sit out their cancellation; each has a queue of its own."""

    def __init__(self) -> None:
        super().__init__(ONE, {"1": {"7": ADA}})
        self.streams: list[asyncio.Queue[Event | None]] = []

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        stream: asyncio.Queue[Event | None] = asyncio.Queue()
        self.streams.append(stream)
        while True:
            with suppress(asyncio.CancelledError):
                if (event := await stream.get()) is None:
                    return
                yield event


async def test_r15_the_stream_of_a_former_run_is_not_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It sat out its cancellation, and goes on beside the stream of the new run."""
    monkeypatch.setattr(supervision, "STOP_TIMEOUT", 0.01)
    a = Ghost()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        await gateway.server.reload(configured("a", {"a": {"token": "new"}}))
        await gateway.settle()
        former, present = a.streams
        former.put_nowait(UserChanged(server_id="1", uid="7", status="dnd"))
        assert await client.new_frames() == []
        present.put_nowait(UserChanged(server_id="1", uid="7", status="idle"))
        await client.new_frames()
        assert client.users["7"].status == "idle"
        former.put_nowait(None)
        present.put_nowait(None)


async def test_r17_the_context_of_a_former_run_is_not_heard() -> None:
    """What a provider says of its health after its stop is of no interest."""
    a = club()
    async with served({"a": a}) as gateway:
        former = a.context
        assert former is not None
        former.degraded("first")
        await gateway.server.reload(configured("a", {"a": {"token": "new"}}))
        await gateway.settle()
        asked = len(a.calls)
        former.recovered()
        former.degraded("again")
        await gateway.settle()
        assert gateway.health("a") == "ready"
        assert len(a.calls) == asked


@pytest.mark.parametrize("hook", ["start", "servers", "users", "stop"])
async def test_the_gateway_stops_although_a_call_sits_out_its_cancellation(
    hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes on then is the provider's; the gateway has ended."""
    monkeypatch.setattr(supervision, "STOP_TIMEOUT", 0.01)
    a = club()
    a.ignores_cancellation = True
    a.hold(hook)
    async with prepared({"a": a}) as gateway:
        opening = await opened(gateway)
        if hook in {"users", "stop"}:
            await opening
            client = await gateway.connect()
            await client.ask("1")
            await client.new_frames()
        await gateway.stop(advancing=1)
        await asyncio.wait([opening])
        assert hook in {call.split()[0] for call in a.calls}
        a.release(hook)


async def test_r24_a_provider_that_has_not_started_yet_is_not_asked_who_may_join() -> None:
    """Its former instance's layer is still in use; the answer is no until it can be asked."""
    a = ScriptedProvider({"1": Server(name="One", passworded=True)}, {"1": {"7": ADA}})
    a.authorize_answer = True
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join()
        a.hold("start")
        a.calls.clear()
        await gateway.server.reload(configured("a", {"a": {"token": "new"}}))
        await gateway.settle()
        assert a.calls == ["stop", "start"]
        client = await gateway.connect()
        await client.ask("1")
        (frame,) = await client.new_frames()
        assert isinstance(frame, Error)
        assert "authorize 1" not in a.calls
        a.release("start")
        await gateway.settle()
        await client.join("1")


async def test_health_goes_from_starting_to_ready_to_degraded_to_failed_and_back() -> None:
    """The words that operators read."""
    a = club()
    a.hold("start")
    async with prepared({"a": a}) as gateway:
        opening = await opened(gateway)
        assert gateway.health("a") == "starting"
        a.release("start")
        await opening
        assert gateway.health("a") == "ready"
        a.break_stream()
        await gateway.settle()
        assert gateway.health("a") == "degraded"
        await gateway.advance(GRACE)
        assert gateway.health("a") == "failed"
        a.broken = False
        await gateway.advance(RETRY + 5)
        assert gateway.health("a") == "ready"


async def test_a_failure_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, however many attempts fail, also if different reasons alternate; without
    a traceback."""
    a = club()
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join()
        a.users_answers["1"] = a.servers_answer = RuntimeError("no database")
        a.emit(Reload())
        for _ in range(5):
            await gateway.advance(10 * RETRY)
            a.emit(DOWN)
        await gateway.advance(10 * RETRY)
        failures = [each for each in caplog.records if each.levelno >= logging.WARNING]
        said = sorted(each.getMessage().partition(";")[0] for each in failures)
        assert said == [
            "provider a: events: RuntimeError: down",
            "provider a: servers: RuntimeError: no database",
            "provider a: users: RuntimeError: no database",
        ]
        assert all(each.exc_info is None for each in failures)


async def test_a_call_that_blocks_the_event_loop_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Everyone waited for it: the operator should know for whom."""
    a = club()
    async with served({"a": a}) as gateway:
        monkeypatch.setattr(blocking, "TOO_LONG", 0.0)
        await gateway.connect_and_join()
        assert "provider a: users: blocked the event loop" in caplog.text
        a.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await gateway.settle()
        assert "provider a: events: blocked the event loop" in caplog.text


async def test_start_that_is_cancelled_leaves_nothing() -> None:
    """The program that embeds the gateway gives up while a provider starts."""
    a = club()
    a.hang.add("start")
    async with prepared({"a": a}) as gateway:
        opening = await opened(gateway)
        opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()
    assert a.calls == ["start", "stop"]


Odd = Callable[["OddProvider"], "asyncio.Future[object] | Any"]


class OddProvider:
    """Does something odd in one hook, and is ready otherwise."""

    def __init__(self, hook: str, odd: Callable[["OddProvider"], Any]) -> None:
        self.calls: list[str] = []
        self.context: Context | None = None
        self._hook = hook
        self._odd = odd

    async def _answer(self, hook: str, answer: object) -> Any:  # noqa: ANN401  it is wrong
        self.calls.append(hook)
        return await self._odd(self) if hook == self._hook else answer

    @hookimpl
    async def start(self, context: Context) -> None:
        self.context = context
        await self._answer("start", None)

    @hookimpl
    async def stop(self) -> None:
        await self._answer("stop", None)

    @hookimpl
    async def servers(self) -> Mapping[str, Server] | None:
        answer: Mapping[str, Server] = await self._answer("servers", ONE)
        return answer

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User] | None:  # noqa: ARG002
        answer: Mapping[str, User] = await self._answer("users", {"7": ADA})
        return answer

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        event: Event = await self._answer("events", None)
        yield event or UserChanged(server_id="1", uid="7", status="dnd")
        await asyncio.Event().wait()

    @hookimpl
    async def authorize(self, server_id: str) -> bool | None:  # noqa: ARG002
        answer: bool | None = await self._answer("authorize", True)  # noqa: FBT003
        return answer


async def hangs(provider: OddProvider) -> object:  # noqa: ARG001
    return await asyncio.Event().wait()


async def is_slow(provider: OddProvider) -> object:
    assert provider.context is not None
    await provider.context.clock.sleep(4.9)
    return None


async def raises(provider: OddProvider) -> object:  # noqa: ARG001
    raise ZeroDivisionError


async def returns_garbage(provider: OddProvider) -> object:  # noqa: ARG001
    return [("1", object())]


async def cancels_itself(provider: OddProvider) -> object:  # noqa: ARG001
    raise asyncio.CancelledError


async def complains(provider: OddProvider) -> object:
    assert provider.context is not None
    provider.context.degraded("I am not well")
    return None


each_hook = pytest.mark.parametrize(
    "hook", ["start", "stop", "servers", "users", "events", "authorize"]
)
each_oddity = pytest.mark.parametrize(
    "odd", [hangs, is_slow, raises, returns_garbage, cancels_itself, complains]
)


@each_hook
@each_oddity
async def test_an_odd_provider_disturbs_nobody_else(hook: str, odd: Odd) -> None:
    """The other provider's data reaches the clients, and afterwards nothing is left."""
    a, b = OddProvider(hook, odd), ScriptedProvider(ONE, {"1": {"8": BOB}})
    policies = {"1": {"passworded": hook == "authorize"}}
    tables = {"b": {"mode": "merge"}}
    async with prepared({"a": a, "b": b}, tables=tables, policies=policies) as gateway:
        b.authorize_answer = True
        opening = await opened(gateway)
        await gateway.advance(10)
        await opening
        client = await gateway.connect()
        await client.ask("1")
        await gateway.advance(RETRY)
        await client.new_frames()
        assert hook == "stop" or hook in a.calls
        if hook != "authorize":
            b.emit(UserChanged(server_id="1", uid="8", status="dnd"))
            await client.new_frames()
            assert client.users["8"].status == "dnd"
        await gateway.stop(advancing=1)


@each_hook
@each_oddity
async def test_the_gateway_stops_in_the_midst_of_an_odd_call(hook: str, odd: Odd) -> None:
    """No task, no socket and no warning is left, whatever is under way."""
    a = OddProvider(hook, odd)
    async with prepared({"a": a}, policies={"1": {"passworded": hook == "authorize"}}) as gateway:
        opening = await opened(gateway)
        if hook == "servers":
            await gateway.advance(10)
        if hook not in {"start", "servers"}:
            await opening
            client = await gateway.connect()
            await client.ask("1")
            await client.new_frames()
        if hook != "stop":
            await until(lambda: hook in a.calls)
        await gateway.stop(advancing=1)
        await opening
    assert a.calls.count("start") == a.calls.count("stop")
