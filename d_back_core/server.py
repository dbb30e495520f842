"""The embedding API: the whole gateway as one object."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import msgspec
from msgspec import structs

from d_back_core import plugins
from d_back_core.clock import Clock
from d_back_core.config import ChainConfig, Config
from d_back_core.control import Control
from d_back_core.explain import health
from d_back_core.gateway import Gateway
from d_back_core.live import Live


class WebSocketServer:
    """A gateway with the providers of its configuration.

    ``port`` and ``host`` override the configuration; port 0 takes a free one. ``providers`` are
    instances that ``chain.order`` may name like installed plugins; without a configuration they
    are the order. Configuration and plugins are checked here and raise `ConfigError`.
    """

    def __init__(
        self,
        port: int | None = None,
        host: str | None = None,
        *,
        config: Config | None = None,
        providers: Mapping[str, object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if config is None:
            config = Config(chain=ChainConfig(order=tuple(providers or ("mock",))))
        given = {"port": port, "host": host}
        self._overrides = {key: value for key, value in given.items() if value is not None}
        self.config = self._overridden(config)
        clock = clock or Clock()
        gateway, source = self.config.gateway, self.config.source
        self._providers = providers
        self.live = Live(self.config, plugins.load(self.config, providers), clock)
        self._gateway = Gateway(gateway, source, self.live, self._health, clock)
        self._control = None if gateway.control is None else Control(gateway.control, self.live)
        self._stopped = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None

    @property
    def host(self) -> str:
        """The host that it listens on."""
        return self.config.gateway.host

    @property
    def port(self) -> int:
        """The port that it listens on: the real one, once it does."""
        return self._gateway.port

    @property
    def url(self) -> str:
        """Where a client connects."""
        return self._gateway.url

    async def reload(self, config: Config) -> None:
        """Go on with another configuration while the clients stay connected; what differs
        reaches them as deltas. Raises `ConfigError` and changes nothing where it is not valid."""
        config = self._overridden(config)
        loaded = plugins.load(config, self._providers)
        self._gateway.apply(config.gateway)
        self.config = config
        await self.live.apply(config, loaded)

    def _overridden(self, config: Config) -> Config:
        gateway = structs.replace(config.gateway, **self._overrides)
        return structs.replace(config, gateway=gateway)

    def _health(self) -> bytes:
        return msgspec.json.encode({"providers": health(self.live)})

    async def start(self) -> None:
        """Serve until `stop` is called."""
        async with self:
            await self._stopped.wait()

    async def stop(self) -> None:
        """Stop listening, close the clients with 1001, stop the providers; may be called twice."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if self._control is not None:
            await self._control.stop()
        await self._gateway.stop()
        await self.live.stop()
        self._stopped.set()

    async def __aenter__(self) -> Self:
        try:
            await self.live.start()
            await self._gateway.start()
            if self._control is not None:
                await self._control.start()
            if self._stopping is not None:  # it was stopped while it started
                await self._gateway.stop()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
