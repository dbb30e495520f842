"""``d-back discord …``, as it is typed."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import discord_payloads as say
import pytest
from click.testing import CliRunner, Result
from discord_loopback import Loopback, serving
from discord_worlds import QUIET, SECRET, club

from d_back_core.cli.main import main


class Typed(Protocol):
    def __call__(self, *words: str, options: str = "") -> Result: ...


@pytest.fixture
def elsewhere() -> Iterator[Loopback]:
    """A Discord that runs in a thread: a command has an event loop of its own."""
    ready: list[Loopback] = []
    loop, stop, started = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def serve() -> None:
        async with serving() as loopback:
            ready.append(loopback)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait()
    yield ready[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture
def typed(elsewhere: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Type a command with a configuration that leads to the loopback."""
    monkeypatch.setenv("DISCORD_TOKEN", elsewhere.token)

    def typed(*words: str, options: str = "") -> Result:
        path = tmp_path / "d-back.toml"
        path.write_text(
            '[chain]\norder = ["discord"]\n[providers.discord]\n'
            f'api_url = "{elsewhere.api_url}"\n'
            f'gateway_url = "{elsewhere.gateway_url}"\n{options}\n'
        )
        return CliRunner().invoke(main, ["--config", str(path), "discord", *words])

    return typed


def test_invite(typed: Typed, elsewhere: Loopback) -> None:
    """The link asks for the bot, with the permission to see channels and no other; it leads to
    the configured server."""
    result = typed("invite")
    assert result.output == (
        f"{elsewhere.api_url.removesuffix('/api/v10')}/oauth2/authorize"
        f"?client_id={say.APPLICATION_ID}&scope=bot&permissions=1024\n"
    )


def test_invite_with_info_command(typed: Typed) -> None:
    """To answer, it must also be allowed to speak."""
    options = 'info_command = "!zone"\ninfo_url = "https://zone.example"'
    assert "permissions=3072" in typed("invite", options=options).output


def test_wrong_token(typed: Typed) -> None:
    """A token that is refused is one line and exit status 2."""
    result = typed("invite", options='token = "wrong"')
    assert result.exit_code == 2
    assert result.output.startswith("Error: token: Discord refuses it; see https://discord.com/")


def test_no_token(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that is missing."""
    monkeypatch.delenv("DISCORD_TOKEN")
    result = typed("invite")
    assert result.exit_code == 2
    assert "token: is missing; set the environment variable DISCORD_TOKEN" in result.output


def test_audit(typed: Typed, elsewhere: Loopback) -> None:
    """It prints what an anonymous visitor would see, and how many channels they would not."""
    elsewhere.guilds = [club()]
    assert typed("audit").output.splitlines() == [
        f"D-World (dworld, {say.GUILD_ID})",
        "  members: 5 of 5 with name, status and role colour",
        "  chat: messages in #general, #lounge, #ideas",
        "  channels whose chat does not pass: 3",
    ]


def test_audit_of_rules(typed: Typed, elsewhere: Loopback) -> None:
    """The rules of the configuration are applied, and channels that it opens are marked."""
    hidden = say.member(2, "bob", roles=(QUIET,))
    members = [say.member(1, "ada"), hidden]
    elsewhere.guilds = [club(members=members, member_count=2)]
    options = f'opt_out_role = "quiet"\nchat = "activity"\nlisten_channels = ["{SECRET}"]\n'
    options += 'extra = ["avatar", "bot"]'
    assert typed("audit", options=options).output.splitlines() == [
        f"D-World (dworld, {say.GUILD_ID})",
        "  members: 1 of 2 with name, status and role colour",
        "  extra texts of members, if gateway.extra names them: avatar, bot",
        "  chat: only that a member writes, in #secret",
        "  channels whose chat does not pass: 5",
        "  #secret is not for everyone: it passes because of listen_channels",
    ]


def test_audit_without_guilds(typed: Typed) -> None:
    """A bot without a guild gets the link that invites it."""
    assert typed("audit").output == "no guild: invite the bot with `d-back discord invite`\n"


def test_audit_in_time(typed: Typed, elsewhere: Loopback) -> None:
    """A guild that does not come in time is reported as such."""
    elsewhere.guilds = [club(member_count=300)]
    elsewhere.hold_members = True
    result = typed("audit", "--patience", "0.5", options='chat = "off"')
    assert result.output.splitlines() == [
        f"D-World (dworld, {say.GUILD_ID})",
        "  members: unknown; the guild is unavailable or has not come yet",
        "  chat: none",
    ]


def test_help(typed: Typed) -> None:
    """Both commands are listed."""
    output = typed("--help").output
    assert "audit " in output
    assert "invite " in output
