"""Read the files of a configuration: ``d-back.toml``, and the files that hold secrets.

No error quotes a value: the line that is wrong may hold a secret.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")

_NAME = r"[A-Za-z_][A-Za-z0-9_-]{0,30}"
_TABLE = re.compile(rf"\s*\[\[?\s*{_NAME}(\.[\w\"'-]{{1,64}})*\s*\]?\]?\s*(#.*)?")
_KEY = re.compile(rf"\s*({_NAME}(?:\.{_NAME})*)\s*=(?!=)")


class Fingerprint(NamedTuple):
    """What changes when a file is edited or replaced, or when a link leads to another file."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


def fingerprint(path: Path) -> Fingerprint | None:
    """Return the fingerprint of the file that the path leads to; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  follows links, and Path's raises for a null byte
    except (OSError, ValueError):
        return None
    return Fingerprint(
        found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    )


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, without a byte order mark and with LF at the ends of
    lines. Raises ``ValueError`` with a reason that fits behind the file's name."""
    try:
        with open(path, "rb", opener=_opened) as file:
            content = file.read()
    except (OSError, ValueError) as error:
        raise ValueError(problem_of(error)) from None
    if content.startswith(UTF_16_MARKS):
        raise ValueError("is UTF-16 (save it as UTF-8)")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:  # not chained: its text quotes the bytes
        raise ValueError("is not UTF-8") from None


def _opened(path: str, flags: int) -> int:
    """Open a file. A named pipe without a writer would keep the process waiting for one; it is
    empty instead."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if os.name == "posix":
        os.set_blocking(descriptor, True)  # what a writer sends is read to its end
    return descriptor


def problem_of(error: OSError | ValueError) -> str:
    """Return why a file cannot be read, to stand behind its name."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "does not exist"
        case IsADirectoryError():
            return "is a directory (expected a file)"
        case OSError():
            return f"cannot be read: {(error.strerror or type(error).__name__).lower()}"
        case _:
            return "is not a valid path"  # a null byte


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of the file. Raises ``ValueError`` with a reason that fits behind the
    file's name, and names the line."""
    import tomllib  # noqa: PLC0415  a start without a file does not need it

    text = read_text(path)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:  # not chained: it holds the text
        raise _toml_error(str(error), text.split("\n")) from None


def secret_files(table: object, folder: Path) -> Iterator[Path]:
    """Yield the files of secrets, ``{ file = "PATH" }``, and those of ``gateway.tls``."""
    if isinstance(table, list):
        for each in table:
            yield from secret_files(each, folder)
    elif isinstance(table, Mapping):
        match table:
            case {"file": str(name), **rest} if not rest:
                yield folder / name
            case {"cert": str(cert), "key": str(key)}:
                yield from (folder / cert, folder / key)
            case _:
                for each in table.values():
                    yield from secret_files(each, folder)


class TomlError(ValueError):
    """A file is not TOML. The message names the line; ``excerpt`` shows it."""

    def __init__(self, message: str, excerpt: tuple[str, ...]) -> None:
        super().__init__(message)
        self.excerpt = excerpt


def _toml_error(message: str, lines: list[str]) -> TomlError:
    """Return a parser's message as ``line 2: invalid value, in 'port = …'``, and the line with a
    caret."""
    problem, _, place = message.rstrip(")").rpartition(" (at ")
    found = re.fullmatch(r"line (\d+), column (\d+)", place)
    number = int(found[1]) if found else len("\n".join(lines).rstrip().split("\n"))
    line = lines[number - 1]
    if twice := re.fullmatch(r"Cannot declare \((.+)\) twice", problem):
        name = ".".join(re.findall(r"'([^']*)'", twice[1]))
        problem = f"table '{name}' is defined twice"
    elif problem == "Cannot overwrite a value":
        problem = "the key is defined twice"
    elif problem == "Invalid value":
        problem = f"invalid value ({_advice(line)})"
    elif problem.startswith(("Invalid hex value", "Unescaped '\\'")):
        problem = "invalid escape sequence (write \\\\ for \\, or use single quotes)"
    elif problem.startswith(("Illegal character '\\n'", "Expected \"'", "Unterminated string")):
        problem = "the string is not closed"
    else:
        # Parsers quote the character that they stumble over; it may belong to a secret.
        problem = re.sub(r" ('.{1,6}'|\".{1,6}\")$", "", problem)
        problem = problem[:1].lower() + problem[1:]
    shown = _shown(line)
    if not shown:
        return TomlError(f"line {number}: {problem}", ())
    last = len(shown) if shown.endswith("…") else len(shown) + 1
    column = min(int(found[2]) if found else 1, last)
    margin = f"{number} | "
    excerpt = (f"{margin}{shown}", f"{' ' * (len(margin) - 2)}| {' ' * (column - 1)}^")
    return TomlError(f"line {number}: {problem}, in '{shown.strip()}'", excerpt)


def _advice(line: str) -> str:
    value = line.partition("=")[2].strip()
    if value[:1] in {"\u201c", "\u201e", "\u2018", "\u201d"}:
        return 'use straight quotes: "'
    if value.split("#")[0].strip().lower() in {"true", "false"}:
        return "true and false are written in lower case"
    return "strings need quotes"


def _shown(line: str) -> str:
    """Return the part of a line that cannot be a secret: the name of a table, or of a key."""
    if _TABLE.fullmatch(line):
        return line.rstrip()
    key = _KEY.match(line)
    return f"{key[0]} …" if key else ""
