"""``d-back schema``: the JSON Schemas, and where the output goes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from described_traffic import conversation
from jsonschema import Draft202012Validator

from d_back_core import models
from d_back_core.cli import main as cli
from d_back_testing.schema.command import DOCUMENTS


def schema(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["schema", *arguments])


def printed(what: str) -> dict[str, Any]:
    done = schema(what)
    assert done.exit_code == 0, done.output
    described: dict[str, Any] = json.loads(done.stdout)
    return described


def validator_of(part: str) -> Draft202012Validator:
    """A validator of the messages of one direction."""
    described = printed("protocol")
    Draft202012Validator.check_schema(described)
    return Draft202012Validator({"$ref": f"#/{part}", **described})


@pytest.mark.parametrize("what", DOCUMENTS)
def test_a_file_has_what_is_printed(what: str, tmp_path: Path) -> None:
    """With ``--output`` nothing is printed."""
    path = tmp_path / "schema.json"
    done = schema(what, "--output", str(path))
    assert (done.output, done.exit_code) == ("", 0)
    assert path.read_text(encoding="utf-8") == schema(what).stdout


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """The error is one line that names the file."""
    path = tmp_path / "missing" / "schema.json"
    done = schema("openapi", "--output", str(path))
    assert done.exit_code == 1
    assert done.output.endswith(f"No such file or directory: '{path}'\n")
    assert len(done.output.splitlines()) == 1


def test_r34_the_schema_of_the_configuration_is_printed() -> None:
    """It accepts a file that the gateway accepts, and no unknown key."""
    described = printed("config")
    Draft202012Validator.check_schema(described)
    validator = Draft202012Validator(described)
    validator.validate({"chain": {"order": ["club"]}, "servers": {"1": {"alias": "a"}}})
    assert not validator.is_valid({"chain": {"ordr": ["club"]}})


CLIENT_FRAMES: list[dict[str, Any]] = [
    {"type": "connect", "data": {"server": None}},
    {"type": "connect", "data": {}},
    {"type": "connect"},
    {"type": "connect", "data": {"server": "1", "password": "p", "discordToken": "t"}},
    {"type": "connect", "data": {"server": "1", "discordUser": {"id": "77"}, "more": 1}},
    {"type": "connect", "data": {"server": "1", "resume": {"epoch": "e", "seq": 4}}},
    {"type": "get_user_data", "serverId": "1"},
    {"type": "get_server_data"},
    {"type": "get_server_data", "serverId": "1"},
]
BAD_CLIENT_FRAMES: list[Any] = [
    {},
    [],
    "connect",
    {"type": "conect"},
    {"type": 5},
    {"type": "connect", "data": []},
    {"type": "connect", "data": {"server": 5}},
    {"type": "connect", "data": {"password": 5}},
    {"type": "get_user_data"},
    {"type": "get_user_data", "serverId": 1},
]


def test_r34_the_schema_accepts_what_clients_send() -> None:
    """That is all that d-zone sends, and further fields."""
    validator = validator_of("client")
    for frame in CLIENT_FRAMES:
        validator.validate(frame)


def test_r34_the_schema_refuses_what_the_gateway_refuses() -> None:
    """Unknown types and wrong shapes are not valid."""
    validator = validator_of("client")
    for frame in BAD_CLIENT_FRAMES:
        assert not validator.is_valid(frame), frame


async def test_r34_the_schema_accepts_what_the_gateway_sends() -> None:
    """Each message of a real conversation is as the schema of its direction describes it."""
    traffic = await conversation()
    for part, frames in (("client", traffic.sent), ("server", traffic.received)):
        validator = validator_of(part)
        for frame in frames:
            validator.validate(frame)


IDS: dict[str, tuple[Callable[[str], object], tuple[str, ...]]] = {
    "uid": (models.is_id, ("7", "a b", "", "x" * 65)),
    "roleColor": (
        models.ROLE_COLOR.fullmatch,
        ("#12aBcd", "12abcd", "#1234567"),
    ),
    "status": (lambda text: text in models.STATUSES, ("dnd", "away")),
}


@pytest.mark.parametrize("field", IDS)
def test_r34_the_schema_has_the_ranges_of_the_values(field: str) -> None:
    """A presence is valid exactly if the core lets its values through."""
    validator = validator_of("server")
    is_valid, values = IDS[field]
    for value in values:
        data = {"uid": "7", "status": "idle", field: value}
        frame = {"type": "presence", "server": "1", "seq": 0, "data": data}
        assert validator.is_valid(frame) is bool(is_valid(value)), value


def test_the_schema_of_the_configuration_has_a_text_for_each_key() -> None:
    """Editors show it beside the key: the one that the documentation has, too."""
    definitions = printed("config")["$defs"]
    del definitions["_Tables"]
    keys = [key for each in definitions.values() for key in each["properties"].values()]
    assert keys
    assert all(key.get("description", "").endswith(".") for key in keys)
    assert not any("description" in choice for key in keys for choice in key.get("anyOf", ()))
    assert definitions["LimitsConfig"]["properties"]["body_size"]["description"] == (
        "Bytes of the body of an HTTP request; more get 413."
    )
