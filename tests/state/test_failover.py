"""Failover and failback as a client sees them (R7, R9, R10, R11, R18)."""

from collections.abc import Mapping

import pytest
from sample_users import ADA, BOB, CID, ONE

from d_back_core import Context, Message, Reload, Server, User, UserChanged, UserRemoved
from d_back_core.models import Event
from d_back_core.wire.protocol import MessageFrame, PresenceFrame, ServerMessage
from d_back_testing import ManualClient, RunningGateway, ScriptedProvider, configured, served
from d_back_testing.scripted_provider import DOWN

GRACE = 30.0
FAILBACK = 5.0
RETRY = 70.0
"""Longer than any wait between two attempts."""
TWO: Mapping[str, Server] = {"1": Server(name="One"), "2": Server(name="Two")}
OTHER_ADA = User(username="Ada", status="dnd", role_color="#aaaaaa")
HELLO = Message(server_id="1", uid="7", message="hello", channel="c")


def better() -> ScriptedProvider:
    """The provider that stands first: Ada and Bob are there."""
    return ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}})


def lesser() -> ScriptedProvider:
    """The one below it: it sees Ada in another status, and Cid instead of Bob."""
    return ScriptedProvider(ONE, {"1": {"7": OTHER_ADA, "9": CID}})


def context(script: ScriptedProvider) -> Context:
    assert script.context is not None
    return script.context


async def lose(gateway: RunningGateway, script: ScriptedProvider) -> None:
    """Let the provider say that it is out of date until its grace has run out."""
    context(script).degraded("the line is dead")
    await gateway.advance(GRACE)


def shows_better(client: ManualClient) -> bool:
    return client.users.keys() == {"7", "8"}


def shows_lesser(client: ManualClient) -> bool:
    return client.users.keys() == {"7", "9"}


def changes(frames: list[ServerMessage]) -> dict[str, str]:
    """What became of each user; two frames of one user are an error."""
    found: dict[str, str] = {}
    for frame in frames:
        assert isinstance(frame, PresenceFrame)
        assert frame.data.uid not in found
        found[frame.data.uid] = "deleted" if frame.data.delete is True else frame.data.status
    return found


async def test_r7_the_next_one_is_fetched_before_the_layers_are_swapped() -> None:
    """Until it has answered, the state of the failed one stays."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        b.hold("users")
        await lose(gateway, a)
        assert b.calls[-1] == "users 1"
        assert await client.new_frames() == []
        b.release("users")
        await client.new_frames()
        assert shows_lesser(client)


async def test_r7_the_exchange_is_one_change_without_delete_and_add() -> None:
    """A user whom both know gets what differs, and no user more than one delta."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        await lose(gateway, a)
        assert changes(await client.new_frames()) == {"7": "dnd", "8": "deleted", "9": "dnd"}


async def test_r7_a_user_who_is_the_same_in_both_is_not_mentioned() -> None:
    """The exchange sends differences only."""
    a, b = better(), ScriptedProvider(ONE, {"1": {"7": ADA}})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        await lose(gateway, a)
        assert changes(await client.new_frames()) == {"8": "deleted"}


async def test_r7_nothing_changes_before_the_grace_has_run_out() -> None:
    """The last state stays, and the next one is not asked."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        context(a).degraded("the line is dead")
        await gateway.advance(GRACE - 0.1)
        assert gateway.health("a") == "degraded"
        assert await client.new_frames() == []
        assert "users 1" not in b.calls
        await gateway.advance(0.1)
        assert gateway.health("a") == "failed"
        await client.new_frames()
        assert shows_lesser(client)


async def test_r7_who_recovers_within_its_grace_was_never_away() -> None:
    """It is fetched again, and what differs goes out; the next one is not asked."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        context(a).degraded("the line is dead")
        await gateway.advance(GRACE - 0.1)
        a.users_answers["1"] = {"7": OTHER_ADA, "8": BOB}
        context(a).recovered()
        await gateway.advance(GRACE)
        assert changes(await client.new_frames()) == {"7": "dnd"}
        assert "users 1" not in b.calls


@pytest.mark.parametrize("answer", [None, DOWN], ids=["none", "raises"])
async def test_r7_the_last_state_stays_where_nobody_else_answers(
    answer: Exception | None,
) -> None:
    """It is marked stale; who joins now gets it too."""
    a, b = better(), ScriptedProvider(ONE, {"1": answer})
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        assert not gateway.resolver().stale
        await lose(gateway, a)
        await gateway.advance(RETRY)
        assert await client.new_frames() == []
        assert gateway.resolver().stale
        late = await gateway.connect_and_join()
        assert shows_better(late)


async def test_r7_the_last_state_stays_where_nobody_else_is() -> None:
    """A chain of one provider never shows an empty server because it failed."""
    a = better()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.users_answers["1"] = DOWN
        a.break_stream()
        await gateway.advance(10 * RETRY)
        assert await client.new_frames() == []
        assert gateway.resolver().stale
        assert client.world.servers.keys() == {"1"}


async def test_r7_a_stale_state_is_replaced_at_once_by_whoever_comes() -> None:
    """Neither the failed one nor one below it has to prove itself first."""
    a, b = better(), lesser()
    b.users_answers["1"] = None
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        await lose(gateway, a)
        b.users_answers["1"] = {"9": CID}
        b.emit(Reload(server_id="1"))
        await client.new_frames()
        assert client.users.keys() == {"9"}
        assert not gateway.resolver().stale


async def test_r7_a_stale_state_is_refreshed_at_once_when_its_provider_is_back() -> None:
    """No other provider answers, so it does not wait."""
    a = better()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        await lose(gateway, a)
        a.users_answers["1"] = {"7": OTHER_ADA}
        context(a).recovered()
        assert changes(await client.new_frames()) == {"7": "dnd", "8": "deleted"}
        assert not gateway.resolver().stale


async def test_r7_the_lesser_one_that_fails_in_turn_keeps_its_state_until_there_is_a_better() -> (
    None
):
    """Failing over from a failed provider to a failed one changes nothing."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        await lose(gateway, a)
        await client.new_frames()
        await lose(gateway, b)
        assert await client.new_frames() == []
        assert gateway.resolver().stale
        context(a).recovered()
        await gateway.advance(FAILBACK)
        await client.new_frames()
        assert shows_better(client)


@pytest.mark.parametrize("mode", ["merge", "enrich"])
async def test_a_lost_overlay_takes_what_it_supplied_with_it(mode: str) -> None:
    """A fallback answers, so there is something to show in its place."""
    overlay, a = (
        ScriptedProvider(ONE, {"1": {"7": User(role_color="#123456"), "9": CID}}),
        better(),
    )
    async with served({"overlay": overlay, "a": a}, tables={"overlay": {"mode": mode}}) as gateway:
        client = await gateway.connect_and_join()
        await lose(gateway, overlay)
        found = changes(await client.new_frames())
        assert found == {"7": "online"} | ({"9": "deleted"} if mode == "merge" else {})
        assert client.users["7"].role_color == "#aaaaaa"
        context(overlay).recovered()
        await client.new_frames()
        assert client.users["7"].role_color == "#123456"


async def test_r9_a_better_fallback_returns_only_after_failback_after() -> None:
    """It must have been ready for so long without interruption."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        await lose(gateway, a)
        await client.new_frames()
        context(a).recovered()
        await gateway.advance(FAILBACK - 0.1)
        assert await client.new_frames() == []
        await gateway.advance(0.1)
        assert changes(await client.new_frames()) == {"7": "online", "8": "idle", "9": "deleted"}


async def test_r9_one_that_starts_late_returns_only_after_failback_after() -> None:
    """Its first readiness is counted as any other."""
    a, b = better(), lesser()
    a.start_answer = DOWN
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        assert shows_lesser(client)
        a.start_answer = None
        while gateway.health("a") != "ready":
            await gateway.advance(0.1)
        await gateway.advance(FAILBACK - 0.1)
        assert await client.new_frames() == []
        assert "users 1" not in a.calls
        await gateway.advance(0.1)
        await client.new_frames()
        assert shows_better(client)


async def test_r9_a_layer_that_answers_again_returns_only_after_failback_after() -> None:
    """What counts is the layer: the provider was ready all the time."""
    a, b = better(), lesser()
    good = a.users_answers["1"]
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        a.users_answers["1"] = DOWN
        a.emit(Reload(server_id="1"))
        await gateway.advance(GRACE + 1)
        await client.new_frames()
        assert shows_lesser(client)
        asked = a.calls.count("users 1")
        a.users_answers["1"] = good
        while a.calls.count("users 1") == asked:
            await gateway.advance(0.1)
        await gateway.advance(FAILBACK - 0.2)
        assert await client.new_frames() == []
        await gateway.advance(0.2)
        await client.new_frames()
        assert shows_better(client)


async def test_r9_flapping_does_not_flap_the_world() -> None:
    """One that is never ready for long enough does not come back, until it is."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        await lose(gateway, a)
        await client.new_frames()
        for _ in range(5):
            context(a).recovered()
            await gateway.advance(FAILBACK - 0.1)
            context(a).degraded("again")
            await gateway.advance(1)
            assert await client.new_frames() == []
        context(a).recovered()
        await gateway.advance(FAILBACK)
        await client.new_frames()
        assert shows_better(client)


async def test_r9_the_lesser_one_s_layer_is_let_go_after_failback() -> None:
    """Its events change nothing any more, and it is fetched whole when it is needed again."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        await lose(gateway, a)
        context(a).recovered()
        await gateway.advance(FAILBACK)
        await client.new_frames()
        b.emit(UserChanged(server_id="1", uid="10", username="Eve"))
        assert await client.new_frames() == []
        await lose(gateway, a)
        await client.new_frames()
        assert b.calls.count("users 1") == 2
        assert shows_lesser(client)


async def test_r10_a_failed_users_starts_the_grace_of_that_layer_only() -> None:
    """The provider's other servers, and its list, stay; the provider counts as degraded."""
    users = {"1": {"7": ADA}, "2": {"7": ADA}}
    a, b = ScriptedProvider(TWO, users), ScriptedProvider(ONE, {"1": {"9": CID}, "2": {"9": CID}})
    async with served({"a": a, "b": b}) as gateway:
        first, second = await gateway.connect_and_join("1"), await gateway.connect_and_join("2")
        a.users_answers["1"] = DOWN
        a.emit(Reload())
        await gateway.advance(GRACE + 1)
        assert changes(await first.new_frames()) == {"7": "deleted", "9": "dnd"}
        assert await second.new_frames() == []
        assert first.world.servers.keys() == {"1", "2"}
        assert gateway.health("a") == "degraded"


async def test_r10_a_failed_stream_starts_the_grace_of_all_its_layers() -> None:
    """Users of every server, and the list of servers, fail over."""
    users = {"1": {"7": ADA}, "2": {"7": ADA}}
    a = ScriptedProvider(TWO, users)
    three = {**TWO, "3": Server(name="Three")}
    b = ScriptedProvider(three, {"1": {"9": CID}, "2": {"9": CID}})
    async with served({"a": a, "b": b}) as gateway:
        first, second = await gateway.connect_and_join("1"), await gateway.connect_and_join("2")
        a.break_stream()
        await gateway.advance(GRACE)
        assert gateway.health("a") == "failed"
        await first.new_frames()
        await second.new_frames()
        assert first.users.keys() == second.users.keys() == {"9"}
        assert first.world.servers.keys() == {"1", "2", "3"}


async def test_r10_a_failed_start_leaves_all_layers_to_others() -> None:
    """The next provider answers at once; there is no grace for what was never held."""
    a, b = better(), lesser()
    a.start_answer = DOWN
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        assert gateway.health("a") == "failed"
        assert shows_lesser(client)
        assert a.calls == ["start", "stop"]


async def test_r10_a_stream_that_holds_again_brings_all_layers_back() -> None:
    """Everything is fetched again, as the stream may have missed something."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        a.break_stream()
        await gateway.advance(GRACE)
        await client.new_frames()
        assert shows_lesser(client)
        a.broken = False
        await gateway.advance(RETRY + 2 * FAILBACK)
        assert gateway.health("a") == "ready"
        await client.new_frames()
        assert shows_better(client)


async def test_r11_events_for_a_layer_that_is_not_held_are_dropped() -> None:
    """What the next provider said before it came into use is not applied; it is fetched."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        b.emit(
            UserChanged(server_id="1", uid="10", username="Eve"),
            UserRemoved(server_id="1", uid="7"),
        )
        assert await client.new_frames() == []
        await lose(gateway, a)
        await client.new_frames()
        assert shows_lesser(client)


async def test_r11_a_layer_that_comes_back_is_fetched_whole() -> None:
    """What its events said while it was not in use does not matter."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        await lose(gateway, a)
        a.emit(UserChanged(server_id="1", uid="10", username="Eve"))
        await client.new_frames()
        assert shows_lesser(client)
        a.users_answers["1"] = {"7": ADA, "8": BOB, "11": CID}
        context(a).recovered()
        await gateway.advance(FAILBACK)
        await client.new_frames()
        assert client.users.keys() == {"7", "8", "11"}


async def test_r11_chat_comes_from_the_provider_in_use_only() -> None:
    """Before and after failing over."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        b.emit(HELLO)
        assert await client.new_frames() == []
        await lose(gateway, a)
        await client.new_frames()
        a.emit(HELLO)
        assert await client.new_frames() == []
        b.emit(HELLO)
        (frame,) = await client.new_frames()
        assert isinstance(frame, MessageFrame)


async def test_r11_chat_passes_while_its_provider_is_degraded() -> None:
    """The layer is in use until the grace has run out."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        context(a).degraded("the line is bad")
        await gateway.advance(GRACE - 1)
        a.emit(HELLO)
        (frame,) = await client.new_frames()
        assert isinstance(frame, MessageFrame)


@pytest.mark.parametrize(
    ("events", "passes"),
    [
        ([UserChanged(server_id="1", uid="10", username="Eve")], True),
        ([], False),
        ([UserChanged(server_id="1", uid="10"), UserRemoved(server_id="1", uid="10")], False),
    ],
    ids=["has come", "never was", "has gone"],
)
async def test_r11_the_author_is_looked_for_when_the_message_is_sent(
    events: list[Event], *, passes: bool
) -> None:
    """What the same turn brought before it counts."""
    a = better()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(*events, Message(server_id="1", uid="10", message="hello", channel="c"))
        frames = await client.new_frames()
        assert any(isinstance(frame, MessageFrame) for frame in frames) is passes


async def test_r11_a_message_is_sent_before_its_author_goes() -> None:
    """In the order in which they were said."""
    a = better()
    async with served({"a": a}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(HELLO, UserRemoved(server_id="1", uid="7"))
        kinds = [type(frame) for frame in await client.new_frames()]
        assert kinds == [MessageFrame, PresenceFrame]


async def test_r11_an_author_whom_a_lower_layer_adds_may_be_quoted_by_a_higher_one() -> None:
    """What counts is the world, not the layer of the one that brings the message."""
    a, b = ScriptedProvider(ONE, {"1": {}}), ScriptedProvider(ONE, {"1": {"7": ADA}})
    async with served({"a": a, "b": b}, tables={"b": {"mode": "merge"}}) as gateway:
        client = await gateway.connect_and_join()
        a.emit(HELLO)
        (frame,) = await client.new_frames()
        assert isinstance(frame, MessageFrame)


async def test_r18_fallbacks_are_asked_in_sequence() -> None:
    """The next one only once the one above it has nothing to say."""
    a, b, c = (
        ScriptedProvider(ONE),
        ScriptedProvider(ONE),
        ScriptedProvider(ONE, {"1": {"7": ADA}}),
    )
    async with served({"a": a, "b": b, "c": c}) as gateway:
        for script in (a, b, c):
            script.hold("users")
        client = await gateway.connect()
        await client.ask("1")
        for now, later in ((a, [b, c]), (b, [c]), (c, [])):
            await client.new_frames()
            assert "users 1" in now.calls
            assert not any("users 1" in other.calls for other in later)
            now.release("users")
        await client.new_frames()
        assert client.users.keys() == {"7"}


async def test_r18_merge_and_enrich_are_asked_at_the_same_time() -> None:
    """None of them waits for a fallback or for another one."""
    names = {"a": "fallback", "b": "merge", "c": "enrich", "d": "merge"}
    scripts = {name: ScriptedProvider(ONE, {"1": {name: ADA}}) for name in names}
    tables = {name: {"mode": mode} for name, mode in names.items()}
    async with served(scripts, tables=tables) as gateway:
        for script in scripts.values():
            script.hold("users")
        client = await gateway.connect()
        await client.ask("1")
        assert await client.new_frames() == []
        assert all("users 1" in script.calls for script in scripts.values())
        for script in scripts.values():
            script.release("users")
        await client.new_frames()
        assert client.users.keys() == {"a", "b", "d"}


async def test_r18_a_provider_that_hangs_is_left_after_its_timeout() -> None:
    """The join goes on with the next one."""
    a, b = better(), lesser()
    a.hang.add("users")
    async with served({"a": a, "b": b}, tables={"a": {"timeout": "2s"}}) as gateway:
        client = await gateway.connect()
        await client.ask("1")
        assert await client.new_frames() == []
        await gateway.advance(1.9)
        assert await client.new_frames() == []
        await gateway.advance(0.1)
        await client.new_frames()
        assert shows_lesser(client)


async def test_r18_a_call_that_takes_too_long_is_cancelled() -> None:
    """The provider need not go on with what no caller waits for."""
    a = better()
    async with served({"a": a}) as gateway:
        await gateway.connect_and_join()
        a.hold("users")
        a.emit(Reload(server_id="1"))
        await gateway.advance(4.9)
        assert a.cancelled == []
        await gateway.advance(0.1)
        assert a.cancelled == ["users"]


async def test_r18_a_failed_provider_is_not_asked_before_its_retry() -> None:
    """Who joins meanwhile is served by the next one, at once."""
    a, b = better(), lesser()
    a.users_answers["1"] = DOWN
    async with served({"a": a, "b": b}) as gateway:
        for _ in range(3):
            assert shows_lesser(await gateway.connect_and_join())
        assert a.calls.count("users 1") == 1


async def test_r18_a_provider_that_does_not_start_is_not_asked() -> None:
    """Neither by a join nor when it reports that it is ready: it has not started."""
    a, b = better(), lesser()
    a.start_answer = DOWN
    async with served({"a": a, "b": b}) as gateway:
        context(a).recovered()
        assert shows_lesser(await gateway.connect_and_join())
        assert a.calls == ["start", "stop"]
        assert gateway.health("a") == "failed"


@pytest.mark.parametrize("grace", [5, 60])
async def test_r10_another_grace_counts_from_the_same_failure(grace: int) -> None:
    """Shorter or longer than the one that has begun."""
    a, b = better(), lesser()
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        assert a.context is not None
        a.context.degraded("lost")
        await gateway.advance(1)
        await gateway.server.reload(configured("ab", {"a": {"grace": grace}}))
        await gateway.advance(grace - 1.1)
        assert await client.new_frames() == []
        await gateway.advance(0.2)
        await client.new_frames()
        assert shows_lesser(client)
