"""The page's files, as they are served: read once, known by their paths."""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files as resources
from pathlib import Path

from d_back_core import HttpResponse

FOLDER = "/page/"
LIBRARY = "/page/v1/"
"""What other sites use: these paths stay."""
MODULES = ("d-back-client.js", "d-back-community.js")
"""The files of the npm package, which this package contains."""
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
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

    def __init__(self) -> None:
        self._answers: dict[str, HttpResponse] = {}
        for file in resources("d_back_page").joinpath("files").iterdir():
            self._add(FOLDER + file.name, file.read_bytes(), HEADERS)
        for name in MODULES:
            self._add(LIBRARY + name, module(name), LIBRARY_HEADERS)
        index = self._answers.pop(f"{FOLDER}index.html")
        self._answers |= {"/": index, "/index.html": index}

    def _add(self, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        content_type = TYPES[path[path.rindex(".") :]]
        answer = HttpResponse(
            content_type=content_type, body=body, headers={**headers, "ETag": etag}
        )
        self._answers[path] = answer

    def answer(self, path: str, headers: Mapping[str, str]) -> HttpResponse | None:
        """The file at that path, or that the client has it already; None: there is none."""
        found = self._answers.get(path)
        if found is None:
            return None
        known = [tag.strip().removeprefix("W/") for tag in _header(headers, "if-none-match")]
        if found.headers["ETag"] not in known:
            return found
        return HttpResponse(
            status=HTTPStatus.NOT_MODIFIED, content_type=found.content_type, headers=found.headers
        )


def _header(headers: Mapping[str, str], name: str) -> list[str]:
    return headers.get(name, "").split(",")
