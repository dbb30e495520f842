"""Turns what the providers of a feed said into what each recorder is to store."""

from collections.abc import Callable, Collection, Iterator, Sequence

from msgspec import structs

from d_back_core.feed import Feed
from d_back_core.listing import Listing
from d_back_core.live_server import LiveServer
from d_back_core.models import (
    Complete,
    EffectiveUser,
    Recorded,
    Server,
    ServerRemoved,
    ServerSet,
    User,
    UserRemoved,
    UserSet,
)
from d_back_core.recording import Recording


class UsersObserver:
    """Observes the feed of one server's users."""

    def __init__(
        self,
        recordings: Sequence[Recording],
        live: LiveServer,
        feed: Feed[User, EffectiveUser],
    ) -> None:
        self._recordings = recordings
        self._live = live
        self._feed = feed

    def said(self, name: str, keys: Collection[str]) -> None:
        """Record these users."""
        for recording in self._listening():
            if self._feed.layers.is_above(name, recording.above):
                recording.put([self._change(recording, uid) for uid in keys])

    def completed(self) -> None:
        """Record that there are no others, where all have spoken."""
        for recording in self._listening():
            if self._feed.whole(recording.above):
                uids = frozenset(self._feed.layers.keys(recording.above))
                if recording.public:
                    uids -= self._live.policy.ignore_users
                recording.put([Complete(server_id=self._live.server_id, keys=uids)])

    def _listening(self) -> Iterator[Recording]:
        return (each for each in self._recordings if each.link.admits(self._live.server_id))

    def _change(self, recording: Recording, uid: str) -> Recorded:
        server_id = self._live.server_id
        user = self._feed.layers.merge(uid, recording.above)
        if recording.public:
            user = _public(self._live.policy.user(uid, user))
        if user is None:
            return UserRemoved(server_id=server_id, uid=uid)
        return UserSet(server_id=server_id, uid=uid, user=user)


class ListObserver:
    """Observes the feed of the list of servers; records it once the listing is up to date."""

    def __init__(
        self,
        recordings: Sequence[Recording],
        listing: Listing,
        feed: Feed[Server, Server],
        changed: Callable[[], None],
    ) -> None:
        self._recordings = recordings
        self._listing = listing
        self._feed = feed
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
        """Record what was said, with the public ids that the listing has given."""
        said, self._said = self._said, {}
        completed, self._completed = self._completed, False
        layers = self._feed.layers
        for recording in self._recordings:
            for name, keys in said.items():
                if layers.is_above(name, recording.above):
                    admitted = [key for key in keys if recording.link.admits(key)]
                    recording.put([self._change(recording, key) for key in admitted])
            narrowed = recording.link.servers is not None  # it may remember others, too
            if completed and not narrowed and self._feed.whole(recording.above):
                listed = frozenset(layers.keys(recording.above))
                recording.put([Complete(server_id=None, keys=listed)])

    def _change(self, recording: Recording, server_id: str) -> Recorded:
        merged = self._feed.layers.merge(server_id, recording.above)
        shown = self._listing.servers.get(server_id)
        if merged is None or (recording.public and shown is None):
            return ServerRemoved(server_id=server_id)
        if recording.public and shown is not None:
            merged = structs.replace(merged, passworded=shown.passworded)
        elif self._listing.is_protected(server_id):
            merged = structs.replace(merged, passworded=True)
        public_id = self._listing.public_id(server_id)
        return ServerSet(server_id=server_id, server=structs.replace(merged, id=public_id))


def _public(user: EffectiveUser | None) -> User | None:
    if user is None:
        return None
    return User(username=user.username, status=user.status, role_color=user.role_color)
