"""Plain dictionaries in the shapes of the protocol, as embedding programs write them → models.

Only shapes are converted here. The values are validated like those of every other provider.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from msgspec import UNSET, structs

from d_back_core.chain.layers import R
from d_back_core.embedding.colours import colour
from d_back_core.models import (
    Event,
    Message,
    MessageDeleted,
    MessageEdited,
    Server,
    ServerChanged,
    ServerRemoved,
    User,
    UserChanged,
    UserRemoved,
    is_text,
)

M = TypeVar("M", Message, MessageEdited)


def users(answer: object) -> dict[str, User] | None:
    """Convert ``{uid: {"username", "status", "roleColor", "extra"}}``; None stays None.

    Raises ``TypeError`` if it is not a mapping, or if no entry could be a user.
    """
    return None if answer is None else _records(answer, "users", _keyed_user)


def servers(answer: object) -> dict[str, Server] | None:
    """Convert ``{server_id: {"id", "name", "default" or "is_default", "passworded",
    "enabled"}}``; None stays None. An empty server is left out.

    Raises ``TypeError`` if it is not a mapping, or if no entry could be a server.
    """
    if answer is None:
        return None
    if isinstance(answer, Mapping):
        answer = {key: entry for key, entry in answer.items() if entry not in ({}, None)}
    return _records(answer, "servers", lambda _, entry: server(entry))


class MisplacedUser(User, frozen=True, kw_only=True, gc=False):
    """A user whose entry has another uid than its key; validation reports it (R4)."""

    uid: Any


def user(entry: Mapping[Any, Any]) -> User:
    """Convert one user."""
    status = entry.get("status", UNSET)
    return User(
        username=entry.get("username", UNSET),
        status="offline" if status == "invisible" else status,
        role_color=colour(entry.get("roleColor", UNSET)),
        extra=entry.get("extra", UNSET),
    )


def _keyed_user(uid: object, entry: Mapping[Any, Any]) -> User:
    record, own = user(entry), text_id(entry.get("uid", uid))
    return record if own == uid else MisplacedUser(**structs.asdict(record), uid=own)


def server(entry: Mapping[Any, Any]) -> Server:
    """Convert one server. One with a password is protected, whatever else its entry has."""
    passworded = entry.get("passworded", UNSET)
    return Server(
        name=entry.get("name", UNSET),
        id=text_id(entry.get("id", UNSET)),
        default=entry.get("is_default", entry.get("default", UNSET)),
        passworded=True if password(entry) else passworded,
        enabled=entry.get("enabled", UNSET),
    )


def password(entry: Mapping[Any, Any]) -> str | None:
    """Return the password that opens the server, if the entry has one."""
    given = entry.get("password")
    return str(given) if given else None


def text_id(value: Any) -> Any:  # noqa: ANN401  anything else is validated later
    """Return a whole number as text: programs keep Discord's ids as either."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


def server_of(frame: Mapping[str, Any]) -> str | None:
    """Return the server that a frame is for; None: all."""
    server_id: str | None = text_id(frame.get("server", frame.get("serverId")))
    return server_id


def sentence(frame: Mapping[str, Any]) -> str:
    """Return the sentence of an ``error``. Raises ``ValueError`` if it has none."""
    entry = frame.get("data")
    message = entry.get("message") if isinstance(entry, Mapping) else None
    if not is_text(message):
        raise ValueError("a frame of type 'error' needs a message in its data")
    return str(message)


def client_id(frame: Mapping[str, Any]) -> str | None:
    """Return the client id of an ``update-clientid``. Raises ``ValueError`` if it has none."""
    entry = frame.get("data")
    if not isinstance(entry, Mapping) or "clientId" not in entry:
        raise ValueError("a frame of type 'update-clientid' needs a clientId in its data")
    found: str | None = text_id(entry["clientId"])
    return found


def events(frame: Mapping[str, Any], everywhere: Iterable[str] = ()) -> list[Event]:
    """Convert a frame of the protocol to events; ``everywhere`` are the servers that a frame is
    for that names none.

    Raises ``ValueError`` for a type that has no events, and for a frame that is incomplete.
    """
    server_id, entry = server_of(frame), frame.get("data")
    servers = everywhere if server_id is None else (server_id,)
    try:
        match frame.get("type"):
            case "presence":
                return [presence(each, entry) for each in servers]  # type: ignore[arg-type]
            case "message":
                return [_message(Message, each, entry) for each in servers]
            case "message-edit":
                return [_message(MessageEdited, each, entry) for each in servers]
            case "message-delete":
                return [_deletion(each, entry) for each in servers]
            case "server-list" | "server-list-update":
                changed = [_server_changed(key, server(each)) for key, each in entry.items()]  # type: ignore[union-attr]
                removed = [text_id(key) for key in frame.get("removed", ())]
                return [*changed, *(ServerRemoved(server_id=key) for key in removed)]
    except (KeyError, TypeError, AttributeError) as error:
        kind = frame.get("type")
        raise ValueError(f"a frame of type {kind!r} is incomplete: {error!r}") from error
    raise ValueError(f"a frame of type {frame.get('type')!r} cannot be broadcast")


def presence(server_id: object, entry: Mapping[str, Any]) -> UserChanged | UserRemoved:
    """Convert the ``data`` of a ``presence``."""
    where = {"server_id": text_id(server_id), "uid": text_id(entry["uid"])}
    if entry.get("delete"):
        return UserRemoved(**where)
    record = user(entry)
    return UserChanged(**where, **structs.asdict(record))


def _message(kind: type[M], server_id: str, entry: Any) -> M:  # noqa: ANN401  a program's
    return kind(
        server_id=server_id,
        uid=text_id(entry["uid"]),
        message=entry["message"],
        channel=entry["channel"],
        id=entry["id"] if kind is MessageEdited else entry.get("id"),
        at=_time(entry.get("at")),
    )


def _deletion(server_id: str, entry: Any) -> MessageDeleted:  # noqa: ANN401  a program's
    return MessageDeleted(server_id=server_id, channel=entry["channel"], id=entry["id"])


def _time(value: Any) -> Any:  # noqa: ANN401  anything else is validated later
    """Return a time that is written as in the protocol."""
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _server_changed(server_id: object, record: Server) -> ServerChanged:
    return ServerChanged(
        server_id=text_id(server_id),
        name=record.name,
        id=record.id,
        default=record.default,
        passworded=record.passworded,
        enabled=record.enabled,
    )


def _records(
    answer: object, what: str, convert: Callable[[Any, Mapping[Any, Any]], R]
) -> dict[str, R]:
    """Convert the entries that are dictionaries; validation rejects the others."""
    if not isinstance(answer, Mapping):
        raise TypeError(f"returned {type(answer).__name__}, expected {what} as a dictionary")
    if answer and not any(isinstance(entry, Mapping) for entry in answer.values()):
        raise TypeError(f"returned a dictionary in which no entry is one of {what}")
    return {
        key: convert(key, entry) if isinstance(entry, Mapping) else entry
        for key, entry in ((text_id(key), entry) for key, entry in answer.items())
    }
