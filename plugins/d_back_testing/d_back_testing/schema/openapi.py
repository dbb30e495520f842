"""The HTTP API as an OpenAPI 3.1 document.

The paths are those of `Site`, without the pages, the files and the routes of providers: a
provider may serve a document of its own, as d-back-http does.
"""

from typing import Any, TypeAlias

from msgspec import Struct

from d_back_core.gateway.site import Version
from d_back_core.stats import Health
from d_back_core.wire.protocol import HttpError, ServerData, UserData
from d_back_testing.schema.components import info, reference, schemas

JsonObject: TypeAlias = dict[str, Any]

DESCRIPTION = """\
What the gateway answers over plain HTTP/1.1, on the port of its WebSocket. Every path also \
answers HEAD, without the body, and OPTIONS, with 204 and `Allow`. Another method gets the \
response `MethodNotAllowed`. Other paths are those of providers, files and pages. Fields may be \
added: ignore those that you do not know."""
TEXT = {"text/plain": {"schema": {"type": "string"}}}
REFUSALS = {
    "BadRequest": (400, "The request is not HTTP."),
    "NotFound": (404, "There is nothing at this path."),
    "MethodNotAllowed": (405, "The path does not have this method; `Allow` has those it has."),
    "RequestTimeout": (408, "The request did not arrive in time."),
    "ContentTooLarge": (413, "The body is larger than `limits.body_size`."),
    "UriTooLong": (414, "The target is longer than 8192 bytes."),
    "UpgradeRequired": (426, "A WebSocket handshake without the header `Connection`."),
    "TooManyRequests": (429, "Too many connections or requests of one address."),
    "HeadersTooLarge": (431, "The headers are larger than 16,384 bytes."),
    "InternalServerError": (500, "An error in the gateway, which logs it."),
    "ServiceUnavailable": (503, "Too many connections or requests, or the gateway stops."),
}
"""The name of a refusal → its status, and its reason. The body is a text for people."""
OF_OTHERS = {"NotFound", "MethodNotAllowed"}
"""Refusals of other paths and methods than those of the document."""
HEADERS = {
    "Allow": "The methods that the path has.",
    "Cache-Control": "`public, max-age=1` if every client may have the answer, or `no-store`.",
    "Content-Encoding": "`gzip` if the answer is compressed.",
    "ETag": "Identifies these bytes; send it in `If-None-Match`.",
    "Retry-After": "Seconds to wait. Missing if there are too many connections.",
    "Vary": "`Accept-Encoding`.",
    "WWW-Authenticate": "The schemes of `Authorization`.",
}
OPTIONAL = {"Content-Encoding", "Retry-After"}
OF_STATUS = {405: ["Allow"], 429: ["Retry-After"], 503: ["Retry-After"]}


def document() -> JsonObject:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": info("d-back", DESCRIPTION),
        "servers": [
            {"url": "http://{host}", "variables": {"host": {"default": "localhost:3000"}}},
        ],
        "paths": {
            "/healthz": _get("isAlive", "True while the process answers", TEXT),
            "/readyz": _get(
                "isReady",
                "True if clients can find servers here",
                TEXT,
                {"503": _response("No list of servers is known yet, or the gateway stops.", TEXT)},
            ),
            "/readyz/{provider}": _provider(),
            "/api/version": _get("getVersion", "The version of the gateway", _json(Version)),
            "/api/health": _get("getHealth", "The health of every provider", _json(Health)),
            "/api/servers": _get("getServers", "The list of servers", _json(ServerData)),
            "/api/servers/{server}": _users(),
        },
        "components": {
            "headers": {
                name: {
                    "description": text,
                    "required": name not in OPTIONAL,
                    "schema": {"type": "string"},
                }
                for name, text in HEADERS.items()
            },
            "responses": {
                name: _response(text, TEXT, *OF_STATUS.get(status, ()))
                for name, (status, text) in REFUSALS.items()
            },
            "schemas": schemas((Version, Health, ServerData, UserData, HttpError)),
            "securitySchemes": {
                "password": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The password of a protected server, with any user name.",
                },
                "discord": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An OAuth2 access token of Discord.",
                },
            },
        },
    }


def _provider() -> JsonObject:
    operation = _get(
        "isProviderReady",
        "True if this provider is ready",
        TEXT,
        {
            "404": _response("No provider has this name.", TEXT),
            "503": _response("The health of the provider, if it is not ready.", TEXT),
        },
    )
    operation["parameters"] = [_in_path("provider", "The name of the provider.")]
    return operation


def _users() -> JsonObject:
    headers = ("ETag", "Cache-Control", "Vary")
    error = _json(HttpError)
    operation = _get(
        "getUsers",
        "The users of a server",
        _json(UserData),
        {
            "200": _response("The users.", _json(UserData), *headers, "Content-Encoding"),
            "304": _response("No user has changed.", {}, *headers),
            "401": _response(
                "The server is protected, and the credentials are missing or wrong.",
                error,
                "WWW-Authenticate",
            ),
            "404": _response("No server has this id, or no server is open.", error),
            "429": _response(
                "Too many refused credentials, connections or requests of one address.",
                error | TEXT,
                "Retry-After",
            ),
        },
    )
    operation["get"]["security"] = [{}, {"password": []}, {"discord": []}]
    operation["parameters"] = [
        _in_path("server", "The public id, the server_id, or `default`."),
        _header("If-None-Match", "The `ETag` of an earlier answer."),
        _header("Accept-Encoding", "With `gzip` in it the answer may be compressed."),
    ]
    return operation


def _get(
    name: str, summary: str, content: JsonObject, responses: JsonObject | None = None
) -> JsonObject:
    """Return a path that has the method GET, with the refusals that every path has."""
    refusals = {
        str(status): {"$ref": f"#/components/responses/{refusal}"}
        for refusal, (status, _) in REFUSALS.items()
        if refusal not in OF_OTHERS
    }
    given = {"200": _response(f"{summary}.", content)} | refusals | (responses or {})
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "responses": dict(sorted(given.items())),
        }
    }


def _response(description: str, content: JsonObject, *headers: str) -> JsonObject:
    response: JsonObject = {"description": description}
    if headers:
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return response | ({"content": content} if content else {})


def _json(kind: type[Struct]) -> JsonObject:
    return {"application/json": {"schema": reference(kind)}}


def _in_path(name: str, description: str) -> JsonObject:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", "minLength": 1},
    }


def _header(name: str, description: str) -> JsonObject:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string"},
    }
