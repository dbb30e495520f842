"""Apply a changed configuration to a running gateway: on SIGHUP, and with ``--watch``.

Reloads run one after another in one task. A request that arrives during a reload is answered by
one more reload after it, so the newest content of the files is always applied last.

The files are polled, not watched by the kernel: inotify follows no symbolic links, so it misses a
release folder or a ConfigMap that is swapped, and it reports nothing on network file systems and
on some bind mounts. A poll costs one `stat` for the configuration and for each file of a secret.
"""

import asyncio
import logging
from collections.abc import Callable

from d_back_core.config import Config, Source
from d_back_core.embedding.server import WebSocketServer
from d_back_core.errors import ConfigError

POLL_INTERVAL = 0.5
"""Seconds. A change is applied once it has been there for one interval without another change: a
file that is being written is not read half."""

log = logging.getLogger("d_back")


class Reloader:
    """Reloads the configuration of one server while `run` is running."""

    def __init__(
        self, server: WebSocketServer, source: Source, load: Callable[[], Config]
    ) -> None:
        self._server = server
        self._source = source
        self._load = load
        self._requested = asyncio.Event()
        self._note_files()

    def request(self) -> None:
        """Ask for a reload; a signal handler may call it."""
        self._requested.set()

    async def run(self) -> None:
        """Reload on each request, until it is cancelled."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            await self._reload()

    async def watch(self) -> None:
        """Request a reload for each change of the files, until it is cancelled."""
        unstable = reported = None
        while True:
            await asyncio.sleep(POLL_INTERVAL)
            if self._requested.is_set():
                continue
            now = await asyncio.to_thread(self._source.current)
            if now in (self._source.seen, reported):
                continue
            if now == unstable:
                reported = now  # until the reload has read the files, `seen` is the old state
                self.request()
            unstable = now

    async def _reload(self) -> None:
        if self._source.path is None:
            log.warning("there is nothing to reload: d-back was started without a configuration")
            return
        try:
            config = await asyncio.to_thread(self._load)
            await self._server.reload(config)
        except ConfigError as error:
            log.error("the configuration is unchanged: %s", error)  # noqa: TRY400  one line
        except (Exception, SystemExit):  # plugins are made again; their code can raise anything
            log.exception("the reload has failed")
        else:
            log.info("applied %s", config.source)
        self._note_files()

    def _note_files(self) -> None:
        """Watch the files that providers have read as well."""
        for plugin in self._server.live.plugins:
            self._source.seen |= plugin.files
