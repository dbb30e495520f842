"""Every session is written each delta once, in step or apart, whatever happens meanwhile."""

import random
import socket
from collections.abc import Sequence

import pytest

from d_back_core.chain.world import Delta, Removal
from d_back_core.models import Message
from d_back_core.state import subscribers as room
from d_back_core.state.subscribers import Batch, Subscribers
from d_back_core.stats import Counters


class Client:
    """A session whose socket can be read."""

    deflates = paused = False

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)  # noqa: FBT003  the library's signature
        self.is_direct = True
        self.waiting: list[bytes] | None = None
        """What was written the plain way, where that only waits."""
        self.first = self.last = 0
        """The places between which it is to hear of everything."""

    @property
    def descriptor(self) -> int | None:
        return self._near.fileno() if self.is_direct else None

    def write(self, frames: bytes, /) -> None:
        if self.waiting is None:
            self._near.sendall(frames)
        else:
            self.waiting.append(frames)

    send = write

    def write_snapshot(self, frames: Sequence[bytes], /) -> None:
        self.write(b"".join(frames))

    def close(self) -> None:
        self._near.close()
        self._far.close()

    def heard(self) -> list[int]:
        """The places of all that it was sent, once that is over."""
        self._near.shutdown(socket.SHUT_WR)
        text = b"".join(iter(lambda: self._far.recv(65536), b""))
        self.close()
        return [int(place) for place in text.split(b";")[:-1]]


def batch(first: int, last: int) -> Batch:
    deltas = [
        Delta(place, place, Message(server_id="1", uid="7", message="", channel="c"))
        for place in range(first, last + 1)
    ]
    return Batch.of(deltas, [b"%d;" % place for place in range(first, last + 1)])


@pytest.fixture(autouse=True)
def small_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SESSIONS_PER_TURN", 3)


class Story:
    """What happens to an audience, by chance."""

    def __init__(self, seed: int) -> None:
        self.counters = Counters()
        self.here: list[Client] = []
        self.gone: list[Client] = []
        self.position = 0
        self._audience = Subscribers(self.counters)
        self._chance = random.Random(seed)  # noqa: S311  no secret

    def happen(self) -> None:
        """A session comes, falls out of step, may get into step again, or goes."""
        match self._chance.randrange(4):
            case 0:
                client = Client()
                client.first = self.position
                self.here.append(client)
                self._audience.join(client, joined_at=self.position, position=self.position)
            case 1 if self.here:
                client = self._chance.choice(self.here)
                client.is_direct = False
                self._audience.stop_direct_writes(client)
            case 2 if self.here:
                self._chance.choice(self.here).is_direct = True
            case 3 if len(self.here) > 5:
                client = self.here.pop(self._chance.randrange(len(self.here)))
                client.last = self.position
                self.gone.append(client)
                self._audience.leave(client)

    def deliver(self) -> None:
        """A batch, between whose turns something may happen."""
        new = batch(self.position + 1, self.position + self._chance.randrange(1, 4))
        self.position = new.last
        if len(self.here) <= room.SESSIONS_PER_TURN:
            self._audience.deliver(new)
            return
        for _ in self._audience.turns(new):
            if self._chance.random() < 0.5:
                self.happen()


@pytest.mark.parametrize("seed", range(30))
def test_whoever_comes_goes_or_falls_out_of_step_misses_nothing(seed: int) -> None:
    """Also between the turns of one batch. Who goes before its turn misses the rest of it."""
    story = Story(seed)
    for _ in range(8):
        story.happen()
    for _ in range(30):
        story.deliver()
        story.happen()
    for client in story.here:
        client.last = story.position
    heard = {client: client.heard() for client in (*story.here, *story.gone)}
    for client, places in heard.items():
        whole = list(range(client.first + 1, client.last + 1))
        assert places == whole[: len(places)]
        assert client in story.gone or places == whole
    assert story.counters.deliveries == sum(map(len, heard.values()))


def test_a_socket_that_is_full_gets_the_rest_by_the_plain_way() -> None:
    """What the kernel did not take is written behind it, and nothing twice."""
    audience = Subscribers(Counters())
    client = Client()
    audience.join(client, joined_at=0, position=0)
    audience.deliver(batch(1, 1))
    client.waiting = []
    frame = b"x" * 10_000_000
    [delta] = batch(2, 2).deltas
    audience.deliver(Batch.of([delta], [frame]))
    [rest] = client.waiting
    assert 0 < len(rest) < len(frame)
    audience.deliver(batch(3, 3))
    assert client.waiting == [rest, b"3;"]
    client.close()


def test_what_only_some_may_hear_goes_to_these_and_leaves_all_direct() -> None:
    """A removal of a user whom only earlier sessions know."""
    audience = Subscribers(Counters())
    early, late = Client(), Client()
    audience.join(early, joined_at=0, position=0)
    audience.deliver(batch(1, 1))
    audience.join(late, joined_at=1, position=1)
    audience.deliver(batch(2, 2))
    audience.deliver(Batch.of([Delta(2, 3, Removal(uid="7", known_before=1))], [b"3;"]))
    assert all(each.descriptor is not None for each in audience.sessions.values())
    audience.deliver(batch(4, 4))
    assert early.heard() == [1, 2, 3, 4]
    assert late.heard() == [2, 4]
