"""The addresses that the gateway listens on, tried before the providers start.

A port or a socket file that is in use is then reported at once, and no provider logs in without
need.
"""

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from d_back_core.log_once import LogOnce

RESERVED_DESCRIPTORS = 64
"""For everything that is not a connection: files, databases, the providers' own sockets."""
UNUSABLE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
"""Errors of an address that this machine does not have. In a container without IPv6, ``localhost``
is often ``::1`` too."""

log = logging.getLogger("d_back.gateway")


async def usable_addresses(host: str, port: int) -> tuple[list[str], list[str]]:
    """Return the addresses of the host that this machine can listen on, and the others.

    Raises ``OSError`` if there is none, or if the port cannot be used on one of them.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except UnicodeError:  # of the codec for names with other letters; its text explains nothing
        raise socket.gaierror(socket.EAI_NONAME, "is not a name") from None
    usable: list[str] = []
    others: list[str] = []
    problem: OSError | None = None
    for family, kind, proto, _, address in dict.fromkeys(found):
        name = str(address[0])
        try:
            _try(socket.socket(family, kind, proto), address)
        except OSError as error:
            if error.errno not in UNUSABLE:
                raise
            problem = error
            others.append(name)
        else:
            usable.append(name)
    if not usable:
        raise problem or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    return usable, others


def _try(probe: socket.socket, address: tuple[object, ...]) -> None:
    with probe:
        if os.name == "posix":  # as asyncio does when it listens
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if probe.family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)


def connections_that_fit(wanted: int) -> int:
    """Return the number of connections for which the process has descriptors, after the soft
    limit is raised to the hard one."""
    if os.name != "posix":
        return wanted
    import resource  # noqa: PLC0415  Windows lacks it

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):  # macOS refuses a limit without an end
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(1, soft - RESERVED_DESCRIPTORS))


def set_backlog(listening: Iterable[Any], backlog: int) -> None:
    """Let the kernel queue more connections than asyncio accepts in one turn of the loop."""
    if os.name != "posix":
        return
    for each in listening:
        with socket.socket(fileno=os.dup(each.fileno())) as same:
            same.listen(backlog)


async def free_port(host: str) -> int:
    """Return a port that is probably free on every address of the host.

    Listening on port 0 would take a different port for each of them. Another process may take
    the port first, so the caller tries again.
    """
    loop = asyncio.get_running_loop()
    family, kind, proto, _, address = (
        await loop.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    )[0]
    with socket.socket(family, kind, proto) as probe:
        probe.bind(address)
        port: int = probe.getsockname()[1]
        return port


class AcceptErrors(logging.Filter):
    """Replaces what asyncio logs while the process has no descriptors: sixteen tracebacks per
    second. It tries to accept connections again after a second."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where
        self._warn = LogOnce(log)

    def start(self) -> None:
        """Look at what asyncio logs from now on."""
        logging.getLogger("asyncio").addFilter(self)

    def stop(self) -> None:
        """Leave it alone; may be called twice."""
        logging.getLogger("asyncio").removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for such a record."""
        if not record.getMessage().startswith("socket.accept() out of system resource"):
            return True
        sentence = "%s: connections wait: %s (raise the limit of open files)"
        error = record.exc_info[1] if record.exc_info else None
        self._warn("accept", "", sentence, self._where, error)
        return False


class SocketFile:
    """The file of a Unix socket: checked before it is made, and removed after use.

    Only the user of this process may connect to it, or replace it.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._made: os.stat_result | None = None

    def check(self) -> None:
        """Raise ``OSError`` if a socket cannot be made here. A socket that a killed process left
        is replaced; one that another process listens on is not."""
        if "\0" in str(self._path):
            raise OSError(errno.EINVAL, "is not a valid path")
        folder = self._path.absolute().parent.stat()
        # A group counts as the user if it is the process's own: many systems have one per user.
        by_others = stat.S_IWOTH if folder.st_gid == os.getegid() else stat.S_IWOTH | stat.S_IWGRP
        if folder.st_mode & by_others or folder.st_uid not in {0, os.geteuid()}:
            reason = "other users can write to its folder (make one for it, with mode 0755)"
            raise PermissionError(errno.EPERM, reason)
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise FileExistsError(errno.EEXIST, "exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0)
            try:
                probe.connect(str(self._path))
            except BlockingIOError:  # its queue is full
                pass
            except OSError:
                return
        raise OSError(errno.EADDRINUSE, "is in use by another process")

    def bind(self) -> socket.socket:
        """Make the file and return its socket. Raises ``OSError`` as `check` does."""
        self.check()
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        # Before `bind`: with `chmod` after it, the socket would be open to others for a moment.
        mask = os.umask(0o177)
        try:
            listener.bind(str(self._path))
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(mask)
        self._made = self._path.stat()
        return listener

    def remove(self) -> None:
        """Remove the file, unless another process has replaced it; may be called twice."""
        made, self._made = self._made, None
        if made is None:
            return
        try:
            now = self._path.stat()
            if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
                self._path.unlink()
        except OSError:  # it is gone, or its folder is
            return
