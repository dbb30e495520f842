"""What plain HTTP requests get: the built-in page or the operator's folder, and a small API."""

import asyncio
import json
import mimetypes
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

from importlib_metadata import version
from msgspec import Struct, field

DISTRIBUTION = "d-back-core"

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>d-back</title>
<style>
  body { font: 1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto }
  @media (prefers-color-scheme: dark) { body { background: #16181d; color: #e6e6e6 } }
</style>
<h1>d-back</h1>
<p>This is a live gateway. Connect a WebSocket client, such as d-zone, to this address.</p>
"""


class Answer(Struct, frozen=True, kw_only=True):
    """An HTTP response."""

    status: HTTPStatus
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Pages:
    """Answers to GET and HEAD requests."""

    def __init__(self, static_dir: str | None, health: Callable[[], bytes]) -> None:
        self._health = health
        self._root = None if static_dir is None else Path(static_dir).resolve()

    async def answer(self, method: str, target: str, known: str) -> Answer:
        """The answer to a request that is no WebSocket handshake; a HEAD's body is left to the
        caller to omit. ``known`` is what the client says in ``If-None-Match``."""
        if method not in {"GET", "HEAD"}:
            allow = {"Allow": "GET, HEAD"}
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, headers=allow)
        try:
            path = unquote(urlsplit(target).path)
        except ValueError:  # a host that is none, as in //[
            return _plain(HTTPStatus.BAD_REQUEST)
        match path:
            case "/healthz":
                return Answer(status=HTTPStatus.OK, body=b"ok\n")
            case "/api/version":
                return _json(json.dumps({"version": version(DISTRIBUTION)}).encode())
            case "/api/health":
                return _json(self._health())
        if self._root is not None:
            found = await asyncio.to_thread(_file, self._root, path)
            return _unmodified(found, known) or found
        if path in {"/", "/index.html"}:
            return _page()
        return _plain(HTTPStatus.NOT_FOUND)


def _plain(status: HTTPStatus, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status=status, body=f"{status.phrase}\n".encode(), headers=headers or {})


def _json(body: bytes) -> Answer:
    return Answer(status=HTTPStatus.OK, content_type="application/json", body=body)


def _page() -> Answer:
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    return Answer(
        status=HTTPStatus.OK,
        content_type="text/html; charset=utf-8",
        body=PAGE.encode(),
        headers={"Content-Security-Policy": policy},
    )


def _file(root: Path, path: str) -> Answer:
    """A file below the root, after all links are resolved; anything else is not there."""
    try:
        found = (root / path.lstrip("/")).resolve(strict=True)
        if found.is_dir():
            found = (found / "index.html").resolve(strict=True)
        if not found.is_relative_to(root) or not found.is_file():
            return _plain(HTTPStatus.NOT_FOUND)
        status = found.stat()
        body = found.read_bytes()
    except (OSError, ValueError, RuntimeError):  # absent, unreadable, a NUL in it, a link loop
        return _plain(HTTPStatus.NOT_FOUND)
    kind, encoding = mimetypes.guess_type(found.name)
    headers = {"ETag": f'"{status.st_mtime_ns:x}-{status.st_size:x}"', "Cache-Control": "no-cache"}
    if encoding is not None:
        kind = "application/octet-stream"
    elif kind is not None and (kind.startswith("text/") or kind == "application/javascript"):
        kind += "; charset=utf-8"
    return Answer(
        status=HTTPStatus.OK,
        content_type=kind or "application/octet-stream",
        body=body,
        headers=headers,
    )


def _unmodified(found: Answer, known: str) -> Answer | None:
    etag = found.headers.get("ETag")
    asked = [tag.strip().removeprefix("W/") for tag in known.split(",")]
    if etag is None or not {etag, "*"} & set(asked):
        return None
    return Answer(
        status=HTTPStatus.NOT_MODIFIED, content_type=found.content_type, headers=found.headers
    )
