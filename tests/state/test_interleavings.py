"""A reload, a stop or a change of health that arrives while something else is under way."""

import asyncio
from collections.abc import Sequence

from peers import until
from sample_users import ADA, BOB, ONE

from d_back_core import Change, UserChanged, UserSet, hookimpl
from d_back_core.providers.health import MAX_REASONS
from d_back_testing import ScriptedProvider, configured, prepared, served
from d_back_testing.scripted_provider import DOWN


class Recorder(ScriptedProvider):
    """A provider that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[Change] = []

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        await self._called("record")
        self.recorded += changes


LIMIT = 20.0


def club() -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": {"7": ADA}})


async def test_r17_a_recorder_that_is_replaced_during_its_start_records() -> None:
    """Its queue waits for the new instance, not for the one that was stopped."""
    recorder = Recorder()
    recorder.hold("start")
    chain = {"order": ["a"], "recorders": ["recorder"], "startup_timeout": "1s"}
    providers = {"a": club(), "recorder": recorder}
    async with prepared(providers, chain=chain) as gateway:
        starting = asyncio.create_task(gateway.server.__aenter__())
        await until(lambda: "start" in recorder.calls)
        await gateway.settle()
        await gateway.advance(1)
        await starting
        assert gateway.health("recorder") == "starting"
        changed = {"recorder": {"refresh": "77s"}}
        await gateway.server.reload(configured(providers, changed, chain))
        recorder.release("start")
        await gateway.advance(100)
        assert UserSet(server_id="1", uid="7", user=ADA) in recorder.recorded


async def test_r17_a_provider_whose_reload_was_cancelled_runs_again() -> None:
    """The instance that the cancelled reload has stopped is replaced by the next reload."""
    a = club()
    async with served({"a": a}) as gateway:
        a.hold("stop")
        reloading = asyncio.create_task(
            gateway.server.reload(configured("a", {"a": {"refresh": "77s"}}))
        )
        await gateway.settle()
        reloading.cancel()
        await asyncio.wait([reloading])
        a.release("stop")
        await gateway.server.reload(configured("a"))
        await gateway.settle()
        assert gateway.health("a") == "ready"
        assert gateway.live.providers.supervisors["a"].running
        assert a.calls.count("start") == 2


async def test_r17_a_stop_during_a_reload_starts_no_provider() -> None:
    """The reload does not start the new instance after the gateway has stopped."""
    a = club()
    async with served({"a": a}) as gateway:
        a.hold("stop")
        reloading = asyncio.create_task(
            gateway.server.reload(configured("a", {"a": {"refresh": "77s"}}))
        )
        await gateway.settle()
        stopping = asyncio.create_task(gateway.server.stop())
        await gateway.settle()
        a.release("stop")
        await stopping
        await reloading
        await gateway.settle()
        assert a.calls[-1] == "stop"


async def test_r17_a_reload_after_the_stop_starts_no_provider() -> None:
    """The server has ended: a late reload changes nothing."""
    a = club()
    async with served({"a": a}) as gateway:
        await gateway.server.stop()
        await gateway.server.reload(configured("a", {"a": {"refresh": "77s"}}))
        await gateway.settle()
        assert a.calls[-1] == "stop"


async def test_r17_a_reload_before_the_start_starts_no_provider() -> None:
    """The new configuration is that of the start."""
    a, b = club(), ScriptedProvider(ONE, {"1": {"8": BOB}})
    async with prepared({"a": a, "b": b}) as gateway:
        await gateway.server.reload(configured("b"))
        await asyncio.sleep(0)
        assert b.calls == []
        gateway.server.port = 0
        async with gateway.server:
            assert gateway.server.live.providers.supervisors.keys() == {"b"}


async def test_r17_a_stop_under_way_is_not_cancelled() -> None:
    """A gateway that stops waits for the ``stop`` that follows the failure of the stream."""
    a = club()
    async with served({"a": a}) as gateway:
        a.hold("stop")
        a.break_stream()
        await gateway.settle()
        assert a.calls[-1] == "stop"
        stopping = asyncio.create_task(gateway.server.stop())
        await gateway.settle()
        a.release("stop")
        await stopping
    assert a.cancelled == []
    assert a.calls.count("stop") == 1


async def test_r17_the_layer_of_a_stopping_provider_stays_in_use() -> None:
    """A change of health while a reload stops a provider does not switch to the next one."""
    a, b = club(), ScriptedProvider(ONE, {"1": {"8": BOB}})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        a.hold("stop")
        reloading = asyncio.create_task(
            gateway.server.reload(configured("ab", {"a": {"refresh": "77s"}}))
        )
        await gateway.settle()
        gateway.live.reports.on_health_changed("b")
        await gateway.settle()
        a.release("stop")
        await reloading
        await gateway.settle()
        assert await client.new_frames() == []
        assert "users 1" not in b.calls


async def test_a_wait_for_a_server_ends_with_the_server() -> None:
    """`Live.settled` returns if the server is released before its provider has answered."""
    a = club()
    a.hold("users")
    policies, chain = {"1": {"eager": True}}, {"idle": "1s"}
    async with served({"a": a}, policies=policies, chain=chain) as gateway:
        waiting = asyncio.create_task(gateway.live.settled("1"))
        await gateway.settle()
        assert not waiting.done()
        await gateway.server.reload(configured("a", chain=chain))
        await gateway.advance(2)
        assert gateway.live.servers == {}
        async with asyncio.timeout(LIMIT):
            await waiting


async def test_r16_reasons_that_differ_each_time_do_not_pile_up() -> None:
    """A provider that fails with a number in each reason costs a bounded amount of memory."""
    a = club()
    async with served({"a": a}) as gateway:
        health = gateway.live.providers.supervisors["a"].health
        for number in range(1000):
            assert a.context is not None
            a.context.degraded(f"request {number} failed")
        assert len(health._logged or ()) <= MAX_REASONS  # noqa: SLF001  what it keeps


async def test_r17_a_failure_while_the_gateway_stops_asks_no_other_provider() -> None:
    """A recorder may store for some seconds; a provider that fails meanwhile starts nothing."""
    a, b, recorder = club(), ScriptedProvider(ONE, {"1": {"8": BOB}}), Recorder()
    chain = {"order": ["a", "b"], "recorders": ["recorder"]}
    providers, tables = {"a": a, "b": b, "recorder": recorder}, {"a": {"grace": "0s"}}
    async with served(providers, chain=chain, tables=tables) as gateway:
        client = await gateway.connect_and_join()
        recorder.hold("record")
        a.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        await gateway.settle()
        stopping = asyncio.create_task(gateway.server.stop())
        await client.connection.wait_closed()
        await gateway.settle()
        b.calls.clear()
        a.emit(DOWN)
        await gateway.settle()
        assert not stopping.done()
        recorder.release("record")
        await stopping
        assert b.calls == ["stop"]


async def test_r23_a_recorder_that_is_back_stores_before_it_is_asked() -> None:
    """The wait for the next attempt to store, which grew while it was down, is cut short."""
    a, recorder = club(), Recorder()
    chain = {"order": ["a", "recorder"], "recorders": ["recorder"]}
    tables = {"recorder": {"mode": "merge"}}
    async with served({"a": a, "recorder": recorder}, chain=chain, tables=tables) as gateway:
        await gateway.connect_and_join()
        recorder.users_answers["1"] = {}
        recorder.start_answer = DOWN
        recorder.emit(DOWN)
        await gateway.advance(20)
        a.emit(UserChanged(server_id="1", uid="7", status="dnd"))
        for _ in range(35):  # the next attempts: to start after 64 s, to store after 84 s
            await gateway.advance(1)
        recorder.start_answer = None
        recorder.calls.clear()
        while "users 1" not in recorder.calls:
            await gateway.advance(1)
        assert recorder.calls.index("record") < recorder.calls.index("users 1")
