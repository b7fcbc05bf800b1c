"""Rules O: where a read begins and ends, in which direction, how much it takes, and what its pages say."""

from typing import Any

import pytest

from refold.errors import InvalidQuery, PositionAhead
from refold.model.query import AppendCondition, Query, QueryItem
from refold.store.api import Page, Store
from refold.testing.store.rule import Bench, StoreRules, rule
from refold.testing.store.tools import closing, data, data_of, event, fill, pages, positions, read

LONG = 2_500
"""Enough events for several pages of any store that keeps its pages small."""


async def fill_long(store: Store, number: int = LONG) -> None:
    """Append many events, in batches."""
    for start in range(0, number, 500):
        await store.append([event("Noted", "t") for _ in range(min(500, number - start))])


async def last_page(store: Store, query: Query = Query(), **options: Any) -> Page:
    """Return the last page of a read."""
    return (await pages(store, query, **options))[-1]


class ReadRules(StoreRules):
    """Where a read begins and ends, in which direction, how much it takes, and what its pages say."""

    @rule()
    async def test_o1_after(self, bench: Bench) -> None:
        """O1: a read after a position begins with the next one."""
        store = await bench.open()
        noted = [event("A", "t") for _ in range(3)]
        at = await fill(store, *noted)
        assert await data(store, after=at[0]) == data_of(noted[1:])
        assert await data(store, after=at[2]) == []

    @rule()
    async def test_o2_backwards(self, bench: Bench) -> None:
        """O2: backwards, the last event comes first."""
        store = await bench.open()
        noted = [event("A", "t"), event("B", "t"), event("A", "t")]
        await fill(store, *noted)
        assert await data(store, backwards=True) == data_of(noted[::-1])
        assert await data(store, Query.of(types="A"), backwards=True) == [noted[2].data, noted[0].data]

    @rule()
    async def test_o3_window_backwards(self, bench: Bench) -> None:
        """O3: backwards, the bounds are the same: `after` is left out, `upto` is in."""
        store = await bench.open()
        noted = [event("A", "t") for _ in range(5)]
        at = await fill(store, *noted)
        assert await data(store, after=at[0], upto=at[3], backwards=True) == data_of(noted[3:0:-1])

    @rule()
    async def test_o4_limit_counts_matches(self, bench: Bench) -> None:
        """O4: the limit counts the events that match, not those that were looked at."""
        store = await bench.open()
        noted = [event(name, "t") for name in "BBABAA"]
        await fill(store, *noted)
        assert await data(store, Query.of(types="A"), limit=2) == [noted[2].data, noted[4].data]

    @rule()
    async def test_o5_limits(self, bench: Bench) -> None:
        """O5: a limit of 0 gives none, one over the number of events gives all."""
        store = await bench.open()
        noted = [event("A", "t") for _ in range(3)]
        await fill(store, *noted)
        assert await data(store, limit=0) == []
        assert await data(store, limit=1) == data_of(noted[:1])
        assert await data(store, limit=3) == data_of(noted)
        assert await data(store, limit=1_000_000) == data_of(noted)

    @rule()
    async def test_o6_after_the_head(self, bench: Bench) -> None:
        """O6: a read after the head, or after what is beyond it, gives nothing."""
        store = await bench.open()
        await fill(store, event("A", "t"), event("A", "t"))
        head = await store.head()
        assert await data(store, Query.of(tags="t"), after=head) == []
        assert await data(store, Query.of(tags="t"), after=head + 1_000) == []

    @rule()
    async def test_o7_upto_is_the_head(self, bench: Bench) -> None:
        """O7: a read ends at the head, though the last events do not match, or at `upto` if that is lower."""
        store = await bench.open()
        at = await fill(store, event("A", "t"), event("B", "t"), event("B", "u"), event("C", "t"))
        head = at[3]
        for query in (Query(), Query.of(types="A"), Query.of(tags="u")):
            assert (await last_page(store, query)).upto == head, query
            assert (await last_page(store, query, after=at[0])).upto == head, query
            assert (await last_page(store, query, upto=at[2])).upto == at[2], query
            assert (await last_page(store, query, upto=head + 1_000)).upto == head, query
            assert (await last_page(store, query, limit=10)).upto == head, query

    @rule()
    async def test_o8_pages_of_one_moment(self, bench: Bench) -> None:
        """O8: a read sees the log as it was when it began, on every page."""
        store = await bench.open()
        await fill_long(store)
        before = positions(await read(store))
        seen: list[int] = []
        async for page in store.read():
            seen += positions(page)
            await fill(store, event("Noted", "t"))
        assert seen == before

    @rule(net=True)
    async def test_o9_pages_are_small(self, bench: Bench) -> None:
        """O9: of many events no page holds more than a part."""
        store = await bench.open()
        await fill_long(store, 30_000)
        sizes = [len(page) for page in await pages(store)]
        assert sum(sizes) == 30_000
        assert max(sizes) <= 10_000

    @rule("gaps")
    async def test_o10_bounds_in_a_gap(self, bench: Bench) -> None:
        """O10: a position that no event has bounds a read like the event below it."""
        store = await bench.open()
        noted = [event("A", "t") for _ in range(3)]
        at = await fill(store, *noted)
        gap = at[0] + 1
        assert gap < at[1]
        assert await data(store, after=gap) == data_of(noted[1:])
        assert await data(store, upto=gap) == data_of(noted[:1])
        assert await data(store, upto=gap, backwards=True) == data_of(noted[:1])
        assert (await last_page(store, upto=gap)).upto == gap

    @rule()
    async def test_o11_open_reads_block_nothing(self, bench: Bench) -> None:
        """O11: a read that is under way does not hold up appends or other reads."""
        store = await bench.open()
        await fill_long(store)
        async with closing(store.read()) as reading:
            await anext(reading)
            noted = event("Late", "t")
            await fill(store, noted)
            assert await data(store, Query.of(types="Late")) == [noted.data]

    @rule()
    async def test_o12_last_event(self, bench: Bench) -> None:
        """O12: backwards with a limit, the last matching events are taken."""
        store = await bench.open()
        noted = [event(name, "t") for name in "AABAB"]
        await fill(store, *noted)
        assert await data(store, Query.of(types="A"), backwards=True, limit=1) == [noted[3].data]
        assert await data(store, Query.of(types="A"), backwards=True, limit=2) == [noted[3].data, noted[1].data]

    @rule()
    async def test_o13_upto(self, bench: Bench) -> None:
        """O13: a read up to a position ends with the event there; up to 0 there is none."""
        store = await bench.open()
        noted = [event("A", "t") for _ in range(3)]
        at = await fill(store, *noted)
        assert await data(store, upto=at[1]) == data_of(noted[:2])
        assert await data(store, upto=at[2] + 1_000) == data_of(noted)
        assert await data(store, upto=0) == []

    @rule()
    async def test_o14_window(self, bench: Bench) -> None:
        """O14: a window has its lower bound left out and its upper one in; an empty or turned one gives nothing."""
        store = await bench.open()
        noted = [event("A", "t") for _ in range(5)]
        at = await fill(store, *noted)
        assert await data(store, after=at[1], upto=at[3]) == data_of(noted[2:4])
        assert await data(store, after=at[1], upto=at[1]) == []
        assert await data(store, after=at[3], upto=at[1]) == []

    @rule()
    async def test_o15_after_binds_every_item(self, bench: Bench) -> None:
        """O15: the bounds hold for each item of a query."""
        store = await bench.open()
        noted = [event(name, "t") for name in "ABABAB"]
        at = await fill(store, *noted)
        a, b = QueryItem(("A",), ("t",)), QueryItem(("B",), ("t",))
        for query in (Query((a, b)), Query((b, a))):
            assert await data(store, query, after=at[2]) == data_of(noted[3:])

    @rule()
    async def test_o16_limit_counts_all_items(self, bench: Bench) -> None:
        """O16: the limit is for the read, not for each item of its query."""
        store = await bench.open()
        noted = [event("A", tag) for tag in "ttutuu"]
        await fill(store, *noted)
        query = Query((QueryItem(tags=("t",)), QueryItem(tags=("u",))))
        assert await data(store, query, limit=3) == data_of(noted[:3])

    @rule()
    async def test_o17_upto_of_a_limited_read(self, bench: Bench) -> None:
        """O17: a read that its limit cut short ends at its last event; if it took nothing, where it began."""
        store = await bench.open()
        at = await fill(store, *(event(name, "t") for name in "BABAB"))
        assert (await last_page(store, Query.of(types="A"), limit=1)).upto == at[1]
        assert (await last_page(store, limit=2, after=at[0])).upto == at[2]
        assert (await last_page(store, limit=2, upto=at[3])).upto == at[1]
        assert (await last_page(store, limit=0)).upto == 0
        assert (await last_page(store, limit=0, after=at[1])).upto == at[1]

    @rule()
    async def test_o18_upto_backwards(self, bench: Bench) -> None:
        """O18: a read that goes backwards says where it began: at the head, or at `upto` if that is lower."""
        store = await bench.open()
        at = await fill(store, *(event(name, "t") for name in "AABAB"))
        assert (await last_page(store, Query.of(types="A"), backwards=True)).upto == at[4]
        assert (await last_page(store, Query.of(types="A"), backwards=True, limit=1)).upto == at[4]
        assert (await last_page(store, backwards=True, upto=at[2], limit=1)).upto == at[2]
        assert (await last_page(store, backwards=True, upto=at[4] + 1_000)).upto == at[4]

    @rule()
    async def test_o19_pages_follow_each_other(self, bench: Bench) -> None:
        """O19: each page goes on where `upto` of the page before it ended, and all together are the read."""
        store = await bench.open()
        await fill_long(store)
        everything, at = positions(await read(store)), 0
        assert len(everything) == LONG
        for page in await pages(store):
            assert list(page) == sorted(page, key=lambda one: one.position)
            assert positions(page) == [one for one in everything if at < one <= page.upto]
            at = page.upto
        assert positions(await read(store, limit=LONG - 1)) == everything[:-1]

    @rule()
    async def test_o20_reads_left_early(self, bench: Bench) -> None:
        """O20: a read that is left early leaves the store in order."""
        store = await bench.open()
        await fill_long(store)
        before = await data(store)
        for _ in range(20):
            async with closing(store.read()) as reading:
                await anext(reading)
        assert await data(store) == before

    @rule()
    async def test_o21_negative_bounds(self, bench: Bench) -> None:
        """O21: a negative `after` or `limit` is refused, not read from the other end."""
        store = await bench.open()
        await fill(store, event("A", "t"), event("B", "t"))
        with pytest.raises(InvalidQuery):
            await pages(store, after=-1)
        with pytest.raises(InvalidQuery):
            await pages(store, limit=-1)

    @rule(net=True)
    async def test_o22_bounds_beyond_all_positions(self, bench: Bench) -> None:
        """O22: bounds that no position can have, larger than 64 bits too, read as those beyond the head do."""
        store = await bench.open()
        noted = [event("A", "t"), event("B", "t")]
        at = await fill(store, *noted)
        for far in (2**63 - 1, 2**63, 2**70):
            for query in (Query(), Query.of(tags="t")):
                assert await data(store, query, after=far) == []
                assert await data(store, query, after=far, upto=far) == []
                assert await data(store, query, upto=far) == data_of(noted)
                assert await data(store, query, upto=far, backwards=True) == data_of(noted[::-1])
                assert await data(store, query, limit=far) == data_of(noted)
            assert (await last_page(store, upto=far)).upto == at[1]
            assert await data(store, upto=-far) == []
            with pytest.raises(PositionAhead):
                await store.append([event("A", "t")], AppendCondition(Query.of(tags="u"), far))
            async with closing(store.follow(after=far)) as following:
                with pytest.raises(PositionAhead):
                    await anext(following)
