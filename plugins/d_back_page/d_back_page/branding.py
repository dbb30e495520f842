"""What the operator says of the community: its name, icon, colour and links, put into the pages.

Every text is escaped where it enters a page. Addresses and colours are checked before: an address
also enters the Content-Security-Policy, and a colour a style sheet.
"""

import re
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from d_back_core import WatchedFile

NAME = "d-back"
DESCRIPTION = "Who is there, live: every member a little cube."
CUBE = "page/cube.svg"
ICON = "page/icon"
"""Where the icon is served, if it is a file."""
MOST_ICON = 512 * 1024
"""Bytes. The file stays in memory, and each visitor loads it."""
MOST_NAME = 60
MOST_DESCRIPTION = 300

_HOST = r"[A-Za-z0-9.-]+(?::\d{1,5})?"
_PATH = r"""(?:[/?#][^\s"'<>\\^`{|}\x00-\x20\x7f-\U0010ffff]*)?"""
IMAGE_HOST = re.compile(rf"https://(?:\*\.)?{_HOST}")
SHAPES = {
    "icon": (
        re.compile(rf"https://{_HOST}{_PATH}|(?=/[^/]){_PATH}"),
        "an address (https://… or /icon.png)",
    ),
    "image": (re.compile(rf"https://{_HOST}{_PATH}"), "an address (https://…)"),
    "join": (re.compile(rf"https?://{_HOST}{_PATH}"), "an address (https://…)"),
    "accent": (re.compile(r"#(?:[0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})"), "a colour (#rrggbb)"),
}
"""Key → what its text must look like, and the same in words."""
ICON_TYPES = {
    ".gif": "image/gif",
    ".ico": "image/x-icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
PLACE = re.compile(r"\{\{(\w+)\}\}")

LIGHT = ("#f4eedd", "#fffaf0")
"""The grounds of the page by day; they are those of ``style.css``."""
DARK = ("#16131f", "#1f1a2b")
CONTRAST = 4.5
"""WCAG 2.2, 1.4.3."""


class Branding(Struct, frozen=True, kw_only=True):
    """The keys of ``[providers.page]`` that are about the community."""

    name: str = ""
    """The community's name, in the bar and in the title. Unset: d-back."""
    description: str = ""
    """One sentence for search engines, and for chats in which the address is posted."""
    icon: str = ""
    """Address of the icon: ``https://…``, or a path on this host such as ``/icon.png``."""
    icon_file: WatchedFile | None = None
    """The icon as a file, instead of ``icon``: PNG, SVG, WebP, JPEG, GIF or ICO, up to 512 KiB."""
    image: str = ""
    """``https://`` address of the picture for chats in which the address is posted."""
    accent: str = ""
    """Colour of links and marks, such as ``#5865f2``. It is made legible on each ground."""
    join: str = ""
    """Address of the Join link: an invitation, a website."""
    avatars: tuple[str, ...] = ()
    """Hosts that avatars may come from, such as ``https://cdn.discordapp.com``. Empty: none are
    shown. The avatars themselves are an extra text, which ``gateway.extra`` has to name."""

    def __post_init__(self) -> None:
        """Refuse what would not be shown, or would change the page or its policy."""
        for key, most in (("name", MOST_NAME), ("description", MOST_DESCRIPTION)):
            if len(getattr(self, key)) > most:
                raise ValueError(f"{key}: is longer than {most} characters")
        for key, (shape, expected) in SHAPES.items():
            text = getattr(self, key)
            if text and not shape.fullmatch(text):
                raise ValueError(f"{key}: '{text}' is not {expected}")
        if self.icon and self.icon_file is not None:
            raise ValueError("icon: is set, and icon_file as well (remove one)")
        if self.icon_file is not None and _suffix(self.icon_file) not in ICON_TYPES:
            known = ", ".join(sorted(ICON_TYPES))
            raise ValueError(f"icon_file: '{self.icon_file}' is not an image ({known})")
        for host in self.avatars:
            if not IMAGE_HOST.fullmatch(host):
                raise ValueError(
                    f"avatars: '{host}' is not a host (https://cdn.discordapp.com, "
                    "https://*.example.org)"
                )

    @property
    def image_hosts(self) -> list[str]:
        """The hosts that images of the page may come from, besides the gateway."""
        hosts = list(self.avatars)
        if self.icon.startswith("https:"):
            hosts.append(f"https://{urlsplit(self.icon).netloc}")
        return hosts

    def read_icon(self) -> tuple[bytes, str] | None:
        """Return the icon's file and its type, or None. Raises ``ValueError``."""
        if self.icon_file is None:
            return None
        try:
            with Path(self.icon_file).open("rb") as file:
                body = file.read(MOST_ICON + 1)
        except OSError as error:
            raise ValueError(f"icon_file: '{self.icon_file}': {error.strerror}") from error
        if len(body) > MOST_ICON:
            raise ValueError(f"icon_file: '{self.icon_file}' is larger than 512 KiB")
        return body, ICON_TYPES[_suffix(self.icon_file)]

    def fill(self, html: str, root: str = "") -> bytes:
        """Return a page with the community's texts in its places. Relative addresses in it begin
        with ``root``."""
        texts = {
            "name": escape(self.name or NAME),
            "description": escape(self.description or DESCRIPTION),
            "icon": escape(self._icon(root)),
            "head": self._head(root),
            "join": self._join(),
        }
        return PLACE.sub(lambda place: texts[place[1]], html).encode()

    def manifest(self, template: bytes) -> bytes:
        """Return the web manifest with the community's name and icon."""
        manifest = msgspec.json.decode(template)
        name = self.name or NAME
        manifest |= {"name": name, "short_name": name[:12].rstrip()}
        manifest["description"] = self.description or DESCRIPTION
        if self.icon or self.icon_file is not None:
            manifest["icons"] = [{"src": self._icon("../"), "sizes": "any"}]
        return msgspec.json.encode(manifest)

    def style(self) -> bytes:
        """Return the style sheet of the accent; it is legible on the grounds of each theme."""
        day, night = legible(self.accent, LIGHT), legible(self.accent, DARK)
        rules = [_rules(day, LIGHT[1]), _rules(night, DARK[0])]
        return f"{rules[0]}@media (prefers-color-scheme: dark) {{ {rules[1]}}}\n".encode()

    def _icon(self, root: str) -> str:
        if self.icon:
            return self.icon
        return root + (CUBE if self.icon_file is None else ICON)

    def _head(self, root: str) -> str:
        title, summary = self.name or NAME, self.description or DESCRIPTION
        tags = {"title": title, "description": summary, "type": "website"}
        if self.name:
            tags["site_name"] = self.name
        if self.image or self.icon.startswith("https:"):
            tags["image"] = self.image or self.icon
        lines = [
            f'<meta property="og:{key}" content="{escape(text)}">' for key, text in tags.items()
        ]
        lines.append(f'<meta name="d-back-avatars" content="{escape(" ".join(self.avatars))}">')
        lines.append(f'<meta name="d-back-join" content="{escape(self.join)}">')
        if self.accent:
            lines.append(f'<link rel="stylesheet" href="{root}page/brand.css">')
        return "\n  ".join(lines)

    def _join(self) -> str:
        if not self.join:
            return ""
        return (
            f'<a id="join" class="join" href="{escape(self.join)}" target="_blank"'
            ' rel="noopener noreferrer">Join</a>'
        )


def _suffix(file: str) -> str:
    return Path(file).suffix.lower()


def _rules(accent: str, ink: str) -> str:
    return (
        f":root {{ --accent: {accent}; --accent-ink: {ink}; "
        f"--d-back-accent: {accent}; --d-back-accent-ink: {ink}; }}\n"
    )


def legible(colour: str, grounds: tuple[str, ...]) -> str:
    """Return the colour, made lighter or darker until it stands out from the grounds."""
    parts = _parts(colour)
    end = 0 if _luminance(_parts(grounds[0])) > 0.2 else 255  # noqa: PLR2004  of a grey
    for share in range(0, 101, 4):
        mixed = [round(part + (end - part) * share / 100) for part in parts]
        if all(_contrast(mixed, _parts(ground)) >= CONTRAST for ground in grounds):
            break
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _parts(colour: str) -> list[int]:
    digits = colour[1:]
    if len(digits) == 3:  # noqa: PLR2004  #rgb
        digits = "".join(digit * 2 for digit in digits)
    return [int(digits[at : at + 2], 16) for at in (0, 2, 4)]


def _contrast(one: list[int], other: list[int]) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(parts: list[int]) -> float:
    """Return the relative luminance of WCAG 2.2."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4  # noqa: PLR2004
        for value in (part / 255 for part in parts)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
