"""Turns what the providers of a resolver said into what each recorder is to store."""

from collections.abc import Callable, Collection, Iterator, Sequence

from msgspec import structs

from d_back_core.chain.server_list import ServerList
from d_back_core.models import (
    Change,
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
from d_back_core.state.resolver import Resolver
from d_back_core.state.server_state import ServerState


class UsersObserver:
    """Observes the resolver of one server's users."""

    def __init__(
        self,
        recorder_queues: Sequence[RecorderQueue],
        live: ServerState,
        resolver: Resolver[User, EffectiveUser],
    ) -> None:
        self._recorder_queues = recorder_queues
        self._live = live
        self._resolver = resolver

    def said(self, name: str, keys: Collection[str]) -> None:
        """Record these users."""
        for queue in self._listening():
            if self._resolver.layers.is_above(name, queue.above):
                queue.put([self._change(queue, uid) for uid in keys])

    def completed(self) -> None:
        """Record that there are no others, where all have spoken."""
        for queue in self._listening():
            if self._resolver.whole(queue.above):
                uids = frozenset(self._resolver.layers.keys(queue.above))
                if queue.public:
                    uids -= self._live.policy.ignore_users
                queue.put([Snapshot(server_id=self._live.server_id, keys=uids)])

    def _listening(self) -> Iterator[RecorderQueue]:
        return (each for each in self._recorder_queues if each.link.admits(self._live.server_id))

    def _change(self, queue: RecorderQueue, uid: str) -> Change:
        server_id = self._live.server_id
        user = self._resolver.layers.merge(uid, queue.above)
        if queue.public:
            user = _public(self._live.policy.user(uid, user))
        if user is None:
            return UserRemoved(server_id=server_id, uid=uid)
        return UserSet(server_id=server_id, uid=uid, user=user)


class ListObserver:
    """Observes the resolver of the list of servers; records it once the server_list is up to date."""

    def __init__(
        self,
        recorder_queues: Sequence[RecorderQueue],
        server_list: ServerList,
        resolver: Resolver[Server, Server],
        changed: Callable[[], None],
    ) -> None:
        self._recorder_queues = recorder_queues
        self._server_list = server_list
        self._resolver = resolver
        self._changed = changed
        self._said: dict[str, dict[str, None]] = {}
        self._completed = False

    def said(self, name: str, keys: Collection[str]) -> None:
        """Remember that something of these servers is to be recorded."""
        self._said.setdefault(name, {}).update(dict.fromkeys(keys))
        self._changed()

    def completed(self) -> None:
        """Remember that these are all."""
        self._completed = True
        self._changed()

    def flush(self) -> None:
        """Record what was said, with the public ids that the server_list has given."""
        said, self._said = self._said, {}
        completed, self._completed = self._completed, False
        layers = self._resolver.layers
        for queue in self._recorder_queues:
            for name, keys in said.items():
                if layers.is_above(name, queue.above):
                    admitted = [key for key in keys if queue.link.admits(key)]
                    queue.put([self._change(queue, key) for key in admitted])
            narrowed = queue.link.servers is not None  # it may remember others, too
            if completed and not narrowed and self._resolver.whole(queue.above):
                listed = frozenset(layers.keys(queue.above))
                queue.put([Snapshot(server_id=None, keys=listed)])

    def _change(self, queue: RecorderQueue, server_id: str) -> Change:
        merged = self._resolver.layers.merge(server_id, queue.above)
        shown = self._server_list.servers.get(server_id)
        if merged is None or (queue.public and shown is None):
            return ServerRemoved(server_id=server_id)
        if queue.public and shown is not None:
            merged = structs.replace(merged, passworded=shown.passworded)
        elif self._server_list.is_protected(server_id):
            merged = structs.replace(merged, passworded=True)
        public_id = self._server_list.public_id(server_id)
        return ServerSet(server_id=server_id, server=structs.replace(merged, id=public_id))


def _public(user: EffectiveUser | None) -> User | None:
    if user is None:
        return None
    return User(username=user.username, status=user.status, role_color=user.role_color)
