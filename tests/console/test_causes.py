"""Causes in the console: a picture and a list of what led to what, from where one goes to events and stories."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from refold import NewEvent
from refold.console import Console, tree
from refold.http import Access, Api, Keys
from refold.http.tokens import create
from refold.model.record import Metadata
from refold.model.schema import encode_metadata
from tests.console.browsing import Browser
from tests.console.test_story import XSS, words
from tests.http.serving import served
from tests.runtime.causing import Place, Placed, Reserve, shop


def console(**options: Any) -> tuple[Any, Console]:
    app = shop("memory:", **options)
    return app, Console(Api(app), address="shop.main:app")


async def test_the_tree_is_drawn_and_listed() -> None:
    app, pages = console()
    async with served(pages) as client:
        await app.execute(Place("bad-1", lines=2), actor="ann")
        await app.settle(parked=True)
        page = (await client.get("/console/causes/1")).text
        said = words(page)
        for each in (
            "3 events of one story",
            "1 failed or stuck",
            "Place command by ann",
            "no money",
            "Expire timer fulfil, waits",
        ):
            assert each in said, each
        assert page.count('class="node failed stuck"') == 1
        assert page.count('class="edge to-command"') == 2
        assert page.count('class="node event asked" href="/console/log/1"') == 1
        # All lists and items end, and nothing ends that has not begun.
        depth = 0
        for mark in re.findall(r"<(/?)(?:ul|li)\b", page.partition("causes-list")[2].partition("</main>")[0]):
            depth += -1 if mark else 1
            assert depth >= 0
        assert depth == 0
        assert "refold log causes 1" in page
        # The picture is as wide as what is in it.
        [width] = re.findall(r'<svg[^>]* width="([\d.]+)"', page)
        boxes = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', page)
        assert float(width) == pytest.approx(
            max(float(x) + float(wide) for x, wide in boxes) + 2 * tree.MARGIN, abs=0.2
        )
        assert (await client.get("/console/causes/99")).status_code == 404


async def test_whatever_is_stored_is_text() -> None:
    app, pages = console(processes=[], effects=[], projections=[])
    async with served(pages) as client:
        metadata = encode_metadata(
            Metadata(event_id="e", correlation_id="x", causation_id=XSS, actor=XSS, command=XSS, by=f"inbox {XSS}")
        )
        await app.log.append([NewEvent(XSS, b"{}", (f"order:{XSS}",), 1, metadata)])
        page = await client.get("/console/causes/1")
        assert page.status_code == 200
        assert page.text.count("&lt;script&gt;") > 3
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert " 49" not in page.text


async def test_what_is_too_large_for_a_picture_is_listed(monkeypatch: Any) -> None:
    monkeypatch.setattr(tree, "MOST", 4)
    app, pages = console(processes=[], effects=[])
    async with served(pages) as client:
        for order in ("o-1", "o-2", "o-3"):
            await app.execute(Place(order), correlation_id="all")
        page = (await client.get("/console/causes/2")).text
        assert "<svg" not in page
        assert page.partition("causes-list")[2].count("<ul>") == 4


async def test_a_chain_may_be_longer_than_lists_stand_in_lists() -> None:
    app, pages = console(processes=[], effects=[])
    async with served(pages) as client:
        cause = ""
        for number in range(60):
            position = await app.execute(Reserve("o-1", number), correlation_id="all", causation_id=cause)
            [last] = [each async for each in app.events(after=position - 1)]
            cause = last.metadata.event_id
        page = (await client.get("/console/causes/60")).text.partition("causes-list")[2].partition("</main>")[0]
        assert page.count("<li") == 120
        assert page.count("<ul>") == page.count("</ul>") == 41


async def test_of_a_tree_one_sees_what_one_may(tmp_path: Path) -> None:
    token = create(tmp_path / "keys.json", "ann", "reader", tags=["customer:c-1"])
    app = shop("memory:", processes=[], effects=[])
    async with served(Console(Api(app, Access(Keys(tmp_path / "keys.json"))))) as client:
        await app.execute(Place("o-1"), correlation_id="both")
        await app.execute(Place("o-2", customer="canary"), correlation_id="both")
        await client.post("/console/login", data={"key": token}, headers={"Sec-Fetch-Site": "same-origin"})
        page = await client.get("/console/causes/1")
        assert page.status_code == 200
        assert "canary" not in page.text
        assert (await client.get("/console/causes/2")).status_code == 404


async def test_one_clicks_through_from_what_failed_to_the_story(browser: Browser) -> None:
    app, pages = console()
    async with served(pages) as client:
        await app.execute(Place("bad-1", lines=2))
        await app.settle(parked=True)
        page = await browser.open(client.base_url)
        await page.goto("/console/stories/Order/bad-1?as_of=1")
        await page.get_by_role("link", name="Why it happened").click()
        await page.wait_for_url("**/console/causes/1")
        assert await page.locator("svg .node.failed").count() == 1
        assert await page.locator("svg a.node.event").first.get_attribute("href") == "/console/log/1"
        reserved = page.locator(".causes-list").get_by_role("link", name="Reserved", exact=True).first
        await reserved.click()
        await page.wait_for_url(re.compile(r"/console/causes/[23]$"))
        assert await page.locator(".causes-list [aria-current]").inner_text() == "Reserved"
        position = page.url.rpartition("/")[2]
        await page.locator(".causes-list .asked").get_by_role("link", name="story").click()
        await page.wait_for_url(f"**/console/stories/Order/bad-1?as_of={position}")
        await page.get_by_role("status").get_by_text("Reserved, event").wait_for()


async def test_on_a_phone_there_is_the_list(browser: Browser) -> None:
    app, pages = console(processes=[], effects=[])
    async with served(pages) as client:
        await app.record(Placed("o-1", "c-1"))
        page = await browser.open(client.base_url, phone=True)
        await page.goto("/console/causes/1")
        assert not await page.locator("svg.tree").is_visible()
        assert await page.locator(".causes-list a").first.is_visible()
        assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        assert quote("order:o-1") in await page.locator(".tag").first.get_attribute("href")  # type: ignore[operator]
