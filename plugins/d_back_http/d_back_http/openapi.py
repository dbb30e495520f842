"""The push paths as an OpenAPI 3.1 document.

Refusals of this plugin are JSON. Those of the gateway, which come first or if the provider does
not answer, are texts.
"""

from typing import Any

from d_back_http.bodies import MAX_EXTRA, MAX_MESSAGE, MAX_TEXT, STATUSES

JsonObject = dict[str, Any]

PROTOTYPE_WORDS = frozenset(
    {
        "constructor",
        "toString",
        "valueOf",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "__proto__",
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
    }
)
"""Properties of every JavaScript object, which the core accepts nowhere as a key."""
_NOT_BLANK = r"\S"
_USABLE: JsonObject = {"not": {"enum": sorted(PROTOTYPE_WORDS)}}
_ID: JsonObject = {"type": "string", "pattern": "^[!-~]{1,64}$", **_USABLE}
_FLAG: JsonObject = {"type": ["boolean", "null"]}
_NAME: JsonObject = {"type": ["string", "null"], "pattern": _NOT_BLANK, "maxLength": MAX_TEXT}
_CHAT: JsonObject = {
    "uid": _ID,
    "message": {"type": "string", "pattern": _NOT_BLANK, "maxLength": MAX_MESSAGE},
    "channel": _ID,
    "channelName": _NAME,
    "at": {"type": ["string", "null"], "format": "date-time"},
}


def _schema(properties: JsonObject, required: list[str] | None = None) -> JsonObject:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


SCHEMAS: JsonObject = {
    "User": _schema(
        {
            "username": _NAME,
            "status": {"enum": [*STATUSES, None]},
            "roleColor": {"type": ["string", "null"], "pattern": "^#[0-9A-Fa-f]{6}$"},
            "extra": {
                "type": ["object", "null"],
                "maxProperties": MAX_EXTRA,
                "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_]{0,31}$", **_USABLE},
                "additionalProperties": {
                    "type": "string",
                    "pattern": _NOT_BLANK,
                    "maxLength": MAX_TEXT,
                },
            },
        }
    ),
    "Users": {
        "type": "object",
        "description": "All users of the server, by uid.",
        "additionalProperties": {"$ref": "#/components/schemas/User"},
        "propertyNames": _ID,
    },
    "Server": _schema(
        {
            "name": _NAME,
            "id": {"type": ["string", "null"], "pattern": "^[A-Za-z0-9_-]{1,64}$", **_USABLE},
            "is_default": _FLAG,
            "passworded": _FLAG,
            "enabled": _FLAG,
        }
    ),
    "Message": _schema(
        _CHAT | {"id": {**_ID, "type": ["string", "null"]}}, ["uid", "message", "channel"]
    ),
    "MessageEdit": _schema(_CHAT, ["uid", "message", "channel"]),
    "Error": _schema(
        {
            "error": _schema(
                {
                    "code": {
                        "type": "string",
                        "description": "For programs. More may be added.",
                        "examples": [
                            "forbidden",
                            "invalid_field",
                            "invalid_header",
                            "invalid_json",
                            "key_reused",
                            "method_not_allowed",
                            "not_found",
                            "push_all_first",
                            "too_many_messages",
                            "unauthorized",
                        ],
                    },
                    "message": {"type": "string", "description": "For people."},
                    "field": {"type": "string", "description": "Path of the field, if it is one."},
                },
                ["code", "message"],
            )
        },
        ["error"],
    ),
}

_JSON: JsonObject = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_TEXT: JsonObject = {"text/plain": {"schema": {"type": "string"}}}

REFUSALS: dict[str, tuple[str, JsonObject]] = {
    "400": (
        "The body is not JSON, a header is too long, or the request is not HTTP.",
        _JSON | _TEXT,
    ),
    "401": ("The bearer secret is missing or wrong.", _JSON),
    "403": ("The source may not push this server.", _JSON),
    "404": ("There is no such path.", _JSON),
    "405": ("The path does not have this method.", _JSON),
    "408": ("The request took longer than `limits.body_timeout`.", _TEXT),
    "409": ("All users of the server have to be sent first.", _JSON),
    "413": ("The body is larger than `limits.body_size`.", _TEXT),
    "422": ("A field is not valid.", _JSON),
    "429": ("Too many messages wait, or the program sends too many requests.", _JSON | _TEXT),
    "500": ("The provider has failed.", _TEXT),
    "503": ("The provider does not run, or there are too many requests.", _TEXT),
    "504": ("The provider took too long.", _TEXT),
}
_OF_OTHERS = frozenset({"404", "405"})
"""Refusals of other paths and methods than those of the document."""
_NEEDS_USERS = frozenset({"409"})
"""Refusals of a part: all users are not known."""
_HEADERS = {"401": "WWW-Authenticate", "405": "Allow"}


def document(path: str) -> JsonObject:
    """Return the document for routes below that path."""
    server = {"name": "server_id", "in": "path", "required": True, "schema": _ID}
    uid = {"name": "uid", "in": "path", "required": True, "schema": _ID}
    message = {"name": "message_id", "in": "path", "required": True, "schema": _ID}
    channel = {"name": "channel", "in": "query", "required": True, "schema": _ID}
    channel_name = {
        "name": "channelName",
        "in": "query",
        "schema": {"type": "string", "pattern": _NOT_BLANK, "maxLength": MAX_TEXT},
    }
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A second request with the same key sends nothing.",
        "schema": {"type": "string", "maxLength": 255},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "d-back-http",
            "version": "1",
            "description": "Every request may be sent again: it then changes nothing. Another "
            "path or method gets the response `404` or `405`.",
        },
        "paths": {
            f"{path}/{{server_id}}": {
                "parameters": [server],
                "put": _operation("Replace the fields of a server.", "Server"),
                "delete": _operation("Remove a server and its users."),
            },
            f"{path}/{{server_id}}/users": {
                "parameters": [server],
                "put": _operation("Replace all users of a server.", "Users"),
            },
            f"{path}/{{server_id}}/users/{{uid}}": {
                "parameters": [server, uid],
                "patch": _operation(
                    "Change fields of a user, or add the user.", "User", needs_users=True
                ),
                "delete": _operation("Remove a user.", needs_users=True),
            },
            f"{path}/{{server_id}}/messages": {
                "parameters": [server, key],
                "post": _operation("Send a chat message.", "Message", needs_users=True),
            },
            f"{path}/{{server_id}}/messages/{{message_id}}": {
                "parameters": [server, message, key],
                "patch": _operation(
                    "Change the text of a chat message.", "MessageEdit", needs_users=True
                ),
                "delete": {
                    **_operation("Delete a chat message.", needs_users=True),
                    "parameters": [channel, channel_name],
                },
            },
        },
        "security": [{"source": []}],
        "components": {
            "responses": {status: _response(status) for status in REFUSALS},
            "schemas": SCHEMAS,
            "securitySchemes": {"source": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    summary: str, schema: str | None = None, *, needs_users: bool = False
) -> JsonObject:
    left_out = _OF_OTHERS if needs_users else _OF_OTHERS | _NEEDS_USERS
    refusals = {
        status: {"$ref": f"#/components/responses/{status}"}
        for status in REFUSALS
        if status not in left_out
    }
    operation: JsonObject = {
        "summary": summary,
        "responses": {"204": {"description": "Done."}, **refusals},
    }
    if schema is not None:
        content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation


def _response(status: str) -> JsonObject:
    description, content = REFUSALS[status]
    response: JsonObject = {"description": description, "content": content}
    if status in _HEADERS:
        header = {"required": True, "schema": {"type": "string"}}
        response["headers"] = {_HEADERS[status]: header}
    return response
