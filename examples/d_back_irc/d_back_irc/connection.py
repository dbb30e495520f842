"""One connection to an IRC server, from the log-in until it is lost.

    open ──▶ read, read, … ──▶ ConnectionLostError
                close at any time

It has no task of its own, so there is none to end: `read` is called by ``start`` of the provider
and then by ``events``. Between the two, lines wait in the socket. A timer sends PING when the
server is silent, and drops the connection when it stays silent: TCP alone notices a host that
lost its power, or a cut cable, after minutes or never.
"""

import asyncio
import ssl
from contextlib import suppress

from irclib.parser import Message

from d_back_core import Clock, ConfigError, Secret, Timer

QUIET = 60.0
"""Seconds of silence after which PING is sent. After as many without an answer, the connection is
lost."""
GOODBYE = 1.0
"""Seconds that QUIT may take."""
MAX_LINE = 65_536
"""Bytes of one line; IRC itself allows 512, and 8,191 of tags."""
WELCOME, NICK_IN_USE = "001", "433"
REFUSALS = {"432": "nick", "464": "password"}


class ConnectionLostError(Exception):
    """The connection has ended, for the reason in the text."""


class Connection:
    """A connection, not yet open."""

    def __init__(self, host: str, port: int, clock: Clock, *, tls: bool) -> None:
        self._host, self._port = host, port
        self._clock = clock
        self._tls = tls
        self._lines: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._timer: Timer | None = None
        self._has_spoken = False
        """True if the server has sent a line since the timer was started."""
        self._was_asked = False
        """True if it has not answered PING yet."""
        self._reason = "the server has closed the connection"

    async def open(self, nick: str, password: Secret | None) -> str:
        """Connect, log in, and return the nick: if the given one is in use, ``_`` is added.

        Raises `ConfigError` if the server refuses nick or password, else `OSError` or
        `ConnectionLostError`.
        """
        # It reads the certificates of the system.
        context = await asyncio.to_thread(ssl.create_default_context) if self._tls else None
        self._lines, self._writer = await asyncio.open_connection(
            self._host, self._port, ssl=context, limit=MAX_LINE
        )
        self._start_timer()
        if password is not None:
            self.send("PASS", password.reveal())
        self.send("USER", nick, "0", "*", nick)
        self.send("NICK", nick)
        while (message := await self.read()).command != WELCOME:
            if message.command == NICK_IN_USE:
                nick += "_"
                self.send("NICK", nick)
            elif message.command in REFUSALS:
                key, reason = REFUSALS[message.command], message.parameters[-1]
                raise ConfigError(f"{key}: the server refuses it ({reason})")
        return message.parameters[0]  # the server may have shortened it

    async def close(self) -> None:
        """Leave the server; may be called twice. A `read` that waits raises."""
        if self._timer is not None:
            self._timer.cancel()
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.write(b"QUIT\r\n")
        writer.close()
        with suppress(OSError):
            try:
                async with asyncio.timeout(GOODBYE):
                    await writer.wait_closed()
            finally:  # also if the server does not read, or if this is cancelled
                writer.transport.abort()

    def send(self, command: str, *parameters: str) -> None:
        """Send a line."""
        if self._writer is not None:
            line = str(Message(None, None, command, *parameters))
            self._writer.write(f"{line}\r\n".encode())

    async def read(self) -> Message:
        """Return the next message of the server. Raises `ConnectionLostError`."""
        while True:
            message = await self._read()
            if message.command == "PING":
                self.send("PONG", *message.parameters)
            elif message.command == "ERROR":  # the last line of a server
                raise ConnectionLostError(" ".join(message.parameters))
            elif message.command != "PONG":
                return message

    async def _read(self) -> Message:
        if self._lines is None:
            raise ConnectionLostError("the connection is not open")
        try:
            line = await self._lines.readuntil(b"\n")
        except (asyncio.IncompleteReadError, OSError):
            raise ConnectionLostError(self._reason) from None
        except asyncio.LimitOverrunError:
            raise ConnectionLostError("the server sends no IRC") from None
        self._has_spoken, self._was_asked = True, False
        return Message.parse(line.rstrip(b"\r\n"))

    def _start_timer(self) -> None:
        self._has_spoken = False
        self._timer = self._clock.call_later(QUIET, self._on_timer)

    def _on_timer(self) -> None:
        if self._was_asked and self._writer is not None:
            self._reason = f"the server has been silent for {2 * QUIET:g} s"
            self._writer.transport.abort()  # `read` raises
            return
        if not self._has_spoken:
            self._was_asked = True
            self.send("PING", "d-back")
        self._start_timer()
