"""The page's files, as they are served: read once, known by their paths."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from d_back_page.branding import Branding

LIBRARY = "v1/"
"""Below ``/page/``: what other sites use. These paths stay."""
MODULES = ("d-back-client.js", "d-back-community.js")
"""The files of the npm package, which this package contains."""
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
INDEX = "index.html"
FRAME = "frame.html"
MANIFEST = "page.webmanifest"
UNFRAMED = "'none'"
SERVER = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A public id or server_id in a path."""


def policy(image_hosts: Sequence[str] = (), frame_ancestors: Sequence[str] = ()) -> str:
    """Return the policy of a page: nothing but what this gateway serves, and images of the named
    hosts; no inline script or style."""
    images = " ".join(["'self'", *image_hosts])
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {images}; "
        "manifest-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors {' '.join(frame_ancestors) or UNFRAMED}"
    )


HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": policy(),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
LIBRARY_HEADERS = {
    "Access-Control-Allow-Origin": "*",  # browsers load modules of another host only with this
    "Cache-Control": "public, max-age=300",
    "X-Content-Type-Options": "nosniff",
}


def module(name: str) -> bytes:
    """Read a file of the npm package: from this package, or from the checkout that it is in."""
    packaged = resources("d_back_page").joinpath("library", name)
    if packaged.is_file():
        return packaged.read_bytes()
    return Path(__file__).parents[3].joinpath("clients", "js", name).read_bytes()


class Files:
    """All files of the page, in memory: they are few and small."""

    def __init__(self, branding: Branding, frame_ancestors: Sequence[str] = ()) -> None:
        """Raises ``ValueError`` if the icon's file cannot be used."""
        self._bodies: dict[str, bytes] = {}
        self._headers: dict[str, dict[str, str]] = {}
        for file in resources("d_back_page").joinpath("files").iterdir():
            self._add(file.name, file.read_bytes(), HEADERS)
        for name in MODULES:
            self._add(LIBRARY + name, module(name), LIBRARY_HEADERS)
        hosts = branding.image_hosts
        for name, root, ancestors in ((INDEX, "", ()), (FRAME, "../", frame_ancestors)):
            headers = {**HEADERS, "Content-Security-Policy": policy(hosts, ancestors)}
            self._add(name, branding.fill(self._bodies[name].decode(), root), headers)
        self._add(MANIFEST, branding.manifest(self._bodies[MANIFEST]), HEADERS)
        if branding.accent:
            self._add("brand.css", branding.style(), HEADERS)
        if icon := branding.read_icon():
            self._add("icon", icon[0], HEADERS, icon[1])

    def _add(self, name: str, body: bytes, headers: Mapping[str, str], kind: str = "") -> None:
        kind = kind or TYPES[name[name.rindex(".") :]]
        etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        self._bodies[name] = body
        self._headers[name] = {**headers, "Content-Type": kind, "ETag": etag}

    async def index(self, request: Request) -> Response:
        """Return the page itself."""
        return self._response(INDEX, request)

    async def file(self, request: Request) -> Response:
        """Return the file that the path names."""
        name = request.path_params["name"]
        if name not in self._bodies or name in {INDEX, FRAME}:
            raise HTTPException(404)
        return self._response(name, request)

    async def library(self, request: Request) -> Response:
        """Return the file of the npm package that the path names."""
        name = LIBRARY + request.path_params["name"]
        if name not in self._bodies:
            raise HTTPException(404)
        return self._response(name, request)

    async def frame(self, request: Request) -> Response:
        """Return the page that shows one server, for the frames of other pages."""
        if SERVER.fullmatch(request.path_params["server"]) is None:
            raise HTTPException(404)
        return self._response(FRAME, request)

    def _response(self, name: str, request: Request) -> Response:
        """Return the file, or 304 if the client has it already."""
        headers = self._headers[name]
        known = [tag.strip().removeprefix("W/") for tag in _header(request, "if-none-match")]
        if headers["ETag"] in known:
            return Response(status_code=304, headers=headers)
        return Response(self._bodies[name], headers=headers)


def _header(request: Request, name: str) -> list[str]:
    return ",".join(request.headers.getlist(name)).split(",")
