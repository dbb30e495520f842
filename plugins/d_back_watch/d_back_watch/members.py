"""The list of members on the screen."""

from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.color import Color, ColorParseError
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from d_back_core.client import EffectiveUser
from d_back_watch.descriptions import STATUSES, sanitized

SIGNS = {"online": "●", "idle": "◐", "dnd": "⊖", "offline": "○"}
COLORS = {"online": "#43b581", "idle": "#faa61a", "dnd": "#f04747", "offline": "#8a8f98"}
MIN_BRIGHTNESS = 0.45
"""The minimum brightness of a name: some role colors are made for a white background."""


class Members(ScrollView, can_focus=True):
    """A list of any number of members. It draws only the visible ones."""

    DEFAULT_CSS = "Members { width: 1fr; height: 1fr; }"

    def __init__(self) -> None:
        super().__init__(id="members")
        self._rows: list[Segment | EffectiveUser] = []

    def show(self, users: dict[str, EffectiveUser], query: str) -> None:
        """Show the users whose name or uid contains the query."""
        query = query.casefold()
        found: dict[str, list[tuple[str, str]]] = {status: [] for status in STATUSES}
        for uid, user in users.items():
            name = user.username.casefold()
            if query in name or query in uid:
                found.get(user.status, found["offline"]).append((name, uid))
        self._rows = []
        for status, members in found.items():
            if members:
                style = Style(color=COLORS[status], bold=True)
                self._rows.append(Segment(f"{status} — {len(members)}", style))
                self._rows.extend(users[uid] for _, uid in sorted(members))
        if not self._rows:
            text = f"no member matches '{sanitized(query)}'" if query else "no members"
            self._rows = [Segment(text, Style(dim=True))]
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._rows))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return one visible line."""
        width = self.size.width
        index = self.scroll_offset.y + y
        if index >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        row = self._rows[index]
        strip = Strip([row] if isinstance(row, Segment) else _segments(row))
        return strip.adjust_cell_length(width).apply_style(self.rich_style)


def _segments(user: EffectiveUser) -> list[Segment]:
    status = user.status if user.status in SIGNS else "offline"
    style = Style(color=readable(user.role_color), dim=status == "offline")
    sign = Segment(f" {SIGNS[status]} ", Style(color=COLORS[status]))
    return [sign, Segment(sanitized(user.username), style)]


@lru_cache
def readable(color: str) -> str:
    """Return the color, brighter if it is too dark for a dark background."""
    try:
        parsed = Color.parse(color)
    except ColorParseError:  # another gateway may send anything
        parsed = Color.parse("white")
    missing = MIN_BRIGHTNESS - parsed.brightness
    if missing > 0:
        parsed = parsed.blend(Color.parse("white"), missing / (1 - parsed.brightness))
    return parsed.hex6.lower()
