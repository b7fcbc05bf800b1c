"""Pages of other sites, in a browser where somebody has come in: they can do nothing here, and see nothing."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from refold import App
from refold.console import Console
from refold.console.console import PAGES
from refold.http import Access, Api, Keys
from refold.http.tokens import create
from tests.console.browsing import Browser, enter
from tests.http.serving import served
from tests.http.shop import shop

pytestmark = pytest.mark.timeout(600)
ENCTYPES = ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data")
SEND = """async ([url, body]) => {
  const said = [];
  for (const [mode, type] of [["no-cors", "text/plain"], ["cors", "application/json"]]) {
    const options = {method: "POST", mode, credentials: "include", headers: {"content-type": type}, body};
    try { said.push((await fetch(url, options)).type); } catch { said.push("failed"); }
  }
  return said;
}"""
FRAME = """(url) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.onload = () => { let text; try { text = frame.contentDocument.title } catch { text = null }; done(text); };
  frame.src = url;
  document.body.append(frame);
})"""


@asynccontextmanager
async def another_site() -> AsyncGenerator[str]:
    """Serve a page on another port of this machine, which a browser takes for the same site, but another origin."""

    async def page(_: object) -> HTMLResponse:
        return HTMLResponse("<title>evil</title><form id=f method=post target=_self><input name=text value=x></form>")

    async with served(Starlette(routes=[Route("/", page)])) as client:
        yield str(client.base_url).rstrip("/")


def writes() -> list[str]:
    """Return an address of each thing that can be done, in the console and beside it."""
    paths = [page.path for page in PAGES if page.method == "POST"]
    named = [path.replace("{name}", "ReceiveStock").replace("{key:path}", "tea") for path in paths]
    named = [path.replace("{position:int}", "1").replace("{version}", "v1") for path in named]
    assert not [path for path in named if "{" in path], "say how these are addressed"
    return [*(f"/console{path}" for path in named), "/console/logout", "/commands/ReceiveStock", "/log/events"]


@pytest.mark.parametrize("keys", [True, False], ids=["with a session", "without keys"])
async def test_another_site_does_nothing(browser: Browser, tmp_path: Path, keys: bool) -> None:
    token = create(tmp_path / "keys.json", "ann", "admin")
    app: App = shop("memory:")
    access = Access(Keys(tmp_path / "keys.json")) if keys else Access()
    async with served(Console(Api(app, access))) as client, another_site() as elsewhere:
        ours = str(client.base_url).rstrip("/")
        page = await browser.open(ours)
        browser.expect(elsewhere, "403 (Forbidden)", "401 (Unauthorized)", "CORS policy", "net::ERR_FAILED")
        browser.expect("net::ERR_BLOCKED_BY_RESPONSE", "Refused to display", "frame-ancestors", "404 (Not Found)")
        if keys:
            await enter(page, token)
        else:
            await page.goto("/console/")
        for path in writes():
            url = f"{ours}{path}"
            for enctype in ENCTYPES:
                await page.goto(elsewhere)
                async with page.expect_navigation() as leaving:
                    await page.evaluate(
                        "([url, type]) => { f.action = url; f.enctype = type; f.submit(); }", [url, enctype]
                    )
                response = await leaving.value
                assert response is not None
                assert response.status in (401, 403), (path, enctype, response.status)
            await page.goto(elsewhere)
            # What comes back cannot be read, if it comes back at all.
            first, second = await page.evaluate(SEND, [url, '{"sku": "tea", "quantity": 1}'])
            assert first in ("opaque", "failed"), path
            assert second == "failed", path
        assert await app.head() == 0, "something was done"
        await page.goto("/console/")
        assert "/login" not in page.url, "somebody was put out"


async def test_no_page_stands_in_a_frame(browser: Browser, tmp_path: Path) -> None:
    token = create(tmp_path / "keys.json", "ann", "admin")
    api = Api(shop("memory:"), Access(Keys(tmp_path / "keys.json")))
    async with served(Console(api)) as client, another_site() as elsewhere:
        ours = str(client.base_url).rstrip("/")
        page = await browser.open(ours)
        browser.expect(elsewhere, "frame-ancestors")
        await enter(page, token)
        await page.goto(elsewhere)
        await page.evaluate(FRAME, f"{ours}/console/")
        [frame] = [each for each in page.frames if each != page.main_frame]
        assert "Overview" not in await frame.content()
