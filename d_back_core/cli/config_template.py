"""Write a first ``d-back.toml``, with every key of the chosen plugins.

Keys, defaults and comments come from the plugins' ``Config`` structs.
"""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET, Meta, Struct, structs

from d_back_core.config import ChainConfig, GatewayConfig
from d_back_core.config.decoding import Duration, File, WatchedFile
from d_back_core.secret import Secret

WIDTH = 79
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
EXACT = 2**53
"""Whole numbers below it are exact as a float."""
SHOWN_KEYS = ("host", "port", "origins")
"""Keys of ``[gateway]`` in the file; the others are in the documentation."""
HEAD = """\
# The configuration of d-back. A key after a # is not set; it shows its default, or an example.
# Remove the # to set it. `d-back check` checks the file.
"""
SERVERS = """\
# Rules for one server, by its id; see also hide_offline, ignore_users, ignore_channels.
#[servers.123456789012345678]
#alias = "club"
#default = true
#password = { env = "CLUB_PASSWORD" }
"""


class ProviderTable(Struct, frozen=True, kw_only=True):
    """The content of a ``[providers.NAME]`` table."""

    name: str
    summary: str
    options: type[Struct] | None
    """The plugin's ``Config``."""
    given: Mapping[str, object] = {}
    """Key → value, for keys without a default."""


def render(
    tables: Sequence[ProviderTable],
    order: Sequence[str],
    recorders: Sequence[str] = (),
    http: Sequence[str] = (),
) -> str:
    """Return the text of the file. Secrets are references to environment variables."""
    gateway = _table(GatewayConfig, {"http": list(http)} if http else {}, "", SHOWN_KEYS)
    given: dict[str, object] = {"order": list(order)}
    if recorders:
        given["recorders"] = list(recorders)
    chain = _table(ChainConfig, given, "", ("order", "recorders"))
    sections = [HEAD, f"[gateway]\n{gateway}", f"[chain]\n{chain}"]
    sections += [
        "\n".join([*_comment(table.summary), f"[providers.{table.name}]\n"])
        + (_table(table.options, table.given, table.name) if table.options is not None else "")
        for table in tables
    ]
    return "\n".join([*sections, SERVERS])


def variable(provider: str, key: str) -> str:
    """Return the environment variable that the file refers to for a secret."""
    return f"{provider}_{key}".upper().replace("-", "_")


def is_secret(hint: object) -> bool:
    """True if a value of that type is, or can be, a secret."""
    return hint is Secret or any(is_secret(part) for part in get_args(hint))


def required(options: type[Struct] | None) -> list[structs.FieldInfo]:
    """Return the keys without a default."""
    return [] if options is None else [each for each in structs.fields(options) if each.required]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def _table(
    kind: type[Struct], given: Mapping[str, object], provider: str, shown: Iterable[str] = ()
) -> str:
    """Return the keys of a struct, each below its description as a comment."""
    described = descriptions(kind)
    wanted = {*shown, *given}
    lines = []
    for field in structs.fields(kind):
        key = field.encode_name
        if wanted and shown and key not in wanted:
            continue
        lines += _comment(described.get(field.name, ""))
        value = given.get(key, UNSET)
        text = example(field, provider) if value is UNSET else toml(value)
        lines.append(f"{'' if key in given or field.required else '#'}{key} = {text}")
    return "".join(f"{line}\n" for line in lines)


def descriptions(kind: type[Struct]) -> dict[str, str]:
    """Return field → description on one line, for the fields that have one.

    It comes from ``Meta(description=…)``, or from the docstring below the field in the source.
    """
    found: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        if issubclass(cls, Struct) and cls is not Struct:
            found |= _docstrings(cls)
    for field in structs.fields(kind):
        for meta in _metas(field.type):
            if meta.description:
                found[field.name] = meta.description
    return {name: " ".join(text.replace("``", "`").split()) for name, text in found.items()}


def _docstrings(cls: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return {}
    found: dict[str, str] = {}
    for node in tree.body:
        for field, below in pairwise(node.body if isinstance(node, ast.ClassDef) else ()):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = text
    return found


def _metas(hint: object) -> list[Meta]:
    own = [hint] if isinstance(hint, Meta) else []
    return own + [meta for part in get_args(hint) for meta in _metas(part)]


def example(field: structs.FieldInfo, provider: str) -> str:
    """Return a value of the field in TOML: its default, or an example."""
    if is_secret(field.type):
        return f'{{ env = "{variable(provider, field.encode_name)}" }}'
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    if default is None or default is NODEFAULT:
        default = _example_of(field.type)
    return toml(default)


def _example_of(hint: Any) -> Any:  # noqa: ANN401  any type, and a value of that type
    arguments = [each for each in get_args(hint) if each is not type(None)]
    origin = get_origin(hint)
    if origin is Annotated:
        return _example_in_bounds(hint)
    if origin in {Union, UnionType}:
        return _example_of(arguments[0])
    if origin is Literal:
        return arguments[0]
    if hint is Secret:
        return {"env": "NAME"}
    examples = {Duration: "30s", File: "path/to/file", str: "…", int: 0, float: 0.0, bool: False}
    if hint is WatchedFile:
        hint = File
    if hint in examples:
        return examples[hint]
    if inspect.isclass(origin or hint) and issubclass(origin or hint, Mapping | Struct):
        return {each.encode_name: _example_of(each.type) for each in required(_struct(hint))}
    return []


def _example_in_bounds(hint: Any) -> Any:  # noqa: ANN401  the same
    for meta in hint.__metadata__:
        if isinstance(meta, Meta):
            if meta.examples:
                return meta.examples[0]
            if meta.ge is not None:
                return meta.ge
            if meta.gt is not None:
                return meta.gt + 1
    return _example_of(hint.__origin__)


def _struct(hint: Any) -> type[Struct] | None:  # noqa: ANN401  the same
    return hint if inspect.isclass(hint) and issubclass(hint, Struct) else None


def toml(value: object) -> str:
    """Return a value in TOML, on one line; members of tables that are None are left out."""
    return _literal(
        msgspec.to_builtins(value, str_keys=True, enc_hook=_plain, order="deterministic")
    )


def _plain(value: object) -> object:
    """Convert a type that msgspec does not know: `Duration` or `File`."""
    return float(value) if isinstance(value, float) else str(value)


def _literal(value: object) -> str:
    match value:
        case dict():
            pairs = ", ".join(
                f"{key if BARE_KEY.fullmatch(key) else _literal(key)} = {_literal(each)}"
                for key, each in value.items()
                if each is not None
            )
            return f"{{ {pairs} }}" if pairs else "{}"
        case list() | tuple():
            return f"[{', '.join(map(_literal, value))}]"
        case float() if value.is_integer() and abs(value) < EXACT:
            return str(int(value))
        case bool() | str():
            # A JSON string is a TOML string, except for this character.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)
