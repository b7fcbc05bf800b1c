"""Growing: memory while two million events are appended, read and projected, and what an append and a load cost then.

It takes minutes, so it runs only when it is named: `python -m bench growth`.
"""

import random
import resource
import shutil
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

from rich.table import Table

from bench.measure import Options, Run, Target, compare, console, missed
from bench.orders import EVENTS_OF_ORDER, Feed, Order, open_app, order_id
from refold import App
from refold.store.sqlite import SqliteStore

SMALL, LARGE = 200_000, 2_000_000
BATCH = 1_000
UNUSED = 10_000_000
"""The first order that comes after all others."""
FLAT = 1.25
"""How much more memory counts as flat: what is remembered is bounded, but not all of it is full at the beginning."""


async def growth(options: Options) -> None:
    """Fill a log, read and project it; note the memory; go on to ten times as much; compare the two."""
    small, middle, large = (options.size(each, of=BATCH) for each in (SMALL, LARGE // 2, LARGE))
    path = options.folder / "large.db"
    feed = Feed()
    table = Table("events", "appended/s", "read/s", "projected/s", "peak memory", "file", title="Growing")
    peaks: list[float] = []
    for first, last in ((0, small), (small, middle), (middle, large)):
        appended, read, projected = await _grow(path, feed, first, last)
        peaks.append(_peak())
        size = path.stat().st_size / 1e6
        figures = [f"{each:,.0f}" for each in (last, appended, read, projected)]
        table.add_row(*figures, f"{peaks[-1]:,.0f} MB", f"{size:,.0f} MB")
        if last == small:
            shutil.copy(path, options.folder / "small.db")
    console.print(table)
    met = peaks[-1] <= FLAT * peaks[0]
    verdict = "[green]yes" if met else "[red]no"
    console.print(f"memory: {peaks[-1] / peaks[0]:.2f} times as much, flat is <= {FLAT}: {verdict}\n")
    if not met:
        missed.append(f"Growing: peak memory is {peaks[-1] / peaks[0]:.2f} times as much, to be {FLAT}")
    await _compare(options, small, large)


async def _grow(path: Path, feed: Feed, first: int, last: int) -> tuple[float, float, float]:
    """Append up to `last` events, read them all, and project those that are new; return the rates."""
    store = await SqliteStore.open(path)
    start = time.perf_counter()
    for _ in range(first, last, BATCH):
        await store.append(feed.take(BATCH))
    appended = (last - first) / (time.perf_counter() - start)
    start = time.perf_counter()
    read = 0
    async for page in store.read():
        read += len(page)
    assert read == last
    reading = read / (time.perf_counter() - start)
    await store.close()
    async with open_app(path, projections=[Order]) as app:
        start = time.perf_counter()
        await app.wait(last, timeout=None)
        projected = (last - first) / (time.perf_counter() - start)
    return appended, reading, projected


async def _compare(options: Options, small: int, large: int) -> None:
    """Append to the two files and load from them by turns."""
    count = options.size(1_000)
    dice = random.Random(3)
    async with AsyncExitStack() as exits:
        stores = [await SqliteStore.open(options.folder / name) for name in ("small.db", "large.db")]
        for store in stores:
            exits.push_async_callback(store.close)
        apps = [await exits.enter_async_context(open_app(store, hot_states=0)) for store in stores]

        def appends(store: SqliteStore) -> Run:
            feed = Feed(UNUSED)

            async def run() -> float:
                new = feed.take(count)
                start = time.perf_counter()
                for event in new:
                    await store.append([event])
                return count / (time.perf_counter() - start)

            return run

        def loads(app: App, events: int) -> Run:
            async def run() -> float:
                numbers = dice.choices(range(1, events // EVENTS_OF_ORDER + 1), k=count)
                start = time.perf_counter()
                for number in numbers:
                    assert (await app.load(Order(order_id(number)))).lines == EVENTS_OF_ORDER - 1
                return count / (time.perf_counter() - start)

            return run

        at_small, at_large = f"at {small:,} events", f"at {large:,} events"
        target = [Target(at_large, at_small, 1 / 1.5)]
        sides = {at_small: appends(stores[0]), at_large: appends(stores[1])}
        await compare("Appending one at a time", "appends", sides, target, rounds=options.rounds)
        sides = {at_small: loads(apps[0], small), at_large: loads(apps[1], large)}
        await compare("Loading a state of five events, cold", "loads", sides, target, rounds=options.rounds)


def _peak() -> float:
    """Return the most memory that this process has ever held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
