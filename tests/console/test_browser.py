"""The console in a real browser: it comes up whole, and the tests' own browser tells of whatever goes wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import expect

from refold.console import Console
from refold.errors import StoreBusy
from refold.http import Access, Api, Keys
from refold.http.tokens import create
from refold.runtime.books import Parked
from refold.runtime.operate import Operations
from tests.console.browsing import Browser, enter
from tests.http.serving import served
from tests.http.shop import shop
from tests.runtime.clicks import BROKEN, Failing, clicks


async def test_who_has_a_key_comes_in_and_goes_out(browser: Browser, tmp_path: Path) -> None:
    token = create(tmp_path / "keys.json", "ann", "operator")
    async with served(Console(Api(shop("memory:"), Access(Keys(tmp_path / "keys.json"))))) as client:
        page = await browser.open(client.base_url)
        browser.expect("401 (Unauthorized)")
        await enter(page, "refold_guessed", wait=False)
        assert await page.get_by_role("alert").inner_text() == "this key or token is not known, or has expired"
        await enter(page, token)
        assert await page.get_by_role("heading", level=1).count() == 1
        assert await page.locator(".principal").inner_text() == "ann operator"
        await page.get_by_role("button", name="Log out").click()
        await page.get_by_label("Key or token").wait_for()


async def test_a_page_that_cannot_be_fetched_again_stays_and_says_so_until_it_can(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = clicks("memory:")
    async with served(Console(Api(app))) as client:
        page = await browser.open(client.base_url)
        await page.goto("/console/parked")
        title, mark = await page.title(), page.get_by_text("Not up to date")
        assert await mark.is_hidden()

        async def busy(*_: object, **__: object) -> list[Parked]:
            raise StoreBusy("the database is locked")

        browser.expect("503 (Service Unavailable)")
        with monkeypatch.context() as patch:
            patch.setattr(Operations, "parked", busy)
            await mark.wait_for()
            assert await page.get_by_text("Nothing is parked").is_visible()
            assert await page.title() == title
        BROKEN.add("a")
        try:
            await app.record(Failing("a"))
            await page.get_by_role("heading", name="Clicks: 1 failed").wait_for()  # it was asked again by itself
        finally:
            BROKEN.clear()
        await expect(mark).to_be_hidden()


@pytest.mark.parametrize("with_keys", [True, False])
async def test_a_link_from_elsewhere_leads_to_its_page(browser: Browser, tmp_path: Path, with_keys: bool) -> None:
    keys = tmp_path / "keys.json"
    token = create(keys, "ann", "operator")
    async with served(Console(Api(shop("memory:"), Access(Keys(keys)) if with_keys else None))) as client:
        page = await browser.open(client.base_url)
        browser.expect("request elsewhere: GET http://localhost:", "/favicon.ico")
        if with_keys:
            await enter(page, token)
        await page.goto(str(client.base_url.copy_with(host="localhost", path="/health")))
        to = str(client.base_url.copy_with(path="/console/stories/Stock/a%2Fb"))
        await page.set_content("<a>look</a>")
        await page.evaluate("to => Object.assign(document.querySelector('a'), {href: to})", to)
        await page.get_by_text("look").click()
        await page.get_by_role("heading", level=1).wait_for()
        assert page.url == to
        assert "a/b" in await page.get_by_role("heading", level=1).inner_text()


async def test_a_command_line_is_copied_however_often_and_also_without_a_clipboard(browser: Browser) -> None:
    async with served(Console(Api(shop("memory:")))) as client:
        page = await browser.open(client.base_url)
        await page.clock.install()
        await page.goto("/console/projections")
        await page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))  # until it is told to go on
        button = page.locator("[data-copy]").first
        line = await button.get_attribute("data-copy")
        await page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        await page.evaluate("addEventListener('copy', () => { window.copied = String(getSelection()) })")
        for _ in range(2):
            await button.click()
        await page.get_by_role("button", name="Copied").wait_for()
        assert await page.evaluate("window.copied") == line
        await page.clock.run_for(1_200)
        await page.get_by_role("button", name="Copy", exact=True).first.wait_for()
        await expect(page.get_by_role("button", name="Copied")).to_have_count(0)


WRONG = {
    "document.body.innerHTML = '<img src=https://evil.example/x>'": "elsewhere: GET https://evil.example/x",
    "document.body.innerHTML = '<p style=color:red>'": "Content Security Policy",
    "document.body.innerHTML = '<img src=/nothing onerror=alert(1)>'": "Content Security Policy",
    "setTimeout(() => { throw new Error('broken') })": "page error: broken",
    "console.error('wrong')": "error: wrong",
    "fetch('/nowhere')": "404 (Not Found)",
}


async def test_whatever_goes_wrong_is_noted(browser: Browser) -> None:
    async with served(Console(Api(shop("memory:")))) as client:
        page = await browser.open(client.base_url)
        for does, said in WRONG.items():
            await page.goto("/console/")
            assert not browser.trouble
            await page.evaluate(f"() => {{ {does} }}")
            while said not in "\n".join(browser.trouble):
                await page.wait_for_timeout(20)
            await page.goto("about:blank")
            browser.trouble.clear()
