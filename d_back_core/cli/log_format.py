"""The format of the log. Nothing in it can control a terminal, or look like another line (R47)."""

import copy
import logging

from d_back_core.errors import MAX_LINE, printable

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
FIELDS = ["asctime", "levelname", "name", "message"]
MAX_LINES = 200
"""Lines of one record; a traceback has fewer."""
INDENT = "    "
"""Before every line of a record but the first."""


def formatter(kind: str) -> logging.Formatter:
    """Return the formatter for ``text`` or ``json``."""
    if kind == "text":
        return _TextFormatter(FORMAT)
    from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415  only needed here

    class SafeJsonFormatter(JsonFormatter):
        def format(self, record: logging.LogRecord) -> str:
            return super().format(_safe(record, self))

    return SafeJsonFormatter(FIELDS, rename_fields={"levelname": "level"})


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return super().format(_safe(record, self)).replace("\n", f"\n{INDENT}")


def _safe(record: logging.LogRecord, formatter: logging.Formatter) -> logging.LogRecord:
    """Return a copy of the record with printable text. The record itself is also for others."""
    record.message = record.getMessage()  # handlers of others find it there, as `logging` says
    copied = copy.copy(record)
    copied.msg, copied.args = _lines(record.message), ()
    if record.exc_info:
        copied.exc_text = _lines(formatter.formatException(record.exc_info))
        copied.exc_info = None
    return copied


def _lines(text: str) -> str:
    lines = text.split("\n", MAX_LINES)
    return "\n".join(printable(line[:MAX_LINE]) for line in lines[:MAX_LINES])
