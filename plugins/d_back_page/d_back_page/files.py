"""The page's files, as they are served: read once, known by their paths."""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files as resources

from d_back_core import HttpResponse

FOLDER = "/page/"
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


class Files:
    """All files of the page, in memory: they are few and small."""

    def __init__(self) -> None:
        self._answers: dict[str, HttpResponse] = {}
        for file in resources("d_back_page").joinpath("files").iterdir():
            body = file.read_bytes()
            suffix = file.name[file.name.rindex(".") :]
            etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            headers = {**HEADERS, "ETag": etag}
            answer = HttpResponse(content_type=TYPES[suffix], body=body, headers=headers)
            self._answers[FOLDER + file.name] = answer
        index = self._answers.pop(f"{FOLDER}index.html")
        self._answers |= {"/": index, "/index.html": index}

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
