"""A file of servers and users, read and checked before any of it is stored."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from d_back_core import Change, ConfigError, Server, ServerSet, Status, User, UserSet
from d_back_tables.columns import Key

Id: TypeAlias = Annotated[str, Meta(pattern=r"^[!-~]{1,64}$")] | int
Text: TypeAlias = Annotated[str, Meta(pattern=r"\S")] | UnsetType | None
PublicId: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | UnsetType | None
RoleColor: TypeAlias = Annotated[str, Meta(pattern=r"^#[0-9A-Fa-f]{6}$")] | UnsetType | None
Flag: TypeAlias = bool | UnsetType | None


class UserRow(Struct, kw_only=True, forbid_unknown_fields=True):
    """One user of a file."""

    server_id: Id
    user_id: Id
    username: Text = UNSET
    status: Status | UnsetType | None = UNSET
    role_color: RoleColor = UNSET
    extra: dict[str, str] | UnsetType | None = UNSET


class ServerRow(Struct, kw_only=True, forbid_unknown_fields=True):
    """One server of a file."""

    server_id: Id
    name: Text = UNSET
    public_id: PublicId = UNSET
    passworded: Flag = UNSET
    is_default: Flag = UNSET
    enabled: Flag = UNSET


class Filling(Struct):
    """What a file holds."""

    servers: dict[str, Server]
    users: dict[Key, User]

    def changes(self) -> Iterator[Change]:
        """Yield the changes that store all of it."""
        for server_id, server in self.servers.items():
            yield ServerSet(server_id=server_id, server=server)
        for (server_id, uid), user in self.users.items():
            yield UserSet(server_id=server_id, uid=uid, user=user)


R = TypeVar("R", UserRow, ServerRow)


def read(path: Path) -> Filling:
    """A ``.json`` file, ``{"servers": [...], "users": [...]}``, or a ``.csv`` file with a line
    of column names, of users or (without ``user_id``) of servers. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    match path.suffix.lower():
        case ".json":
            return _json(path, text)
        case ".csv":
            return _csv(path, text)
    raise ConfigError(f"{path}: '{path.suffix}' is no kind of file to import (.json, .csv)")


def written(filling: Filling) -> bytes:
    """Return the text of a ``.json`` file that `read` reads, one record per line."""
    servers = [
        ServerRow(
            server_id=server_id,
            name=server.name,
            public_id=server.id,
            passworded=server.passworded,
            is_default=server.default,
            enabled=server.enabled,
        )
        for server_id, server in filling.servers.items()
    ]
    users = [
        UserRow(
            server_id=server_id,
            user_id=uid,
            username=user.username,
            status=user.status,
            role_color=user.role_color,
            extra=dict(user.extra) if user.extra else UNSET,  # type: ignore[arg-type]
        )
        for (server_id, uid), user in filling.users.items()
    ]
    return b'{"servers": [%b],\n"users": [%b]}\n' % (_lines(servers), _lines(users))


def _lines(rows: Iterable[UserRow | ServerRow]) -> bytes:
    return b",".join(b"\n" + msgspec.json.encode(row) for row in rows)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the most similar known word, and all of them."""
    choices = sorted(known)
    close = get_close_matches(word, choices, n=1, cutoff=0)
    if not close:
        return "(there are none)"
    return f"(did you mean '{close[0]}'? there are: {', '.join(choices)})"


def _json(path: Path, text: str) -> Filling:
    try:
        tables = msgspec.json.decode(text, type=dict[str, list[dict[str, object]]])
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    for table in tables:
        if table not in {"servers", "users"}:
            raise ConfigError(f"{path}: there is no '{table}' {nearest(table, _TABLES)}")
    rows = {
        table: [(f"{path}: {table}[{place}]", row) for place, row in enumerate(tables[table])]
        for table in tables
    }
    servers = _rows(rows.get("servers", ()), ServerRow)
    return _filling(servers, _rows(rows.get("users", ()), UserRow))


def _csv(path: Path, text: str) -> Filling:
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        names = reader.fieldnames or ()
        rows = []
        for row in reader:
            if None in row:
                raise ConfigError(
                    f"{path}: line {reader.line_num}: has more than {len(names)} fields"
                )
            said = {name: value for name, value in row.items() if value}
            rows.append((f"{path}: line {reader.line_num}", said))
    except csv.Error as error:
        raise ConfigError(f"{path}: line {reader.line_num}: {error}") from error
    if "user_id" in names:
        return _filling((), _rows(rows, UserRow))
    return _filling(_rows(rows, ServerRow), ())


_TABLES = ("servers", "users")


def _rows(rows: Iterable[tuple[str, Mapping[str, object]]], kind: type[R]) -> Iterator[R]:
    known = kind.__struct_fields__
    for where, row in rows:
        for name in row:
            if name not in known:
                raise ConfigError(f"{where}: unknown column '{name}' {nearest(name, known)}")
        try:
            yield msgspec.convert(row, kind, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{where}: {error}") from error


def _filling(servers: Iterable[ServerRow], users: Iterable[UserRow]) -> Filling:
    return Filling(
        {
            str(row.server_id): Server(
                name=row.name,
                id=row.public_id,
                default=row.is_default,
                passworded=row.passworded,
                enabled=row.enabled,
            )
            for row in servers
        },
        {
            (str(row.server_id), str(row.user_id)): User(
                username=row.username,
                status=row.status,
                role_color=row.role_color,
                extra=row.extra,
            )
            for row in users
        },
    )
