"""The overview: the figures of the app itself, what is wrong with it, and nothing that is not for who looks."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from refold import App
from refold.console import Console
from refold.console.charts import line
from refold.http import Access, Api, Keys
from refold.http.access import Role
from refold.http.operations import WITHHELD
from refold.http.tokens import create
from refold.runtime import pulse
from refold.runtime.diagnose import RULES, Seen
from refold.runtime.pulse import Pulse
from refold.runtime.standing import NOBODY
from refold.runtime.waiting import Pending
from refold.store.memory import MemoryStore
from tests.console.browsing import Browser
from tests.http.serving import served
from tests.http.shop import shop
from tests.runtime.clicks import BROKEN, Clicked, Failing, clicks

CODES = [each.id for each in RULES]
HOSTILE = "<script>window.__xss=1</script>"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pulse, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.1)
    yield
    BROKEN.clear()


def console(app: App, keys: Path | None = None) -> Console:
    return Console(Api(app, Access(Keys(keys)) if keys else None), address="shop.main:app")


def tile(text: str, label: str) -> str:
    found = re.search(rf'class="label">{label}</span><span class="figure">([^<]*)<', text)
    assert found, f"there is no tile {label}"
    return found[1]


async def test_the_figures_are_those_of_the_app() -> None:
    app = clicks("memory:")
    async with served(console(app)) as client:
        await app.record(Clicked("a"), Clicked("b"), Clicked(HOSTILE))
        await app.settle()
        text = (await client.get("/console/")).text
    assert tile(text, "Head of the log") == "3"
    assert tile(text, "Health") == "Healthy"
    assert tile(text, "Parked") == "0"
    assert "caught up" in text
    assert "&lt;script&gt;" in text
    assert HOSTILE not in text
    assert "What needs attention" not in text


async def test_what_is_wrong_is_said_with_what_to_do() -> None:
    BROKEN.add("a")
    app = clicks("memory:")
    async with served(console(app)) as client:
        await app.record(Failing("a"))
        await app.settle(parked=True)
        text = (await client.get("/console/")).text
    assert tile(text, "Health") == "1 warning"
    assert tile(text, "Parked") == "1"
    assert "Events of Clicks are parked" in text
    assert "refold parked list shop.main:app --of Clicks" in text


async def test_a_log_that_cannot_be_read_is_told_as_such() -> None:
    app = clicks(MemoryStore())
    async with served(console(app)) as client:
        await client.get("/console/")
        await app.log.close()
        answer = await client.get("/console/")
    assert answer.status_code == 200
    assert tile(answer.text, "Health") == "1 critical"
    assert "LOG_UNREADABLE" in answer.text
    assert "Latest events" in answer.text


async def test_charts_are_given_what_was_looked_at() -> None:
    app = clicks("memory:")
    async with served(console(app)) as client:
        found = (await client.get("/console/overview/data")).json()
        for _ in range(4):
            before = len(found["at"])
            await app.record(*(Clicked("a") for _ in range(500)))
            while len(found["at"]) == before:
                await asyncio.sleep(0.01)
                found = (await client.get("/console/overview/data")).json()
        text = (await client.get("/console/")).text
    assert len(found["at"]) == len(found["rate"]) == len(found["behind"]["Clicks"]) > 2
    assert found["rate"][0] is None
    assert max(each for each in found["rate"] if each is not None) > 100
    assert all(earlier < later for earlier, later in zip(found["at"], found["at"][1:], strict=False))
    assert len(re.findall(r'<polyline points="[\d., -]+"/>', text)) >= 2, "without a script, too"


async def test_who_sees_a_part_only_sees_no_figures_of_the_whole(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    token = create(keys, "me", "reader", tags=["product:tea"])
    app = shop("memory:")
    async with served(console(app, keys)) as client:
        from tests.http.shop import StockReceived

        await app.record(StockReceived("tea", 1), StockReceived("rum", 1))
        await client.post("/console/login", data={"key": token}, headers={"Sec-Fetch-Site": "same-origin"})
        text = (await client.get("/console/")).text
        refused = await client.get("/console/overview/data")
    assert "product:tea" in text
    assert "product:rum" not in text
    assert "Projections and processes" not in text
    assert refused.status_code == 403


@pytest.mark.parametrize("role", ["reader", "writer", "operator"])
async def test_who_is_no_operator_sees_what_is_wrong_but_no_words_of_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    keys, app, said = tmp_path / "keys.json", clicks("memory:"), "the password is geheim"
    token = create(keys, "me", role)
    async with served(console(app, keys)) as client:
        await app.record(Clicked("a"))
        await app.settle()
        [clicking] = await app.operations.standing()
        broken = replace(clicking, trouble=said)
        bare = replace(broken, name="Bare", owner="", trouble=f"{NOBODY}: start the app", seconds_behind=9.0)
        standing = (broken, replace(broken, name="Ended"), bare)
        wrong = Seen(standing, {"Ended": f"{said}, twice"}, (Pending("dun", 3, 2, f"{said}, thrice"),))

        async def beat(_: Pulse) -> Seen:
            return wrong

        monkeypatch.setattr(Pulse, "beat", beat)
        await client.post("/console/login", data={"key": token}, headers={"Sec-Fetch-Site": "same-origin"})
        text = (await client.get("/console/")).text
    assert ("geheim" in text) == (role == "operator")
    assert (WITHHELD in text) == (role != "operator")
    assert {each for each in CODES if each in text} == {"STOPPED", "STALLED", "OVERDUE", "NOT_RUN"}
    assert f"{NOBODY}: start the app" in text, "which no program has said"


async def test_the_page_keeps_up_in_a_browser(browser: Browser) -> None:
    app = clicks("memory:")
    async with served(console(app)) as client:
        page = await browser.open(client.base_url)
        await page.goto("/console/")
        await page.wait_for_selector("[data-chart] canvas")
        await app.record(Clicked("a"), Clicked("b"))
        await page.locator("#figures .tile", has_text=re.compile(r"Head of the log\s*2\s*positions")).wait_for()
        await page.locator("#latest tbody tr").nth(1).wait_for()
        await page.click("[data-theme-switch]")
        await page.wait_for_timeout(2500)  # drawn again in other colours
        assert await page.locator("[data-chart] canvas").count() == 1
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_on_a_phone_nothing_sticks_out(browser: Browser) -> None:
    BROKEN.add("a")
    app = clicks("memory:")
    async with served(console(app)) as client:
        await app.record(Failing("a"), Clicked("b" * 300))
        await app.settle(parked=True)
        page = await browser.open(client.base_url, phone=True)
        await page.goto("/console/")
        await page.wait_for_selector("[data-chart] canvas")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], ""),
        ([(100.0, 0.0)], "120.0,27.0"),
        ([(90.0, 5.0), (100.0, 10.0)], "0.0,14.0 120.0,1.0"),
        ([(1.0, 99.0), (100.0, 10.0)], "120.0,1.0"),
    ],
)
def test_lines_are_numbers_in_their_box(points: list[tuple[float, float]], expected: str) -> None:
    assert line(points, 100.0, 10.0) == expected


def test_many_points_become_few_of_the_same_mean() -> None:
    given: list[Any] = [(float(at), float(at % 2)) for at in range(1, 301)]
    found = [tuple(map(float, each.split(","))) for each in line(given, 300.0, 300.0, top=1.0).split()]
    assert len(found) == 60
    assert all(0 <= x <= 120 and 1 <= y <= 27 for x, y in found)
