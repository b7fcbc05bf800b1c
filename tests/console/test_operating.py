"""Operating an app in a real browser: rebuilding under load, mending and skipping what is parked, giving up a key."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from playwright.async_api import Page, expect

from refold import App, Event, InvalidQuery, Projection, Row, Rows, Tag
from refold.console import Console
from refold.http import Access, Api, Keys
from refold.http.access import Role
from refold.http.tokens import create
from refold.runtime import subscription
from refold.runtime.books import PARKED, Parked
from refold.runtime.groups import group_of
from refold.view.api import Put
from tests.cli import billing
from tests.console.browsing import Browser, enter
from tests.http.serving import served
from tests.runtime.clicks import BROKEN, Clicked, Failing, clicks

HOSTILE = "<img src=/x onerror=alert(1)>'\"&"
ADDRESS = "tests.cli.clicking:app"


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    for each in (BROKEN, billing.BROKEN, billing.SENT, vars(billing.BUS)["_topics"]):
        each.clear()


class Sold(Event):
    sku: Annotated[str, Tag("product")]


class Sales(Row):
    sku: str
    count: int = 0


class Pace:
    """How long each event takes: as much as one needs to see a projection being built."""

    seconds = 0.0


class SlowSales(Projection):
    """Takes its time."""

    rows = (Sales,)

    async def apply(self, event: Sold, rows: Rows) -> None:
        await asyncio.sleep(Pace.seconds)
        row = await rows.get(Sales, event.sku) or Sales(event.sku)
        rows.put(row.replace(count=row.count + 1))


@asynccontextmanager
async def come_in(
    browser: Browser, app: App, tmp_path: Path, to: str, role: Role = "operator", **options: Any
) -> AsyncGenerator[Page]:
    """Serve an app with its console, and let ann in."""
    token = create(tmp_path / "keys.json", "ann", role)
    async with served(Console(Api(app, Access(Keys(tmp_path / "keys.json"))), address=ADDRESS)) as client:
        page = await browser.open(client.base_url, **options)
        await enter(page, token, to)
        yield page


async def noticed(page: Page, text: str) -> None:
    """Wait until the page says this of what was asked of it last."""
    await expect(page.get_by_role("status")).to_have_text(text)


async def acts(app: App) -> list[tuple[str, str, str | None, str]]:
    found = await app.operations.audit()
    return [(each.acted.action, each.acted.about, each.acted.actor, each.acted.reason) for each in found]


async def test_a_projection_is_rebuilt_under_load_switched_to_and_rolled_back(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BATCH", "LEAST_BATCH"):  # so that it is written down in several steps how far it is
        monkeypatch.setattr(subscription, name, 50)
    app = App(f"sqlite:///{tmp_path}/log.db", events=Sold, projections=[SlowSales])
    sold, wrong, closed = 0, list[str](), asyncio.Event()

    async def sell() -> None:
        nonlocal sold
        while not closed.is_set():
            at = await app.record(Sold("tea"))
            sold += 1
            if sold % 20 == 0:  # and readers find what they wrote, all the while
                row = await app.view(Sales).get("tea", at_least=at)
                if row is None or row.count < sold:
                    wrong.append(f"{row} after {sold} were sold")
            await asyncio.sleep(0.01)

    async with come_in(browser, app, tmp_path, "projections") as page:
        await app.record(*(Sold(f"p-{n % 50}") for n in range(1500)))
        selling = asyncio.create_task(sell())
        try:
            await page.get_by_role("link", name="SlowSales").click()
            [before] = await app.operations.versions("SlowSales")
            await app.wait(await app.head())
            monkeypatch.setattr(Pace, "seconds", 0.02)
            await page.get_by_label("Hold it").check()
            await page.get_by_role("button", name="Rebuild").click()
            await noticed(page, "SlowSales is being rebuilt; what is read stays")
            bar = page.get_by_role("progressbar", name="How far the rebuild is")
            seen: list[float] = []
            while not any(0 < each < 1 for each in seen):
                seen.append(await bar.evaluate("bar => bar.value / bar.max"))
                await page.wait_for_timeout(50)
            monkeypatch.setattr(Pace, "seconds", 0.0)
            started = sold
            table = page.get_by_role("region", name="Versions")
            await table.get_by_text("held", exact=True).wait_for()
            await page.get_by_text("rows that were compared are the same").wait_for()
            assert sold > started, "orders kept coming"
            await table.get_by_role("link", name="Compare").click()
            await page.get_by_role("heading", name="SlowSales, compared").wait_for()
            await page.get_by_role("button", name="Switch to it").click()
            await expect(page.get_by_role("status")).to_contain_text("SlowSales is read as of version")
            after = next(each.version for each in await app.operations.versions("SlowSales") if each.status == "active")
            assert after != before.version
            await noticed(page, f"SlowSales is read as of version {after} now")
            await page.get_by_role("button", name="Roll back").click()
            await noticed(page, f"SlowSales is read as of version {before.version} again")
            await table.get_by_role("row").filter(has_text=after).get_by_role("link", name="Drop").click()
            browser.expect("400 (Bad Request)")
            await page.get_by_label("To confirm").fill("something else")
            await page.get_by_role("button", name="Drop it").click()
            await expect(page.get_by_role("alert")).to_contain_text("nothing was done")
            await page.get_by_label("To confirm").fill(after)
            await page.get_by_role("button", name="Drop it").click()
            await noticed(page, f"version {after} of SlowSales is gone")
        finally:
            closed.set()
            await selling
        assert not wrong
        await app.settle()
        assert await app.view(Sales).get("tea") == Sales("tea", sold)
        await page.get_by_role("link", name="Audit").click()
        cells = page.get_by_role("region", name="What operators did").locator("tbody .badge")
        await expect(cells).to_have_text(["drop", "rollback", "switch", "rebuild"])
        assert {each[2] for each in await acts(app)} == {"ann"}


async def test_what_is_parked_appears_is_looked_at_mended_and_tried_again(browser: Browser, tmp_path: Path) -> None:
    app = clicks(f"sqlite:///{tmp_path}/log.db")
    BROKEN.add(HOSTILE)
    async with come_in(browser, app, tmp_path, "parked") as page:
        await page.get_by_text("Nothing is parked").wait_for()
        await app.record(Failing(HOSTILE, 7), Clicked(HOSTILE), Clicked("fine"))
        await page.get_by_role("heading", name="Clicks: 1 failed, 1 behind").wait_for()  # without asking for it
        await page.get_by_role("link", name="1", exact=True).click()
        for text in (f"{HOSTILE} is broken", "Traceback", "raise ValueError", '"times": 7', "The event"):
            await expect(page.locator("main")).to_contain_text(text)
        await page.get_by_role("button", name="Retry").click()
        await noticed(page, "1 tried again; 1 still fail")
        BROKEN.clear()
        await page.get_by_role("button", name="Retry it").click()
        await noticed(page, "1 tried again and done")
        await page.get_by_text("Nothing is parked").wait_for()
        assert [each[:3] for each in await acts(app)] == [("retry", "Clicks", "ann")] * 2


async def test_a_group_is_skipped_with_a_reason_that_is_not_lost_while_it_is_typed(
    browser: Browser, tmp_path: Path
) -> None:
    app = clicks(f"sqlite:///{tmp_path}/log.db")
    for each in ("a", "b"):
        BROKEN.add(each)
    async with come_in(browser, app, tmp_path, "parked", phone=True) as page:
        await app.record(Failing("a"), Failing("b"), Clicked("b"))
        await page.get_by_role("heading", name="Clicks: 2 failed, 1 behind").wait_for()
        command = await page.locator(".card .shell code").inner_text()
        [group] = {each.split("=")[1] for each in command.split() if each.startswith("--group=")}
        assert command == f"refold parked retry {ADDRESS} --group={group}"
        await page.locator(".card .row.apart").get_by_role("link", name="Skip").click()
        await page.get_by_label("Why?").fill("   ")
        await page.get_by_role("button", name="Skip all 2").click()
        await expect(page.get_by_role("alert")).to_have_text("Say why; nothing was done.")
        await page.get_by_label("Why?").fill(f"a bad import {HOSTILE}")
        await page.wait_for_timeout(2_500)  # longer than a page waits until it looks for news
        assert await page.get_by_label("Why?").input_value() == f"a bad import {HOSTILE}"
        await page.get_by_role("button", name="Skip all 2").click()
        await noticed(page, "2 skipped; the reason is kept")
        await page.get_by_role("link", name="What was skipped").click()
        await expect(page.get_by_text(f"a bad import {HOSTILE}")).to_have_count(2)
        assert await acts(app) == [("skip", "Clicks", "ann", f"a bad import {HOSTILE}")]
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, "it fits on a phone"


@pytest.mark.parametrize("workers", ["0000000641000000", "65", "0", "9" * 5_000, "-1", "two", ""])
async def test_no_more_workers_are_begun_than_there_may_be(workers: str) -> None:
    app = clicks("memory:")
    async with served(Console(Api(app))) as client:
        own = {"Sec-Fetch-Site": "same-origin"}
        await client.post("/console/projections/Clicks/rebuild", data={"workers": workers}, headers=own)
        assert await app.operations.audit() == []
        with pytest.raises(InvalidQuery, match="there may be 1 to 64"):
            await app.operations.begin_rebuild("Clicks", workers=641_000_000)


async def test_a_page_looks_at_so_many_that_are_parked_and_once_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    app, asked = clicks("memory:"), list[Parked]()

    def counted(row: Parked) -> str:
        asked.append(row)
        return group_of(row)

    monkeypatch.setattr("refold.runtime.groups.group_of", counted)
    async with served(Console(Api(app))) as client:
        now = datetime.now(UTC)
        kinds = [f"{'x' * at}Error()" for at in range(100)]
        rows = [Parked("Clicks@v1", at, f'["page:{at}"]', "Failing", now, now, kind) for at, kind in enumerate(kinds)]
        await vars(app)["_running"].books[0].write(Put(PARKED, rows))
        text = (await client.get("/console/parked")).text
        assert asked == rows
        assert "<strong>100</strong> failed in 100 ways, 0 wait behind them." in text
        assert text.count('<section class="card bad"') == 30
        assert "70 more ways are not shown" in text
        monkeypatch.setattr("refold.console.parked.READ", 40)
        text = (await client.get("/console/parked?of=Clicks")).text
        assert "<strong>40</strong> failed in 40 ways" in text
        assert "These are the first 40 that are parked; there are more." in text


async def test_a_process_that_is_stuck_is_resumed_and_given_up(browser: Browser, tmp_path: Path) -> None:
    app = billing.app(f"sqlite:///{tmp_path}/log.db")
    billing.BROKEN.add("o-2")
    async with come_in(browser, app, tmp_path, "processes") as page:
        await app.record(billing.OrderPlaced("o-1"), billing.OrderPlaced("o-2"))
        rows = page.get_by_role("region", name="What is waited for").locator("tbody tr")
        await rows.filter(has_text="o-2 is broken").wait_for()
        assert "Remind" in await rows.filter(has_text="order:o-1").inner_text()
        assert "stuck" in await rows.first.inner_text(), "what is stuck comes first"
        await page.get_by_role("button", name="Resume").click()
        await noticed(page, "1 tried again; 1 still fail")
        await rows.filter(has_text="order:o-2").get_by_role("link", name="Give up").click()
        await page.get_by_label("Why?").fill("the customer called")
        await page.get_by_role("button", name="Give up").click()
        await noticed(page, "dun has given up 1 for order:o-2; the reason is kept")
        assert [each.key for each in await app.operations.waiting("dun")] == ["order:o-1"]
        await page.get_by_label("Of").select_option("mail")
        await page.get_by_role("button", name="Show").click()
        await page.get_by_text("There is nothing left to do").wait_for()


async def test_a_reader_sees_the_pages_but_no_words_of_failures_and_no_buttons(
    browser: Browser, tmp_path: Path
) -> None:
    app = clicks(f"sqlite:///{tmp_path}/log.db")
    BROKEN.add("a")
    async with come_in(browser, app, tmp_path, "parked", "reader") as page:
        await app.record(Failing("a"))
        await page.get_by_role("heading", name="Clicks: 1 failed").wait_for()
        [parked] = await app.operations.parked()
        with suppress(Exception):
            await app.operations.rebuild("Clicks")
        at = f"parked/at/{parked.position}"
        for path in ("", "parked", at, "projections", "projections/Clicks", "processes", "audit"):
            await page.goto(f"/console/{path}")
            main = page.locator("main")
            assert "is broken" not in await main.inner_text(), path
            labels = await main.get_by_role("button").all_inner_texts()
            assert set(labels) <= {"Copy", "Show"}, path
        browser.expect("403 (Forbidden)")
        await page.evaluate(
            """() => { const form = document.createElement("form"); form.method = "post";
            form.action = "/console/parked/retry"; document.body.append(form); form.submit(); }"""
        )
        await page.wait_for_url("**/parked/retry")
        await expect(page.locator("main")).to_contain_text("this takes operator")
        assert [each[0] for each in await acts(app)] == ["rebuild"]
