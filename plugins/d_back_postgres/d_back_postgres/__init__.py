"""Servers and members from PostgreSQL, live, and a memory for the other providers of d-back.

`config` is what the operator says; `relations` finds in the database what that names; `reading`
is what is asked of it, `listener` and `pending` how changes are heard of, `changes` what becomes
of them; `memory` is what the recorder stores; `migrations` makes the tables; `database` holds the
connections, and `failure` tells what went wrong, without secrets.
"""

from d_back_postgres.config import PostgresConfig, ServersColumns, UsersColumns
from d_back_postgres.provider import PostgresProvider

__all__ = ["PostgresConfig", "PostgresProvider", "ServersColumns", "UsersColumns"]
