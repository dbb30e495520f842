"""Ports for programs that cannot choose one themselves, or have to come back at the same one."""

import random
import socket
from contextlib import ExitStack
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST, EPHEMERAL = 10_000, 32_768


def free_ports(count: int) -> list[int]:
    """Ports on which no program listens. No outgoing connection, of which other tests make
    thousands, can take one of them meanwhile."""
    end = int(RANGE.read_text().split()[0]) if RANGE.exists() else EPHEMERAL
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            port = random.randrange(FIRST, end)  # noqa: S311  not a secret
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    return found


def free_port() -> int:
    """One of them."""
    (port,) = free_ports(1)
    return port
