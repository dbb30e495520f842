"""Every hook of a provider: the contract, and the plugin author's reference.

A provider is a class, published under the entry point group ``d_back.providers``::

    from d_back_core import Server, User, hookimpl

    class ClubProvider:
        def __init__(self, config):
            self.config = config

        @hookimpl
        async def servers(self):
            return {"1": Server(name="The club")}

        @hookimpl
        async def users(self, server_id):
            return {"7": User(username="Ada", status="online")}

It is instantiated once with its configuration: ``config`` is the provider's table of
``d-back.toml``, without the keys of the core, decoded into the class attribute ``Config`` (a
``msgspec.Struct``); a class without ``Config`` takes no configuration and gets ``None``. What
types cannot say, ``Config.__post_init__`` may refuse by raising ``ValueError``, and the
constructor by raising `ConfigError`: the operator is told where and why.

The class attribute ``hook_version`` says for which version of the hooks it is written (see
`HOOK_VERSION`; without it, for the first); a core that has another version refuses it.

A token, a password or a DSN is a `Secret` in ``Config``; no log, error or repr may show it.

An implementation declares of a hook's arguments those that it needs. All hooks are optional.
Each call runs under the provider's ``timeout``; an exception or a time-out is logged once, and
what was held of the provider stays until its ``grace`` has run out. A call that takes too long
is cancelled wherever it waits; ``CancelledError`` always passes. Calls for different servers may
run at the same time; calls for the same server do not. Nothing may block the event loop. What is
answered changes with the source only: each difference is sent to the clients.

Records are checked where they come in: a field that is not valid counts as not supplied, a
record whose key is not a valid id is left out (`models.is_id`).
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import click
import pluggy
from msgspec import Struct

from d_back_core.clock import Clock
from d_back_core.models import Change, Credentials, Event, Server, User
from d_back_core.stats import Stats
from d_back_core.web import HttpRequest, HttpResponse

PROJECT = "d_back"
HOOK_VERSION = 1
"""Goes up when a hook's meaning changes; new hooks and arguments leave it as it is. A plugin
writes the number that it is made for as its ``hook_version``, not this name."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a method of a provider class as the implementation of the hook of the same name."""


async def _nobody(server_id: str, credentials: Credentials, address: str) -> bool:  # noqa: ARG001
    return False


def _nothing(server_id: str) -> bool:  # noqa: ARG001
    return False


def _unheard(name: str, value: float) -> None:
    pass


class Context(Struct, frozen=True, kw_only=True):
    """What a provider may use of the core, from ``start`` to ``stop``."""

    name: str
    """The provider's name in the configuration."""
    log: logging.Logger
    clock: Clock
    """The core's clock: take waits and ages from it, so that tests can move the time."""
    stats: Callable[[], Stats] = Stats
    """What the core counts, how every provider is, and who answers for what; no user data, no
    secrets. ``held`` and ``errors`` of it are for operators only."""
    probe: bool = False
    """Whether this run only asks once (``d-back explain``, ``d-back check --live``): log in and
    answer, but subscribe to nothing; neither ``events`` nor ``record`` will be called."""
    degraded: Callable[[str], None]
    """Say why the data may be out of date (a lost connection). What is held stays in use until
    the provider's ``grace`` has run out; call ``recovered`` when it is current again."""
    recovered: Callable[[], None]
    """End what ``degraded`` began; all layers of the provider are fetched again."""
    authorize: Callable[[str, Credentials, str], Awaitable[bool]] = _nobody
    """``await authorize(server_id, credentials, address)``: whether a client of that address that
    offers these credentials may join that server, exactly as if it had asked here: the operator's
    password first, then the providers that contribute to the server; and under the same limit of
    guesses for each address. False for a server that clients do not know. Never raises."""
    gauge: Callable[[str, float], None] = _unheard
    """``gauge(name, value)``: tell how much there is of something now, to be seen in
    `ProviderStats.gauges` and in metrics. ``name`` is a few words like ``reconnects``, one of a
    fixed set: no id and no user data."""
    holds: Callable[[str], bool] = _nothing
    """``holds(server_id)``: whether the core holds that server's users at the moment, because
    somebody watches it or because it is eager. Of a server that is not held no events are
    wanted; ``users`` is called when it is held again."""


class ProviderSpec:
    """The hooks."""

    @hookspec
    async def start(self, context: Context) -> None:
        """Open pools, log in, subscribe. Called before anything else is asked.

        Raising means: not available now; ``stop`` is called and ``start`` is tried again later,
        with growing delays. Raising `ConfigError` means: never, until the configuration changes.
        Subscribe here, not in ``events``: what happens after ``start`` must reach ``events``.
        With ``context.probe``, log in and subscribe to nothing.
        """

    @hookspec
    async def stop(self) -> None:
        """Give everything back, and end what ``events`` returned. Called once for each ``start``,
        also after a failed one."""

    @hookspec
    async def servers(self) -> Mapping[str, Server] | None:
        """All servers of this provider, by server_id.

        ``None``: cannot say now; the next provider is asked. ``{}``: there are none.
        """

    @hookspec
    async def users(self, server_id: str) -> Mapping[str, User] | None:
        """All users of that server, by uid.

        ``None``: not mine, or cannot say (not yet whole); the next provider is asked, and this
        one again after a `Reload`. ``{}``: the server has no users. Events that arrive while
        this runs are applied on top of its answer, in order.
        """

    @hookspec
    def events(self) -> AsyncIterator[Event]:
        """Changes of this provider's own servers and users, and chat; an async generator.

        Only drains what ``start`` subscribed to. Events for a server whose layer the core does
        not hold are dropped; it is fetched whole when it comes into use. Returning means that
        there is no more news: the core polls from then on. Raising means that the stream
        failed: it is called again with growing delays, and everything is fetched again.
        Without this hook the core polls, every ``refresh`` (default 30 s).
        """

    @hookspec
    async def authorize(
        self, server_id: str, credentials: Credentials, address: str
    ) -> bool | None:
        """Whether these credentials may join that protected server.

        Asked of the providers that contribute to the server, in order, after the operator's
        password did not match. The first answer that is not ``None`` decides; an exception or a
        time-out is a no; if nobody decides, the answer is no. ``address`` is the client's IP
        address, or "" where it has none (a Unix socket). Never log the credentials.
        """

    @hookspec
    async def client_id(self, server_id: str) -> str | None:
        """The OAuth2 client id that clients of that server log in with.

        Asked in order on a join and kept; the first answer that is not ``None`` wins. Yield
        `ClientIdChanged` when it changes.
        """

    @hookspec
    async def record(self, changes: Sequence[Change]) -> None:
        """Store what others said; asked of the providers that ``chain.recorders`` names.

        ``changes`` are in order, the newest state of each user and server only. They are what
        live providers said, in their snapshots and events, as merged from the layers strictly
        above this provider in the order (all of them, if it is not in the order); never that a
        layer was lost or exchanged, so that an outage erases nothing. The class attribute
        ``records`` says which state is wanted: ``"merged"`` (the default), before the operator's
        policy and without chat, or ``"public"``, after it and with chat.

        A batch is given again, with what was added since, until this returns without raising;
        storing it twice must do no harm. It is called after ``start`` and, one last time, before
        ``stop``.
        """

    @hookspec
    async def http(self, request: HttpRequest) -> HttpResponse | None:
        """Serve a path on the gateway's port; asked of the providers that ``gateway.http`` names.

        Called for GET and HEAD, after the API's own paths and before the built-in pages; the
        first answer that is not ``None`` is sent. An exception or a time-out counts as None.
        """

    @hookspec
    def commands(self, group: click.Group) -> None:
        """Add commands below ``d-back NAME``, NAME being the plugin's.

        A classmethod, called without an instance when ``d-back NAME`` is typed, whether the
        configuration names the plugin or not. A command that needs the provider's configuration
        gets it with `command_config`.
        """
