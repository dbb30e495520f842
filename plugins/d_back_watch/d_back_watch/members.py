"""The list of members on the screen."""

from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.color import Color, ColorParseError
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from d_back_core.models import EffectiveUser
from d_back_watch.words import ORDER, harmless

SIGNS = {"online": "●", "idle": "◐", "dnd": "⊖", "offline": "○"}
COLORS = {"online": "#43b581", "idle": "#faa61a", "dnd": "#f04747", "offline": "#8a8f98"}
DARKEST = 0.45
"""The least brightness of a name: some role colours are made for a white background."""


class Members(ScrollView, can_focus=True):
    """Any number of members, of which only those in sight are drawn."""

    DEFAULT_CSS = "Members { width: 1fr; height: 1fr; }"

    def __init__(self) -> None:
        super().__init__(id="members")
        self._rows: list[Segment | EffectiveUser] = []

    def show(self, users: dict[str, EffectiveUser], wanted: str) -> None:
        """Draw those whose name or uid has ``wanted`` in it."""
        wanted = wanted.casefold()
        found: dict[str, list[tuple[str, str]]] = {status: [] for status in ORDER}
        for uid, user in users.items():
            name = user.username.casefold()
            if wanted in name or wanted in uid:
                found.get(user.status, found["offline"]).append((name, uid))
        self._rows = []
        for status, members in found.items():
            if members:
                style = Style(color=COLORS[status], bold=True)
                self._rows.append(Segment(f"{status} — {len(members)}", style))
                self._rows.extend(users[uid] for _, uid in sorted(members))
        if not self._rows:
            nobody = f"nobody is called '{harmless(wanted)}'" if wanted else "nobody is here"
            self._rows = [Segment(nobody, Style(dim=True))]
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._rows))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of those in sight."""
        width = self.size.width
        index = self.scroll_offset.y + y
        if index >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        row = self._rows[index]
        strip = Strip([row] if isinstance(row, Segment) else _member(row))
        return strip.adjust_cell_length(width).apply_style(self.rich_style)


def _member(user: EffectiveUser) -> list[Segment]:
    status = user.status if user.status in SIGNS else "offline"
    style = Style(color=readable(user.role_color), dim=status == "offline")
    sign = Segment(f" {SIGNS[status]} ", Style(color=COLORS[status]))
    return [sign, Segment(harmless(user.username), style)]


@lru_cache
def readable(color: str) -> str:
    """The colour, made lighter where it could not be read on a dark background."""
    try:
        parsed = Color.parse(color)
    except ColorParseError:  # the gateway's word for it, not ours
        parsed = Color.parse("white")
    missing = DARKEST - parsed.brightness
    if missing > 0:
        parsed = parsed.blend(Color.parse("white"), missing / (1 - parsed.brightness))
    return parsed.hex6.lower()
