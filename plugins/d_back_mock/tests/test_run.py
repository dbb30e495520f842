import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import NamedTuple

import pytest
from msgspec import structs

from d_back_core import Clock, Context, Event, Message, Status, User, UserChanged
from d_back_mock import MockConfig, MockProvider
from d_back_mock.chat import CHANNEL

Begin = Callable[..., Awaitable[MockProvider]]

DWORLD = "232769614004748288"
ALONE = ("482241773318701056", "123456789012345678")
REPOS = "987654321098765432"
HOUR = 3600.0


class ManualTimer:
    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock(Clock):
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[ManualTimer] = []

    @property
    def waiting(self) -> list[ManualTimer]:
        return [timer for timer in self._timers if not timer.cancelled]

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None]) -> ManualTimer:
        timer = ManualTimer(self._now + delay, callback)
        self._timers.append(timer)
        return timer

    async def advance(self, seconds: float) -> None:
        """Move on, and let the loop run after each timer on the way."""
        end = self._now + seconds
        await quiet()
        while due := [timer for timer in self.waiting if timer.due <= end]:
            first = min(due, key=lambda timer: timer.due)
            self._timers.remove(first)
            self._now = first.due
            first.callback()
            await quiet()
        self._timers = self.waiting
        self._now = end


class Heard(NamedTuple):
    at: float
    event: UserChanged | Message


async def quiet() -> None:
    """Give everything that is ready its turn."""
    for _ in range(5):
        await asyncio.sleep(0)


async def listen(provider: MockProvider, clock: ManualClock, seconds: float) -> list[Heard]:
    """What the stream brings in that time."""
    heard = []

    async def drain() -> None:
        async for event in provider.events():
            assert isinstance(event, UserChanged | Message)
            heard.append(Heard(clock.time(), event))

    draining = asyncio.create_task(drain())
    await clock.advance(seconds)
    assert not draining.done()
    draining.cancel()
    await asyncio.wait([draining])
    return heard


def events(heard: list[Heard]) -> list[UserChanged | Message]:
    return [event for _, event in heard]


def times(heard: list[Heard], kind: type[Event], server_id: str) -> list[float]:
    return [at for at, event in heard if isinstance(event, kind) and event.server_id == server_id]


async def users_of(provider: MockProvider) -> dict[str, dict[str, User]]:
    servers = await provider.servers() or {}
    return {server_id: await provider.users(server_id) or {} for server_id in servers}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.mark.parametrize("server_id", [DWORLD, *ALONE, REPOS])
@pytest.mark.parametrize(("kind", "interval"), [(UserChanged, 4.0), (Message, 5.0)])
async def test_pace(
    begin: Begin, clock: ManualClock, kind: type[Event], interval: float, server_id: str
) -> None:
    """Each server has its change every 4 s and its message every 5 s, a quarter more or less."""
    heard = await listen(await begin(seed=1), clock, HOUR)
    happened = times(heard, kind, server_id)
    assert len(happened) == pytest.approx(HOUR / interval, rel=0.05)
    gaps = [after - before for before, after in pairwise(happened)]
    assert 0.75 * interval <= min(gaps) < 0.8 * interval
    assert 1.2 * interval < max(gaps) <= 1.25 * interval + 1e-6


async def test_other_intervals(begin: Begin, clock: ManualClock) -> None:
    """The intervals are those of the options."""
    provider = await begin(seed=1, presence_interval=0.5, message_interval=60.0)
    heard = await listen(provider, clock, HOUR)
    assert len(times(heard, UserChanged, DWORLD)) == pytest.approx(7200, rel=0.05)
    assert len(times(heard, Message, DWORLD)) == pytest.approx(60, rel=0.05)


@pytest.mark.parametrize(
    ("off", "left"), [("presence_interval", Message), ("message_interval", UserChanged)]
)
async def test_off(begin: Begin, clock: ManualClock, off: str, left: type[Event]) -> None:
    """An interval of 0 turns these events off and leaves the others."""
    heard = await listen(await begin(**{off: 0.0}), clock, 60)
    assert {type(event) for event in events(heard)} == {left}


async def test_all_off(begin: Begin, clock: ManualClock) -> None:
    """With both off the stream is silent but goes on: a stream that ended would be polled."""
    provider = await begin(presence_interval=0.0, message_interval=0.0)
    assert await listen(provider, clock, HOUR) == []


async def test_changes_are_real(begin: Begin, clock: ManualClock) -> None:
    """Every change of a user's status is to another status, and says nothing else."""
    provider = await begin(seed=1)
    statuses = {
        (server_id, uid): user.status
        for server_id, users in (await users_of(provider)).items()
        for uid, user in users.items()
    }
    for event in events(await listen(provider, clock, HOUR)):
        if isinstance(event, UserChanged):
            key = event.server_id, event.uid
            assert event.status != statuses[key]
            assert event == UserChanged(
                server_id=event.server_id, uid=event.uid, status=event.status
            )
            statuses[key] = event.status


async def test_everybody_changes(begin: Begin, clock: ManualClock) -> None:
    """All members of a server, and all statuses, have their turn."""
    provider = await begin(seed=1)
    heard = events(await listen(provider, clock, HOUR))
    changes = [e for e in heard if isinstance(e, UserChanged) and e.server_id == REPOS]
    assert {change.uid for change in changes} == set(await provider.users(REPOS) or {})
    assert {change.status for change in changes} == {"online", "idle", "dnd", "offline"}


async def test_somebody_is_online(begin: Begin, clock: ManualClock) -> None:
    """Where there is company, somebody is online at every moment."""
    provider = await begin(seed=1, users=2, server_count=20, message_interval=0.0)
    for _ in range(500):
        await listen(provider, clock, 1)
        for users in (await users_of(provider)).values():
            assert "online" in {user.status for user in users.values()}


@pytest.mark.parametrize("server_id", ALONE)
async def test_nobody_leaves_alone(begin: Begin, clock: ManualClock, server_id: str) -> None:
    """The only member of a server goes away from the keyboard, but never offline."""
    heard = await listen(await begin(seed=1), clock, HOUR)
    assert {
        event.status
        for event in events(heard)
        if isinstance(event, UserChanged) and event.server_id == server_id
    } == {"online", "idle", "dnd"}


async def test_users_agree(begin: Begin, clock: ManualClock) -> None:
    """At any moment the users are those of the beginning with all events so far applied."""
    provider = await begin(seed=1)
    folded = await users_of(provider)
    for _ in range(100):
        for event in events(await listen(provider, clock, 7)):
            if isinstance(event, UserChanged):
                users = folded[event.server_id]
                users[event.uid] = structs.replace(users[event.uid], status=event.status)
        assert await users_of(provider) == folded


async def test_crowds_agree(begin: Begin, clock: ManualClock) -> None:
    """Users that are made only when they are asked for have their changes in them."""
    provider = await begin(seed=1, users=30, message_interval=0.0)
    (server_id,) = await provider.servers() or {}
    last: dict[str, object] = {}
    for event in events(await listen(provider, clock, HOUR)):
        assert isinstance(event, UserChanged)
        last[event.uid] = event.status
    users = await provider.users(server_id) or {}
    assert {uid: user.status for uid, user in users.items()} == last


async def test_answers_are_snapshots(begin: Begin, clock: ManualClock) -> None:
    """What was answered is the asker's: later changes do not reach into it."""
    provider = await begin(seed=1)
    before = await users_of(provider)
    copied = {server_id: dict(users) for server_id, users in before.items()}
    await listen(provider, clock, 60)
    assert before == copied


async def test_messages(begin: Begin, clock: ManualClock) -> None:
    """Messages come in the known channel, from members who are not offline, and vary."""
    provider = await begin(seed=1)
    statuses: dict[str, Status | object] = {
        uid: user.status for uid, user in (await provider.users(REPOS) or {}).items()
    }
    lines = []
    for event in events(await listen(provider, clock, HOUR)):
        if event.server_id != REPOS:
            continue
        if isinstance(event, UserChanged):
            statuses[event.uid] = event.status
        else:
            assert (event.channel, event.channel_name) == (CHANNEL, "general")
            assert statuses[event.uid] != "offline"
            lines.append(event.message)
    assert CHANNEL == "527964146659229701"
    assert all(line != after for line, after in pairwise(lines))
    assert len(set(lines)) > 50


async def test_same_seed_same_run(begin: Begin, clock: ManualClock) -> None:
    """Two providers with the same seed bring the same events in the same order."""
    runs = [await listen(await begin(seed=7), clock, 600) for _ in range(2)]
    assert events(runs[0]) == events(runs[1])
    assert len(runs[0]) > 1000


@pytest.mark.parametrize("other", [8, -7, None])
async def test_other_seed_other_run(begin: Begin, clock: ManualClock, other: int | None) -> None:
    """Another seed, or none, brings other events."""
    runs = [await listen(await begin(seed=seed), clock, 60) for seed in (7, other)]
    assert events(runs[0]) != events(runs[1])


async def test_seed_is_logged(
    begin: Begin, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A run whose seed was not set can be repeated by the seed that it logs."""
    caplog.set_level(logging.INFO)
    run = await listen(await begin(), clock, 60)
    seed = int(caplog.messages[-1].split("seed = ")[1].split()[0])
    assert events(await listen(await begin(seed=seed), clock, 60)) == events(run)


async def test_pace_of_the_listener(begin: Begin, clock: ManualClock) -> None:
    """The run is the same for whoever listens on time, late, or with gaps."""
    punctual = events(await listen(await begin(seed=7), clock, 600))
    provider = await begin(seed=7)
    halting = []
    for gap in (1, 30, 2, HOUR, 5) * 4:
        await clock.advance(gap)
        halting += events(await listen(provider, clock, 3))
    assert halting == punctual[: len(halting)]
    assert len(halting) > 100


async def test_nothing_is_lost_between(begin: Begin, clock: ManualClock) -> None:
    """What happens after the start and before somebody listens is made up for at once."""
    punctual = events(await listen(await begin(seed=7), clock, 8))
    provider = await begin(seed=7)
    await clock.advance(8)
    assert events(await listen(provider, clock, 0)) == punctual


async def test_no_backlog(begin: Begin, clock: ManualClock) -> None:
    """After an hour in which nobody listened, no more than some seconds are made up for."""
    provider = await begin(seed=7)
    await clock.advance(HOUR)
    late = await listen(provider, clock, 0)
    assert 0 < len(late) < 4 * (10 / 3 + 10 / 3.75 + 2)


async def test_pace_after_a_gap(begin: Begin, clock: ManualClock) -> None:
    """Once the gap is made up for, the events come at their usual pace."""
    provider = await begin(seed=7)
    await clock.advance(HOUR)
    await listen(provider, clock, 0)
    heard = await listen(provider, clock, 400)
    assert len(times(heard, UserChanged, DWORLD)) == pytest.approx(100, rel=0.05)


async def test_one_timer(begin: Begin, clock: ManualClock) -> None:
    """However many servers there are, one timer waits for all of them."""
    provider = await begin(users=10, server_count=1000)
    waiting = asyncio.ensure_future(anext(aiter(provider.events())))
    await quiet()
    assert len(clock.waiting) == 1
    waiting.cancel()


async def test_every_server_lives(begin: Begin, clock: ManualClock) -> None:
    """Each of many servers has its own events at the same pace."""
    provider = await begin(users=10, server_count=50, message_interval=0.0)
    heard = events(await listen(provider, clock, 400))
    counts = Counter(event.server_id for event in heard)
    assert len(counts) == 50
    assert all(90 < count < 110 for count in counts.values())


async def test_stop_ends_the_stream(begin: Begin, clock: ManualClock) -> None:
    """Stopping ends a stream at once, without waiting for its next event, and its timer."""
    provider = await begin()
    stream = aiter(provider.events())
    waiting = asyncio.ensure_future(anext(stream, None))
    await quiet()
    await provider.stop()
    await quiet()
    assert waiting.done()
    assert waiting.result() is None
    assert clock.waiting == []


async def test_stop_ends_a_silent_stream(begin: Begin) -> None:
    """A stream that nothing will ever come from ends as well."""
    provider = await begin(presence_interval=0.0, message_interval=0.0)
    waiting = asyncio.ensure_future(anext(aiter(provider.events()), None))
    await quiet()
    await provider.stop()
    await quiet()
    assert waiting.done()
    assert waiting.result() is None


async def test_restart(begin: Begin, clock: ManualClock, context: Context) -> None:
    """After stop and start the same instance begins its run anew, users included."""
    provider = await begin(users=20)
    users = await users_of(provider)
    run = events(await listen(provider, clock, 60))
    await provider.stop()
    await provider.start(context)
    assert await users_of(provider) == users
    assert events(await listen(provider, clock, 60)) == run


async def test_start_twice(begin: Begin, clock: ManualClock, context: Context) -> None:
    """A second start leaves the run that is under way alone."""
    whole = events(await listen(await begin(seed=7), clock, 60))
    provider = await begin(seed=7)
    first = events(await listen(provider, clock, 30))
    await provider.start(context)
    assert first + events(await listen(provider, clock, 30)) == whole


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
