"""Answers to plain HTTP requests: the API, the providers' pages, and static files or the
built-in page, in this order."""

import asyncio
import mimetypes
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import msgspec
from importlib_metadata import version

from d_back_core.errors import JoinError
from d_back_core.gateway.user_list import user_list
from d_back_core.web import HttpRequest, HttpResponse
from d_back_core.wire.frames import Body

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


class HttpBackend(Protocol):
    """What HTTP requests need of the live state."""

    @property
    def is_ready(self) -> bool:
        """True if the list of servers is known."""

    def health(self) -> bytes:
        """Return the states of the providers as JSON, without anything confidential."""

    def server_data(self, wanted: str | None) -> bytes:
        """Return the servers, or one of them, as JSON; raises `JoinError`."""

    async def users_of(self, wanted: str, authorization: str, address: str) -> tuple[Body, bool]:
        """Return the users of a server as JSON, and True if every client may have it; raises
        `JoinError`."""

    async def page(self, request: HttpRequest) -> HttpResponse | None:
        """Return the answer of the first provider that serves this path; None if none does."""


class HttpPages:
    """Answers requests that are not WebSocket handshakes."""

    def __init__(self, static_dir: str | None, backend: HttpBackend) -> None:
        self.draining = False
        """True if the gateway accepts no more clients; `/readyz` then answers 503."""
        self._backend = backend
        self._root = None if static_dir is None else Path(static_dir).resolve()

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Return the answer, also to a HEAD request with its body."""
        if request.method == "OPTIONS":
            return HttpResponse(status=HTTPStatus.NO_CONTENT, headers=dict(ALLOW))
        if request.method not in {"GET", "HEAD"}:
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, dict(ALLOW))
        builtin = await self._builtin(request)
        if builtin is not None:
            return builtin
        page = await self._backend.page(request)
        if page is not None:
            return page
        if self._root is not None:
            found = await asyncio.to_thread(_file, self._root, request.path)
            return _unmodified(found, request.headers.get("if-none-match", "")) or found
        if request.path in {"/", "/index.html"}:
            return _page()
        return _plain(HTTPStatus.NOT_FOUND)

    async def _builtin(self, request: HttpRequest) -> HttpResponse | None:
        match request.path.split("/")[1:]:
            case ["healthz"]:
                return HttpResponse(body=b"ok\n")
            case ["readyz"]:
                ready = self._backend.is_ready and not self.draining
                return HttpResponse(body=b"ready\n") if ready else _plain(UNREADY)
            case ["api", "version"]:
                return _json(msgspec.json.encode({"version": version(DISTRIBUTION)}))
            case ["api", "health"]:
                return _json(self._backend.health())
            case ["api", "servers"]:
                return _json(self._backend.server_data(None))
            case ["api", "servers", wanted]:
                return await self._users(wanted, request)
        return None

    async def _users(self, wanted: str, request: HttpRequest) -> HttpResponse:
        authorization = request.headers.get("authorization", "")
        try:
            users_of = self._backend.users_of
            users, public = await users_of(wanted, authorization, request.address)
        except JoinError as error:
            refused = error.code in {"unauthorized", "authentication_failed"}
            status = HTTPStatus.UNAUTHORIZED if refused else HTTPStatus.NOT_FOUND
            if error.code == "rate_limited":
                status = HTTPStatus.TOO_MANY_REQUESTS
            headers = {"WWW-Authenticate": 'Bearer, Basic realm="d-back"'} if refused else {}
            body = msgspec.json.encode({"error": {"message": str(error), "code": error.code}})
            return HttpResponse(
                status=status, content_type="application/json", body=body, headers=headers
            )
        status, headers, parts = user_list(
            users,
            public=public,
            if_none_match=request.headers.get("if-none-match", ""),
            accept_encoding=request.headers.get("accept-encoding", ""),
        )
        return HttpResponse(
            status=status,
            content_type="application/json",
            body=b"".join(parts),
            headers=headers,
        )


UNREADY = HTTPStatus.SERVICE_UNAVAILABLE
ALLOW = {"Allow": "GET, HEAD, OPTIONS"}


def _plain(status: HTTPStatus, headers: dict[str, str] | None = None) -> HttpResponse:
    return HttpResponse(status=status, body=f"{status.phrase}\n".encode(), headers=headers or {})


def _json(body: bytes) -> HttpResponse:
    headers = {"Cache-Control": "no-store"}
    return HttpResponse(content_type="application/json", body=body, headers=headers)


def _page() -> HttpResponse:
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    return HttpResponse(
        content_type="text/html; charset=utf-8",
        body=PAGE.encode(),
        headers={"Content-Security-Policy": policy},
    )


def _file(root: Path, path: str) -> HttpResponse:
    """Return a file below the root, after all links are resolved; 404 for anything else."""
    try:
        found = (root / path.lstrip("/")).resolve(strict=True)
        if found.is_dir():
            found = (found / "index.html").resolve(strict=True)
        if not found.is_relative_to(root) or not found.is_file():
            return _plain(HTTPStatus.NOT_FOUND)
        status = found.stat()
        body = found.read_bytes()
    except (OSError, ValueError, RuntimeError):  # absent, unreadable, NUL in the path, link loop
        return _plain(HTTPStatus.NOT_FOUND)
    kind, encoding = mimetypes.guess_type(found.name)
    headers = {"ETag": f'"{status.st_mtime_ns:x}-{status.st_size:x}"', "Cache-Control": "no-cache"}
    if encoding is not None:
        kind = "application/octet-stream"
    elif kind is not None and (kind.startswith("text/") or kind == "application/javascript"):
        kind += "; charset=utf-8"
    kind = kind or "application/octet-stream"
    return HttpResponse(content_type=kind, body=body, headers=headers)


def _unmodified(found: HttpResponse, known: str) -> HttpResponse | None:
    etag = found.headers.get("ETag")
    asked = [tag.strip().removeprefix("W/") for tag in known.split(",")]
    if etag is None or not {etag, "*"} & set(asked):
        return None
    return HttpResponse(
        status=HTTPStatus.NOT_MODIFIED, content_type=found.content_type, headers=found.headers
    )
