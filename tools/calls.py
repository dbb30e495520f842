"""A pytest plugin that writes which functions of the core each test calls, and how long it takes.

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


def pytest_sessionfinish() -> None:
    Path(OUTPUT).write_bytes(msgspec.json.encode(_tests))
