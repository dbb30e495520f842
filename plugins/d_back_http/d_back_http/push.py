"""Push: the paths that other programs send to.

    PUT    /http/SERVER               the fields of a server
    DELETE /http/SERVER               the server and its users
    PUT    /http/SERVER/users         all users of a server
    PATCH  /http/SERVER/users/UID     fields of one user
    DELETE /http/SERVER/users/UID     one user
    POST   /http/SERVER/messages      a chat message
    PATCH  /http/SERVER/messages/ID   its new text
    DELETE /http/SERVER/messages/ID   the message

Every request may be sent again: it then changes nothing. For messages, ``Idempotency-Key`` says
that two of them are the same.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from http import HTTPStatus
from typing import TypeAlias, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from d_back_core import Clock, Event
from d_back_http import bodies, openapi
from d_back_http.bodies import Refusal
from d_back_http.config import HttpConfig, PushSource
from d_back_http.pending import Chat, Pending
from d_back_http.polling import Polling
from d_back_http.pushed import Pushed

IN_THREAD = 65_536
"""Bytes from which a body is decoded in a thread."""
MAX_KEYS = 10_000
"""Values of ``Idempotency-Key`` that are remembered."""
KEPT = 600.0
"""Seconds for which they are remembered."""
MAX_KEY = 255
"""Characters of one."""
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

T = TypeVar("T")
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class Push:
    """The routes of one provider. `run` is what there is while it runs."""

    def __init__(self, config: HttpConfig, pushed: Pushed) -> None:
        self._config = config
        self._pushed = pushed
        self._pending: Pending | None = None
        self._polling: Polling | None = None
        self._keys = _Keys()

    def run(self, pending: Pending | None, polling: Polling | None, clock: Clock | None) -> None:
        """Send events there from now on; None: nowhere."""
        self._pending = pending
        self._polling = polling
        self._keys.clock = clock

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        path = self._config.path
        allowed: dict[str, dict[str, Endpoint]] = {
            f"{path}/{{server_id}}": {"PUT": self._put_server, "DELETE": self._delete_server},
            f"{path}/{{server_id}}/users": {"PUT": self._put_users},
            f"{path}/{{server_id}}/users/{{uid}}": {
                "PATCH": self._patch_user,
                "DELETE": self._delete_user,
            },
            f"{path}/{{server_id}}/messages": {"POST": self._post_message},
            f"{path}/{{server_id}}/messages/{{message_id}}": {
                "PATCH": self._patch_message,
                "DELETE": self._delete_message,
            },
        }
        routes: list[BaseRoute] = [
            Route(f"{path}/openapi.json", self._openapi, methods=["GET"], name="openapi")
        ]
        for each, endpoints in allowed.items():
            routes.append(Route(each, _dispatch(endpoints), methods=METHODS))
        routes.append(Route(f"{path}/{{rest:path}}", _dispatch({}), methods=METHODS))
        return routes

    async def _openapi(self, _: Request) -> Response:
        return _json(HTTPStatus.OK, openapi.document(self._config.path))

    async def _put_server(self, request: Request) -> Response:
        server_id = self._authorized(request)
        server = await _decoded(request, bodies.server)
        return self._done(self._pushed.put_server(server_id, server))

    async def _delete_server(self, request: Request) -> Response:
        return self._done(self._pushed.remove_server(self._authorized(request)))

    async def _put_users(self, request: Request) -> Response:
        server_id = self._authorized(request)
        users = await _decoded(request, bodies.users)
        return self._done(self._pushed.put_users(server_id, users))

    async def _patch_user(self, request: Request) -> Response:
        server_id, uid = self._authorized(request), self._id(request, "uid")
        changes = await _decoded(request, bodies.user)
        self._check_users(server_id)
        return self._done(self._pushed.patch_user(server_id, uid, changes))

    async def _delete_user(self, request: Request) -> Response:
        server_id, uid = self._authorized(request), self._id(request, "uid")
        self._check_users(server_id)
        return self._done(self._pushed.remove_user(server_id, uid))

    async def _post_message(self, request: Request) -> Response:
        server_id = self._authorized(request)
        body = await request.body()
        message = await _converted(body, lambda raw: bodies.message(raw, server_id))
        return self._said(request, message, body)

    async def _patch_message(self, request: Request) -> Response:
        server_id, message_id = self._authorized(request), self._id(request, "message_id")
        body = await request.body()
        edit = await _converted(body, lambda raw: bodies.edit(raw, server_id, message_id))
        return self._said(request, edit, body)

    async def _delete_message(self, request: Request) -> Response:
        server_id, message_id = self._authorized(request), self._id(request, "message_id")
        deletion = bodies.deletion(request.query_params, server_id, message_id)
        return self._said(request, deletion, b"")

    def _said(self, request: Request, chat: Chat, body: bytes) -> Response:
        """Send it to clients, unless it was sent before with the same ``Idempotency-Key``."""
        server_id = chat.server_id
        if self._polling is None or not self._polling.knows(server_id):
            self._check_users(server_id)
        pending = self._running()
        key = request.headers.get("idempotency-key", "")
        if len(key) > MAX_KEY:
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                "invalid_header",
                f"Idempotency-Key: is longer than {MAX_KEY} characters",
            )
        asked = f"{request.method} {request.url}\n".encode() + body
        if key and self._keys.is_known(server_id, key, asked):
            return Response(status_code=HTTPStatus.NO_CONTENT)
        if not pending.say(chat):
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS, "too_many_messages", "too many messages wait"
            )
        if key:
            self._keys.add(server_id, key, asked)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _authorized(self, request: Request) -> str:
        """Return the server_id of the path, if the program may push it."""
        name, source = self._source(request.headers.get("authorization", ""))
        server_id = self._id(request, "server_id")
        if source.servers and server_id not in source.servers:
            allowed = ", ".join(sorted(source.servers))
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "forbidden",
                f"source '{name}' may not push server '{server_id}' (push.{name}.servers:"
                f" {allowed})",
            )
        return server_id

    def _source(self, authorization: str) -> tuple[str, PushSource]:
        scheme, _, secret = authorization.partition(" ")
        # Each is compared, so that the time does not tell which one is nearly right.
        found = [
            (name, source)
            for name, source in self._config.push.items()
            if source.secret.matches(secret.strip())
        ]
        if scheme.lower() != "bearer" or not found:
            problem = "is missing" if not authorization else "is not that of a source"
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized",
                f"Authorization: {problem}, expected 'Bearer SECRET' with a secret of push.NAME",
            )
        return found[0]

    @staticmethod
    def _id(request: Request, kind: str) -> str:
        value: str = request.path_params[kind]
        bodies.check_id(value, kind)
        return value

    def _check_users(self, server_id: str) -> None:
        if server_id not in self._pushed.users:
            raise Refusal(
                HTTPStatus.CONFLICT,
                "push_all_first",
                f"the users of server '{server_id}' are not known since d-back was started:"
                f" PUT {self._config.path}/{server_id}/users first",
            )

    def _running(self) -> Pending:
        if self._pending is None:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE)
        return self._pending

    def _done(self, events: Sequence[Event]) -> Response:
        pending = self._running()
        for event in events:
            pending.put(event)
        return Response(status_code=HTTPStatus.NO_CONTENT)


class _Keys:
    """The requests about messages that were sent with an ``Idempotency-Key``."""

    def __init__(self) -> None:
        self.clock: Clock | None = None
        self._seen: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()

    def is_known(self, server_id: str, key: str, asked: bytes) -> bool:
        """True if it was this request. Raises `Refusal` if it was another one."""
        now = self._now()
        while self._seen and next(iter(self._seen.values()))[0] < now - KEPT:
            self._seen.popitem(last=False)
        found = self._seen.get((server_id, key))
        if found is not None and found[1] != blake2b(asked).digest():
            raise Refusal(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "key_reused",
                "Idempotency-Key: another request was sent with it",
            )
        return found is not None

    def add(self, server_id: str, key: str, asked: bytes) -> None:
        """Remember it."""
        self._seen[server_id, key] = (self._now(), blake2b(asked).digest())
        if len(self._seen) > MAX_KEYS:
            self._seen.popitem(last=False)

    def _now(self) -> float:
        return 0.0 if self.clock is None else self.clock.time()


def _dispatch(endpoints: "dict[str, Endpoint]") -> Endpoint:
    """One endpoint for all methods, whose refusals are JSON."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoints.get(request.method, impossible)(request)
        except Refusal as error:
            more = {"WWW-Authenticate": "Bearer"} if error.code == "unauthorized" else {}
            if error.code == "method_not_allowed":
                more["Allow"] = ", ".join(endpoints)
            return _refused(error, more)

    async def impossible(request: Request) -> Response:
        if not endpoints:
            problem = f"there is no path {request.url.path}"
            raise Refusal(HTTPStatus.NOT_FOUND, "not_found", problem)
        raise Refusal(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "method_not_allowed",
            f"{request.method} is not possible here (possible: {', '.join(endpoints)})",
        )

    return answer


def _refused(error: Refusal, headers: dict[str, str]) -> Response:
    content = {"code": error.code, "message": str(error)}
    if error.field is not None:
        content["field"] = error.field
    return _json(error.status, {"error": content}, headers)


def _json(status: HTTPStatus, content: object, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


async def _decoded(request: Request, decode: Callable[[bytes], T]) -> T:
    return await _converted(await request.body(), decode)


async def _converted(body: bytes, decode: Callable[[bytes], T]) -> T:
    if len(body) < IN_THREAD:
        return decode(body)
    return await asyncio.to_thread(decode, body)
