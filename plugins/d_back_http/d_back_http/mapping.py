"""What a JSON API returns, as records of d-back.

The values are passed on as they are: the core checks them, and logs those that are not valid.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UnsetType

from d_back_core import UNSET, Server, User
from d_back_http.config import HttpConfig
from d_back_http.failure import HttpError


def users(body: bytes, config: HttpConfig) -> dict[str, User]:
    """Return the users of an answer, by uid."""
    fields, statuses = config.users_fields, config.statuses
    found = {}
    for uid, row in _rows(body, config.users_at, "users_at", fields.uid):
        status: Any = _at(row, fields.status)
        if isinstance(status, str):
            status = statuses.get(status, status)
        found[uid] = User(
            username=_at(row, fields.username),
            status=status,
            role_color=_at(row, fields.role_color),
            extra=_extra(row, fields.extra),
        )
    return found


def servers(body: bytes, config: HttpConfig) -> dict[str, Server]:
    """Return the servers of an answer, by server_id."""
    fields = config.servers_fields
    return {
        server_id: Server(
            name=_at(row, fields.name),
            id=_at(row, fields.id),
            default=_at(row, fields.default),
            passworded=_at(row, fields.passworded),
            enabled=_at(row, fields.enabled),
        )
        for server_id, row in _rows(body, config.servers_at, "servers_at", fields.server_id)
    }


def _extra(row: Mapping[str, Any], paths: Mapping[str, str]) -> Mapping[str, str] | UnsetType:
    """Return the further texts that the record has; UNSET without any path."""
    found = {key: _at(row, path) for key, path in paths.items()}
    return {key: text for key, text in found.items() if isinstance(text, str)} if paths else UNSET


def _rows(body: bytes, at: str, key: str, id_path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each record with its id: of a list, or of an object by id."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HttpError(f"the answer is not JSON: {error}") from None
    rows = _at(answer, at) if at else answer
    if isinstance(rows, dict):
        pairs = list(rows.items())
    elif isinstance(rows, list):
        pairs = [(_at(row, id_path) if isinstance(row, dict) else None, row) for row in rows]
    else:
        where = f"at '{at}' in the answer" if at else f"in the answer (see {key})"
        raise HttpError(f"expected a list or an object {where}")
    for number, (given, row) in enumerate(pairs):
        if not isinstance(row, dict):
            raise HttpError(f"expected an object for each record, got {type(row).__name__}")
        if isinstance(given, bool) or not isinstance(given, str | int):
            raise HttpError(f"record {number} has no id at '{id_path}'")
        yield str(given), row


def _at(row: Any, path: str) -> Any:  # noqa: ANN401  JSON
    """Return the value at a path such as ``profile.name``; UNSET if there is none."""
    if not path:
        return UNSET
    value = row
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return UNSET
        value = value[part]
    return value
