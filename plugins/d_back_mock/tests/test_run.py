"""When it happens, and that it can be repeated."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from d_back_core import Context, Event, Message, UserChanged
from d_back_mock import MockConfig, MockProvider

Begin = Callable[..., Awaitable[MockProvider]]
Advance = Callable[[float], Awaitable[None]]
Timed = Callable[[MockProvider, float], Awaitable[list[tuple[float, UserChanged | Message]]]]
Listen = Callable[[MockProvider, float], Awaitable[list[UserChanged | Message]]]

DWORLD = "232769614004748288"
SERVERS = (DWORLD, "482241773318701056", "123456789012345678", "987654321098765432")
HOUR = 3600.0


def count(heard: list[UserChanged | Message], kind: type[Event]) -> int:
    return sum(isinstance(event, kind) for event in heard if event.server_id == DWORLD)


@pytest.mark.parametrize("server_id", SERVERS)
@pytest.mark.parametrize(("kind", "interval"), [(UserChanged, 4.0), (Message, 5.0)])
async def test_pace(
    begin: Begin, timed: Timed, kind: type[Event], interval: float, server_id: str
) -> None:
    """Each server has its change every 4 s and its message every 5 s, a quarter more or less."""
    happened = [
        at
        for at, event in await timed(await begin(seed=1), HOUR)
        if isinstance(event, kind) and event.server_id == server_id
    ]
    assert len(happened) == pytest.approx(HOUR / interval, rel=0.05)
    gaps = [after - before for before, after in pairwise(happened)]
    assert 0.75 * interval - 1e-6 <= min(gaps) < 0.8 * interval
    assert 1.2 * interval < max(gaps) <= 1.25 * interval + 1e-6


async def test_other_intervals(begin: Begin, listen: Listen) -> None:
    """The intervals are those of the options."""
    provider = await begin(seed=1, presence_interval=0.5, message_interval=60.0)
    heard = await listen(provider, HOUR)
    assert count(heard, UserChanged) == pytest.approx(7200, rel=0.05)
    assert count(heard, Message) == pytest.approx(60, rel=0.05)


@pytest.mark.parametrize(
    ("off", "left"), [("presence_interval", Message), ("message_interval", UserChanged)]
)
async def test_off(begin: Begin, listen: Listen, off: str, left: type[Event]) -> None:
    """An interval of 0 turns these events off and leaves the others."""
    heard = await listen(await begin(**{off: 0.0}), 60)
    assert {type(event) for event in heard} == {left}


async def test_all_off(begin: Begin, listen: Listen) -> None:
    """With both off the stream is silent but goes on: a stream that ended would be polled."""
    provider = await begin(presence_interval=0.0, message_interval=0.0)
    assert await listen(provider, HOUR) == []


async def test_same_seed_same_run(begin: Begin, listen: Listen) -> None:
    """Two providers with the same seed bring the same events in the same order."""
    one, other = [await listen(await begin(seed=7), 600) for _ in range(2)]
    assert one == other
    assert len(one) > 1000


@pytest.mark.parametrize("seed", [8, -7])
async def test_other_seed_other_run(begin: Begin, listen: Listen, seed: int) -> None:
    """Another seed brings other events, also where it differs in its sign only."""
    assert await listen(await begin(seed=7), 60) != await listen(await begin(seed=seed), 60)


async def test_no_seed(begin: Begin, listen: Listen) -> None:
    """Two providers without a seed bring different events."""
    assert await listen(await begin(), 60) != await listen(await begin(), 60)


async def test_seed_is_logged(
    begin: Begin, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    """A run whose seed was not set can be repeated by the seed that it logs."""
    caplog.set_level(logging.INFO)
    run = await listen(await begin(), 60)
    seed = int(caplog.messages[-1].split("seed = ")[1].split()[0])
    assert await listen(await begin(seed=seed), 60) == run


async def test_pace_of_the_listener(begin: Begin, advance: Advance, listen: Listen) -> None:
    """The run is the same for a listener that is on time, late, or has gaps."""
    punctual = await listen(await begin(seed=7), 600)
    provider = await begin(seed=7)
    halting = []
    for gap in (1, 30, 2, HOUR, 5) * 4:
        await advance(gap)
        halting += await listen(provider, 3)
    assert halting == punctual[: len(halting)]
    assert len(halting) > 100


async def test_nothing_is_lost_between(begin: Begin, advance: Advance, listen: Listen) -> None:
    """What happens after the start and before the first listener is made up for at once."""
    punctual = await listen(await begin(seed=7), 8)
    provider = await begin(seed=7)
    await advance(8)
    assert await listen(provider, 0) == punctual
    assert len(punctual) > 8


async def test_no_backlog(begin: Begin, advance: Advance, listen: Listen) -> None:
    """After an hour without a listener, no more than 10 s are made up for."""
    provider = await begin(seed=7)
    await advance(HOUR)
    late = await listen(provider, 0)
    assert 2 <= count(late, UserChanged) <= 10 / 3 + 1
    assert 1 <= count(late, Message) <= 10 / 3.75 + 1


async def test_pace_after_a_gap(begin: Begin, advance: Advance, listen: Listen) -> None:
    """Once the gap is made up for, the events come at their usual pace."""
    provider = await begin(seed=7)
    await advance(HOUR)
    await listen(provider, 0)
    heard = await listen(provider, 400)
    assert count(heard, UserChanged) == pytest.approx(100, rel=0.05)


async def test_one_timer(begin: Begin, advance: Advance, timers: Callable[[], int]) -> None:
    """However many servers there are, one timer waits for all of them."""
    provider = await begin(users=10, server_count=1000)
    waiting = asyncio.ensure_future(anext(aiter(provider.events())))
    await advance(0)
    assert timers() == 1
    waiting.cancel()


async def test_every_server_lives(begin: Begin, listen: Listen) -> None:
    """Each of many servers has its own events at the same pace."""
    provider = await begin(users=10, server_count=50, message_interval=0.0)
    counts = Counter(event.server_id for event in await listen(provider, 400))
    assert len(counts) == 50
    assert all(90 < events < 110 for events in counts.values())


@pytest.mark.parametrize("interval", [4.0, 0.0])
async def test_stop_ends_the_stream(
    begin: Begin, advance: Advance, timers: Callable[[], int], interval: float
) -> None:
    """Stopping ends a stream at once, also one that nothing comes from, and its timer."""
    provider = await begin(presence_interval=interval, message_interval=interval)
    waiting = asyncio.ensure_future(anext(aiter(provider.events()), None))
    await advance(0)
    await provider.stop()
    await advance(0)
    assert waiting.done()
    assert waiting.result() is None
    assert timers() == 0


async def test_restart(begin: Begin, listen: Listen, context: Context) -> None:
    """After stop and start the same instance begins its run again, users included."""
    provider = await begin(users=20)
    (server_id,) = await provider.servers() or {}
    users = await provider.users(server_id)
    run = await listen(provider, 60)
    await provider.stop()
    await provider.start(context)
    assert await provider.users(server_id) == users
    assert await listen(provider, 60) == run


async def test_start_twice(begin: Begin, listen: Listen, context: Context) -> None:
    """A second start leaves the run that is under way alone."""
    whole = await listen(await begin(seed=7), 60)
    provider = await begin(seed=7)
    first = await listen(provider, 30)
    await provider.start(context)
    assert first + await listen(provider, 30) == whole


async def test_stop_twice(begin: Begin) -> None:
    """Stopping again, or without a start, does nothing."""
    provider = await begin()
    await provider.stop()
    await provider.stop()
    await MockProvider(MockConfig()).stop()
    assert await provider.servers() is None


async def test_events_while_stopped(begin: Begin) -> None:
    """The stream of a provider that is stopped ends without an event."""
    provider = await begin()
    await provider.stop()
    assert [event async for event in provider.events()] == []
