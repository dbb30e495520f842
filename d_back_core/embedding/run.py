"""One run of the gateway: from the start of its providers to the end of its last connection."""

import asyncio
from collections.abc import Sequence

from d_back_core.admin.control_socket import Control
from d_back_core.clock import Clock
from d_back_core.config import Config
from d_back_core.providers.loader import Plugin
from d_back_core.state.live import Live


class Run:
    """Begins once and ends once; both on the same event loop."""

    def __init__(self, config: Config, plugins: Sequence[Plugin], clock: Clock) -> None:
        # Here: commands that serve nothing need not import the HTTP server.
        from d_back_core.gateway.gateway import Gateway  # noqa: PLC0415

        self.live = Live(config, plugins, clock)
        self.gateway = Gateway(config, self.live.joins, self.live, clock)
        self.failure: BaseException | None = None
        """Why it could not begin."""
        control = config.gateway.control
        self._control = None if control is None else Control(control, self.live)
        self._beginning: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    @property
    def has_begun(self) -> bool:
        """Whether it was told to begin."""
        return self._beginning is not None

    @property
    def is_over(self) -> bool:
        """Whether it was told to end."""
        return self._ending is not None

    @property
    def is_up(self) -> bool:
        """Whether its providers run and it listens."""
        begun = self._beginning is not None and self._beginning.done()
        return begun and not self.is_over

    async def begin(self) -> None:
        """Return when it listens, or when `end` was called meanwhile. Raises `ConfigError` where
        it cannot listen; it has then ended."""
        self._beginning = asyncio.create_task(self._begin())
        try:
            await asyncio.wait([self._beginning])
            if not self._beginning.cancelled():
                self._beginning.result()
        except BaseException as error:  # cancelled, too: what has begun is ended before it goes on
            self.failure = error
            await self.end()
            raise

    async def begun(self) -> None:
        """Return when `begin` has done what it can."""
        if self._beginning is not None:
            await asyncio.wait([self._beginning])

    async def end(self) -> None:
        """Stop listening, close the clients with 1001, stop the providers; may be called twice."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await asyncio.shield(self._ending)

    async def ended(self) -> None:
        """Return when it has ended; raises what it could not begin for."""
        await self._ended.wait()
        if isinstance(self.failure, Exception):
            raise self.failure

    async def _begin(self) -> None:
        await self.gateway.check_address()  # before providers log in
        if self._control is not None:
            self._control.check()
        await self.live.start()
        await self.gateway.start()
        if self._control is not None:
            await self._control.start()

    async def _end(self) -> None:
        try:
            if self._beginning is not None and not self._beginning.done():
                self._beginning.cancel()
                await asyncio.wait([self._beginning])
            if self._control is not None:
                await self._control.stop()
            await self.gateway.drain()
            await asyncio.gather(self.gateway.stop(), self.live.stop())
        finally:
            self._ended.set()
