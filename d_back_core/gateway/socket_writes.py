"""Write the same bytes to many sockets, without their asyncio transports.

A transport's ``write`` ends in the same system call, and costs as much again. A socket may be
written to directly only while its transport has nothing buffered, and bytes that the kernel does
not accept must go to the transport before anything else is written. `connection.Connection` knows
when this is safe.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress

NO_LIMIT = 0
"""For `limit_unsent`: what the system has for all sockets."""


def descriptor(transport: asyncio.BaseTransport) -> int | None:
    """Return the file descriptor that the transport writes its bytes to unchanged.

    None if there is none, as with TLS, and on Windows.
    """
    if sys.platform == "win32" or transport.get_extra_info("sslcontext") is not None:
        return None
    connection = transport.get_extra_info("socket")
    return None if connection is None else connection.fileno()


def limit_unsent(transport: asyncio.BaseTransport, size: int) -> None:
    """Let the kernel buffer only so many bytes that are not sent yet; more are in flight.

    Without a limit it buffers megabytes for a client that does not read. Does nothing if the
    system or the kind of socket lacks such a limit.
    """
    connection = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS have it
    if connection is None or option is None:
        return
    if connection.family in {socket.AF_INET, socket.AF_INET6}:
        with suppress(OSError):  # the connection is lost
            connection.setsockopt(socket.IPPROTO_TCP, option, size)


def write_all(descriptors: Iterable[int], frames: bytes | memoryview) -> dict[int, int]:
    """Write the bytes to each of the non-blocking sockets.

    Return descriptor → number of bytes written, for the sockets that did not accept all of them.
    It is 0 after an error, which the transport then finds, too.
    """
    write, size = os.write, len(frames)
    short: dict[int, int] = {}
    for each in descriptors:
        try:
            taken = write(each, frames)
        except OSError:
            short[each] = 0
        else:
            if taken != size:
                short[each] = taken
    return short
