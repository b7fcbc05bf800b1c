"""Followers wake soon after a commit of any process, and also when notifications are lost or refused."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

import asyncpg

from refold.model.record import NewEvent
from refold.store.postgres import PostgresStore
from refold.store.postgres.watch import LOOK_SECONDS
from refold.testing.postgres import PostgresServer


@asynccontextmanager
async def following(store: PostgresStore, after: int = 0) -> AsyncIterator[dict[int, float]]:
    """Note when each position was seen."""
    seen: dict[int, float] = {}

    async def follow() -> None:
        async for page in store.follow(after=after):
            seen.update((event.position, time.perf_counter()) for event in page)

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.3)
    yield seen
    task.cancel()
    await asyncio.wait([task])


async def waits(writer: PostgresStore, seen: dict[int, float], number: int, limit: float) -> list[float]:
    found: list[float] = []
    for _ in range(number):
        done = await writer.append([NewEvent("A")])
        acknowledged = time.perf_counter()
        while done.last not in seen:
            assert time.perf_counter() - acknowledged < limit
            await asyncio.sleep(0.0005)
        found.append(max(seen[done.last] - acknowledged, 0))
        await asyncio.sleep(0.01)
    return found


async def test_another_handles_commits_wake_it(url: str) -> None:
    reader, writer = await PostgresStore.open(url), await PostgresStore.open(url)
    async with following(reader) as seen:
        found = await waits(writer, seen, 40, 2)
    assert median(found) < LOOK_SECONDS / 4, "it is woken, and does not find out by looking"
    await reader.close()
    await writer.close()


async def test_a_lost_listener_is_replaced(server: PostgresServer, url: str) -> None:
    reader, writer = await PostgresStore.open(url), await PostgresStore.open(url)
    sql = await asyncpg.connect(f"postgresql://postgres@/postgres?host={server.folder}")
    async with following(reader) as seen:
        for _ in range(3):
            await sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'refold'"
            )
            await waits(writer, seen, 3, 2)
        await asyncio.sleep(0.5)
        assert median(await waits(writer, seen, 20, 2)) < LOOK_SECONDS / 4
    await sql.close()
    await reader.close()
    await writer.close()


async def test_a_full_queue_of_notifications() -> None:
    """The server refuses notifications: appends go on, and followers find out by looking."""
    with PostgresServer(durable=False, settings={"max_notify_queue_pages": "64"}) as server:
        reader, writer = await PostgresStore.open(server.url()), await PostgresStore.open(server.url())
        stuck = await asyncpg.connect(f"postgresql://postgres@/postgres?host={server.folder}")
        await stuck.execute("LISTEN elsewhere")
        await stuck.execute("BEGIN; SELECT 1")  # so that it does not take what comes
        async with following(reader) as seen:
            other = await asyncpg.connect(f"postgresql://postgres@/postgres?host={server.folder}")
            refused = False
            for n in range(400):
                try:
                    await other.execute("SELECT pg_notify('elsewhere', $1)", f"{n}" + "x" * 7_900)
                except asyncpg.PostgresError:
                    refused = True
                    break
            assert refused
            found = await waits(writer, seen, 4, 3)
            assert max(found) < 2
        await other.close()
        await stuck.close()
        await reader.close()
        await writer.close()
