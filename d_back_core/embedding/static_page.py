"""An embedding program's own page: what ``on_static_request`` returned → an HTTP response.

The second half of its pair is the content, as d-back 0.0.x documented it, or the path of a file,
as it was in fact taken there. What is neither bytes nor a ``Path`` has to be told apart.
"""

import asyncio
import os
import re
from http import HTTPStatus
from pathlib import Path, PurePath

from d_back_core.web import HttpResponse

MAX_PATH = 4096
NOT_FOUND = HttpResponse(status=HTTPStatus.NOT_FOUND, body=b"Not Found\n")
_content_type = re.compile(r"[!-~]+/[ -~]+")


async def static_page(answer: object, requested: str) -> HttpResponse | None:
    """The response; None where the answer is. Raises ``TypeError`` where it is none of what it
    can be. ``requested`` is the path that the client asked for."""
    if answer is None:
        return None
    match answer:
        case (str(content_type), bytes() | bytearray() as body) if _is_type(content_type):
            return HttpResponse(content_type=content_type, body=bytes(body))
        case (str(content_type), os.PathLike() as path) if _is_type(content_type):
            return await asyncio.to_thread(_file, content_type, Path(path))
        case (str(content_type), str(text)) if _is_type(content_type):
            named = _as_path(text, requested)
            if named is not None and await asyncio.to_thread(named.is_file):
                return await asyncio.to_thread(_file, content_type, named)
            return HttpResponse(content_type=_with_charset(content_type), body=text.encode())
    raise TypeError("returned something else than (content type, content or path) or None")


def _is_type(content_type: str) -> bool:
    return _content_type.fullmatch(content_type) is not None


def _with_charset(content_type: str) -> str:
    is_bare = content_type.startswith("text/") and "charset" not in content_type.lower()
    return f"{content_type}; charset=utf-8" if is_bare else content_type


def _as_path(text: str, requested: str) -> Path | None:
    """The path that a text may be. None where it must be content: it has no file's name, or a
    client had it in the path that it asked for, and would choose the file."""
    name = text.rpartition(os.sep)[2]
    if not text.isprintable() or len(text) > MAX_PATH or not PurePath(name).suffix:
        return None
    return None if text in requested else Path(text)


def _file(content_type: str, path: Path) -> HttpResponse:
    """The file as it is; 404 where there is none, or where the path climbs: what a client had a
    part in may not leave the folder that the program meant."""
    try:
        if ".." in path.parts or not path.is_file():
            return NOT_FOUND
        return HttpResponse(content_type=content_type, body=path.read_bytes())
    except (OSError, ValueError):  # unreadable, or a NUL in it
        return NOT_FOUND
