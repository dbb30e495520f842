"""What there is to configure, and the hooks."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from msgspec import Struct
from watchfiles import Change, awatch

from d_back_core import Context, Event, File, User, hookimpl
from d_back_paint.colours import Colours, changes, read


class Options(Struct, frozen=True, kw_only=True):
    """The table of the provider in d-back.toml."""

    path: File = File("colours.toml")
    """A relative path starts at the folder of d-back.toml."""


class Provider:
    """Knows colours, and nothing else: for the mode ``enrich``."""

    Config = Options
    hook_version = 1

    def __init__(self, config: Options) -> None:
        self._path = Path(config.path)
        self._log = logging.getLogger(__name__)
        self._colours: Colours = {}
        self._news: asyncio.Queue[Event | None] = asyncio.Queue()
        self._stopped = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    @hookimpl
    async def start(self, context: Context) -> None:
        """Watch the file, and read it; raises where it is not there or has a mistake."""
        self._log = context.log
        self._news, self._stopped = asyncio.Queue(), asyncio.Event()
        if not context.probe:
            await self._watch()
        self._colours = await asyncio.to_thread(read, self._path)

    @hookimpl
    async def stop(self) -> None:
        """End the watch, and with it the stream."""
        self._stopped.set()
        if self._watching is not None:
            await asyncio.wait([self._watching])
            self._watching = None

    @hookimpl
    async def users(self, server_id: str) -> Mapping[str, User] | None:
        """The colours of that server's members; None where the file has none for it."""
        colours = self._colours.get(server_id)
        if colours is None:
            return None
        return {uid: User(role_color=colour) for uid, colour in colours.items()}

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        """Each colour that is new, another or gone. Where the watch has failed, that is raised,
        and the next call watches again."""
        if self._watching is None or self._watching.done():
            await self._watch()
            await self._read_again()
        while (event := await self._news.get()) is not None:
            yield event
        if self._watching is not None:
            await self._watching

    async def _watch(self) -> None:
        self._watching = asyncio.create_task(self._follow())
        await asyncio.sleep(0)  # the watch is set up in the first step of the task

    async def _follow(self) -> None:
        """The folder is watched, not the file: editors put a new file in the old one's place."""

        def ours(_: Change, name: str) -> bool:
            return Path(name).name == self._path.name

        folder = self._path.absolute().parent
        try:
            async for _ in awatch(
                folder, watch_filter=ours, stop_event=self._stopped, recursive=False
            ):
                await self._read_again()
        finally:
            self._news.put_nowait(None)

    async def _read_again(self) -> None:
        try:
            colours = await asyncio.to_thread(read, self._path)
        except (OSError, ValueError) as error:  # a program is still writing it
            self._log.warning("the colours stay as they are: %s", error)
            return
        for event in changes(self._colours, colours):
            self._news.put_nowait(event)
        self._colours = colours
