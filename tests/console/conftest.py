"""What the console's tests share."""

import logging
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import async_playwright

from refold.console import Console
from refold.http import Api
from tests.console.browsing import FLAGS, PATIENCE, PROGRAM, Browser
from tests.console.hostile import fill, hostile
from tests.http.serving import served


@pytest.fixture
async def browser() -> AsyncGenerator[Browser]:
    """Start Chromium; it is not skipped where there is none."""
    assert Path(PROGRAM).exists(), f"there is no {PROGRAM} to test with: `make servers`, or apt-get install chromium"
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS, timeout=PATIENCE)
        try:
            watched = Browser(chromium)
            yield watched
        finally:
            await chromium.close()
    assert not watched.trouble


@pytest.fixture
async def hostile_site(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncGenerator[httpx.AsyncClient]:
    """Serve the console of an app that is full of hostile texts, long ones among them."""
    caplog.set_level(logging.CRITICAL, "refold.subscription")
    app = hostile(f"sqlite:///{tmp_path}/log.db")
    async with served(Console(Api(app), address="hostile.main:app")) as client:
        await fill(app)
        yield client
