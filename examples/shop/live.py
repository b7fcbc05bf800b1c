"""Changing a view of a shop that goes on selling: built beside the old one, compared, switched to, and back."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from random import Random
from time import perf_counter

from msgspec import Struct
from rich.table import Table

from examples.shop.next import CategorySummary as Next
from examples.shop.next import make_next_app
from examples.shop.orders import CancelOrder, Item, PlaceOrder
from examples.shop.views import CatalogueEntry, CategorySummary
from examples.terminal import amount, console, made, progress
from refold import App, Rejected
from refold.runtime.rebuild import Progress

ORDERS_A_SECOND = 50
READ_SECONDS = 0.01
AROUND_SECONDS = 1.0
"""How long the shop goes on before the change, and after each step."""


class Seen(Struct):
    """What a screen saw that was read all the while."""

    reads: int = 0
    errors: int = 0
    empty: int = 0
    mixed: int = 0
    """Reads that gave rows of both definitions."""
    slowest: float = 0.0
    """Seconds."""
    bases: dict[str, int] = {}
    """How many reads gave rows of a definition."""


async def change(app: App, store: str) -> Seen:
    """Change how categories are summed up, while orders come in and a screen is read; tell what happens."""
    seen = Seen()
    ordered = 0

    async def sell() -> None:
        nonlocal ordered
        random = Random(f"live {await app.head()}")  # noqa: S311 - repeatable, not secret
        skus = [row.sku for row in await app.view(CatalogueEntry).find(limit=500)]
        while True:
            order = f"live-{random.getrandbits(64):016x}"
            price, freight = (Decimal(random.randrange(100, 20_000)) / 100 for _ in range(2))
            await app.execute(
                PlaceOrder(order, f"live-{ordered % 97}", (Item(random.choice(skus), 1, price, freight),))
            )
            ordered += 1
            if random.random() < 0.1:
                with suppress(Rejected):
                    await app.execute(CancelOrder(order))
            await asyncio.sleep(1 / ORDERS_A_SECOND)

    tasks = [asyncio.create_task(sell()), asyncio.create_task(read(app, seen))]
    try:
        await asyncio.sleep(AROUND_SECONDS)
        await _change(app, store)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    console.print(
        f"Meanwhile {ordered:,} orders came in, and the screen was read {seen.reads:,} times: {seen.errors} errors, "
        f"{seen.empty} empty, {seen.mixed} with rows of both definitions, the slowest in {seen.slowest * 1000:.0f} ms. "
        + ", ".join(f"{count:,} reads {basis}" for basis, count in seen.bases.items())
    )
    return seen


async def read(app: App, seen: Seen) -> None:
    """Read the screen again and again, and note what it shows."""
    while True:
        start = perf_counter()
        try:
            rows = await app.view(CategorySummary).find(order="-revenue", limit=10)
        except Exception:
            seen.errors += 1
        else:
            bases = {row.basis for row in rows}
            seen.empty += not rows
            seen.mixed += len(bases) > 1
            for basis in bases:
                seen.bases[basis] = seen.bases.get(basis, 0) + 1
        seen.reads += 1
        seen.slowest = max(seen.slowest, perf_counter() - start)
        await asyncio.sleep(READ_SECONDS)


async def _change(app: App, store: str) -> None:
    async with make_next_app(store).passive() as passive:
        with progress("Building beside it", await app.head()) as advance:
            tell = _steps(advance)
            version = await passive.operations.rebuild("CategorySummary", hold=True, tell=tell)
        found = version.comparison
        assert found is not None
        console.print(
            f"Built as version {version.version}, and compared: {found.old_rows} rows before, {found.new_rows} now, "
            f"{found.different} different. For example:"
        )
        for line in found.sample[:3]:
            console.print(f"  {line}", style="dim", markup=False, soft_wrap=True)
        await passive.operations.switch("CategorySummary", version.version)
    async with make_next_app(store) as after:  # the new program, beside the old one
        console.print(await top(after, "Switched, in one step"))
        await asyncio.sleep(AROUND_SECONDS)
        await after.operations.rollback("CategorySummary")
        await asyncio.sleep(AROUND_SECONDS)
        console.print(await top(after, "And back: the old program has kept its version up"))
    await app.operations.drop("CategorySummary", version.version)


def _steps(advance: Callable[[int], None]) -> Callable[[Progress], None]:
    done = 0

    def tell(at: Progress) -> None:
        nonlocal done
        advance(max(at.done - done, 0))
        done = max(at.done, done)

    return tell


async def top(app: App, title: str) -> Table:
    table = made(title, "category", "basis", "-units", "-ordered")
    for row in await app.view(Next).find(order="-revenue", limit=3):
        table.add_row(row.category, row.basis, f"{row.units:,}", amount(row.revenue))
    return table
