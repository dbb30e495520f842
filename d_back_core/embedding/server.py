"""The embedding API: the whole gateway as one object."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from msgspec import structs

from d_back_core.clock import Clock
from d_back_core.config import ChainConfig, Config
from d_back_core.config.decoding import File
from d_back_core.embedding.broadcasts import Broadcasts
from d_back_core.embedding.callback import Callback
from d_back_core.embedding.callbacks import Callbacks, ClientIds, EventQueue
from d_back_core.embedding.registration import Registration
from d_back_core.embedding.run import Run
from d_back_core.embedding.unknown_servers import UnknownServers
from d_back_core.errors import ConfigError
from d_back_core.models import Event
from d_back_core.providers import loader
from d_back_core.providers.entry_points import installed
from d_back_core.providers.loader import Plugin
from d_back_core.state.live import Live
from d_back_core.tasks import Tasks

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

CALLBACKS, CLIENT_IDS = "callbacks", "client-ids"
"""The providers that the callbacks are. They come first, unless ``chain.order`` names them."""


LAST_EVENTS_TIMEOUT = 2.0
"""Seconds that `WebSocketServer.stop` gives to what was broadcast before it."""


class WebSocketServer(Registration, Broadcasts):
    """A gateway, with callbacks, with the providers of its configuration, or with both.

    ``port`` and ``host`` override the configuration; port 0 takes a free one. ``providers`` are
    instances that ``chain.order`` may name like installed plugins; without a configuration they
    are the order. Without either, the mock is asked for what no callback covers, if it is
    installed. Configuration and plugins are checked here; an error raises `ConfigError`.

    It can be made before there is an event loop. Everything else belongs to the loop on which it
    is started. It runs once: after `stop`, make another one.
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
        self._callbacks, self._client_ids = Callbacks(), ClientIds()
        self._embedded: dict[str, object] = {}
        """Those of the two that are in the chain: none in a program that uses no callbacks."""
        self._providers = dict(providers or {})
        for name in (CALLBACKS, CLIENT_IDS):
            if name in self._providers:
                raise ConfigError(f"providers: '{name}' is the name of the server's own provider")
        self._stand_ins: frozenset[str] = frozenset()
        """The providers of the built-in order, which callbacks replace."""
        if config is None:
            config = Config(chain=ChainConfig(order=tuple(self._providers)))
        if not config.chain.order:
            self._stand_ins = frozenset(ChainConfig().order) & installed().keys()
            self._embedded[CALLBACKS] = self._callbacks
        self._given = config
        given = {"port": port, "host": host}
        self._overrides: dict[str, object] = {
            key: value for key, value in given.items() if value is not None
        }
        self._unknown_servers = UnknownServers()
        self._tasks = Tasks(loader.log)
        self._run = self._composed()

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self._config

    @property
    def live(self) -> Live:
        """The live state."""
        return self._run.live

    @property
    def host(self) -> str:
        """The host that it listens on. It can be set before the start."""
        return self._config.gateway.host

    @host.setter
    def host(self, host: str) -> None:
        self._override("host", host)

    @property
    def port(self) -> int:
        """The port that it listens on, the same for all addresses of the host: once it listens,
        the real one. It can be set before the start."""
        return self._run.gateway.port

    @port.setter
    def port(self, port: int) -> None:
        self._override("port", port)

    @property
    def static_dir(self) -> Path | None:
        """The folder that is served at ``/``; None: the built-in page. Setting it takes effect
        at once, and raises `ConfigError` if it is not a folder."""
        static_dir = self._config.gateway.static_dir
        return None if static_dir is None else Path(static_dir)

    @static_dir.setter
    def static_dir(self, folder: str | PathLike[str] | None) -> None:
        self._override("static_dir", None if folder is None else File(fspath(folder)))

    @property
    def url(self) -> str:
        """The address that clients connect to."""
        return self._run.gateway.url

    @property
    def connections(self) -> frozenset[Any]:
        """The open WebSocket connections, as objects of the library ``websockets``."""
        return frozenset(session.connection for session in self._run.gateway.sessions)

    @property
    def joined(self) -> Mapping[str, frozenset[Any]]:
        """The connections that have joined each server, by server_id; a server without any is
        left out."""
        connections: dict[object, Any] = {
            session: session.connection for session in self._run.gateway.sessions
        }
        joined = {
            server_id: frozenset(
                connections[session] for session in server.sessions if session in connections
            )
            for server_id, server in self.live.servers.items()
        }
        return {server_id: connections for server_id, connections in joined.items() if connections}

    async def app(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer an HTTP request as an ASGI application: what the port answers, without the
        WebSocket. Before the start it answers 503."""
        await self._run.gateway.app(scope, receive, send)

    @property
    def listener(self) -> Any:  # noqa: ANN401  the library's
        """The server object of the library ``websockets``; None while it does not listen."""
        return self._run.gateway.listener

    # From start to stop

    def start(self) -> Coroutine[Any, Any, None]:
        """Serve until `stop` is called, or until the caller is cancelled. If it runs already,
        return when that run ends. Raises `ConfigError` if it cannot listen, which is an
        ``OSError`` as well, and ``RuntimeError`` if it has been stopped."""
        run = self._run
        if run.is_over:
            raise RuntimeError("the server has been stopped; make another one")
        return self._serve(run)

    async def _serve(self, run: Run) -> None:
        if run.has_begun or run.is_over:
            await run.ended()
            return
        try:
            await run.begin()
            await run.ended()
        finally:
            await self.stop()

    def run_forever(self) -> Coroutine[Any, Any, None]:
        """The same as `start`."""
        return self.start()

    async def stop(self) -> None:
        """Stop listening, close the clients with 1001, stop the providers. It may be called
        twice, and before the start: a start that is under way then ends. What was broadcast
        before is still sent."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_EVENTS_TIMEOUT):
                await self.settled()
        for queue in self._queues().values():
            queue.clear()
        await self._tasks.close()
        await self._run.end()

    async def __aenter__(self) -> Self:
        """Start; it listens when this returns. `start` returns only when the run is over."""
        if self._run.has_begun or self._run.is_over:
            raise RuntimeError("the server runs already, or has been stopped; make another one")
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
        """Use another configuration while the clients stay connected; the differences reach them
        as deltas. Raises `ConfigError` if it is not valid, and changes nothing then."""
        completed = self._completed(config, stand_ins=frozenset())
        loaded = self._loaded(completed, stand_ins=frozenset())
        begun = self._run.has_begun
        if begun:
            self._run.gateway.apply(completed)
        else:  # to apply it would start providers that no `stop` may ever follow
            self._run = Run(completed, loaded, self._clock)
        self._given, self._stand_ins = config, frozenset()
        self._config = completed
        if begun:
            await self._run.live.apply(completed, loaded)
            self._run.gateway.make_site()

    # The providers that the callbacks are

    async def settled(self) -> None:
        """Return when everything that was broadcast so far is applied and written to the clients.

        A client that reads too slowly receives it later. While the server does not run, it
        returns at once.
        """
        for name, queue in self._queues().items():
            if self._is_running(name):
                await queue.join()
        if self._is_up:
            self.live.flush()

    @property
    def _is_up(self) -> bool:
        return self._run.is_up

    async def _publish(self, events: Iterable[Event]) -> None:
        if await self._is_publishing(CALLBACKS):
            events = list(events)
            self._unknown_servers.report(events, self.live.server_list)
            await self._callbacks.events_queue.publish(events)

    async def _publish_client_id(self, server_id: str, client_id: str | None) -> None:
        if await self._is_publishing(CLIENT_IDS):
            await self._client_ids.publish(server_id, client_id)

    async def _is_publishing(self, name: str) -> bool:
        """See that the provider is in the chain, and return True if it runs."""
        if name not in self._embedded:
            self._embed(name)
        await self._tasks.join()
        return self._is_running(name)

    def _is_running(self, name: str) -> bool:
        supervisor = self.live.providers.supervisors.get(name) if self._is_up else None
        return supervisor is not None and supervisor.running

    def _register(self, name: str, callback: Callback) -> None:
        if name == "client_id":
            self._client_ids.register(callback)
            self._embed(CLIENT_IDS)
        else:
            self._callbacks.register(name, callback)
            self._embed(CALLBACKS)

    def _embed(self, name: str) -> None:
        """See that the provider is in the chain, with the hooks that it has now."""
        self._embedded[name] = {CALLBACKS: self._callbacks, CLIENT_IDS: self._client_ids}[name]
        if not self._run.has_begun:
            self._run = self._composed()
        elif not self._run.is_over:
            self._tasks.start(self._rechain(self._run, name))

    async def _rechain(self, run: Run, name: str) -> None:
        await run.begun()
        if run.is_over:  # it could not begin
            return
        self._config = self._completed(self._given, self._stand_ins)
        loaded = self._loaded(self._config, self._stand_ins)
        run.gateway.apply(self._config)
        await run.live.apply(self._config, loaded)
        run.gateway.make_site()
        await run.live.providers.supervisors[name].settled()
        run.live.reports.invalidate(name)
        if not self._callbacks.has("users"):  # a broadcast needs the layer that it changes
            await run.live.settled()

    def _queues(self) -> Mapping[str, EventQueue]:
        return {
            CALLBACKS: self._callbacks.events_queue,
            CLIENT_IDS: self._client_ids.events_queue,
        }

    # What it is made of

    def _override(self, key: str, value: object) -> None:
        before, self._overrides = self._overrides, {**self._overrides, key: value}
        try:
            if self._run.has_begun:
                completed = self._completed(self._given, self._stand_ins)
                self._run.gateway.apply(completed)
                self._config = completed
            else:
                self._run = self._composed()
        except ConfigError:
            self._overrides = before
            raise

    def _composed(self) -> Run:
        config = self._completed(self._given, self._stand_ins)
        run = Run(config, self._loaded(config, self._stand_ins), self._clock)
        self._config = config
        return run

    def _completed(self, config: Config, stand_ins: frozenset[str]) -> Config:
        """Return the configuration with the overrides and with the callbacks in the chain."""
        gateway = structs.replace(config.gateway, **self._overrides)
        order = config.chain.order
        if not order and not self._callbacks.has("servers"):
            order = tuple(sorted(stand_ins))
        for name in (CLIENT_IDS, CALLBACKS):
            if name in self._embedded and name not in order:
                order = (name, *order)
        if self._callbacks.has("routes") and CALLBACKS not in gateway.http:
            gateway = structs.replace(gateway, http=(CALLBACKS, *gateway.http))
        chain = structs.replace(config.chain, order=order)
        return structs.replace(config, gateway=gateway, chain=chain)

    def _loaded(self, config: Config, stand_ins: frozenset[str]) -> list[Plugin]:
        own = {CALLBACKS: self._callbacks, CLIENT_IDS: self._client_ids}
        named = {name: provider for name, provider in own.items() if name in config.names}
        loaded = []
        for plugin in loader.load(config, self._providers | named):
            if plugin.name == CALLBACKS:
                loaded.append(plugin.without(self._callbacks.unused))
            elif plugin.name in stand_ins and self._callbacks.has("users"):
                loaded.append(plugin.without({"users"}))
            else:
                loaded.append(plugin)
        return loaded
