"""The push paths as an OpenAPI 3.1 document."""

from typing import Any

from d_back_http.bodies import MAX_EXTRA, MAX_MESSAGE, MAX_TEXT, STATUSES

JsonObject = dict[str, Any]

_ID: JsonObject = {"type": "string", "pattern": "^[!-~]{1,64}$"}
_FLAG: JsonObject = {"type": ["boolean", "null"]}
_NAME: JsonObject = {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_TEXT}


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
                "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_]{0,31}$"},
                "additionalProperties": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
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
            "id": {"type": ["string", "null"], "pattern": "^[A-Za-z0-9_-]{1,64}$"},
            "is_default": _FLAG,
            "passworded": _FLAG,
            "enabled": _FLAG,
        }
    ),
    "Message": _schema(
        {
            "uid": _ID,
            "message": {"type": "string", "minLength": 1, "maxLength": MAX_MESSAGE},
            "channel": _ID,
            "channelName": _NAME,
        },
        ["uid", "message", "channel"],
    ),
    "Error": _schema(
        {
            "error": _schema(
                {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "field": {"type": "string", "description": "Path of the field, if it is one."},
                },
                ["code", "message"],
            )
        },
        ["error"],
    ),
}

REFUSALS = {
    "400": "The body is not JSON.",
    "401": "The bearer secret is missing or wrong.",
    "403": "The source may not push this server.",
    "409": "All users of the server have to be sent first.",
    "413": "The body is larger than `limits.body_size`.",
    "422": "A field is not valid.",
    "429": "Too many messages wait.",
}


def document(path: str) -> JsonObject:
    """Return the document for routes below that path."""
    server = {"name": "server_id", "in": "path", "required": True, "schema": _ID}
    uid = {"name": "uid", "in": "path", "required": True, "schema": _ID}
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A second message with the same key is not sent again.",
        "schema": {"type": "string", "maxLength": 255},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "d-back-http", "version": "1"},
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
                "patch": _operation("Change fields of a user, or add the user.", "User"),
                "delete": _operation("Remove a user."),
            },
            f"{path}/{{server_id}}/messages": {
                "parameters": [server, key],
                "post": _operation("Send a chat message.", "Message"),
            },
        },
        "security": [{"source": []}],
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"source": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(summary: str, schema: str | None = None) -> JsonObject:
    error = {"schema": {"$ref": "#/components/schemas/Error"}}
    operation: JsonObject = {
        "summary": summary,
        "responses": {
            "204": {"description": "Done."},
            **{
                status: {"description": text, "content": {"application/json": error}}
                for status, text in REFUSALS.items()
            },
        },
    }
    if schema is not None:
        content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation
