"""Views over HTTP: filtered, ordered, in pages, searched, as they were, and watched."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from refold.http import Access, Api, Keys
from refold.http.tokens import create
from refold.runtime import travel
from tests.http.serving import problem, sent, served
from tests.http.shop import PlaceOrder, ReceiveStock, shop

NAMES = ("green tea", "black tea", "coffee", "cocoa", "green pepper")


@asynccontextmanager
async def stocked(tmp_path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    async with served(shop(f"sqlite:///{tmp_path}/log.db")) as client:
        for number, name in enumerate(NAMES, 1):
            body = {"sku": f"p-{number}", "quantity": number, "name": name}
            await client.post("/commands/ReceiveStock", json=body)
        yield client


async def found(client: httpx.AsyncClient, **asked: str) -> list[str]:
    answer = await client.get("/views/Stock", params={"at_least": "5", **asked})
    assert answer.status_code == 200, answer.text
    return [row["sku"] for row in answer.json()["rows"]]


async def test_rows_are_found_by_their_fields(tmp_path: Path) -> None:
    async with stocked(tmp_path) as client:
        assert await found(client) == ["p-1", "p-2", "p-3", "p-4", "p-5"]
        assert await found(client, sku="p-2") == ["p-2"]
        assert await found(client, available__ge="3", available__lt="5") == ["p-3", "p-4"]
        assert await found(client, sku__in="p-1,p-5", order="-available") == ["p-5", "p-1"]
        assert await found(client, where=json.dumps({"sku__in": ["p-1", "p-2"], "available__ne": 1})) == ["p-2"]
        assert await found(client, as_of="2") == ["p-1", "p-2"]


async def test_rows_come_in_pages(tmp_path: Path) -> None:
    async with stocked(tmp_path) as client:
        asked, pages = {"at_least": "5", "order": "-available", "limit": "2", "count": "true"}, []
        while True:
            page = (await client.get("/views/Stock", params=asked)).json()
            assert page["count"] == 5
            pages.append([row["sku"] for row in page["rows"]])
            if page["next"] is None:
                break
            asked["offset"] = str(page["next"])
        assert pages == [["p-5", "p-4"], ["p-3", "p-2"], ["p-1"]]


async def test_rows_are_searched(tmp_path: Path) -> None:
    async with stocked(tmp_path) as client:
        hits = (await client.get("/views/Stock", params={"search": "green", "at_least": "5"})).json()["found"]
        assert {hit["row"]["sku"] for hit in hits} == {"p-1", "p-5"}
        assert hits[0]["highlights"]["name"][0] == ["green", True]


async def test_a_row_is_got_by_its_key(tmp_path: Path) -> None:
    async with stocked(tmp_path) as client:
        row = await client.get("/views/Stock/rows/p-3", params={"at_least": "5"})
        assert row.json() == {"sku": "p-3", "available": 3, "name": "coffee"}
        problem(await client.get("/views/Stock/rows/p-9"), 404, "NOT_FOUND")
        problem(await client.get("/views/Stock/rows/p-3/x"), 400, "INVALID_QUERY")
        assert (await client.get("/views/Sales/rows", params={"at_least": "5"})).status_code == 404  # none was placed


@pytest.mark.parametrize(
    "asked",
    [
        "colour=red",
        "available=many",
        "order=colour",
        "limit=-1",
        "limit=x",
        "as_of=soon",
        "where=x",
        "where=%5B%5D",
        "count=maybe",
        "available__like=1",
        "at_least=1e3",
        "offset=-1",
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(tmp_path: Path, asked: str) -> None:
    async with served(shop(f"sqlite:///{tmp_path}/log.db")) as client:
        problem(await client.get(f"/views/Stock?{asked}"), 400, "INVALID_QUERY")


async def test_a_position_that_nobody_has_written_is_not_waited_for(tmp_path: Path) -> None:
    async with stocked(tmp_path) as client:
        problem(await client.get("/views/Stock?at_least=6"), 409, "POSITION_AHEAD")
        problem(await client.get("/views/Stock/watch?after=6"), 409, "POSITION_AHEAD")
        problem(await client.get("/views/Stock/watch", headers={"Last-Event-ID": "6"}), 409, "POSITION_AHEAD")


async def test_who_watches_sees_what_changes_and_misses_nothing_when_it_comes_back(tmp_path: Path) -> None:
    async with stocked(tmp_path) as client:
        seen: dict[str, int] = {}
        last = None
        async with asyncio.timeout(60):
            for wanted in (2, 5):
                headers = {} if last is None else {"Last-Event-ID": last}
                async with client.stream("GET", "/views/Stock/watch?after=0", headers=headers) as response:
                    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
                    async for event in sent(response):
                        last = event["id"]
                        if event["event"] == "change":
                            seen[event["data"]["key"][0]] = event["data"]["row"]["available"]
                        if len(seen) >= wanted:
                            break
        assert seen == {f"p-{number}": number for number in range(1, 6)}


class Slow:
    """Holds up whatever is made anew from the log, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = self.stopped = 0
        self.go = asyncio.Event()
        fold: Any = vars(vars(travel)["_Built"])["_fold"]

        async def slowly(*given: Any) -> None:
            self.begun += 1
            try:
                await self.go.wait()
            finally:
                self.stopped += 1
            await fold(*given)

        monkeypatch.setattr("refold.runtime.travel._Built._fold", slowly)


async def test_one_who_asks_for_many_views_of_the_past_holds_up_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, keys = Slow(monkeypatch), tmp_path / "keys.json"
    ann, bob = ({"Authorization": f"Bearer {create(keys, name, 'reader')}"} for name in ("ann", "bob"))
    app = shop(f"sqlite:///{tmp_path}/log.db")
    api = Api(app, Access(Keys(keys)))
    async with served(api) as client, asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        await app.execute(ReceiveStock("p-1", 1))
        await app.execute(PlaceOrder("o-1", "p-1", 1))

        def ask(who: dict[str, str], path: str) -> asyncio.Task[httpx.Response]:
            return tasks.create_task(client.get(path, headers=who))

        allowed = [ask(ann, f"/views/Order?as_of={position}") for position in (1, 2)]
        while vars(api)["_building"]["ann"] < len(allowed):
            await asyncio.sleep(0.01)
        refused = await ask(ann, "/views/Order?as_of=2")
        problem(refused, 429, "TOO_MANY")
        assert refused.headers["retry-after"] == "1"
        for path in ("/views/Stock?as_of=1", "/views/Order/rows/o-1?as_of=2", "/views/Order"):
            assert (await ask(ann, path)).status_code == 200, "what is kept, or soon folded, is not held up"
        waits = ask(bob, "/views/Order?as_of=2")
        while not vars(api)["_building"]["bob"]:
            await asyncio.sleep(0.01)
        slow.go.set()
        assert [(await each).status_code for each in (*allowed, waits)] == [200, 200, 200]
        assert (await ask(ann, "/views/Order?as_of=2")).status_code == 200, "they may again"


async def test_what_nobody_waits_for_any_more_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    app = shop(f"sqlite:///{tmp_path}/log.db")
    async with served(app) as client, asyncio.timeout(20):
        await app.execute(ReceiveStock("p-1", 1))
        asked = asyncio.create_task(client.get("/views/Order?as_of=1"))
        while not slow.begun:
            await asyncio.sleep(0.01)
        asked.cancel()
        while not slow.stopped:
            await asyncio.sleep(0.01)
        slow.go.set()
        assert (await client.get("/views/Order?as_of=1")).status_code == 200
