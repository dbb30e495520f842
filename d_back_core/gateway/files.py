"""The files of ``gateway.static_dir``."""

import mimetypes
import os
import posixpath
import re
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

CHUNK = 1 << 20
"""Bytes of a file that are read at once, in a thread."""

_device = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*([.:].*)?", re.IGNORECASE
)
"""A name that Windows takes for a device, in any folder and with any suffix."""


class Files(StaticFiles):
    """Serves the files and the ``index.html`` of folders. Names that begin with a dot are not
    served, nor is anything outside of the folder, after all links are resolved. A request for
    several parts of a file gets all of it."""

    def __init__(self, folder: str) -> None:
        super().__init__(directory=folder, html=True, check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        if "," in Headers(scope=scope).get("range", ""):  # many small parts are as many reads
            scope["headers"] = [each for each in scope["headers"] if each[0] != b"range"]
        try:
            response = await super().get_response(path, scope)
        except OSError:  # a link loop
            raise HTTPException(404) from None
        if isinstance(response, RedirectResponse):
            # Relative: the scheme and host that the client sees are those of a proxy.
            response.headers["location"] = f"./{quote(posixpath.basename(scope['path']))}/"
        return response

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        if not is_servable(path):
            return "", None
        found, status = super().lookup_path(path)
        return (found, status) if status and os.access(found, os.R_OK) else ("", None)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        etag = f'"{stat_result.st_mtime_ns:x}-{stat_result.st_ctime_ns:x}-{stat_result.st_size:x}"'
        response = FileResponse(
            full_path,
            status_code=status_code,
            headers={"etag": etag, "cache-control": "no-cache"},
            media_type=_media_type(os.fspath(full_path)),
            stat_result=stat_result,
        )
        response.chunk_size = CHUNK
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response


def is_servable(path: str, *, windows: bool = os.name == "nt") -> bool:
    """Return False for names that begin with a dot, and for devices and shares of Windows."""
    parts = re.split(r"[\\/]" if windows else "/", path)
    if any(part.startswith(".") and part != "." for part in parts):
        return False
    if not windows:
        return True
    return bool(parts[0]) and not any(":" in part or _device.fullmatch(part) for part in parts)


def _media_type(name: str) -> str:
    kind, encoding = mimetypes.guess_type(name)
    if kind is None or encoding is not None:
        return "application/octet-stream"
    return "text/javascript" if kind == "application/javascript" else kind
