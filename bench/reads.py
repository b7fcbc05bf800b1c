"""Reading: the whole log as stored events, the whole log decoded and folded, one small state."""

import random
import time
from collections.abc import Callable

from bench import peers, raw
from bench.measure import Options, Run, Target, compare
from bench.orders import EVENTS_OF_ORDER, Feed, Order, open_app, order_id
from refold.store.sqlite import SqliteStore

BATCH = 5_000


async def fill(store: SqliteStore, events: int) -> None:
    """Append orders of five events."""
    feed = Feed()
    for _ in range(events // BATCH):
        await store.append(feed.take(BATCH))


def fill_uma(peer: peers.Uma, events: int) -> None:
    """Append the same to UmaDB."""
    feed = Feed()
    for _ in range(events // BATCH):
        peer.client.append(list(map(peer.event, feed.take(BATCH))))


async def whole(options: Options) -> None:
    """Read every event, as it is stored."""
    count = options.size(200_000, of=BATCH)
    path = options.folder / "whole.db"
    store = await SqliteStore.open(path)
    await fill(store, count)
    connection = raw.connect(path)
    with peers.uma(options.folder / "whole-uma") as uma:
        if uma:
            fill_uma(uma, count)

        async def refold() -> float:
            start = time.perf_counter()
            read = 0
            async for page in store.read():
                read += len(page)
            return _rate(read, count, start)

        async def by_hand() -> float:
            start = time.perf_counter()
            return _rate(raw.read_all(connection), count, start)

        def umadb(peer: peers.Uma) -> Run:
            async def run() -> float:
                start = time.perf_counter()
                return _rate(peer.read_all(), count, start)

            return run

        await compare(
            "Reading the whole log",
            "events",
            {"refold": refold, "raw rows": by_hand, "umadb": umadb(uma) if uma else None},
            [Target("refold", "raw rows", 0.4)],
            rounds=options.rounds,
        )
    await store.close()


async def replay(options: Options) -> None:
    """Decode the whole log and fold it into its orders."""
    count = options.size(50_000, of=BATCH)
    path = options.folder / "replay.db"
    store = await SqliteStore.open(path)
    await fill(store, count)
    await store.close()
    async with open_app(path) as app:
        with peers.eventsourcing(options.folder / "replay-es.db") as es:
            if es:
                es.fill(count // EVENTS_OF_ORDER)

            async def refold() -> float:
                start = time.perf_counter()
                read = 0
                orders: dict[str, Order] = {}
                async for recorded in app.events():
                    event = recorded.event
                    key = event.order_id
                    orders[key] = (orders.get(key) or Order(key)).evolve(event)
                    read += 1
                return _rate(read, count, start)

            def eventsourcing(peer: peers.Eventsourcing) -> Run:
                async def run() -> float:
                    start = time.perf_counter()
                    return _rate(peer.replay(), count, start)

                return run

            await compare(
                "The whole log decoded and folded",
                "events",
                {"refold": refold, "eventsourcing": eventsourcing(es) if es else None},
                [Target("refold", "eventsourcing", 4)],
                rounds=options.rounds,
            )


async def load(options: Options) -> None:
    """Load states of five events of which nothing is remembered, one after the other."""
    count = options.size(100_000, of=BATCH)
    loads = options.size(2_000)
    path = options.folder / "load.db"
    store = await SqliteStore.open(path)
    await fill(store, count)
    await store.close()
    dice = random.Random(1)

    def some_orders() -> list[int]:
        return dice.choices(range(1, count // EVENTS_OF_ORDER + 1), k=loads)

    async with open_app(path, hot_states=0) as app:
        with peers.uma(options.folder / "load-uma") as uma:
            if uma:
                fill_uma(uma, count)

            async def refold() -> float:
                wanted = [Order(order_id(number)) for number in some_orders()]
                start = time.perf_counter()
                for order in wanted:
                    assert (await app.load(order)).lines == EVENTS_OF_ORDER - 1
                return loads / (time.perf_counter() - start)

            def umadb(peer: peers.Uma) -> Run:
                async def run() -> float:
                    wanted = [peer.query(f"order:{order_id(number)}") for number in some_orders()]
                    start = time.perf_counter()
                    for query in wanted:
                        assert len(peer.read(query)) == EVENTS_OF_ORDER
                    return loads / (time.perf_counter() - start)

                return run

            await compare(
                "A state of five events, cold (UmaDB: read, not folded)",
                "loads",
                {"refold": refold, "umadb": umadb(uma) if uma else None},
                [Target("refold", "umadb", 3)],
                rounds=options.rounds,
            )


def _rate(read: int, expected: int, start: float) -> float:
    assert read == expected, f"{read} events of {expected}"
    return read / (time.perf_counter() - start)


CASES: list[Callable[[Options], object]] = [whole, replay, load]
