"""What a recorder was given: it is stored again when the tables were replaced behind its back."""

from collections.abc import Iterable, Iterator, Mapping

from d_back_core import (
    Change,
    Server,
    ServerRemoved,
    ServerSet,
    Snapshot,
    User,
    UserRemoved,
    UserSet,
)


class Wanted:
    """The state that all changes so far lead to.

    A server's users, or the list of servers, are complete from their first `Snapshot` on; before
    that, only what is to be there at least is known. A `Snapshot` may name keys whose values were
    stored before this began. Of those only the key is known: they are not removed.
    """

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}
        self._users: dict[str, dict[str, User]] = {}
        self._complete: dict[str | None, set[str]] = {}
        """The keys that are to be there in all: of users by server, of servers by None."""

    def __bool__(self) -> bool:
        """Whether anything was stored."""
        return bool(self._servers or self._users or self._complete)

    def has_user(self, server_id: str, uid: str) -> bool:
        """True if that user is to be there."""
        return uid in self._users.get(server_id, ()) or uid in self._keys(server_id)

    def has_server(self, server_id: str) -> bool:
        """True if that server is to be there."""
        return server_id in self._servers or server_id in self._keys(None)

    def apply(self, changes: Iterable[Change]) -> None:
        """Remember what was stored, in order."""
        for change in changes:
            match change:
                case UserSet():
                    self._users.setdefault(change.server_id, {})[change.uid] = change.user
                    self._keys(change.server_id).add(change.uid)
                case UserRemoved():
                    self._users.get(change.server_id, {}).pop(change.uid, None)
                    self._keys(change.server_id).discard(change.uid)
                case ServerSet():
                    self._servers[change.server_id] = change.server
                    self._keys(None).add(change.server_id)
                case ServerRemoved():
                    self._remove_server(change.server_id)
                    self._keys(None).discard(change.server_id)
                case Snapshot():
                    self._keep_only(change.server_id, change.keys)

    def changes(self) -> Iterator[Change]:
        """All of it, as changes that lead to it from whatever is stored."""
        for server_id, server in self._servers.items():
            yield ServerSet(server_id=server_id, server=server)
        for server_id, users in self._users.items():
            for uid, user in users.items():
                yield UserSet(server_id=server_id, uid=uid, user=user)
        # At the end, since they remove what they do not name.
        for of_server, keys in self._complete.items():
            yield Snapshot(server_id=of_server, keys=frozenset(keys))

    def changes_of(
        self, servers: Iterable[str], users: Mapping[str, Iterable[str] | None]
    ) -> Iterator[Change]:
        """The same of these servers and of these users by server (None: all of them) only."""
        for server_id in servers:
            if server_id in self._servers:
                yield ServerSet(server_id=server_id, server=self._servers[server_id])
        for server_id, uids in users.items():
            known = self._users.get(server_id, {})
            for uid in known if uids is None else known.keys() & uids:
                yield UserSet(server_id=server_id, uid=uid, user=known[uid])
            complete = self._complete.get(server_id)
            if complete is not None and (uids is None or not complete.issuperset(uids)):
                yield Snapshot(server_id=server_id, keys=frozenset(complete))

    def _keys(self, server_id: str | None) -> set[str]:
        """The keys to keep up to date; a set of nothing where it is not complete yet."""
        return self._complete.get(server_id, set())

    def _keep_only(self, server_id: str | None, keys: frozenset[str]) -> None:
        if server_id is None:
            for gone in (self._servers.keys() | self._users.keys()) - keys:
                self._remove_server(gone)
        else:
            users = self._users.get(server_id, {})
            for uid in users.keys() - keys:
                del users[uid]
        self._complete[server_id] = set(keys)

    def _remove_server(self, server_id: str) -> None:
        self._servers.pop(server_id, None)
        self._users.pop(server_id, None)
        self._complete.pop(server_id, None)
