"""The log while a test runs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

FORMATTER = logging.Formatter("%(levelname)s %(name)s: %(message)s")


class Log(logging.Handler):
    """Keeps log records."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def lines(self) -> list[str]:
        """Each record as ``LEVEL logger: message``, with its traceback if it has one."""
        return [FORMATTER.format(record) for record in self.records]

    @property
    def warnings(self) -> list[str]:
        """The lines of level WARNING and above."""
        return [
            FORMATTER.format(record)
            for record in self.records
            if record.levelno >= logging.WARNING
        ]


@contextmanager
def logged(*names: str, level: int = logging.DEBUG) -> Iterator[Log]:
    """Keep the records of these loggers and of the loggers below them, from that level on.
    Without a name: the logger ``d_back``."""
    log = Log()
    loggers = [logging.getLogger(name) for name in names or ("d_back",)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(log)
        logger.setLevel(level)
    try:
        yield log
    finally:
        for logger, previous in zip(loggers, before, strict=True):
            logger.removeHandler(log)
            logger.setLevel(previous)
