"""The embedding API: the whole gateway as one object."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec import structs

from d_back_core.clock import Clock
from d_back_core.config import ChainConfig, Config
from d_back_core.config.decoding import File
from d_back_core.embedding.broadcasts import Broadcasts
from d_back_core.embedding.callback import Callback
from d_back_core.embedding.callbacks import Callbacks
from d_back_core.embedding.registration import Registration
from d_back_core.embedding.run import Run
from d_back_core.errors import ConfigError
from d_back_core.models import Event
from d_back_core.providers import loader
from d_back_core.providers.entry_points import installed
from d_back_core.providers.loader import Plugin
from d_back_core.state.live import Live

CALLBACKS = "callbacks"
"""The name of the provider that the callbacks are; it is first unless ``chain.order`` names it."""


class WebSocketServer(Registration, Broadcasts):
    """A gateway, with callbacks, with the providers of its configuration, or with both.

    ``port`` and ``host`` override the configuration; port 0 takes a free one. ``providers`` are
    instances that ``chain.order`` may name like installed plugins; without a configuration they
    are the order. Without either, what no callback covers is asked of the mock, where it is
    installed; but for its users once there is a callback for users. Configuration and plugins
    are checked here and raise `ConfigError`.

    It can be made before there is an event loop. Everything else belongs to the loop on which it
    is started; after `stop` it can be started again, on any loop.
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
        self._clock = clock or Clock()
        self._callbacks = Callbacks()
        self._providers = dict(providers or {})
        if CALLBACKS in self._providers:
            raise ConfigError(f"providers: '{CALLBACKS}' is the name of the server's own provider")
        self._stand_ins: frozenset[str] = frozenset()
        self._embedded = False
        """Whether the callbacks are in the chain: not for those who never use any."""
        if config is None:
            config = Config(chain=ChainConfig(order=tuple(self._providers)))
        if not config.chain.order:
            self._stand_ins = frozenset(ChainConfig().order) & installed().keys()
            self._embedded = True
        self._given = config
        given = {"port": port, "host": host}
        self._overrides: dict[str, object] = {
            key: value for key, value in given.items() if value is not None
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._stops = 0
        """How often it was told to stop."""
        self._run = self._composed()

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self._config

    @property
    def live(self) -> Live:
        """The live state of the present run, or of the next one."""
        return self._run.live

    @property
    def host(self) -> str:
        """The host that it listens on. Setting it takes effect at the next start."""
        return self._config.gateway.host

    @host.setter
    def host(self, host: str) -> None:
        self._override("host", host)

    @property
    def port(self) -> int:
        """The port that it listens on: the real one, once it does, and the same for all
        addresses of the host. Setting it takes effect at the next start."""
        return self._run.gateway.port

    @port.setter
    def port(self, port: int) -> None:
        self._override("port", port)

    @property
    def static_dir(self) -> Path | None:
        """The folder that is served at ``/``; None: the built-in page. Setting it takes effect
        at once, and raises `ConfigError` where there is no such folder."""
        static_dir = self._config.gateway.static_dir
        return None if static_dir is None else Path(static_dir)

    @static_dir.setter
    def static_dir(self, folder: str | PathLike[str] | None) -> None:
        self._override("static_dir", None if folder is None else File(fspath(folder)))

    @property
    def url(self) -> str:
        """Where a client connects."""
        return self._run.gateway.url

    @property
    def connections(self) -> frozenset[Any]:
        """The WebSocket connections that are open, as the library ``websockets`` has them."""
        return frozenset(session.connection for session in self._run.gateway.sessions)

    # Its life

    def start(self) -> Coroutine[Any, Any, None]:
        """Serve until `stop` is called, or until whoever started it is cancelled. Where it runs
        already, join that run: return when it ends.

        A stop counts from this call on, also before its task had a turn of the loop. Raises
        `ConfigError` where it cannot listen.
        """
        return self._start(self._stops)

    async def _start(self, stops: int) -> None:
        await self._ended_before()
        if stops != self._stops:
            return
        if self._run.has_begun:
            await self._run.ended()
        else:
            async with self:
                await self._run.ended()

    def run_forever(self) -> Coroutine[Any, Any, None]:
        """The same as `start`."""
        return self.start()

    async def stop(self) -> None:
        """Stop listening, close the clients with 1001, stop the providers. Does nothing where it
        does not run; may be called twice."""
        self._stops += 1
        for task in self._tasks:
            task.cancel()
        if self._run.has_begun:
            await self._run.end()

    async def __aenter__(self) -> Self:
        """Begin a run; it listens when this returns. For programs that go on beside it, tests
        above all: `start` returns only when the run is over."""
        await self._ended_before()
        if self._run.has_begun:
            raise RuntimeError("it runs already")
        await self._run.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def reload(self, config: Config) -> None:
        """Go on with another configuration while the clients stay connected; what differs
        reaches them as deltas. Raises `ConfigError` and changes nothing where it is not valid."""
        completed = self._completed(config)
        loaded = self._loaded(completed, stand_ins=frozenset())
        self._run.gateway.apply(completed)
        self._given, self._stand_ins = config, frozenset()
        self._config = completed
        await self._run.live.apply(completed, loaded)

    # What it is made of

    @property
    def _is_up(self) -> bool:
        return self._run.is_up

    async def _tell(self, events: Iterable[Event]) -> None:
        if not self._embedded:
            self._embed()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if not self._is_up:
            return
        for event in events:
            self.live.on_event(CALLBACKS, event)
        await asyncio.sleep(0)  # what changed is written in this turn of the loop

    def _register(self, hook: str, callback: Callback) -> None:
        self._callbacks.register(hook, callback)
        self._embed()

    def _embed(self) -> None:
        """See that the callbacks are in the chain, as they are now."""
        self._embedded = True
        if not self._run.has_begun:
            self._run = self._composed()
        elif not self._run.is_over:
            task = asyncio.get_running_loop().create_task(self._rechain(self._run))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _rechain(self, run: Run) -> None:
        await run.begun()
        self._config = self._completed(self._given)
        loaded = self._loaded(self._config, self._stand_ins)
        run.gateway.apply(self._config)
        await run.live.apply(self._config, loaded)
        for name in (CALLBACKS, *self._stand_ins):
            run.live.invalidate(name)
        if not self._callbacks.answers("users"):  # a broadcast needs the layer that it changes
            await run.live.settled()

    async def _ended_before(self) -> None:
        """Return when a run that was stopped has ended; the next one is then there."""
        while self._run.is_over:
            run = self._run
            await run.end()
            if run is self._run:
                self._run = self._composed()

    def _override(self, key: str, value: object) -> None:
        before, self._overrides = self._overrides, {**self._overrides, key: value}
        try:
            if self._run.has_begun:
                completed = self._completed(self._given)
                self._run.gateway.apply(completed)
                self._config = completed
            else:
                self._run = self._composed()
        except ConfigError:
            self._overrides = before
            raise

    def _composed(self) -> Run:
        config = self._completed(self._given)
        loaded = self._loaded(config, self._stand_ins)
        run = Run(config, loaded, self._clock)
        self._config = config
        run.live.held.passwords = self._callbacks.passwords
        run.live.knows_unlisted = self._knows_unlisted
        return run

    def _completed(self, config: Config) -> Config:
        gateway = structs.replace(config.gateway, **self._overrides)
        order = config.chain.order or tuple(sorted(self._stand_ins))
        if self._embedded and CALLBACKS not in order:
            order = (CALLBACKS, *order)
        if self._callbacks.answers("http") and CALLBACKS not in gateway.http:
            gateway = structs.replace(gateway, http=(CALLBACKS, *gateway.http))
        chain = structs.replace(config.chain, order=order)
        return structs.replace(config, gateway=gateway, chain=chain)

    def _loaded(self, config: Config, stand_ins: frozenset[str]) -> list[Plugin]:
        given = self._providers | ({CALLBACKS: self._callbacks} if self._embedded else {})
        loaded = loader.load(config, given)
        for plugin in loaded:
            if plugin.name in stand_ins and self._callbacks.answers("users"):
                plugin.muted = frozenset({"users"})
        return loaded

    def _knows_unlisted(self) -> bool:
        return self._callbacks.answers("users") and not self._callbacks.answers("servers")
