"""The wire's shapes as plain dictionaries, as an embedding program writes them → models.

Only shapes are translated here. Whether a value is valid is decided where the values of every
provider are checked: at the border.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import UNSET

from d_back_core.chain.layers import R
from d_back_core.models import (
    ClientIdChanged,
    Event,
    Message,
    Server,
    ServerChanged,
    User,
    UserChanged,
    UserRemoved,
    is_text,
)


def users(answer: object) -> dict[str, User] | None:
    """``{uid: {"username", "status", "roleColor"}}``; None where it is empty.

    Raises ``TypeError`` where it is no mapping, or where nothing in it could be a user.
    """
    return _records(answer, "users", user) or None


def servers(answer: object) -> dict[str, Server] | None:
    """``{server_id: {"id", "name", "default" or "is_default", "passworded", "enabled"}}``; None
    where it is empty. An empty server is left out.

    Raises ``TypeError`` where it is no mapping, or where nothing in it could be a server.
    """
    if isinstance(answer, Mapping):
        answer = {key: entry for key, entry in answer.items() if entry not in ({}, None)}
    return _records(answer, "servers", server) or None


def user(entry: Mapping[Any, Any]) -> User:
    """One user."""
    return User(
        username=entry.get("username", UNSET),
        status=entry.get("status", UNSET),
        role_color=entry.get("roleColor", UNSET),
    )


def server(entry: Mapping[Any, Any]) -> Server:
    """One server. One that has a password is protected, whatever else it says."""
    passworded = entry.get("passworded", UNSET)
    return Server(
        name=entry.get("name", UNSET),
        id=text_id(entry.get("id", UNSET)),
        default=entry.get("is_default", entry.get("default", UNSET)),
        passworded=True if password(entry) else passworded,
        enabled=entry.get("enabled", UNSET),
    )


def password(entry: Mapping[Any, Any]) -> str | None:
    """The password that opens the server."""
    given = entry.get("password")
    return str(given) if given else None


def text_id(value: Any) -> Any:  # noqa: ANN401  anything else is left to the border
    """A whole number as the text that the wire wants; programs keep Discord's ids as both."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


def server_of(frame: Mapping[str, Any]) -> str | None:
    """The server that a frame is for; None: all."""
    server_id: str | None = text_id(frame.get("server", frame.get("serverId")))
    return server_id


def sentence(frame: Mapping[str, Any]) -> str:
    """What an ``error`` says; raises ``ValueError`` where it says nothing."""
    entry = frame.get("data")
    message = entry.get("message") if isinstance(entry, Mapping) else None
    if not is_text(message):
        raise ValueError("a frame of type 'error' needs a message in its data")
    return str(message)


def events(frame: Mapping[str, Any], everywhere: Iterable[str] = ()) -> list[Event]:
    """The changes that a frame of the protocol tells of; ``everywhere`` are the servers that one
    is for which names none.

    Raises ``ValueError`` where a frame of that type tells of none, or lacks what it needs.
    """
    server_id, entry = server_of(frame), frame.get("data")
    servers = everywhere if server_id is None else (server_id,)
    try:
        match frame.get("type"):
            case "presence":
                return [presence(each, entry) for each in servers]  # type: ignore[arg-type]
            case "message":
                return [_message(each, entry) for each in servers]
            case "update-clientid":
                return [_client_id_changed(each, entry) for each in servers]
            case "server-list" | "server-list-update":
                return [_server_changed(key, server(each)) for key, each in entry.items()]  # type: ignore[union-attr]
    except (KeyError, TypeError, AttributeError) as error:
        kind = frame.get("type")
        raise ValueError(f"a frame of type {kind!r} is incomplete: {error!r}") from error
    raise ValueError(f"a frame of type {frame.get('type')!r} is no news that could be broadcast")


def presence(server_id: object, entry: Mapping[str, Any]) -> UserChanged | UserRemoved:
    """The ``data`` of a ``presence``."""
    where = {"server_id": text_id(server_id), "uid": text_id(entry["uid"])}
    if entry.get("delete"):
        return UserRemoved(**where)
    told = user(entry)
    return UserChanged(
        **where, username=told.username, status=told.status, role_color=told.role_color
    )


def _message(server_id: str, entry: Any) -> Message:  # noqa: ANN401  a program's
    return Message(
        server_id=server_id,
        uid=text_id(entry["uid"]),
        message=entry["message"],
        channel=entry["channel"],
    )


def _client_id_changed(server_id: str, entry: Any) -> ClientIdChanged:  # noqa: ANN401
    return ClientIdChanged(server_id=server_id, client_id=text_id(entry["clientId"]))


def _server_changed(server_id: object, told: Server) -> ServerChanged:
    return ServerChanged(
        server_id=text_id(server_id),
        name=told.name,
        id=told.id,
        default=told.default,
        passworded=told.passworded,
        enabled=told.enabled,
    )


def _records(answer: object, what: str, convert: Callable[[Mapping[Any, Any]], R]) -> dict[str, R]:
    """The entries that are dictionaries as records; what is none, the border refuses."""
    if answer is None:
        return {}
    if not isinstance(answer, Mapping):
        raise TypeError(f"returned {type(answer).__name__}, expected {what} as a dictionary")
    if answer and not any(isinstance(entry, Mapping) for entry in answer.values()):
        raise TypeError(f"returned a dictionary in which no entry is one of {what}")
    return {
        text_id(key): convert(entry) if isinstance(entry, Mapping) else entry
        for key, entry in answer.items()
    }
