"""For people: the members by status, what they say, and how the connection is."""

import asyncio
import signal
import sys
from collections import deque
from datetime import datetime
from time import monotonic
from typing import ClassVar

from rich.text import Text
from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Footer, Input, RichLog, Static

from d_back_core.client import ClientWorld, Listener, decoded
from d_back_watch.members import Members, readable
from d_back_watch.words import Sentence, counted, harmless, lost, told

REST = 9
"""How many times as long as it took to draw it waits at least: a crowd takes a while to sort."""
TICK = 0.1
"""Seconds between two looks at the world; what happens meanwhile is drawn at once."""
MEMORY = 1000
"""What was said that can be scrolled back to."""


class Ear(Listener):
    """Keeps what happens until it is drawn."""

    def __init__(self) -> None:
        self.heard: deque[tuple[datetime, Sentence]] = deque(maxlen=MEMORY)
        self.is_news = True

    def received(self, frame: bytes, world: ClientWorld) -> None:
        """Keep what is said; the rest is seen in the world itself."""
        self.is_news = True
        known = decoded(frame)
        sentence = None if known is None else told(known, world)
        if sentence is not None and (sentence.is_message or not sentence.color):
            self._keep(sentence)

    def lost(self, code: int | None) -> None:
        """Keep that."""
        self.is_news = True
        self._keep(lost(code))

    def _keep(self, sentence: Sentence) -> None:
        self.heard.append((datetime.now().astimezone(), sentence))


class Watch(App[None]):
    """The whole screen."""

    TITLE = "d-back watch"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (70, "-wide")]  # noqa: RUF012  as it is declared
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
        Binding("escape", "forget", "All", show=False),
    ]

    def __init__(self, url: str) -> None:
        super().__init__()
        self.ear = Ear()
        self._url = url
        self._world = ClientWorld()
        self._not_before = 0.0
        self._search = Input(placeholder="a name or a uid", id="search")
        self._members = Members()
        self._title = Static(id="title")
        self._chat = RichLog(id="chat", wrap=True, max_lines=MEMORY, min_width=1)

    def show(self, world: ClientWorld) -> None:
        """What is to be drawn from now on."""
        self._world = world
        self.ear.is_news = True

    async def stay(self, world: ClientWorld) -> None:
        """Show the world until the connection ends or the person leaves."""
        self.show(world)
        ending = asyncio.create_task(self._end_with(world))
        loop = asyncio.get_running_loop()
        if sys.platform != "win32":  # the terminal must be given back
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self.exit)
        try:
            await self.run_async()
        finally:
            ending.cancel()

    async def _end_with(self, world: ClientWorld) -> None:
        await world.until(lambda world: world.close_code is not None)
        self.exit()

    def compose(self) -> ComposeResult:
        """Title above, members left, chat right, search and keys below."""
        yield self._title
        with Horizontal():
            yield self._members
            yield self._chat
        yield self._search
        yield Footer()

    def on_mount(self) -> None:
        """Begin to draw."""
        self._members.focus()
        self.set_interval(TICK, self._draw)
        self._draw()

    def on_resize(self, _event: events.Resize) -> None:
        """Draw for the new size."""
        self.ear.is_news = True

    def action_search(self) -> None:
        """Ask for a name."""
        self._search.display = True
        self._search.focus()

    def action_forget(self) -> None:
        """Show everybody again."""
        self._search.value = ""
        self._search.display = False
        self._members.focus()

    @on(Input.Changed)
    def _changed(self) -> None:
        self._members.scroll_to(y=0, animate=False)
        self._show()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._members.focus()

    def _draw(self) -> None:
        began = monotonic()
        if not self.ear.is_news or began < self._not_before:
            return
        self.ear.is_news = False
        self._show()
        while self.ear.heard:
            self._chat.write(_line(*self.ear.heard.popleft()))
        now = monotonic()
        self._not_before = now + (now - began) * REST

    def _show(self) -> None:
        world = self._world
        state = ("● live", "green") if world.connected else ("○ connecting again", "yellow")
        parts: list[str | tuple[str, str]] = [
            (harmless(world.name), "bold"),
            f" ({harmless(world.public_id)})  ",
            state,
            f"  {counted(world.users.values())}  ",
            (self._url, "dim"),
        ]
        self._title.update(Text.assemble(*parts, overflow="ellipsis"))
        self._members.show(world.users, self._search.value)


def _line(time: datetime, sentence: Sentence) -> Text:
    color = readable(sentence.color) if sentence.color else ""
    parts: list[str | tuple[str, str]] = [
        (f"{time:%H:%M} ", "dim"),
        (sentence.name, f"bold {color}"),
        f" {sentence.text}",
    ]
    if sentence.is_message:
        return Text.assemble(*parts)
    return Text.assemble(*parts, style="italic dim")
