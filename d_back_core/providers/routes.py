"""The HTTP routes of providers: checked when they are loaded, supervised when they are used."""

import asyncio
import logging
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import Message, Receive, Scope, Send

from d_back_core.errors import ConfigError, PluginError, ProviderError, described
from d_back_core.providers.loader import Plugin
from d_back_core.providers.supervisor import Supervisor

OWN_PATHS = ("/healthz/", "/readyz/", "/api/")
"""The paths of the gateway, and those below them."""

_parameter = re.compile(r"{[^}]*}")

log = logging.getLogger("d_back.providers")


def check_routes(plugins: Iterable[Plugin], where: str) -> None:
    """Raise `ConfigError` unless each provider has routes, and each path belongs to one of
    them."""
    owners: dict[str, str] = {}
    for plugin in plugins:
        name = plugin.name
        if not plugin.implements("routes"):
            raise ConfigError(f"{where} '{name}': it does not implement routes")
        for path in _paths(plugin):
            if f"{path}/".startswith(OWN_PATHS):
                raise PluginError(f"provider '{name}': path '{path}' belongs to the gateway")
            owner = owners.setdefault(_parameter.sub("{}", path), name)
            if owner != name:
                raise ConfigError(f"{where}: '{owner}' and '{name}' both serve '{path or '/'}'")


def _paths(plugin: Plugin) -> Iterable[str]:
    try:
        routes = list(plugin.routes)
    except (Exception, SystemExit) as error:  # other people's code can raise anything
        raise PluginError(f"provider '{plugin.name}': routes: {described(error)}") from error
    for route in routes:
        if not isinstance(route, Route | Mount):
            what = f"{type(route).__name__} is not a Route or Mount of Starlette"
            raise PluginError(f"provider '{plugin.name}': routes: {what}")
        yield route.path


def routes_of(supervisor: Supervisor) -> Sequence[BaseRoute]:
    """Return the provider's routes; they answer 503 while it does not run."""
    return [SupervisedRoute(route, supervisor) for route in supervisor.plugin.routes]


class SupervisedRoute(BaseRoute):
    """A route whose failures are those of its provider."""

    def __init__(self, route: BaseRoute, supervisor: Supervisor) -> None:
        self.path = getattr(route, "path", "")
        self._route = route
        self._supervisor = supervisor

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As in Starlette."""
        return self._route.matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. Raises `HTTPException` if the provider cannot."""
        # Before the call: an application of a provider that is stopped may use what is closed.
        if not self._supervisor.running:
            raise self._failure(HTTPStatus.SERVICE_UNAVAILABLE)
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        refusal: HTTPException | None = None
        late = False

        async def begin(message: Message) -> None:
            if late:  # another answer has been given
                raise asyncio.CancelledError
            if not begun.done():
                begun.set_result(None)
            await send(message)

        async def answer() -> None:
            nonlocal refusal
            try:
                await self._route.handle(scope, receive, begin)
            except HTTPException as error:  # an answer, not a failure
                refusal = error

        # Not through `call`: the time limit is for the first byte, and a response may stream on.
        try:
            await self._supervisor.serve(answer, begun)
        except ProviderError as error:
            late = True
            log.warning("%s", error)
            if (
                begun.done()
            ):  # a part is sent: only the end of the connection can say that it failed
                raise
            is_late = isinstance(error.__cause__, TimeoutError)
            status = HTTPStatus.GATEWAY_TIMEOUT if is_late else HTTPStatus.INTERNAL_SERVER_ERROR
            raise self._failure(status) from None
        if refusal is not None:
            raise refusal

    def _failure(self, status: HTTPStatus) -> HTTPException:
        # What is mounted at the root has no path of its own: the next one answers instead.
        return HTTPException(HTTPStatus.NOT_FOUND if self.path == "" else status)
