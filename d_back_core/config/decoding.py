"""One TOML table → one struct, the core's or a plugin's, with errors that name place, value and
what is known instead."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import durationpy
import msgspec
from msgspec import Struct, structs

from d_back_core.errors import ConfigError, nearest
from d_back_core.secret import Secret

MAX_SHOWN = 80
"""Characters of a wrong value that an error quotes."""

T = TypeVar("T")


class Duration(float):
    """Seconds; in TOML a number or a text like ``"5s"``, ``"250ms"``, ``"1m30s"``."""


class Timeout(Duration):
    """A `Duration` of more than nothing."""


class File(str):
    """A path; a relative one starts at the folder of the configuration file."""

    __slots__ = ()


def decode(
    kind: type[T],
    table: object,
    where: str,
    folder: Path = Path(),
    also: Iterable[str] = (),
) -> T:
    """One TOML table as a struct; every error names the place, the value and what is known.
    ``also``: keys to suggest that somebody else decodes."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table")  # in the wrong place it may be a secret
    _check_keys(kind, table, where, also)

    def convert(wanted: type, value: object) -> object:
        return _converted(wanted, value, folder)

    try:
        return msgspec.convert(table, kind, dec_hook=convert)
    except msgspec.ValidationError as error:
        raise ConfigError(_sentence(kind, table, where, str(error))) from error


def _converted(wanted: type, value: object, folder: Path) -> object:
    if wanted is Duration:
        return Duration(_seconds_of(value))
    if wanted is Timeout:
        if not (seconds := _seconds_of(value)):
            raise ValueError("expected a duration of more than nothing")
        return Timeout(seconds)
    if wanted is Secret:
        return _secret(value, folder)
    if wanted is File:
        if not isinstance(value, str) or not value:
            raise ValueError("expected a path")
        return File(folder / value)
    raise NotImplementedError(f"no configuration can hold a {wanted.__name__}")


def _seconds_of(value: object) -> float:
    expected = "expected a duration: seconds, or a text like '5s', '250ms', '1m30s'"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(expected)
    if isinstance(value, str):
        try:
            value = durationpy.from_str(value).total_seconds()
        except durationpy.DurationError as error:
            raise ValueError(expected) from error
    if not 0 <= value <= sys.float_info.max:
        raise ValueError("expected a duration that is neither negative nor endless")
    return value


def _secret(value: object, folder: Path) -> Secret:
    match value:
        case str():
            secret = Secret(value)
        case {"env": str(variable), **rest} if not rest:
            if variable not in os.environ:
                raise ValueError(f"the environment variable {variable} is not set")
            secret = Secret(os.environ[variable])
        case {"file": str(name), **rest} if not rest:
            try:
                secret = Secret((folder / name).read_text(encoding="utf-8").rstrip("\r\n"))
            except UnicodeDecodeError:  # it quotes what it cannot decode
                raise ValueError(f"'{name}' is not UTF-8") from None
            except (OSError, ValueError) as error:
                raise ValueError(f"cannot be read: {error}") from error
        case _:
            raise ValueError('expected a text, { env = "NAME" } or { file = "PATH" }')
    if not secret.reveal():
        raise ValueError("is empty")
    if re.search("[\ud800-\udfff]", secret.reveal()):  # bytes of an environment variable
        raise ValueError("is not UTF-8")
    secret.check_hash()
    return secret


def _check_keys(
    kind: type, table: Mapping[str, Any], where: str, also: Iterable[str] = ()
) -> None:
    """Refuse what the struct, and those within it, do not know."""
    known = _types(kind)
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{where}.{key}: unknown key{nearest(key, {*known, *also})}")
        inner = _struct_in(known[key])
        if inner is not None and isinstance(value, dict):
            _check_keys(inner, value, f"{where}.{key}")


def _types(kind: type) -> dict[str, Any]:
    """The keys of a struct in TOML, and their types."""
    return {field.encode_name: field.type for field in structs.fields(kind)}


def _struct_in(hint: object) -> type | None:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint
    parts = get_args(hint) if get_origin(hint) in {Union, UnionType, Annotated} else ()
    return next((found for part in parts if (found := _struct_in(part)) is not None), None)


def _sentence(kind: type, table: Mapping[str, Any], where: str, message: str) -> str:
    problem, _, path = message.partition(" - at `$")
    path = path.rstrip("`")
    value, hint = _at(table, kind, path)
    if missing := re.fullmatch(r"Object missing required field `(.+)`", problem):
        return f"{where}{path}.{missing[1]}: is missing"
    shown = f" '{_shown(value)}'" if path and not _holds_secret(hint) else ""
    if problem.startswith("Invalid enum value"):
        problem = f"not possible{nearest(str(value), _choices(hint))}"
    elif problem.startswith("Expected `"):
        problem = re.sub(r"`([^`]*)`", lambda wanted: _in_words(wanted[1]), problem)
        problem = problem[0].lower() + problem[1:]
    return f"{where}{path}{shown}: {problem}"


def _at(table: object, kind: object, path: str) -> tuple[object, object]:
    """The value at a path of msgspec's, as far as it can be followed, and its type."""
    value, hint = table, kind
    for name, index in re.findall(r"\.([^.[]+)|\[(\d+)\]", path):
        if name and isinstance(value, dict) and (inner := _struct_in(hint)) is not None:
            value, hint = value[name], _types(inner)[name]
        elif index and isinstance(value, list):
            value = value[int(index)]
    return value, hint


def _holds_secret(hint: object) -> bool:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return any(_holds_secret(inner) for inner in _types(hint).values())
    return hint is Secret or any(_holds_secret(part) for part in get_args(hint))


_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a table",
    "str": "a text",
}


def _in_words(types: str) -> str:
    """``object | null`` as an operator, who writes TOML, calls it."""
    kind, *bound = types.removesuffix(" | null").split(" ", 1)
    return " ".join([_WORDS.get(kind, kind), *bound])


def _shown(value: object) -> str:
    text = str(value)
    if isinstance(value, bool | list | dict):
        text = msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _choices(hint: object) -> set[str]:
    if isinstance(hint, str):
        return {hint}
    return {choice for part in get_args(hint) for choice in _choices(part)}
