"""The provider that d-back loads: its hooks."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing

from starlette.routing import BaseRoute

from d_back_core import ConfigError, Context, Event, Server, User, hookimpl
from d_back_http.config import HttpConfig
from d_back_http.pending import Pending
from d_back_http.polling import Polling
from d_back_http.push import Push
from d_back_http.pushed import Pushed


class HttpProvider:
    """Servers and users that a JSON API has, or that other programs push."""

    Config = HttpConfig

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self.pushed = Pushed()
        """Over all runs: it is not pushed again after a restart of the provider."""
        self._push = Push(config, self.pushed)
        self._pending: Pending | None = None
        self._polling: Polling | None = None

    @hookimpl
    async def start(self, context: Context) -> None:
        """Ask the API for its servers, and begin to poll it."""
        if self._config.users_url is None and not self._config.push:
            # Not in `HttpConfig`: what `d-back init` writes has neither, and can be checked.
            raise ConfigError("expected users_url (to pull), or push.NAME.secret (to push)")
        self._pending = pending = Pending()
        if self._config.users_url is not None:
            self._polling = Polling(self._config, context, pending)
            await self._polling.open()
        self._push.run(pending, self._polling, context.clock)

    @hookimpl
    async def stop(self) -> None:
        """Stop polling and end the stream; may be called twice."""
        pending, self._pending = self._pending, None
        polling, self._polling = self._polling, None
        self._push.run(None, None, None)
        if pending is not None:
            pending.end()
        if polling is not None:
            await polling.close()

    @hookimpl
    async def servers(self) -> dict[str, Server] | None:
        """All servers. None until something was pushed, if nothing is pulled."""
        pushed = self.pushed.listed()
        if self._polling is not None:
            return {**await self._polling.servers(), **pushed}
        return pushed or None

    @hookimpl
    async def users(self, server_id: str) -> dict[str, User] | None:
        """The users that were pushed, else those of the API."""
        pushed = self.pushed.users.get(server_id)
        if pushed is not None:
            return dict(pushed)
        return None if self._polling is None else await self._polling.users(server_id)

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        """What was pushed, and `Reload` where an answer of the API has changed."""
        if self._pending is not None:
            async with aclosing(self._pending.events()) as events:
                async for event in events:
                    yield event

    def push(self, events: Iterable[Event]) -> None:
        """Yield these events of `pushed`, if it runs."""
        if self._pending is not None:
            for event in events:
                self._pending.put(event)

    @hookimpl
    def routes(self) -> Sequence[BaseRoute]:
        """The paths to push to; none without ``push``."""
        return self._push.routes() if self._config.push else []
