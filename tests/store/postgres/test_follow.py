"""Followers wake soon after a commit of any process, and also when notifications are lost or refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from refold.model.record import NewEvent
from refold.store.postgres import PostgresStore, watch
from refold.testing.postgres import PostgresServer


@asynccontextmanager
async def following(store: PostgresStore, after: int = 0) -> AsyncIterator[set[int]]:
    """Note which positions were seen, once it listens."""
    seen: set[int] = set()

    async def follow() -> None:
        async for page in store.follow(after=after):
            seen.update(event.position for event in page)

    task = asyncio.create_task(follow())
    await listens(store)
    yield seen
    task.cancel()
    await asyncio.wait([task])


async def listens(store: PostgresStore) -> None:
    """Wait until it is told of commits, so that it looks for them seldom."""
    while store._watch._deaf.is_set():
        await asyncio.sleep(0.001)


async def hears(writer: PostgresStore, seen: set[int], number: int) -> None:
    """Append, and wait each time until that is seen."""
    for _ in range(number):
        done = await writer.append([NewEvent("A")])
        async with asyncio.timeout(30):
            while done.last not in seen:
                await asyncio.sleep(0.0005)
        await asyncio.sleep(0.01)


@pytest.fixture
def unlooking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave followers that listen nothing but what they are told."""
    monkeypatch.setattr(watch, "LOOK_SECONDS", 1_000.0)


@pytest.mark.usefixtures("unlooking")
async def test_another_handles_commits_wake_it(url: str) -> None:
    reader, writer = await PostgresStore.open(url), await PostgresStore.open(url)
    async with following(reader) as seen:
        await hears(writer, seen, 40)
    await reader.close()
    await writer.close()


@pytest.mark.usefixtures("unlooking")
async def test_a_lost_listener_is_replaced(server: PostgresServer, url: str) -> None:
    reader, writer = await PostgresStore.open(url), await PostgresStore.open(url)
    sql = await asyncpg.connect(f"postgresql://postgres@/postgres?host={server.folder}")
    async with following(reader) as seen:
        for _ in range(3):
            await sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'refold'"
            )
            await hears(writer, seen, 3)
        await listens(reader)
        await hears(writer, seen, 20)
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
            await hears(writer, seen, 4)
        await other.close()
        await stuck.close()
        await reader.close()
        await writer.close()
