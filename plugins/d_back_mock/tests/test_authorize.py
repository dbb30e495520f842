from collections.abc import Awaitable, Callable

import pytest

from d_back_core import Credentials, Secret
from d_back_mock import MockProvider

Begin = Callable[..., Awaitable[MockProvider]]

OPEN = "232769614004748288"
PROTECTED = "123456789012345678"
TOKEN = Secret("demo-token")


async def test_token(begin: Begin) -> None:
    """The configured token opens the protected demo server."""
    provider = await begin(authorize=TOKEN)
    offered = Credentials(discord_token="demo-token")
    assert await provider.authorize(PROTECTED, offered) is True


@pytest.mark.parametrize(
    "offered",
    [
        Credentials(),
        Credentials(discord_token=""),
        Credentials(discord_token="demo-toke"),
        Credentials(discord_token="demo-token "),
        Credentials(discord_token="Demo-Token"),
        Credentials(discord_token="***"),
        Credentials(password="demo-token"),
        Credentials(discord_user={"token": "demo-token"}),
    ],
)
async def test_anything_else(begin: Begin, offered: Credentials) -> None:
    """Whatever is not the token, in the token's place, is refused."""
    provider = await begin(authorize=TOKEN)
    assert await provider.authorize(PROTECTED, offered) is False


@pytest.mark.parametrize("token", ["", "None", "***", "demo-token"])
async def test_without_a_token(begin: Begin, token: str) -> None:
    """Without a configured token other providers decide; by default they let no client in."""
    provider = await begin()
    assert await provider.authorize(PROTECTED, Credentials(discord_token=token)) is None


@pytest.mark.parametrize("server_id", [OPEN, "1"])
async def test_other_servers(begin: Begin, server_id: str) -> None:
    """The token decides nothing for the open demo servers and for those of others."""
    provider = await begin(authorize=TOKEN)
    offered = Credentials(discord_token="demo-token")
    assert await provider.authorize(server_id, offered) is None


async def test_synthetic_servers(begin: Begin) -> None:
    """Where the demo is replaced, its token opens nothing, not even under the same id."""
    provider = await begin(authorize=TOKEN, users=1)
    offered = Credentials(discord_token="demo-token")
    assert await provider.authorize(PROTECTED, offered) is None
