"""What an edge has read of the bucket: the sinks of its watches."""

from collections.abc import Callable

from d_back_core import Server, User
from d_back_nats.keys import ORIGIN, place_of
from d_back_nats.records import (
    ClientIdValue,
    OriginValue,
    decoded,
    decoded_server,
    decoded_user,
)


class UsersMirror:
    """The users of one server. ``changed`` hears the uid of each that differs from before."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self.users: dict[str, User] = {}
        self._changed = changed
        self._fresh: dict[str, User] | None = None
        self._filled = False

    def begin(self) -> None:
        self._fresh = {}

    def put(self, key: str, value: bytes | None, revision: int) -> None:  # noqa: ARG002
        place = place_of(key)
        if place is None:
            return
        users = self.users if self._fresh is None else self._fresh
        user = None if value is None else decoded_user(value)
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
        self.client_ids: dict[str, str] = {}
        self.origin: OriginValue | None = None


class ListMirror:
    """The servers, their client ids, and who the origin is. ``changed`` hears the server_id of
    each that differs from before."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self.listed = Listed()
        self._changed = changed
        self._fresh: Listed | None = None

    def begin(self) -> None:
        self._fresh = Listed()

    def put(self, key: str, value: bytes | None, revision: int) -> None:  # noqa: ARG002
        listed = self.listed if self._fresh is None else self._fresh
        if key == ORIGIN:
            listed.origin = None if value is None else decoded(value, OriginValue)
            return
        place = place_of(key)
        if place is None:
            return
        if place.group == "client_ids":
            client = None if value is None else decoded(value, ClientIdValue)
            if client is None:
                listed.client_ids.pop(place.name, None)
            else:
                listed.client_ids[place.name] = client.client_id
        else:
            server = None if value is None else decoded_server(value)
            if server is None:
                listed.servers.pop(place.name, None)
            else:
                listed.servers[place.name] = server
        if self._fresh is None:
            self._changed(place.name)

    def complete(self) -> None:
        if self._fresh is None:
            return
        before, self.listed, self._fresh = self.listed, self._fresh, None
        now = self.listed
        for server_id in {*before.servers, *now.servers, *before.client_ids, *now.client_ids}:
            known = before.servers.get(server_id), before.client_ids.get(server_id)
            if known != (now.servers.get(server_id), now.client_ids.get(server_id)):
                self._changed(server_id)
