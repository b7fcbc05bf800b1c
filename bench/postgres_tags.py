"""Where tags are looked up: four ways to index them in PostgreSQL, at any size: `python -m bench.postgres_tags 10000000`.

Every event has two tags: one of its order (five events each) and one of a customer (one of 100,000, at random).
"""

# ruff: noqa: E501 - statements that are to be compared stand one below the other

import asyncio
import random
import statistics
import sys
import time
from typing import Any

import asyncpg

from bench.measure import console
from refold.testing.postgres import PostgresServer

EVENT = (
    "CREATE TABLE event (position bigint PRIMARY KEY, type bigint NOT NULL, tags text[] NOT NULL, data bytea NOT NULL);"
)
NEW = """
SELECT n AS position, (n % 8)::bigint AS type,
    ARRAY['order:' || n / 5, 'customer:' || (hashint8(n / 5)::bigint + 2147483648) % 100000] AS tags, decode(repeat('ab', 120), 'hex') AS data
FROM generate_series($1::bigint, $2::bigint) AS n"""
INSERT = "INSERT INTO event SELECT * FROM (" + NEW + ") AS new"
HASH = "hashtextextended(tag, 0)"

WAYS: dict[str, tuple[str, list[str], str, str]] = {
    # tables; inserts, each of $1 to $2; look-up of $1; condition on $1 above $2
    "hash in a table": (
        "CREATE TABLE event_tag (tag bigint, position bigint, type bigint, PRIMARY KEY (tag, position) INCLUDE (type))",
        [f"INSERT INTO event_tag SELECT {HASH}, position, type FROM ({NEW}) AS new, unnest(tags) AS tag"],
        "SELECT e.* FROM (SELECT position FROM event_tag WHERE tag = hashtextextended($1, 0) ORDER BY position LIMIT 1000) t JOIN event e USING (position)",
        "SELECT EXISTS (SELECT FROM event_tag WHERE tag = hashtextextended($1, 0) AND position > $2)",
    ),
    "id from a dictionary": (
        'CREATE TABLE tag (tag_id bigint GENERATED ALWAYS AS IDENTITY, name text COLLATE "C" PRIMARY KEY);'
        "CREATE TABLE event_tag (tag bigint, position bigint, type bigint, PRIMARY KEY (tag, position) INCLUDE (type))",
        [
            f"INSERT INTO tag (name) SELECT DISTINCT t FROM ({NEW}) AS new, unnest(tags) AS t ON CONFLICT DO NOTHING",
            f"INSERT INTO event_tag SELECT tag_id, position, type FROM ({NEW}) AS new, unnest(tags) AS t JOIN tag ON name = t",
        ],
        "SELECT e.* FROM (SELECT position FROM event_tag WHERE tag = (SELECT tag_id FROM tag WHERE name = $1) ORDER BY position LIMIT 1000) t JOIN event e USING (position)",
        "SELECT EXISTS (SELECT FROM event_tag WHERE tag = (SELECT tag_id FROM tag WHERE name = $1) AND position > $2)",
    ),
    "text in a table": (
        'CREATE TABLE event_tag (tag text COLLATE "C", position bigint, type bigint, PRIMARY KEY (tag, position) INCLUDE (type))',
        [f"INSERT INTO event_tag SELECT tag, position, type FROM ({NEW}) AS new, unnest(tags) AS tag"],
        "SELECT e.* FROM (SELECT position FROM event_tag WHERE tag = $1 ORDER BY position LIMIT 1000) t JOIN event e USING (position)",
        "SELECT EXISTS (SELECT FROM event_tag WHERE tag = $1 AND position > $2)",
    ),
    "GIN": (
        "CREATE INDEX event_tags ON event USING gin (tags)",
        [],
        "SELECT * FROM event WHERE tags @> ARRAY[$1::text] ORDER BY position LIMIT 1000",
        "SELECT EXISTS (SELECT FROM event WHERE tags @> ARRAY[$1::text] AND position > $2)",
    ),
}


async def timed(call: Any, number: int) -> float:
    """Return the median in milliseconds."""
    found: list[float] = []
    for n in range(number):
        start = time.perf_counter()
        await call(n)
        found.append((time.perf_counter() - start) * 1_000)
    return statistics.median(found)


async def measure(server: PostgresServer, name: str, events: int) -> None:
    tables, inserts, lookup, condition = WAYS[name]
    sql = await asyncpg.connect(f"postgresql://postgres@/postgres?host={server.folder}", server_settings={"jit": "off"})
    await sql.execute(
        "DROP SCHEMA IF EXISTS way CASCADE; CREATE SCHEMA way; SET search_path = way; SET enable_seqscan = off"
    )
    await sql.execute(EVENT + tables)

    async def add(first: int, last: int) -> None:
        async with sql.transaction():
            for statement in (INSERT, *inserts):
                await sql.execute(statement, first, last)

    start = time.perf_counter()
    for first in range(1, events, 100_000):
        await add(first, min(first + 99_999, events))
    filled = time.perf_counter() - start
    await sql.execute("CHECKPOINT; ANALYZE")
    head = events
    group = await timed(lambda n: add(head + 64 * n + 1, head + 64 * n + 64), 300)
    rng = random.Random(1)
    one = await timed(lambda n: sql.fetch(lookup, f"order:{rng.randrange(events // 5)}"), 300)
    hot = await timed(lambda n: sql.fetch(lookup, f"customer:{rng.randrange(100_000)}"), 100)
    check = await timed(lambda n: sql.fetchval(condition, f"customer:{rng.randrange(100_000)}", head), 300)
    size = await sql.fetchval(
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'way'::regnamespace AND relkind = 'r'"
    )
    console.print(
        f"{name:22} fill {events / filled:9,.0f} events/s   group of 64 {group:6.2f} ms   5 events {one:6.3f} ms   "
        f"customer {hot:6.3f} ms   condition {check:6.3f} ms   {size / events:4.0f} bytes an event"
    )
    await sql.close()


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with PostgresServer(durable=True, settings={"shared_buffers": "2GB", "max_wal_size": "8GB"}) as server:
        for name in WAYS:
            asyncio.run(measure(server, name, events))


if __name__ == "__main__":
    main()
