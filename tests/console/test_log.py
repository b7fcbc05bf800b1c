"""The pages of the log: what they show, to whom, and that nothing in an event is more than text."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.async_api import expect

from refold.console import Console
from refold.console import log as pages
from refold.http import Access, Api, Keys
from refold.http.tokens import create, revoke
from refold.runtime import index
from tests.console.browsing import Browser
from tests.http.serving import sent, served
from tests.http.shop import OrderPlaced, ReceiveStock, StockReceived, shop

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
OWN = {"Sec-Fetch-Site": "same-origin"}


def console(path: Path, keys: Path | None = None, **options: Any) -> Console:
    app = shop(f"sqlite:///{path}/log.db", **{"projections": [], **options})
    return Console(Api(app, Access(Keys(keys)) if keys else None), address="shop.main:app")


def positions(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [int(each) for each in re.findall(r'class="position" href="[^"]*">(\d+)</a>', answer.text)]


def link(answer: httpx.Response, title: str) -> str:
    [found] = re.findall(rf'href="([^"]*)"[^>]*>{title}</a>', answer.text)
    return str(found).replace("&amp;", "&")


async def test_pages_lead_to_the_beginning_and_back(tmp_path: Path) -> None:
    made = console(tmp_path)
    async with served(made) as client:
        await made.api.app.record(*(StockReceived(f"s-{n % 2}", n) for n in range(1, 121)))
        newest = await client.get("/console/log")
        assert positions(newest) == [*range(120, 70, -1)]
        assert "data-live=" in newest.text
        older = await client.get(link(newest, "Older"))
        assert positions(older) == [*range(70, 20, -1)]
        assert "data-live=" not in older.text
        oldest = await client.get(link(older, "Older"))
        assert positions(oldest) == [*range(20, 0, -1)]
        assert "Older</a>" not in oldest.text
        assert positions(await client.get(link(oldest, "Newer"))) == [*range(70, 20, -1)]
        some = await client.get("/console/log?tags=product:s-1&types=StockReceived&text=s&before=100")
        assert positions(some) == [*range(99, 0, -2)]
        assert positions(await client.get("/console/log?text=7&types=&tags=&since=&until=")) == [7]
        now = datetime.now(UTC)
        late = (now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
        assert positions(await client.get(f"/console/log?since={late}")) == []
        assert positions(await client.get(f"/console/log?until={late}&limit=3"))[0] == 120
        wrong = await client.get("/console/log?since=yesterday")
        assert (wrong.status_code, "write a time" in wrong.text) == (400, True)
        assert (
            "refold log search --tag=product:s-1 -- tea"
            in (await client.get("/console/log?tags=product:s-1&text=tea")).text
        )


async def test_without_an_index_a_page_says_how_far_it_has_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "LOOK_SECONDS", -1.0)
    made = console(tmp_path)
    async with served(made) as client:
        await made.api.app.record(*(StockReceived("tea", n) for n in range(1, 701)))
        answer = await client.get("/console/log?text=1")
        assert "were looked through in the time for one page" in answer.text
        while "Older</a>" in answer.text:
            answer = await client.get(link(answer, "Older"))
        assert positions(answer)[-1] == 1


async def test_an_event_is_shown_whole(tmp_path: Path) -> None:
    made = console(tmp_path)
    app = made.api.app
    async with served(made) as client:
        await app.record(StockReceived("tea", 5))
        at = await app.record(
            OrderPlaced("o/1", "tea", 2),
            actor="ann",
            correlation_id="story 1",
            occurred_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
            extra={"till": "north"},
        )
        await app.execute(ReceiveStock("tea", 1))
        page = await client.get(f"/console/log/{at}")
        for text in (
            "OrderPlaced", "2026-03-01 12:00:00", "ann", "read as it is", "&#34;quantity&#34;: 2", "&#34;till&#34;: ",
            '"/console/log?tags=order%3Ao%2F1"', '"/console/log?text=story+1"', f'"/console/causes/{at}"',
        ):  # fmt: skip
            assert text in page.text, text
        assert (link(page, "Earlier"), link(page, "Later")) == (f"/console/log/{at - 1}", f"/console/log/{at + 1}")
        for missing in ("0", "99", "x", "9" * 30, "-1"):
            assert (await client.get(f"/console/log/{missing}")).status_code == 404
        stranger = {"type": "Others", "data": {"a": 1}, "tags": []}
        await client.post("/log/events", json={"events": [stranger, {"type": "Raw", "data_base64": "/wA="}]})
        page = await client.get(f"/console/log/{at + 2}")
        assert "this program cannot read it" in page.text
        assert "b&#39;\\xff\\x00&#39;" in (await client.get(f"/console/log/{at + 3}")).text


async def test_whatever_an_event_holds_is_text(tmp_path: Path) -> None:
    made = console(tmp_path)
    async with served(made) as client:
        evil = {"type": EVIL, "tags": [EVIL], "data": {EVIL: EVIL}, "metadata": {"actor": EVIL, "extra": {EVIL: EVIL}}}
        evil["metadata"] |= {"correlation_id": EVIL, "causation_id": EVIL, "event_id": EVIL}  # type: ignore[operator]
        await client.post("/log/events", json={"events": [evil]})
        told = quote(EVIL, safe="")
        for path in (
            "log",
            "log/1",
            "search?text=script",
            f"log?text={told}&types={told}&tags={told}",
            f"search?text={told}",
        ):
            answer = await client.get(f"/console/{path}")
            assert answer.status_code == 200
            assert "<script>alert" not in answer.text, path
            assert "<img src=x" not in answer.text, path
            assert "&lt;script&gt;" in answer.text, path


async def test_rows_stop_coming_when_the_key_is_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refold.http.tokens.LOOK_SECONDS", -1)
    monkeypatch.setattr("refold.http.stream.LOOK_SECONDS", 0)
    keys = tmp_path / "keys.json"
    ann = create(keys, "ann", "reader")
    made = console(tmp_path, keys)
    async with served(made) as client, asyncio.timeout(60):
        await client.post("/console/login", data={"key": ann}, headers=OWN)
        await made.api.app.record(StockReceived("tea", 1))
        async with client.stream("GET", "/console/log/live?after=0") as stream:
            rows = sent(stream)
            assert "tea" in (await anext(rows))["text"]
            revoke(keys, "ann")
            await made.api.app.record(StockReceived("gold", 2))
            assert [each async for each in rows] == []


async def test_nobody_sees_what_a_key_hides(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    boss, ann = create(keys, "boss", "admin"), create(keys, "ann", "reader", tags=["product:tea"])
    made = console(tmp_path, keys)
    async with served(made) as client:
        await made.api.app.record(StockReceived("tea", 1), StockReceived("gold", 2), StockReceived("tea", 3))
        await client.post("/console/login", data={"key": ann}, headers=OWN)
        assert positions(await client.get("/console/log")) == [3, 1]
        assert positions(await client.get("/console/log?tags=product:gold")) == []
        assert positions(await client.get("/console/log?text=gold")) == []
        assert (await client.get("/console/log/2")).status_code == 403
        assert "gold" not in (await client.get("/console/log/2")).text
        assert "/console/log/2" not in (await client.get("/console/log/1")).text
        for text in ("2", "product:gold", "gold"):
            page = await client.get(f"/console/search?text={text}")
            assert "/console/log/2" not in page.text
            assert "/console/log?tags=product%3Agold" not in page.text
        async with client.stream("GET", "/console/log/live?after=0") as stream:
            async for each in sent(stream):
                if "product%3Atea" in str(each["data"]):
                    assert "product%3Agold" not in str(each["data"])
                    break
        await client.post("/console/login", data={"key": boss}, headers=OWN)
        assert positions(await client.get("/console/log")) == [3, 2, 1]


async def test_a_search_leads_to_positions_tags_names_and_events(tmp_path: Path) -> None:
    made = console(tmp_path, index=True)
    async with served(made) as client:
        await made.api.app.record(StockReceived("tea", 7), correlation_id="story-9")
        await made.api.app.settle()
        for text, found in (
            ("1", "Position 1"),
            ("product:tea", '/console/log?tags=product%3Atea">product:tea'),
            ("stockrec", '/console/log?types=StockReceived">StockReceived'),
            ("overview", '/console/">Overview'),
            ("story-9", 'href="/console/log/1"'),
            ("te*", 'href="/console/log/1"'),
            ("nowhere", "No event holds this"),
            ("***", "no word to search for"),
        ):
            assert found in (await client.get("/console/search", params={"text": text})).text, text
        assert (await client.get("/console/search")).status_code == 200
        places = (await client.get("/console/palette")).json()
        assert {"title": "Log", "kind": "page", "url": "/console/log"} in places
        assert {"title": "OrderPlaced", "kind": "event type", "url": "/console/log?types=OrderPlaced"} in places


async def test_the_stream_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_BEHIND", 5)
    made = console(tmp_path)
    async with served(made) as client:
        await made.api.app.record(*(StockReceived("tea", n) for n in range(1, 11)))

        async def first(count: int, params: dict[str, str], **headers: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            async with client.stream("GET", "/console/log/live", params=params, headers=headers) as stream:
                async for each in sent(stream):
                    found.append(each)
                    if len(found) == count:
                        break
            return found

        [rows] = await first(1, {"after": "8"})
        assert re.findall(r'/console/log/(\d+)"', rows["data"]) == ["10", "9"]
        assert rows["id"] == "10"
        [rows] = await first(1, {"after": "1"}, **{"Last-Event-ID": "9"})
        assert re.findall(r'/console/log/(\d+)"', rows["data"]) == ["10"]
        gap, rows = await first(2, {"after": "2"})
        assert (gap["event"], gap["id"]) == ("gap", "5")
        assert "Positions 3 to 5" in gap["data"]
        [gap] = await first(1, {"after": "2", "tags": "product:tea", "text": "tea"})
        shown = await client.get(link(httpx.Response(200, text=gap["data"]), "look at them"))
        assert 'value="product:tea"' in shown.text
        assert positions(shown) == [5, 4, 3, 2, 1]
        assert re.findall(r'/console/log/(\d+)"', rows["data"]) == ["10", "9", "8", "7", "6"]
        [rows] = await first(1, {"after": "5", "text": "7"})
        assert re.findall(r'/console/log/(\d+)"', rows["data"]) == ["7"]


async def test_events_come_in_live_and_a_pause_keeps_the_place(browser: Browser, tmp_path: Path) -> None:
    made = console(tmp_path)
    app = made.api.app
    async with served(made) as client:
        await app.record(*(StockReceived("tea", n) for n in range(1, 31)))
        page = await browser.open(client.base_url)
        await page.goto("/console/log")
        rows = page.locator("table.events tbody tr")
        await page.get_by_text("Live", exact=True).wait_for()
        await app.record(StockReceived(EVIL, 31))
        await rows.nth(30).wait_for()
        assert await rows.first.locator(".position").inner_text() == "31"
        assert EVIL in (await rows.first.inner_text()).replace("\\", "")
        await page.get_by_role("button", name="Pause").press("Enter")
        await page.get_by_text("Paused", exact=True).wait_for()
        await app.record(StockReceived("tea", 32), StockReceived("tea", 33))
        assert await rows.count() == 31
        await page.get_by_role("button", name="Go on").press("Enter")
        await page.locator(".position", has_text="33").wait_for()
        numbers = [int(each) for each in await page.locator("tbody .position").all_inner_texts()]
        assert numbers == [*range(33, 0, -1)], "none is missed, and none comes twice"
        await app.record(*(StockReceived("tea", n) for n in range(248)))
        await page.locator(".position", has_text="281").wait_for()
        assert await rows.count() == 200, "no more rows than a page can bear"
        numbers = [int(each) for each in await page.locator("tbody .position").all_inner_texts()]
        assert numbers == [*range(281, 81, -1)]
        await page.goto("about:blank")


async def test_everything_is_found_without_a_mouse(browser: Browser, tmp_path: Path) -> None:
    made = console(tmp_path)
    async with served(made) as client:
        await made.api.app.record(StockReceived("tea", 1), StockReceived("gold", 2))
        page = await browser.open(client.base_url)
        await page.goto("/console/")
        await page.keyboard.press("/")
        await page.keyboard.type("gold")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Found for").wait_for()
        await expect(page.locator(".position")).to_have_text(["2"])
        await page.wait_for_load_state()  # its scripts come after what it shows
        await page.keyboard.press("Control+k")
        await page.get_by_role("option", name="Overview").wait_for()
        await page.keyboard.type("stockrec")
        await expect(page.get_by_role("option")).to_have_count(2)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/console/log?types=StockReceived")
        await page.keyboard.press("Control+k")
        await page.keyboard.type("2")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/console/log/2")
        await page.keyboard.press("Control+k")
        await page.get_by_role("option", name="Overview").wait_for()  # the first is chosen anew when the list comes
        await page.keyboard.type("product:tea")
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("ArrowUp")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/console/log?tags=product%3Atea")
        await page.keyboard.press("Control+k")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).not_to_be_visible()
        await page.goto("about:blank")
