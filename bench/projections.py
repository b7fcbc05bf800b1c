"""Projections: eventsourcing's runner beside ours, how late a watcher is, and what a parked key costs the others."""

import asyncio
import itertools
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import peers
from bench.measure import Options, Target, compare, console
from bench.orders import Added, Order, Placed, customer_of, open_app, order_id
from bench.reads import BATCH, fill
from refold import App
from refold.store.sqlite import SqliteStore

WATCHED = 50
"""Events a second, while a watcher looks on."""


async def runner(options: Options) -> None:
    """Keep the orders of a log in rows, from the beginning: our projection, and eventsourcing's projection runner.

    Theirs has its log in memory, and writes each event's row and tracking in one transaction of SQLite, as it asks for.
    """
    count, theirs = options.size(100_000, of=BATCH), options.size(400)
    path = options.folder / "runner.db"
    store = await SqliteStore.open(path)
    await fill(store, count)
    await store.close()
    copies = itertools.count()

    async def refold() -> float:
        fresh = Path(shutil.copy(path, options.folder / f"runner-{next(copies)}.db"))
        with fresh.open("rb") as file:
            os.fsync(file)
        async with open_app(fresh, projections=[Order]) as app:
            start = time.perf_counter()
            await app.wait(count, Order, timeout=None)
            return count / (time.perf_counter() - start)

    peer: Callable[[], Any] | None = None
    if peers.Application is not None:

        async def es() -> float:
            return await asyncio.to_thread(peers.project, options.folder / f"runner-es-{next(copies)}.db", theirs)

        peer = es
    await compare(
        "A projection catches up, with its runner",
        "events",
        {"refold": refold, "eventsourcing": peer},
        [Target("refold", "eventsourcing", 5)],
        rounds=options.rounds,
    )


async def watch(options: Options) -> None:
    """How long after it was acknowledged an event is seen by who watches the view, at 50 a second."""
    seconds = options.size(20)
    for name, patience in (("in the same process", 0.0), ("in an app that keeps nothing up", 0.02)):
        late: list[float] = []
        acknowledged: dict[int, float] = {}
        path = options.folder / f"watch-{patience}.db"
        async with open_app(path, projections=[Order]) as app:
            await app.settle()
            other = app.passive() if patience else None
            if other is not None:
                await other.__aenter__()
            watching = asyncio.create_task(_watch(other or app, late, acknowledged))
            await asyncio.sleep(0.1)
            for number in range(seconds * WATCHED):
                order = order_id(number % 100 + 1)
                at = await app.record(Added(order, customer_of(1), "sku-0001", 1, 100))
                acknowledged[at] = time.perf_counter()
                await asyncio.sleep(1 / WATCHED)
            await asyncio.sleep(0.2)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            if other is not None:
                await other.__aexit__(None, None, None)
        cuts = statistics.quantiles(late, n=100)
        console.print(
            f"A change is seen {name}: median {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms after it was "
            f"acknowledged (target < 50 ms; {len(late):,} changes)"
        )


async def _watch(app: App, late: list[float], acknowledged: dict[int, float]) -> None:
    async for change in app.view(Order).watch():
        seen = time.perf_counter()
        # It may be seen before its writer has been told; then it is not late at all.
        late.append(max(seen - acknowledged.get(change.position, seen), 0.0))


async def parked(options: Options) -> None:
    """Catch up with one key parked from the beginning, and with none."""
    count = options.size(50_000, of=BATCH)
    path = options.folder / "parked.db"
    store = await SqliteStore.open(path)
    await fill(store, count)
    await store.close()
    copies = itertools.count()
    evolve = Order.evolve

    def run(broken: str) -> Callable[[], Any]:
        def shaky(self: Order, event: Placed | Added) -> Order:
            if self.order_id == broken:
                raise ValueError(broken)
            return evolve(self, event)

        async def once() -> float:
            fresh = Path(shutil.copy(path, options.folder / f"parked-{next(copies)}.db"))
            with fresh.open("rb") as file:
                os.fsync(file)
            Order.evolve = shaky  # type: ignore[method-assign, assignment]
            try:
                async with open_app(fresh, projections=[Order]) as app:
                    start = time.perf_counter()
                    await app.wait(count, Order, timeout=None)
                    return count / (time.perf_counter() - start)
            finally:
                Order.evolve = evolve  # type: ignore[method-assign]

        return once

    await compare(
        "A projection catches up, with a parked key",
        "events",
        {"one key parked": run(order_id(1)), "none": run("")},
        [Target("one key parked", "none", 0.9)],
        rounds=options.rounds,
    )


CASES: list[Callable[[Options], object]] = [runner, watch, parked]
