"""The provider: serves the page, and to operators what it shows of the chain."""

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from d_back_core import Context, ProviderStats, Secret, ServerStats, Stats, hookimpl
from d_back_page.files import Files

MIN_TOKEN = 16
"""Characters: what can be guessed as often as one likes must not be guessable."""


class PageConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[providers.page]``."""

    token: Secret | None = None
    """Opens the operator's panel. Unset: it does not open."""

    def __post_init__(self) -> None:
        """Refuse a token that could be guessed, or that nobody could offer."""
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


class PageProvider:
    """Has no servers and no users; it is named in ``gateway.http``, not in ``chain.order``."""

    Config = PageConfig

    def __init__(self, config: PageConfig) -> None:
        self._token = config.token
        self._files = Files()
        self._stats: Callable[[], Stats] = Stats
        self._name = ""

    @hookimpl
    async def start(self, context: Context) -> None:
        """Begin to serve."""
        self._name, self._stats = context.name, context.stats

    @hookimpl
    async def stop(self) -> None:
        """Tell nothing more of the chain."""
        self._stats = Stats

    @hookimpl
    def routes(self) -> Sequence[BaseRoute]:
        """Serve the page, its files, and what it asks for."""
        return [
            Route("/", self._files.index),
            Route("/index.html", self._files.index),
            Route("/page/operator", self._standing),
            Route("/page/chain", self._show_chain),
            Route("/page/v1/{name}", self._files.library),
            Route("/page/{name}", self._files.file),
        ]

    async def _standing(self, request: Request) -> Response:
        helps = self._token is not None
        return _json(Standing(operator=self._admits(request), token=helps))

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
        )


def _json(answer: Struct) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(answer), 200, headers, "application/json")
