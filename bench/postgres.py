"""The log in PostgreSQL beside what could be written by hand on the same tables: `python -m bench.postgres [case…]`.

A server of its own is started, with fsync on. Every side runs in the same process and by turns.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import asyncpg
import click
import msgspec

from bench.measure import Options, Target, compare, console, machine, missed
from bench.orders import Added, Feed, Order, Placed, open_app
from refold import NewEvent, Query, kept
from refold.store.postgres import PostgresStore
from refold.store.postgres.names import key, keys
from refold.testing.postgres import PostgresServer

CALLERS = 64
BATCH = 1_000
LOCK = "SELECT pg_advisory_xact_lock(1)"
# One append in one round trip, by hand: with the next position under a lock that is held to commit, or from a sequence.
BY_HAND = """
CREATE SEQUENCE positions;
CREATE FUNCTION by_hand(locked boolean, type_key bigint, version int, type text, tags text[], data bytea,
    metadata bytea, tag_keys bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    at bigint;
BEGIN
    IF locked THEN
        PERFORM pg_advisory_xact_lock(1);
        SELECT coalesce(max(position), 0) + 1 INTO at FROM event;
    ELSE
        at := nextval('positions');
    END IF;
    INSERT INTO event VALUES (at, clock_timestamp(), type_key, version, type, tags, data, metadata);
    INSERT INTO event_tag SELECT k, at, type_key FROM unnest(tag_keys) AS k;
    RETURN at;
END $$;"""
UPSERT = """
INSERT INTO by_hand (order_id, customer_id, lines, total, last_sku)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[])
ON CONFLICT (order_id) DO UPDATE
SET customer_id = excluded.customer_id, lines = excluded.lines, total = excluded.total, last_sku = excluded.last_sku"""
CALL = "SELECT by_hand($1, $2, $3, $4, $5, $6, $7, $8)"
Connection = Any


def row(event: NewEvent) -> tuple[Any, ...]:
    """Return an event as the arguments that all sides by hand take, prepared before the clock starts."""
    return key(event.type), event.version, event.type, list(event.tags), event.data, event.metadata, keys(event.tags)


async def by_hand(server: PostgresServer, schema: str) -> Callable[[], Awaitable[Connection]]:
    """Create the same tables with the same indexes, and return how to connect to them."""
    await (await PostgresStore.open(server.url(schema))).close()

    async def connect() -> Connection:
        return await asyncpg.connect(
            f"postgresql://postgres@/postgres?host={server.folder}",
            server_settings={"search_path": schema, "jit": "off"},
        )

    first = await connect()
    await first.execute(BY_HAND)
    await first.close()
    return connect


async def single(server: PostgresServer, options: Options) -> None:
    """64 callers append one event with two tags each, wait until it is on disk, and append the next."""
    each = options.size(1_280, CALLERS) // CALLERS
    store = await PostgresStore.open(server.url("ours"))
    locked, free = await by_hand(server, "locked"), await by_hand(server, "free")
    connections = {False: [await free() for _ in range(CALLERS)], True: [await locked() for _ in range(CALLERS)]}
    feeds = {name: Feed() for name in ("ours", True, False, "es")}

    async def refold() -> float:
        new = [feeds["ours"].take(each) for _ in range(CALLERS)]

        async def call(mine: list[NewEvent]) -> None:
            for event in mine:
                await store.append([event])

        start = time.perf_counter()
        await asyncio.gather(*map(call, new))
        return CALLERS * each / (time.perf_counter() - start)

    def one_each(lock: bool) -> Callable[[], Awaitable[float]]:
        async def run() -> float:
            new = [[row(event) for event in feeds[lock].take(each)] for _ in range(CALLERS)]

            async def call(connection: Connection, mine: list[tuple[Any, ...]]) -> None:
                for values in mine:
                    await connection.fetchval(CALL, lock, *values)

            start = time.perf_counter()
            await asyncio.gather(*map(call, connections[lock], new))
            return CALLERS * each / (time.perf_counter() - start)

        return run

    peer = eventsourcing(server, feeds["es"], each)
    await compare(
        "64 callers, one event with two tags each",
        "appends",
        {
            "refold": refold,
            "a transaction each, lock": one_each(True),
            "a transaction each, no lock (unsound)": one_each(False),
            "eventsourcing": peer,
        },
        [
            Target("refold", "a transaction each, lock", 5),
            Target("refold", "a transaction each, no lock (unsound)", 1.2),
            Target("refold", "eventsourcing", 5),
        ],
        rounds=options.rounds,
    )
    await store.close()
    for connection in [*connections[True], *connections[False]]:
        await connection.close()


def eventsourcing(server: PostgresServer, feed: Feed, each: int) -> Callable[[], Awaitable[float]] | None:
    """Save one event of an aggregate of its own from each of 64 threads; it knows no tags."""
    try:
        from eventsourcing.persistence import StoredEvent as Stored
        from eventsourcing.postgres import PostgresAggregateRecorder, PostgresApplicationRecorder, PostgresDatastore
    except ImportError:
        return None
    from uuid import uuid4

    assert PostgresAggregateRecorder
    datastore = PostgresDatastore(
        dbname="postgres",
        host=str(server.folder),
        port="5432",
        user="postgres",
        password="",
        pool_size=CALLERS,
        max_overflow=0,
    )
    recorder = PostgresApplicationRecorder(datastore, events_table_name="es_events")
    recorder.create_table()
    pool = ThreadPoolExecutor(CALLERS)

    async def run() -> float:
        new = [[Stored(uuid4(), 1, event.type, event.data) for event in feed.take(each)] for _ in range(CALLERS)]

        def call(mine: list[Any]) -> None:
            for event in mine:
                recorder.insert_events([event])

        loop = asyncio.get_running_loop()
        start = time.perf_counter()
        await asyncio.gather(*(loop.run_in_executor(pool, call, mine) for mine in new))
        return CALLERS * each / (time.perf_counter() - start)

    return run


async def batches(server: PostgresServer, options: Options) -> None:
    """Append batches of 1,000, beside binary COPY of ready rows into the same tables with the same indexes."""
    number = options.size(10)
    store = await PostgresStore.open(server.url("batches"))
    connection = await (await by_hand(server, "copied"))()
    feed, copied, position = Feed(), Feed(), count(1)

    async def refold() -> float:
        new = [feed.take(BATCH) for _ in range(number)]
        start = time.perf_counter()
        for batch in new:
            await store.append(batch)
        return number * BATCH / (time.perf_counter() - start)

    async def copy() -> float:
        ready: list[tuple[list[Any], list[Any]]] = []
        for _ in range(number):
            events, tags = [], []
            for event in copied.take(BATCH):
                at, now, (type_key, version, name, names, data, metadata, tag_keys) = (
                    next(position),
                    datetime.now(UTC),
                    row(event),
                )
                events.append((at, now, type_key, version, name, names, data, metadata))
                tags += [(tag_key, at, type_key) for tag_key in tag_keys]
            ready.append((events, tags))
        start = time.perf_counter()
        for events, tags in ready:
            async with connection.transaction():
                await connection.execute(LOCK)
                await connection.copy_records_to_table("event", records=events)
                await connection.copy_records_to_table("event_tag", records=tags)
        return number * BATCH / (time.perf_counter() - start)

    await compare(
        "Batches of 1,000",
        "events",
        {"refold": refold, "raw COPY": copy},
        [Target("refold", "raw COPY", 0.5)],
        rounds=options.rounds,
    )
    await store.close()
    await connection.close()


def _write(url: str, callers: int, each: int, start_at: float) -> tuple[float, float]:
    """Append in a process of its own; return when it began and ended."""

    async def run() -> tuple[float, float]:
        store = await PostgresStore.open(url)
        new = [Feed().take(each) for _ in range(callers)]
        await store.append(new[0][:1])
        await asyncio.sleep(max(start_at - time.time(), 0))
        begun = time.time()

        async def call(mine: list[NewEvent]) -> None:
            for event in mine:
                await store.append([event])

        await asyncio.gather(*map(call, new))
        ended = time.time()
        await store.close()
        return begun, ended

    return asyncio.run(run())


async def processes(server: PostgresServer, options: Options) -> None:
    """64 callers in each of four processes, beside 64 in one; and beside all 256 in one, which makes larger groups."""
    each = options.size(60)
    pool = get_context("spawn").Pool(4)

    def side(number: int, callers: int) -> Callable[[], Awaitable[float]]:
        async def run() -> float:
            work = [(server.url("processes"), callers, each, time.time() + 2)] * number
            spans = await asyncio.to_thread(pool.starmap, _write, work, 1)
            return number * callers * each / (max(end for _, end in spans) - min(begin for begin, _ in spans))

        return run

    await compare(
        "Appends of one and of four processes",
        "appends",
        {"four processes": side(4, 64), "one process": side(1, 64), "one process, 256 callers": side(1, 256)},
        [Target("four processes", "one process", 1)],
        rounds=options.rounds,
    )
    pool.terminate()


async def loading(server: PostgresServer, options: Options) -> None:
    """Read the five events of an order, beside a bare SELECT by the same index; the server counts the round trips."""
    store = await PostgresStore.open(server.url("loading"))
    for n in range(options.size(100)):
        await store.append(
            [NewEvent("Added", b"{}" * 60, (f"order:{n}.{i % 200}", f"customer:{i}")) for i in range(BATCH)]
        )
    connection = await (await by_hand(server, "loading_by_hand"))()
    await connection.execute("SET search_path = loading")
    await connection.execute("VACUUM ANALYZE")
    names, number = count(), options.size(400)
    bare = (
        "SELECT e.position, e.recorded_at, e.type, e.version, e.tags, e.data, e.metadata FROM event_tag t "
        "JOIN event e USING (position) WHERE t.tag_key = $1 ORDER BY e.position"
    )

    def tag() -> str:
        n = next(names)
        return f"order:{n % options.size(100)}.{n % 200}"

    async def refold() -> float:
        queries = [Query.of(tags=tag()) for _ in range(number)]
        start = time.perf_counter()
        for query in queries:
            async for page in store.read(query):
                assert len(page) == 5
        return number / (time.perf_counter() - start)

    async def by_index() -> float:
        tags = [key(tag()) for _ in range(number)]
        start = time.perf_counter()
        for each in tags:
            assert len(await connection.fetch(bare, each)) == 5
        return number / (time.perf_counter() - start)

    await compare(
        "Loading a state of five events",
        "loads",
        {"refold": refold, "bare SELECT": by_index},
        [Target("refold", "bare SELECT", 1 / 1.5)],
        rounds=options.rounds,
    )
    await store.close()
    await connection.close()


async def catching_up(server: PostgresServer, options: Options) -> None:
    """Project the log into rows from its beginning, beside a loop that reads and upserts the same in pages."""
    url = server.url("projecting")
    store = await PostgresStore.open(url)
    number = options.size(100)
    feed = Feed()
    for _ in range(number):
        await store.append(feed.take(BATCH))
    await store.close()
    connection = await (await by_hand(server, "projecting_by_hand"))()
    await connection.execute("SET search_path = projecting, projecting_view")
    await connection.execute("VACUUM ANALYZE event, event_tag")
    await connection.execute(
        'CREATE TABLE by_hand (order_id text COLLATE "C" PRIMARY KEY, customer_id text, lines bigint, total bigint, '
        "last_sku text)"
    )
    await connection.execute("CREATE TABLE checkpoint AS SELECT 0::bigint AS position")
    rounds = count(1)

    async def refold() -> float:
        async with open_app(url, projections=[kept(Order, version=next(rounds))]) as app:
            start = time.perf_counter()
            [subscription] = app._now.subscriptions()
            await subscription.reached(number * BATCH, None)
            return number * BATCH / (time.perf_counter() - start)

    async def by_hand_loop() -> float:
        await connection.execute("TRUNCATE by_hand")
        position, start = 0, time.perf_counter()
        kept: dict[str, list[Any]] = {}
        while page := await connection.fetch(
            "SELECT position, data, type FROM event WHERE position > $1 ORDER BY position LIMIT 1000", position
        ):
            changed: dict[str, list[Any]] = {}
            position = page[-1][0]
            for _, data, name in page:
                event = _decoders[name](data)
                values = kept.setdefault(event.order_id, ["", 0, 0, ""])
                if name == "Added":
                    values[1:] = [values[1] + 1, values[2] + event.quantity * event.price, event.sku]
                else:
                    values[0] = event.customer_id
                changed[event.order_id] = values
            async with connection.transaction():
                await connection.execute(
                    UPSERT,
                    list(changed),
                    *(list(column) for column in zip(*changed.values(), strict=True)),
                )
                await connection.execute("UPDATE checkpoint SET position = $1", position)
        return number * BATCH / (time.perf_counter() - start)

    _decoders = {kind.__name__: msgspec.json.Decoder(kind).decode for kind in (Added, Placed)}
    await compare(
        "Catching up a projection",
        "events",
        {"refold": refold, "raw loop": by_hand_loop},
        [Target("refold", "raw loop", 0.5)],
        rounds=options.rounds,
    )
    await connection.close()


async def rebuilding(server: PostgresServer, options: Options) -> None:
    """Rebuild a projection from its beginning with one worker, and with two that share its keys; all their time counts.

    One works in the process that asks for it, two in processes that are started for it.
    """
    url = server.url("rebuilding")
    store = await PostgresStore.open(url)
    number = options.size(500)
    feed = Feed()
    for _ in range(number):
        await store.append(feed.take(BATCH))
    await store.close()
    versions = count(1)

    def with_workers(workers: int) -> Callable[[], Awaitable[float]]:
        async def run() -> float:
            app = open_app(url, projections=[kept(Order, version=next(versions))])
            async with app.passive() as passive:
                start = time.perf_counter()
                await passive.operations.rebuild("Order", workers=workers, hold=True)
                return number * BATCH / (time.perf_counter() - start)

        return run

    await compare(
        "Rebuilding a projection of 500,000 events",
        "events",
        {"2 workers": with_workers(2), "1 worker": with_workers(1)},
        [Target("2 workers", "1 worker", 1.5)],
        rounds=options.rounds,
    )


CASES = {"single": single, "batches": batches, "processes": processes, "loading": loading, "catching-up": catching_up}
CASES["rebuilding"] = rebuilding


@click.command()
@click.argument("cases", nargs=-1, type=click.Choice([*CASES]))
@click.option("--rounds", default=5, show_default=True)
@click.option("--scale", default=1.0, show_default=True)
def main(cases: tuple[str, ...], rounds: int, scale: float) -> None:
    """Compare the log in PostgreSQL with what is written by hand."""
    console.print(machine())
    console.print(f"$ python -m bench.postgres {' '.join(sys.argv[1:])}\n", markup=False)
    for name in cases or CASES:
        with PostgresServer(durable=True, settings={"max_connections": "300"}) as server:
            asyncio.run(CASES[name](server, Options(Path(), rounds, scale)))
    for each in missed:
        console.print(f"[red]missed[/] {each}")


if __name__ == "__main__":
    main()
