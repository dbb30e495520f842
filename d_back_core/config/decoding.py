"""Decode one TOML table into a struct, the core's or a plugin's.

msgspec decodes; this module turns its errors into messages for operators, with the value and the
alternatives. msgspec's errors have no structure, so their texts are parsed. A test pins each text
that this relies on; other texts pass through as they are.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeAlias, TypeVar, Union, get_args, get_origin

import durationpy
import msgspec
from msgspec import Struct, structs

from d_back_core.config.reading import read_text
from d_back_core.errors import ConfigError, nearest
from d_back_core.secret import Secret

MAX_SHOWN = 80
"""Characters of a wrong value in an error message."""

T = TypeVar("T")


class Duration(float):
    """Seconds; in TOML a number or a string like ``"5s"``, ``"250ms"``, ``"1m30s"``."""


class Timeout(Duration):
    """A `Duration` greater than 0."""


class File(str):
    """A path, relative to the directory of the configuration file."""

    __slots__ = ()


class WatchedFile(File):
    """A `File` that the provider reads when it starts, such as a key. A reload, and ``--watch``,
    restart the provider if the file has changed."""

    __slots__ = ()


Unknown: TypeAlias = Callable[[str, object, Iterable[str]], str]


def unknown_key(key: str, _value: object, known: Iterable[str]) -> str:
    """Return the text of the error for a key that is not one of these."""
    return f"unknown key{nearest(key, known)}"


def also(keys: Iterable[str], unknown: Unknown = unknown_key) -> Unknown:
    """Return the same, with keys to suggest that are decoded elsewhere."""
    return lambda key, value, known: unknown(key, value, {*known, *keys})


def decode(
    kind: type[T],
    table: object,
    where: str,
    folder: Path = Path(),
    unknown: Unknown = unknown_key,
) -> T:
    """Decode one TOML table; raises `ConfigError` with the place, the value and alternatives.

    ``unknown(key, value, known)`` returns the text of the error for an unknown key of this table.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table")  # not quoted: it may be a secret
    _check_keys(kind, table, where, unknown)

    def convert(wanted: type, value: object) -> object:
        return _converted(wanted, value, folder)

    try:
        return msgspec.convert(table, kind, dec_hook=convert)
    except msgspec.ValidationError as error:
        raise ConfigError(_explained(kind, table, where, str(error))) from error


def _converted(wanted: type, value: object, folder: Path) -> object:
    if wanted is Duration:
        return Duration(_seconds_of(value))
    if wanted is Timeout:
        if not (seconds := _seconds_of(value)):
            raise ValueError("expected a duration greater than 0")
        return Timeout(seconds)
    if wanted is Secret:
        return _secret(value, folder)
    if issubclass(wanted, File):
        if not isinstance(value, str) or not value:
            raise ValueError("expected a path")
        return wanted(folder / value)
    raise NotImplementedError(f"a configuration cannot hold a {wanted.__name__}")


def _seconds_of(value: object) -> float:
    expected = "expected a duration: seconds, or a string like '5s', '250ms', '1m30s'"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(expected)
    if isinstance(value, str):
        try:
            value = durationpy.from_str(value).total_seconds()
        except durationpy.DurationError as error:
            raise ValueError(expected) from error
    if not 0 <= value <= sys.float_info.max:
        raise ValueError("expected a duration that is finite and not negative")
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
                secret = Secret(read_text(folder / name).rstrip("\r\n"))
            except ValueError as error:
                raise ValueError(f"'{name}' {error}") from None
        case _:
            raise ValueError('expected a string, { env = "NAME" } or { file = "PATH" }')
    if not secret.reveal():
        raise ValueError("is empty")
    if isinstance(value, dict) and re.fullmatch(r"\s*(['\"]).*\1\s*", secret.reveal()):
        # In TOML quotes are not part of the value. In a file, and in the env file of a container,
        # they are, and the secret would be wrong with them.
        raise ValueError("is in quotes (remove them)")
    if re.search("[\ud800-\udfff]", secret.reveal()):  # undecodable bytes of a variable
        raise ValueError("is not UTF-8")
    secret.check_hash()
    return secret


def _check_keys(kind: type, table: Mapping[str, Any], where: str, unknown: Unknown) -> None:
    """Raise `ConfigError` for a key that the struct, or a struct inside it, does not have."""
    known = _types(kind)
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{where}.{key}: {unknown(key, value, known)}")
        inner = _struct_in(known[key])
        if inner is not None and isinstance(value, dict):
            _check_keys(inner, value, f"{where}.{key}", unknown_key)


def _types(kind: type) -> dict[str, Any]:
    """Return the keys of a struct as they are in TOML, with their types."""
    return {field.encode_name: field.type for field in structs.fields(kind)}


def _struct_in(hint: object) -> type | None:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint
    parts = get_args(hint) if get_origin(hint) in {Union, UnionType, Annotated} else ()
    return next((found for part in parts if (found := _struct_in(part)) is not None), None)


def _explained(kind: type, table: Mapping[str, Any], where: str, message: str) -> str:
    """Return the text of one of msgspec's errors as a message for operators."""
    problem, _, path = message.partition(" - at `$")
    path = path.rstrip("`")
    value, hint = _at(table, kind, path)
    if missing := re.fullmatch(r"Object missing required field `(.+)`", problem):
        return f"{where}{path}.{missing[1]}: is missing"
    hidden = not path or _holds_secret(hint) or _may_hold_secret(value)
    quoted = "" if hidden else f" '{_quoted(value)}'"
    if problem.startswith("Invalid enum value"):
        problem = f"is not a valid value{nearest(str(value), _choices(hint))}"
    elif problem.startswith("Expected `"):
        problem = re.sub(r"`([^`]*)`", lambda types: _in_words(types[1]), problem)
        problem = problem[0].lower() + problem[1:]
    return f"{where}{path}{quoted}: {problem}"


def _at(table: object, kind: object, path: str) -> tuple[object, object]:
    """Return the value at a path such as ``.pool.sizes[1]``, and its type.

    Return the last value and type on the way if the path cannot be followed further: msgspec
    writes ``[...]`` for the keys of a mapping.
    """
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


def _may_hold_secret(value: object) -> bool:
    """True for the address of a server or a database with credentials in it: its key may be one
    that expects no secret."""
    return re.search(r"://.*@|passw|secret|token", str(value), re.IGNORECASE) is not None


_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a table",
    "str": "a string",
}


def _in_words(types: str) -> str:
    """Return the terms of TOML for msgspec's, such as ``str | array | null``."""
    return " or ".join(_WORDS.get(each, each) for each in types.split(" | ") if each != "null")


def _quoted(value: object) -> str:
    text = str(value)
    if isinstance(value, bool | list | dict):
        text = msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _choices(hint: object) -> set[str]:
    if isinstance(hint, str):
        return {hint}
    return {choice for part in get_args(hint) for choice in _choices(part)}
