"""A real browser for the console's tests: `page = await browser.open(client.base_url)`, then `page.goto("/console/")`.

It reaches one server only, and a test fails if anything goes wrong in it that the test has not expected.
"""

from typing import Any

from playwright.async_api import Browser as Chromium
from playwright.async_api import ConsoleMessage, Page, Request, ViewportSize, WebError, expect

from tests.http.serving import LEAVING

PROGRAM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
PATIENCE = 60_000
"""Milliseconds until what a page is waited for is given up."""
expect.set_options(timeout=PATIENCE)
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}


class Browser:
    """A browser that notes whatever goes wrong: errors, what the policy forbids, and requests to elsewhere."""

    def __init__(self, chromium: Chromium) -> None:
        self._chromium = chromium
        self._expected: list[str] = []
        self.trouble: list[str] = []
        self.requests: list[str] = []
        """All addresses that were asked for."""

    async def open(self, url: object, *, phone: bool = False, **options: Any) -> Page:
        """Open a page of the server at an address, in a session of its own, which ends before the server does.

        `options` are Playwright's for a new context, such as `color_scheme="dark"`.
        """
        base = str(url).rstrip("/")
        given: dict[str, Any] = {"base_url": base, "viewport": PHONE if phone else DESKTOP, **options}
        context = await self._chromium.new_context(**given)
        context.set_default_timeout(PATIENCE)
        LEAVING[base].append(context.close)

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self._note(f"{message.type}: {message.text} at {message.location['url']}")

        def failed(error: WebError) -> None:
            self._note(f"page error: {error.error}")

        def asked(request: Request) -> None:
            self.requests.append(request.url)
            if not request.url.startswith((f"{base}/", "data:")):
                self._note(f"request elsewhere: {request.method} {request.url}")

        context.on("console", said)
        context.on("weberror", failed)
        context.on("request", asked)
        return await context.new_page()

    def expect(self, *said: str) -> None:
        """Let trouble pass that says one of these: `browser.expect("403 (Forbidden)")`."""
        self._expected += said

    def _note(self, text: str) -> None:
        if not any(each in text for each in self._expected):
            self.trouble.append(text)


async def enter(page: Page, token: str, to: str = "", *, wait: bool = True) -> None:
    """Come in with a key, by the form."""
    await page.goto(f"/console/{to}")
    await page.get_by_label("Key or token").fill(token)
    async with page.expect_navigation():
        await page.get_by_role("button", name="Come in").click()
    assert not wait or "/console/login" not in page.url
