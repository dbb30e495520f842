"""Every hook of a provider: the contract, and the reference for plugin authors.

A provider is a class, published under the entry-point group ``d_back.providers``::

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

The core makes one instance and passes its configuration: ``config`` is the provider's table of
``d-back.toml`` without the keys of the core, decoded into the class attribute ``Config`` (a
``msgspec.Struct``). A class without ``Config`` takes no configuration and gets ``None``. What
types cannot express, ``Config.__post_init__`` may reject by raising ``ValueError``, and the
constructor by raising `ConfigError`: the operator sees where and why. A token, a password or a DSN
is a `Secret` in ``Config``; no log, error or repr may show it.

Class attributes that the core reads:

``hook_version``
    The version of the hooks that the class is written for (see `HOOK_VERSION`). Default: the
    first. A core with another version refuses to load the class.
``records``
    For recorders: ``"merged"`` (default) or ``"public"``, see `record`.
``credentials``
    What ``authorize`` decides by: a set of ``"password"`` and ``"login"`` (the default is the
    latter), for the text that a refused client receives. It may be an attribute of the instance.
``mode``, ``refresh``, ``max_age``
    Defaults for the keys of the same name in the provider's table; the operator can override
    them. ``max_age`` is a number of seconds, or a mapping from hook (``servers``, ``users``) to
    seconds; it may be an attribute of the instance that changes while the provider runs.

An implementation declares those of a hook's arguments that it needs. All hooks are optional.

Each call has the provider's ``timeout``. An exception and a time-out are a failure: it is logged
once, and what the provider returned last stays in use until its ``grace`` has run out. A call that
takes too long is cancelled, wherever it waits; ``CancelledError`` must pass. Calls for different
servers may run at the same time, calls for one server do not. Nothing may block the event loop.

Records are checked when they are returned or yielded: an invalid field counts as not supplied, a
record with an invalid key is dropped.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click
import pluggy
import tenacity
from msgspec import Struct

from d_back_core.clock import Clock
from d_back_core.models import Change, Credentials, Event, Grant, Server, User
from d_back_core.retrying import retrying
from d_back_core.stats import Stats

if TYPE_CHECKING:
    from starlette.routing import BaseRoute  # not at run time: most commands serve nothing

PROJECT = "d_back"
HOOK_VERSION = 1
"""Increases when the meaning of a hook changes; new hooks and arguments do not change it. A plugin
writes the number that it is made for as its ``hook_version``, not this name."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a method of a provider class as the implementation of the hook of the same name."""


async def _deny(server_id: str, credentials: Credentials, address: str) -> bool:  # noqa: ARG001
    return False


async def _unknown(server_id: str, person: str) -> None:
    pass


def _holds_none(server_id: str) -> bool:  # noqa: ARG001
    return False


def _ignore(*arguments: object) -> None:
    pass


def _real_time_retrying(
    retry_on: type[BaseException] | tuple[type[BaseException], ...],
    failed: Callable[[tenacity.RetryCallState], None] | None = None,
) -> tenacity.AsyncRetrying:
    return retrying(Clock(), retry_on, failed)


class Context(Struct, frozen=True, kw_only=True):
    """What a provider may use of the core, from ``start`` to ``stop``.

    ``degraded`` and ``recovered`` have no effect once that run is over.
    """

    name: str
    """The provider's name in the configuration."""
    log: logging.Logger
    clock: Clock
    """The core's clock: use it for waits and ages, so that tests can control the time."""
    stats: Callable[[], Stats] = Stats
    """Return the core's counters, the health of every provider, and which providers answer for
    which server: no user data and no secrets. Show its ``held`` and ``errors`` only to
    operators."""
    problems: Callable[[], list[str]] = list
    """Return what ``d-back explain`` warns of: names in the configuration that match nothing, and
    servers that keep their last state. It reads all users: ask seldom. For operators only."""
    probe: bool = False
    """True if this run only asks once (``d-back explain``, ``d-back check --live``): log in and
    answer, but subscribe to nothing. Neither ``events`` nor ``record`` is called."""
    degraded: Callable[[str], None]
    """``degraded(reason)``: report that the data may be out of date (a lost connection). It stays
    in use until the provider's ``grace`` has run out, unless ``recovered`` is called before."""
    recovered: Callable[[], None]
    """Report that the source is there again. Everything of the provider is fetched again, and
    each layer counts as current with its new answer."""
    authorize: Callable[[str, Credentials, str], Awaitable[bool | Grant]] = _deny
    """``await authorize(server_id, credentials, address)``: return True or a `Grant` if a client
    at that address may join that server with these credentials. It is decided exactly as for a
    client of this gateway, with the same limit of attempts per address. False for an unknown
    server. Never raises.

    A `Grant` is an access that can end. A provider that keeps it calls `reauthorize` with its
    ``person`` before it expires; recorders with ``records = "public"`` receive
    `AccessChanged`."""
    reauthorize: Callable[[str, str], Awaitable[bool | None]] = _unknown
    """``await reauthorize(server_id, person)``: return True if the access that `authorize` gave
    by that `Grant` still holds, also after a restart of this process; None if that cannot be said
    now. Never raises."""
    gauge: Callable[[str, float], None] = _ignore
    """``gauge(name, value)``: publish a current number, for `ProviderStats.gauges` and metrics.
    ``name`` is a few words such as ``reconnects``, one of a fixed set: no id, no user data."""
    unresolved: Callable[[str, Iterable[str], Iterable[str]], None] = _ignore
    """``unresolved(key, names, known)``: report that these names in the provider's option ``key``
    match nothing at the source; ``known`` are names that would match. Call it when everything is
    known, and again when it changes: the last call for a key counts, and no names withdraw it.
    Each name is logged once, and shown by ``d-back explain`` and ``d-back check --live``."""
    channels: Callable[[str, Iterable[str]], None] = _ignore
    """``channels(server_id, names)``: these are the ids and names of all channels of that server.
    The core reports names in ``ignore_channels`` and ``listen_channels`` that are not among
    them."""
    holds: Callable[[str], bool] = _holds_none
    """``holds(server_id)``: return True if the core holds the users of that server, because a
    client watches it or because it is eager. Events about other servers are dropped; ``users`` is
    called when the server is held again."""
    retrying: Callable[..., tenacity.AsyncRetrying] = _real_time_retrying
    """``async for attempt in retrying(OSError): with attempt: …``: run the block again after each
    ``OSError``, with growing, jittered waits on the core's clock, without end."""


class ProviderSpec:
    """The hooks."""

    @hookspec
    async def start(self, context: Context) -> None:
        """Connect, log in, subscribe. Called before everything else, and again for each new run.

        Raising means: not available now. ``stop`` is called, and ``start`` again after a growing
        wait. Raising `ConfigError` means: not before the configuration changes.

        Subscribe here, not in ``events``: what happens after ``start`` must reach ``events``.
        With ``context.probe``, log in but subscribe to nothing.
        """

    @hookspec
    async def stop(self) -> None:
        """Release everything, and end the iterator that ``events`` returned.

        Called once for each ``start``, also after one that failed.
        """

    @hookspec
    async def servers(self) -> Mapping[str, Server] | None:
        """Return all servers of this provider, by server_id.

        ``None``: cannot say now (not complete yet). ``{}``: there are none. The lists of all
        providers are merged: each server is decided on its own.
        """

    @hookspec
    async def users(self, server_id: str) -> Mapping[str, User] | None:
        """Return all users of that server, by uid.

        ``None``: not my server, or cannot say (not complete yet). The next provider is asked, and
        this one again after its `Reload`, and every 30 s while a client watches. ``{}``: the
        server has no users. An `Overlay`: these, and those of the next provider as well.

        Events that arrive while this runs are applied to its answer, in order.
        """

    @hookspec
    def events(self) -> AsyncIterator[Event]:
        """Yield changes of this provider's own servers and users, and chat: an async generator.

        It only drains what ``start`` subscribed to. Events for a server that the core does not
        hold are dropped; that server is fetched whole when it is needed.

        Raise when the source is lost: the run ends, ``stop`` is called, then ``start`` again after
        a growing wait, and everything is fetched again. Do not wait here for the source to come
        back: a stream that only waits looks healthy. Return when there will be no more events: the
        core polls from then on. Without this hook the core polls every ``refresh`` (30 s).
        """

    @hookspec
    async def authorize(
        self, server_id: str, credentials: Credentials, address: str
    ) -> bool | Grant | None:
        """Return True if these credentials may join that protected server.

        Called for the providers that contribute to the server, in order, after the operator's
        password did not match. The first answer that is not ``None`` decides. An exception and a
        time-out are a no; if no provider decides, the answer is no. ``address`` is the client's IP
        address, or "" if it has none (a Unix socket). Never log the credentials.

        ``True`` is valid until the client leaves the server. Return a `Grant`, which names the
        person, if the person can be banned, can leave, or has logged in with a token. It ends
        when this provider yields `AccessRevoked` for the person, and expires unless `reauthorize`
        renews it.
        """

    @hookspec
    async def reauthorize(self, server_id: str, person: str) -> bool | None:
        """Return True if that person, who has a `Grant` of yours, may still see that server.

        Called for each client with a `Grant`, in the second half of its time, until there is an
        answer. Decide by what you remember or can look up: the core keeps no token. ``False`` ends
        the access. ``None``, an exception and a time-out mean "cannot say now": the core asks
        again, and the access ends when the grant expires.
        """

    @hookspec
    async def record(self, changes: Sequence[Change]) -> None:
        """Store what other providers returned; called for the providers in ``chain.recorders``.

        ``changes`` are in order, with only the newest state of each user and server. They are what
        live providers returned and yielded, merged from the layers strictly above this provider in
        the order (from all layers, if it is not in the order). The loss or exchange of a layer is
        never among them: an outage must not erase the memory. With ``records = "merged"`` the
        state is the one before the operator's policy, without chat; with ``"public"`` it is the
        one after it, with chat.

        A batch is passed again, with later changes, until this returns without raising; storing it
        twice must do no harm. The last call comes before ``stop``.
        """

    @hookspec
    def routes(self) -> "Sequence[BaseRoute]":
        """Return what this provider serves on the gateway's port: ``Route`` and ``Mount`` of
        Starlette. Called once, when a provider in ``gateway.http`` is loaded, before ``start``.

        ::

            return [Route("/club", self.show), Route("/club/door", self.open, methods=["POST"])]

        The gateway's own paths (``/healthz``, ``/readyz``, ``/api`` and those below them) are not
        available, and two providers cannot have the same path. ``Mount("/", app)`` gets every path
        that is left; if it fails or raises ``HTTPException(404)``, what comes after it answers.

        ``request.client.host`` is the client's address, also behind a trusted proxy. A body has
        the limits ``body_size`` and ``body_timeout``, and has arrived when the provider is called,
        except for ``Mount("/", app)``. While the provider does not run, the answer is 503. An
        exception is a failure: the answer is 500. If a response has not begun within ``timeout``,
        the call is cancelled, and the answer is 504. It is also cancelled if the client leaves.
        """

    @hookspec
    def commands(self, group: click.Group) -> None:
        """Add commands below ``d-back NAME``; NAME is the plugin's name.

        A classmethod, called without an instance when ``d-back NAME`` is typed, also if the
        configuration does not name it. `command_config` returns the provider's configuration.
        """
