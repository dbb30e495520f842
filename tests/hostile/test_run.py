"""The short form of the long run; CONTRIBUTING.md says how a long one is started."""

import sys
from pathlib import Path

import pytest

from hostile.run import Run


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_r32_honest_clients_do_not_notice_hostile_ones(tmp_path: Path) -> None:
    """None is disconnected or served late, and afterwards the gateway has let go of everything."""
    run = Run(tmp_path, 20, tls=False)
    [minute] = run.minutes(0.15)
    assert run.broken == [], minute
    assert minute.events > 100
