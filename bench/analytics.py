"""Analytics: mirroring a log against writing its JSON to Parquet by hand, and a group-by against SQLite's own JSON."""

import shutil
import time
from pathlib import Path

import polars as pl

from bench import raw
from bench.measure import Options, Target, compare
from bench.orders import SCHEMA
from bench.reads import BATCH, fill
from refold.model.record import StoredEvent
from refold.store.sqlite import SqliteStore
from refold.view.parquet import Mirror

ROWS = 50_000
BY_SKU = """
    SELECT sku, count(*), sum(quantity * price) AS turnover FROM Added GROUP BY sku ORDER BY turnover DESC LIMIT 10
"""
BY_SKU_OF_JSON = """
    SELECT data ->> '$.sku' AS sku, count(*), sum((data ->> '$.quantity') * (data ->> '$.price')) AS turnover
    FROM (SELECT CAST(data AS TEXT) AS data FROM event JOIN event_type USING (type_id) WHERE name = 'Added')
    GROUP BY sku ORDER BY turnover DESC LIMIT 10
"""


async def mirror(options: Options) -> None:
    """Mirror a whole log, typed and exactly once."""
    count = options.size(200_000, of=BATCH)
    store = await SqliteStore.open(options.folder / "mirror.db")
    await fill(store, count)
    folder = options.folder / "mirror"

    async def refold() -> float:
        shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter()
        async with Mirror(folder, SCHEMA) as found:
            assert await found.catch_up(store) == count
        return count / (time.perf_counter() - start)

    async def by_hand() -> float:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        start = time.perf_counter()
        waiting: list[StoredEvent] = []
        async for page in store.read():
            waiting += page
            if len(waiting) >= ROWS or page.upto == count:
                _write(waiting, folder / f"{page.upto}.parquet")
                waiting = []
        return count / (time.perf_counter() - start)

    await compare(
        "Mirroring a log to Parquet",
        "events",
        {"refold, typed": refold, "read and write JSON": by_hand},
        [Target("refold, typed", "read and write JSON", 0.2)],
        rounds=options.rounds,
    )
    await store.close()


async def group_by(options: Options) -> None:
    """Add up turnover by product: over the mirror, and over the JSON in the log itself."""
    count = options.size(200_000, of=BATCH)
    path = options.folder / "group.db"
    store = await SqliteStore.open(path)
    await fill(store, count)
    connection = raw.connect(path)
    async with Mirror(options.folder / "group", SCHEMA) as found:
        await found.catch_up(store)
        expected = [tuple(row) for row in connection.execute(BY_SKU_OF_JSON)]
        assert {row[1:] for row in found.query(BY_SKU).rows()} == {row[1:] for row in expected}

        async def duckdb() -> float:
            start = time.perf_counter()
            found.query(BY_SKU)
            return count / (time.perf_counter() - start)

        async def sqlite() -> float:
            start = time.perf_counter()
            list(connection.execute(BY_SKU_OF_JSON))
            return count / (time.perf_counter() - start)

        await compare(
            "A group-by over the log",
            "events",
            {"refold query": duckdb, "SQLite's JSON": sqlite},
            [Target("refold query", "SQLite's JSON", 10.0)],
            rounds=options.rounds,
        )
    await store.close()


def _write(events: list[StoredEvent], path: Path) -> None:
    pl.DataFrame(
        {
            "position": [event.position for event in events],
            "type": [event.type for event in events],
            "data": [event.data.decode() for event in events],
        }
    ).write_parquet(path, compression="zstd", compression_level=1)


CASES = (mirror, group_by)
