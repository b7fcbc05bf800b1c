"""Rules H and S: several handles of one store, opening it again, and closing it."""

import asyncio

import pytest

from refold.errors import Conflict, StoreClosed
from refold.model.query import AppendCondition, Query
from refold.store.api import Capability
from refold.testing.store.rule import Bench, StoreRules, rule
from refold.testing.store.tools import closing, collect, data, data_of, event, fill, pages, positions, read, turns


class HandleRules(StoreRules):
    """Several handles of one store, opening it again, and closing it."""

    @rule("handles")
    async def test_h1_reads_across_handles(self, bench: Bench) -> None:
        """H1: what one handle has appended, another reads."""
        one, other = await bench.open(), await bench.open()
        noted = [event("Noted", "t"), event("Noted", "t")]
        await fill(one, noted[0])
        assert await data(other) == data_of(noted[:1])
        await fill(other, noted[1])
        assert await data(one) == await data(other) == data_of(noted)

    @rule("handles")
    async def test_h2_head_across_handles(self, bench: Bench) -> None:
        """H2: the head advances on every handle."""
        one, other = await bench.open(), await bench.open()
        for store in (one, other, one):
            (last,) = await fill(store, event("Noted", "t"))
            assert (await one.head(), await other.head()) == (last, last)

    @rule("handles")
    async def test_h3_conditions_across_handles(self, bench: Bench) -> None:
        """H3: a condition counts what other handles have appended."""
        one, other = await bench.open(), await bench.open()
        (start,) = await fill(one, event("Noted", "t"))
        await fill(other, event("Noted", "t"), event("Opened", "t"))
        with pytest.raises(Conflict):
            await one.append([event("Opened", "t")], AppendCondition(Query.of(types="Opened"), start))

    @rule("handles")
    async def test_h4_append_ids_across_handles(self, bench: Bench) -> None:
        """H4: an append repeated on another handle returns the first one's result and stores nothing."""
        one, other = await bench.open(), await bench.open()
        batch = [event("Noted", "t")]
        first = await one.append(batch, append_id="once")
        assert await other.append(batch, append_id="once") == first
        assert await other.appended("once") == first
        assert await data(one) == data_of(batch)

    @rule("handles")
    async def test_h5_follows_across_handles(self, bench: Bench) -> None:
        """H5: a follower learns of what other handles append."""
        one, other = await bench.open(), await bench.open()
        (start,) = await fill(one, event("Noted", "t"))
        async with closing(one.follow(after=start)) as following:
            task = asyncio.create_task(collect(following, start + 1))
            await turns()
            noted = event("Noted", "t")
            await fill(other, noted)
            assert [each.data for page in await task for each in page] == [noted.data]

    @rule("handles")
    async def test_h6_closing_one_handle(self, bench: Bench) -> None:
        """H6: closing one handle leaves the others open."""
        one, other = await bench.open(), await bench.open()
        await fill(one, event("Noted", "t"))
        await one.close()
        await fill(other, event("Noted", "t"))
        assert len(await read(other)) == 2

    @rule()
    async def test_h7_what_is_offered_is_tested(self, bench: Bench) -> None:
        """H7: what the store says of itself, its fixture lets the other rules test."""
        store = await bench.open()
        assert Capability.DURABLE not in store.capabilities or bench.fixture.reopens
        assert Capability.SHARED not in store.capabilities or (bench.fixture.handles and bench.fixture.processes)

    @rule("reopens")
    async def test_r1_positions_go_on(self, bench: Bench) -> None:
        """R1: positions go on above the old ones when a store is opened again."""
        store = await bench.open()
        before = await fill(store, event("Noted", "t"), event("Noted", "t"))
        store = await bench.reopen(store)
        after = await fill(store, event("Noted", "t"))
        assert before[-1] < after[0]
        assert positions(await read(store)) == before + after

    @rule("reopens")
    async def test_r2_append_ids_survive(self, bench: Bench) -> None:
        """R2: append ids are remembered when a store is opened again."""
        store = await bench.open()
        batch = [event("Noted", "t")]
        first = await store.append(batch, append_id="once")
        store = await bench.reopen(store)
        assert await store.appended("once") == first
        assert await store.append(batch, append_id="once") == first
        assert [one.data for one in await read(store)] == data_of(batch)

    @rule("reopens")
    async def test_r4_conditions_see_the_past(self, bench: Bench) -> None:
        """R4: a condition counts what was appended before the store was opened again."""
        store = await bench.open()
        at = await fill(store, *(event("Noted", tag) for tag in "nntn"))
        store = await bench.reopen(store)
        with pytest.raises(Conflict):
            await store.append([event("Tried", "x")], AppendCondition(Query.of(tags="t"), at[0]))
        await store.append([event("Tried", "x")], AppendCondition(Query.of(tags="t"), at[2]))
        assert len(await read(store)) == 5

    @rule("reopens")
    async def test_r3_close_finishes_appends(self, bench: Bench) -> None:
        """R3: an append that closing overtakes is finished or refused: what was acknowledged is there, nothing else."""
        store = await bench.open()
        batches = [[event("Noted", "t") for _ in range(3)] for _ in range(20)]
        tasks = [asyncio.create_task(store.append(batch)) for batch in batches]
        await asyncio.sleep(0)
        await store.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(not isinstance(one, BaseException) or isinstance(one, StoreClosed) for one in results), results
        kept = [
            one
            for batch, done in zip(batches, results, strict=True)
            if not isinstance(done, BaseException)
            for one in batch
        ]
        store = await bench.open()
        assert sorted(await data(store)) == sorted(data_of(kept))

    @rule()
    async def test_s1_closing_twice(self, bench: Bench) -> None:
        """S1: closing a store twice is fine."""
        store = await bench.open()
        await fill(store, event("Noted", "t"))
        await store.close()
        await store.close()

    @rule()
    async def test_s2_use_after_closing(self, bench: Bench) -> None:
        """S2: a closed store says that it is closed."""
        store = await bench.open()
        await fill(store, event("Noted", "t"))
        await store.close()
        with pytest.raises(StoreClosed):
            await store.append([event("Noted", "t")])
        with pytest.raises(StoreClosed):
            await store.head()
        with pytest.raises(StoreClosed):
            await pages(store)
        with pytest.raises(StoreClosed):
            await store.appended("once")
        with pytest.raises(StoreClosed):
            await collect(store.follow(), 1)

    @rule()
    async def test_s3_followers_learn_of_closing(self, bench: Bench) -> None:
        """S3: a follower that waits is told that its store was closed."""
        store = await bench.open()
        (start,) = await fill(store, event("Noted", "t"))
        task = asyncio.create_task(collect(store.follow(after=start), start + 1))
        await turns()
        assert not task.done()
        await store.close()
        with pytest.raises(StoreClosed):
            await task
