"""The provider's options, ids and queue."""

import pytest
from msgspec import structs

from d_back_core import ConfigError, Reload, Secret, ServerRemoved
from d_back_core.config.decoding import decode
from d_back_discord import DiscordConfig, DiscordProvider
from d_back_discord.config import token_of
from d_back_discord.public_ids import PublicIds, abbreviated
from d_back_discord.stream import MAX_EVENTS, Stream

TOKEN = "MTEwMDAwMDAwMDAwMDAwMDAx.Gabcde.token_of-the-bot_0123456789abcdefghij"


def test_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configured token that of the environment is used; without any it is an error."""
    monkeypatch.setenv("DISCORD_TOKEN", TOKEN)
    DiscordProvider(DiscordConfig())
    monkeypatch.delenv("DISCORD_TOKEN")
    with pytest.raises(ConfigError, match="token: is missing"):
        DiscordProvider(DiscordConfig())
    DiscordProvider(DiscordConfig(token=Secret(TOKEN)))


@pytest.mark.parametrize(
    "token", ["0" * 64, "Zm9vYmFy-client_secret_0123456789", "a.b.c", "two words"]
)
def test_shape_of_a_token(token: str) -> None:
    """A client secret or a public key in the place of Discord's token is an error at once, which
    does not print it; another server has other tokens."""
    with pytest.raises(ConfigError, match="is not the token of a bot") as told:
        DiscordProvider(DiscordConfig(token=Secret(token)))
    assert token not in str(told.value)
    api, gateway = "http://x.example/api/v10", "ws://x.example/"
    DiscordProvider(DiscordConfig(token=Secret(token), api_url=api, gateway_url=gateway))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"chat": "loud"}, "chat"),
        ({"chanel": 1}, "chanel"),
        ({"info_command": "!zone"}, "only together"),
        ({"info_command": " ", "info_url": "https://x.example"}, "not blank"),
        (
            {"info_command": "!zone", "info_url": "x.example"},
            "info_url 'x.example': expected a URL",
        ),
        ({"api_url": "https://x.example/api/v10"}, "api_url and gateway_url: only together"),
        ({"api_url": "https://x.example", "gateway_url": "https://x.example"}, "gateway_url"),
        ({"guilds": [123]}, "guilds"),
        ({"token": "scrypt$1$2$3$4$5"}, "token"),
    ],
)
def test_refused_options(options: dict[str, object], problem: str) -> None:
    """What cannot be meant is an error that names the key."""
    with pytest.raises(ConfigError, match=problem):
        decode(DiscordConfig, options, "d-back.toml: providers.discord")


def test_repr_without_token() -> None:
    """The configuration can be printed."""
    assert "sesame" not in repr(structs.replace(DiscordConfig(), token=Secret("sesame")))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("D-World", "dworld"),
        ("Docs (WIP)", "docswip"),
        ("The Coding Den of Friends", "tcdof"),
        ("Reactiflux Community", "reactifluxco"),
        ("Café Zürich", "cafezurich"),
        ("東京", ""),
        ("🎮🎮", ""),
    ],
)
def test_abbreviated(name: str, short: str) -> None:
    """Short names are joined, long ones become their initials."""
    assert abbreviated(name) == short


def test_public_ids() -> None:
    """Ids are unique, the same whatever order guilds come in, and never change."""
    ids = PublicIds()
    ids.assign({"3001": "A B", "1001": "AB", "2001": "東京", "4001": "a-b"})
    expected = {"1001": "ab", "3001": "ab-3001", "4001": "ab-4001", "2001": "2001"}
    assert {server_id: ids[server_id] for server_id in expected} == expected
    ids.assign({"0500": "AB", "1001": "Renamed"})
    assert (ids["0500"], ids["1001"]) == ("ab-0500", "ab")


async def test_overflow() -> None:
    """Events that are not read in time become one reload of everything."""
    stream, event = Stream(), ServerRemoved(server_id="1")
    for _ in range(MAX_EVENTS):
        stream.put(event)
    assert await stream.take() == event
    stream.put(event)
    stream.put(event)
    stream.put(event)
    assert [await stream.take() for _ in range(2)] == [Reload(), event]


async def test_end_of_the_stream() -> None:
    """An ended stream says so at once, whatever was queued, and takes nothing more."""
    stream = Stream()
    stream.put(Reload())
    stream.end()
    stream.put(Reload())
    assert await stream.take() is None


@pytest.mark.parametrize("written", ["{}", "Bot {}", " {}\t", "Bot  {}\n"])
def test_a_token_is_used_without_what_surrounds_it(written: str) -> None:
    """The word of the request header and spaces are not part of the token."""
    assert token_of(DiscordConfig(token=Secret(written.format(TOKEN)))) == Secret(TOKEN)
