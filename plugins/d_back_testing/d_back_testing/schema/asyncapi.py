"""The protocol as an AsyncAPI 3 document: one channel, the WebSocket, as the gateway sees it.

AsyncAPI has no place for the close codes and for the HTTP statuses of a refused handshake. They
are in the channel's extensions ``x-close-codes`` and ``x-handshake-refusals``.
"""

from typing import Any, get_args

from msgspec import Struct

from d_back_core.wire import protocol
from d_back_testing.schema.components import info, reference, schemas, text_of

ANSWERS = {
    "connect": ("server-join", "resumed", "error"),
    "get_user_data": ("user_data", "error"),
    "get_server_data": ("server_data", "error"),
}
"""The type of a client's message → the types of its answers."""
CLOSE_CODES = {
    1000: ("the client closed", "nothing"),
    1001: (
        "the gateway stops or restarts",
        "connect again, after a random wait of some seconds",
    ),
    1002: ("the client broke the WebSocket protocol", "fix the client"),
    1006: (
        "no close frame: the connection was lost",
        "connect again with `resume`, with growing waits",
    ),
    1007: ("a text message was not UTF-8", "fix the client"),
    1008: ("too many refused messages, or frames", "do not reconnect automatically"),
    1009: ("a message was larger than `limits.message_size`", "fix the client"),
    1011: (
        "an error in the gateway, or a ping was not answered within 20 seconds",
        "connect again with `resume`, with growing waits",
    ),
    1013: (
        "too slow: the client did not read fast enough; or no server is open",
        "connect again with growing waits",
    ),
}
"""Code → its reason, and what a client should do."""
REFUSALS = {
    400: "A header of the handshake is missing or wrong.",
    403: "The page's origin is not in `gateway.origins`.",
    426: "The request is not an upgrade: its header `Connection` does not say so.",
    429: "Too many connections of one address.",
    503: "Too many connections, or the gateway is shutting down.",
}
"""HTTP status of a refused handshake → its reason."""
DESCRIPTION = """\
One WebSocket, at any path. Every message is one JSON object in one text message, with a `type`. \
The first one is `server-list`. Fields and messages may be added: ignore those that you do not \
know. The rules for the numbers `epoch` and `seq` are in the documentation of the protocol."""
CHANNEL = {"$ref": "#/channels/gateway"}


def document() -> dict[str, Any]:
    """Return the document."""
    client, server = _messages(protocol.ClientMessage), _messages(protocol.ServerMessage)
    messages = client | server
    return {
        "asyncapi": "3.0.0",
        "info": info("d-back", DESCRIPTION),
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": "{host}",
                "protocol": "ws",
                "description": "The gateway. With TLS the protocol is wss.",
                "variables": {"host": {"default": "localhost:3000"}},
            }
        },
        "channels": {
            "gateway": {
                "address": "/",
                "description": "A connection is joined to one server at a time.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
                "x-close-codes": {
                    str(code): {"reason": reason, "client": todo}
                    for code, (reason, todo) in CLOSE_CODES.items()
                },
                "x-handshake-refusals": {str(status): text for status, text in REFUSALS.items()},
            }
        },
        "operations": {
            **{
                name: _operation("receive", name)
                | {"reply": {"channel": CHANNEL, "messages": _named(*ANSWERS[name])}}
                for name in client
            },
            **{name: _operation("send", name) for name in server},
        },
        "components": {
            "messages": {
                name: {"name": name, "summary": text_of(kind), "payload": reference(kind)}
                for name, kind in messages.items()
            },
            "schemas": schemas(messages.values()),
        },
    }


def _messages(union: object) -> dict[str, type[Struct]]:
    """Return the structs of a union by the ``type`` of their messages."""
    return {str(kind.__struct_config__.tag): kind for kind in get_args(union)}


def _operation(action: str, *names: str) -> dict[str, Any]:
    return {"action": action, "channel": CHANNEL, "messages": _named(*names)}


def _named(*names: str) -> list[dict[str, str]]:
    return [{"$ref": f"{CHANNEL['$ref']}/messages/{name}"} for name in names]
