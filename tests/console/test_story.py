"""The story of a thing in the console: a timeline, the state at each place of it, and a slider through time."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import expect

from refold import NewEvent
from refold.console import Console
from refold.console import story as pages
from refold.http import Access, Api, Keys
from refold.http.tokens import create
from tests.console.browsing import Browser, enter
from tests.http.serving import served
from tests.runtime.causing import Paid, Place, Placed, Reserved, shop

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"


def console(**options: Any) -> tuple[Any, Console]:
    app = shop("memory:", **{"processes": [], "effects": [], "projections": [], **options})
    return app, Console(Api(app), address="shop.main:app")


def words(html: str) -> str:
    """Return what a page says, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


async def test_a_state_is_chosen_and_its_key_typed() -> None:
    app, pages_of = console()
    async with served(pages_of) as client:
        page = await client.get("/console/stories")
        assert "Order" in page.text
        found = await client.get("/console/stories", params={"state": "Order", "key": " a/b "})
        assert (found.status_code, found.headers["location"]) == (303, "/console/stories/Order/a%2Fb")
        for wrong in ({"state": "Order", "key": ""}, {"state": "Order"}, {"state": XSS, "key": "a"}):
            answer = await client.get("/console/stories", params=wrong)
            assert answer.status_code == 200
            assert "needs its whole key" in answer.text
            assert "<script>alert" not in answer.text
        await app.record(Placed("a/b", "c"))
        assert "before" not in words((await client.get(found.headers["location"])).text).partition("What happened")[0]


@pytest.mark.parametrize(
    ("asked", "place", "status", "reserved"),
    [
        ({}, "Reserved, event 4 of 4", "paid", "[7, 8]"),
        ({"as_of": "3"}, "Paid, event 3 of 4", "paid", "[7]"),
        ({"as_of": "2"}, "Reserved, event 2 of 4", "placed", "[7]"),
        ({"as_of": "0"}, "before its first event", "new", "[]"),
        ({"as_of": "99"}, "Reserved, event 4 of 4", "paid", "[7, 8]"),
        ({"as_of": "2020-01-01"}, "before its first event", "new", "[]"),
        ({"as_of": "2126-01-01T00:00Z"}, "Reserved, event 4 of 4", "paid", "[7, 8]"),
        ({"effective": "2026-03-01T12:00"}, "Reserved, event 1 of 4", "new", "[8]"),
        ({"effective": "2026-03-01T14:30:00+01:00"}, "Placed, event 2 of 4", "placed", "[8]"),
        ({"effective": "2026-03-01T20:00", "as_of": "2"}, "Reserved, event 2 of 2", "placed", "[7]"),
        ({"after": "2"}, "Reserved, event 2 of 2", "paid", "[7, 8]"),
        ({"after": "2", "as_of": "2"}, "before these events", "placed", "[7]"),
    ],
)
async def test_the_state_is_shown_as_it_was_at_a_place(
    asked: dict[str, str], place: str, status: str, reserved: str
) -> None:
    app, pages_of = console()
    async with served(pages_of) as client:
        for event, hours in (
            (Placed("o-1", "c"), 1),
            (Reserved("o-1", 7), 2),
            (Paid("o-1"), 3),
            (Reserved("o-1", 8), 0),
        ):
            await app.record(event, occurred_at=NOON + hours * HOUR)
        page = await client.get("/console/stories/Order/o-1", params=asked)
        assert page.status_code == 200
        said = words(page.text)
        assert place in said
        state = said.partition("The state")[2]
        assert f"status {'changed ' if 'status changed' in state else ''}{status} " in state
        assert f"{reserved} " in state
        # Every link of the timeline leads to where it says.
        for url, name in re.findall(r'class="go" href="([^"]+)"[^>]*>(\w+)', page.text):
            there = words((await client.get(unescape(url))).text)
            assert f"{name}, event" in there or "before" in there


async def test_what_a_step_has_changed_is_marked() -> None:
    app, pages_of = console()
    async with served(pages_of) as client:
        await app.record(Placed("o-1", "c"), Reserved("o-1", 7))
        page = (await client.get("/console/stories/Order/o-1?as_of=1")).text
        assert re.search(r"<del>new</del>\s*<ins>placed</ins>", page)
        assert re.findall(r'<tr class="changed"><th scope="row"><code>(\w+)', page) == ["status"]
        page = (await client.get("/console/stories/Order/o-1")).text
        assert re.search(r"<code>reserved\[0\]</code></th><td>\s*<ins>7</ins>", page)
        assert "refold story shop.main:app Order o-1" in page


@pytest.mark.parametrize(
    ("moment", "status"),
    [
        ("0001-01-01T00:00:00+05:00", 400),
        ("0001-01-01T00:00:00Z", 200),
        ("0001-01-01T00:00:00-05:00", 200),
        ("9999-12-31T23:59:59-05:00", 400),
    ],
)
async def test_what_occurred_at_an_end_of_time_can_be_looked_at(moment: str, status: int) -> None:
    app, pages_of = console()
    async with served(pages_of) as client:
        await app.record(Placed("o-1", "c"), occurred_at=datetime.fromisoformat(moment))
        await app.record(Paid("o-1"))
        for path in ("stories/Order/o-1", "stories/Order/o-1?effective=2026-03-01", "log/1", "log", "causes/1", ""):
            assert (await client.get(f"/console/{path}")).status_code == 200, path
        answer = await client.get("/console/stories/Order/o-1", params={"effective": moment})
        assert answer.status_code == status


async def test_what_cannot_be_read_is_a_step_and_whatever_is_stored_is_text() -> None:
    app, pages_of = console()
    async with served(pages_of) as client:
        tags = (f"order:{XSS}",)
        await app.record(Placed(XSS, XSS), actor=XSS)
        await app.log.append([NewEvent("Paid", XSS.encode(), tags)])
        key = quote(XSS, safe="")
        for as_of in ("", "?as_of=1", f"?as_of={key}", f"?effective={key}"):
            page = await client.get(f"/console/stories/Order/{key}{as_of}")
            assert page.status_code == (400 if key in as_of else 200)
            assert "<script>alert" not in page.text
            assert "<img src=x" not in page.text
            assert " 49" not in page.text
        assert "not read" in (await client.get(f"/console/stories/Order/{key}")).text


async def test_a_long_story_is_told_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "STEPS", 10)
    app, pages_of = console()
    async with served(pages_of) as client:
        for number in range(35):
            await app.record(Reserved("o-1", number), occurred_at=NOON + number * HOUR)
        for begin, link in (
            ("", "Earlier events"),
            ("?after=0&as_of=0", "Later events"),
            ("?effective=2026-04-01", "Earlier events"),
        ):
            url, seen = f"/console/stories/Order/o-1{begin}", set[str]()
            while url:
                page = (await client.get(url)).text
                seen |= set(re.findall(r'class="position" href="/console/log/(\d+)"', page))
                found = re.search(rf'<a href="([^"]+)">{link}</a>', page)
                url = unescape(found[1]) if found else ""
            assert len(seen) == 35, begin
        middle = (await client.get("/console/stories/Order/o-1?as_of=15")).text
        assert "Reserved, event 10 of 10+" in words(middle)
        [pinned] = re.findall(r'data-pin="([^"]+)"', middle)
        assert unescape(pinned).endswith("as_of=15&after=5")


async def test_one_sees_the_stories_that_one_may(tmp_path: Path) -> None:
    token = create(tmp_path / "keys.json", "ann", "reader", tags=["order:o-1"])
    app = shop("memory:", processes=[], effects=[])
    async with served(Console(Api(app, Access(Keys(tmp_path / "keys.json"))))) as client:
        await app.record(Placed("o-1", "c-1"), Placed("o-2", "canary"))
        own = {"Sec-Fetch-Site": "same-origin"}
        await client.post("/console/login", data={"key": token}, headers=own)
        assert (await client.get("/console/stories/Order/o-1")).status_code == 200
        hidden = await client.get("/console/stories/Order/o-2")
        assert hidden.status_code == 403
        assert "canary" not in hidden.text


async def test_arrow_keys_go_through_time_and_the_address_keeps_the_place(browser: Browser, tmp_path: Path) -> None:
    token = create(tmp_path / "keys.json", "ann", "reader")
    app = shop("memory:", processes=[], effects=[])
    async with served(Console(Api(app, Access(Keys(tmp_path / "keys.json"))))) as client:
        await app.execute(Place("o-1"), actor="ann")
        await app.record(Reserved("o-1", 7), Reserved("other", 1), Paid("o-1"))
        page = await browser.open(client.base_url)
        await enter(page, token, "stories/Order/o-1")
        state, status = page.locator("table.state"), page.get_by_role("status")
        assert "paid" in await state.inner_text()
        await page.get_by_label("Time in the log").focus()
        await page.keyboard.press("ArrowLeft")
        await status.get_by_text("Reserved, event 2 of 3").wait_for()
        await expect(state).to_contain_text("placed")
        await page.wait_for_url("**/stories/Order/o-1?as_of=2")
        slider = page.get_by_label("Time in the log")
        await expect(slider).to_have_attribute("aria-valuetext", "Reserved, event 2 of 3")
        await page.keyboard.press("ArrowLeft")
        await page.wait_for_url("**?as_of=1")
        await page.keyboard.press("Home")
        await page.wait_for_url("**?as_of=0")
        await expect(state).to_contain_text("new")
        await page.keyboard.press("ArrowRight")
        await page.wait_for_url("**?as_of=1")
        await page.reload()
        await status.get_by_text("Placed, event 1 of 3").wait_for()
        await expect(slider).to_have_value("1")
        # A step of the timeline moves the slider, without loading the page anew.
        await page.evaluate("() => { document.body.dataset.same = 'yes' }")
        await page.locator(".timeline").get_by_role("link", name="Paid", exact=True).click()
        await page.wait_for_url("**?as_of=4")
        await status.get_by_text("Paid, event 3 of 3").wait_for()
        await expect(slider).to_have_value("3")
        assert await page.evaluate("() => document.body.dataset.same") == "yes"


async def test_without_scripts_links_do_the_same_and_a_phone_is_wide_enough(browser: Browser) -> None:
    app, pages_of = console()
    async with served(pages_of) as client:
        await app.record(Placed("o-1", "c"), Reserved("o-1", 7), occurred_at=NOON)
        await app.record(Paid("o-1"), occurred_at=NOON - HOUR)
        page = await browser.open(client.base_url, phone=True, java_script_enabled=False)
        await page.goto("/console/stories")
        await page.get_by_label("Order: order_id").fill("o-1")
        await page.get_by_role("row", name="Order").get_by_role("button").click()
        await page.locator(".timeline").get_by_role("link", name="Placed").click()
        await expect(page.get_by_role("status")).to_contain_text("Placed, event 1 of 3")
        assert page.url.endswith("as_of=1")
        await page.get_by_role("link", name="As it happened").click()
        await expect(page.locator(".timeline .go")).to_have_text(["Before all", "Paid", "Placed", "Reserved"])
        page = await browser.open(client.base_url, phone=True)
        await page.goto("/console/stories/Order/o-1")
        assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
