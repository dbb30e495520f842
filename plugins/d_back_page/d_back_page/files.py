"""The page's files, as they are served: read once, known by their paths."""

import hashlib
from importlib.resources import files as resources

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
INDEX = "index.html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; "
    "manifest-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Nothing but what this gateway serves; no inline script or style, no frame around it."""
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Files:
    """All files of the page, in memory: they are few and small."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}
        self._headers: dict[str, dict[str, str]] = {}
        for file in resources("d_back_page").joinpath("files").iterdir():
            body = file.read_bytes()
            kind = TYPES[file.name[file.name.rindex(".") :]]
            etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            self._bodies[file.name] = body
            self._headers[file.name] = {**HEADERS, "Content-Type": kind, "ETag": etag}

    async def index(self, request: Request) -> Response:
        """Return the page itself."""
        return self._response(INDEX, request)

    async def file(self, request: Request) -> Response:
        """Return the file that the path names."""
        name = request.path_params["name"]
        if name not in self._bodies or name == INDEX:
            raise HTTPException(404)
        return self._response(name, request)

    def _response(self, name: str, request: Request) -> Response:
        """Return the file, or 304 if the client has it already."""
        headers = self._headers[name]
        known = [tag.strip().removeprefix("W/") for tag in _header(request, "if-none-match")]
        if headers["ETag"] in known:
            return Response(status_code=304, headers=headers)
        return Response(self._bodies[name], headers=headers)


def _header(request: Request, name: str) -> list[str]:
    return ",".join(request.headers.getlist(name)).split(",")
