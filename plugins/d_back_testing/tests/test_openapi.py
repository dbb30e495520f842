"""The OpenAPI document: it is valid, and the answers of a real gateway are as it says."""

import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias, get_args

import pytest
from http_line import Line, Reply, line
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from peers import until
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from websockets.asyncio.client import connect

from d_back_core import Clock, Server, User, WebSocketServer, hookimpl
from d_back_core.config import parse
from d_back_core.gateway.admission import Admission
from d_back_core.gateway.site import MAX_HEADERS, MAX_TARGET, PROBES, Site
from d_back_core.providers.health import State
from d_back_testing import ScriptedProvider
from d_back_testing.schema import openapi

Json: TypeAlias = dict[str, Any]

DOCUMENT = openapi.document()
PATHS: Json = DOCUMENT["paths"]
RESPONSES: Json = DOCUMENT["components"]["responses"]
USERS = "/api/servers/{server}"
SERVERS = {
    "1": Server(name="One", id="one", default=True),
    "2": Server(name="Two", id="two", passworded=True),
}
MEMBERS = {
    "1": {str(uid): User(username=f"Ada {uid}", extra={"mood": "sunny"}) for uid in range(100)},
    "2": {},
}
CLIENT = "X-Forwarded-For: 203.0.113.7"
PROXIED: Json = {"trusted_proxies": ["127.0.0.1", "::1"], "connections_per_address": 1}


def basic(password: str) -> str:
    return f"Authorization: Basic {b64encode(f':{password}'.encode()).decode()}"


class Broken(ScriptedProvider):
    """A provider with a page that fails."""

    @hookimpl
    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/broken", self._break)]

    async def _break(self, _: Request) -> Response:
        raise ValueError("broken page")


@asynccontextmanager
async def asking(
    servers: dict[str, Server] | Exception | None = SERVERS,
    **limits: Any,  # noqa: ANN401  those of the table
) -> AsyncIterator[tuple[WebSocketServer, Line]]:
    """Run a gateway and connect to it. ``limits`` are the keys of that table."""
    table = {
        "gateway": {"port": 0, "http": ["mine"], "extra": ["mood"]},
        "chain": {"order": ["mine"], "startup_timeout": "100ms"},
        "servers": {"2": {"password": "open sesame"}},
        "limits": limits,
    }
    script = Broken(servers, MEMBERS)
    server = WebSocketServer(config=parse(table), providers={"mine": script})
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        yield server, await stack.enter_async_context(line(server))


async def asked(client: Line, path: str, *headers: str, method: str = "GET") -> Reply:
    client.ask(path, *headers, method=method)
    return await client.reply(head=method == "HEAD")


def concrete(path: str) -> str:
    """Return a path with names that the gateway knows."""
    return path.replace("{server}", "one").replace("{provider}", "mine")


def resolved(value: Json) -> Json:
    """Return a value, or what it refers to."""
    if "$ref" not in value:
        return value
    found: Any = DOCUMENT
    for key in value["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return dict(found)


def check(reply: Reply, response: Json) -> None:
    """Compare an answer with its description: the type of its body, the body, and headers."""
    described = resolved(response)
    for name, header in described.get("headers", {}).items():
        assert name in reply.headers or not resolved(header)["required"], name
    content = described.get("content", {})
    if not content:
        assert reply.body == b""
        return
    kind = reply.headers.get_content_type()
    assert kind in content, kind
    value = json.loads(reply.body) if kind == "application/json" else reply.body.decode()
    schema = {**content[kind]["schema"], "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(value)


def check_operation(reply: Reply, path: str, status: int) -> None:
    assert reply.status == status, reply
    check(reply, PATHS[path]["get"]["responses"][str(status)])


def test_the_validator_accepts_it() -> None:
    """openapi-spec-validator finds no error, and finds one in a broken copy."""
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert not OpenAPIV31SpecValidator({**DOCUMENT, "paths": {"x": 5}}).is_valid()


def test_every_path_is_described() -> None:
    """The paths are those of the gateway."""
    config = parse({"gateway": {"port": 0}})
    live = WebSocketServer(config=config).live
    admission = Admission(config, live.counters.rejections, Clock())
    routes = Site(config, live, admission, lambda: True).routes
    assert [re.sub(r"{\w+}", "{}", path) for path in PATHS] == [
        re.sub(r"{\w+}", "{}", getattr(route, "path", "")) for route in routes
    ]


@pytest.mark.parametrize("path", PATHS)
async def test_real_answers_are_as_described(path: str) -> None:
    """GET is answered with 200 and a valid body, HEAD the same without it, OPTIONS with what is
    allowed, and another method with 405."""
    async with asking() as (_, client):
        target = concrete(path)
        check_operation(await asked(client, target), path, 200)
        head = await asked(client, target, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        options = await asked(client, target, method="OPTIONS")
        assert (options.status, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
        refused = await asked(client, target, method="POST")
        assert refused.status == 405
        check(refused, RESPONSES["MethodNotAllowed"])


@pytest.mark.parametrize(
    "name", sorted({path.removeprefix("/") for path in PATHS if path.startswith("/api/")})
)
async def test_a_body_without_a_field_is_not_valid(name: str) -> None:
    """Each field of a real body is required."""
    path = f"/{name}"
    async with asking() as (_, client):
        body = json.loads((await asked(client, concrete(path))).body)
    schema = PATHS[path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    for key in body:
        shorter = {other: value for other, value in body.items() if other != key}
        assert not validator.is_valid(shorter), key
    if name == "api/health":
        (provider,) = body["providers"]
        for key in provider:
            shorter = {other: value for other, value in provider.items() if other != key}
            assert not validator.is_valid({"providers": [shorter]}), key


async def test_the_users_of_a_server() -> None:
    """They are compressed if the client asks for it, and not sent again if it has them."""
    async with asking() as (_, client):
        compressed = await asked(client, "/api/servers/one", "Accept-Encoding: gzip")
        assert compressed.headers["Content-Encoding"] == "gzip"
        tag = f"If-None-Match: {compressed.headers['ETag']}"
        same = await asked(client, "/api/servers/one", "Accept-Encoding: gzip", tag)
        check_operation(same, USERS, 304)
        check_operation(await asked(client, "/api/servers/two", basic("open sesame")), USERS, 200)


async def test_refused_requests_for_users() -> None:
    """Missing, wrong and too many credentials, and unknown servers, are answered as described."""
    async with asking(trusted_proxies=["127.0.0.1", "::1"]) as (_, client):
        check_operation(await asked(client, "/api/servers/two"), USERS, 401)
        check_operation(await asked(client, "/api/servers/nowhere"), USERS, 404)
        wrong = CLIENT, basic("wrong")
        while (reply := await asked(client, "/api/servers/two", *wrong)).status == 401:
            pass
        assert reply.headers.get_content_type() == "application/json"
        check_operation(reply, USERS, 429)
    async with asking({}) as (_, client):
        check_operation(await asked(client, "/api/servers/default"), USERS, 404)


@pytest.mark.parametrize("path", PATHS)
async def test_refusals_of_the_gateway(path: str) -> None:
    """Each path refuses what is too large, late or not HTTP, and what a full gateway cannot
    serve, as described."""
    target = concrete(path)
    async with asking(body_size=10, handshake_timeout="100ms") as (server, _):
        for status, request in {
            400: f"GET {target} HTTP/1.1\r\nHost: x\r\nContent-Length: -\r\n\r\n",
            408: f"GET {target} HTTP/1.1\r\nHost: x\r\n",
            413: f"GET {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n",
            414: f"GET {target}?{'x' * MAX_TARGET} HTTP/1.1\r\nHost: x\r\n\r\n",
            426: f"GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
            431: f"GET {target} HTTP/1.1\r\nHost: x\r\nX: {'x' * MAX_HEADERS}\r\n\r\n",
        }.items():
            async with line(server) as client:
                client.send(request.encode())
                check_operation(await client.reply(), path, status)
    async with asking(connections=1) as (server, _), line(server) as client:
        check_operation(await client.reply(), path, 503)
    if path not in PROBES:
        async with asking(**PROXIED) as (server, client):
            name, value = CLIENT.split(": ")
            async with connect(server.url, additional_headers={name: value}):
                reply = await asked(client, target, CLIENT)
        check_operation(reply, path, 429)
        assert reply.headers["Retry-After"] == "1"


async def test_a_gateway_without_a_list_is_not_ready() -> None:
    """Its answer is the 503 of this path."""
    async with asking(None) as (_, client):
        check_operation(await asked(client, "/readyz"), "/readyz", 503)


async def test_readiness_of_a_provider() -> None:
    """A provider that has failed, and an unknown name, are answered as described."""
    async with asking(OSError("down")) as (server, client):
        await until(lambda: server.live.stats().providers[0].health != "ready")
        path = "/readyz/{provider}"
        check_operation(await asked(client, "/readyz/mine"), path, 503)
        check_operation(await asked(client, "/readyz/unknown"), path, 404)


async def test_refusals_of_other_paths() -> None:
    """An unknown path and a page that fails are answered as described."""
    async with asking() as (_, client):
        reply = await asked(client, "/nowhere")
        assert reply.status == 404
        check(reply, RESPONSES["NotFound"])
        reply = await asked(client, "/broken")
        assert reply.status == 500
        check(reply, RESPONSES["InternalServerError"])


def test_every_state_of_a_provider_is_described() -> None:
    """Those that the documentation names, and no other."""
    health = DOCUMENT["components"]["schemas"]["ProviderStats"]["properties"]["health"]
    assert sorted(health["enum"]) == sorted(get_args(State))
