"""The provider: serves the page, and to operators what it shows of the chain."""

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from d_back_core import (
    ConfigError,
    Context,
    ProviderStats,
    Secret,
    ServerStats,
    Stats,
    hookimpl,
)
from d_back_page.branding import Branding
from d_back_page.files import Files

ORIGIN = re.compile(r"https?://(\*\.)?[A-Za-z0-9.-]+(:\d{1,5})?|\*")
SELDOM = 5.0
"""Seconds: to find names that match nothing is to read all users, and panels ask every 2 s."""
MIN_TOKEN = 16
"""Characters: what can be guessed as often as one likes must not be guessable."""


class PageConfig(Branding, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.page]``."""

    token: Secret | None = None
    """Opens the operator's panel. Unset: it does not open."""
    frame_ancestors: tuple[str, ...] = ()
    """Origins of pages that may show ``/embed/SERVER`` in a frame; ``*``: all. Empty: none."""
    channels: dict[str, str] = msgspec.field(default_factory=dict)
    """Names of channels by their ids, for the chat."""

    def __post_init__(self) -> None:
        """Refuse an origin that a policy cannot name, and a token that could be guessed, or that
        no client could offer."""
        super().__post_init__()
        for origin in self.frame_ancestors:
            if ORIGIN.fullmatch(origin) is None:
                raise ValueError(
                    f"frame_ancestors: '{origin}' is not an origin (https://example.org, "
                    "https://*.example.org or *)"
                )
        if self.token is None:
            return
        if self.token.is_hash:
            raise ValueError("token: expected the token itself, got a hash")
        if len(self.token.reveal()) < MIN_TOKEN:
            raise ValueError(f"token: is shorter than {MIN_TOKEN} characters")


class Standing(Struct, frozen=True, kw_only=True):
    """``/page/operator``: how the page is to behave."""

    operator: bool
    """Whether ``/page/chain`` will be answered."""
    token: bool
    """Whether a token would help."""
    channels: Mapping[str, str] = {}
    """Names of channels by their ids."""


class ChainState(Struct, frozen=True, kw_only=True):
    """``/page/chain``: the chain, for operators."""

    providers: list[ProviderStats]
    """All but the page itself."""
    errors: dict[str, str]
    servers: list[ServerStats]
    """Those that are held."""
    sessions: int
    queued: dict[str, int]
    """Changes that wait for each recorder."""
    problems: list[str]
    """What else is wrong: names that match nothing, servers that keep their last state."""


class PageProvider:
    """Has no servers and no users; it is named in ``gateway.http``, not in ``chain.order``."""

    Config = PageConfig

    def __init__(self, config: PageConfig) -> None:
        self._token = config.token
        self._channels = config.channels
        try:
            self._files = Files(config, config.frame_ancestors)
        except ValueError as error:  # of the icon's file
            raise ConfigError(str(error)) from error
        self._stats: Callable[[], Stats] = Stats
        self._context: Context | None = None
        self._problems: list[str] = []
        self._problems_at = 0.0
        self._name = ""

    @hookimpl
    async def start(self, context: Context) -> None:
        """Begin to serve."""
        self._name, self._stats = context.name, context.stats
        self._context = context

    @hookimpl
    async def stop(self) -> None:
        """Tell nothing more of the chain."""
        self._stats, self._context = Stats, None

    @hookimpl
    def routes(self) -> Sequence[BaseRoute]:
        """Serve the page, its files, and what it asks for."""
        return [
            Route("/", self._files.index),
            Route("/index.html", self._files.index),
            Route("/embed/{server}", self._files.frame),
            Route("/page/operator", self._standing),
            Route("/page/chain", self._show_chain),
            Route("/page/v1/{name}", self._files.library),
            Route("/page/{name}", self._files.file),
        ]

    async def _standing(self, request: Request) -> Response:
        helps = self._token is not None
        operator = self._admits(request)
        return _json(Standing(operator=operator, token=helps, channels=self._channels))

    async def _show_chain(self, request: Request) -> Response:
        if self._admits(request):
            return _json(self._chain())
        headers = {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"}
        return PlainTextResponse("Unauthorized\n", 401, headers)

    def _admits(self, request: Request) -> bool:
        """True if the client gives the token. Its address proves nothing: a reverse proxy on this
        machine has a loopback address, too."""
        scheme, _, offered = request.headers.get("authorization", "").partition(" ")
        given = scheme.lower() == "bearer"
        return given and self._token is not None and self._token == Secret(offered.strip())

    def _chain(self) -> ChainState:
        stats = self._stats()
        return ChainState(
            providers=[each for each in stats.providers if each.name != self._name],
            errors=stats.errors,
            servers=stats.held,
            sessions=stats.sessions,
            queued=stats.queued,
            problems=self._find_problems(),
        )

    def _find_problems(self) -> list[str]:
        if self._context is None:
            return []
        now = self._context.clock.time()
        if not 0 <= now - self._problems_at < SELDOM:
            self._problems, self._problems_at = self._context.problems(), now
        return self._problems


def _json(answer: Struct) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(answer), 200, headers, "application/json")
