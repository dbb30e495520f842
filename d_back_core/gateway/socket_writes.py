"""Bytes for many sockets at once, without a transport in between.

A transport's own ``write`` ends in the same system call, but costs as much again. A socket may be
written to directly only while nothing waits in its transport, and whatever the kernel does not
take must go to the transport at once: `d_back_core.gateway.connection.Connection` knows when that is so.
"""

import asyncio
import os
import sys
from collections.abc import Iterable


def descriptor(transport: asyncio.BaseTransport) -> int | None:
    """The file descriptor that carries what is written to the transport as it is; None where
    there is none, as with TLS."""
    if sys.platform == "win32" or transport.get_extra_info("sslcontext") is not None:
        return None
    connection = transport.get_extra_info("socket")
    return None if connection is None else connection.fileno()


def write_all(descriptors: Iterable[int], frames: bytes) -> dict[int, int]:
    """Write the bytes to each of the non-blocking sockets. Returns how many of them the kernel
    took where it did not take them all; 0 where it failed, which the transport finds out too."""
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
