"""Turns what providers return and yield into what each recorder stores."""

from collections.abc import Callable, Collection, Iterator, Sequence

from msgspec import UNSET, structs

from d_back_core.chain.layers import Layers
from d_back_core.chain.policy import Policy
from d_back_core.chain.server_list import ServerList
from d_back_core.models import (
    AccessChanged,
    Change,
    Chat,
    EffectiveUser,
    Server,
    ServerRemoved,
    ServerSet,
    Snapshot,
    User,
    UserRemoved,
    UserSet,
)
from d_back_core.providers.recorder_queue import RecorderQueue
from d_back_core.state.resolver import IsComplete


class UserRecorder:
    """Observes the resolver of one server's users."""

    def __init__(
        self, server_id: str, queues: Sequence[RecorderQueue], policy: Callable[[], Policy]
    ) -> None:
        self._server_id = server_id
        self._queues = queues
        self._policy = policy

    def on_records(self, layers: Layers[User], name: str, keys: Collection[str]) -> None:
        """Record these users."""
        for queue in self._interested():
            if layers.is_above(name, queue.above):
                queue.put([self._change(layers, queue, uid) for uid in keys])

    def on_snapshot(self, layers: Layers[User], is_complete: IsComplete) -> None:
        """Record that there are no other users, if all providers have answered."""
        for queue in self._interested():
            if is_complete(queue.above):
                uids = frozenset(layers.keys(queue.above))
                if queue.public:
                    uids -= self._policy().ignore_users
                queue.put([Snapshot(server_id=self._server_id, keys=uids)])

    def on_chat(self, layers: Layers[User], name: str, chat: Chat) -> None:
        """Record chat that was passed on."""
        for queue in self._interested():
            if queue.public and layers.is_above(name, queue.above):
                queue.put([chat])

    def on_access(self, person: str | None) -> None:
        """Record that this access has ended; None: that any may have."""
        for queue in self._interested():
            if queue.public:
                queue.put([AccessChanged(server_id=self._server_id, person=person)])

    def _interested(self) -> Iterator[RecorderQueue]:
        return (each for each in self._queues if each.link.admits(self._server_id))

    def _change(self, layers: Layers[User], queue: RecorderQueue, uid: str) -> Change:
        user = layers.merge(uid, queue.above)
        if queue.public:
            user = _public(self._policy().user(uid, user))
        if user is None:
            return UserRemoved(server_id=self._server_id, uid=uid)
        return UserSet(server_id=self._server_id, uid=uid, user=user)


class ListRecorder:
    """Observes the resolver of the list of servers. Records at `flush`, once the list has given
    the new servers their public ids."""

    def __init__(
        self,
        queues: Sequence[RecorderQueue],
        server_list: ServerList,
        changed: Callable[[], None],
    ) -> None:
        self._queues = queues
        self._server_list = server_list
        self._changed = changed
        self._waiting: dict[str, dict[str, None]] = {}
        """The server_ids to record, by the provider that brought them."""
        self._is_complete: IsComplete | None = None

    def on_records(
        self,
        layers: Layers[Server],  # noqa: ARG002  those of `flush` are newer
        name: str,
        keys: Collection[str],
    ) -> None:
        """Record these servers at the next flush."""
        self._waiting.setdefault(name, {}).update(dict.fromkeys(keys))
        self._changed()

    def on_snapshot(
        self,
        layers: Layers[Server],  # noqa: ARG002  those of `flush` are newer
        is_complete: IsComplete,
    ) -> None:
        """Record at the next flush that there are no other servers."""
        self._is_complete = is_complete
        self._changed()

    def flush(self, layers: Layers[Server]) -> None:
        """Record what has been observed. Servers that are still held back wait for the next."""
        # A server that is held back has no public id yet, and a list without it is not complete.
        if self._server_list.deferred:
            return
        waiting, self._waiting = self._waiting, {}
        is_complete, self._is_complete = self._is_complete, None
        for queue in self._queues:
            for name, keys in waiting.items():
                if layers.is_above(name, queue.above):
                    admitted = [key for key in keys if queue.link.admits(key)]
                    queue.put([self._change(layers, queue, key) for key in admitted])
            narrowed = queue.link.servers is not None  # the recorder may store other servers, too
            if is_complete is not None and not narrowed and is_complete(queue.above):
                listed = frozenset(layers.keys(queue.above))
                queue.put([Snapshot(server_id=None, keys=listed)])

    def _change(self, layers: Layers[Server], queue: RecorderQueue, server_id: str) -> Change:
        merged = layers.merge(server_id, queue.above)
        shown = self._server_list.servers.get(server_id)
        if merged is None or (queue.public and shown is None):
            return ServerRemoved(server_id=server_id)
        if queue.public and shown is not None:
            merged = structs.replace(merged, passworded=shown.passworded)
        # A memory that forgets the protection would open the server during an outage (R6).
        elif self._server_list.is_protected(server_id):
            merged = structs.replace(merged, passworded=True)
        public_id = self._server_list.public_id(server_id)
        return ServerSet(server_id=server_id, server=structs.replace(merged, id=public_id))


def _public(user: EffectiveUser | None) -> User | None:
    if user is None:
        return None
    return User(
        username=user.username,
        status=user.status,
        role_color=user.role_color,
        extra=user.extra or UNSET,
    )
