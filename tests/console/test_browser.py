"""The console in a real browser: it comes up whole, and the tests' own browser tells of whatever goes wrong."""

from pathlib import Path

from refold.console import Console
from refold.http import Access, Api, Keys
from refold.http.tokens import create
from tests.console.browsing import Browser, enter
from tests.http.serving import served
from tests.http.shop import shop


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
            for _ in range(100):
                if said in "\n".join(browser.trouble):
                    break
                await page.wait_for_timeout(20)
            assert said in "\n".join(browser.trouble)
            await page.goto("about:blank")
            browser.trouble.clear()
