"""Looking at views: searching, watching, and views in a database of their own."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Self

import pytest

from refold import App, Change, Event, InvalidQuery, Searched, State, Tag, kept
from refold.testing.postgres import PostgresServer
from tests.conftest import Log
from tests.runtime.clicks import Busy, BusyPages, Clicked, Clicks, Failing, clicks

Sku = Annotated[str, Tag("product")]

ON_POSTGRES = True


class Listed(Event):
    sku: Sku
    name: str
    price: int = 0


class Product(State):
    sku: Sku
    name: Annotated[str, Searched(weight=2)] = ""
    price: int = 0

    def evolve(self, event: Listed) -> Self:
        return self.replace(name=event.name, price=event.price)


@pytest.mark.parametrize("history", [False, True])
async def test_a_search_shows_what_was_found_where(log: Log, history: bool) -> None:
    async with App(log, events=Listed, projections=[kept(Product, history=history)]) as app:
        at = await app.record(Listed("1", "Green tea", 5), Listed("2", "Café crème", 3), Listed("1", "Green Teapot", 9))
        view = app.view(Product)
        [found] = await view.search("tea*", at_least=at)
        assert found.row == Product("1", "Green Teapot", 9)
        assert found.highlights == {"name": [("Green ", False), ("Teapot", True)]}
        assert [each.row.sku for each in await view.search("CREME cafe")] == ["2"]
        assert await view.search("tea* green", where={"price__lt": 9}) == []
        assert await view.search("green tea") == [], "it is no tea any more"
        with pytest.raises(InvalidQuery, match="Product has no field 'size'"):
            await view.search("tea", where={"size": 1})


async def test_what_no_row_could_hold_is_refused_and_pages_may_be_of_any_size(log: Log) -> None:
    async with App(log, events=Listed, projections=[Product]) as app:
        at = await app.record(Listed("1", "Green tea", 5))
        view = app.view(Product)
        with pytest.raises(InvalidQuery, match=r"is no value of Product.sku, which takes str"):
            await view.get("\udcff")
        assert await view.find(limit=2**70, at_least=at) == [Product("1", "Green tea", 5)]
        assert await view.find(offset=2**70) == []


async def watched(view: Any, count: int, found: list[Change[Any]] | None = None, **options: Any) -> list[Change[Any]]:
    found = [] if found is None else found
    async for change in view.watch(**options):
        found.append(change)
        if len(found) == count:
            break
    return found


async def test_watching_gives_the_rows_that_change(log: Log) -> None:
    async with clicks(log) as app:
        at = await app.record(Clicked("before"))
        found: list[Change[Any]] = []
        watching = asyncio.create_task(watched(app.view(Clicks), 3, found, after=at))
        for page, times in (("a", 1), ("b", 2), ("a", 4)):
            at = await app.record(Clicked(page, times))
            while not found or found[-1].position < at:  # several at once would be told at the last one's position
                await asyncio.sleep(0.01)
        assert await watching == [
            Change(2, ("a",), Clicks("a", 1)),
            Change(3, ("b",), Clicks("b", 2)),
            Change(4, ("a",), Clicks("a", 5)),
        ]
        again = await watched(app.view(Clicks), 2, after=2)
        assert [change.key for change in again] == [("b",), ("a",)], "from a position on, nothing is missed"


async def test_who_watches_some_rows_is_told_of_those_that_leave_them(log: Log) -> None:
    async with clicks(log) as app:
        few, many = list[Change[Any]](), list[Change[Any]]()
        watching = [
            asyncio.create_task(watched(app.view(Clicks), 2, few, where={"clicks__lt": 5}, after=0)),
            asyncio.create_task(watched(app.view(Clicks), 2, many, where={"clicks__ge": 5}, after=0)),
        ]
        for times in (1, 4):
            at = await app.record(Clicked("a", times))
            while any(not found or found[-1].position < at for found in (few, many)):
                await asyncio.sleep(0.01)
        await asyncio.gather(*watching)
        assert few == [Change(1, ("a",), Clicks("a", 1)), Change(2, ("a",), None)]
        assert many == [Change(1, ("a",), None), Change(2, ("a",), Clicks("a", 5))]


async def test_a_projection_with_tables_says_that_something_has_changed(log: Log) -> None:
    async with clicks(log, BusyPages) as app:
        watching = asyncio.create_task(watched(app.view(Busy), 1, after=0))
        at = await app.record(Clicked("a", 3))
        assert await watching == [Change(at, (), None)]
        assert await app.view(Busy).get("a") == Busy("a", 3), "it is there when it is said"


async def test_a_change_is_seen_in_an_app_that_keeps_nothing_up(log: Log) -> None:
    async with clicks(log) as app:
        await app.record(Clicked("before"))
        await app.settle()
        async with clicks(log).passive() as other:
            watching = asyncio.create_task(watched(other.view(Clicks), 1))
            while not watching.done():  # it watches from now on, whenever that is
                await app.record(Clicked("a"))
                await asyncio.sleep(0.01)
            [change] = await watching
            assert change.key == ("a",)


async def test_a_view_in_a_database_of_its_own(tmp_path: Path) -> None:
    log, other = f"sqlite:///{tmp_path}/log.db", f"sqlite:///{tmp_path}/views.db"
    projections = [kept(Clicks, database=other), BusyPages]
    for times in range(1, 4):
        async with clicks(log, *projections) as app:
            at = await app.record(Clicked("a"), Failing("b"))
            assert await app.view(Clicks).get("a", at_least=at) == Clicks("a", times)
            assert await app.view(Busy).get("a", at_least=at) == Busy("a", times)
            await app.settle()
            assert {each.name for each in await app.operations.standing()} == {"Clicks", "BusyPages"}
    async with clicks(other) as app:
        assert await app.head() == 0, "its checkpoint and rows are there, and no events"


WORKER = """
import asyncio, sys
from refold import kept
from tests.runtime.clicks import Clicked, Clicks, clicks

async def main(url):
    async with clicks(url, kept(Clicks, parts=4)) as app:
        print("up", flush=True)
        sys.stdin.readline()
        for number in range(50):
            await app.record(Clicked(f"p-{number % 9}"))
        await app.settle()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_parts_are_shared_by_processes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == "up\n"
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=100)
        assert worker.returncode == 0
    async with clicks(url, kept(Clicks, parts=4)) as app:
        await app.settle()
        assert sum(row.clicks for row in await app.view(Clicks).find()) == 100


async def test_a_log_in_a_file_and_a_view_in_postgresql(tmp_path: Path, postgres: PostgresServer) -> None:
    log, other = f"sqlite:///{tmp_path}/log.db", postgres.url(f"look{tmp_path.name[-12:]}".replace("-", "_"))
    for times in range(1, 3):
        async with clicks(log, kept(Clicks, database=other, history=True), BusyPages) as app:
            at = await app.record(Clicked("a"), Clicked("b", 3))
            assert await app.view(Clicks).get("a", at_least=at) == Clicks("a", times)
            assert await app.view(Clicks).get("a", as_of=1) == Clicks("a", 1)
            assert await app.view(Busy).get("b", at_least=at) == Busy("b", 3 * times)
