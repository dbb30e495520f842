"""What a bucket holds, and what it is to hold."""

from collections.abc import Collection, Iterator
from itertools import chain

from d_back_core import (
    Change,
    ClientIdChanged,
    ServerRemoved,
    ServerSet,
    Snapshot,
    UserRemoved,
    UserSet,
)
from d_back_nats.keys import Place, place_of, users_of
from d_back_nats.records import ClientIdValue, encoded, encoded_server, encoded_user
from d_back_nats.stepping import stepping

SERVERS, CLIENT_IDS = "servers", "client_ids"


class Held:
    """What is in the bucket; the sink of the watch that reads it, and kept up by who writes."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, bytes]] = {}

    def begin(self) -> None:
        """Forget all: a snapshot follows."""
        self.groups = {}

    def put(self, key: str, value: bytes | None, revision: int = 0) -> None:  # noqa: ARG002
        """A key of the bucket changed."""
        place = place_of(key)
        if place is not None:
            self.set(place, value)

    def complete(self) -> None:
        """All is there."""

    def set(self, place: Place, value: bytes | None) -> None:
        """That is what it holds there; None: nothing."""
        if value is not None:
            self.groups.setdefault(place.group, {})[place.name] = value
        elif (group := self.groups.get(place.group)) is not None:
            group.pop(place.name, None)
            if not group:
                del self.groups[place.group]

    def get(self, place: Place) -> bytes | None:
        return self.groups.get(place.group, {}).get(place.name)


class Wanted:
    """What the bucket is to hold, as far as it was said: some of it, or of a group all.

    ``dirty`` are the places where the bucket differs, or may differ, in the order in which they
    are to be written.
    """

    def __init__(self) -> None:
        self.dirty: dict[Place, None] = {}
        self.compared = False
        """Whether what is held is known; until then also what is not to be there is remembered."""
        self._groups: dict[str, dict[str, bytes | None]] = {}
        self._whole: set[str] = set()

    async def take(self, change: Change, held: Held) -> None:
        """Want what the change says, in slices; chat is none of it."""
        match change:
            case UserSet():
                place = Place(users_of(change.server_id), change.uid)
                self._want(place, encoded_user(change.user), held)
            case UserRemoved():
                self._want(Place(users_of(change.server_id), change.uid), None, held)
            case ServerSet():
                place = Place(SERVERS, change.server_id)
                self._want(place, encoded_server(change.server), held)
            case ServerRemoved():
                await self._drop_server(change.server_id, held)
            case ClientIdChanged(client_id=client_id):
                value = None if client_id is None else encoded(ClientIdValue(client_id))
                self._want(Place(CLIENT_IDS, change.server_id), value, held)
            case Snapshot(server_id=None):
                await self._complete_list(change.keys, held)
            case Snapshot(server_id=str(server_id)):
                await self._complete(users_of(server_id), change.keys, held)

    def get(self, place: Place) -> bytes | None:
        """What is to be there; None: nothing."""
        return self._groups.get(place.group, {}).get(place.name)

    def written(self, place: Place, value: bytes | None) -> None:
        """That is in the bucket now."""
        if self.get(place) != value:
            return  # it has changed meanwhile
        self.dirty.pop(place, None)
        group = self._groups.get(place.group)
        if value is None and group is not None:
            group.pop(place.name, None)
            if not group and place.group not in self._whole:
                del self._groups[place.group]

    async def compare(self, held: Held) -> None:
        """Find out what differs, in slices."""
        self.dirty.clear()
        self.compared = True
        async for place in stepping(self._said(held)):
            if self.get(place) != held.get(place):
                self.dirty[place] = None
            else:
                self.written(place, self.get(place))

    def _said(self, held: Held) -> Iterator[Place]:
        """All places of which it is known what they are to hold."""
        for group, names in list(self._groups.items()):
            for name in list(names):
                yield Place(group, name)
        for group in list(self._whole):
            wanted = self._groups.get(group, {})
            for name in list(held.groups.get(group, {})):
                if name not in wanted:
                    yield Place(group, name)
        for group in list(held.groups):
            server_id = group.removeprefix("users.")
            if group not in {SERVERS, server_id} and self._is_gone(server_id):
                yield from (Place(group, name) for name in list(held.groups.get(group, {})))
        for name in list(held.groups.get(CLIENT_IDS, {})):
            if self._is_gone(name):
                yield Place(CLIENT_IDS, name)

    def _is_gone(self, server_id: str) -> bool:
        """Whether it was said that there is no such server."""
        servers = self._groups.get(SERVERS, {})
        if server_id in servers:
            return servers[server_id] is None
        return SERVERS in self._whole

    def _want(self, place: Place, value: bytes | None, held: Held) -> None:
        self._groups.setdefault(place.group, {})[place.name] = value
        if held.get(place) != value:
            self.dirty.pop(place, None)  # what changed last is written last
            self.dirty[place] = None
        elif value is None and self.compared:
            self.written(place, None)
        else:
            self.dirty.pop(place, None)

    async def _complete(self, group: str, names: Collection[str], held: Held) -> None:
        self._whole.add(group)
        known = (list(self._groups.get(group, ())), list(held.groups.get(group, ())))
        async for name in stepping(chain.from_iterable(known)):
            if name not in names:
                self._want(Place(group, name), None, held)

    async def _complete_list(self, server_ids: Collection[str], held: Held) -> None:
        self._whole.add(SERVERS)
        groups = {*self._groups, *held.groups}
        named = {group.removeprefix("users.") for group in groups if group.startswith("users.")}
        for contents in (self._groups, held.groups):
            for group in (SERVERS, CLIENT_IDS):
                named.update(contents.get(group, ()))
        for server_id in named - set(server_ids):
            await self._drop_server(server_id, held)

    async def _drop_server(self, server_id: str, held: Held) -> None:
        self._want(Place(SERVERS, server_id), None, held)
        self._want(Place(CLIENT_IDS, server_id), None, held)
        group = users_of(server_id)
        await self._complete(group, (), held)
        self._whole.discard(group)
