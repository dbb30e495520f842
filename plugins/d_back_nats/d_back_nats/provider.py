"""The provider that d-back loads: its hooks."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import click

from d_back_core import Change, Context, Credentials, Event, Grant, Server, User, hookimpl
from d_back_nats import bucket
from d_back_nats.config import NatsConfig
from d_back_nats.connection import Connection
from d_back_nats.edge import Edge
from d_back_nats.failure import NatsError, nats_errors
from d_back_nats.health import Health
from d_back_nats.keys import Subjects
from d_back_nats.origin import Origin
from d_back_nats.tasks import start_task, stop_tasks

GAUGE_INTERVAL = 1.0
"""Seconds between two updates of the gauges."""


class NatsProvider:
    """In the order it is an edge, among the recorders the origin; each begins at the first call
    that needs it.

    Errors are raised as `NatsError`, and name no password.
    """

    Config = NatsConfig
    records = "public"

    def __init__(self, config: NatsConfig) -> None:
        self._config = config
        self._context: Context | None = None
        self._connection: Connection | None = None
        self._health: Health | None = None
        self._edge: Edge | None = None
        self._origin: Origin | None = None
        self._telling: asyncio.Task[None] | None = None

    @hookimpl
    async def start(self, context: Context) -> None:
        """Connect. A missing bucket is an error of `servers`, not of the start: an origin of the
        same cluster may create it."""
        self._context = context
        self._health = Health(context)
        self._connection = Connection(context, self._config, self._health.lost, self._health.found)
        await self._connection.open()
        self._edge = Edge(context, self._config, self._connection, self._health.edge)
        self._telling = start_task(
            self._update_gauges(context), "d_back_nats gauges", self._health.edge
        )

    @hookimpl
    async def stop(self) -> None:
        """Release everything and end the stream; may be called twice."""
        edge, self._edge = self._edge, None
        origin, self._origin = self._origin, None
        connection, self._connection = self._connection, None
        telling, self._telling = self._telling, None
        self._context = self._health = None
        await stop_tasks(telling)
        if origin is not None:
            await origin.end()
        if edge is not None:
            await edge.end()
        if connection is not None:
            await connection.close()

    @hookimpl
    async def servers(self) -> dict[str, Server] | None:
        """Return all servers of the bucket."""
        edge = self._reading()
        with nats_errors():
            if self._connection is not None and self._connection.is_up:
                await bucket.describe(await self._connection.line(), Subjects(self._config.bucket))
            return await edge.servers()

    @hookimpl
    async def users(self, server_id: str) -> dict[str, User] | None:
        """Return the users of that server; None if the bucket does not have it."""
        with nats_errors():
            return await self._reading().users(server_id)

    @hookimpl
    async def events(self) -> AsyncIterator[Event]:
        """Changes of what was asked for, and chat."""
        if self._edge is not None:
            async with aclosing(self._edge.events()) as events:
                async for event in events:
                    yield event

    @hookimpl
    async def authorize(
        self, server_id: str, credentials: Credentials, address: str
    ) -> Grant | bool | None:
        """Return the origin's answer. An origin itself adds nothing."""
        if self._origin is not None:
            return None
        return await self._reading().authorize(server_id, credentials, address)

    @hookimpl
    async def reauthorize(self, server_id: str, person: str) -> bool | None:
        """Return the origin's answer; None if there is none."""
        return await self._reading().grants.reauthorize(server_id, person)

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        """Write the bucket; while that is not possible, remember what to write."""
        if self._context is None or self._connection is None or self._health is None:
            raise NatsError("is stopped")
        if self._origin is None:
            self._origin = Origin(
                self._context, self._config, self._connection, self._health.origin
            )
            self._origin.begin()
        await self._origin.record(changes)

    @classmethod
    @hookimpl
    def commands(cls, group: click.Group) -> None:
        """``d-back nats status``."""
        from d_back_nats.commands import COMMANDS  # noqa: PLC0415  only where it is typed

        for command in COMMANDS:
            group.add_command(command)

    async def _update_gauges(self, context: Context) -> None:
        """Keep the gauges up to date."""
        while (connection := self._connection) is not None:
            context.gauge("reconnects", connection.reconnects)
            if self._edge is not None and self._edge.is_reading:
                context.gauge("lag_revisions", self._edge.lag)
                context.gauge("watched_servers", len(self._edge.watched))
            if self._origin is not None:
                context.gauge("writes", float(self._origin.leads))
                context.gauge("unwritten_keys", self._origin.unwritten)
                context.gauge("takeovers", self._origin.takeovers)
            await context.clock.sleep(GAUGE_INTERVAL)

    def _reading(self) -> Edge:
        """Return the edge, which reads from now on."""
        edge = self._edge
        if edge is None:
            raise NatsError("is stopped")
        if not edge.is_reading:
            edge.begin()
        return edge
