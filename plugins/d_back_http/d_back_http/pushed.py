"""What other programs have pushed since the provider was made."""

from msgspec import UNSET, structs

from d_back_core import (
    Event,
    Reload,
    Server,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
)


class Pushed:
    """Servers and users. Each change returns the events that follow; none if nothing changed.

    A server has users from its first whole list on. Before that, `users` is None: the program may
    have pushed more before this process began, and a recorder below still knows it.
    """

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.users: dict[str, dict[str, User]] = {}

    def listed(self) -> dict[str, Server]:
        """All servers, also those of which only the users were pushed."""
        return {**dict.fromkeys(self.users, Server()), **self.servers}

    def put_server(self, server_id: str, server: Server) -> list[Event]:
        """Replace the fields of a server."""
        if self.servers.get(server_id) == server:
            return []
        self.servers[server_id] = server
        return [Reload()]

    def remove_server(self, server_id: str) -> list[Event]:
        """Remove a server and its users."""
        was_listed = server_id in self.listed()
        self.servers.pop(server_id, None)
        self.users.pop(server_id, None)
        return [ServerRemoved(server_id=server_id)] if was_listed else []

    def put_users(self, server_id: str, users: dict[str, User]) -> list[Event]:
        """Replace all users of a server."""
        if self.users.get(server_id) == users:
            return []
        is_new = server_id not in self.listed()
        self.users[server_id] = users
        # A new server: an event cannot add it to a list that the core has not fetched yet.
        return [Reload()] if is_new else [Reload(server_id=server_id)]

    def patch_user(self, server_id: str, uid: str, changes: User) -> list[Event]:
        """Change the fields of a user that are set, or add the user."""
        users = self.users[server_id]
        before = users.get(uid, User())
        given = {
            key: value for key, value in structs.asdict(changes).items() if value is not UNSET
        }
        user = structs.replace(before, **given)
        if uid in users and user == before:
            return []
        users[uid] = user
        # All fields: events that wait are replaced by newer ones.
        fields = {
            key: None if value is UNSET else value for key, value in structs.asdict(user).items()
        }
        return [UserChanged(server_id=server_id, uid=uid, **fields)]

    def remove_user(self, server_id: str, uid: str) -> list[Event]:
        """Remove a user."""
        if self.users[server_id].pop(uid, None) is None:
            return []
        return [UserRemoved(server_id=server_id, uid=uid)]
