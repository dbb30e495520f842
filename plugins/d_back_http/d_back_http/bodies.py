"""What other programs send: checked field by field, with a sentence for each that is wrong."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeAlias, get_args

import msgspec

from d_back_core import (
    Message,
    MessageDeleted,
    MessageEdited,
    Server,
    Status,
    User,
    is_extra_key,
    is_id,
    is_public_id,
)

MAX_TEXT = 256
"""Characters of a name."""
MAX_MESSAGE = 4000
"""Characters of a message."""
STATUSES = get_args(Status)
ID = (
    "1 to 64 printable ASCII characters without spaces, and not a property of every JavaScript"
    " object such as 'constructor'"
)
PUBLIC_ID = "1 to 64 letters, digits, _ or -, and not such a property"
MAX_EXTRA = 8
"""Texts of ``extra``."""
EXTRA = (
    f"an object of {MAX_EXTRA} texts at most, of {MAX_TEXT} characters at most, by keys of 1 to 32"
    " letters, digits and _"
)
_ROLE_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
_TYPES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}

Check: TypeAlias = Callable[[Any], str | None]
"""Returns what was expected if the value is wrong."""


class Refusal(Exception):  # noqa: N818  an answer, not an error of this program
    """What a request is answered with."""

    def __init__(
        self, status: HTTPStatus, code: str, message: str, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field


def users(body: bytes) -> dict[str, User]:
    """Return the users of a body, by uid."""
    found = {}
    for uid, value in _object(body, "of users by uid").items():
        _check_id(uid, "uid", uid)
        found[uid] = User(**_attributes(_fields(value, uid, USER), USER_ATTRIBUTES))
    return found


def user(body: bytes) -> User:
    """Return the fields of one user; those that are left out are UNSET."""
    return User(**_attributes(_fields(_object(body), "", USER), USER_ATTRIBUTES))


def server(body: bytes) -> Server:
    """Return the fields of one server."""
    return Server(**_attributes(_fields(_object(body), "", SERVER), SERVER_ATTRIBUTES))


def message(body: bytes, server_id: str) -> Message:
    """Return a message of that server."""
    given = _required(_fields(_object(body), "", MESSAGE), "uid", "message", "channel")
    return Message(server_id=server_id, **_attributes(given, MESSAGE_ATTRIBUTES))


def edit(body: bytes, server_id: str, message_id: str) -> MessageEdited:
    """Return the new text of a message of that server."""
    given = _required(_fields(_object(body), "", EDIT), "uid", "message", "channel")
    attributes = _attributes(given, MESSAGE_ATTRIBUTES)
    return MessageEdited(server_id=server_id, id=message_id, **attributes)


def deletion(query: Mapping[str, str], server_id: str, message_id: str) -> MessageDeleted:
    """Return the deletion of a message of that server, in the channel that the query names."""
    given = _required(_fields(dict(query), "", DELETION), "channel")
    attributes = _attributes(given, MESSAGE_ATTRIBUTES)
    return MessageDeleted(server_id=server_id, id=message_id, **attributes)


def check_id(value: str, kind: str) -> None:
    """Raise `Refusal` unless this part of the path can be a uid or a server_id."""
    _check_id(value, kind, None)


def _object(body: bytes, what: str = "") -> dict[str, Any]:
    expected = f"a JSON object {what}".rstrip()
    if not body.strip():
        raise Refusal(
            HTTPStatus.BAD_REQUEST, "invalid_json", f"the body is empty, expected {expected}"
        )
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(
            HTTPStatus.BAD_REQUEST, "invalid_json", f"the body is not JSON: {error}"
        ) from None
    if not isinstance(value, dict):
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_field",
            f"the body is {_TYPES[type(value)]}, expected {expected}",
        )
    return value


def _fields(value: object, where: str, checks: Mapping[str, Check]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, f"is {_TYPES[type(value)]}, expected an object")
    for key, each in value.items():
        path = f"{where}.{key}" if where else key
        if key not in checks:
            raise _wrong(path, f"is not a known field (known: {', '.join(checks)})")
        if each is None:
            continue
        expected = checks[key](each)
        if expected is not None:
            raise _wrong(path, f"{_shown(each)}, expected {expected}")
    return value


def _required(given: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        if given.get(key) is None:
            raise _wrong(key, "is missing")
    if given.get("at") is not None:
        given["at"] = _time(given["at"])
    return given


def _attributes(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in given.items()}


def _wrong(field: str, message: str) -> Refusal:
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_field", f"{field}: {message}", field)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f"{value[:40]!a} is not valid" if value else "is empty"
    if isinstance(value, bool | int | float):
        return f"is {msgspec.json.encode(value).decode()}"
    return f"is {_TYPES[type(value)]}"


def _check_id(value: str, kind: str, field: str | None) -> None:
    if (expected := _id(value)) is not None:
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_field",
            f"{value[:70]!a} is not a {kind}: expected {expected}",
            field,
        )


def _id(value: object) -> str | None:
    return None if is_id(value) else ID


def _text(limit: int) -> Check:
    def check(value: object) -> str | None:
        if isinstance(value, str) and value.strip() and len(value) <= limit:
            return None
        return f"a text that is not blank, of {limit} characters at most"

    return check


def _status(value: object) -> str | None:
    return None if value in STATUSES else f"one of {', '.join(STATUSES)}"


def _role_color(value: object) -> str | None:
    is_valid = isinstance(value, str) and _ROLE_COLOR.fullmatch(value)
    return None if is_valid else "a colour such as #ff6b6b"


def _public_id(value: object) -> str | None:
    return None if is_public_id(value) else PUBLIC_ID


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _at(value: object) -> str | None:
    expected = "a time with its zone, such as 2026-11-30T20:15:30Z"
    return None if isinstance(value, str) and _time(value) is not None else expected


def _time(value: str) -> datetime | None:
    try:
        time = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return None
    return time if time.tzinfo is not None else None


def _extra(value: object) -> str | None:
    is_valid = (
        isinstance(value, dict)
        and len(value) <= MAX_EXTRA
        and all(map(is_extra_key, value))
        and all(
            isinstance(text, str) and text.strip() and len(text) <= MAX_TEXT
            for text in value.values()
        )
    )
    return None if is_valid else EXTRA


USER: Mapping[str, Check] = {
    "username": _text(MAX_TEXT),
    "status": _status,
    "roleColor": _role_color,
    "extra": _extra,
}
USER_ATTRIBUTES = {"roleColor": "role_color"}
SERVER: Mapping[str, Check] = {
    "name": _text(MAX_TEXT),
    "id": _public_id,
    "is_default": _flag,
    "passworded": _flag,
    "enabled": _flag,
}
SERVER_ATTRIBUTES = {"is_default": "default"}
DELETION: Mapping[str, Check] = {"channel": _id, "channelName": _text(MAX_TEXT)}
EDIT: Mapping[str, Check] = {
    "uid": _id,
    "message": _text(MAX_MESSAGE),
    **DELETION,
    "at": _at,
}
MESSAGE: Mapping[str, Check] = {**EDIT, "id": _id}
MESSAGE_ATTRIBUTES = {"channelName": "channel_name"}
