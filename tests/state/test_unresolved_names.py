"""Names in the configuration that match nothing (R45), and tables that name a server by its
public id."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import pytest
from msgspec import Meta, Struct, structs
from sample_users import ADA, BOB, ONE

from d_back_core import (
    ConfigError,
    Context,
    Message,
    Server,
    ServerChanged,
    UserChanged,
    hookimpl,
)
from d_back_core.admin.explain import explain
from d_back_core.chain.policy import Policy
from d_back_core.config import ChainConfig, GatewayConfig, LimitsConfig, ProviderConfig
from d_back_core.embedding.server import WebSocketServer
from d_back_core.wire.protocol import Error, MessageFrame
from d_back_testing import ManualClient, RunningGateway, ScriptedProvider, configured, served

GRACE = 30.0
VAULT: Mapping[str, Server] = {
    "1": Server(name="One", id="vault"),
    "2": Server(name="Two", id="two"),
}


def town() -> ScriptedProvider:
    return ScriptedProvider(VAULT, {"1": {"7": ADA, "8": BOB}, "2": {}})


def protected(gateway: RunningGateway) -> set[str]:
    servers = gateway.live.server_list.servers.values()
    return {server.server_id for server in servers if server.passworded}


def error_code(client: ManualClient) -> str:
    frame = client.frames[-1]
    assert isinstance(frame, Error)
    return frame.data.code


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "d_back.names"]


def problems(gateway: RunningGateway) -> list[str]:
    return explain(gateway.live).problems


# Tables that name a server by what people see


@pytest.mark.parametrize("name", ["1", "vault"])
async def test_r45_a_table_protects_the_server_of_that_server_id_or_public_id(name: str) -> None:
    """The public id stays, the password opens this server, and no other one is closed."""
    async with served({"town": town()}, policies={name: {"password": "hush"}}) as gateway:
        assert protected(gateway) == {"1"}
        assert gateway.live.server_list.servers["1"].public_id == "vault"
        client = await gateway.connect()
        await client.ask("vault")
        await client.until(Error)
        await client.join("vault", "hush")
        assert problems(gateway) == []


async def test_r45_a_table_names_the_id_that_is_made_of_a_name() -> None:
    """Its alias becomes the public id."""
    providers = {"town": ScriptedProvider({"1": Server(name="Old Town")})}
    async with served(providers, policies={"old-town": {"alias": "zone"}}) as gateway:
        assert gateway.live.server_list.servers["1"].public_id == "zone"


@pytest.mark.parametrize("given", ["Straße!", "Old Town", " two words "])
async def test_r45_a_table_names_an_id_in_the_spelling_of_its_provider(given: str) -> None:
    """Any characters: the public id that is made of it opens with the password of the table."""
    providers = {"town": ScriptedProvider({"1": Server(id=given), "2": Server(id="two")})}
    async with served(providers, policies={given: {"password": "hush"}}) as gateway:
        assert protected(gateway) == {"1"}
        assert problems(gateway) == []
        client = await gateway.connect()
        await client.ask(gateway.live.server_list.servers["1"].public_id)
        await client.until(Error)
        await client.join("1", "hush")


async def test_r45_a_table_names_the_id_that_a_lower_provider_gives() -> None:
    """Whichever public id the server has in the end; it stays when another server takes the id."""
    providers = {"a": ScriptedProvider({"1": Server(id="first")}), "b": town()}
    async with served(providers, policies={"vault": {"password": "hush"}}) as gateway:
        assert gateway.live.server_list.servers["1"].public_id == "first"
        assert protected(gateway) == {"1"}
        providers["b"].emit(
            ServerChanged(server_id="1", id="other"), ServerChanged(server_id="3", id="vault")
        )
        await gateway.settle()
        assert protected(gateway) == {"1"}


async def test_r45_a_resolved_table_stays_with_its_server() -> None:
    """Its provider renames it, another server takes the id, and the configuration is applied
    again."""
    providers = {"town": town()}
    tables: dict[str, Any] = {"vault": {"password": "hush"}}
    async with served(providers, policies=tables) as gateway:
        providers["town"].emit(
            ServerChanged(server_id="1", id="other"), ServerChanged(server_id="3", id="vault")
        )
        await gateway.settle()
        assert protected(gateway) == {"1"}
        await gateway.server.reload(configured(["town"], policies=tables))
        await gateway.settle()
        assert protected(gateway) == {"1"}


async def test_r45_a_server_id_counts_also_after_a_public_id_of_the_same_spelling() -> None:
    """A server that is listed later under the name of the table is protected as well."""
    providers = {"town": ScriptedProvider({"1": Server(id="5")})}
    async with served(providers, policies={"5": {"password": "hush"}}) as gateway:
        providers["town"].emit(ServerChanged(server_id="5", name="Five"))
        await gateway.settle()
        assert protected(gateway) == {"1", "5"}


async def test_r45_two_tables_of_one_server_both_guard_it() -> None:
    """The one that protects counts, whichever comes first."""
    tables: dict[str, Any] = {"1": {"ignore_users": ["7"]}, "vault": {"passworded": True}}
    async with served({"town": town()}, policies=tables) as gateway:
        assert protected(gateway) == {"1"}
        assert gateway.live.registry.policy("1").ignore_users == {"7"}


async def test_r45_a_reload_finds_the_server_of_a_new_table() -> None:
    """Clients that have joined it are refused from then on."""
    async with served({"town": town()}) as gateway:
        client = await gateway.connect_and_join("1")
        tables: dict[str, Any] = {"vault": {"password": "hush"}}
        await gateway.server.reload(configured(["town"], policies=tables))
        await client.until(Error)
        assert error_code(client) == "unauthorized"
        assert protected(gateway) == {"1"}


async def test_r45_nothing_is_opened_while_the_server_of_a_table_is_not_known() -> None:
    """The provider that knows the public id is down: the servers of another one are protected
    until it has answered."""
    down = ScriptedProvider(VAULT)
    down.start_answer = RuntimeError("down")
    spare = ScriptedProvider({"1": Server(name="One"), "3": Server(name="Three")})
    providers = {"down": down, "spare": spare}
    tables: dict[str, Any] = {"vault": {"password": "hush"}, "3": {}}
    async with served(providers, policies=tables) as gateway:
        assert protected(gateway) == {"1"}
        [problem] = problems(gateway)
        assert problem == (
            "servers.vault: matches no server yet; servers without a table are closed until all"
            " providers have answered"
        )
        down.start_answer = None
        await gateway.advance(GRACE)
        assert protected(gateway) == {"1"}
        assert not gateway.live.server_list.policies.closes_others
        assert problems(gateway) == []


async def test_r45_a_disabled_server_is_hidden_while_it_is_not_known_which_it_is() -> None:
    """It appears when every provider has answered."""
    down = ScriptedProvider({"2": Server(name="Two")})
    down.start_answer = RuntimeError("down")
    providers = {"down": down, "spare": ScriptedProvider(ONE)}
    async with served(providers, policies={"nowhere": {"enabled": False}}) as gateway:
        assert not gateway.live.server_list.servers
        down.start_answer = None
        await gateway.advance(GRACE)
        assert gateway.live.server_list.servers.keys() == {"1", "2"}


async def test_r45_a_table_that_names_nothing_closes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged once with the nearest name; a later failure does not close servers."""
    providers = {"town": town()}
    tables: dict[str, Any] = {"valt": {"password": "hush"}}
    async with served(providers, policies=tables) as gateway:
        assert protected(gateway) == set()
        sentence = "servers.valt: matches no server (did you mean 'vault'?)"
        assert problems(gateway) == [sentence]
        providers["town"].break_stream()
        await gateway.advance(2 * GRACE)
        assert protected(gateway) == set()
        assert warnings(caplog) == [f"built-in defaults: {sentence}"]
        await gateway.server.reload(configured(["town"], policies=tables))
        await gateway.settle()
        assert len(warnings(caplog)) == 2


async def test_r45_a_channel_may_be_written_with_a_hash() -> None:
    """``#general`` and ``general`` are the same, in the configuration and at the source."""
    providers = {"town": town()}
    tables: dict[str, Any] = {"1": {"ignore_channels": ["#general", "staff"]}}
    async with served(providers, policies=tables) as gateway:
        client = await gateway.connect_and_join("1")
        for channel, name in (("10", "general"), ("11", "#staff"), ("12", "other")):
            providers["town"].emit(
                Message(server_id="1", uid="7", message=name, channel=channel, channel_name=name)
            )
        await client.until(MessageFrame)
        frame = client.frames[-1]
        assert isinstance(frame, MessageFrame)
        assert frame.data.message == "other"


# Every key that names something


class Reporting(ScriptedProvider):
    """Reports a name in one of its options, and the channels of a server."""

    @hookimpl
    async def start(self, context: Context) -> None:
        context.unresolved("roles", ["Membr"], ["Member", "Admin"])
        context.channels("1", ["10", "general"])


KINDS: dict[type[Struct], str] = {
    GatewayConfig: "gateway",
    LimitsConfig: "limits",
    ChainConfig: "chain",
    ProviderConfig: "providers.town",
    Policy: "servers.1",
}
OTHER_TEXTS = {
    "gateway.host",
    "gateway.origins",
    "limits.trusted_proxies",
    "servers.1.alias",
}
"""Keys whose texts refer to nothing that has to exist."""

DANGLING: dict[str, tuple[dict[str, Any], str]] = {
    "gateway.extra": (
        {"gateway": {"extra": ["avtar", "activity"]}},
        "gateway.extra 'avtar': no user has such a text so far (did you mean 'avatar'?)",
    ),
    "gateway.http": ({"gateway": {"http": ["twon"]}}, "gateway.http 'twon': is not installed"),
    "chain.order": ({"chain": {"order": ["twon"]}}, "chain.order 'twon': is not installed"),
    "chain.recorders": (
        {"chain": {"recorders": ["twon"]}},
        "chain.recorders 'twon': is not installed",
    ),
    "providers.town.use": (
        {"chain": {"order": ["spare"]}, "providers": {"spare": {"use": "twon"}}},
        "providers.spare.use 'twon': is not installed",
    ),
    "providers.town.servers": (
        {"providers": {"town": {"servers": ["1", "two"]}}},
        "providers.town.servers 'two': matches no server_id (did you mean '2'?)",
    ),
    "servers.1.ignore_users": (
        {"servers": {"1": {"ignore_users": ["ada"]}}},
        "servers.1.ignore_users 'ada': matches no uid (did you mean '7'?)",
    ),
    "servers.1.ignore_channels": (
        {"servers": {"vault": {"ignore_channels": ["#genral"]}}},
        "servers.vault.ignore_channels '#genral': matches no channel (did you mean 'general'?)",
    ),
    "servers.1.listen_channels": (
        {"servers": {"1": {"listen_channels": ["General "]}}},
        "servers.1.listen_channels 'General ': matches no channel (did you mean 'general'?)",
    ),
    "servers.1.extra": (
        {"servers": {"vault": {"extra": ["Avatar", "activity"]}}},
        "servers.vault.extra 'Avatar': no user has such a text so far (did you mean 'avatar'?)",
    ),
    "servers": (
        {"servers": {"valut": {"password": "hush"}}},
        "servers.valut: matches no server (did you mean 'vault'?)",
    ),
    "providers": (
        {"providers": {"twon": {}}},
        "providers.twon: no provider of that name is used (did you mean 'town'?)",
    ),
    "providers.town.roles": (
        {},
        "providers.town.roles 'Membr': matches nothing (did you mean 'Member'?)",
    ),
}
"""Key → a configuration in which it names something that does not exist, and its sentence."""


def _parts(hint: object) -> Iterator[object]:
    if get_origin(hint) is Annotated:
        yield from get_args(hint)[1:]
        hint = get_args(hint)[0]
    yield hint
    if get_origin(hint) is not Literal:
        for part in get_args(hint):
            yield from _parts(part)


def _naming() -> Iterator[tuple[str, str | None]]:
    """Yield each key that holds texts, with the kind of what it names."""
    for kind, table in KINDS.items():
        for field in msgspec.structs.fields(kind):
            parts = list(_parts(field.type))
            metas = [part.extra or {} for part in parts if isinstance(part, Meta)]
            named = next((meta["names"] for meta in metas if "names" in meta), None)
            if named is not None or str in parts:
                yield f"{table}.{field.encode_name}", named


def test_r45_every_key_with_texts_says_whether_it_names_something() -> None:
    """A new key of the configuration has to be marked, or listed as one that names nothing."""
    keys = dict(_naming())
    assert {key for key, named in keys.items() if named is None} == OTHER_TEXTS
    assert {key for key, named in keys.items() if named is not None} <= DANGLING.keys()


async def test_r45_a_text_that_one_server_brings_is_enough_for_the_gateway() -> None:
    """A key is reported while users are known and none has it, and no more after one has it."""
    provider = ScriptedProvider(VAULT, {"1": {"7": ADA}, "2": {}})
    async with served({"town": provider}, gateway={"extra": ["avatar"]}) as gateway:
        await gateway.connect_and_join("2")
        assert problems(gateway) == []  # there are no users who could have it
        await gateway.connect_and_join("1")
        assert problems(gateway) == ["gateway.extra 'avatar': no user has such a text so far"]
        provider.emit(UserChanged(server_id="1", uid="7", extra={"avatar": "ada.png"}))
        await gateway.settle()
        assert problems(gateway) == []


@pytest.mark.parametrize("key", DANGLING)
async def test_r45_a_name_that_matches_nothing_is_reported(
    key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log once, and in the explanation; a provider that does not exist is an error."""
    tables, sentence = DANGLING[key]
    tables = {"chain": {"order": ["town"]}, **tables}
    if "is not installed" in sentence:
        order = [*tables["chain"].pop("order", ["town"])]
        config = configured(
            order,
            tables=tables.get("providers"),
            chain=tables["chain"],
            gateway=tables.get("gateway"),
        )
        with pytest.raises(ConfigError, match=sentence):
            WebSocketServer(0, config=config, providers={"town": town()})
        return
    ada = structs.replace(ADA, extra={"avatar": "ada.png", "activity": "chess"})
    provider = Reporting(VAULT, {"1": {"7": ada, "8": BOB}, "2": {}})
    async with served(
        {"town": provider},
        tables=tables.get("providers"),
        policies=tables.get("servers"),
        gateway=tables.get("gateway"),
    ) as gateway:
        await gateway.connect_and_join("1")
        await gateway.settle()
        assert sentence in problems(gateway)
    assert [line for line in warnings(caplog) if line == f"built-in defaults: {sentence}"]
