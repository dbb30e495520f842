"""The community's name, icon, colour and links on the page: escaped, checked and legible."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from httpx import ASGITransport, AsyncClient, Response
from starlette.applications import Starlette

from d_back_core import ConfigError, WatchedFile
from d_back_page import PageConfig, PageProvider
from d_back_page.branding import DARK, LIGHT, legible

HOSTILE = "\"><script>alert(1)</script><p x='&amp;"
PNG = b"\x89PNG\r\n\x1a\n"


async def served(config: PageConfig, path: str) -> Response:
    app = Starlette(routes=PageProvider(config).routes())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://x") as client:
        return await client.get(path)


class Read(HTMLParser):
    """What a browser understands of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.meta: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.scripts: list[str | None] = []
        self.join: dict[str, str | None] = {}
        self.title = ""
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        traits = dict(attrs)
        self._open = tag
        if tag == "meta" and (name := traits.get("property") or traits.get("name")):
            self.meta.setdefault(name, traits.get("content") or "")
        elif tag == "link":
            self.links[traits.get("rel") or ""] = traits.get("href") or ""
        elif tag == "script":
            self.scripts.append(traits.get("src"))
        elif traits.get("id") == "join":
            self.join = traits

    def handle_data(self, data: str) -> None:
        if self._open == "title":
            self.title += data.strip()


async def page(config: PageConfig, path: str = "/") -> Read:
    return Read((await served(config, path)).text)


async def test_the_page_bears_the_name_of_the_community() -> None:
    """In the title, the bar, the tags for chats, the manifest, and in the frame of a server."""
    config = PageConfig(
        name="Club & Co",
        description="Who is here tonight",
        icon="https://club.example/icon.png",
        image="https://club.example/card.png",
        join="https://discord.gg/x?a=1&b=2",
    )
    index = await page(config)
    assert index.title == "Club & Co"
    assert index.meta["description"] == "Who is here tonight"
    assert {key: text for key, text in index.meta.items() if key.startswith("og:")} == {
        "og:title": "Club & Co",
        "og:description": "Who is here tonight",
        "og:type": "website",
        "og:site_name": "Club & Co",
        "og:image": "https://club.example/card.png",
    }
    assert index.links["icon"] == "https://club.example/icon.png"
    assert index.join["href"] == "https://discord.gg/x?a=1&b=2"
    assert (await page(config, "/embed/club")).title == "Club & Co"
    manifest = msgspec.json.decode((await served(config, "/page/page.webmanifest")).content)
    assert (manifest["name"], manifest["icons"][0]["src"]) == ("Club & Co", config.icon)


async def test_without_branding_it_is_d_back() -> None:
    """No Join link, no picture, the cube as its icon, and no image of another host."""
    answer = await served(PageConfig(), "/")
    index = Read(answer.text)
    assert (index.title, index.links["icon"], index.join) == ("d-back", "page/cube.svg", {})
    assert "og:image" not in index.meta
    assert "{{" not in answer.text
    assert "img-src 'self';" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "/embed/club"])
async def test_hostile_texts_are_texts(path: str) -> None:
    """No text of the configuration opens an element or an attribute."""
    plain = await page(PageConfig(), path)
    found = await page(PageConfig(name=HOSTILE, description=HOSTILE), path)
    assert found.title == HOSTILE
    assert found.meta["og:title"] == found.meta["og:description"] == HOSTILE
    assert found.scripts == plain.scripts


async def test_images_come_from_the_named_hosts_only() -> None:
    """Those of avatars and of the icon are in the policy of the page and of the frame."""
    config = PageConfig(
        icon="https://club.example:8443/icon.png", avatars=("https://cdn.discordapp.com",)
    )
    for path in ("/", "/embed/club"):
        policy = (await served(config, path)).headers["Content-Security-Policy"]
        hosts = "https://cdn.discordapp.com https://club.example:8443"
        assert f"img-src 'self' {hosts};" in policy


async def test_an_icon_can_be_a_file(tmp_path: Path) -> None:
    """It is served with its type, by the page itself."""
    file = tmp_path / "Icon.PNG"
    file.write_bytes(PNG)
    config = PageConfig(icon_file=WatchedFile(file))
    assert (await page(config)).links["icon"] == "page/icon"
    assert (await page(config, "/embed/club")).links["icon"] == "../page/icon"
    icon = await served(config, "/page/icon")
    assert (icon.content, icon.headers["Content-Type"]) == (PNG, "image/png")
    assert "default-src 'none'" in icon.headers["Content-Security-Policy"]  # an SVG runs nothing


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda _file: None, "No such file"),
        (lambda file: file.write_bytes(b"x" * (512 * 1024 + 1)), "is larger than 512 KiB"),
        (lambda file: file.mkdir(), "Is a directory"),
    ],
)
def test_a_file_that_is_no_icon_is_an_error(
    tmp_path: Path, write: Callable[[Path], None], problem: str
) -> None:
    """It names the file."""
    file = tmp_path / "icon.png"
    write(file)
    with pytest.raises(ConfigError, match=rf"icon_file: '.*icon\.png'.*{problem}"):
        PageProvider(PageConfig(icon_file=WatchedFile(file)))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"name": "x" * 61}, "name: is longer than 60"),
        ({"description": "x" * 301}, "description: is longer than 300"),
        ({"icon": "javascript:alert(1)"}, "icon: .* is not an address"),
        ({"icon": "//evil.example/x"}, "icon: .* is not an address"),
        ({"icon": "http://club.example/x"}, "icon: .* is not an address"),
        ({"icon": "https://club.example; script-src *"}, "icon: .* is not an address"),
        ({"icon": "/icon.png", "icon_file": WatchedFile("x.png")}, "icon: is set, and icon_file"),
        ({"icon_file": WatchedFile("icon.exe")}, "icon_file: .* is not an image"),
        ({"image": "/card.png"}, "image: .* is not an address"),
        ({"join": "javascript:alert(1)"}, "join: .* is not an address"),
        ({"join": "https://club.example/\" onclick='"}, "join: .* is not an address"),
        ({"accent": "red"}, "accent: 'red' is not a colour"),
        ({"accent": "#12345"}, "is not a colour"),
        ({"accent": "#fff;} * {"}, "is not a colour"),
        ({"avatars": ("https://*",)}, "avatars: .* is not a host"),
        ({"avatars": ("cdn.discordapp.com",)}, "avatars: .* is not a host"),
        ({"avatars": ("https://a.example/x",)}, "avatars: .* is not a host"),
    ],
)
def test_what_could_not_be_shown_is_an_error(options: dict[str, str], problem: str) -> None:
    """So is what would change the page or its policy."""
    with pytest.raises(ValueError, match=problem):
        PageConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("colour", ["#ffff00", "#000", "#5865f2", "#fffaf0", "#16131f", "#777"])
async def test_each_accent_is_legible_on_each_ground(colour: str) -> None:
    """WCAG 2.2, 1.4.3, by day and by night; a colour that is legible stays as it is."""
    for grounds in (LIGHT, DARK):
        chosen = legible(colour, grounds)
        assert all(contrast(chosen, ground) >= 4.5 for ground in grounds)
        assert legible(chosen, grounds) == chosen
    style = (await served(PageConfig(accent=colour), "/page/brand.css")).text
    assert f"--accent: {legible(colour, LIGHT)};" in style
    assert (await page(PageConfig(accent=colour))).links["stylesheet"] == "page/brand.css"


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_grounds_are_those_of_the_style_sheet() -> None:
    """Where the colours of the page change, those here do."""
    style = Path(__file__).parents[1].joinpath("d_back_page", "files", "style.css").read_text()
    day, night = style.split("@media (prefers-color-scheme: dark)", 1)
    for text, (paper, sheet) in ((day, LIGHT), (night, DARK)):
        assert f"--paper: {paper};" in text
        assert f"--sheet: {sheet};" in text
