"""Who supplies what: the explanation, the control socket, and the commands that ask."""

import asyncio
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from operating import CLUB, Operator, posix
from sample_users import ADA, BOB, CID, ONE
from terminal import terminal

from d_back_core import Context, DBackError, File, JoinError, Server, User, hookimpl
from d_back_core.admin.control_socket import Question, ask
from d_back_core.admin.explain import explain
from d_back_core.config import Config, GatewayConfig, parse
from d_back_core.embedding.server import WebSocketServer
from d_back_core.providers.loader import load
from d_back_core.state.live import Live
from d_back_testing import ManualClock, ScriptedProvider, served
from d_back_testing.scripted_provider import DOWN

PATIENCE = 60.0


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


COLORS = {"7": User(role_color="#123456"), "99": User(role_color="#654321")}


def chain() -> dict[str, object]:
    """Colours that win, members, and members that are not asked."""
    return {
        "colors": ScriptedProvider(None, {"1": COLORS}),
        "town": ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}}),
        "spare": ScriptedProvider(ONE, {"1": {"9": CID}}),
    }


TABLES = {"colors": {"mode": "enrich"}}


async def test_every_field_names_its_provider_and_what_lost() -> None:
    """A colour that an overlay overrides is shown beside the one that won."""
    async with served(chain(), tables=TABLES) as gateway:
        await gateway.connect_and_join()
        [ada] = explain(gateway.live, "one", "7").users or []
    color = ada.fields["role_color"]
    assert (color.value, color.provider) == ("#123456", "colors")
    assert color.lost == {"town": "#aaaaaa"}
    assert ada.fields["username"].provider == "town"


async def test_a_default_has_no_provider() -> None:
    """What no provider supplies is marked as the default."""
    providers = {"town": ScriptedProvider(ONE, {"1": {"7": User()}})}
    async with served(providers) as gateway:
        await gateway.connect_and_join()
        [user] = explain(gateway.live, "1").users or []
    assert user.fields["status"].value == "offline"
    assert user.fields["status"].provider is None


async def test_servers_name_whose_users_they_show() -> None:
    """The provider in use is named, the spare one is not."""
    async with served(chain(), tables=TABLES) as gateway:
        await gateway.connect_and_join()
        [server] = explain(gateway.live).servers
    assert server.providers == ["colors", "town"]
    assert (server.users, server.sessions, server.stale) == (2, 1, False)


async def test_a_server_that_nobody_watches_is_not_held() -> None:
    """Its users are not counted, as no provider was asked for them."""
    async with served(chain(), tables=TABLES) as gateway:
        [server] = explain(gateway.live).servers
    assert server.users is None
    assert server.providers == []


async def test_a_provider_s_health_and_error() -> None:
    """What went wrong, since when, and when it is tried again."""
    providers = chain()
    town = providers["town"]
    assert isinstance(town, ScriptedProvider)
    async with served(providers, tables=TABLES) as gateway:
        await gateway.connect_and_join()
        town.break_stream()
        await gateway.settle()
        state = explain(gateway.live).providers[1]
    assert state.stats.name == "town"
    assert state.stats.health == "degraded"
    assert "down" in state.error
    assert state.stats.next_retry is not None


async def test_a_failing_layer_degrades_its_provider() -> None:
    """R10: health is per layer, and shows at the provider."""
    providers = chain()
    town = providers["town"]
    assert isinstance(town, ScriptedProvider)
    async with served(providers, tables=TABLES) as gateway:
        await gateway.connect_and_join()
        town.users_answers["1"] = DOWN
        assert town.context is not None
        town.context.degraded("x")
        town.context.recovered()
        await gateway.settle()
        states = {each.stats.name: each for each in explain(gateway.live).providers}
    assert states["town"].stats.health == "degraded"
    assert "users" in states["town"].error


async def test_an_unknown_server_is_an_error() -> None:
    """It is named in the sentence."""
    async with served(chain(), tables=TABLES) as gateway:
        with pytest.raises(JoinError, match="there is no server 'nowhere'"):
            explain(gateway.live, "nowhere")


async def test_an_unknown_user_is_an_error() -> None:
    """A part of the name is enough to find the uid."""
    async with served(chain(), tables=TABLES) as gateway:
        await gateway.connect_and_join()
        expected = r"there is no user 'ada' in server 'one' \(did you mean '7'\?\)"
        with pytest.raises(DBackError, match=expected):
            explain(gateway.live, "1", "ada")


async def test_r5_a_guard_that_cannot_be_read_is_a_problem() -> None:
    """The sentence names the provider and what follows from it."""
    answer: dict[str, Any] = {"1": Server(name="One", enabled="perhaps")}  # type: ignore[arg-type]
    async with served({"town": ScriptedProvider(answer)}) as gateway:
        assert explain(gateway.live).problems == [
            "provider town: servers.enabled: cannot be read; the server is disabled"
        ]


async def test_data_that_is_kept_after_a_failure_is_a_problem() -> None:
    """Of the list, and of each server that is held."""
    providers = {"town": ScriptedProvider(ONE, {"1": {"7": ADA}})}
    async with served(providers) as gateway:
        await gateway.connect_and_join()
        providers["town"].break_stream()
        await gateway.advance(PATIENCE)
        assert explain(gateway.live).problems == [
            "provider town: has failed; the servers that only it listed stay",
            "server 1: no provider answers; its last state stays",
        ]


async def test_a_provider_without_a_list_is_marked() -> None:
    """It only supplies data of servers that others list."""

    class Listless:
        @hookimpl
        async def users(self) -> dict[str, User]:
            return {}

    async with served({"town": ScriptedProvider(ONE), "list": Listless()}) as gateway:
        assert [each.lists for each in explain(gateway.live).providers] == [True, False]


async def test_api_health_holds_no_error_texts() -> None:
    """Anybody may see the states of the providers, and nothing that could be a secret."""
    secret = RuntimeError("password=hunter2")
    providers = {"town": ScriptedProvider(secret, {})}
    async with served(providers) as gateway:
        await gateway.settle()
        answer = gateway.live.health()
    assert b"hunter2" not in answer
    [town] = json.loads(answer)["providers"]
    assert town["name"] == "town"
    assert town["health"] == "degraded"


def controlled(path: Path) -> WebSocketServer:
    gateway = GatewayConfig(control=File(path))
    config = Config(gateway=gateway, chain=parse({"chain": {"order": ["town"]}}).chain)
    return WebSocketServer(
        0, config=config, providers={"town": ScriptedProvider(ONE, {"1": {"7": ADA}})}
    )


async def test_the_control_socket_answers(tmp_path: Path) -> None:
    """The running process explains itself."""
    async with controlled(tmp_path / "c"):
        reply = await ask(str(tmp_path / "c"), Question())
    assert reply is not None
    assert reply.explanation is not None
    assert reply.explanation.servers[0].name == "One"


async def test_r38_the_control_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    """Its mode is 0600, and it is gone when the process is."""
    path = tmp_path / "c"
    async with controlled(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_left_over_control_socket_is_replaced(tmp_path: Path) -> None:
    """A process that was killed does not keep the next one from starting."""
    path = tmp_path / "c"
    leftover = await asyncio.start_unix_server(lambda *_: None, path=str(path))
    # What a killed process leaves: the file, and no listener.
    path.rename(tmp_path / "kept")
    leftover.close()
    await leftover.wait_closed()
    (tmp_path / "kept").rename(path)
    async with controlled(path):
        assert await ask(str(path), Question()) is not None


async def test_nonsense_on_the_control_socket_is_harmless(tmp_path: Path) -> None:
    """A question that is none gets no answer, and the next one does."""
    path = tmp_path / "c"
    async with controlled(path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"\xff{[\n")
        assert await reader.read() == b""
        writer.close()
        reply = await ask(str(path), Question(server="nowhere"))
    assert reply is not None
    assert reply.error == "there is no server 'nowhere'"


async def test_r38_a_probe_neither_streams_nor_records() -> None:
    """A probe starts each provider, asks once, and stops it."""
    town = ScriptedProvider(ONE, {"1": {"7": ADA}})
    config = parse({"chain": {"order": ["town"]}})
    [plugin] = load(config, {"town": town})
    probe = plugin.probing()
    assert not probe.implements("events")
    assert not probe.implements("record")
    assert probe.implements("users")


async def test_r38_a_probe_is_told_that_it_is_one() -> None:
    """A provider can leave out what a single question does not need."""
    seen: list[bool] = []

    class Curious(ScriptedProvider):
        async def _called(self, hook: str, server_id: str = "") -> None:
            if hook == "start" and isinstance(self.context, Context):
                seen.append(self.context.probe)
            await super()._called(hook, server_id)

    config = parse({"chain": {"order": ["town"]}})
    [plugin] = load(config, {"town": Curious({"1": Server(name="One")}, {"1": {"7": ADA}})})
    live = Live(config, [plugin.probing()], ManualClock())
    await live.start()
    await live.stop()
    assert seen == [True]


async def test_r45_a_probe_without_a_list_reports_no_names() -> None:
    """Discord does not connect for a probe, so its servers are not known."""
    tables = {"1": {"password": "hush"}, "zone": {}}
    config = parse({"chain": {"order": ["town"]}, "servers": tables})
    [plugin] = load(config, {"town": ScriptedProvider(None)})
    live = Live(config, [plugin.probing()], ManualClock())
    await live.start()
    assert explain(live).problems == []
    await live.stop()


# The commands, as the operator types them.


async def command(folder: Path, *words: str, columns: str = "200") -> tuple[int, str, str]:
    environ = {key: text for key, text in os.environ.items() if not key.startswith("D_BACK")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "d_back_core", *words),
        cwd=folder,
        env=environ | {"COLUMNS": columns},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_explain_shows_servers(tmp_path: Path) -> None:
    """The table names every server and provider."""
    status, out, _ = await command(tmp_path, "explain")
    assert status == 0
    assert "D-World (mock)" in out


async def test_explain_shows_the_users_of_a_server(tmp_path: Path) -> None:
    """Each value stands beside the provider that supplied it."""
    status, out, _ = await command(tmp_path, "explain", "dworld")
    assert status == 0
    assert "vegeta897 (mock)" in out


async def test_explain_prints_json(tmp_path: Path) -> None:
    """For scripts."""
    status, out, _ = await command(tmp_path, "explain", "dworld", "--json")
    assert status == 0
    found: dict[str, Any] = msgspec.json.decode(out)
    assert len(found["users"]) == 4


async def test_explain_of_an_unknown_server_fails(tmp_path: Path) -> None:
    """One line, and a status that is not 0."""
    status, _, err = await command(tmp_path, "explain", "nowhere")
    assert status == 1
    assert "there is no server 'nowhere'" in err
    assert "Traceback" not in err


async def test_explain_of_an_unknown_user_fails(tmp_path: Path) -> None:
    """One line with the nearest uid, and a status that is not 0."""
    status, out, err = await command(tmp_path, "explain", "dworld", "vegeta89")
    assert (status, out) == (1, "")
    assert err == (
        "Error: there is no user 'vegeta89' in server 'dworld'"
        " (did you mean '123456789012345001'?)\n"
    )


LONG = "a-public-id-that-is-as-long-as-it-may-be-" + "x" * 23


@pytest.mark.parametrize("words", [("explain",), ("explain", "--plain")])
@pytest.mark.parametrize("columns", ["80", "20"])
async def test_ids_are_never_cut(tmp_path: Path, words: tuple[str, ...], columns: str) -> None:
    """In a pipe, whatever the width of the terminal is."""
    toml = f"[servers.232769614004748288]\nalias = '{LONG}'\n"
    (tmp_path / "d-back.toml").write_text(toml)
    status, out, _ = await command(tmp_path, *words, columns=columns)
    assert status == 0
    assert LONG in out
    assert "232769614004748288" in out


@posix
def test_ids_are_never_cut_in_a_narrow_terminal(tmp_path: Path) -> None:
    """The other columns are folded, and the table may be wider than the terminal."""
    toml = f"[servers.232769614004748288]\nalias = '{LONG}'\n"
    (tmp_path / "d-back.toml").write_text(toml)
    with terminal("explain", folder=tmp_path, columns=80) as narrow:
        assert narrow.end() == 0
        assert LONG.encode() in narrow.raw
        assert b"232769614004748288" in narrow.raw


async def test_plain_output_is_separated_by_tabs(tmp_path: Path) -> None:
    """Each line begins with what it is about."""
    (tmp_path / "d-back.toml").write_text("[servers.dwrld]\nalias = 'a'\n")
    status, out, err = await command(tmp_path, "explain", "--plain")
    lines = [line.split("\t") for line in out.splitlines()]
    assert (status, err) == (0, "")
    assert [line[0] for line in lines].count("server") == 4
    assert ["server", "232769614004748288", "dworld", "D-World (mock)", "", "", "0"] in lines
    assert lines[-1] == [
        "problem",
        "servers.dwrld: matches no server (did you mean 'dworld'?)",
    ]


async def test_check_prints_json_and_tabs(tmp_path: Path) -> None:
    """With the filters, and with what is not used."""
    (tmp_path / "d-back.toml").write_text(
        "[providers.mock]\nservers = ['232769614004748288']\n[providers.spare]\n"
    )
    _, out, _ = await command(tmp_path, "check", "--json")
    checked = msgspec.json.decode(out)
    assert checked["source"] == "d-back.toml"
    assert [each["mode"] for each in checked["providers"]] == ["fallback", None]
    assert checked["providers"][0]["servers"] == ["232769614004748288"]
    _, out, _ = await command(tmp_path, "check", "--plain")
    assert out.splitlines() == [
        "provider\tmock\tmock\tfallback\tfalse\ttrue\t232769614004748288\t",
        "provider\tspare\tspare\t\tfalse\tfalse\t\t",
    ]


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        (
            "[servers.docs]\nignore_users = ['no-such-uid']\n",
            "servers.docs.ignore_users 'no-such-uid': matches no uid",
        ),
        (
            "[gateway]\nextra = ['activity', 'activty']\n",
            "gateway.extra 'activty': no user has such a text so far (did you mean 'activity'?)",
        ),
        (
            "[servers.docs]\nextra = ['avatar']\n",
            "servers.docs.extra 'avatar': no user has such a text so far",
        ),
    ],
)
async def test_check_live_fails_where_a_name_matches_nothing(
    toml: str, sentence: str, tmp_path: Path
) -> None:
    """Users of the servers that it concerns are fetched for it; the log does not repeat it."""
    (tmp_path / "d-back.toml").write_text(toml)
    status, out, err = await command(tmp_path, "check", "--live")
    assert (status, err) == (1, "")
    assert out.splitlines()[-1] == sentence
    assert "'activity':" not in out


MEMORY = """
from d_back_core import hookimpl

class Provider:
    def __init__(self, config):
        pass

    @hookimpl
    async def users(self, server_id):
        return None

    @hookimpl
    async def record(self, changes):
        pass
"""


def test_r35_check_names_a_fallback_that_lists_no_servers(operator: Operator) -> None:
    """And whether it records."""
    operator.install("memory", MEMORY)
    operator.configure("[chain]\norder = ['club', 'memory']\nrecorders = ['memory']\n")
    done = operator.run("check")
    assert done.stdout.splitlines()[1:] == [
        "1. club: plugin club, fallback",
        "2. memory: plugin memory, fallback, lists no servers, recorder",
    ]


def test_r38_check_live_fails_where_users_raises(operator: Operator) -> None:
    """The list alone does not prove that a provider works."""
    broken = CLUB.replace(
        "return {str(uid)", "raise RuntimeError('no table')\n        return {str(uid)"
    )
    operator.install("broken", broken, "ClubProvider")
    operator.configure("gateway.http = []\nchain.order = ['broken']")
    done = operator.run("check", "--live")
    assert done.stdout.splitlines()[-2:] == [
        "broken: ready, 1 records",
        "provider broken: users: RuntimeError: no table",
    ]
    assert done.returncode == 1
    assert "broken" not in done.stderr  # told once


async def test_check_live_says_who_is_ready(tmp_path: Path) -> None:
    """Every provider is started and asked once."""
    status, out, _ = await command(tmp_path, "check", "--live")
    assert status == 0
    assert "mock: ready" in out


async def test_check_live_fails_where_a_provider_does(tmp_path: Path) -> None:
    """What does not work is named, and the status says so."""
    toml = """
        [chain]
        order = ["postgres", "mock"]
        [providers.postgres]
        dsn = "postgresql://127.0.0.1:1/x"
    """
    (tmp_path / "d-back.toml").write_text(toml)
    status, out, _ = await command(tmp_path, "check", "--live")
    assert status == 1
    assert "postgres: failed" in out
    assert "mock: ready" in out


EVIL = "[link=https://x.example]Ann[/link] :skull: \x1b]52;c;aGFja2Vk\x07\x9b2J\u202e"


@pytest.mark.parametrize("arguments", [("explain", "1"), ("explain", "1", "--json"), ("explain",)])
async def test_r47_explain_prints_no_control_characters(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """A name is text: neither the terminal nor the library that draws the tables acts on it."""
    socket = str(tmp_path / "control")
    toml = f'[gateway]\ncontrol = "{socket}"\n[chain]\norder = ["mock"]'
    (tmp_path / "d-back.toml").write_text(toml)
    town = ScriptedProvider({"1": Server(name=EVIL)}, {"1": {"7": User(username=EVIL)}})
    config = parse({"gateway": {"port": 0, "control": socket}, "chain": {"order": ["mock"]}})
    async with WebSocketServer(config=config, providers={"mock": town}) as server:
        await server.live.joins.hold("1")
        status, out, err = await command(tmp_path, *arguments)
    assert (status, err) == (0, "")
    assert out.replace("\n", "").isprintable()
    assert "[link=" in out
    assert ":skull:" in "".join(out.split())


async def test_explain_shows_gauges(tmp_path: Path) -> None:
    """The provider's own numbers stand below the tables."""
    socket = str(tmp_path / "control")
    toml = f'[gateway]\ncontrol = "{socket}"\n[chain]\norder = ["mock"]'
    (tmp_path / "d-back.toml").write_text(toml)
    town = ScriptedProvider(ONE, {"1": {"7": ADA}})
    config = parse({"gateway": {"port": 0, "control": socket}, "chain": {"order": ["mock"]}})
    async with WebSocketServer(config=config, providers={"mock": town}):
        assert town.context is not None
        town.context.gauge("logins in 24 h", 3)
        _, out, _ = await command(tmp_path, "explain")
    assert "mock: logins in 24 h: 3\n" in out


async def test_r47_check_live_prints_no_control_characters(tmp_path: Path) -> None:
    """Nor does the reason why a provider is degraded."""
    socket = str(tmp_path / "control")
    toml = f'[gateway]\ncontrol = "{socket}"\n[chain]\norder = ["mock"]'
    (tmp_path / "d-back.toml").write_text(toml)
    town = ScriptedProvider(ONE, {"1": {"7": ADA}})
    config = parse({"gateway": {"port": 0, "control": socket}, "chain": {"order": ["mock"]}})
    async with WebSocketServer(config=config, providers={"mock": town}) as server:
        assert town.context is not None
        town.context.degraded(EVIL)
        await server.live.settle()
        _, out, _ = await command(tmp_path, "check", "--live")
    assert "mock: degraded" in out
    assert out.replace("\n", "").isprintable()
