"""A memory for the other providers of d-back, and a source of its own, in one SQLite file.

`config` is what the operator configures. `worker` is the thread in which everything happens that
SQLite is asked: `database` opens the file, `owner` keeps other gateways away from it, `rows` reads
and `recording` writes its tables. `changes` is the stream of one run, which also notices what
others do to the file, and `failure` words errors. What the recorder was given, and the files of
`import` and `export`, are those of `d_back_tables`.
"""

from d_back_sqlite.config import SqliteConfig
from d_back_sqlite.provider import SqliteProvider

__all__ = ["SqliteConfig", "SqliteProvider"]
