"""Let glibc give freed memory back to the system.

The gateway makes and frees blocks of many MiB all the time: snapshots, compressed in threads. By
default glibc raises, with every large block that is freed, the size up to which blocks come from
its heaps (to 32 MiB at most), and each thread may get a heap of its own. Then small objects that
live longer keep the heaps large: under hostile load the process grew from 130 to 230 MiB in a
quarter of an hour, and did not stop there, while its Python objects took 44 MiB.
"""

import os
import sys

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""Parameters of mallopt(3)."""
MAPPED = 1_048_576
"""Bytes from which a block is mapped for itself, and unmapped when it is freed."""
ARENAS = 2


def return_freed_memory() -> None:
    """Set it for this process, unless its environment configures the allocator already."""
    if sys.platform != "linux" or any(
        name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ
    ):
        return
    import ctypes  # noqa: PLC0415  commands do not need it

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have none
        mallopt(M_ARENA_MAX, ARENAS)
        mallopt(M_MMAP_THRESHOLD, MAPPED)
