"""The runtime: executing commands, and projections that catch up."""

import asyncio
import itertools
import os
import random
import shutil
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from bench import peers, raw
from bench.measure import Options, Run, Target, compare
from bench.orders import EVENTS_OF_ORDER, NOTE, Add, Order, open_app, order_id
from bench.reads import BATCH, fill
from refold import App
from refold.store.sqlite import SqliteStore

CALLERS = 64


async def execute(options: Options) -> None:
    """Load an order of five events or a few more, decide, append durably: from 64 tasks.

    eventsourcing does the same in one thread, its fastest way: with 64 it reaches three quarters of that. Each side
    comes twice, with a memory of what it has loaded and without.
    """
    orders = options.size(10_000, of=BATCH)
    each = options.size(100)
    saves = options.size(1_000)
    path = options.folder / "execute.db"
    store = await SqliteStore.open(path)
    await fill(store, orders * EVENTS_OF_ORDER)
    await store.close()
    shutil.copy(path, cold_path := options.folder / "execute-cold.db")
    dice = random.Random(2)

    def commands(app: App) -> Run:
        async def run() -> float:
            async def caller(numbers: list[int]) -> None:
                for number in numbers:
                    await app.execute(Add(order_id(number), "sku-0001", 1, 100, NOTE))

            shares = [dice.choices(range(1, orders + 1), k=each) for _ in range(CALLERS)]
            start = time.perf_counter()
            await asyncio.gather(*map(caller, shares))
            return CALLERS * each / (time.perf_counter() - start)

        return run

    def load_and_save(peer: peers.Eventsourcing | None) -> Run | None:
        async def run() -> float:
            numbers = dice.choices(range(1, orders + 1), k=saves)
            start = time.perf_counter()
            for number in numbers:
                peer.add(number)
            return saves / (time.perf_counter() - start)

        if peer is None:
            return None
        peer.fill(orders)
        return run

    async with AsyncExitStack() as exits:
        hot = await exits.enter_async_context(open_app(path, hot_states=orders))
        cold = await exits.enter_async_context(open_app(cold_path, hot_states=0))
        folder = options.folder
        es_hot = exits.enter_context(peers.eventsourcing(folder / "execute-es-hot.db", cached=True))
        es_cold = exits.enter_context(peers.eventsourcing(folder / "execute-es.db"))
        await compare(
            "64 commands at once: load, decide, append",
            "commands",
            {
                "refold": commands(hot),
                "refold, nothing hot": commands(cold),
                "eventsourcing, cached": load_and_save(es_hot),
                "eventsourcing": load_and_save(es_cold),
            },
            [
                Target("refold", "eventsourcing, cached", 4),
                Target("refold", "eventsourcing", 4),
                Target("refold, nothing hot", "eventsourcing", 4),
            ],
            rounds=options.rounds,
        )


async def rows(options: Options) -> None:
    """Decide the same commands on orders that are kept as rows, and as events, from 64 tasks."""
    orders = options.size(10_000, of=BATCH)
    each = options.size(100)
    path = options.folder / "rows.db"
    store = await SqliteStore.open(path)
    await fill(store, orders * EVENTS_OF_ORDER)
    await store.close()
    shutil.copy(path, of_events := options.folder / "events.db")
    async with open_app(path, rows=[Order]).passive() as app:
        assert await app.operations.fill_rows("Order") == orders
    dice = random.Random(2)

    def commands(app: App) -> Run:
        async def run() -> float:
            async def caller(numbers: list[int]) -> None:
                for number in numbers:
                    await app.execute(Add(order_id(number), "sku-0001", 1, 100, NOTE))

            shares = [dice.choices(range(1, orders + 1), k=each) for _ in range(CALLERS)]
            start = time.perf_counter()
            await asyncio.gather(*map(caller, shares))
            return CALLERS * each / (time.perf_counter() - start)

        return run

    async with AsyncExitStack() as exits:
        kept = await exits.enter_async_context(open_app(path, rows=[Order]))
        hot = await exits.enter_async_context(open_app(of_events, hot_states=orders))
        await compare(
            "64 commands at once, on rows and on events",
            "commands",
            {"rows": commands(kept), "events": commands(hot)},
            [Target("rows", "events", 0.5)],
            rounds=options.rounds,
        )
        assert await kept.operations.differences("Order", limit=1) == []


async def catch_up(options: Options) -> None:
    """Keep the orders of a log in rows, from the beginning, on a fresh copy each time."""
    count = options.size(100_000, of=BATCH)
    path = options.folder / "catch-up.db"
    store = await SqliteStore.open(path)
    await fill(store, count)
    await store.close()
    copies = itertools.count()

    def copy() -> Path:
        fresh = Path(shutil.copy(path, options.folder / f"catch-up-{next(copies)}.db"))
        with fresh.open("rb") as file:
            os.fsync(file)  # or the first commits would wait for it
        return fresh

    async def refold() -> float:
        fresh = copy()
        async with open_app(fresh, projections=[Order]) as app:
            start = time.perf_counter()
            await app.wait(count, Order, timeout=None)
            seconds = time.perf_counter() - start
            assert await app.view(Order).count() == count // EVENTS_OF_ORDER
        _remove(fresh)
        return count / seconds

    async def by_hand() -> float:
        fresh = copy()
        start = time.perf_counter()
        read = raw.project(fresh, "orders")
        seconds = time.perf_counter() - start
        assert read == count
        _remove(fresh)
        return count / seconds

    await compare(
        "A projection catches up, into rows",
        "events",
        {"refold": refold, "raw loop": by_hand},
        [Target("refold", "raw loop", 0.5)],
        rounds=options.rounds,
    )


def _remove(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


CASES: list[Callable[[Options], object]] = [execute, rows, catch_up]
