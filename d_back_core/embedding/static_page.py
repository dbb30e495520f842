"""An embedding program's own page: what ``on_static_request`` returned → an HTTP response.

The second half of its pair is the content, as d-back 0.0.x documented it, or the path of a file,
as it was in fact taken there. Bytes are content and a ``Path`` is a file. A ``str`` can be either:

- what the client sent itself is content: a client must not choose a file;
- an absolute path, and a text that ends with the requested path, is a path, also if there is no
  such file: the answer then is 404, and clients never see the path;
- a relative path of an existing file that has a suffix is a path;
- everything else is content.
"""

import asyncio
import os
import re
from http import HTTPStatus
from pathlib import Path, PurePath

from d_back_core.web import HttpResponse

MAX_PATH = 4096
COMMENTS = ("/*", "//")
"""Scripts and style sheets may begin like this; an absolute path does not."""
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
            if await asyncio.to_thread(_is_path, text, requested):
                return await asyncio.to_thread(_file, content_type, Path(text))
            return HttpResponse(content_type=_with_charset(content_type), body=text.encode())
    raise TypeError("returned something else than (content type, content or path) or None")


def _is_type(content_type: str) -> bool:
    return _content_type.fullmatch(content_type) is not None


def _with_charset(content_type: str) -> str:
    is_bare = content_type.startswith("text/") and "charset" not in content_type.lower()
    return f"{content_type}; charset=utf-8" if is_bare else content_type


def _is_path(text: str, requested: str) -> bool:
    if text in requested or len(text) > MAX_PATH + len(requested):
        return False
    # A request may contain any character. What the program has added to it must be one line.
    if any(not char.isprintable() and char not in requested for char in text):
        return False
    asked = requested.lstrip("/")
    if asked and text.replace(os.sep, "/").endswith(f"/{asked}"):
        return True
    if Path(text).is_absolute() and not text.startswith(COMMENTS):
        return True
    return bool(PurePath(text).suffix) and os.path.isfile(text)  # noqa: PTH113  never raises


def _file(content_type: str, path: Path) -> HttpResponse:
    """The file as it is; 404 where there is none, or where the path climbs: what a client had a
    part in may not leave the folder that the program meant."""
    try:
        if ".." in path.parts or not path.is_file():
            return NOT_FOUND
        return HttpResponse(content_type=content_type, body=path.read_bytes())
    except (OSError, ValueError):  # unreadable, or a NUL in it
        return NOT_FOUND
