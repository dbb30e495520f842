"""One browser for all tests: they share its event loop."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

sys.path.insert(0, str(Path(__file__).parent))  # for page_browser, which the tests share

pytest.register_assert_rewrite("page_browser")

from page_browser import browsing  # noqa: E402  after the two lines above


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as chromium:
        yield chromium
