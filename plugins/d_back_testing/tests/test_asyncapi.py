"""The AsyncAPI document: it is valid, and real conversations and closings are as it says."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from described_traffic import PATIENCE, Frame, conversation
from http_line import line
from js_client.node import node, run
from jsonschema import Draft7Validator, FormatChecker
from raw import raw
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from d_back_core import Server, WebSocketServer
from d_back_core.config import parse
from d_back_core.gateway.keepalive import INTERVAL
from d_back_testing import ManualClock, ScriptedProvider
from d_back_testing.schema import asyncapi

Json: TypeAlias = dict[str, Any]

PARSER = "@asyncapi/parser@3.6.3"
PARSE = """
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";
for (const path of process.argv.slice(2)) {
  const { diagnostics } = await new Parser().parse(await readFile(path, "utf8"));
  console.log(JSON.stringify(diagnostics));
}
"""
NEWER = "asyncapi-latest-version"
"""What the parser reports of every document that is not of its newest version."""
DOCUMENT = asyncapi.document()
CHANNEL = DOCUMENT["channels"]["gateway"]
OPERATIONS = DOCUMENT["operations"]
SCHEMAS = DOCUMENT["components"]["schemas"]
CHECKER = FormatChecker(["date-time"])


@pytest.mark.slow
async def test_the_parser_of_asyncapi_accepts_it(tmp_path: Path) -> None:
    """AsyncAPI's own parser reports nothing, but reports a broken copy."""
    program = node()
    command = ("npm", "install", "--silent", "--no-fund", "--prefer-offline", "--ignore-scripts")
    status, output = await run(*command, "--prefix", str(tmp_path), PARSER)
    if status and not os.environ.get("D_BACK_CI"):
        pytest.skip(f"npm does not find {PARSER} here")
    assert status == 0, output
    broken = {**DOCUMENT, "operations": {"connect": {"action": "shout"}}}
    script, good, bad = (tmp_path / name for name in ("parse.mjs", "good.json", "bad.json"))
    script.write_text(PARSE)
    good.write_text(json.dumps(DOCUMENT))
    bad.write_text(json.dumps(broken))
    status, output = await run(program, str(script), str(good), str(bad))
    assert status == 0, output
    reported, of_broken = (json.loads(line) for line in output.splitlines())
    assert [each for each in reported if each["code"] != NEWER] == []
    assert any(each["path"] == ["operations", "connect", "action"] for each in of_broken)


def at(reference: Json) -> Json:
    """Return what a reference refers to."""
    found: Any = DOCUMENT
    for key in reference["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return at(found) if "$ref" in found else dict(found)


def names_in(messages: list[Json]) -> set[str]:
    return {at(each)["name"] for each in messages}


def named(action: str) -> set[str]:
    """Return the names of the messages that the gateway sends, or receives."""
    of_action = [each for each in OPERATIONS.values() if each["action"] == action]
    return {name for each in of_action for name in names_in(each["messages"])}


def validator_of(frame: Frame) -> Draft7Validator:
    """Schemas in AsyncAPI are those of draft 7, if they do not name another dialect."""
    payload = DOCUMENT["components"]["messages"][frame["type"]]["payload"]
    schema = {"components": DOCUMENT["components"], "allOf": [payload]}
    return Draft7Validator(schema, format_checker=CHECKER)


async def test_real_messages_are_as_described() -> None:
    """Every message of the document is sent in a real conversation, in its direction only, and is
    valid."""
    traffic = await conversation()
    for frame in (*traffic.sent, *traffic.received):
        validator_of(frame).validate(frame)
    assert {frame["type"] for frame in traffic.sent} == named("receive")
    assert {frame["type"] for frame in traffic.received} == named("send")
    assert named("receive") | named("send") == set(CHANNEL["messages"])


async def test_real_answers_are_as_described() -> None:
    """Each answer of a real conversation is a reply of the request's operation, and each reply
    occurs."""
    seen: dict[str, set[str]] = {}
    for request, answer in (await conversation()).answers:
        seen.setdefault(request["type"], set()).add(answer["type"])
    assert seen == {
        name: names_in(operation["reply"]["messages"])
        for name, operation in OPERATIONS.items()
        if "reply" in operation
    }


async def test_broken_messages_are_not_valid() -> None:
    """A real message with a field of another type, or without a required one, is not valid."""
    traffic = await conversation()
    for frame in traffic.received:
        validator = validator_of(frame)
        for holder, key in fields_of(frame):
            value = holder[key]
            holder[key] = 1.5
            assert not validator.is_valid(frame), (frame, key)
            holder[key] = value
        for key in list(frame):
            shorter = {name: value for name, value in frame.items() if name != key}
            is_optional = key in {"resync", "removed", "serverId"} and frame["type"] != "user_data"
            assert validator.is_valid(shorter) is is_optional, (frame, key)


def fields_of(frame: Json) -> Iterator[tuple[Json, str]]:
    for key, value in list(frame.items()):
        yield frame, key
        if isinstance(value, dict):
            yield from fields_of(value)


async def test_optional_fields_are_those_that_real_messages_lack() -> None:
    """Each field of the document occurs in real messages; each optional one is also missing in
    some."""
    traffic = await conversation()
    seen: dict[str, list[set[str]]] = {}
    for frame in (*traffic.sent, *traffic.received):
        message = DOCUMENT["components"]["messages"][frame["type"]]
        collect(message["payload"], frame, seen)
    for name, schema in SCHEMAS.items():
        assert set.union(*seen[name]) >= set(schema["properties"]), name
        assert set.intersection(*seen[name]) == set(schema["required"]), name


def collect(schema: Json, value: object, seen: dict[str, list[set[str]]]) -> None:
    """Note the fields of each object by the name of its schema."""
    for choice in schema.get("anyOf", ()):
        collect(choice, value, seen)
    if not isinstance(value, dict):
        return
    name = schema.get("$ref", "").rpartition("/")[2]
    if name:
        schema = SCHEMAS[name]
        seen.setdefault(name, []).append(set(value))
    for key, each in value.items():
        inner = schema.get("properties", {}).get(key) or schema.get("additionalProperties", {})
        collect(inner, each, seen)


def test_fields_have_the_descriptions_of_the_structs() -> None:
    """The docstring below a field replaces the description of its type, as Markdown."""
    assert SCHEMAS["WireMessage"]["properties"]["at"] == {
        "type": "string",
        "format": "date-time",
        "description": "When it was written: a time of RFC 3339, in UTC.",
    }
    deleted = SCHEMAS["WirePresence"]["properties"]["delete"]
    assert deleted["description"] == "The user has left; `status` is `offline` then."


# Close codes and refused handshakes

Provoke: TypeAlias = Callable[[WebSocketServer, ManualClock, ClientConnection], Awaitable[object]]


async def no_server(_: WebSocketServer, __: ManualClock, client: ClientConnection) -> None:
    await client.send('{"type": "connect"}')


async def break_protocol(_: WebSocketServer, __: ManualClock, client: ClientConnection) -> None:
    client.transport.write(b"\x81\x00")  # a frame of a client must be masked


async def talk_nonsense(_: WebSocketServer, __: ManualClock, client: ClientConnection) -> None:
    for _number in range(30):
        await client.send("nonsense")


PROVOKE: dict[int, Provoke] = {
    1000: lambda _, __, client: client.close(),
    1001: lambda server, _, __: server.stop(),
    1002: break_protocol,
    1007: lambda _, __, client: client.send(b"\xff", text=True),
    1008: talk_nonsense,
    1009: lambda _, __, client: client.send("x" * 70_000),
    1013: no_server,
}
KEEPALIVE, LOST = 1011, 1006
"""A code that needs a client without pongs, and one that is never sent."""


def serving(limits: Json | None = None, gateway: Json | None = None, **servers: Server) -> Any:  # noqa: ANN401
    table = {
        "gateway": {"port": 0, **(gateway or {})},
        "chain": {"order": ["mine"]},
        "limits": {"message_burst": 100, **(limits or {})},
    }
    script = ScriptedProvider(servers, {server_id: {} for server_id in servers})
    return lambda clock: WebSocketServer(
        config=parse(table), providers={"mine": script}, clock=clock
    )


@pytest.mark.parametrize("code", PROVOKE)
async def test_real_close_codes_are_described(code: int) -> None:
    """The gateway closes with this code, and the document has it."""
    clock = ManualClock()
    async with asyncio.timeout(PATIENCE), serving()(clock) as server:
        async with connect(server.url) as client:
            await client.recv()
            await PROVOKE[code](server, clock, client)
            with suppress(ConnectionClosed):
                while True:
                    await client.recv()
        assert client.close_code == code
    assert str(code) in CHANNEL["x-close-codes"]


async def test_a_real_ping_timeout_is_described() -> None:
    """A client that does not answer pings is closed with 1011, which is in the document."""
    clock = ManualClock()
    async with asyncio.timeout(PATIENCE), serving()(clock) as server, raw(server) as client:
        await client.frame()
        await clock.advance(2 * INTERVAL)
        while (frame := await client.frame())[:1] != b"\x88":
            pass
    assert int.from_bytes(frame[2:4]) == KEEPALIVE
    assert set(CHANNEL["x-close-codes"]) == {str(code) for code in {*PROVOKE, KEEPALIVE, LOST}}


async def test_real_refusals_of_handshakes_are_described() -> None:
    """Each status of a refused handshake is answered by a real gateway, and no other is in the
    document."""
    seen = set()
    proxied = {"trusted_proxies": ["127.0.0.1", "::1"], "connections_per_address": 1}
    address = {"X-Forwarded-For": "203.0.113.7"}

    async def refused(server: WebSocketServer, **options: Any) -> None:  # noqa: ANN401
        with pytest.raises(InvalidStatus) as error:
            await connect(server.url, **options)
        seen.add(str(error.value.response.status_code))

    async with serving(proxied, {"origins": ["https://example.org"]})(ManualClock()) as server:
        await refused(server, origin="https://example.com")
        async with connect(server.url, additional_headers=address):
            await refused(server, additional_headers=address)
    async with serving({"connections": 1})(ManualClock()) as server, connect(server.url):
        await refused(server)
    async with serving()(ManualClock()) as server:
        for headers in (["Upgrade: websocket"], ["Upgrade: websocket", "Connection: Upgrade"]):
            async with line(server) as client:
                client.ask("/", *headers)
                seen.add(str((await client.reply()).status))
    assert seen == set(CHANNEL["x-handshake-refusals"])
