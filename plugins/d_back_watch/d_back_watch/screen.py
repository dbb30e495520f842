"""The screen for terminals: the members by status, the chat, and the state of the connection."""

import asyncio
import signal
import sys
from collections import deque
from datetime import datetime
from time import monotonic
from typing import ClassVar

from msgspec import UNSET
from rich.text import Text
from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Footer, Input, RichLog, Static

from d_back_core.client import (
    ClientWorld,
    Listener,
    MessageDeleteFrame,
    MessageEditFrame,
    ServerJoin,
    decoded,
)
from d_back_watch.descriptions import (
    Description,
    describe,
    describe_loss,
    sanitized,
    status_counts,
)
from d_back_watch.members import Members, readable

IDLE_FACTOR = 9
"""The pause between two updates is at least this many times as long as an update takes: sorting a
large server must not use the whole CPU."""
INTERVAL = 0.1
"""Seconds between two updates of the screen, at least."""
CHAT_LINES = 1000
"""The number of chat lines that can be scrolled back to."""


class Activity(Listener):
    """The lines of the chat."""

    def __init__(self) -> None:
        self.lines: deque[tuple[datetime, Description]] = deque(maxlen=CHAT_LINES)
        self.unwritten = 0
        """The number of the last lines that are not on the screen yet."""
        self.changed = True
        """True if the screen is out of date."""
        self.corrected = False
        """True if lines that are on the screen have changed or are gone."""

    def received(self, frame: bytes, world: ClientWorld) -> None:
        """Keep messages and notices. Presences appear in the list of members."""
        self.changed = True
        known = decoded(frame)
        description = None if known is None else describe(known, world)
        match known:
            case MessageEditFrame() if description is not None:
                self._replace((known.data.channel, known.data.id), description)
                return
            case MessageDeleteFrame(data=gone):
                if gone.id is UNSET or gone.channel is UNSET:
                    self._replace(None, None)
                else:
                    self._replace((gone.channel, gone.id), None)
                return
            case ServerJoin():  # what was deleted while there was no connection is not known
                self._replace(None, None)
        if description is not None and (description.is_message or not description.color):
            self._add(description)

    def lost(self, code: int | None) -> None:
        """Keep the reason."""
        self.changed = True
        self._add(describe_loss(code))

    def _add(self, description: Description) -> None:
        self.lines.append((datetime.now().astimezone(), description))
        self.unwritten = min(self.unwritten + 1, CHAT_LINES)

    def _replace(self, key: tuple[str, str] | None, edited: Description | None) -> None:
        """Replace the line of that message (None: the lines of all that have an id), or (None)
        delete it."""
        kept = []
        for line in self.lines:
            if line[1].key is None or key not in {None, line[1].key}:
                kept.append(line)
            elif edited is not None:
                kept.append((line[0], edited))
        self.lines = deque(kept, maxlen=CHAT_LINES)
        self.corrected = True


class WatchApp(App[None]):
    """The whole screen."""

    TITLE = "d-back watch"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (70, "-wide")]  # noqa: RUF012  as textual declares it
    CSS = """
    #title { height: auto; background: $panel; padding: 0 1; }
    #search { display: none; dock: bottom; border: none; height: 1; margin-bottom: 1; }
    #members { border-right: solid $panel; padding: 0 1; scrollbar-size-vertical: 1; }
    #members:focus { border-right: solid $accent; }
    #chat { width: 2fr; height: 1fr; padding: 0 1; background: $background;
        scrollbar-size-vertical: 1; }
    .-narrow Horizontal { layout: vertical; }
    .-narrow #members, .-narrow #chat { width: 100%; border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c,ctrl+q", "quit", "Quit", key_display="q"),
        Binding("slash", "search", "Search", key_display="/"),
        Binding("escape", "show_all", "All", show=False),
    ]

    def __init__(self, url: str) -> None:
        super().__init__()
        self.activity = Activity()
        self._url = url
        self._world = ClientWorld()
        self._next_update = 0.0
        self._search = Input(placeholder="a name or a uid", id="search")
        self._members = Members()
        self._title = Static(id="title")
        self._chat = RichLog(id="chat", wrap=True, max_lines=CHAT_LINES, min_width=1)

    def show(self, world: ClientWorld) -> None:
        """Show this world from now on."""
        self._world = world
        self.activity.changed = True

    async def run_until_closed(self, world: ClientWorld) -> None:
        """Show the world until the connection ends or the user quits."""
        self.show(world)
        closing = asyncio.create_task(self._exit_with(world))
        loop = asyncio.get_running_loop()
        if sys.platform != "win32":  # textual must restore the terminal before the process ends
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self.exit)
        try:
            await self.run_async()
        finally:
            closing.cancel()

    async def _exit_with(self, world: ClientWorld) -> None:
        await world.until(lambda world: world.close_code is not None)
        self.exit()

    def compose(self) -> ComposeResult:
        """Lay out the title, the members, the chat, the search field and the keys."""
        yield self._title
        with Horizontal():
            yield self._members
            yield self._chat
        yield self._search
        yield Footer()

    def on_mount(self) -> None:
        """Start the updates."""
        self._members.focus()
        self.set_interval(INTERVAL, self._update)
        self._update()

    def on_resize(self, _event: events.Resize) -> None:
        """Update the screen for the new size."""
        self.activity.changed = True

    def action_search(self) -> None:
        """Open the search field."""
        self._search.display = True
        self._search.focus()

    def action_show_all(self) -> None:
        """Close the search field and show all members."""
        self._search.value = ""
        self._search.display = False
        self._members.focus()

    @on(Input.Changed)
    def _search_changed(self) -> None:
        self._members.scroll_to(y=0, animate=False)
        self._update_members()

    @on(Input.Submitted)
    def _search_submitted(self) -> None:
        self._members.focus()

    def _update(self) -> None:
        began = monotonic()
        if not self.activity.changed or began < self._next_update:
            return
        self.activity.changed = False
        self._update_members()
        activity = self.activity
        lines = list(activity.lines)
        if activity.corrected:
            self._chat.clear()
        elif activity.unwritten:
            lines = lines[-activity.unwritten :]
        else:
            lines = []
        activity.corrected, activity.unwritten = False, 0
        for line in lines:
            self._chat.write(_chat_line(*line))
        now = monotonic()
        self._next_update = now + (now - began) * IDLE_FACTOR

    def _update_members(self) -> None:
        world = self._world
        state = ("● live", "green") if world.connected else ("○ reconnecting", "yellow")
        parts: list[str | tuple[str, str]] = [
            (sanitized(world.name), "bold"),
            f" ({sanitized(world.public_id)})  ",
            state,
            f"  {status_counts(world.users.values())}  ",
            (self._url, "dim"),
        ]
        self._title.update(Text.assemble(*parts, overflow="ellipsis"))
        self._members.show(world.users, self._search.value)


def _chat_line(time: datetime, description: Description) -> Text:
    color = readable(description.color) if description.color else ""
    parts: list[str | tuple[str, str]] = [
        (f"{time:%H:%M} ", "dim"),
        (description.name, f"bold {color}"),
        f" {description.text}",
    ]
    if description.is_message:
        return Text.assemble(*parts)
    return Text.assemble(*parts, style="italic dim")
