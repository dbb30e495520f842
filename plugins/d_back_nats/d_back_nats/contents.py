"""What the bucket holds, what it should hold, and what is being written.

Three values belong to every place (a user, or a server):

    wanted     what the core said last; None: the key must not exist
    stored     what the bucket holds, as far as we know
    in flight  what a write that is under way will leave there, if there is one

A place is *dirty* if the wanted value differs from what the bucket will hold once the write under
way has succeeded: from the value in flight if there is one, else from the stored one. A value that
changes to B and back to A while B is in flight is therefore dirty, and A is written after B.

Transitions, each of which reviews the places that it concerns:

    take         the wanted value changed
    begin_write  dirty places go in flight
    end_write    the write succeeded: what was in flight is stored
    reset        the write failed, or another client wrote: it is unknown what is stored, and
                 nothing is written until `compare`
    compare      what is stored is known: it has been read

Invariant: between `compare` and `reset`, a place that is neither dirty nor in flight is stored as
wanted.
"""

from collections.abc import Callable, Collection, Iterator
from itertools import chain, islice

from d_back_core import (
    Change,
    ServerRemoved,
    ServerSet,
    Snapshot,
    UserRemoved,
    UserSet,
)
from d_back_nats.bucket import BucketState
from d_back_nats.keys import ORIGIN, Place, place_of, users_of
from d_back_nats.records import (
    OriginValue,
    decoded,
    encoded_server,
    encoded_user,
)
from d_back_nats.stepping import stepping
from d_back_nats.watch import Entry

SERVERS = "servers"
EXPIRY_SLACK = 5.0
"""Seconds by which a NATS server may expire a key earlier than computed."""


class Stored:
    """What is in the bucket: the sink of the origin's watch, updated by the origin's own writes
    while it writes. ``outdated`` is called if the content must be read again."""

    def __init__(self, outdated: Callable[[], None]) -> None:
        self.groups: dict[str, dict[str, bytes]] = {}
        self.epoch = ""
        """The epoch whose changes have all been followed; empty if there is none."""
        self._outdated = outdated
        self._reading = False
        self._read_in = ""
        """The epoch in which the snapshot was read."""
        self._messages: dict[str, float] = {}
        """Every key that has a message, deletion markers and keys of others included, and when
        that message expires."""

    def may_replace(self, found: BucketState) -> bool:  # noqa: ARG002
        """Whatever the bucket holds is what is stored."""
        return True

    def begin(self) -> None:
        """Forget all: a snapshot follows."""
        self.groups = {}
        self.epoch = self._read_in = ""
        self._reading = True
        self._messages = {}

    def put(self, entry: Entry) -> None:
        """Note what a key of the bucket holds."""
        self._messages[entry.key] = entry.expires_at
        if entry.key == ORIGIN:
            self._check_epoch(entry.value)
        place = place_of(entry.key)
        if place is None:
            return
        if entry.value is not None:
            self.groups.setdefault(place.group, {})[place.name] = entry.value
        elif (group := self.groups.get(place.group)) is not None:
            group.pop(place.name, None)
            if not group:
                del self.groups[place.group]

    def complete(self) -> None:
        """All is there."""
        self._reading = False

    def join_epoch(self, epoch: str) -> None:
        """Belong to that epoch, which this origin has begun."""
        self.epoch = self._read_in = epoch

    def _check_epoch(self, value: bytes | None) -> None:
        record = None if value is None else decoded(value, OriginValue)
        if record is None or not record.epoch:
            return
        if self._reading:
            # An owner that died in the meantime cannot vouch for what has been read: the bucket
            # may have been purged since. Its next heartbeat does.
            self._read_in = record.epoch
        elif self._read_in in {"", record.epoch}:
            self.epoch = self._read_in = record.epoch
        else:
            self._outdated()

    def get(self, place: Place) -> bytes | None:
        return self.groups.get(place.group, {}).get(place.name)

    def least_messages(self, now: float) -> int:
        """Return how many messages the bucket has at least.

        If it has fewer, messages were removed without a write. Messages that are about to expire
        are not counted, so up to as many removed ones can stay unnoticed for some seconds.
        """
        horizon = now + EXPIRY_SLACK
        return sum(expires_at > horizon for expires_at in self._messages.values())

    def forget_expired(self, now: float) -> None:
        """Drop the deletion markers that have expired: NATS does not report it."""
        horizon = now - EXPIRY_SLACK
        expired = [key for key, at in self._messages.items() if at < horizon]
        for key in expired:
            del self._messages[key]


class Wanted:
    """What the bucket should hold, as far as the core said it: single places, or a whole group."""

    def __init__(self, stored: Stored) -> None:
        self.dirty: dict[Place, None] = {}
        """In the order in which they are to be written."""
        self._stored = stored
        self._in_flight: dict[Place, bytes | None] = {}
        self._compared = False
        """Until then, also what must not exist is remembered."""
        self._groups: dict[str, dict[str, bytes | None]] = {}
        self._whole: set[str] = set()
        """Groups of which all names are known."""

    @property
    def unwritten(self) -> int:
        """How many places are not stored as wanted, as far as is known."""
        return len(self.dirty.keys() | self._in_flight.keys())

    def is_complete(self, *, servers_only: bool = False) -> bool:
        """True if the core has said which servers there are, and all users of each."""
        servers = self._groups.get(SERVERS, {})
        known = [name for name, value in servers.items() if value is not None]
        if SERVERS not in self._whole and not known:
            return False
        return servers_only or all(users_of(name) in self._whole for name in known)

    async def take(self, change: Change) -> None:
        """Want what the change says, in slices; chat is not stored."""
        match change:
            case UserSet():
                place = Place(users_of(change.server_id), change.uid)
                self._want(place, encoded_user(change.user))
            case UserRemoved():
                self._want(Place(users_of(change.server_id), change.uid), None)
            case ServerSet():
                self._want(Place(SERVERS, change.server_id), encoded_server(change.server))
            case ServerRemoved():
                await self._drop_server(change.server_id)
            case Snapshot(server_id=None):
                await self._complete_list(change.keys)
            case Snapshot(server_id=str(server_id)):
                await self._complete(users_of(server_id), change.keys)

    def get(self, place: Place) -> bytes | None:
        """Return what should be there; None: nothing."""
        return self._groups.get(place.group, {}).get(place.name)

    def begin_write(self, limit: int) -> dict[Place, bytes | None]:
        """Return the next places to write, and their values; they are in flight from now on."""
        batch = {place: self.get(place) for place in islice(self.dirty, limit)}
        for place in batch:
            del self.dirty[place]
        self._in_flight = batch
        return batch

    def end_write(self) -> None:
        """What was in flight is stored, and `Stored` knows it."""
        # Nothing becomes dirty here: `_review` has compared each change since with the value in
        # flight. But a key that was deleted, and must not exist, can be forgotten now.
        batch, self._in_flight = self._in_flight, {}
        for place in batch:
            self._review(place)

    def reset(self) -> None:
        """Write nothing until `compare`: it is unknown what the bucket holds."""
        self.dirty = dict.fromkeys([*self._in_flight, *self.dirty])
        self._in_flight = {}
        self._compared = False

    async def compare(self) -> None:
        """Find out what differs from what is stored, in slices. Changes may be taken between
        them: each place is reviewed with the values it has at that moment."""
        self.dirty.clear()
        self._compared = True
        async for place in stepping(self._known()):
            self._review(place)

    def _review(self, place: Place) -> None:
        """Decide if the place is dirty."""
        value = self.get(place)
        in_flight = place in self._in_flight
        if value != (self._in_flight[place] if in_flight else self._stored.get(place)):
            self.dirty.pop(place, None)  # what changed last is written last
            self.dirty[place] = None
            return
        self.dirty.pop(place, None)
        if value is None and self._compared and not in_flight:
            self._forget(place)

    def _forget(self, place: Place) -> None:
        """Drop a key that neither exists nor should, if its absence follows without it: all names
        of the group are known, or the server is gone. Else another client could create it."""
        server_id = place.group.removeprefix("users.")
        is_gone = place.group != SERVERS and self._is_gone(server_id)
        if place.group not in self._whole and not is_gone:
            return
        group = self._groups.get(place.group)
        if group is not None:
            group.pop(place.name, None)
            if not group and place.group not in self._whole:
                del self._groups[place.group]

    def _known(self) -> Iterator[Place]:
        """All places of which the wanted value is known."""
        for group, names in list(self._groups.items()):
            for name in list(names):
                yield Place(group, name)
        stored = self._stored.groups
        for group in list(self._whole):
            wanted = self._groups.get(group, {})
            for name in list(stored.get(group, {})):
                if name not in wanted:
                    yield Place(group, name)
        for group in list(stored):
            server_id = group.removeprefix("users.")
            if group not in {SERVERS, server_id} and self._is_gone(server_id):
                yield from (Place(group, name) for name in list(stored.get(group, {})))

    def _is_gone(self, server_id: str) -> bool:
        """True if the core said that there is no such server."""
        servers = self._groups.get(SERVERS, {})
        if server_id in servers:
            return servers[server_id] is None
        return SERVERS in self._whole

    def _want(self, place: Place, value: bytes | None) -> None:
        self._groups.setdefault(place.group, {})[place.name] = value
        self._review(place)

    async def _complete(self, group: str, names: Collection[str]) -> None:
        self._whole.add(group)
        known = (list(self._groups.get(group, ())), list(self._stored.groups.get(group, ())))
        async for name in stepping(chain.from_iterable(known)):
            if name not in names:
                self._want(Place(group, name), None)

    async def _complete_list(self, server_ids: Collection[str]) -> None:
        self._whole.add(SERVERS)
        groups = {*self._groups, *self._stored.groups}
        named = {group.removeprefix("users.") for group in groups if group.startswith("users.")}
        for contents in (self._groups, self._stored.groups):
            named.update(contents.get(SERVERS, ()))
        for server_id in named - set(server_ids):
            await self._drop_server(server_id)

    async def _drop_server(self, server_id: str) -> None:
        self._want(Place(SERVERS, server_id), None)
        group = users_of(server_id)
        await self._complete(group, ())
        self._whole.discard(group)
