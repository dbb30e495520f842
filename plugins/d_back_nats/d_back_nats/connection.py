"""The connection to NATS: opened, watched, and opened again when it is lost.

nats-py can reconnect by itself, but gives up for good on some errors, and keeps consumers that no
longer exist. So each of its clients lives as long as one connection. Code that needs the next
connection waits for it here, and continues from the revision it has seen.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats.errors
import tenacity
from msgspec import Struct, field
from nats.aio.client import Client
from nats.js import JetStreamContext
from nkeys import NkeysError  # type: ignore[import-untyped]

from d_back_core import Clock, Context
from d_back_nats.config import NatsConfig
from d_back_nats.failure import FAILURES, NatsError, describe_error
from d_back_nats.tasks import is_cancelled, start_task, stop_tasks

ENCRYPTED = ("tls://", "wss://")
CONNECT_TIMEOUT = 2
"""Seconds that one server may take; whole ones, as nats-py wants them."""
CLOSE_TIMEOUT = 1.0
PING_INTERVAL = 5
"""Seconds between two pings. The third one without an answer ends the connection: an answer may
have to wait behind all users of a large server."""
REQUEST_TIMEOUT = 5.0
FIRST_WAIT, LONGEST_WAIT = 0.05, 2.0
"""Seconds between two attempts to connect."""

CLOSED = "the server closes the connection (does it refuse the login?)"
LOST = "the connection was lost"


class _Client(Client):
    """A client that never logs in unencrypted if encryption is configured: nats-py encrypts only
    if the server asks for it, and an attacker in between could remove that from its greeting."""

    def __init__(self, *, encrypted: bool) -> None:
        super().__init__()
        self._encrypted = encrypted

    def _connect_command(self) -> bytes:
        info = self._server_info
        if self._encrypted and not (
            info.get("tls_required") or self.options["tls_handshake_first"]
        ):
            raise nats.errors.Error("nats: the server offers no TLS")
        return super()._connect_command()


class Line(Struct, frozen=True, eq=False):
    """One connection, from when it is open until it is lost."""

    client: Client
    js: JetStreamContext
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    async def close(self) -> None:
        """Close it; may be called twice."""
        self.lost.set()
        await _closed(self.client)


async def connected(
    config: NatsConfig, name: str, log: logging.Logger, also: Sequence[str] = ()
) -> Line:
    """Connect to one of the servers; raises `NatsError` with the error of the last one."""
    urls = list(dict.fromkeys([*config.urls, *also]))
    random.shuffle(urls)
    failure = "there is no server"
    for url in urls:
        try:
            line = await _connected(config, name, url, log)
        except (ConnectionResetError, BrokenPipeError, nats.errors.UnexpectedEOF):
            failure = CLOSED  # the server's error about a login can be lost at the end
        except FAILURES as error:
            failure = describe_error(error)
        except (NkeysError, ValueError):
            raise NatsError("nkey or credentials: not a seed") from None
        else:
            if not is_cancelled():
                return line
            await line.close()
        if is_cancelled():  # nats-py has swallowed the cancellation
            raise asyncio.CancelledError
    raise NatsError(failure)


async def _connected(config: NatsConfig, name: str, url: str, log: logging.Logger) -> Line:
    encrypted = config.tls is not None or url.startswith(ENCRYPTED)
    client = _Client(encrypted=encrypted)
    line = Line(client, client.jetstream(timeout=REQUEST_TIMEOUT))
    said: Exception | None = None

    async def failed(error: Exception) -> None:
        nonlocal said
        if not client.is_connected:
            said = error
        elif isinstance(error, FAILURES):  # a permission that is missing, for one
            log.warning("%s", describe_error(error))
        else:  # raised by our own callback of a subscription
            log.error("a message of NATS could not be processed", exc_info=error)

    async def closed() -> None:
        line.lost.set()

    options: dict[str, Any] = {
        "user": config.user,
        "password": None if config.password is None else config.password.reveal(),
        "token": None if config.token is None else config.token.reveal(),
        "user_credentials": None if config.credentials is None else _credentials(config),
        "nkeys_seed_str": None if config.nkey is None else config.nkey.reveal(),
    }
    if config.tls is not None:
        options["tls"] = config.tls.context()
        options["tls_handshake_first"] = config.tls.first
    try:
        await client.connect(
            url,
            name=name,
            inbox_prefix=config.inbox,
            allow_reconnect=False,
            connect_timeout=CONNECT_TIMEOUT,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            ping_interval=PING_INTERVAL,
            max_outstanding_pings=2,
            error_cb=failed,
            closed_cb=closed,
            **options,
        )
    except asyncio.CancelledError:
        await _closed(client)
        raise
    except FAILURES:
        await _closed(client)
        if said is not None:  # nats-py itself raises only that no server is left
            raise said from None
        raise
    return line


def _credentials(config: NatsConfig) -> str:
    """Return the path of the credentials file, after a check: nats-py loops forever over a file
    without the two parts."""
    path = str(config.credentials)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise NatsError(f"credentials: {error.strerror}") from None
    if not all(part in text for part in ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED")):
        raise NatsError("credentials: not a .creds file")
    return path


async def _closed(client: Client) -> None:
    """Close it. After a failed TLS handshake nats-py would wait forever for its socket to be
    closed, although it is."""
    if not client.is_closed:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await client.close()


class Connection:
    """Keeps a `Line` open, from `open` to `close`."""

    def __init__(
        self,
        context: Context,
        config: NatsConfig,
        lost: Callable[[str], None],
        found: Callable[[], None],
    ) -> None:
        self.reconnects = 0
        self._context = context
        self._config = config
        self._lost = lost
        self._found = found
        self._line: Line | None = None
        self._open = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._learned: list[str] = []

    @property
    def is_up(self) -> bool:
        """True while there is one."""
        return self._open.is_set()

    @property
    def clock(self) -> Clock:
        """The core's clock."""
        return self._context.clock

    async def open(self) -> None:
        """Connect; raises `NatsError` if the first attempt fails."""
        line = await self._connected()
        self._task = start_task(self._keep(line), "d_back_nats connection", self._lost)

    async def close(self) -> None:
        """Close it for good; may be called twice."""
        task, self._task = self._task, None
        await stop_tasks(task)
        line, self._line = self._line, None
        self._open.clear()
        if line is not None:
            await line.close()

    async def line(self) -> Line:
        """Return the connection, as soon as there is one."""
        while True:
            await self._open.wait()
            if self._line is not None and not self._line.lost.is_set():
                return self._line
            await asyncio.sleep(0)  # `_keep` is about to notice the loss

    async def _keep(self, line: Line) -> None:
        while True:
            await line.lost.wait()
            self._open.clear()
            await line.close()
            self._lost(LOST)
            line = await self._again()
            self.reconnects += 1
            self._found()

    async def _again(self) -> Line:
        """Connect as soon as that is possible."""
        attempts = tenacity.AsyncRetrying(
            sleep=self._context.clock.sleep,
            wait=tenacity.wait_exponential(FIRST_WAIT, LONGEST_WAIT)
            + tenacity.wait_random(0, FIRST_WAIT),
            retry=tenacity.retry_if_exception_type(NatsError),
        )
        async for attempt in attempts:
            with attempt:
                try:
                    return await self._connected()
                except NatsError as error:
                    self._lost(str(error))
                    raise
        raise AssertionError  # the attempts have no end

    async def _connected(self) -> Line:
        name, log = f"d-back {self._context.name}", self._context.log
        line = await connected(self._config, name, log, self._learned)
        self._learned = [url.geturl() for url in line.client.discovered_servers]
        self._line = line
        self._open.set()
        return line
