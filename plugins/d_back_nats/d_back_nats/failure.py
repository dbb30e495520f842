"""The errors of NATS, described without secrets."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
import nats.js.errors

from d_back_core import DBackError

FAILURES = (nats.errors.Error, OSError, EOFError)
"""What nats-py raises if a server fails or does not answer in time."""

WRONG_REVISION = frozenset({10071, 10164})
"""JetStream's codes for: the last revision is not the one that the write names."""

LOGIN = "the server refuses the login"


class NatsError(DBackError):
    """NATS cannot be reached, or refuses a request."""


class OvertakenError(NatsError):
    """Another client has written to the bucket since our last write."""

    def __init__(self) -> None:
        super().__init__("another client wrote to the bucket")


class BucketChangedError(NatsError):
    """The bucket lost content without a write: it was purged, replaced, or restored from a
    backup."""


@contextmanager
def nats_errors() -> Iterator[None]:
    """Raise errors of nats-py as `NatsError`."""
    try:
        yield
    except FAILURES as error:
        raise NatsError(describe_error(error)) from None


def describe_error(error: BaseException) -> str:
    """Return the error in one line, without secrets."""
    match error:
        case NatsError():
            return str(error)
        case nats.js.errors.APIError():
            return " ".join(str(error.description or f"error {error.code}").split())
        case nats.js.errors.NoStreamResponseError() | nats.errors.NoRespondersError():
            return "JetStream does not answer (is it enabled, and has it a leader?)"
        case nats.errors.AuthorizationError():
            return LOGIN
        case nats.errors.TimeoutError() | TimeoutError():
            return "no answer in time"
        case ssl.SSLError():
            return f"TLS failed ({error.reason or type(error).__name__})"
        case OSError():
            if error.errno is None or error.errno <= 0:
                return "cannot be reached"
            return f"cannot be reached: {os.strerror(error.errno)}"
        case nats.errors.Error():
            return _cleaned(str(error)) or f"the connection failed ({type(error).__name__})"
    return f"the connection failed ({type(error).__name__})"


def _cleaned(text: str) -> str:
    said = " ".join(text.removeprefix("nats: ").strip("'").split())
    if said.startswith(("Authorization", "Authentication", "User Authentication")):
        return LOGIN
    return said
