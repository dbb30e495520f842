"""An embedding program's own page: what ``on_static_request`` returned → a response.

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
from pathlib import Path, PurePath

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

MAX_PATH = 4096
COMMENTS = ("/*", "//")
"""Scripts and style sheets may begin like this; an absolute path does not."""
_content_type = re.compile(r"[!-~]+/[ -~]+")


async def static_page(answer: object, requested: str) -> Response:
    """Return the response. Raises ``HTTPException`` with 404 if the answer is None, and
    ``TypeError`` if it is not valid. ``requested`` is the path that the client asked for."""
    match answer:
        case None:
            raise HTTPException(404)
        case (str(content_type), bytes() | bytearray() as body) if _is_type(content_type):
            return _content(content_type, bytes(body))
        case (str(content_type), os.PathLike() as path) if _is_type(content_type):
            return await asyncio.to_thread(_file, content_type, Path(path))
        case (str(content_type), str(text)) if _is_type(content_type):
            if await asyncio.to_thread(_is_path, text, requested):
                return await asyncio.to_thread(_file, content_type, Path(text))
            return _content(_with_charset(content_type), text.encode())
    raise TypeError("returned something else than (content type, content or path) or None")


def _content(content_type: str, body: bytes) -> Response:
    return Response(body, headers={"content-type": content_type})


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


def _file(content_type: str, path: Path) -> Response:
    """The file as it is; 404 where there is none, or where the path climbs: what a client had a
    part in may not leave the folder that the program meant."""
    try:
        if ".." not in path.parts and path.is_file() and os.access(path, os.R_OK):
            headers = {"content-type": content_type}
            return FileResponse(path, headers=headers, stat_result=path.stat())
    except (OSError, ValueError):  # gone meanwhile, or a NUL in it
        pass
    return Response("Not Found\n", 404, {"content-type": "text/plain; charset=utf-8"})
