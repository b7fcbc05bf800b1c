"""What the console's tests share."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from tests.console.browsing import FLAGS, PROGRAM, Browser


@pytest.fixture
async def browser() -> AsyncGenerator[Browser]:
    """Start Chromium; it is not skipped where there is none."""
    assert Path(PROGRAM).exists(), f"there is no {PROGRAM} to test with: `make servers`, or apt-get install chromium"
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        try:
            watched = Browser(chromium)
            yield watched
        finally:
            await chromium.close()
    assert not watched.trouble
