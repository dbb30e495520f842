"""The HTTP routes of providers: checked when they are loaded, supervised when they are used."""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import Message, Receive, Scope, Send

from d_back_core.errors import ConfigError, PluginError, ProviderError, described
from d_back_core.log_once import LogOnce
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
        self._methods: set[str] = getattr(route, "methods", None) or set()
        """Empty: the route decides."""
        self._route = route
        self._supervisor = supervisor
        self._warn = LogOnce(log)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As in Starlette."""
        return self._route.matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. Raises `HTTPException` if the provider cannot."""
        if self._takes_body(scope["method"]):
            receive = await _arrived(receive)  # a slow client must not be a slow provider
        # Before the call: an application of a provider that is stopped may use what is closed.
        if not self._supervisor.running:
            raise self._failure(HTTPStatus.SERVICE_UNAVAILABLE)
        refusal = await self._answer(scope, receive, send)
        if refusal is not None:
            raise refusal

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> HTTPException | None:
        """Answer the request, or return the exception that says how it is answered."""
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
            self._warn("failed", str(error), "%s", error)
            # If a part is sent, only the end of the connection can say that it failed.
            if begun.done():
                raise
            is_late = isinstance(error.__cause__, TimeoutError)
            status = HTTPStatus.GATEWAY_TIMEOUT if is_late else HTTPStatus.INTERNAL_SERVER_ERROR
            return self._failure(status)
        return refusal

    def _takes_body(self, method: str) -> bool:
        # What is mounted at the root may leave the body to the next one.
        is_served = not self._methods or method in self._methods
        return method not in {"GET", "HEAD"} and is_served and self.path != ""

    def _failure(self, status: HTTPStatus) -> HTTPException:
        # What is mounted at the root has no path of its own: the next one answers instead.
        return HTTPException(HTTPStatus.NOT_FOUND if self.path == "" else status)


async def _arrived(receive: Receive) -> Receive:
    """Return a function that returns the body, once it has arrived, and then what follows."""
    messages = deque([await receive()])
    while messages[-1].get("more_body", False):
        messages.append(await receive())

    async def again() -> Message:
        return messages.popleft() if messages else await receive()

    return again
