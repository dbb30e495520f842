"""``[providers.postgres]``: where the database is, and what its tables and columns are called."""

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import asdict

from d_back_core import Duration, Secret
from d_back_postgres.address import address

MAX_NAME = 63
"""Bytes of a name in PostgreSQL; of a longer one it would ignore the rest."""


class UsersColumns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``users_columns``: what the columns are called. "": there is none, nothing is said of it."""

    server_id: str = "server_id"
    user_id: str = "user_id"
    username: str = "username"
    status: str = "status"
    role_color: str = "role_color"
    extra: str | None = None
    """Extra texts, as a JSON object. Unset: the column ``extra`` where there is one."""
    last_seen: str | None = None
    """When a recorder last heard of the user as not offline. Unset: the column ``last_seen``
    where there is one."""


class ServersColumns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``servers_columns``: what the columns are called. "": there is none."""

    server_id: str = "server_id"
    name: str = "name"
    passworded: str = "passworded"
    is_default: str = "is_default"
    enabled: str = "enabled"
    public_id: str | None = None
    """Unset: the column ``public_id`` where there is one."""
    last_seen: str | None = None
    """When a recorder last heard of the server. Unset: ``last_seen`` where there is one."""


class PostgresConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.postgres]``."""

    dsn: Secret
    """``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``; several hosts and the
    parameters of libpq (see `address`)."""
    schema: str | None = None
    """Where the tables are. Unset: where the role's ``search_path`` finds them."""
    users_table: str = "users"
    servers_table: str = "servers"
    users_columns: UsersColumns = UsersColumns()
    servers_columns: ServersColumns = ServersColumns()
    users_query: str | None = None
    """Instead of the table, a SELECT that gives its columns; it is polled, never recorded to."""
    servers_query: str | None = None
    pool_size: Annotated[int, Meta(ge=1, le=100)] = 4
    """Connections at most, beside the one that listens."""
    statement_timeout: Duration = Duration(4)
    """The longest that one statement may take."""
    transaction_pooler: bool = False
    """Whether the DSN leads to a pooler such as PgBouncer in transaction mode: nothing is kept
    on a connection from one transaction to the next, and changes are polled."""
    keep_offline: bool = False
    """Whether the recorder keeps those who are gone, as offline, instead of deleting them."""

    def __post_init__(self) -> None:
        address(self.dsn.reveal())
        if self.statement_timeout <= 0:
            raise ValueError("statement_timeout: expected a duration greater than 0")
        if self.keep_offline and not self.users_columns.status:
            raise ValueError("keep_offline: there is no column to say so (users_columns.status)")
        for key in ("users_query", "servers_query"):
            query = getattr(self, key)
            if query is not None and not query.strip().rstrip(";"):
                raise ValueError(f"{key}: is empty")
        self._check_names()

    def _check_names(self) -> None:
        names = {"users_table": self.users_table, "servers_table": self.servers_table}
        if self.schema is not None:
            names["schema"] = self.schema
        for table, columns in self._columns().items():
            names |= {f"{table}.{key}": name for key, name in columns.items() if name}
            for key in {"server_id", "user_id"} & columns.keys():
                if not columns[key]:
                    raise ValueError(f"{table}.{key} cannot be left out")
            _check_once(table, columns)
        for key, name in names.items():
            if not name or len(name.encode()) > MAX_NAME or "\x00" in name:
                raise ValueError(f"{key}: '{name}' can be no name (1 to {MAX_NAME} bytes)")

    def _columns(self) -> dict[str, dict[str, str | None]]:
        return {
            "users_columns": asdict(self.users_columns),
            "servers_columns": asdict(self.servers_columns),
        }


def _check_once(table: str, columns: dict[str, str | None]) -> None:
    """Refuse two keys with the same column: a table cannot be made, nor written, that way."""
    keys: dict[str, str] = {}
    for key, name in columns.items():
        if name and keys.setdefault(name, key) != key:
            raise ValueError(f"{table}.{key}: '{name}' is that of {keys[name]} already")
