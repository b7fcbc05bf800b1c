"""Appending durably: one at a time, many callers at once with and without conditions, large batches."""

import asyncio
import time
from collections.abc import Callable

from bench import peers
from bench.measure import Options, Run, Target, compare
from bench.orders import Feed
from bench.raw import RawLog
from refold import AppendCondition, NewEvent, Query
from refold.store.sqlite import SqliteStore

CALLERS = 64
BATCH = 1_000


async def single(options: Options) -> None:
    """Append one event with two tags, wait until it is on disk, append the next."""
    count = options.size(1_000)
    folder = options.folder
    raw = RawLog(folder / "single-raw.db")
    store = await SqliteStore.open(folder / "single.db")
    feed, raw_feed, uma_feed = Feed(), Feed(), Feed()
    with peers.uma(folder / "single-uma") as uma:

        async def refold() -> float:
            new = feed.take(count)
            start = time.perf_counter()
            for event in new:
                await store.append([event])
            return count / (time.perf_counter() - start)

        async def by_hand() -> float:
            new = [raw.rows([event]) for event in raw_feed.take(count)]
            start = time.perf_counter()
            for rows in new:
                raw.append(rows)
            return count / (time.perf_counter() - start)

        def umadb(peer: peers.Uma) -> Run:
            async def run() -> float:
                new = [peer.event(event) for event in uma_feed.take(count)]
                start = time.perf_counter()
                for event in new:
                    peer.client.append([event])
                return count / (time.perf_counter() - start)

            return run

        await compare(
            "One durable append at a time",
            "appends",
            {"refold": refold, "raw loop": by_hand, "umadb": umadb(uma) if uma else None},
            [Target("refold", "raw loop", 0.7), Target("refold", "umadb", 2)],
            rounds=options.rounds,
        )
    await store.close()


async def concurrent(options: Options) -> None:
    """Append one event with two tags from each of 64 tasks or threads, again and again."""
    await _concurrent(options, "64 at once, one event each", conditional=False, least=3)


async def conditional(options: Options) -> None:
    """The same, each append on condition that nothing has come with its order's tag since its own last one."""
    await _concurrent(options, "64 at once, each under a condition", conditional=True, least=2.5)


async def _concurrent(options: Options, title: str, *, conditional: bool, least: float) -> None:
    each = options.size(125)
    name = "conditional" if conditional else "concurrent"
    store = await SqliteStore.open(options.folder / f"{name}.db")
    feed, uma_feed = Feed(), Feed()
    with peers.uma(options.folder / f"{name}-uma") as uma:

        async def refold() -> float:
            shares = _shares(feed, each)

            async def caller(share: list[NewEvent]) -> None:
                last: dict[str, int] = {}
                for event in share:
                    order = event.tags[0]
                    condition = AppendCondition(Query.of(tags=order), last.get(order, 0)) if conditional else None
                    last[order] = (await store.append([event], condition)).last

            start = time.perf_counter()
            await asyncio.gather(*map(caller, shares))
            return CALLERS * each / (time.perf_counter() - start)

        def umadb(peer: peers.Uma) -> Run:
            async def run() -> float:
                shares = [[(event.tags[0], peer.event(event)) for event in share] for share in _shares(uma_feed, each)]

                def caller(number: int) -> None:
                    last: dict[str, int] = {}
                    for order, event in shares[number]:
                        condition = peer.unless(peer.query(order), last.get(order)) if conditional else None
                        last[order] = peer.client.append([event], condition)

                return CALLERS * each / peers.in_threads(CALLERS, caller)

            return run

        await compare(
            title,
            "appends",
            {"refold": refold, "umadb": umadb(uma) if uma else None},
            [Target("refold", "umadb", least)],
            rounds=options.rounds,
        )
    await store.close()


def _shares(feed: Feed, each: int) -> list[list[NewEvent]]:
    """Deal out events, each order's to one caller."""
    shares: dict[int, list[NewEvent]] = {number: [] for number in range(CALLERS)}
    for event in feed.take(CALLERS * each):
        shares[int(event.tags[0].rpartition("-")[2]) % CALLERS].append(event)
    return list(shares.values())


async def batches(options: Options) -> None:
    """Append a thousand events with two tags each at a time."""
    count = options.size(20_000, of=BATCH)
    raw = RawLog(options.folder / "batches-raw.db")
    store = await SqliteStore.open(options.folder / "batches.db")
    feed, raw_feed, uma_feed = Feed(), Feed(), Feed()
    with peers.uma(options.folder / "batches-uma") as uma:

        async def refold() -> float:
            new = _batches(feed, count)
            start = time.perf_counter()
            for batch in new:
                await store.append(batch)
            return count / (time.perf_counter() - start)

        async def by_hand() -> float:
            new = [raw.rows(batch) for batch in _batches(raw_feed, count)]
            start = time.perf_counter()
            for rows in new:
                raw.append(rows)
            return count / (time.perf_counter() - start)

        def umadb(peer: peers.Uma) -> Run:
            async def run() -> float:
                new = [list(map(peer.event, batch)) for batch in _batches(uma_feed, count)]
                start = time.perf_counter()
                for batch in new:
                    peer.client.append(batch)
                return count / (time.perf_counter() - start)

            return run

        await compare(
            "Batches of 1,000",
            "events",
            {"refold": refold, "raw loop": by_hand, "umadb": umadb(uma) if uma else None},
            [Target("refold", "raw loop", 0.6), Target("refold", "umadb", 2)],
            rounds=options.rounds,
        )
    await store.close()


def _batches(feed: Feed, count: int) -> list[list[NewEvent]]:
    return [feed.take(BATCH) for _ in range(count // BATCH)]


CASES: list[Callable[[Options], object]] = [single, concurrent, conditional, batches]
