"""The control socket: ``d-back explain`` and ``d-back check --live`` ask the running process.

It is a Unix socket with mode 0600. Client and server send one line of JSON each.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from d_back_core.admin.explain import Explanation, explain
from d_back_core.errors import ConfigError, DBackError
from d_back_core.gateway.listening import SocketFile
from d_back_core.state.live import Live

TIMEOUT = 10.0
"""Seconds for one question and its answer."""

log = logging.getLogger("d_back.control")


class Question(Struct, frozen=True, kw_only=True):
    """The arguments of `explain.explain`."""

    server: str | None = None
    uid: str | None = None


class Reply(Struct, frozen=True, kw_only=True):
    """An explanation, or the reason why there is none."""

    explanation: Explanation | None = None
    error: str | None = None


class Control:
    """Answers on the socket from `start` to `stop`."""

    def __init__(self, path: str, live: Live) -> None:
        self._path = path
        self._file = SocketFile(path)
        self._live = live
        self._server: asyncio.Server | None = None

    def check(self) -> None:
        """Raise `ConfigError` if it cannot listen."""
        with self._explained():
            self._file.check()

    async def start(self) -> None:
        """Start to listen; raises `ConfigError` if that fails."""
        with self._explained():
            listener = self._file.bind()
        self._server = await asyncio.start_unix_server(
            self._answer, sock=listener, start_serving=False
        )
        await self._server.start_serving()  # cancelled here, `stop` closes the socket

    async def stop(self) -> None:
        """Stop listening; may be called twice."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._file.remove()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise ConfigError(f"gateway.control '{self._path}': {reason}") from error

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                question = msgspec.json.decode(await reader.readline(), type=Question)
                writer.write(msgspec.json.encode(self._reply(question)) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError) as error:
            log.warning("cannot answer a question: %s", error)
        finally:
            writer.close()

    def _reply(self, question: Question) -> Reply:
        try:
            return Reply(explanation=explain(self._live, question.server, question.uid))
        except DBackError as error:
            return Reply(error=str(error))


async def ask(path: str, question: Question) -> Reply | None:
    """Return the reply of the running process; None if there is none or it does not answer."""
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(path, limit=2**30)
            try:
                writer.write(msgspec.json.encode(question) + b"\n")
                return msgspec.json.decode(await reader.readline(), type=Reply)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return None
