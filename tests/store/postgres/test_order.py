"""Positions become visible in order: the schedules by which other stores lose events, and what must stall nobody."""

import asyncio

import asyncpg
import pytest

from refold.errors import Conflict
from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent
from refold.store.postgres import PostgresStore
from refold.testing import Failpoint
from refold.testing.postgres import PostgresServer


async def positions(store: PostgresStore, after: int = 0) -> list[int]:
    return [event.position async for page in store.read(after=after) for event in page]


@pytest.mark.parametrize(("held", "later"), [(1, 1), (1, 3), (2, 1), (3, 3)])
async def test_no_position_appears_below_one_that_was_seen(url: str, held: int, later: int) -> None:
    """Schedules 1 to 3: a writer has its positions and is held before it commits, while another appends."""
    point = Failpoint()
    slow, quick = await PostgresStore.open(url, before_commit=point.pause), await PostgresStore.open(url)
    tasks = [asyncio.create_task(slow.append([NewEvent("Slow") for _ in range(held)]))]
    await point.reached()
    tasks.append(asyncio.create_task(quick.append([NewEvent("Quick") for _ in range(later)])))
    await asyncio.sleep(0.1)
    assert await positions(quick) == []
    assert await quick.head() == 0
    point.release()
    one, two = await asyncio.gather(*tasks)
    assert two.first == one.last + 1
    assert await positions(quick) == list(range(1, held + later + 1))
    await slow.close()
    await quick.close()


async def test_no_conflict_is_lost(url: str) -> None:
    """Schedule 4: a decision made while a matching event waits for its commit must not go through."""
    point = Failpoint()
    slow, quick = await PostgresStore.open(url, before_commit=point.pause), await PostgresStore.open(url)
    booked = asyncio.create_task(slow.append([NewEvent("Booked", tags=("seat:1",))]))
    await point.reached()
    head = await quick.head()
    rival = asyncio.create_task(
        quick.append([NewEvent("Booked", tags=("seat:1",))], AppendCondition(Query.of(tags="seat:1"), head))
    )
    await asyncio.sleep(0.05)
    point.release()
    with pytest.raises(Conflict):
        await rival
    assert await positions(quick) == [(await booked).last]
    await slow.close()
    await quick.close()


async def test_a_long_foreign_transaction_stalls_nobody(server: PostgresServer, url: str) -> None:
    store = await PostgresStore.open(url)
    foreign = await asyncpg.connect(f"postgresql://postgres@/postgres?host={server.folder}")
    async with foreign.transaction(isolation="serializable"):
        await foreign.execute("CREATE TEMP TABLE foreign_work AS SELECT count(*) FROM pg_class")
        async with asyncio.timeout(60):  # it stays open all the while
            for n in range(1, 21):
                assert (await store.append([NewEvent("A")])).last == n
                assert await store.head() == n
    await foreign.close()
    await store.close()


async def test_whatever_isolation_the_role_has(server: PostgresServer, url: str) -> None:
    await (await PostgresStore.open(url)).close()
    sql = await asyncpg.connect(f"postgresql://postgres@/postgres?host={server.folder}")
    await sql.execute("CREATE ROLE strict SUPERUSER LOGIN")
    for setting in (
        "default_transaction_isolation = 'serializable'",
        "statement_timeout = 1",
        "synchronous_commit = off",
    ):
        await sql.execute(f"ALTER ROLE strict SET {setting}")
    one, two = [await PostgresStore.open(url.replace("postgres@", "strict@")) for _ in range(2)]
    condition = AppendCondition(Query.of(tags="t:1"))
    results = await asyncio.gather(
        *(each.append([NewEvent("A", tags=("t:1",))], condition) for each in (one, two) for _ in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Conflict) for result in results) == 39
    await one.close()
    await two.close()
    await sql.execute("DROP ROLE strict")
    await sql.close()
