"""Flags as databases store them: boolean, 0 and 1, texts.

A flag that protects a server fails closed: of ``enabled`` and ``passworded``, a value that cannot
be read counts as the one that admits no client.
"""

import logging
import re

from d_back_postgres.relations import Relation

FLAGS = frozenset({"is_default", "passworded", "enabled"})
TRUE = frozenset({"t", "true", "y", "yes", "on"})
FALSE = frozenset({"f", "false", "n", "no", "off"})
_NUMBER = re.compile(r"0*([01])(?:\.0*)?")
"""Of a column of numbers; a numeric writes its decimals."""
WHEN_UNREADABLE = {"enabled": False, "passworded": True, "is_default": None}
MEANING = {
    "enabled": "its server counts as disabled",
    "passworded": "its server counts as protected",
    "is_default": "it counts as not supplied",
}
MAX_LOGGED = 20
"""Different values that are logged; a column of another kind would fill the log."""


class FlagReader:
    """Reads the flags of the table of servers, each as a text."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._logged: set[tuple[str, str]] = set()

    def read(self, relation: Relation, key: str, text: str | None) -> bool | None:
        """Return the flag; None if the column is NULL, or if a flag that protects nothing cannot
        be read."""
        if text is None:
            return None
        flag = parsed(text)
        if flag is None:
            self._report(relation.columns[key].name, key, text)
            return WHEN_UNREADABLE[key]
        return flag

    def _report(self, column: str, key: str, text: str) -> None:
        if (key, text) in self._logged or len(self._logged) >= MAX_LOGGED:
            return
        self._logged.add((key, text))
        self._log.warning(
            "column %s: %.40r is not a flag (true, false, 1, 0, yes, no, on, off): %s",
            column,
            text,
            MEANING[key],
        )


def parsed(text: str) -> bool | None:
    """Return the flag that a text stands for; None for any other text."""
    word = text.strip().lower()
    if word in TRUE or word in FALSE:
        return word in TRUE
    number = _NUMBER.fullmatch(word)
    return None if number is None else number[1] == "1"
