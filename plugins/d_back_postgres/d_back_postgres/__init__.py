"""Servers and members from PostgreSQL, live, and a memory for the other providers of d-back.

`config` is what the operator configures, and `address` reads its DSN; `relations` finds in the
database what that names, and `tables` keeps it up to date by its `fingerprint`. `reading` reads
rows and their `flags`; `listener` and `pending` receive what has changed, and `changes` turns it
into events. `memory` is what the recorder stores, `migrations` makes the tables;
`database` holds the connections, and `failure` words errors without secrets. What the recorder was
given, and the files of `import`, are those of `d_back_tables`.
"""

from d_back_postgres.config import PostgresConfig, ServersColumns, UsersColumns
from d_back_postgres.provider import PostgresProvider

__all__ = ["PostgresConfig", "PostgresProvider", "ServersColumns", "UsersColumns"]
