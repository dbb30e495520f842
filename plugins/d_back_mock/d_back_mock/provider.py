"""The provider that d-back loads: its options and its hooks."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Annotated

from msgspec import Meta, Struct

from d_back_core import (
    ConfigError,
    Context,
    Credentials,
    Duration,
    Event,
    File,
    Secret,
    Server,
    User,
    hookimpl,
)
from d_back_mock import crowd, demo
from d_back_mock.chat import CHANNEL, CHANNEL_NAME
from d_back_mock.replay import Replay
from d_back_mock.run import Run

MAX_SERVERS = 10_000


class MockConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.mock]``."""

    seed: int | None = None
    """The same seed gives the same users and the same events in the same order. Unset: another
    one for each instance; it is logged."""
    presence_interval: Duration = Duration(4)
    """Mean time between two changes of status in one server; 0: none."""
    message_interval: Duration = Duration(5)
    """Mean time between two messages in one server; 0: none."""
    users: Annotated[int, Meta(ge=1, le=crowd.MAX_USERS)] | None = None
    """Instead of the demo servers, synthetic ones of that many users each."""
    server_count: Annotated[int, Meta(ge=1, le=MAX_SERVERS)] = 1
    """How many synthetic servers; only with ``users``."""
    authorize: Secret | None = None
    """The one ``discordToken`` that opens protected servers; unset: none does."""
    replay: File | None = None
    """What ``d-back watch --json`` has written, to be played instead of invented servers."""
    speed: Annotated[float, Meta(gt=0)] = 1.0
    """How many times as fast as it was recorded; only with ``replay``."""
    repeat: bool = True
    """Whether the recording begins again at its end; ``false``: all stays as it is then."""

    def __post_init__(self) -> None:
        if self.server_count > 1 and self.users is None:
            raise ValueError(
                f"server_count '{self.server_count}': only synthetic servers can be counted"
                " (say with 'users' how many users each has)"
            )
        if self.authorize is not None and self.authorize.is_hash:
            raise ValueError("authorize: expected the token itself, got a hash")
        if self.replay is None and (self.speed != 1 or not self.repeat):
            raise ValueError("speed and repeat: only with 'replay'")
        if self.replay is not None and (self.users is not None or self.seed is not None):
            raise ValueError("replay: not together with 'users' and 'seed', which invent")


class MockProvider:
    """Demo communities, or synthetic ones, whose members come, go and talk; or recorded ones."""

    Config = MockConfig

    def __init__(self, config: MockConfig) -> None:
        self._config = config
        self._seed = secrets.randbits(32) if config.seed is None else config.seed
        self._life: Run | Replay | None = None
        if config.replay is not None:
            _check_file(config.replay)

    @hookimpl
    async def start(self, context: Context) -> None:
        """Begin the run; one that is under way goes on."""
        if self._life is not None:
            return
        self._life = self._run(context)
        if isinstance(self._life, Replay):
            await self._life.begin()
        else:
            for server_id in self._life.servers():
                context.channels(server_id, (CHANNEL, CHANNEL_NAME))

    def _run(self, context: Context) -> Run | Replay:
        config = self._config
        if config.replay is not None:
            return Replay(
                config.replay,
                context.clock,
                context.log,
                speed=config.speed,
                repeat=config.repeat,
            )
        # The seed as a text: of a number, Random would ignore the sign.
        random = Random(str(self._seed))  # noqa: S311  # must be repeatable, guards nothing
        context.log.info("seed = %d repeats this run", self._seed)
        return Run(
            demo.communities()
            if config.users is None
            else crowd.communities(config.server_count, config.users, random),
            random,
            context.clock,
            presence_interval=config.presence_interval,
            message_interval=config.message_interval,
        )

    @hookimpl
    async def stop(self) -> None:
        """End the run and its streams; the next start begins the same run again."""
        life, self._life = self._life, None
        if life is not None:
            life.end()

    @hookimpl
    async def servers(self) -> dict[str, Server] | None:
        """All servers; None while stopped."""
        return None if self._life is None else self._life.servers()

    @hookimpl
    async def users(self, server_id: str) -> dict[str, User] | None:
        """The users with all that `events` has brought so far; None for others' servers."""
        return None if self._life is None else await self._life.users(server_id)

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        """What happens from `start` to `stop`: changes of status, and chat."""
        life = self._life
        while life is not None and (event := await life.next()) is not None:
            yield event

    @hookimpl
    async def authorize(self, server_id: str, credentials: Credentials) -> bool | None:
        """Whether the demo token is offered.

        None where there is nothing to compare with: without a configured token, and for every
        server that is not protected here. The other providers of the server decide then.
        """
        token = self._config.authorize
        server = None if self._life is None else self._life.servers().get(server_id)
        if token is None or server is None or server.passworded is not True:
            return None
        offered = credentials.discord_token
        return Secret(offered) == token if offered else False


def _check_file(name: str) -> None:
    try:
        there = Path(name).is_file()
    except OSError as error:  # a name that can be none
        raise ConfigError(f"replay '{name}': {error.strerror}") from error
    if not there:
        raise ConfigError(f"replay '{name}': there is no such file")
