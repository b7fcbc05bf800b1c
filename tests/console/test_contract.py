"""The contract in the console: the page of `refold contract docs`, with what the log knows, and its files."""

import httpx
import pytest

from examples.shop.main import make_selling
from refold import App, Event
from refold.console import Console
from refold.http import Api
from tests.http.serving import served
from tests.http.shop import shop


async def test_it_tells_of_every_event_who_emits_and_follows_it_and_when_it_was_seen() -> None:
    async with served(Console(Api(shop("memory:")))) as client:
        before = (await client.get("/console/contract/")).text
        assert before.count(">never<") == 2
        await client.post("/commands/ReceiveStock", json={"sku": "tea", "quantity": 1})
        page = (await client.get("/console/contract")).headers["location"]
        text = (await client.get(page)).text
        assert text.count(">never<") == 1
        assert 'href="/console/log/1"' in text
        assert 'id="event-StockReceived.v1"' in text
        assert 'href="#event-StockReceived.v1"' in text
        assert "<svg" in text, "markup that we made is shown as such"
        assert "&lt;article" not in text


async def test_its_links_lead_somewhere() -> None:
    async with served(Console(Api(make_selling("memory:")))) as client:
        text = (await client.get("/console/contract/")).text
        found = {part.partition('"')[0] for part in text.split('href="')[1:]}
        for link in found:
            if link.startswith("#"):
                assert f'id="{link[1:]}"' in text, link
            elif "/log/" not in link:
                url = httpx.URL(f"{client.base_url}/console/contract/").join(link)
                assert (await client.get(url, follow_redirects=True)).status_code == 200, link
        script = await client.get("/console/contract/diagram.js")
        assert script.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("path", ["index.html", "nothing.json", "../page.py", "page.py", "page.js", "%2e%2e/page.css"])
async def test_only_documents_are_given(path: str) -> None:
    async with served(Console(Api(shop("memory:")))) as client:
        assert (await client.get(f"/console/contract/{path}")).status_code == 404


async def test_what_people_write_is_no_markup() -> None:
    class Placed(Event):
        """<script>alert(1)</script>."""

        note: str = "<img src=x onerror=alert(1)>"

    async with served(Console(Api(App("memory:", events=Placed, name="<b>shop")))) as client:
        text = (await client.get("/console/contract/")).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "<b>shop" not in text
