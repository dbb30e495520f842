"""The four demo servers, with the ids that they had in d-back 0.0.x."""

from d_back_core import Server
from d_back_mock.community import Community, Member

_DWORLD = (
    Member("123456789012345001", "vegeta897", "online", "#ff6b6b", "watching the cubes"),
    Member("123456789012345002", "Cog-Creators", "idle", "#4ecdc4", "oiling the cogs"),
    Member("123456789012345003", "d-zone-org", "dnd", "#45b7d1"),
    Member("123456789012345004", "NNTin", "online", "#96ceb4", "coding d-back"),
)
_DOCS = (Member("223456789012345001", "nntin.xyz/me", "online", "#feca57"),)
_OAUTH = (Member("323456789012345001", "NNTin", "online", "#ff9ff3"),)
_REPOS = (
    Member("423456789012345001", "me", "online", "#54a0ff"),
    Member("423456789012345002", "nntin.github.io", "idle", "#5f27cd"),
    Member("423456789012345003", "d-zone", "online", "#00d2d3"),
    Member("423456789012345004", "d-back", "dnd", "#ff6348"),
    Member("423456789012345005", "d-cogs", "online", "#ff4757"),
    Member("423456789012345006", "Cubify-Reddit", "offline", "#3742fa"),
    Member("423456789012345007", "Dota-2-Emoticons", "idle", "#2ed573"),
    Member("423456789012345008", "Dota-2-Reddit-Flair-Mosaic", "online", "#ffa502"),
    Member("423456789012345009", "Red-kun", "dnd", "#ff3838"),
    Member("423456789012345010", "Reply-Dota-2-Reddit", "online", "#ff9f43"),
    Member("423456789012345011", "Reply-LoL-Reddit", "idle", "#0abde3"),
    Member("423456789012345012", "crosku", "online", "#006ba6"),
    Member("423456789012345013", "dev-tracker-reddit", "offline", "#8e44ad"),
    Member("423456789012345014", "discord-logo", "online", "#7289da"),
    Member("423456789012345015", "discord-twitter-bot", "idle", "#1da1f2"),
    Member("423456789012345016", "discord-web-bridge", "dnd", "#2c2f33"),
    Member("423456789012345017", "pasteindex", "online", "#f39c12"),
    Member("423456789012345018", "pasteview", "idle", "#e74c3c"),
    Member("423456789012345019", "shell-kun", "online", "#1abc9c"),
    Member("423456789012345020", "tracker-reddit-discord", "offline", "#9b59b6"),
    Member("423456789012345021", "twitter-backend", "online", "#1da1f2"),
)


def communities() -> list[Community]:
    """The demo servers, all members in the status at the beginning."""
    return [
        Community(
            "232769614004748288",
            Server(name="D-World", id="dworld", default=True, passworded=False),
            _DWORLD,
        ),
        Community(
            "482241773318701056",
            Server(name="Docs (WIP)", id="docs", default=False, passworded=False),
            _DOCS,
        ),
        Community(
            "123456789012345678",
            Server(name="OAuth2 Protected Server", id="oauth", default=False, passworded=True),
            _OAUTH,
        ),
        Community(
            "987654321098765432",
            Server(name="My Repos", id="repos", default=False, passworded=False),
            _REPOS,
        ),
    ]
