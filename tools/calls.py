"""A pytest plugin that writes which functions of the core each test calls, and how long it takes.

A test that fails is left out: some do on a busy machine, as the profile makes them slow.
Start pytest with ``-p tools.calls``; the file ``calls.json`` is then `Calls` as JSON.
"""

from collections.abc import Iterator
from cProfile import Profile
from pathlib import Path
from time import monotonic
from types import CodeType

import msgspec
import pytest
from msgspec import Struct

OUTPUT = "calls.json"
CORE = str(Path("d_back_core").resolve())


class Calls(Struct):
    """What one test calls."""

    test: str
    seconds: float
    functions: list[tuple[str, str]]
    """Each by its file and its qualified name."""


_tests: list[Calls] = []
_failed: set[str] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    profile = Profile(subcalls=False, builtins=False)
    began = monotonic()
    profile.enable()
    try:
        return (yield)
    finally:
        profile.disable()
        codes = [each.code for each in profile.getstats() if isinstance(each.code, CodeType)]
        functions = {
            (str(Path(code.co_filename).relative_to(Path.cwd())), code.co_qualname)
            for code in codes
            if code.co_filename.startswith(CORE)
        }
        _tests.append(Calls(item.nodeid, monotonic() - began, sorted(functions)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    passed = [each for each in _tests if each.test not in _failed]
    Path(OUTPUT).write_bytes(msgspec.json.encode(passed))
