"""What is public: that it is small, that it is what it says, and that nothing of it goes
undocumented. The other tests of ``docs/en/`` look at hooks, keys, messages and commands."""

import asyncio
import inspect
import re
import typing
from pathlib import Path

import pytest
from docs_pages import first_names, read, sections, tables
from msgspec import Struct, structs

import d_back_core
import d_back_testing as testing
from d_back_core import HOOK_VERSION, WebSocketServer, client, config
from d_back_core.admin.control_socket import Question, Reply
from d_back_core.admin.explain import (
    Explanation,
    ProviderReport,
    ServerReport,
    Supplied,
    UserReport,
)
from d_back_core.cli.inspection import Checked, CheckedProvider
from d_back_core.cli.plugins import CheckedRow

NAMES = {
    *("ConfigError", "DBackError", "JoinError", "PluginError", "ProviderError"),
    *("Context", "HOOK_VERSION", "Overlay", "command_config", "hookimpl"),
    *("Credentials", "Grant"),
    *("Server", "Status", "UNSET", "User"),
    *("AccessRevoked", "Event", "Reload", "ServerChanged", "ServerRemoved"),
    *("Message", "MessageDeleted", "MessageEdited"),
    *("UserChanged", "UserRemoved"),
    *("AccessChanged", "Change", "Snapshot", "ServerSet", "UserSet"),
    *("Clock", "Tasks", "Timer"),
    *("Duration", "File", "Secret", "WatchedFile"),
    *("Counters", "Exchange", "ProviderStats", "ServerStats", "Stats"),
    *("is_extra_key", "is_id", "is_public_id"),
    "WebSocketServer",
}
"""Every public name of ``d_back_core``; one that is added or taken away is a decision."""
CLIENT = {
    *("ClientWorld", "Listener", "connect", "decoded", "FINAL_CODES", "UNREACHABLE"),
    *("ServerMessage", "ServerList", "ServerListUpdate", "ServerJoin", "Resumed"),
    *("PresenceFrame", "MessageFrame", "MessageEditFrame", "MessageDeleteFrame"),
    *("UpdateClientId", "RefreshData", "Error"),
    *("UserData", "ServerData"),
    *("EffectiveUser", "WireServer", "WireUser", "WirePresence", "WireMessage"),
    *("WireMessageEdit", "WireMessageDelete"),
    *("Joined", "Request", "ClientId", "ErrorReason"),
}
"""Every public name of `d_back_core.client`."""
CONFIG = {"Config", "load", "parse"}
"""Those of `d_back_core.config` that programs may import."""


def test_the_public_names_are_those_that_were_decided() -> None:
    """In order, and none twice."""
    assert set(d_back_core.__all__) == NAMES
    assert len(d_back_core.__all__) == len(NAMES)


def test_nothing_else_looks_public() -> None:
    """What the package holds beside its public names are its modules."""
    found = {
        name
        for name, value in vars(d_back_core).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert found == NAMES


def test_each_public_name_is_in_the_reference() -> None:
    """And nothing that is not public is."""
    shown = re.findall(r"^::: d_back_core\.([\w.]*)$", read("reference.md"), re.MULTILINE)
    below = {f"client.{name}" for name in CLIENT} | {f"config.{name}" for name in CONFIG}
    assert sorted(shown) == sorted(NAMES | below)


@pytest.mark.parametrize("name", sorted(NAMES - {"HOOK_VERSION", "Status", "UNSET", "hookimpl"}))
def test_each_public_name_says_what_it_is(name: str) -> None:
    """In a docstring; those that cannot have one are described in the source."""
    value = getattr(d_back_core, name)
    assert name in {"Event", "Change"} or inspect.getdoc(value)


@pytest.mark.parametrize("name", sorted(testing.__all__))
def test_each_name_for_tests_is_documented(name: str) -> None:
    """In the reference."""
    assert f"::: d_back_testing.{name}\n" in read("reference.md")


def test_the_public_names_of_the_client() -> None:
    """`d_back_core.client` exports the names that were decided, and no other."""
    assert set(client.__all__) == CLIENT
    assert len(client.__all__) == len(CLIENT)
    assert all(hasattr(client, name) for name in CLIENT)


def test_the_client_exports_every_part_of_a_message() -> None:
    """A program can name the type of everything that `ClientWorld.events` yields."""
    for kind in structs_in(client.ServerMessage):
        assert getattr(client, kind.__name__) is kind


def structs_in(hint: object) -> set[type[Struct]]:
    """The structs of a type, of their fields, and so on."""
    if isinstance(hint, type) and issubclass(hint, Struct):
        fields = typing.get_type_hints(hint, include_extras=True).values()
        return {hint}.union(*map(structs_in, fields))
    return set[type[Struct]]().union(*map(structs_in, typing.get_args(hint)))


@pytest.mark.parametrize("name", sorted(CONFIG))
def test_the_public_names_of_config(name: str) -> None:
    """Each is there, with a docstring."""
    assert name in config.__all__
    assert inspect.getdoc(getattr(config, name))


def test_the_hook_version_is_told() -> None:
    """On the page that says what it means, and in its example."""
    (text,) = re.findall(r"It is (\d+) now\.", sections("stability.md")["Versions of the hooks"])
    assert int(text) == HOOK_VERSION
    assert f"    hook_version = {HOOK_VERSION}\n" in read("stability.md")


# JSON for programs


@pytest.mark.parametrize(
    ("heading", "kinds"),
    [
        ("Ask the running process", [Question, Reply]),
        (
            "JSON of the commands",
            [
                *(Explanation, ProviderReport, ServerReport, UserReport, Supplied),
                *(Checked, CheckedProvider, CheckedRow),
            ],
        ),
    ],
)
def test_json_is_described(heading: str, kinds: list[type[Struct]]) -> None:
    """Field by field, in its order."""
    described = [first_names(table) for table in tables(sections("operations.md")[heading])]
    assert described == [[field.name for field in structs.fields(kind)] for kind in kinds]


# Metrics


async def test_metrics() -> None:
    """The README of d-back-prometheus lists those that are served, and no other."""
    readme = Path(__file__).parents[2] / "plugins" / "d_back_prometheus" / "README.md"
    listed = re.findall(r"`(d_back_\w+)", readme.read_text(encoding="utf-8"))
    table = {"chain": {"order": ["script"]}, "gateway": {"http": ["prometheus"]}}
    script = {"script": testing.ScriptedProvider({}, {})}
    async with WebSocketServer(0, config=config.parse(table), providers=script) as server:
        reader, writer = await asyncio.open_connection("localhost", server.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()
    served = re.findall(r"^# TYPE (d_back_\w+)", answer, re.MULTILINE)
    assert sorted(served) == sorted(listed)


def test_metrics_that_are_worth_an_alarm() -> None:
    """Each one that the page names is in that list."""
    readme = Path(__file__).parents[2] / "plugins" / "d_back_prometheus" / "README.md"
    told = re.findall(r"`(d_back_\w+)`", sections("operations.md")["Metrics"])
    assert told
    assert set(told) <= set(re.findall(r"`(d_back_\w+)", readme.read_text(encoding="utf-8")))
