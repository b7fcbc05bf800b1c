"""The shop's screens: paging, search, the queue, the list as it was; and changing one of them while the shop sells."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from examples.replay import replay
from examples.shop import live
from examples.shop.__main__ import main
from examples.shop.data import OPENING, SPAN, stages
from examples.shop.main import make_app
from examples.shop.next import CategorySummary as Next
from examples.shop.next import make_next_app
from examples.shop.orders import OPEN, OrderPlaced
from examples.shop.sample import made_up
from examples.shop.views import CatalogueEntry, CategorySummary, OrderSummary, Queue, Queued, QueueLength
from refold import App


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shop.db"


@pytest.fixture
async def app(url: str) -> AsyncIterator[App]:
    async with make_app(url) as app:
        await replay(app, stages(made_up(120)), span=SPAN, opening=OPENING)
        await app.settle()
        yield app


async def test_pages_of_the_list_show_every_order_once(app: App) -> None:
    view = app.view(OrderSummary)
    whole = await view.find(order="-total")
    pages = [row for page in range(40) for row in await view.find(order="-total", limit=7, offset=page * 7)]
    assert pages == whole
    shipped = await view.find({"status": "delivered", "total__ge": Decimal(100)}, order="placed_at")
    assert shipped == sorted(
        [row for row in whole if row.status == "delivered" and row.total >= 100],
        key=lambda row: (row.placed_at, row.order_id),
    )


async def test_the_list_as_it_was_is_what_the_log_gives(app: App, url: str) -> None:
    """From the history that is kept; folded from the log for the question; and order by order."""
    head = await app.head()
    async with make_app(url, projections=[OrderSummary]).passive() as plain:
        for position in (0, 1, head // 3, head - 1, head):
            kept = await app.view(OrderSummary).find(as_of=position)
            assert await plain.view(OrderSummary).find(as_of=position) == kept
            for row in kept[::20]:
                assert await plain.view(OrderSummary).get(row.order_id, as_of=position) == row


async def test_the_catalogue_is_searched_by_words(app: App) -> None:
    sold: Counter[str] = Counter()
    async for recorded in app.events(OrderPlaced):
        for line in recorded.event.lines:
            sold[line.sku] += line.quantity
    some = (await app.view(CatalogueEntry).find(order="-units", limit=1))[0]
    assert some.units == sold[some.sku]
    word = some.words.split()[0]
    hits = await app.view(CatalogueEntry).search(f"{word[:4]}*", limit=10_000)
    expected = {row.sku for row in await app.view(CatalogueEntry).find() if f" {row.words}".find(f" {word[:4]}") >= 0}
    assert {hit.row.sku for hit in hits} == expected


async def test_the_queue_holds_what_is_open_and_counts_it(app: App) -> None:
    await app.wait(await app.head(), Queue)
    orders = {row.order_id: row for row in await app.view(OrderSummary).find({"status__in": OPEN})}
    queued = {row.order_id: row for row in await app.view(Queued).find()}
    assert {key: (row.status, row.items, row.since) for key, row in queued.items()} == {
        key: (row.status, row.items, row.placed_at) for key, row in orders.items()
    }
    lengths = {row.status: row.orders for row in await app.view(QueueLength).find() if row.orders}
    assert lengths == Counter(row.status for row in queued.values())


async def test_a_view_changes_while_the_shop_sells(app: App, url: str) -> None:
    seen = await live.change(app, url)
    assert (seen.errors, seen.empty, seen.mixed) == (0, 0, 0)
    assert set(seen.bases) == {"without freight", "with freight"}
    await app.settle()
    [version] = await app.operations.versions("CategorySummary")
    assert version.status == "active"
    before = await app.view(CategorySummary).find()
    async with make_next_app(url) as after:
        await after.settle()
        for old, new in zip(before, await after.view(Next).find(), strict=True):
            assert (old.category, old.orders, old.units) == (new.category, new.orders, new.units)
            assert old.revenue < new.revenue


async def test_every_screen_can_be_asked_for(url: str, app: App) -> None:
    for command in (
        ["orders", "--limit", "3", "--page", "2", "--order=-total", "--as-of", "50"],
        ["orders", "--status", "delivered", "--min-total", "10", "--since", "2017-01-01", "--customer", "c-1"],
        ["search", "*"],
        ["queue"],
        ["stock"],
        ["dashboard"],
    ):
        # In a thread, so that the app goes on meanwhile.
        result = await asyncio.to_thread(CliRunner().invoke, main, [*command, "--store", url])
        assert result.exit_code == 0, result.output
