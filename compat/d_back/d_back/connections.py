"""Connections with the attributes that 0.0.x gave them."""

from typing import Any


class Connection:
    """A connection of the library ``websockets``, and the server that the client has joined.

    ``discordServer`` is the server_id and ``server_id`` the public id, as in 0.0.x. Before the
    client has joined a server, there are no such attributes. Two objects of the same connection
    are equal.
    """

    def __init__(self, connection: Any, server_id: str | None, public_id: str | None) -> None:  # noqa: ANN401
        self._connection = connection
        if server_id is not None:
            self.discordServer = server_id
            self.server_id = public_id

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._connection, name)

    def __aiter__(self) -> Any:  # noqa: ANN401
        return aiter(self._connection)

    def __eq__(self, other: object) -> bool:
        return bool(self._connection == getattr(other, "_connection", other))

    def __hash__(self) -> int:
        return hash(self._connection)

    def __repr__(self) -> str:
        return repr(self._connection)
