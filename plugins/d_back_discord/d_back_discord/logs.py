"""discord.py's log lines about our own connection, each in one line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LOGGERS = ("discord.client", "discord.gateway", "discord.state", "discord.http")

_marked: ContextVar[object] = ContextVar("d_back_discord_marked", default=None)


class OneLine(logging.Filter):
    """Logs errors without their traceback (discord.py logs one per attempt to reconnect), and
    drops the line that voice is not supported.

    It filters only records from within `marked`, and from tasks begun there: the log of another
    bot in the same process stays as it is.
    """

    @contextmanager
    def marked(self) -> Iterator[None]:
        """Mark what is logged in this block as about our connection."""
        token = _marked.set(self)
        try:
            yield
        finally:
            _marked.reset(token)

    def attach(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)

    def detach(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        if _marked.get() is not self:
            return True
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            record.msg, record.args = f"{message}: {str(error) or type(error).__name__}", ()
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return "voice will NOT be supported" not in message
