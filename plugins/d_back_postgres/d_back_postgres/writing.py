"""The SQL by which a recorder writes: whole batches, from arrays."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from d_back_postgres.flags import FLAGS
from d_back_postgres.relations import Column, Relation, quoted
from d_back_tables import KEPT_UNLESS_SAID, SERVER_FIELDS, USER_FIELDS

Gone: TypeAlias = Literal["deleted", "offline"]
"""What becomes of a user who is gone."""

FIELDS = {"users": USER_FIELDS, "servers": SERVER_FIELDS}
KEYS = {"users": ("server_id", "user_id"), "servers": ("server_id",)}
ABSENT = "coalesce({status}::text, 'offline') = 'offline'"


class Writing(Struct, frozen=True, kw_only=True):
    """The statements for one table. Their arguments are arrays, one for each column."""

    upsert: str
    remove: str
    """By key."""
    keep_only: str
    """Remove all others: of one server, $1, the users $2; of the list, the servers $1."""
    remove_servers: str
    """Remove all users of these servers (of the table of users only)."""
    keep_only_servers: str
    """Remove all users of other servers (of the table of users only)."""
    keys: tuple[Column, ...]
    fields: tuple[str, ...]

    def fits(self, key: Sequence[str]) -> bool:
        """Whether a row of that key can be stored."""
        return all(column.fits(part) for column, part in zip(self.keys, key, strict=True))


def writing(relation: Relation, gone: Gone) -> Writing:
    """How to write to that table."""
    names = KEYS[relation.key]
    keys = tuple(relation.columns[key] for key in names)
    same = [_same(column, f"k.{key}") for key, column in zip(names, keys, strict=True)]
    head = _removal(relation, gone)
    given = f"unnest({_parameters(len(keys))}) AS k ({', '.join(names)})"
    remembered = ""
    if "last_seen" in relation.columns:
        # Rows of the operator's own are not the recorder's to remove by what it does not hear.
        remembered = f" AND t.{_name(relation, 'last_seen')} IS NOT NULL"
    on_list = f"(SELECT FROM unnest($1::text[]) AS k (server_id) WHERE {same[0]})"
    keep_only = keep_only_servers = f"{head}{remembered} AND NOT EXISTS {on_list}"
    if relation.key == "users":
        here = f"(SELECT FROM unnest($2::text[]) AS k (user_id) WHERE {same[1]})"
        one_server = _same(keys[0], "$1::text")
        keep_only = f"{head}{remembered} AND {one_server} AND NOT EXISTS {here}"
    return Writing(
        upsert=_upsert(relation),
        remove=f"{head} AND EXISTS (SELECT FROM {given} WHERE {' AND '.join(same)})",
        keep_only=keep_only,
        remove_servers=f"{head}{remembered} AND EXISTS {on_list}",
        keep_only_servers=keep_only_servers,
        keys=keys,
        fields=tuple(field for field in FIELDS[relation.key] if field in relation.columns),
    )


def _same(column: Column, key: str) -> str:
    return column.equals(f"t.{quoted(column.name)}", key)


def without_nul(values: Sequence[object]) -> list[object]:
    """Remove NUL characters: a text of PostgreSQL cannot hold them."""
    return [
        value.replace("\x00", "") or None if isinstance(value, str) and "\x00" in value else value
        for value in values
    ]


def _removal(relation: Relation, gone: Gone) -> str:
    """A statement up to its first condition; others are to be added with AND."""
    if gone == "offline" and relation.key == "users":
        status = relation.columns["status"]
        change = f"{quoted(status.name)} = ('offline'::text)::{status.type}"
        if "last_seen" in relation.columns:
            change += f", {_name(relation, 'last_seen')} = now()"
        here = "NOT " + ABSENT.format(status=f"t.{quoted(status.name)}")
        return f"UPDATE {relation.source} AS t SET {change} WHERE {here}"  # noqa: S608  names are quoted, here and below
    return f"DELETE FROM {relation.source} AS t WHERE true"  # noqa: S608


def _upsert(relation: Relation) -> str:
    keys = KEYS[relation.key]
    fields = [field for field in FIELDS[relation.key] if field in relation.columns]
    given = [*keys, *fields]
    types = ["boolean[]" if key in FLAGS else "text[]" for key in given]
    names = [_name(relation, key) for key in given]
    values = [_cast(relation.columns[key], key) for key in given]
    if "last_seen" in relation.columns:
        names.append(_name(relation, "last_seen"))
        values.append("now()")
    parameters = ", ".join(f"${place}::{kind}" for place, kind in enumerate(types, 1))
    key_names = ", ".join(_name(relation, key) for key in keys)
    order = ", ".join(f"k.{key}" for key in keys)  # two writers must not lock crosswise
    insert = (
        f"INSERT INTO {relation.source} AS t ({', '.join(names)})"  # noqa: S608
        f" SELECT {', '.join(values)} FROM unnest({parameters}) AS k ({', '.join(given)})"
        f" ORDER BY {order} ON CONFLICT ({key_names}) DO"
    )
    changes = [_change(relation, field) for field in fields]
    differs = [f"{left} IS DISTINCT FROM {right}" for left, right in changes]
    assignments = [f"{left.removeprefix('t.')} = {right}" for left, right in changes]
    if "last_seen" in relation.columns:
        seen = _seen(relation)
        assignments.append(f"{seen[0].removeprefix('t.')} = {seen[1]}")
        differs.append(f"{seen[0]} IS DISTINCT FROM {seen[1]}")
    if not assignments:
        return f"{insert} NOTHING"
    return f"{insert} UPDATE SET {', '.join(assignments)} WHERE {' OR '.join(differs)}"


def _cast(column: Column, key: str) -> str:
    """SQL for a value that is given as a boolean or a text, as the column stores it."""
    value = f"k.{key}"
    if key in FLAGS and column.base != "boolean":
        # PostgreSQL casts a boolean to integer and to text only; from there on to the others.
        value += "::integer" if column.kind == "integer" or column.base == "bit" else "::text"
    return f"{value}::{column.type}"


def _change(relation: Relation, field: str) -> tuple[str, str]:
    name = _name(relation, field)
    old, new = f"t.{name}", f"EXCLUDED.{name}"
    return old, f"coalesce({new}, {old})" if field in KEPT_UNLESS_SAID else new


def _seen(relation: Relation) -> tuple[str, str]:
    """When it was last heard of: for a user, as not offline."""
    name = _name(relation, "last_seen")
    if relation.key == "servers" or "status" not in relation.columns:
        return f"t.{name}", "now()"
    status = _name(relation, "status")
    absent = " AND ".join(ABSENT.format(status=f"{row}.{status}") for row in ("t", "EXCLUDED"))
    return f"t.{name}", f"CASE WHEN {absent} THEN coalesce(t.{name}, now()) ELSE now() END"


def _name(relation: Relation, key: str) -> str:
    return quoted(relation.columns[key].name)


def _parameters(count: int) -> str:
    return ", ".join(f"${place}::text[]" for place in range(1, count + 1))
