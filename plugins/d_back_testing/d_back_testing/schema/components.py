"""The JSON Schemas of structs, with the docstrings of their fields as descriptions."""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import pairwise
from typing import Any, get_args

import msgspec
from msgspec import Struct, structs

CORE = "d-back-core"
TEMPLATE = "#/components/schemas/{name}"


def info(title: str, description: str) -> dict[str, Any]:
    """Return what both documents say of themselves."""
    return {
        "title": title,
        "version": version(CORE),
        "description": description,
        "license": {"name": "MIT", "url": "https://opensource.org/license/mit"},
    }


def schemas(kinds: Iterable[type[Struct]]) -> dict[str, Any]:
    """Return the schema of each of these structs, and of each struct in them, by its name."""
    wanted = list(kinds)
    _, found = msgspec.json.schema_components(wanted, ref_template=TEMPLATE)
    for kind in _structs(wanted):
        schema = found[kind.__name__]
        schema["description"] = text_of(kind)
        for field, description in _field_docstrings(kind).items():
            schema["properties"][field]["description"] = description
    return found


def reference(kind: type[Struct]) -> dict[str, str]:
    """Return the reference to the schema of a struct."""
    return {"$ref": TEMPLATE.format(name=kind.__name__)}


def text_of(kind: type[Struct]) -> str:
    """Return the docstring of a struct as Markdown."""
    return _markdown(inspect.getdoc(kind) or "")


def _structs(hints: Iterable[object]) -> Iterator[type[Struct]]:
    """Yield every struct in these types."""
    for hint in hints:
        if isinstance(hint, type) and issubclass(hint, Struct):
            yield hint
            yield from _structs(field.type for field in structs.fields(hint))
        else:
            yield from _structs(get_args(hint))


def _field_docstrings(kind: type[Struct]) -> dict[str, str]:
    """Return the docstring below each field that has one, by the field's name on the wire."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    names = {field.name: field.encode_name for field in structs.fields(kind)}
    found: dict[str, str] = {}
    for first, second in pairwise(getattr(definition, "body", ())):
        match first, second:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[names[name]] = _markdown(text)
    return found


def _markdown(docstring: str) -> str:
    """Return a docstring of Python as a description in JSON's words."""
    text = re.sub(r"\bNone\b", "null", inspect.cleandoc(docstring).replace("``", "`"))
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text)
