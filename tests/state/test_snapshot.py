"""A snapshot that is shared by joins, and the tail behind it."""

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from peers import until

from d_back_core.chain.world import World
from d_back_core.clock import Clock
from d_back_core.models import EffectiveUser
from d_back_core.state import snapshot as room
from d_back_core.state.snapshot import (
    OLD_SHARE,
    TAIL_SHARE,
    CachedSnapshot,
    Encoded,
    SnapshotCache,
)
from d_back_testing import ManualClock

USERS = 2000


def user(number: int, **fields: Any) -> EffectiveUser:  # noqa: ANN401  those of a user
    return EffectiveUser(
        **{"uid": str(number), "username": f"U{number}", "status": "idle", "role_color": "#ffffff"}
        | fields
    )


def world(*, hide_offline: bool = False) -> World:
    users = {str(number): user(number) for number in range(USERS)}
    return World("1", users, hide_offline=hide_offline)


def unframed(frames: bytes) -> list[dict[str, Any]]:
    """The messages in these frames, none of which is long."""
    messages = []
    while frames:
        start, length = 2, frames[1]
        if length == 126:
            start, length = 4, int.from_bytes(frames[2:4])
        messages.append(json.loads(frames[start : start + length]))
        frames = frames[start + length :]
    return messages


async def test_r48_only_the_last_frame_of_the_tail_carries_the_present_number() -> None:
    """The tail has the newest state of each user after each of many changes; the join and all
    other frames carry the number of the snapshot."""
    there = world()
    there.put("0", user(0, username="before"))
    taken_at = there.seq
    cached = await SnapshotCache(there, Clock()).ready()
    names: dict[str, str] = {}
    for number in range(120):
        uid = number % 7
        name = f'"seq":{there.seq + 1}, "seq":9,99,999, {number}'
        names[str(uid)] = name
        there.put(str(uid), user(uid, username=name))
        tail = unframed(cached.tail()[1])
        assert [frame["seq"] for frame in tail] == [*[taken_at] * (len(tail) - 1), there.seq]
        assert [frame.get("resync", False) for frame in tail] == [*[False] * (len(tail) - 1), True]
        assert cached.tail()[0] == taken_at
        assert {frame["data"]["uid"]: frame["data"]["username"] for frame in tail} == names
    assert cached.tail() == cached.tail()


async def test_r30_the_tail_has_no_add_delete_pairs() -> None:
    """Who came and went is not in it, and who was in the snapshot is removed; also where that
    changes without a new number."""
    there = world(hide_offline=True)
    cached = await SnapshotCache(there, Clock()).ready()
    there.put("new", user(0, uid="new"))
    assert [frame["data"]["uid"] for frame in unframed(cached.tail()[1])] == ["new"]
    there.put("new", None)
    there.put("5", None)
    [removal] = unframed(cached.tail()[1])
    assert removal["data"] == {"uid": "5", "status": "offline", "delete": True}
    there.hide(offline=False)
    there.put("6", user(6, status="offline"))
    assert {frame["data"]["uid"] for frame in unframed(cached.tail()[1])} == {"5", "6"}
    number = there.seq
    there.hide(offline=True)
    assert there.seq == number
    assert all(frame["data"].get("delete") for frame in unframed(cached.tail()[1]))


class Encoding(threading.Event):
    """While this is not set, snapshots of large worlds are not finished."""

    begun = 0
    """The number of snapshots that wait for it, or have done so."""


@pytest.fixture
def encoding(monkeypatch: pytest.MonkeyPatch) -> Encoding:
    """The compressing waits until this is set."""
    go_on, encoded = Encoding(), room._encoded  # noqa: SLF001  its thread is to be held

    def held(parts: Sequence[bytes], head: bytes, tag: str) -> Encoded:
        go_on.begun += 1
        assert go_on.wait(60)
        return encoded(parts, head, tag)

    monkeypatch.setattr(room, "_encoded", held)
    return go_on


async def test_joins_are_served_from_the_former_snapshot_while_one_is_made(
    encoding: Encoding,
) -> None:
    """They wait for a new one only where the tail would be longer than that."""
    there = world()
    snapshot = SnapshotCache(there, Clock())
    encoding.set()
    former = await snapshot.ready()
    encoding.clear()
    for number in range(USERS // TAIL_SHARE + 1):
        there.put(str(number), user(number, status="dnd"))
    assert await snapshot.ready() is former
    assert await snapshot.ready() is former
    assert len(unframed(former.tail()[1])) == USERS // TAIL_SHARE + 1
    for number in range(USERS // OLD_SHARE + 1):
        there.put(str(number), user(number, status="online"))
    waiting = asyncio.create_task(snapshot.ready())
    await asyncio.sleep(0)
    assert not waiting.done()
    encoding.set()
    new = await waiting
    assert new is not former
    assert new.users != former.users
    told = {frame["data"]["uid"] for frame in unframed(new.tail()[1])}
    assert told <= former.tracker.touched.keys()


async def test_a_small_world_has_no_tail() -> None:
    """Its snapshot is that of now."""
    there = World("1", {"1": user(1)})
    snapshot = SnapshotCache(there, Clock())
    first = await snapshot.ready()
    assert await snapshot.ready() is first
    there.put("1", user(1, status="dnd"))
    second = await snapshot.ready()
    assert b'"dnd"' in second.users.plain
    assert second.tail() == (there.seq, b"")


async def test_a_snapshot_that_nobody_asks_for_is_forgotten() -> None:
    """So that what changed since does not grow without end."""
    there = world()
    snapshot = SnapshotCache(there, Clock())
    cached = await snapshot.ready()
    for number in range(3 * USERS + 2 * 1000):
        there.put(f"n{number}", user(0, uid=f"n{number}"))
        there.put(f"n{number}", None)
        snapshot.trim()
    assert len(cached.tracker.touched) < 2 * USERS + 2 * 1000
    assert await snapshot.ready() is not cached


def listed(cached: CachedSnapshot) -> dict[str, Any]:
    """The users of an HTTP answer."""
    users: dict[str, Any] = json.loads(b"".join(cached.http().plain))["users"]
    return users


@pytest.mark.parametrize("users", [5, USERS])
async def test_r42_a_list_of_users_is_encoded_once_per_change(users: int) -> None:
    """Requests without a change in between share the bytes, and the first request after a change
    has it."""
    there = World("1", {str(number): user(number) for number in range(users)})
    snapshot = SnapshotCache(there, Clock())
    first = (await snapshot.current()).http()
    assert (await snapshot.current()).http() is first
    assert (await snapshot.ready()).http() is first
    there.put("1", user(1, status="dnd"))
    second = await snapshot.current()
    assert listed(second)["1"]["status"] == "dnd"
    assert second.http().etag != first.etag


async def test_r42_lists_at_the_same_time_share_one_snapshot() -> None:
    """A thousand requests after one change cause one encoding."""
    there = world()
    snapshot = SnapshotCache(there, Clock())
    await snapshot.current()
    there.put("1", user(1, status="dnd"))
    answers = await asyncio.gather(*(snapshot.current() for _ in range(1000)))
    assert len(set(map(id, answers))) == 1


async def test_r42_a_list_waits_for_a_snapshot_that_began_after_its_request(
    encoding: Encoding,
) -> None:
    """One that is being made already lacks the last change."""
    there = world()
    snapshot = SnapshotCache(there, Clock())
    early = asyncio.create_task(snapshot.current())
    await until(lambda: encoding.begun)
    there.put("1", user(1, status="dnd"))
    late = asyncio.create_task(snapshot.current())
    await asyncio.sleep(0)
    encoding.set()
    assert listed(await early)["1"]["status"] == "idle"
    assert listed(await late)["1"]["status"] == "dnd"


async def test_r42_snapshots_for_lists_take_a_bounded_share_of_the_time(
    encoding: Encoding,
) -> None:
    """After one that took two seconds, the next one begins eight seconds later, whatever the
    number of requests."""
    there, clock = world(), ManualClock()
    snapshot = SnapshotCache(there, clock)
    first = asyncio.create_task(snapshot.current())
    await until(lambda: encoding.begun)
    await clock.advance(2)
    encoding.set()
    await first
    there.put("1", user(1, status="dnd"))
    waiting = asyncio.gather(*(snapshot.current() for _ in range(10)))
    await clock.advance(7)
    assert encoding.begun == 1
    await clock.advance(2)
    assert listed((await waiting)[0])["1"]["status"] == "dnd"
