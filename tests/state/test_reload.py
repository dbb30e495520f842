"""A changed configuration, applied while clients stay connected."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from sample_users import ADA, BOB, CID, ONE

from d_back_core import ConfigError, File, Server, User
from d_back_core.client import ClientWorld, connect
from d_back_core.config import GatewayConfig
from d_back_core.state import snapshot
from d_back_core.state.snapshot import Encoded
from d_back_core.wire.protocol import Error, PresenceFrame, ServerJoin, ServerListUpdate
from d_back_testing import ScriptedProvider, configured, served

PATIENCE = 60.0
FAILBACK = 5.0
GRACE = 30.0
MAX_BACKOFF = 60.0
OTHER_ADA = User(username="Ada", status="dnd", role_color="#aaaaaa")


def providers() -> dict[str, ScriptedProvider]:
    return {
        "a": ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}}),
        "b": ScriptedProvider(ONE, {"1": {"7": OTHER_ADA, "9": CID}}),
    }


async def test_a_new_order_reaches_clients_as_deltas() -> None:
    """The world of the new first provider comes in, user by user, without a new join."""
    async with served(providers()) as gateway:
        client = await gateway.connect_and_join()
        await gateway.server.reload(configured(["b", "a"]))
        await gateway.advance(FAILBACK)
        frames = await client.new_frames()
        assert client.users.keys() == {"7", "9"}
        assert client.users["7"].status == "dnd"
        assert all(isinstance(frame, PresenceFrame) for frame in frames)
        assert len(frames) == 3


async def test_a_new_mode_reaches_clients() -> None:
    """A second fallback that becomes an overlay adds its users."""
    async with served(providers()) as gateway:
        client = await gateway.connect_and_join()
        await gateway.server.reload(configured(["a", "b"], {"b": {"mode": "merge"}}))
        await gateway.settle()
        await client.new_frames()
        assert client.users.keys() == {"7", "8", "9"}


async def test_a_new_field_filter_reaches_clients() -> None:
    """What a provider may supply is narrowed live."""
    async with served(providers()) as gateway:
        client = await gateway.connect_and_join()
        await gateway.server.reload(configured(["a", "b"], {"a": {"fields": ["username"]}}))
        await gateway.settle()
        await client.new_frames()
        assert client.users["7"].status == "offline"


async def test_r17_an_untouched_provider_keeps_its_instance() -> None:
    """A reload that does not change a provider's own table does not restart it."""
    given = providers()
    async with served(given) as gateway:
        await gateway.server.reload(configured(["b", "a"]))
        await gateway.settle()
        assert given["a"].calls.count("start") == 1
        assert "stop" not in given["a"].calls


async def test_r17_a_changed_table_stops_the_old_instance_and_keeps_its_layer() -> None:
    """Clients see nothing of a provider that is replaced by itself."""
    given = providers()
    async with served(given) as gateway:
        client = await gateway.connect_and_join()
        given["a"].hold("start")
        # Its own options make the table another one.
        reload = gateway.server.reload(configured(["a", "b"], {"a": {"key": "new"}}))
        await reload
        await gateway.settle()
        assert given["a"].calls[-2:] == ["stop", "start"]
        assert await client.new_frames() == []
        given["a"].users_answers["1"] = {"7": OTHER_ADA}
        given["a"].release("start")
        await gateway.settle()
        await client.new_frames()
        assert client.users == {"7": client.users["7"]}
        assert client.users["7"].status == "dnd"


async def test_r17_a_merging_provider_that_is_replaced_by_itself_keeps_its_layer() -> None:
    """Also if its order and mode stay the same, so that nothing else waits for it."""
    given, merging = providers(), {"mode": "merge"}
    async with served(given, tables={"b": merging}) as gateway:
        client = await gateway.connect_and_join()
        given["b"].hold("start")
        await gateway.server.reload(configured(["a", "b"], {"b": {**merging, "key": "new"}}))
        await gateway.settle()
        assert given["b"].calls[-2:] == ["stop", "start"]
        assert await client.new_frames() == []
        assert client.users.keys() == {"7", "8", "9"}
        given["b"].release("start")


async def test_r17_an_instance_that_starts_after_the_grace_is_asked() -> None:
    """The layer of the former instance, which no other provider has replaced, stays until then."""
    source = ScriptedProvider(ONE, {"1": {"7": ADA}})
    async with served({"a": source}) as gateway:
        client = await gateway.connect_and_join()
        source.start_answer = ConnectionError("away")
        await gateway.server.reload(configured("a", {"a": {"key": "new"}}))
        await gateway.advance(GRACE + 1)
        await client.new_frames()
        assert client.users.keys() == {"7"}
        source.start_answer, source.users_answers["1"] = None, {"8": BOB}
        await gateway.advance(2 * MAX_BACKOFF)
        await client.new_frames()
        assert client.users.keys() == {"8"}


async def test_r7_a_removed_provider_stays_until_the_next_one_has_answered() -> None:
    """There is no moment without users."""
    given = providers()
    async with served(given) as gateway:
        client = await gateway.connect_and_join()
        given["b"].hold("users")
        await gateway.server.reload(configured(["b"]))
        await gateway.settle()
        assert await client.new_frames() == []
        assert given["a"].calls[-1] == "stop"
        given["b"].release("users")
        await gateway.settle()
        await client.new_frames()
        assert client.users.keys() == {"7", "9"}


async def test_a_new_provider_is_started() -> None:
    """A provider that was not in the order before is started and asked."""
    given = providers()
    async with served(given, chain={"order": ["a"]}) as gateway:
        client = await gateway.connect_and_join()
        await gateway.server.reload(configured(["a", "b"], {"b": {"mode": "merge"}}))
        await gateway.settle()
        await client.new_frames()
        assert given["b"].calls[0] == "start"
        assert "9" in client.users


async def test_r25_a_server_that_becomes_protected_turns_its_clients_out() -> None:
    """They receive the reason, stay connected, and can join again with the password."""
    async with served(providers()) as gateway:
        client = await gateway.connect_and_join()
        policies = {"1": {"password": "open sesame"}}
        await gateway.server.reload(configured(["a", "b"], policies=policies))
        frames = await client.new_frames()
        assert [frame.data.code for frame in frames if isinstance(frame, Error)] == [
            "unauthorized"
        ]
        await client.join("1", password="open sesame")


@pytest.mark.parametrize("change", ["changed", "removed"])
async def test_r25_a_changed_password_turns_out_who_joined_with_the_old_one(change: str) -> None:
    """They receive `unauthorized` and stay connected; a person whom a provider admitted stays."""
    given = {"a": ScriptedProvider(ONE, {"1": {"7": ADA}})}
    given["a"].authorize_answer = True
    old: dict[str, Any] = {"1": {"passworded": True, "password": "open sesame"}}
    new: dict[str, Any] = {"1": {"passworded": True, "password": "barley"}}
    if change == "removed":
        del new["1"]["password"]
    async with served(given, policies=old) as gateway:
        by_password = await gateway.connect_and_join("1", "open sesame")
        by_provider = await gateway.connect_and_join("1")
        await gateway.server.reload(configured(["a"], policies=new))
        frames = await by_password.new_frames()
        codes = [frame.data.code for frame in frames if isinstance(frame, Error)]
        assert codes == ["unauthorized"]
        assert await by_provider.new_frames() == []


async def test_policies_reach_clients() -> None:
    """A user whom the operator hides goes; one that comes to light is introduced."""
    async with served(providers(), policies={"1": {"ignore_users": ["8"]}}) as gateway:
        client = await gateway.connect_and_join()
        assert client.users.keys() == {"7"}
        policies = {"1": {"ignore_users": ["7"]}}
        await gateway.server.reload(configured(["a", "b"], policies=policies))
        await gateway.settle()
        await client.new_frames()
        assert client.users.keys() == {"8"}


async def test_r34_the_list_goes_out_under_its_own_type() -> None:
    """A changed list is never sent as a second server-list."""
    async with served(providers()) as gateway:
        client = await gateway.connect_and_join()
        await gateway.server.reload(configured(["a", "b"], policies={"1": {"enabled": False}}))
        frames = await client.new_frames()
        assert isinstance(frames[0], ServerListUpdate)
        assert frames[0].data == {}


async def test_an_invalid_configuration_changes_nothing() -> None:
    """A provider that is not installed leaves all as it was."""
    given = providers()
    async with served(given) as gateway:
        client = await gateway.connect_and_join()
        with pytest.raises(ConfigError, match="'missing': is not installed"):
            await gateway.server.reload(configured(["missing", "a"]))
        unreal = GatewayConfig(static_dir=File("/nowhere"))
        config = structs.replace(gateway.server.config, gateway=unreal)
        with pytest.raises(ConfigError, match="is not a directory"):
            await gateway.server.reload(config)
        assert await client.new_frames() == []
        assert "stop" not in given["a"].calls


async def test_r15_reloads_are_serialised() -> None:
    """Of two reloads at once the later one holds."""
    async with served(providers()) as gateway:
        client = await gateway.connect_and_join()
        await asyncio.gather(
            gateway.server.reload(configured(["b"])), gateway.server.reload(configured(["a"]))
        )
        await gateway.settle()
        await client.new_frames()
        assert client.users.keys() == {"7", "8"}


async def test_what_only_a_new_start_can_change_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another host is logged, and the port stays open."""
    async with served(providers()) as gateway:
        changed = GatewayConfig(host="127.0.0.1")
        await gateway.server.reload(structs.replace(gateway.server.config, gateway=changed))
        assert "gateway.host: takes effect at the next start" in caplog.text
        await gateway.connect_and_join()


# As the operator does it: a file, a process, a signal.

FIRST = """
[chain]
order = ["a", "b"]
failback_after = "10ms"
[providers.a]
use = "mock"
servers = ["232769614004748288"]
presence_interval = 0
message_interval = 0
[providers.b]
use = "mock"
users = 3
presence_interval = 0
message_interval = 0
"""


@asynccontextmanager
async def running(folder: Path, *flags: str) -> AsyncIterator[tuple[Any, str]]:
    """``d-back`` in a process of its own, and its URL."""
    environ = {key: text for key, text in os.environ.items() if not key.startswith("D_BACK")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "d_back_core", "--port", "0", *flags),
        cwd=folder,
        env=environ,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            line = await line_with(process, "listening on ")
            yield process, line.rsplit(" ", 1)[1]
            process.terminate()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line_with(process: Any, text: str) -> str:  # noqa: ANN401  a process of asyncio's
    """The next line of its log that holds the text."""
    while line := (await process.stderr.readline()).decode():
        if text in line:
            return str(line.strip())
    raise AssertionError(f"no line with {text!r}")


def names(world: ClientWorld) -> set[str]:
    return {server.name for server in world.servers.values()}


async def test_sighup_applies_the_file(tmp_path: Path) -> None:
    """A changed order reaches a connected client; a broken file is reported and changes
    nothing."""
    file = tmp_path / "d-back.toml"
    file.write_text(FIRST)
    async with running(tmp_path) as (process, url), connect(url, "dworld") as world:
        file.write_text("[chain]\norder = 3\n")
        process.send_signal(signal.SIGHUP)
        line = await line_with(process, "the configuration is unchanged")
        assert "d-back.toml: chain.order '3'" in line
        assert names(world) >= {"D-World"}
        file.write_text(FIRST.replace('["a", "b"]', '["a"]'))
        process.send_signal(signal.SIGHUP)
        await world.until(lambda world: names(world) == {"D-World"})
        assert world.close_code is None


async def test_r44_watch_applies_the_file(tmp_path: Path) -> None:
    """With --watch, saving the file once is enough, also right after the start."""
    file = tmp_path / "d-back.toml"
    file.write_text(FIRST)
    async with running(tmp_path, "--watch") as (_, url), connect(url, "dworld") as world:
        new = file.with_suffix(".new")
        new.write_text(FIRST.replace('["a", "b"]', '["a"]'))
        new.replace(file)
        await world.until(lambda world: names(world) == {"D-World"})
        assert world.close_code is None


async def test_watch_says_nothing_of_other_files(tmp_path: Path) -> None:
    """A file that changes beside the watched one, as the log may, is not told of."""
    file = tmp_path / "d-back.toml"
    file.write_text(FIRST)
    other = tmp_path / "d-back.log"
    async with running(tmp_path, "--watch") as (process, _), asyncio.timeout(PATIENCE):
        other.write_text("before")
        file.write_text(FIRST)
        await line_with(process, "applied ")
        other.write_text("after")
        file.write_text("[chain]\norder = 3\n")
        assert "is unchanged" in (await process.stderr.readline()).decode()


async def test_servers_given_to_no_reload_stay() -> None:
    """A list that is the same after the reload is not sent again."""
    given = providers()
    given["a"].servers_answer = {"1": Server(name="One"), "2": Server(name="Two")}
    async with served(given) as gateway:
        client = await gateway.connect_and_join()
        await gateway.server.reload(configured(["a", "b"]))
        await gateway.settle()
        assert await client.new_frames() == []


async def test_r17_who_is_being_stopped_is_asked_nothing() -> None:
    """Whatever its stream said last."""
    a, b = ScriptedProvider(ONE, {"1": {"7": ADA}}), ScriptedProvider(ONE, {"1": {"8": BOB}})
    async with served({"a": a, "b": b}) as gateway:
        await gateway.connect_and_join()
        a.hold("stop")
        reloading = asyncio.create_task(gateway.server.reload(configured("b")))
        await gateway.settle()
        assert a.calls[-1] == "stop"
        gateway.live.reports.invalidate("a")
        await gateway.settle()
        a.release("stop")
        await reloading
        await gateway.settle()
        assert a.calls[-1] == "stop"


async def test_r17_another_instance_is_asked_for_its_client_id() -> None:
    """Another token may be that of another application."""
    a = ScriptedProvider({"1": Server(name="One", client_id="old")}, {"1": {"7": ADA}})
    async with served({"a": a}) as gateway:
        assert (await gateway.join()).client_id == "old"
        a.servers_answer = {"1": Server(name="One", client_id="new")}
        await gateway.server.reload(configured("a", {"a": {"refresh": "77s"}}))
        await gateway.settle()
        assert (await gateway.join()).client_id == "new"


async def test_a_policy_holds_at_once_though_the_new_chain_is_not_there_yet() -> None:
    """Who is to be hidden does not wait for a provider."""
    a, b = (
        ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}}),
        ScriptedProvider(ONE, {"1": {"9": CID}}),
    )
    async with served({"a": a, "b": b}) as gateway:
        client = await gateway.connect_and_join()
        await gateway.advance(FAILBACK)
        b.hold("users")
        hiding = configured("ba", policies={"1": {"ignore_users": ["7"]}})
        await gateway.server.reload(hiding)
        await client.new_frames()
        assert client.users.keys() == {"8"}
        b.release("users")
        await client.new_frames()
        assert client.users.keys() == {"9"}


async def test_r24_a_password_that_a_reload_changes_lets_nobody_in_who_is_on_the_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The password was right when it was checked; then the join waits for the snapshot."""
    encode, encoded = threading.Event(), snapshot._encoded  # noqa: SLF001  its thread is held

    def held(parts: Sequence[bytes], head: bytes, tag: str) -> Encoded:
        assert encode.wait(60)
        return encoded(parts, head, tag)

    monkeypatch.setattr(snapshot, "_encoded", held)
    a = ScriptedProvider(ONE, {"1": {str(number): ADA for number in range(1100)}})
    async with served({"a": a}, policies={"1": {"password": "old"}}) as gateway:
        client = await gateway.connect()
        await client.ask("1", password="old")
        await client.new_frames()
        await gateway.server.reload(configured("a", policies={"1": {"password": "new"}}))
        encode.set()
        while not isinstance(frame := await client.receive(), Error | ServerJoin):
            pass
        assert isinstance(frame, Error)
        assert frame.data.code == "unauthorized"
