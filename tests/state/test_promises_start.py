"""What clients see while providers start, start again, or cannot say yet (R3, R8, R9, R10, R12,
R15, R22)."""

import asyncio
from collections.abc import Sequence
from typing import Literal

import pytest
from peers import until
from sample_users import ADA, BOB, ONE

from d_back_core import Change, Reload, Server, ServerRemoved, UserRemoved, hookimpl
from d_back_core.state import resolver
from d_back_core.wire.protocol import Error, ServerJoin
from d_back_testing import ScriptedProvider, configured, prepared, served

GRACE = 30.0


def town() -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": {"7": ADA}})


def other() -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": {"8": BOB}})


@pytest.mark.parametrize("after", ["none", "hangs"])
async def test_r10_a_run_without_a_new_answer_loses_the_layer_after_the_grace(
    after: Literal["none", "hangs"],
) -> None:
    """That the provider has started again proves nothing."""
    a, b = town(), other()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        a.break_stream()
        if after == "none":
            a.users_answers["1"] = None
        else:
            a.hang.add("users")
        await gateway.settle()
        a.broken = False
        await gateway.advance(GRACE - 1)
        await client.new_frames()
        assert a.calls.count("start") > 1
        assert client.users.keys() == {"7"}
        await gateway.advance(1)
        await client.new_frames()
        assert client.users.keys() == {"8"}
        a.hang.clear()


async def test_r9_a_first_answer_takes_its_place_at_once() -> None:
    """Only the return of a provider that had failed is delayed."""
    a, b = town(), other()
    a.users_answers["1"] = None
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"8"}
        a.users_answers["1"] = {"7": ADA}
        await gateway.advance(GRACE)  # asked again, although it has no `Reload`
        await client.new_frames()
        assert client.users.keys() == {"7"}


async def test_r3_an_empty_list_is_fetched_again_soon() -> None:
    """After 1 s, and then after longer and longer waits of up to 5 s."""
    a = ScriptedProvider({}, {"1": {"7": ADA}})
    async with served({"a": a}) as gateway:
        asked = []
        for second in range(1, 26):
            before = a.calls.count("servers")
            await gateway.advance(1)
            if a.calls.count("servers") > before:
                asked.append(second)
        assert asked == [1, 3, 6, 10, 15, 20, 25]
        a.servers_answer = ONE
        await gateway.advance(5)
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"7"}


async def test_r8_a_join_waits_for_a_provider_that_starts() -> None:
    """It is not refused while the server may still be listed."""
    a, b = town(), ScriptedProvider({"2": Server(name="Two")}, {"2": {}})
    a.hold("start")
    async with prepared({"a": a, "b": b}, tables={"a": {"timeout": 60}}) as gateway:
        starting = asyncio.create_task(gateway.server.__aenter__())
        await until(lambda: "start" in a.calls)
        await gateway.settle()
        await gateway.advance(10)  # it listens although the list is not complete
        await starting
        client = await gateway.connect()
        await client.ask("1")
        await gateway.settle()
        a.release("start")
        await client.until(ServerJoin)
        assert client.users.keys() == {"7"}


async def test_r8_the_wait_of_a_join_is_bounded() -> None:
    """After ``startup_timeout`` the server is unknown."""
    a, b = town(), ScriptedProvider({"2": Server(name="Two")}, {"2": {}})
    a.servers_answer = None
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect()
        await client.ask("1")
        await gateway.settle()
        await gateway.advance(10)
        answer = await client.receive()
        assert isinstance(answer, Error)
        assert answer.data.code == "unknown_server"


async def test_r8_a_join_does_not_wait_for_a_provider_that_says_nothing_for_long() -> None:
    """After ``startup_timeout`` an unknown server is refused at once."""
    a, b = town(), ScriptedProvider({"2": Server(name="Two")}, {"2": {}})
    a.servers_answer = None
    async with served({"a": a, "b": b}) as gateway:
        await gateway.advance(10)
        client = await gateway.connect()
        await client.ask("1")
        await gateway.settle()
        [answer] = await client.new_frames()
        assert isinstance(answer, Error)
        assert answer.data.code == "unknown_server"


async def test_r9_a_provider_that_never_failed_takes_its_place_within_failback_after() -> None:
    """It was only slow to say which users there are."""
    a, b = town(), other()
    a.users_answers["1"] = None
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"8"}
        a.users_answers["1"] = {"7": ADA}
        a.emit(Reload())
        await gateway.settle()
        await client.new_frames()
        assert client.users.keys() == {"7"}


async def test_r15_a_call_of_a_run_that_is_over_does_not_delay_the_next_run() -> None:
    """Nor is its answer taken."""
    a = town()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        old = a.hold("users")
        a.emit(Reload())
        await gateway.settle()
        a.emit(RuntimeError("down"))
        await gateway.settle()
        assert "users" in a.cancelled
        a.hold("users")
        a.release("users")
        a.users_answers["1"] = {"8": BOB}
        await gateway.advance(2)
        await client.new_frames()
        assert client.users.keys() == {"8"}
        old.set()


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_r15_a_reload_during_a_merge_shows_nobody_whom_it_hides(
    turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a moment, however far the merge of the first fill has come."""
    monkeypatch.setattr(resolver, "SLICE", 1)
    a = ScriptedProvider(ONE, {"1": {str(number): ADA for number in range(20)}})
    async with served({"a": a}) as gateway:
        client = await gateway.connect()
        await client.ask("1")
        await until(lambda: "1" in gateway.live.servers)
        for _ in range(turns):
            await asyncio.sleep(0)
        policies = {"1": {"ignore_users": ["0"]}}
        await gateway.server.reload(configured("a", policies=policies))
        for _ in range(100):
            assert "0" not in gateway.live.servers["1"].world.users
            await asyncio.sleep(0)


async def test_r12_a_server_with_a_public_id_stays_while_a_higher_provider_starts() -> None:
    """Only a server that has no public id yet waits for the providers above."""
    a, b = ScriptedProvider(None), town()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        a.hold("start")
        await gateway.server.reload(configured(["a", "b"], {"a": {"key": "new"}}))
        await gateway.settle()
        assert await client.new_frames() == []
        assert gateway.live.server_list.servers.keys() == {"1"}
        a.release("start")


@pytest.mark.parametrize("mode", ["fallback", "merge"])
async def test_r12_the_public_id_is_the_higher_provider_s(mode: str) -> None:
    """Whichever answers first."""
    a, b = (
        ScriptedProvider({"1": Server(name="Real name")}),
        ScriptedProvider({"1": Server(name="Stand-in")}),
    )
    a.hold("start")
    async with prepared({"a": a, "b": b}, tables={"b": {"mode": mode}}) as gateway:
        starting = asyncio.create_task(gateway.server.__aenter__())
        await until(lambda: "servers" in b.calls)
        a.release("start")
        await starting
        await gateway.settle()
        [server] = gateway.live.server_list.servers.values()
        assert server.public_id == "real-name"


async def test_r15_a_reload_during_the_first_fill_applies_to_it() -> None:
    """The join that waits for the fill sees the new policy."""
    a = ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}})
    a.hold("users")
    async with served({"a": a}) as gateway:
        client = await gateway.connect()
        await client.ask("1")
        await gateway.settle()
        policies = {"1": {"ignore_users": ["8"]}}
        reloading = asyncio.create_task(gateway.server.reload(configured("a", policies=policies)))
        await gateway.settle()
        a.release("users")
        await reloading
        await client.until(ServerJoin)
        assert client.users.keys() == {"7"}


class Recorder(ScriptedProvider):
    """A provider that remembers what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Change] = []

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        self.got += changes


async def test_r22_an_exchange_is_not_recorded_as_a_loss() -> None:
    """A recorder keeps the users of a provider that another one replaces."""
    a, b, recorder = town(), other(), Recorder()
    b.users_answers["1"] = None
    providers = {"a": a, "b": b, "r": recorder}
    chain = {"order": ["a", "b"], "recorders": ["r"]}
    async with served(providers, chain=chain) as gateway:
        await gateway.settle()
        recorder.got.clear()
        a.break_stream()
        await gateway.settle()
        await gateway.advance(2 * GRACE)
        lost = [each for each in recorder.got if isinstance(each, UserRemoved | ServerRemoved)]
        assert lost == []
