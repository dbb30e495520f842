"""discord.py's log lines about our own connection, each in one line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LOGGERS = ("discord.client", "discord.gateway", "discord.state", "discord.http")

_speaking: ContextVar[object] = ContextVar("d_back_discord_speaking", default=None)


class OneLine(logging.Filter):
    """Tells errors without their traceback (discord.py logs one for each attempt to reconnect),
    and leaves out that voice is not supported.

    It minds only what is logged within `speaking`, in tasks begun there included: the log of
    another bot in the same process stays as it is.
    """

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """What is logged in this block is about our connection."""
        token = _speaking.set(self)
        try:
            yield
        finally:
            _speaking.reset(token)

    def attach(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)

    def detach(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        if _speaking.get() is not self:
            return True
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            record.msg, record.args = f"{message}: {str(error) or type(error).__name__}", ()
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return "voice will NOT be supported" not in message
