"""The provider that d-back loads: its options and its hooks."""

import secrets
from collections.abc import AsyncIterator
from random import Random
from typing import Annotated

from msgspec import Meta, Struct

from d_back_core import (
    Context,
    Credentials,
    Duration,
    Event,
    Secret,
    Server,
    User,
    hookimpl,
)
from d_back_mock import crowd, demo
from d_back_mock.community import Community
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
    """In place of the demo servers, synthetic ones of that many users each."""
    server_count: Annotated[int, Meta(ge=1, le=MAX_SERVERS)] = 1
    """How many synthetic servers; only with ``users``."""
    authorize: Secret | None = None
    """The one ``discordToken`` that opens the protected demo server; unset: none does."""

    def __post_init__(self) -> None:
        if self.server_count > 1 and self.users is None:
            raise ValueError(
                f"server_count '{self.server_count}': only synthetic servers can be counted"
                " (say with 'users' how many users each has)"
            )
        if self.authorize is not None and self.authorize.is_hash:
            raise ValueError("authorize: expected the token itself, got a hash")


class MockProvider:
    """Demo communities, or synthetic ones, whose members come, go and talk."""

    Config = MockConfig

    def __init__(self, config: MockConfig) -> None:
        self._config = config
        self._seed = secrets.randbits(32) if config.seed is None else config.seed
        self._communities: dict[str, Community] = {}
        self._run: Run | None = None

    @hookimpl
    async def start(self, context: Context) -> None:
        """Begin the run; one that is under way goes on."""
        if self._run is not None:
            return
        # The seed as a text: of a number, Random would ignore the sign.
        random = Random(str(self._seed))  # noqa: S311  # must be repeatable, guards nothing
        config = self._config
        communities = (
            demo.communities()
            if config.users is None
            else crowd.communities(config.server_count, config.users, random)
        )
        self._communities = {community.server_id: community for community in communities}
        self._run = Run(
            communities,
            random,
            context.clock,
            presence_interval=config.presence_interval,
            message_interval=config.message_interval,
        )
        context.log.info("seed = %d repeats this run", self._seed)

    @hookimpl
    async def stop(self) -> None:
        """End the run and its streams; the next start begins the same run anew."""
        run, self._run, self._communities = self._run, None, {}
        if run is not None:
            run.end()

    @hookimpl
    async def servers(self) -> dict[str, Server] | None:
        """All servers; None while stopped."""
        if self._run is None:
            return None
        return {server_id: community.server for server_id, community in self._communities.items()}

    @hookimpl
    async def users(self, server_id: str) -> dict[str, User] | None:
        """The users with all that `events` has brought so far; None for others' servers."""
        community = self._communities.get(server_id)
        return None if community is None else await community.users()

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        """What happens from `start` to `stop`: changes of status, and chat."""
        run = self._run
        while run is not None and await run.wait():
            yield run.take()

    @hookimpl
    async def authorize(self, server_id: str, credentials: Credentials) -> bool | None:
        """Whether the demo token is offered.

        None where there is nothing to compare with: without a configured token, and for every
        server but the protected one of the demo. Whoever else contributes decides then.
        """
        token = self._config.authorize
        community = self._communities.get(server_id)
        if token is None or community is None or community.server.passworded is not True:
            return None
        offered = credentials.discord_token
        return Secret(offered) == token if offered else False
