"""The OpenAPI document: it is valid, and the API accepts and answers what it says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import pytest
from http_api import ADA, SECRET
from http_line import Reply, line
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from d_back_http import bodies, openapi
from d_back_http.bodies import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Push, Serve

Json: TypeAlias = dict[str, Any]

DOCUMENT = openapi.document("/http")
COMPONENTS: Json = DOCUMENT["components"]
ERRORS: Json = COMPONENTS["schemas"]["Error"]["properties"]["error"]
OTHER = "another-secret-of-16"
SOURCES = {"bot": {"secret": SECRET}, "other": {"secret": OTHER, "servers": ["2"]}}
HELLO = {"uid": "7", "message": "Hello", "channel": "1"}
USER, SERVER, USERS, MESSAGE = "/http/1/users/7", "/http/1", "/http/1/users", "/http/1/messages"
NOT_PROVOKED = {"429", "500", "503", "504"}
"""Refusals by a gateway that is busy or whose provider fails."""


def test_the_validator_accepts_it() -> None:
    """openapi-spec-validator finds no error, and finds one in a broken copy."""
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert not OpenAPIV31SpecValidator({**DOCUMENT, "info": {}}).is_valid()


async def test_openapi(serve: Serve, push: Push) -> None:
    """The document is served without a secret, and each operation in it exists."""
    server = await serve(push=SOURCES)
    status, document = await push(server, "GET", "/http/openapi.json", Authorization="")
    assert status == 200
    assert document == msgspec.json.decode(msgspec.json.encode(DOCUMENT))
    for path, operations in document["paths"].items():
        actual = re.sub(r"{\w+}", "1", path)
        for method in operations.keys() - {"parameters"}:
            answered, _ = await push(server, method.upper(), actual, b"{}")
            assert answered not in {404, 405}


def validator_of(name: str) -> Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": COMPONENTS}
    checker = Draft202012Validator.FORMAT_CHECKER
    return Draft202012Validator(schema, format_checker=checker)


TEXTS: list[object] = ["Ada", "", " ", "x" * 256, "x" * 257, 5, True, None, [], {}]
IDS: list[object] = ["7", "a b", "constructor", "", "x" * 64, "x" * 65, 7, None]
FLAGS: list[object] = [True, False, None, 0, "true"]
CHAT: dict[str, list[object]] = {
    "uid": IDS,
    "message": ["hi", "", " ", "x" * 4000, "x" * 4001, None, 5],
    "channel": IDS,
    "channelName": TEXTS,
    "at": ["2026-11-30T20:15:30Z", "2026-11-30T21:15:30.5+01:00", "yesterday", None, 1764533730],
    "unknown": [1],
}
VALUES: dict[str, tuple[Callable[[bytes], object], Json, dict[str, list[object]]]] = {
    "User": (
        bodies.user,
        {},
        {
            "username": TEXTS,
            "status": ["dnd", "away", None, 1],
            "roleColor": ["#12aBcd", "#12abcg", "red", None, 1],
            "extra": [
                {},
                None,
                [],
                {"avatar": "x"},
                {"avatar": ""},
                {"avatar": " "},
                {"avatar": None},
                {"avatar": "x" * 257},
                {"1avatar": "x"},
                {"constructor": "x"},
                {f"key{number}": "x" for number in range(8)},
                {f"key{number}": "x" for number in range(9)},
            ],
            "unknown": [1],
        },
    ),
    "Server": (
        bodies.server,
        {},
        {
            "name": TEXTS,
            "id": ["plaza", "a-b_C", "a b", "constructor", "", "x" * 65, None, 7],
            "is_default": FLAGS,
            "passworded": FLAGS,
            "enabled": FLAGS,
            "unknown": [1],
        },
    ),
    "Message": (lambda body: bodies.message(body, "1"), HELLO, {**CHAT, "id": [*IDS, None]}),
    "MessageEdit": (lambda body: bodies.edit(body, "1", "5"), HELLO, {**CHAT, "id": ["5"]}),
}


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, field) for name, (_, _, fields) in VALUES.items() for field in fields],
)
def test_bodies_are_as_described(name: str, field: str) -> None:
    """A body is accepted exactly if it is valid."""
    decode, others, fields = VALUES[name]
    validator = validator_of(name)
    for value in fields[field]:
        body = {**others, field: value}
        assert validator.is_valid(body) is accepted(decode, body), value
    if field in others:
        shorter = {key: value for key, value in others.items() if key != field}
        assert not validator.is_valid(shorter)
        assert not accepted(decode, shorter)


def accepted(decode: Callable[[bytes], object], body: object) -> bool:
    try:
        decode(msgspec.json.encode(body))
    except Refusal:
        return False
    return True


@pytest.mark.parametrize("uid", IDS[:-2])
def test_uids_are_as_described(uid: str) -> None:
    """A list of users is accepted exactly if its uids are valid."""
    body = {uid: ADA}
    assert validator_of("Users").is_valid(body) is accepted(bodies.users, body)


def test_every_field_is_described() -> None:
    """The fields of the schemas are those that are checked."""
    for name, checks in (
        ("User", bodies.USER),
        ("Server", bodies.SERVER),
        ("Message", bodies.MESSAGE),
        ("MessageEdit", bodies.EDIT),
    ):
        assert list(COMPONENTS["schemas"][name]["properties"]) == list(checks)


async def test_real_answers_are_as_described(serve: Serve) -> None:
    """Each answer has a status, a type, a body and the headers that the document names."""
    server = await serve(push=SOURCES, limits={"body_size": 500, "body_timeout": "200ms"})
    seen = set()

    async def answered(
        request: str, body: bytes = b"", *headers: str, secret: str = SECRET
    ) -> tuple[int, str]:
        method, path = request.split()
        given = [f"Authorization: Bearer {secret}", *headers]
        if not any("Transfer" in header or "Length" in header for header in headers):
            given.append(f"Content-Length: {len(body)}")
        async with line(server) as client:
            client.ask(path, *given, method=method, body=body)
            reply = await client.reply()
        check(method, path, reply)
        seen.add(str(reply.status))
        return reply.status, reply.headers.get_content_type() if reply.body else ""

    ada, json, text = msgspec.json.encode(ADA), "application/json", "text/plain"
    assert await answered(f"PATCH {USER}", ada) == (409, json)
    assert await answered(f"PUT {SERVER}", b'{"name": "Plaza"}') == (204, "")
    assert await answered(f"PUT {USERS}", b'{"7": %b}' % ada) == (204, "")
    assert await answered(f"PATCH {USER}", ada) == (204, "")
    assert await answered(f"POST {MESSAGE}", msgspec.json.encode(HELLO)) == (204, "")
    edit = {key: value for key, value in HELLO.items() if key != "id"}
    assert await answered(f"PATCH {MESSAGE}/7", msgspec.json.encode(edit)) == (204, "")
    assert await answered(f"DELETE {MESSAGE}/7?channel=1") == (204, "")
    assert await answered(f"PUT {SERVER}", b"nonsense") == (400, json)
    key = f"Idempotency-Key: {'x' * 256}"
    assert await answered(f"POST {MESSAGE}", msgspec.json.encode(HELLO), key) == (400, json)
    assert await answered(f"PUT {SERVER}", b"", "Content-Length: -") == (400, text)
    assert await answered(f"PUT {SERVER}", b"{}", secret="wrong") == (401, json)
    assert await answered(f"PUT {SERVER}", b"{}", secret=OTHER) == (403, json)
    assert await answered("PUT /http/1/nothing/here") == (404, json)
    assert await answered(f"PUT {MESSAGE}") == (405, json)
    assert await answered(f"PUT {SERVER}", b"{", "Content-Length: 9") == (408, text)
    assert await answered(f"PUT {SERVER}", b" " * 501) == (413, text)
    chunked = b"1f5\r\n%b\r\n0\r\n\r\n" % (b" " * 501)
    assert await answered(f"PUT {SERVER}", chunked, "Transfer-Encoding: chunked") == (413, text)
    assert await answered(f"PATCH {USER}", b'{"status": "away"}') == (422, json)
    assert await answered(f"DELETE {USER}") == (204, "")
    assert await answered(f"DELETE {SERVER}") == (204, "")
    assert seen - {"204"} == set(openapi.REFUSALS) - NOT_PROVOKED


def check(method: str, path: str, reply: Reply) -> None:
    """Compare an answer with its description in the document."""
    status = str(reply.status)
    response = COMPONENTS["responses"].get(status, {"description": "Done."})
    if status not in {"404", "405"}:
        template = path.partition("?")[0].replace("/1", "/{server_id}")
        template = template.replace("messages/7", "messages/{message_id}").replace("/7", "/{uid}")
        operation = DOCUMENT["paths"][template][method.lower()]
        assert status in operation["responses"], (method, path)
    for name in response.get("headers", ()):
        assert name in reply.headers
    if "content" not in response:
        assert reply.body == b""
        return
    kind = reply.headers.get_content_type()
    assert kind in response["content"]
    if kind == "application/json":
        validator_of("Error").validate(msgspec.json.decode(reply.body))
        code = msgspec.json.decode(reply.body)["error"]["code"]
        assert code in ERRORS["properties"]["code"]["examples"]
