"""Rules W: a follower reads what is there, then what comes."""

import asyncio

import pytest

from refold.errors import PositionAhead
from refold.model.query import Query
from refold.testing.store.rule import Bench, StoreRules, rule
from refold.testing.store.tools import closing, collect, data, data_of, event, fill, next_page, turns


class FollowRules(StoreRules):
    """A follower reads what is there, then what comes."""

    @rule()
    async def test_w1_then_what_comes(self, bench: Bench) -> None:
        """W1: a follower reads what is there, then each event as it comes, once and in order."""
        store = await bench.open()
        noted = [event("Noted", "t") for _ in range(6)]
        await fill(store, *noted[:2])
        async with closing(store.follow()) as following:
            seen = [one.data for page in await collect(following, await store.head()) for one in page]
            assert seen == data_of(noted[:2])
            for one in noted[2:]:
                task = asyncio.create_task(next_page(following))
                await turns()
                assert not task.done()
                await fill(store, one)
                seen += [each.data for each in await task]
            assert seen == data_of(noted)

    @rule()
    async def test_w2_nothing_matched(self, bench: Bench) -> None:
        """W2: a follower learns how far the log has grown, also when nothing in it matched."""
        store = await bench.open()
        await fill(store, event("Noted", "t"), event("Other", "t"))
        async with closing(store.follow(Query.of(types="Noted"))) as following:
            await collect(following, await store.head())
            (last,) = await fill(store, event("Other", "t"))
            (page,) = await collect(following, last)
            assert (list(page), page.upto) == ([], last)

    @rule()
    async def test_w3_after_the_head(self, bench: Bench) -> None:
        """W3: a follower from beyond the head is refused."""
        store = await bench.open()
        (last,) = await fill(store, event("Noted", "t"))
        with pytest.raises(PositionAhead):
            await collect(store.follow(after=last + 1_000), last)

    @rule()
    async def test_w4_after(self, bench: Bench) -> None:
        """W4: a follower begins with the event behind `after`."""
        store = await bench.open()
        noted = [event("Noted", "t") for _ in range(4)]
        at = await fill(store, *noted)
        async with closing(store.follow(after=at[1])) as following:
            assert [one.data for page in await collect(following, at[3]) for one in page] == data_of(noted[2:])

    @rule()
    async def test_w5_query(self, bench: Bench) -> None:
        """W5: a follower is given what its query means, of the old and of the new, and nothing else."""
        store = await bench.open()
        noted = [event(name, tag) for name, tag in zip("ABAABBA", "ttuuttt", strict=True)]
        query = Query.of(types="A", tags="t")
        await fill(store, *noted[:3])
        async with closing(store.follow(query)) as following:
            seen = await collect(following, await store.head())
            (*_, last) = await fill(store, *noted[3:])
            seen += await collect(following, last)
        assert [one.data for page in seen for one in page] == [noted[0].data, noted[6].data]

    @rule()
    async def test_w6_several_followers(self, bench: Bench) -> None:
        """W6: each of several followers is given every event."""
        store = await bench.open()
        noted = [event("Noted", "t") for _ in range(5)]
        (start,) = await fill(store, noted[0])
        async with closing(store.follow()) as one, closing(store.follow()) as other:
            await collect(one, start)
            await collect(other, start)
            (*_, last) = await fill(store, *noted[1:])
            for following in (one, other):
                assert [each.data for page in await collect(following, last) for each in page] == data_of(noted[1:])

    @rule()
    async def test_w7_a_slow_follower(self, bench: Bench) -> None:
        """W7: a follower that falls behind is given all that came meanwhile, page by page."""
        store = await bench.open()
        (last,) = await fill(store, event("Noted", "t"))
        noted = [event("Noted", "t") for _ in range(2_500)]
        async with closing(store.follow()) as following:
            await collect(following, last)
            task = asyncio.create_task(next_page(following))
            await turns()
            for start in range(0, 2_500, 500):
                last = (await store.append(noted[start : start + 500])).last
            taken = [await task]
            if taken[0].upto < last:
                taken += await collect(following, last)
        assert [one.data for page in taken for one in page] == data_of(noted)

    @rule()
    async def test_w8_repeated_appends(self, bench: Bench) -> None:
        """W8: an append that is repeated with its id is given to a follower once."""
        store = await bench.open()
        batch, last = [event("Repeated", "t")], event("Noted", "n")
        async with closing(store.follow()) as following:
            for _ in range(3):
                await store.append(batch, append_id="once")
            (at,) = await fill(store, last)
            assert [one.data for page in await collect(following, at) for one in page] == data_of([*batch, last])
        assert await data(store) == data_of([*batch, last])
