"""Everything that is not a WebSocket connection, as one ASGI application.

The API's own paths come first, then the routes of the providers in the order of ``gateway.http``,
then the files of ``static_dir`` or the built-in page. A configuration makes a new `Site`.
"""

import asyncio
from collections.abc import Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

import msgspec
from importlib_metadata import version
from msgspec import Struct
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from d_back_core.config import Config
from d_back_core.errors import JoinError
from d_back_core.gateway.admission import Admission
from d_back_core.gateway.files import Files
from d_back_core.gateway.rate_limits import peer_of
from d_back_core.gateway.user_list import user_list
from d_back_core.wire import protocol
from d_back_core.wire.frames import Body

DISTRIBUTION = "d-back-core"
MAX_TARGET = 8192
"""Bytes of a request's target."""
ADDRESS = "d_back.address"
"""Where the scope has the address under which guesses count."""
SLICE = 262_144
"""Bytes of a shared body that are sent at once."""
MAX_HEADERS = 16_384
"""Bytes of a request's headers."""
SECURITY = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
PROBES = ("/healthz", "/readyz")
"""Paths without a limit: a load balancer would end the gateway when it is needed most."""
ROOT = ("/", "")
"""Paths of a route, and of an application that is mounted, at ``/``."""
PAGE_PATHS = ("/", "/index.html")
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


class Version(Struct, frozen=True):
    """The answer of ``/api/version``."""

    version: str
    """The version of d-back-core."""


class HttpBackend(Protocol):
    """What HTTP requests need of the live state."""

    @property
    def is_ready(self) -> bool:
        """True if the list of servers is known."""

    def provider_problem(self, name: str) -> str:
        """Return why the provider is not ready, "" if it is; raises `KeyError` without one."""

    def health(self) -> bytes:
        """Return the states of the providers as JSON, without anything confidential."""

    def server_data(self, wanted: str | None) -> bytes:
        """Return the servers, or one of them, as JSON; raises `JoinError`."""

    async def users_of(self, wanted: str, authorization: str, address: str) -> tuple[Body, bool]:
        """Return the users of a server as JSON, and True if every client may have it; raises
        `JoinError`."""

    def routes(self) -> Sequence[Sequence[BaseRoute]]:
        """Return the routes of each provider in ``gateway.http``, in this order."""


class Site:
    """Answers requests. ``is_open`` returns False while the gateway accepts no more clients."""

    def __init__(
        self,
        config: Config,
        backend: HttpBackend,
        admission: Admission,
        is_open: Callable[[], bool],
    ) -> None:
        self._backend = backend
        self._admission = admission
        self._is_open = is_open
        self._limits = config.limits
        static_dir = config.gateway.static_dir
        page = [Route(path, _page) for path in PAGE_PATHS]
        rest: ASGIApp = _router(page, _not_found) if static_dir is None else Files(static_dir)
        provided = backend.routes()
        for routes in reversed(provided):
            rest = _router(routes, rest)
        self.has_page = static_dir is not None or any(
            getattr(route, "path", None) in ROOT for routes in provided for route in routes
        )
        """True if ``/`` shows more than the built-in page."""
        app = Starlette(
            routes=[
                Route("/healthz", _healthz),
                Route("/readyz", self._readyz),
                Route("/readyz/{provider}", self._provider_readyz),
                Route("/api/version", _version),
                Route("/api/health", self._health),
                Route("/api/servers", self._servers),
                Route("/api/servers/{wanted}", self._users),
            ],
            exception_handlers={HTTPException: _refused},
        )
        app.router.redirect_slashes = False
        app.router.default = rest
        self._app = app
        self.routes = app.routes
        """The gateway's own paths."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, within the limits, with the headers that every answer has."""
        headers = Headers(scope=scope)
        peer, port = scope["client"] or ("", 0)
        address = self._admission.address(peer, _all(headers, "x-forwarded-for"))
        more = {
            "date": formatdate(usegmt=True),
            **SECURITY,
            **self._admission.cors(_all(headers, "origin"), headers.get("host", "")),
        }

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                names = {name.lower() for name, _ in given}
                message["headers"] = given + [
                    (name.encode(), value.encode())
                    for name, value in more.items()
                    if name.encode() not in names or name == "vary"
                ]
            await send(message)

        client = peer_of(address)
        scope = dict(scope, client=(client, port) if client else None)
        scope[ADDRESS] = address
        refusal = _refusal(scope, headers, self._limits.body_size)
        counted = self._admission.counted(address)
        proxied = counted if address != peer else ""
        if refusal is None and scope["path"] not in PROBES:
            over = self._admission.request(counted) or self._admission.claim(proxied)
            refusal = None if over is None else _plain(*over, {"Retry-After": "1"})
        elif refusal is None:
            proxied = ""
        if refusal is not None:
            await refusal(scope, receive, complete)
            return
        try:
            body = _Body(receive, self._limits.body_size, self._limits.body_timeout)
            await self._app(scope, body.receive, complete)
        finally:
            self._admission.release(proxied)

    async def _readyz(self, _: Request) -> Response:
        if not self._is_open():
            return _readiness("the gateway is stopping")
        is_ready = self._backend.is_ready
        return _readiness("" if is_ready else "no provider has listed its servers yet")

    async def _provider_readyz(self, request: Request) -> Response:
        name = request.path_params["provider"]
        try:
            return _readiness(self._backend.provider_problem(name))
        except KeyError:
            return _plain(HTTPStatus.NOT_FOUND, "no provider has this name")

    async def _health(self, _: Request) -> Response:
        return _json(self._backend.health())

    async def _servers(self, _: Request) -> Response:
        return _json(self._backend.server_data(None))

    async def _users(self, request: Request) -> Response:
        wanted = request.path_params["wanted"]
        authorization = request.headers.get("authorization", "")
        address = request.scope[ADDRESS]
        try:
            users, public = await self._backend.users_of(wanted, authorization, address)
        except JoinError as error:
            status = HTTPStatus.NOT_FOUND
            headers = {}
            if error.code in {"unauthorized", "authentication_failed"}:
                status = HTTPStatus.UNAUTHORIZED
                headers["WWW-Authenticate"] = 'Bearer, Basic realm="d-back"'
            elif error.code == "rate_limited":
                status = HTTPStatus.TOO_MANY_REQUESTS
            body = protocol.http_error(error.code, str(error))
            return Response(body, status, headers, "application/json")
        return _Pieces(
            *user_list(
                users,
                public=public,
                if_none_match=_all(request.headers, "if-none-match"),
                accept_encoding=_all(request.headers, "accept-encoding"),
            )
        )


class _Pieces(Response):
    """A body that all answers share: it is sent in slices, and copied only as far as the client
    reads."""

    def __init__(
        self, status: HTTPStatus, headers: dict[str, str], pieces: Sequence[bytes]
    ) -> None:
        super().__init__(status_code=status, headers=headers, media_type="application/json")
        if status is HTTPStatus.OK:
            self.headers["content-length"] = str(sum(map(len, pieces)))
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """As in ASGI."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        for piece in self._pieces if scope["method"] == "GET" else ():
            for at in range(0, len(piece), SLICE):
                body = piece[at : at + SLICE]
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Body:
    """The body of one request: as large, and as slow, as it may be."""

    def __init__(self, receive: Receive, size: int, seconds: float) -> None:
        self._receive = receive
        self._left = size
        self._ends = asyncio.get_running_loop().time() + seconds
        self._complete = False

    async def receive(self) -> Message:
        """As in ASGI. Raises `HTTPException` with 408 or 413."""
        if self._complete:  # what comes now is the end of the connection
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT) from None
        self._left -= len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._left < 0:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message


def _refusal(scope: Scope, headers: Headers, body_size: int) -> Response | None:
    """Return the answer to a request that no route sees."""
    if "websocket" in _all(headers, "upgrade").lower():
        needed = {"Upgrade": "websocket", "Connection": "Upgrade"}
        return _plain(HTTPStatus.UPGRADE_REQUIRED, headers=needed)
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET:
        return _plain(HTTPStatus.REQUEST_URI_TOO_LONG)
    if sum(len(name) + len(value) + len(": \r\n") for name, value in headers.raw) > MAX_HEADERS:
        return _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > body_size:
        return _plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return None


def _router(routes: Sequence[BaseRoute], rest: ASGIApp) -> ASGIApp:
    """Return the application of one provider; ``rest`` answers what it does not."""
    for route in routes:
        if getattr(route, "path", None) == "":
            rest = _fallback(route, rest)
    inner = [route for route in routes if getattr(route, "path", None) != ""]
    return Router(inner, redirect_slashes=False, default=rest) if inner else rest


def _fallback(route: BaseRoute, rest: ASGIApp) -> ASGIApp:
    """Return an application that is mounted at the root: it gets every path, and passes on those
    for which it raises 404."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await route(dict(scope), receive, send)
        except HTTPException as error:
            if error.status_code != HTTPStatus.NOT_FOUND:
                raise
            await rest(scope, receive, send)

    return app


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001  ASGI
    raise HTTPException(HTTPStatus.NOT_FOUND)


async def _page(_: Request) -> Response:
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _version(_: Request) -> Response:
    return _json(msgspec.json.encode(Version(version(DISTRIBUTION))))


async def _refused(request: Request, error: Exception) -> Response:
    """Return the answer to an `HTTPException` of any route."""
    status = HTTPStatus(getattr(error, "status_code", HTTPStatus.INTERNAL_SERVER_ERROR))
    headers = dict(getattr(error, "headers", None) or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = {"OPTIONS", *headers.pop("Allow", "").split(", ")} - {""}
        headers["Allow"] = ", ".join(sorted(allowed))
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    return _plain(status, headers=headers)


def _plain(
    status: HTTPStatus, reason: str = "", headers: dict[str, str] | None = None
) -> Response:
    text = f"{status.phrase}: {reason}\n" if reason else f"{status.phrase}\n"
    return PlainTextResponse(text, status, headers)


def _readiness(problem: str) -> Response:
    if not problem:
        return PlainTextResponse("ready\n")
    return _plain(HTTPStatus.SERVICE_UNAVAILABLE, problem)


def _json(body: bytes) -> Response:
    return Response(body, 200, {"Cache-Control": "no-store"}, "application/json")


def _all(headers: Headers, name: str) -> str:
    """Return all values of a header, which a client may send more than once."""
    return ", ".join(headers.getlist(name))
