"""What the process frees goes back to the system."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from d_back_core.cli.allocator import return_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

{call}
bytes(30_000_000)  # by default, blocks up to this size come from the heap from now on
before = resident()
large, small = [], []
for number in range(50):
    large.append(b"x" * (4_000_000 + number))
    small.append([bytes(2_000) for _ in range(20)])  # these stay, and lie between
large.clear()
print((resident() - before) // 1_000_000)
"""


def grown(call: str) -> int:
    """The MB that a program keeps of 200 that it has freed."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM.format(call=call)],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_blocks_are_given_back() -> None:
    """Also if small objects that were allocated between them stay."""
    assert grown("return_freed_memory()") < 20
