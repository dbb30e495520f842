"""The providers of a server, one after the other, as the log says it."""

from sample_users import ADA, BOB, ONE

from d_back_core.stats import ServerStats
from d_back_testing import ScriptedProvider, served
from d_back_testing.scripted_provider import DOWN


def town(**users: object) -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": users})  # type: ignore[dict-item]


async def test_an_exchange_names_who_answered_and_the_deltas_it_brought() -> None:
    """The numbers are those that clients saw: the first delta of the exchange and the last."""
    above, below = town(a=ADA, b=BOB), town(a=ADA)
    async with served({"above": above, "below": below}) as gateway:
        client = await gateway.connect_and_join()
        await gateway.advance(60)
        (held,) = gateway.live.stats().held
        assert (held.providers, held.since, held.exchanges) == (("above",), 60, [])
        above.users_answers["1"] = DOWN
        above.break_stream()
        await gateway.advance(40)
        await client.new_frames()
        (held,) = gateway.live.stats().held
        assert (held.server_id, held.providers, held.stale) == ("1", ("below",), False)
        assert (held.users, held.sessions) == (1, 1)
        (exchange,) = held.exchanges
        assert (exchange.before, exchange.after) == (("above",), ("below",))
        assert exchange.age == held.since < 40
        assert (exchange.epoch, exchange.first, exchange.last) == (client.world.epoch, 1, 1)
        assert client.users.keys() == {"a"}


async def test_errors_are_told_of_those_that_are_not_ready() -> None:
    """A provider that is ready again has none."""
    above, below = town(a=ADA), town(b=BOB)
    async with served({"above": above, "below": below}) as gateway:
        await gateway.connect_and_join()
        assert gateway.live.stats().errors == {}
        above.break_stream()
        await gateway.settle()
        assert "down" in gateway.live.stats().errors["above"]
        above.broken = False
        await gateway.advance(2)
        await gateway.advance(10)
        assert gateway.live.stats().errors == {}


async def test_what_nobody_answers_for_any_more_is_stale() -> None:
    """The last state stays, and no exchange took place."""
    async with served({"only": town(a=ADA)}) as gateway:
        await gateway.connect_and_join()
        gateway.live.providers.supervisors["only"].plugin.instance.break_stream()  # type: ignore[attr-defined]
        await gateway.advance(40)
        (held,) = gateway.live.stats().held
        assert isinstance(held, ServerStats)
        assert (held.providers, held.stale, held.exchanges) == (("only",), True, [])
