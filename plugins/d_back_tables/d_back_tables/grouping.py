"""The changes of a batch, in groups that one statement per table may store."""

from collections.abc import Iterable, Iterator

from msgspec import Struct, field

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
from d_back_tables.columns import Key

MAX_GROUP = 1000
"""Records of one group."""


class Group(Struct):
    """The newest state of each server and user; None: it is gone. The servers come first: with
    one that is gone go all of its users."""

    servers: dict[str, Server | None] = field(default_factory=dict)
    users: dict[Key, User | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """True if there is anything to store."""
        return bool(self.servers or self.users)


def grouped(changes: Iterable[Change], limit: int = MAX_GROUP) -> Iterator[Group | Snapshot]:
    """Yield groups and snapshots, to be stored one after the other."""
    group = Group()
    for change in changes:
        if isinstance(change, ServerRemoved | Snapshot) and group:
            yield group  # both remove users: those who came before
            group = Group()
        match change:
            case UserSet():
                group.users[change.server_id, change.uid] = change.user
            case UserRemoved():
                group.users[change.server_id, change.uid] = None
            case ServerSet():
                group.servers[change.server_id] = change.server
            case ServerRemoved():
                group.servers[change.server_id] = None
            case Snapshot():
                yield change
        if len(group.servers) + len(group.users) >= limit:
            yield group
            group = Group()
    if group:
        yield group
