"""A JSON API over a real socket, which a test can change, break and end."""

from typing import Any

import msgspec
from aiohttp import web

from d_back_core import Secret
from d_back_http import HttpConfig

SECRET = "correct-horse-battery"
ADA = {"username": "Ada", "status": "online", "roleColor": "#ff6b6b"}
BO = {"username": "Bo", "status": "idle", "roleColor": "#4ecdc4"}
PATIENCE = 60.0


class Api:
    """Serves ``/servers`` and ``/servers/ID/users``."""

    def __init__(self) -> None:
        self.servers: Any = {"1": {"name": "Plaza", "id": "plaza", "is_default": True}}
        self.users: dict[str, Any] = {"1": {"7": ADA, "8": BO}}
        self.etags = True
        self.dates = False
        self.status = 200
        """Of every answer."""
        self.headers: dict[str, str] = {}
        """Of every answer, besides."""
        self.raw: bytes | None = None
        """Answered instead of JSON."""
        self.requests: list[web.Request] = []
        self.statuses: list[int] = []
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def begin(self) -> None:
        """Listen, on the port of before."""
        app = web.Application()
        app.router.add_get("/servers", self._list)
        app.router.add_get("/servers/{server_id}/users", self._members)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def end(self) -> None:
        """End all connections, and accept no other; may be called twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def paths(self) -> list[str]:
        """What was asked for."""
        return [request.path for request in self.requests]

    async def _list(self, request: web.Request) -> web.Response:
        return self._answer(request, self.servers)

    async def _members(self, request: web.Request) -> web.Response:
        users = self.users.get(request.match_info["server_id"])
        if users is None:
            return web.Response(status=404)
        return self._answer(request, users)

    def _answer(self, request: web.Request, content: Any) -> web.Response:  # noqa: ANN401  JSON
        self.requests.append(request)
        response = self._response(request, content)
        response.headers.update(self.headers)
        self.statuses.append(response.status)
        return response

    def _response(self, request: web.Request, content: Any) -> web.Response:  # noqa: ANN401  JSON
        if self.status != 200:
            return web.Response(status=self.status)
        body = msgspec.json.encode(content) if self.raw is None else self.raw
        validators = {}
        if self.etags:
            validators["ETag"] = f'"{hash(body)}"'
        if self.dates:
            validators["Last-Modified"] = "Mon, 30 Nov 2026 22:15:00 GMT"
        for name, header in (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")):
            if name in validators and request.headers.get(header) == validators[name]:
                return web.Response(status=304, headers=validators)
        return web.Response(body=body, headers=validators, content_type="application/json")


def pulling(api: Api, **options: Any) -> HttpConfig:  # noqa: ANN401
    """The options to pull from it."""
    given: dict[str, Any] = {
        "users_url": f"{api.url}/servers/{{server_id}}/users",
        "servers_url": f"{api.url}/servers",
        "token": Secret(SECRET),
    }
    return HttpConfig(**given | options)
