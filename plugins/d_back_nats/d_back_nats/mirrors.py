"""What an edge has read of the bucket: the sinks of its watches."""

import math
from collections.abc import Callable

from d_back_core import Server, User
from d_back_nats.bucket import BucketState
from d_back_nats.keys import ORIGIN, place_of
from d_back_nats.records import (
    OriginValue,
    decoded,
    decoded_server,
    decoded_user,
)
from d_back_nats.watch import Entry


class UsersMirror:
    """The users of one server. ``changed`` gets the uid of each that differs from before."""

    def __init__(
        self, changed: Callable[[str], None], may_replace: Callable[[BucketState], bool]
    ) -> None:
        self.users: dict[str, User] = {}
        self.may_replace = may_replace
        self._changed = changed
        self._fresh: dict[str, User] | None = None
        self._filled = False

    def begin(self) -> None:
        self._fresh = {}

    def put(self, entry: Entry) -> None:
        place = place_of(entry.key)
        if place is None:
            return
        users = self.users if self._fresh is None else self._fresh
        user = None if entry.value is None else decoded_user(entry.value)
        if user is None:
            users.pop(place.name, None)
        else:
            users[place.name] = user
        if self._fresh is None:
            self._changed(place.name)

    def complete(self) -> None:
        if self._fresh is None:
            return
        before, self.users, self._fresh = self.users, self._fresh, None
        if self._filled:
            for uid in {*before, *self.users}:
                if before.get(uid) != self.users.get(uid):
                    self._changed(uid)
        self._filled = True


class Listed:
    """One reading of the list."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}


class ListMirror:
    """The servers, and the origin's record.

    ``changed`` gets the server_id of each server that differs from before, ``epoch_changed`` is
    called when the origin begins another epoch: everything that was read must be read again.

    A list that is read again replaces the former one only when the origin's record names an epoch,
    which it does once the bucket is whole. So the clients of an edge do not lose their servers
    while an origin fills a new bucket. The first list is taken as it is.
    """

    def __init__(
        self,
        changed: Callable[[str], None],
        epoch_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.listed = Listed()
        self.origin: OriginValue | None = None
        self.heartbeat_at = -math.inf
        """The time of the newest record, by our clock."""
        self._changed = changed
        self._epoch_changed = epoch_changed
        self._epoch = ""
        self._fresh: Listed | None = None
        self._fresh_origin = False
        self._is_read = False
        self._filled = False

    @property
    def is_waiting(self) -> bool:
        """True if a list was read that the origin has not completed."""
        return self._fresh is not None and self._is_read

    def may_replace(self, found: BucketState) -> bool:  # noqa: ARG002  `_replace` decides
        return True

    def begin(self) -> None:
        self._fresh = Listed()
        self._fresh_origin = self._is_read = False

    def put(self, entry: Entry) -> None:
        if entry.key == ORIGIN:
            self._put_origin(entry)
            return
        place = place_of(entry.key)
        if place is None:
            return
        listed = self.listed if self._fresh is None else self._fresh
        server = None if entry.value is None else decoded_server(entry.value)
        if server is None:
            listed.servers.pop(place.name, None)
        else:
            listed.servers[place.name] = server
        if self._fresh is None:
            self._changed(place.name)

    def complete(self) -> None:
        self._is_read = True
        if not self._fresh_origin:
            self.origin = None
        self._replace()
        self._filled = True

    def _put_origin(self, entry: Entry) -> None:
        self.origin = None if entry.value is None else decoded(entry.value, OriginValue)
        self.heartbeat_at = entry.written_at
        self._fresh_origin = True
        if self._fresh is None:
            self._check_epoch()
        elif self._is_read:
            self._replace()

    def _replace(self) -> None:
        """Put the list that was read in the place of the former one, if it is whole."""
        if self._fresh is None or (self._filled and not self._is_whole()):
            return
        before, self.listed, self._fresh = self.listed, self._fresh, None
        now = self.listed
        for server_id in {*before.servers, *now.servers}:
            if before.servers.get(server_id) != now.servers.get(server_id):
                self._changed(server_id)
        self._check_epoch()

    def _is_whole(self) -> bool:
        return self.origin is not None and bool(self.origin.epoch)

    def _check_epoch(self) -> None:
        if self.origin is None or not self.origin.epoch or self.origin.epoch == self._epoch:
            return
        before, self._epoch = self._epoch, self.origin.epoch
        if before:
            self._epoch_changed()
