"""What went wrong with the database, in words that tell no secret.

The server's own text is passed on only where it is about a statement: what it says about a login
names the user and the host.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from d_back_core import DBackError

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What asyncpg raises when a database cannot do what it is asked; time-outs are among them."""

TEXTS = {
    "08P01": "the server does not understand us (is it a pooler? see transaction_pooler)",
    "26000": "the server forgot a statement (is it a pooler? see transaction_pooler)",
    "28000": "the database refuses the login",
    "28P01": "the database refuses the password",
    "3D000": "there is no such database",
    "42P05": "the server knows our statement already (is it a pooler? see transaction_pooler)",
    "42P10": "to be recorded to, a table needs a unique index on its id columns",
    "53300": "the database has no connection left",
    "55P03": "the rows are locked by others",
    "57014": "the statement took longer than statement_timeout",
    "57P01": "the database is shutting down",
    "57P02": "the database has crashed",
    "57P03": "the database is not ready for connections yet",
}
ABOUT_STATEMENTS = ("0A", "22", "23", "25", "42", "P0")
"""Classes of errors whose text is about what was asked."""


class DatabaseError(DBackError):
    """The database cannot be reached, or cannot do what it was asked."""


@contextmanager
def told() -> Iterator[None]:
    """Raise what goes wrong with the database as `DatabaseError`."""
    try:
        yield
    except FAILURES as error:
        raise DatabaseError(described(error)) from None


def described(error: BaseException) -> str:
    """What went wrong, in one line without secrets."""
    if isinstance(error, asyncpg.PostgresError):
        return _server_said(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return f"cannot be reached: {_system_said(error)}"
    if isinstance(error, DatabaseError):
        return str(error)
    return f"the connection failed ({type(error).__name__})"


def _server_said(error: asyncpg.PostgresError) -> str:
    code: str | None = getattr(error, "sqlstate", None)
    if code in TEXTS:
        return TEXTS[code]
    if code is not None and code.startswith(ABOUT_STATEMENTS):
        return " ".join(str(error.args[0]).split()) if error.args else type(error).__name__
    if code is not None and code.startswith("08"):
        return "the connection was lost"
    return f"the database failed ({type(error).__name__}, {code})"


def _system_said(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or type(error).__name__})"
    if isinstance(error, ConnectionError) and error.errno is None:
        return "the server refuses TLS, or us"
    if error.errno is None:
        return "none of the hosts answers"
    return os.strerror(error.errno) if error.errno > 0 else "the host's name is not known"
