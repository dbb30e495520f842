"""What was recorded is played again."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from d_back_core import (
    Context,
    Credentials,
    Event,
    File,
    Message,
    Secret,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
    WebSocketServer,
)
from d_back_core.client import ClientWorld, connect
from d_back_core.config import load
from d_back_mock import MockConfig, MockProvider, recording
from d_back_testing import ScriptedProvider
from d_back_watch.lines import JsonLines

Advance = Callable[[float], Awaitable[None]]
Line = dict[str, Any]

PATIENCE = 30.0
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ADA = {"uid": "7", "username": "Ada", "status": "online", "roleColor": "#ff6b6b"}
BOB = {"uid": "8", "username": "Bob", "status": "idle", "roleColor": "#4ecdc4"}
LISTED = {
    "1": {"id": "plaza", "name": "Plaza", "default": True, "passworded": False},
    "2": {"id": "vault", "name": "Vault", "passworded": True},
}


def at(seconds: float, frame: Line) -> Line:
    time = (NOON + timedelta(seconds=seconds)).isoformat(timespec="microseconds")
    return {"time": time, "frame": frame}


def listed(seconds: float, servers: Line = LISTED, kind: str = "server-list") -> Line:
    return at(seconds, {"type": kind, "data": servers})


def unlisted(seconds: float, server_id: str) -> Line:
    return at(seconds, {"type": "server-list-update", "data": {}, "removed": [server_id]})


def joined(seconds: float, *users: Line, server: str = "plaza") -> Line:
    data = {
        "users": {user["uid"]: user for user in users},
        "request": {"server": server},
        "serverName": server.title(),
        "epoch": "e",
        "seq": 0,
    }
    return at(seconds, {"type": "server-join", "data": data})


def presence(seconds: float, uid: str, status: str, server: str = "1", **fields: object) -> Line:
    data = {"uid": uid, "status": status, **fields}
    return at(seconds, {"type": "presence", "server": server, "seq": 1, "data": data})


def said(seconds: float, text: str, server: str = "1") -> Line:
    data = {"uid": "7", "message": text, "channel": "5"}
    return at(seconds, {"type": "message", "server": server, "seq": 1, "data": data})


class Day:
    """A recorded file, and the provider that plays it."""

    def __init__(self, path: Path, context: Context) -> None:
        self.path = path
        self.context = context
        self.provider: MockProvider | None = None
        self._stream: AsyncIterator[Event] | None = None

    def write(self, *lines: Line, end: str = "") -> None:
        self.path.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + end)

    async def play(self, **options: Any) -> MockProvider:  # noqa: ANN401  those of the struct
        self.provider = MockProvider(MockConfig(replay=File(self.path), **options))
        await self.provider.start(self.context)
        self._stream = aiter(self.provider.events())
        return self.provider

    async def next(self) -> Event:
        """What is due now."""
        assert self._stream is not None
        async with asyncio.timeout(PATIENCE):
            return await anext(self._stream)

    async def take(self, count: int) -> list[Event]:
        return [await self.next() for _ in range(count)]


@pytest.fixture
async def day(tmp_path: Path, context: Context) -> AsyncIterator[Day]:
    day = Day(tmp_path / "day.jsonl", context)
    yield day
    if day.provider is not None:
        await day.provider.stop()


@asynccontextmanager
async def waiting(day: Day) -> AsyncIterator["asyncio.Task[Event]"]:
    """The next event, which is not due yet; the clock is waited for when the block begins."""
    task = asyncio.create_task(day.next())
    clock: Any = day.context.clock
    async with asyncio.timeout(PATIENCE):
        while not task.done() and not clock.waiting():  # noqa: ASYNC110  a thread reads
            await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_it_begins_with_the_first_snapshot(day: Day) -> None:
    """Its server is there, with its users; servers of which there is none are not."""
    day.write(listed(0), joined(1, ADA, BOB), said(2, "hi"))
    provider = await day.play()
    assert await provider.servers() == {
        "1": Server(name="Plaza", id="plaza", default=True, passworded=False)
    }
    assert await provider.users("1") == {
        "7": User(username="Ada", status="online", role_color="#ff6b6b"),
        "8": User(username="Bob", status="idle", role_color="#4ecdc4"),
    }
    assert await provider.users("2") is None


async def test_what_happened_happens(day: Day) -> None:
    """Members change, come, go and talk, in the order of the file; the users agree."""
    day.write(
        listed(0),
        joined(0, ADA, BOB),
        presence(0, "7", "dnd"),
        presence(0, "9", "online", username="Cy", roleColor="#000000"),
        presence(0, "8", "offline", delete=True),
        said(0, "hi"),
    )
    provider = await day.play()
    assert await day.take(4) == [
        UserChanged(server_id="1", uid="7", status="dnd"),
        UserChanged(server_id="1", uid="9", username="Cy", status="online", role_color="#000000"),
        UserRemoved(server_id="1", uid="8"),
        Message(server_id="1", uid="7", message="hi", channel="5"),
    ]
    assert await provider.users("1") == {
        "7": User(username="Ada", status="dnd", role_color="#ff6b6b"),
        "9": User(username="Cy", status="online", role_color="#000000"),
    }


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 30.0), (10.0, 3.0), (0.5, 60.0)])
async def test_r20_the_pace_is_that_of_the_recording_and_of_the_clock(
    day: Day, advance: Advance, speed: float, seconds: float
) -> None:
    """Half a minute takes half a minute, or what ``speed`` makes of it."""
    day.write(listed(0), joined(1, ADA), said(31, "hi"))
    await day.play(speed=speed)
    async with waiting(day) as event:
        await advance(seconds - 0.01)
        assert not event.done()
        await advance(0.01)
        assert event.done()


async def test_a_time_that_goes_back_counts_as_none(day: Day, advance: Advance) -> None:
    """As where recordings were written one behind the other; the pace goes on from there."""
    day.write(listed(0), joined(100, ADA), said(5, "hi"), said(7, "again"))
    await day.play()
    assert isinstance(await day.next(), Message)
    async with waiting(day) as event:
        await advance(1.9)
        assert not event.done()
        await advance(0.1)
        assert event.done()


async def test_a_later_snapshot_is_the_changes(day: Day) -> None:
    """After a lost connection: only what is different, in front of what follows."""
    changed = {**BOB, "status": "dnd"}
    cy = {**ADA, "uid": "9", "username": "Cy"}
    day.write(listed(0), joined(0, ADA, BOB), listed(0), joined(0, changed, cy), said(0, "hi"))
    provider = await day.play()
    assert await day.take(4) == [
        UserRemoved(server_id="1", uid="7"),
        UserChanged(server_id="1", uid="8", username="Bob", status="dnd", role_color="#4ecdc4"),
        UserChanged(server_id="1", uid="9", username="Cy", status="online", role_color="#ff6b6b"),
        Message(server_id="1", uid="7", message="hi", channel="5"),
    ]
    assert set(await provider.users("1") or {}) == {"8", "9"}


async def test_several_servers_in_one_file(day: Day) -> None:
    """Each is there from its snapshot on; what is of others is left out."""
    day.write(
        listed(0),
        joined(0, ADA),
        said(0, "too early", "2"),
        presence(0, "8", "idle", "2"),
        joined(0, BOB, server="vault"),
        said(0, "now", "2"),
        said(0, "here", "1"),
    )
    provider = await day.play()
    assert await day.take(3) == [
        ServerChanged(server_id="2", name="Vault", id="vault", default=False, passworded=True),
        Message(server_id="2", uid="7", message="now", channel="5"),
        Message(server_id="1", uid="7", message="here", channel="5"),
    ]
    assert (await provider.servers() or {}).keys() == {"1", "2"}
    assert (await provider.users("2") or {}).keys() == {"8"}


async def test_the_list_goes_along(day: Day) -> None:
    """A server that is renamed, protected or gone is so again; an update leaves the others as
    they are."""
    named = {**LISTED["1"], "name": "Park", "passworded": True}
    day.write(
        listed(0),
        joined(0, ADA),
        listed(0, {"1": named}, "server-list-update"),
        listed(0, {"2": LISTED["2"]}, "server-list"),
        listed(0, {"3": LISTED["2"]}, "server-list-update"),
        presence(0, "7", "dnd"),
        unlisted(0, "1"),
    )
    provider = await day.play(repeat=False)
    assert await day.take(3) == [
        ServerChanged(server_id="1", name="Park", id="plaza", default=True, passworded=True),
        UserChanged(server_id="1", uid="7", status="dnd"),
        ServerRemoved(server_id="1"),
    ]
    assert await provider.servers() == {}


async def test_a_protected_server_stays_protected(day: Day) -> None:
    """The demo token opens it; without one, the mock does not decide."""
    day.write(listed(0), joined(0, BOB, server="vault"))
    provider = await day.play(authorize=Secret("x"))
    right, wrong = (Credentials(discord_token=token) for token in ("x", "y"))
    assert await provider.authorize("2", right) is True
    assert await provider.authorize("2", wrong) is False
    assert await provider.authorize("1", right) is None


async def test_it_begins_again(day: Day, advance: Advance) -> None:
    """The first snapshot comes again as changes, when the last line is over."""
    day.write(listed(0), joined(0, ADA), presence(5, "7", "dnd"))
    await day.play()
    async with waiting(day) as event:
        await advance(5)
        assert event.result() == UserChanged(server_id="1", uid="7", status="dnd")
    whole = UserChanged(
        server_id="1", uid="7", username="Ada", status="online", role_color="#ff6b6b"
    )
    assert await day.next() == whole
    async with waiting(day) as event:
        await advance(4.9)
        assert not event.done()
        await advance(0.1)
        assert event.result() == UserChanged(server_id="1", uid="7", status="dnd")


async def test_a_round_takes_a_second(day: Day, advance: Advance) -> None:
    """A recording of no length does not spin."""
    day.write(listed(0), joined(0, ADA), said(0, "hi"))
    await day.play()
    assert isinstance(await day.next(), Message)
    async with waiting(day) as event:
        await advance(0.99)
        assert not event.done()
        await advance(0.01)
        async with asyncio.timeout(PATIENCE):
            assert isinstance(await event, Message)


async def test_it_stays_as_it_was_at_the_end(day: Day, advance: Advance) -> None:
    """Without ``repeat`` nothing more happens, but the stream goes on; stopping ends it."""
    day.write(listed(0), joined(0, ADA), presence(0, "7", "dnd"))
    provider = await day.play(repeat=False)
    await day.next()
    over = asyncio.create_task(day.next())
    await advance(100_000)
    assert not over.done()
    assert (await provider.users("1") or {})["7"].status == "dnd"
    await provider.stop()
    with pytest.raises(StopAsyncIteration):
        async with asyncio.timeout(PATIENCE):
            await over


async def test_nothing_piles_up(day: Day, advance: Advance) -> None:
    """After an hour without a listener, ten seconds are made up for."""
    day.write(listed(0), joined(0, ADA), *(said(second, "hi") for second in range(1, 3600)))
    await day.play(repeat=False)
    await advance(3600)
    assert len(await day.take(11)) == 11
    async with waiting(day) as event:
        assert not event.done()


async def test_a_big_file_is_read_in_batches(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many lines are held, and all of them are played in order."""
    monkeypatch.setattr(recording, "BATCH", 2000)
    day.write(listed(0), joined(0, ADA), *(said(0, str(number)) for number in range(2000)))
    provider = await day.play(repeat=False)
    life: Any = provider._life  # noqa: SLF001
    texts = []
    for _ in range(2000):
        event = await day.next()
        assert isinstance(event, Message)
        texts.append(event.message)
        assert len(life._recording._ready) < 20  # noqa: SLF001
    assert texts == [str(number) for number in range(2000)]


async def test_one_that_is_cancelled_while_it_reads_loses_nothing(
    day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream may be called again at any moment."""
    monkeypatch.setattr(recording, "BATCH", 1)
    day.write(listed(0), joined(0, ADA), said(0, "hi"), said(0, "again"))
    provider = await day.play(repeat=False)
    reading, go_on = threading.Event(), threading.Event()
    read = recording.Recording._read  # noqa: SLF001

    def held(file: recording.Recording) -> None:
        reading.set()
        assert go_on.wait(PATIENCE)
        read(file)

    monkeypatch.setattr(recording.Recording, "_read", held)
    cut = asyncio.ensure_future(anext(provider.events()))
    await asyncio.sleep(0)
    assert await asyncio.to_thread(reading.wait, PATIENCE)
    cut.cancel()
    await asyncio.wait([cut])
    whole = asyncio.create_task(day.next())
    await asyncio.sleep(0)
    go_on.set()
    first, second = await whole, await day.next()
    assert isinstance(first, Message)
    assert isinstance(second, Message)
    assert (first.message, second.message) == ("hi", "again")


# What cannot be played


BROKEN: dict[str, tuple[str, str]] = {
    "no JSON": ("nope\n", "JSON is malformed"),
    "no time": ('{"frame":{"type":"message"}}\n', "missing required field `time`"),
    "another time": ('{"time":"noon"}\n', "RFC3339"),
    "another shape": (
        '{"time":"2026-11-24T12:00:00Z","frame":{"type":"message","server":1}}\n',
        "Expected `str`, got `int`",
    ),
    "an unlisted server": (f"{json.dumps(joined(0, server='x'))}\n", "a snapshot of 'x'"),
}


@pytest.mark.parametrize(("line", "sentence"), BROKEN.values(), ids=BROKEN)
async def test_a_line_that_is_none_names_its_number(day: Day, line: str, sentence: str) -> None:
    """After what comes before it has been played; and again when it is asked again."""
    day.write(listed(0), joined(0, ADA), said(0, "hi"), end=line)
    provider = await day.play()
    assert isinstance(await day.next(), Message)
    for _ in range(2):
        with pytest.raises(ValueError, match=sentence) as caught:
            await anext(provider.events())
        assert f"replay '{day.path}', line 4: " in str(caught.value)


async def test_a_file_without_a_snapshot_does_not_start(day: Day) -> None:
    """There would be no user."""
    day.write(listed(0))
    with pytest.raises(ValueError, match=r"day\.jsonl': there is no snapshot in it"):
        await day.play()


async def test_a_file_that_has_gone_does_not_start(day: Day) -> None:
    """Since the configuration was read."""
    day.write()
    provider = MockProvider(MockConfig(replay=File(day.path)))
    day.path.unlink()
    with pytest.raises(ValueError, match=r"day\.jsonl': No such file"):
        await provider.start(day.context)
    await provider.stop()


async def test_a_last_line_that_was_cut_off_is_left_out(
    day: Day, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a crash while it was written."""
    day.write(listed(0), joined(0, ADA), said(0, "hi"), end='{"time":"2026-11-')
    provider = await day.play(repeat=False)
    assert isinstance(await day.next(), Message)
    life: Any = provider._life  # noqa: SLF001
    assert await life._recording.peek() is None  # noqa: SLF001
    assert "line 4: left out: it is cut off" in caplog.text


async def test_what_it_does_not_know_is_passed_over(day: Day) -> None:
    """Lost connections, errors, and frames of later versions."""
    day.write(
        listed(0),
        joined(0, ADA),
        {"time": NOON.isoformat(), "lost": {"code": 1006}},
        at(0, {"type": "resumed", "server": "1", "epoch": "e", "seq": 0}),
        at(0, {"type": "novelty", "data": 5}),
        at(0, {"type": "error", "data": {"message": "x", "code": "notice"}}),
        said(0, "hi"),
    )
    await day.play()
    assert isinstance(await day.next(), Message)


# From one gateway to another


def states(world: ClientWorld) -> tuple[str, str, dict[str, tuple[str, ...]]]:
    users: dict[str, tuple[str, ...]] = {
        uid: (user.username, user.status, user.role_color) for uid, user in world.users.items()
    }
    return world.public_id, world.name, users


async def watched(url: str, frames: int, lines: JsonLines | None = None) -> list[object]:
    """The states, and what was said, after each of so many frames."""
    seen: list[object] = []
    async with asyncio.timeout(PATIENCE), connect(url, listener=lines) as world:
        seen.append(states(world))
        stream = world.events()
        while len(seen) <= frames:
            frame: Any = await anext(stream)
            text = getattr(frame.data, "message", None)
            seen.append((text, states(world)))
    return seen


async def test_a_client_sees_the_same_states_again(tmp_path: Path) -> None:
    """Change from one gateway, played by another: the same snapshot, changes and chat."""
    script = ScriptedProvider(
        {"1": Server(name="Plaza", id="plaza", default=True)},
        {"1": {"7": User(username="Ada", status="online", role_color="#ff6b6b")}},
    )
    events: list[Event] = [
        UserChanged(server_id="1", uid="8", username="Bob", status="idle"),
        Message(server_id="1", uid="8", message="hello \x1b[31m", channel="5"),
        UserChanged(server_id="1", uid="7", role_color="#000000"),
        UserRemoved(server_id="1", uid="8"),
        UserChanged(server_id="1", uid="7", status="offline", username="Ada L."),
        Message(server_id="1", uid="7", message="bye", channel="6"),
    ]
    path = tmp_path / "day.jsonl"
    times = (NOON + timedelta(seconds=number) for number in range(1000))
    with path.open("wb") as file:
        lines = JsonLines(file.write, lambda: next(times))
        async with WebSocketServer(0, providers={"script": script}) as server:
            watching = asyncio.create_task(watched(server.url, len(events), lines))
            await _until_joined(server)
            for event in events:
                script.emit(event)
                await server.live.settle()
            first = await watching
    toml = tmp_path / "d-back.toml"
    toml.write_text('providers.mock = { replay = "day.jsonl", speed = 2, repeat = false }')
    async with WebSocketServer(config=load(toml, {}, port=0)) as server:
        assert await watched(server.url, len(events)) == first


async def _until_joined(server: WebSocketServer) -> None:
    async with asyncio.timeout(PATIENCE):
        while not any(each.sessions for each in server.live.servers.values()):  # noqa: ASYNC110
            await asyncio.sleep(0)
