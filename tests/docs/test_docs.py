"""The pages in ``docs/en/``: they leave nothing out, and what they show is what happens."""

import asyncio
import inspect
import json
import logging
import re
import runpy
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

import click
import httpx
import msgspec
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner
from docs_pages import (
    DOCS,
    FENCE,
    PAGES,
    Block,
    Table,
    anchors,
    blocks,
    first_names,
    named,
    read,
    sections,
    tables,
)
from jsonschema import Draft202012Validator
from msgspec import NODEFAULT, Struct, structs
from peers import PATIENCE, Dial, until
from starlette.applications import Starlette
from starlette.routing import Mount

import d_back_core
from d_back_core import (
    HOOK_VERSION,
    Change,
    Clock,
    ConfigError,
    Context,
    Credentials,
    Event,
    Grant,
    Message,
    MessageDeleted,
    MessageEdited,
    ProviderStats,
    Server,
    ServerChanged,
    User,
    UserChanged,
    UserRemoved,
    WebSocketServer,
    hookspecs,
)
from d_back_core import config as configuration
from d_back_core.chain.layers import Mode
from d_back_core.cli import commands
from d_back_core.cli import main as cli
from d_back_core.client import FINAL_CODES, connect
from d_back_core.config.decoding import decode
from d_back_core.config.loading import ENVIRONMENT
from d_back_core.errors import ErrorCode
from d_back_core.gateway import gateway, session
from d_back_core.gateway.admission import Admission
from d_back_core.gateway.site import PAGE_PATHS, Site
from d_back_core.hookspecs import ProviderSpec
from d_back_core.providers.health import KEPT, State
from d_back_core.providers.plugin_checks import hooks_specified
from d_back_core.wire import protocol
from d_back_testing import ManualClock, ScriptedProvider
from tools.reference import TABLES

Json: TypeAlias = dict[str, Any]


def field_names(kind: type[Struct]) -> list[str]:
    return [field.name for field in structs.fields(kind)]


# The protocol

CLIENT_MESSAGES: dict[str, type[Struct]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(protocol.ClientMessage)
}
SERVER_MESSAGES: dict[str, type[Struct]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(protocol.ServerMessage)
}
RECORDS: dict[str, type[Struct]] = {
    "A server": protocol.WireServer,
    "A user": protocol.WireUser,
}
"""What has a section of its own, and is linked to from the messages that hold it."""
DWORLD, OAUTH = "232769614004748288", "123456789012345678"
BURST = 60
"""Messages that the conversation does not need."""
VEGETA, COGS, NNTIN = (f"12345678901234500{number}" for number in (1, 2, 3))


CHANNEL, LATE = "527964146659229701", "1234567890123456780"
AT = datetime(2026, 11, 30, 20, 15, 30, 500_000, tzinfo=UTC)
LATE_CHAT: tuple[Event, ...] = (
    Message(server_id=DWORLD, uid=VEGETA, message="see you", channel=CHANNEL, id=LATE, at=AT),
    MessageEdited(
        server_id=DWORLD,
        uid=VEGETA,
        message="see you soon",
        channel=CHANNEL,
        id=LATE,
        at=AT.replace(second=42, microsecond=0),
    ),
    MessageDeleted(server_id=DWORLD, channel=CHANNEL, id=LATE),
)


def struct_in(hint: object) -> type[Struct] | None:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint
    if get_origin(hint) not in {Union, UnionType, Annotated}:
        return None
    return next((found for each in get_args(hint) if (found := struct_in(each))), None)


def wire_fields(kind: type[Struct], path: str = "") -> Iterator[tuple[str, str]]:
    """Every field of a message by its path, and whether it is always there."""
    for field in structs.fields(kind):
        inner = struct_in(field.type)
        where = f"{path}{field.encode_name}"
        if inner is None or not field.required:
            yield where, "always" if field.required else "sometimes"
        if inner is not None:
            yield from wire_fields(inner, f"{where}.")


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        *((f"`{kind}`", struct) for kind, struct in (CLIENT_MESSAGES | SERVER_MESSAGES).items()),
        *RECORDS.items(),
    ],
)
def test_fields_of_messages(heading: str, kind: type[Struct]) -> None:
    """Each message names all its fields, and says whether they are always there."""
    (table,) = tables(sections("protocol.md")[heading])
    assert {row[0].strip("`"): row[1] for row in table} == dict(wire_fields(kind))
    for name, record in RECORDS.items():
        held = [field for field in structs.fields(kind) if record in get_args(field.type)]
        assert not held or f"[{name.lower()}](#" in "".join(row[2] for row in table)


def examples(kinds: Iterable[str]) -> list[Json]:
    frames = [json.loads(block.text) for block in blocks("protocol.md", "json")]
    return [frame for frame in frames if frame["type"] in kinds]


def test_messages_have_examples() -> None:
    """There is an example of every message, and none of anything else."""
    shown = {json.loads(block.text)["type"] for block in blocks("protocol.md", "json")}
    assert shown == {*CLIENT_MESSAGES, *SERVER_MESSAGES}


@pytest.mark.parametrize("frame", examples(CLIENT_MESSAGES), ids=lambda frame: frame["type"])
def test_examples_from_clients(frame: Json) -> None:
    """The gateway understands the examples of what clients send, every field of them."""
    decoded = protocol.decode(json.dumps(frame).encode())
    said = json.loads(msgspec.json.encode(decoded))
    assert without_nulls(said) == without_nulls(frame)
    Draft202012Validator(protocol.schema()).validate(frame)


def without_nulls(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {key: without_nulls(each) for key, each in value.items() if each is not None}


@pytest_asyncio.fixture
async def conversation(dial: Dial) -> list[Json]:  # noqa: C901  one step after another
    """Everything that clients were sent in the conversation that the page shows."""
    servers = {
        DWORLD: Server(name="D-World", id="dworld", default=True, client_id="1234567890123456789"),
        OAUTH: Server(name="OAuth2 Protected Server", id="oauth", passworded=True),
    }
    members = {
        VEGETA: User(username="vegeta897", status="online", role_color="#ff6b6b"),
        COGS: User(username="Cog-Creators", status="idle", role_color="#4ecdc4"),
    }
    script = ScriptedProvider(servers, {DWORLD: members, OAUTH: {}})
    table = {"chain": {"order": ["script"]}, "limits": {"message_burst": BURST}}
    config = configuration.parse(table)
    async with WebSocketServer(0, config=config, providers={"script": script}) as server:
        frames: list[Json] = []
        peer = await dial(server, greeted=False)

        async def hear(*events: Event) -> None:
            script.emit(*events)
            await server.live.settle()
            frames.extend(await peer.pending())

        def said(text: str) -> Message:
            return Message(server_id=DWORLD, uid=VEGETA, message=text, channel=CHANNEL)

        def changed(uid: str, **fields: Any) -> UserChanged:  # noqa: ANN401  those of the event
            return UserChanged(server_id=DWORLD, uid=uid, **fields)

        visit = changed("9", username="Z"), UserRemoved(server_id=DWORLD, uid="9")
        talk = (said("how are you?"),)
        frames.append(await peer.receive())
        await peer.ask()
        frames.append(await peer.receive())
        epoch = frames[-1]["data"]["epoch"]
        for change in (
            changed(VEGETA, status="idle"),
            changed(NNTIN, username="NNTin", status="online", role_color="#ffe66d"),
            said("hello"),
            UserRemoved(server_id=DWORLD, uid=NNTIN),
            ServerChanged(server_id=DWORLD, client_id="9876543210987654321"),
            ServerChanged(server_id=DWORLD, name="D-World 2"),
        ):
            await hear(change)
        server.live.joins.announce(protocol.refresh_data(DWORLD), DWORLD)
        server.live.joins.announce(protocol.error("notice", "Back in five minutes"), None)
        await hear()
        login = {"discordToken": "x", "discordUser": {"id": "1"}}
        for question in (
            {"type": "get_user_data", "serverId": "dworld"},
            {"type": "get_server_data", "serverId": "dworld"},
            {"type": "connect", "data": {"server": "nowhere"}},
            {"type": "connect", "data": {"server": "oauth"}},
            {"type": "connect", "data": {"server": "oauth", **login}},
        ):
            await peer.send(question)
            frames.append(await peer.receive())
        for wrong in ("nope", '{"type": "hi"}', '{"type": "get_user_data"}', b"\xff"):
            await peer.connection.send(wrong)
            frames.append(await peer.receive())
        (connection,) = server.connections
        for missed in (
            (changed(COGS, status="dnd"), *visit, changed(COGS, status="online"), *talk),
            visit,
        ):
            connection.pause_writing()
            connection.observer.fall_behind()
            script.emit(*missed)
            await server.live.settle()
            connection.resume_writing()
            connection.observer.recover()
            await hear()
        back = await dial(server)
        await back.ask("dworld", resume={"epoch": epoch, "seq": 2})
        frames.append(await back.expect("resumed"))
        frames.extend(await back.pending())
        for event in LATE_CHAT:
            await hear(event)
        await hear(ServerChanged(server_id=DWORLD, enabled=False))
        await peer.ask()
        frames.append(await peer.receive())
        for _ in range(BURST + 1):
            await back.send({"type": "get_server_data"})
        while frames[-1]["data"].get("code") != "rate_limited":
            frames.append({"data": {}, **await back.receive()})
    return frames


def without_epoch(frame: Json) -> str:
    return re.sub(r'"epoch": "[0-9a-f]{16}"', '"epoch": ""', json.dumps(frame, sort_keys=True))


def test_examples_from_the_gateway(conversation: list[Json]) -> None:
    """The examples of what the gateway sends are frames that it sends."""
    sent = {without_epoch(frame) for frame in conversation}
    for frame in examples(SERVER_MESSAGES):
        assert without_epoch(frame) in sent
        Draft202012Validator(protocol.schema()).validate(frame)


def test_error_codes(conversation: list[Json]) -> None:
    """Each error code is in the table, and the texts in it are those that are sent."""
    (table,) = tables(sections("protocol.md")["Error codes"])
    assert set(first_names(table)) == set(get_args(ErrorCode))
    texts = [(named(code)[0], text) for code, text, *_ in table]
    for frame in conversation:
        if frame["type"] == "error":
            code, message = frame["data"]["code"], frame["data"]["message"]
            fitting = [text for known, text in texts if known == code]
            assert any(
                text == "any" or message.startswith(text.partition("…")[0]) for text in fitting
            ), frame


def test_close_codes() -> None:
    """Each close code that a session, or the client, knows is in the table."""
    (table,) = tables(sections("protocol.md")["Close codes"])
    known = {value for value in vars(session).values() if value in range(1000, 5000)}
    assert known | FINAL_CODES <= {int(row[0]) for row in table}


def test_http_paths() -> None:
    """Each path that the core serves is in the table, and no other."""
    (table,) = tables(sections("protocol.md")["HTTP"])
    assert set(first_names(table)) == set(http_paths())


async def test_http_example() -> None:
    """What the page shows of a refused request is what is served."""
    (shown,) = [block for block in blocks("protocol.md", "text") if "$ curl" in block.text]
    command, answer = shown.text.splitlines()
    script = ScriptedProvider(
        {OAUTH: Server(name="OAuth2", id="oauth", passworded=True)}, {OAUTH: {}}
    )
    async with WebSocketServer(0, providers={"script": script}) as server:
        path = command.split(str(configuration.GatewayConfig().port))[1]
        assert json.dumps(await served(server, path)) == json.dumps(json.loads(answer))


def http_paths() -> Iterator[str]:
    config = configuration.parse({"gateway": {"port": 0}})
    backend = WebSocketServer(config=config).live
    site = Site(config, backend, Admission(config, Counter(), Clock()), lambda: True)
    for route in site.routes:
        path = getattr(route, "path", "").replace("{provider}", "NAME")
        yield re.sub(r"{\w+}", "ID", path)
    yield from PAGE_PATHS


# The configuration


@pytest.mark.parametrize(("heading", "kind"), TABLES.items())
def test_defaults(heading: str, kind: type[Struct]) -> None:
    """Each key is described with its default."""
    (table,) = tables(sections("configuration.md")[heading])
    defaults = {field.encode_name: default_of(field) for field in structs.fields(kind)}
    required = {key: "x" for key, value in defaults.items() if value is NODEFAULT}
    for key, _, cell, _ in ((row[0].strip("`"), *row[1:]) for row in table):
        if not cell:
            assert defaults[key] is None, key
        elif not named(cell):
            assert defaults[key] is NODEFAULT, key
        else:
            entry = tomllib.loads(f"{key} = {named(cell)[0]}")
            decoded = decode(kind, required | entry, heading)
            assert getattr(decoded, key) == defaults[key], key


def default_of(field: structs.FieldInfo) -> object:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


def test_no_other_tables() -> None:
    """The tables that are described are all that the file may have."""
    known = set(configuration.schema()["$defs"]["_Tables"]["properties"])
    described = {heading.strip("`[]").partition(".")[0] for heading in TABLES}
    assert described == known


def test_environment() -> None:
    """Each environment variable is in the table, with the flag and the key that it stands for."""
    (table,) = tables(sections("configuration.md")["Where it is looked for"])
    found = {named(row[0])[0]: (named(row[1])[0], *named(row[2])) for row in table}
    assert found == {
        "D_BACK_CONFIG": ("--config",),
        **{
            variable: (f"--{key.replace('_', '-')}", f"gateway.{key}")
            for variable, key in ENVIRONMENT.items()
        },
    }


def test_reload() -> None:
    """The page says of each key when a change of it takes effect."""
    at_once, at_start = sections("configuration.md")["Reload"].split("Only at the next start")
    kinds = (
        configuration.GatewayConfig,
        configuration.LimitsConfig,
        configuration.ProviderConfig,
    )
    told = {name.rpartition(".")[2] for name in named(at_once + at_start)}
    assert {key for kind in kinds for key in field_names(kind)} <= told
    assert set(gateway.FIXED) <= set(named(at_start))


def test_modes() -> None:
    """Each mode is in the table."""
    (table,) = tables(sections("configuration.md")["Modes"])
    assert first_names(table) == list(get_args(Mode))


@pytest.mark.parametrize(
    "block",
    [
        block
        for page in PAGES
        for block in blocks(str(page.relative_to(DOCS)), "toml")
        if block.title in {None, "d-back.toml"}
    ],
    ids=lambda block: block.page,
)
def test_toml_examples(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configurations that the pages show are right."""
    for name in re.findall(r'env = "(\w+)"', block.text):
        monkeypatch.setenv(name, "x")
    (tmp_path / "secrets").mkdir()
    for name in ("club", "crew"):
        (tmp_path / "secrets" / name).write_text("open sesame\n")
    path = tmp_path / "d-back.toml"
    path.write_text(block.text)
    config = configuration.load(path, {})
    assert config.providers.keys() <= set(config.names)


# Operations


def command_sections() -> dict[str, click.Command]:
    found: dict[str, click.Command] = {"`d-back`": cli.main}
    for name in (*commands.COMMANDS, *commands.SEPARATE):
        command = commands.COMMANDS.get(name) or commands.installed_command(name)
        assert command, name
        found[f"`d-back {name}`"] = command
    return found


@pytest.mark.parametrize(("heading", "command"), command_sections().items())
def test_commands(heading: str, command: click.Command) -> None:
    """Each command has its section, with all its options and arguments."""
    described = tables(sections("operations.md")[heading])
    shown = {row[0].strip("`").split()[0] for table in described for row in table}
    assert shown - {"--help"} == {
        param.opts[-1] if isinstance(param, click.Option) else str(param.name).upper()
        for param in command.params
    }


def test_no_other_commands() -> None:
    """The commands that are described are those that there are."""
    described = {heading for heading in sections("operations.md") if heading.startswith("`d-back")}
    assert described - {"`d-back NAME`"} == set(command_sections())


def test_health() -> None:
    """The fields of ``/api/health`` are described, and its example has them all."""
    paths, fields = tables(sections("operations.md")["Health"])
    assert first_names(fields) == field_names(ProviderStats)
    assert {"/healthz", "/readyz", "/api/health"} <= set(first_names(paths))
    (block,) = blocks("operations.md", "json")
    for provider in json.loads(block.text)["providers"]:
        assert list(provider) == field_names(ProviderStats)
        msgspec.convert(provider, ProviderStats)


def test_loggers() -> None:
    """Each logger of the core is in the table."""
    (table,) = tables(sections("operations.md")["Logs"])
    core = Path(d_back_core.__file__).parent
    sources = [path.read_text(encoding="utf-8") for path in core.rglob("*.py")]
    used = {name for text in sources for name in LOGGER.findall(text)}
    described = set(first_names(table)) | {"d_back.providers.NAME"}
    assert used - UNSAID_LOGGERS <= described


LOGGER = re.compile(r'^log = .*"(d_back.*)"', re.MULTILINE)
UNSAID_LOGGERS = {"d_back.callbacks", "d_back.plugins", "d_back.gateway.websockets"}
"""Those of what only programmers, or embedding programs, can act on."""


async def test_log_of_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    """The log lines that the page shows of an outage are those of one, but for the waits."""
    (shown,) = [each for each in blocks("operations.md", "text") if "is ready again" in each.text]
    caplog.set_level(logging.INFO, logger="d_back")
    clock = ManualClock()
    servers = {DWORLD: Server(name="D-World")}
    discord, postgres = (
        ScriptedProvider(servers, {DWORLD: {VEGETA: User(status=status)}})
        for status in ("online", "idle")
    )
    config = configuration.parse({"chain": {"order": ["discord", "postgres"]}})
    providers = {"discord": discord, "postgres": postgres}
    server = WebSocketServer(0, config=config, providers=providers, clock=clock)
    async with asyncio.timeout(PATIENCE), server, connect(server.url) as world:

        async def becomes(status: str) -> None:
            while world.users[VEGETA].status != status:
                await clock.advance(1)

        caplog.clear()
        discord.start_answer = ConnectionError("the host is unreachable")
        discord.emit(ConnectionError("the connection is lost"))
        await becomes("idle")
        discord.start_answer = None
        await becomes("online")
        logged = [*caplog.messages]
    waits = re.compile(r"in [\d.]+ s$", re.MULTILINE)
    assert waits.sub("", "\n".join(logged)) == waits.sub("", shown.text.strip())


async def test_log_of_a_failed_call(caplog: pytest.LogCaptureFixture) -> None:
    """What the page says of the ends of such lines is so."""
    ends = named(sections("operations.md")["Logs"])
    assert KEPT in ends
    script = ScriptedProvider({DWORLD: Server(name="D-World")}, {})
    script.start_answer = ConfigError("the token is not valid")
    async with WebSocketServer(0, providers={"script": script}):
        assert [line for line in caplog.messages if line.endswith(tuple(ends))]


# Hooks


def test_hooks() -> None:
    """Each hook has its section, with its arguments, and no other has."""
    headings = {
        heading for heading in sections("hooks.md") if re.fullmatch(r"`\w+\(.*\)`", heading)
    }
    expected = set()
    for name in hooks_specified():
        arguments = list(inspect.signature(getattr(ProviderSpec, name)).parameters)[1:]
        expected.add(f"`{name}({', '.join(arguments)})`")
    assert headings == expected


@pytest.mark.parametrize(
    ("heading", "kinds"),
    [
        ("`start(context)`", [Context]),
        ("`servers()`", [Server]),
        ("`users(server_id)`", [User]),
        ("`authorize(server_id, credentials, address)`", [Credentials, Grant]),
    ],
)
def test_fields_of_hooks(heading: str, kinds: list[type[Struct]]) -> None:
    """What hooks are given, and what they return, is described field by field."""
    described = [sorted(first_column(table)) for table in tables(sections("hooks.md")[heading])]
    assert described == [sorted(field_names(kind)) for kind in kinds]


def test_class_attributes() -> None:
    """The attributes of a class that the core reads are those that the contract names."""
    (table,) = tables(sections("hooks.md")["Class attributes"])
    contract = inspect.getdoc(hookspecs) or ""
    heads = re.findall(r"^(``.*``)$", contract, re.MULTILINE)
    named_there = re.findall(r"``(\w+)``", " ".join(heads))
    assert first_column(table) == ["Config", *named_there]


def first_column(table: Table) -> list[str]:
    return [row[0].strip("`") for row in table]


@pytest.mark.parametrize(
    ("heading", "union"), [("`events()`", Event), ("`record(changes)`", Change)]
)
def test_unions_of_hooks(heading: str, union: object) -> None:
    """Each event, and each change for recorders, is described with all its fields."""
    (table,) = tables(sections("hooks.md")[heading])
    described = {row[0].strip("`"): named(row[1]) for row in table}
    assert described == {kind.__name__: field_names(kind) for kind in get_args(union)}


def test_health_of_providers() -> None:
    """Each health is in the table."""
    (table,) = tables(sections("hooks.md")["Health"])
    assert first_column(table) == list(get_args(State))


def test_hook_version() -> None:
    """The version of the hooks in the page is the present one."""
    assert f"`d_back_core.HOOK_VERSION`, now {HOOK_VERSION}," in read("hooks.md")


# The package of hooks.md


class Club:
    """The package as it is installed, and the door of its tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tests = runpy.run_path(str(folder / "tests" / "test_club.py"))

    def config(self, port: int) -> configuration.Config:
        """The configuration of the page, for a door at that port."""
        path = self.folder / "d-back.toml"
        path.write_text(re.sub(r"port = \d+", f"port = {port}", path.read_text()))
        return configuration.load(path, {}, port=0)


@pytest.fixture
def club(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Club]:
    titled = [*blocks("hooks.md", "python"), *blocks("hooks.md", "toml")]
    for block in titled:
        assert block.title is not None, block.text
        path = tmp_path / block.title
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    info = tmp_path / "d_back_club-1.0.0.dist-info"
    info.mkdir()
    name, version = project["name"], project["version"]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CLUB_TOKEN", "right")
    yield Club(tmp_path)
    for module in [each for each in sys.modules if each.partition(".")[0] == "d_back_club"]:
        del sys.modules[module]


async def test_tests_of_the_package(club: Club) -> None:
    """The tests that the page shows pass."""
    shown = [value for name, value in club.tests.items() if name.startswith("test_")]
    assert shown
    for test in shown:
        await test()


async def test_package(club: Club) -> None:
    """The package of the page works in a real gateway: its events reach a client, its page is
    served, it starts again after a failure, and its state is remembered when it is gone."""
    clock = ManualClock()
    async with asyncio.timeout(PATIENCE), club.tests["door"]() as door:
        config = club.config(door.port)
        server = WebSocketServer(config=config, clock=clock)
        async with server, connect(server.url) as world:
            visit = await door.visited()
            club.tests["tell"](visit, {"uid": "8", "name": "Bob", "here": False})
            await world.until(lambda world: "8" in world.users)
            stream = world.events()
            heard = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)  # it listens
            club.tests["tell"](visit, {"uid": "8", "says": "hello"})
            frame = await heard
            assert isinstance(frame, protocol.MessageFrame)
            assert (frame.data.message, frame.data.channel) == ("hello", "bar")
            assert await served(server, "/club") == {"here": 1}

            await until(lambda: not any(server.live.stats().queued.values()))
            visit.close()  # the door closes the connection, and is visited again
            await until(lambda: health(server)["club"] == "degraded")
            await clock.advance(2)
            await door.visited()
            await until(lambda: health(server)["club"] == "ready")
            await world.until(lambda world: "8" not in world.users)
            await until(lambda: not any(server.live.stats().queued.values()))
    server = WebSocketServer(config=config, clock=clock)  # and now there is no door
    async with server, connect(server.url) as world:
        assert health(server) == {"club": "failed", "journal": "ready"}
        assert list(world.users) == ["7"]


def health(server: WebSocketServer) -> Mapping[str, str]:
    return {each.name: each.health for each in server.live.stats().providers}


async def served(server: WebSocketServer, path: str) -> object:
    """The JSON at that path."""
    reader, writer = await asyncio.open_connection("localhost", server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("token", "output", "status"),
    [("right", "7 Ada\n", 0), ("wrong", "Error: token: unknown\n", 2)],
)
async def test_command_of_the_package(
    club: Club, monkeypatch: pytest.MonkeyPatch, token: str, output: str, status: int
) -> None:
    """The command of the page prints the members, or in one line why it cannot."""
    monkeypatch.setenv("CLUB_TOKEN", token)
    monkeypatch.setattr(logging, "raiseExceptions", True)  # put back afterwards
    async with club.tests["door"]() as door:
        path = club.config(door.port).path
        arguments = ["--config", str(path), "club", "members"]
        done = await asyncio.to_thread(CliRunner().invoke, cli.main, arguments)
    assert (done.output, done.exit_code) == (output, status)


# Embedding

PARAMETERS = re.compile(r"\(.*\)")


def test_embedding_api() -> None:
    """Each public name of the server is described."""
    public = {name for name in dir(WebSocketServer) if not name.startswith("_")}
    headings = ("The callbacks", "Broadcasts", "The object")
    described = [tables(sections("embedding.md")[heading])[0] for heading in headings]
    assert {
        PARAMETERS.sub("", each) for table in described for each in first_names(table)
    } == public


def test_broadcasts() -> None:
    """Each broadcast is described with its parameters."""
    (table,) = tables(sections("embedding.md")["Broadcasts"])
    for described in first_names(table):
        name, _, parameters = described.rstrip(")").partition("(")
        known = inspect.signature(getattr(WebSocketServer, name)).parameters
        assert parameters.split(", ") == list(known)[1:]


@pytest.fixture
def embedded(tmp_path: Path) -> Mapping[str, Json]:
    """The modules that the page shows, by name."""
    modules = {}
    for block in blocks("embedding.md", "python"):
        assert block.title is not None
        path = tmp_path / block.title
        path.write_text(block.text)
        modules[block.title] = runpy.run_path(str(path))
    return modules


async def test_callbacks_of_the_page(embedded: Mapping[str, Json]) -> None:
    """The program with callbacks serves its members, and who comes in and leaves."""
    module = embedded["club.py"]
    server = module["server"]
    server.port = 0
    async with server, connect(server.url) as world:
        assert world.name == "The club"
        await module["come_in"]("8", "Bob")
        await world.until(lambda world: world.users.keys() == {"7", "8"})
        await module["leave"]("8")
        await world.until(lambda world: world.users.keys() == {"7"})


async def test_server_beside_other_work(embedded: Mapping[str, Json]) -> None:
    """The program that goes on beside the server listens while it works."""

    async def work(url: str) -> None:
        async with connect(url) as world:
            names.append(world.users["7"].username)

    names: list[str] = []
    await embedded["beside.py"]["serve_while"](work)
    assert names == ["Ada"]


async def test_server_in_starlette(embedded: Mapping[str, Json]) -> None:
    """The gateway listens during the lifespan, and a request changes what clients see."""
    module = embedded["starlette_app.py"]
    app = module["app"]
    sent: list[Mapping[str, Any]] = []
    module["lifespan"].__wrapped__.__globals__["PORT"] = 0  # those of the module as it ran

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request"}

    async with app.router.lifespan_context(app), connect(app.state.gateway.url) as world:
        scope = {"type": "http", "method": "GET", "path": "/come-in/8/Bob", "headers": []}
        await app({**scope, "query_string": b"", "http_version": "1.1"}, receive, send)
        assert sent[0]["status"] == 200
        await world.until(lambda world: world.users.keys() == {"8"})
    assert app.state.gateway.listener is None


async def test_application_on_the_port_of_the_gateway(embedded: Mapping[str, Json]) -> None:
    """The application of the page, the API and the WebSocket are served on one port."""
    async with embedded["shared_port.py"]["serving"](0) as server, connect(server.url) as world:
        assert world.users["7"].username == "Ada"
        base = f"http://localhost:{server.port}"
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            assert (await client.get("/rules")).text == "Be kind."
            assert (await client.get("/api/servers")).json()["servers"]["1"]["name"] == "The club"


async def test_the_gateway_in_another_server(embedded: Mapping[str, Json]) -> None:
    """Its HTTP part answers as a mounted application, below any path."""
    async with embedded["shared_port.py"]["serving"](0) as server:
        host = Starlette(routes=[Mount("/gateway", app=server.app)])
        transport = httpx.ASGITransport(host)
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            assert (await client.get("/gateway/healthz")).text == "ok\n"
            assert (await client.get("/gateway/rules")).text == "Be kind."
            assert (await client.get("/gateway/api/servers/1")).status_code == 200


async def test_server_in_aiohttp(embedded: Mapping[str, Json]) -> None:
    """The gateway listens while the application runs, and a request changes what clients see."""
    module = embedded["aiohttp_app.py"]
    app = module["application"](port=0)
    server = app[module["GATEWAY"]]
    async with TestClient(TestServer(app)) as client, connect(server.url) as world:
        answer = await client.get("/come-in/8/Bob")
        assert (await answer.json())["watch"] == server.url
        await world.until(lambda world: world.users.keys() == {"8"})
    assert server.listener is None


async def test_providers_of_the_page(embedded: Mapping[str, Json]) -> None:
    """Instances that are given are fallbacks, in their order."""
    server = embedded["providers.py"]["server"]
    async with server, connect(server.url) as world:
        assert world.users["7"].role_color == "#aaaaaa"


# All pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Links between the pages lead somewhere."""
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        other = page if not name else page.parent / name
        assert other.is_file(), target
        assert not anchor or anchor in anchors(other.read_text(encoding="utf-8")), target
