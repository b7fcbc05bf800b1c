"""No statement of the log scans what it should seek, whatever the statistics say."""

import json
import random
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from refold.model.query import Query, QueryItem
from refold.model.record import NewEvent
from refold.store.api import MAX_POSITION
from refold.store.postgres import PostgresStore, select
from refold.store.postgres.address import quoted
from refold.store.postgres.connections import SEEKING
from refold.store.postgres.log import KNOWN
from refold.store.postgres.names import keys, literal, numbers
from refold.store.postgres.watch import HEAD
from refold.testing.postgres import PostgresServer

EVENTS = 20_000
QUERIES = {
    "everything": Query(),
    "a type": Query.of(types="T1"),
    "types": Query.of(types=["T1", "T2", "rare"]),
    "a tag": Query.of(tags="key:7"),
    "a tag of every event": Query.of(tags="all"),
    "a tag and a type": Query.of(types="rare", tags="all"),
    "two tags": Query.of(tags=["all", "key:7"]),
    "items": Query.of(tags="key:7") | Query.of(types="T3") | Query.of(types=["T1"], tags=["key:8", "all"]),
    "many items": Query(tuple(QueryItem((), (f"key:{n}",)) for n in range(100))),
    "nothing": Query.of(tags="none"),
}


def plans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(each for one in plan.get("Plans", []) for each in plans(one))]


def read(plan: dict[str, Any]) -> int:
    """Count the rows that were taken from tables and indexes, those that were then thrown away included."""
    return sum(
        (each["Actual Rows"] + each.get("Rows Removed by Filter", 0)) * each["Actual Loops"]
        for each in plans(plan)
        if "Scan" in each["Node Type"] and ("Relation Name" in each or "Index Name" in each)
    )


@pytest.fixture
async def sql(server: PostgresServer, url: str) -> Any:
    store = await PostgresStore.open(url)
    rng = random.Random(1)
    for _ in range(EVENTS // 5_000):
        await store.append(
            [
                NewEvent(
                    "rare" if rng.random() < 0.001 else f"T{rng.randrange(4)}",
                    tags=("all", f"key:{rng.randrange(2_000)}"),
                )
                for _ in range(5_000)
            ]
        )
    await store.close()
    settings = SEEKING | {"search_path": quoted(store.address.schema), "jit": "off"}
    connection = await asyncpg.connect(
        f"postgresql://postgres@/postgres?host={server.folder}", server_settings=settings
    )
    yield connection
    await connection.close()


async def explain(sql: Any, statement: str, *bound: Any) -> dict[str, Any]:
    # Prepared, and run with the plan that serves any value, as in production.
    plan: dict[str, Any] = json.loads(await sql.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *bound))[0][
        "Plan"
    ]
    return plan


async def test_reads_seek(sql: Any) -> None:
    """Also on a table that was never analyzed, and after it was."""
    for statistics in ("none", "fresh"):
        if statistics == "fresh":
            await sql.execute("ANALYZE")
        for name, query in QUERIES.items():
            for within in (
                select.Range(0, MAX_POSITION),
                select.Range(0, MAX_POSITION, True),
                select.Range(EVENTS - 50, EVENTS),
            ):
                counts = select.counts(query, within)
                rarest = dict(map(tuple, await sql.fetch(counts.sql, *counts.bound))) if counts else {}
                chosen = select.page(query, within, 10, 1 << 20, rarest=rarest, with_head=True)
                plan = await explain(sql, chosen.sql, *chosen.bound)
                kinds = {each["Node Type"] for each in plans(plan)}
                assert "Seq Scan" not in kinds, (name, within)
                # Of ten events: an item may look a page ahead, and a rare type is sought along a common tag.
                most = 3_000 if name == "many items" else 20_100 if name == "a tag and a type" else 200
                assert read(plan) <= most, (name, within, statistics)


async def test_looking_things_up_seeks(sql: Any) -> None:
    for statement, bound in ((HEAD, ()), (KNOWN, (b"x", None, timedelta(days=7)))):
        plan = await explain(sql, statement, *bound)
        assert "Seq Scan" not in {each["Node Type"] for each in plans(plan)}
        assert read(plan) <= 2


async def test_conditions_read_few_blocks(sql: Any) -> None:
    """What the server's function looks at, counted in blocks: a scan of the tags would be hundreds."""
    for tags, above in ((["key:7"], 0), (["all"], EVENTS), (["all", "key:7"], 0), (["all", "none"], 0)):
        statement = "SELECT first_match($1, $2::text::bigint [], $3::text::text [], NULL, NULL)"
        bound = (above, numbers(keys(tags)), literal(tags))
        for _ in range(2):
            await sql.fetchval(statement, *bound)
        explained = await sql.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *bound)
        assert json.loads(explained)[0]["Plan"]["Shared Hit Blocks"] < 100, tags


@pytest.mark.parametrize(("tags", "most"), [(["order:1"], 1), (["order:1", "all"], 2)])
async def test_a_small_state_takes_few_round_trips(
    url: str, monkeypatch: pytest.MonkeyPatch, tags: list[str], most: int
) -> None:
    store = await PostgresStore.open(url)
    await store.append([NewEvent("A", tags=("order:1", "all")) for _ in range(5)])
    trips: list[str] = []
    fetch = asyncpg.Connection.fetch

    async def counted(self: Any, query: str, *bound: Any, **options: Any) -> Any:
        trips.append(query)
        return await fetch(self, query, *bound, **options)

    await store.head()
    monkeypatch.setattr(asyncpg.Connection, "fetch", counted)
    assert [len(page) async for page in store.read(Query.of(tags=tags))] == [5]
    assert len(trips) == most
    await store.close()
