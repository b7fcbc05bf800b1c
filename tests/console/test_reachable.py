"""Everybody can use the console: by keyboard alone, by a screen reader, on a phone, and with no other site at hand."""

from typing import Any

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

from tests.console.browsing import DESKTOP, PHONE, Browser
from tests.console.crawling import STREAMS, crawl

pytestmark = pytest.mark.timeout(600)
SERIOUS = ("serious", "critical")
CONTRAST: dict[str, Any] = {"runOnly": ["color-contrast"]}
FAULTS = "async (options) => (await axe.run(document, options)).violations"
WIDE = """[...document.querySelectorAll("main *")].filter((each) => each.getBoundingClientRect().right > innerWidth + 1)
  .map((each) => each.outerHTML.slice(0, 120)).slice(0, 3)"""
REACHED = """() => {
  const visible = (element) => element.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const can = "a[href], button:not(:disabled), input:not([type=hidden]):not(:disabled), select, textarea, summary";
  return [...document.querySelectorAll(can)].filter(visible).length;
}"""
STOP = """() => {
  const element = document.activeElement;
  if (element === document.body) return null;
  window.__stops ??= new Map();
  if (!window.__stops.has(element)) window.__stops.set(element, window.__stops.size);
  const style = getComputedStyle(element);
  const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 || style.boxShadow !== "none";
  return {number: window.__stops.get(element), seen, html: element.outerHTML.slice(0, 200)};
}"""
"""What has the focus, numbered, and whether one sees that it has."""


async def addresses(client: httpx.AsyncClient) -> list[str]:
    """Return one address of each page."""
    found: dict[str, str] = {}
    async for visited in crawl(client, each=2):
        if visited.answer.status_code == 200 and visited.elements and visited.page not in STREAMS:
            found.setdefault(visited.page, visited.url)
    return list(found.values())


async def opened(page: Page, url: str) -> None:
    await page.goto(url)
    await page.locator("main h1").first.wait_for()


async def faults_of(page: Page, **options: Any) -> list[tuple[str, str]]:
    """Return the serious faults that axe finds in a page as it is now."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(Axe().axe_script)
    found = await page.evaluate(FAULTS, {"resultTypes": ["violations"], **options})
    return [
        (each["help"], node["html"][:200]) for each in found if each["impact"] in SERIOUS for node in each["nodes"][:2]
    ]


@pytest.mark.parametrize("half", [0, 1])
async def test_no_page_has_a_serious_fault(hostile_site: httpx.AsyncClient, browser: Browser, half: int) -> None:
    page = await browser.open(hostile_site.base_url, reduced_motion="reduce")
    faults: list[Any] = []
    for url in (await addresses(hostile_site))[half::2]:
        await page.set_viewport_size(DESKTOP)
        await page.emulate_media(color_scheme="light")
        await opened(page, url)
        faults += [("desktop, light", url, each) for each in await faults_of(page)]
        await page.emulate_media(color_scheme="dark")
        faults += [("desktop, dark", url, each) for each in await faults_of(page, **CONTRAST)]
        await page.set_viewport_size(PHONE)
        faults += [("phone, dark", url, each) for each in await faults_of(page)]
        await page.emulate_media(color_scheme="light")
        faults += [("phone, light", url, each) for each in await faults_of(page, **CONTRAST)]
        inside, outside = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        if inside > outside:
            faults.append((f"{inside} px wide on a phone of {outside}", url, await page.evaluate(WIDE)))
    assert not faults


async def test_every_action_is_reached_by_keyboard(hostile_site: httpx.AsyncClient, browser: Browser) -> None:
    page = await browser.open(hostile_site.base_url)
    for url in await addresses(hostile_site):
        await opened(page, url)
        there = await page.evaluate(REACHED)
        stops: set[int] = set()
        await page.evaluate("document.querySelector('.skip').focus()")  # a page may begin at a field further down
        for _ in range(min(there, 60) + 20):  # the parts of a date are stops of their own
            stop = await page.evaluate(STOP)
            if stop is None:
                break
            await page.keyboard.press("Tab")
            assert stop["seen"], (url, stop["html"])
            stops.add(stop["number"])
        # A group of radio buttons is one stop, and what a page does not let in is none.
        assert len(stops) >= min(there, 60) * 0.8, (url, len(stops), there)


async def test_the_first_stop_leads_past_the_navigation(hostile_site: httpx.AsyncClient, browser: Browser) -> None:
    page = await browser.open(hostile_site.base_url)
    await opened(page, "/console/")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    assert await page.locator(".skip").is_visible()
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "content"


async def test_it_is_whole_without_scripts(hostile_site: httpx.AsyncClient, browser: Browser) -> None:
    page = await browser.open(hostile_site.base_url, java_script_enabled=False)
    for url in await addresses(hostile_site):
        await opened(page, url)
        assert await page.locator("main").inner_text(), url
