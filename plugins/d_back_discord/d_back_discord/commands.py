"""``d-back discord audit`` and ``d-back discord invite``."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import click
import discord
from msgspec import Struct
from yarl import URL

from d_back_core import Clock, ConfigError, command_config
from d_back_discord.channels import Audience
from d_back_discord.config import DiscordConfig, token_of
from d_back_discord.identify_budget import IdentifyBudget
from d_back_discord.layer import Layer
from d_back_discord.public_ids import PublicIds
from d_back_discord.run import Kept, Run
from d_back_discord.waits import Waits

log = logging.getLogger("d_back.providers.discord")

_named = click.option(
    "--provider", "name", default="discord", show_default=True, help="Its name in d-back.toml."
)


def add(group: click.Group) -> None:
    """Put both below the group."""
    group.add_command(audit)
    group.add_command(invite)


@click.command()
@_named
def invite(name: str) -> None:
    """Print the link that invites the bot into a guild, with the permissions it needs."""
    click.echo(asyncio.run(_invite(command_config(DiscordConfig, name))))


@click.command()
@_named
@click.option(
    "--patience", default=120.0, show_default=True, help="Seconds to wait for all guilds."
)
def audit(name: str, patience: float) -> None:
    """Print what an anonymous visitor would see: guilds, channels, members.

    Connects to Discord like the gateway, and beside one that runs. The rules below [servers] in
    d-back.toml narrow it further.
    """
    for line in asyncio.run(_audit(command_config(DiscordConfig, name), patience)):
        click.echo(line)


class _Host(Struct, frozen=True):
    log: logging.Logger = log
    clock: Clock = Clock()
    degraded: Callable[[str], None] = log.warning
    recovered: Callable[[], None] = lambda: None
    gauge: Callable[[str, float], None] = lambda _name, _value: None


@asynccontextmanager
async def _running(config: DiscordConfig) -> AsyncIterator[Run]:
    kept = Kept(PublicIds(), IdentifyBudget(Waits()))
    run = Run(config, kept, _Host(), token=token_of(config))
    try:
        yield run
    except (discord.DiscordException, OSError) as error:
        raise ConfigError(f"Discord cannot be reached: {error}") from error
    finally:
        await run.end()


async def _invite(config: DiscordConfig) -> str:
    async with _running(config) as run:
        application_id = await run.log_in()
    permissions = discord.Permissions(
        view_channel=True, send_messages=config.info_command is not None
    )
    link = discord.utils.oauth_url(application_id or 0, permissions=permissions, scopes=("bot",))
    if config.api_url is None:
        return link
    return str(URL(config.api_url).origin().join(URL(link).relative()))


async def _audit(config: DiscordConfig, patience: float) -> list[str]:
    async with _running(config) as run:
        try:
            async with asyncio.timeout(patience):
                await run.begin()
                while not _complete(run):
                    await run.stream.take()
        except TimeoutError:
            log.warning("not every guild came within %g s", patience)
        return _report(run, config)


def _complete(run: Run) -> bool:
    layers = run.guilds.layers.values()
    return run.guilds.listed and all(layer.whole or layer.unavailable for layer in layers)


def _report(run: Run, config: DiscordConfig) -> list[str]:
    servers = run.guilds.servers() or {}
    if not servers:
        return ["no guild: invite the bot with `d-back discord invite`"]
    audience = Audience(config)
    lines: list[str] = []
    for server_id, server in servers.items():
        layer = run.guilds.layers[server_id]
        lines += [
            f"{server.name} ({server.id}, {server_id})",
            *_described(layer, audience, config),
        ]
    return lines


def _described(layer: Layer, audience: Audience, config: DiscordConfig) -> Iterator[str]:
    users, guild = layer.answer(), layer.guild
    if users is None:
        yield "  members: unknown; the guild is unavailable or has not come yet"
    else:
        yield f"  members: {len(users)} of {guild.member_count} with name, status and role colour"
    if config.extra:
        keys = ", ".join(sorted(config.extra))
        yield f"  extra texts of members, if gateway.extra names them: {keys}"
    if config.chat == "off":
        yield "  chat: none"
        return
    what = "messages" if config.chat == "text" else "only that a member writes,"
    with_chat = [channel for channel in guild.channels if _has_chat(channel)]
    passing = [channel for channel in with_chat if audience.passes(channel)]
    names = ", ".join(f"#{channel.name}" for channel in passing) or "no channel"
    yield f"  chat: {what} in {names}"
    yield f"  channels whose chat does not pass: {len(with_chat) - len(passing)}"
    for channel in passing:
        if not audience.everyone_reads(channel):
            yield f"  #{channel.name} is not for everyone: it passes because of listen_channels"


def _has_chat(channel: discord.abc.GuildChannel) -> bool:
    return not isinstance(channel, discord.CategoryChannel)
