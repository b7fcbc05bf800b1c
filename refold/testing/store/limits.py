"""Rules L: what is at a limit is held, what is over it is refused before anything is written."""

import pytest

from refold.errors import Conflict, InvalidEvent, TooLarge
from refold.model.query import AppendCondition, Query, QueryItem
from refold.model.record import NewEvent
from refold.store.api import (
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    MAX_EVENT_BYTES,
    MAX_NAME_CHARS,
    MAX_TAGS,
    Store,
)
from refold.testing.store.rule import Bench, StoreRules, rule
from refold.testing.store.tools import data, event, fill, pages, read

LONGEST = "é" * (MAX_NAME_CHARS - 1)
MANY_ITEMS = 1_200


async def refuses(store: Store, error: type[InvalidEvent], *bad: NewEvent, append_id: str | None = None) -> None:
    """Check that a batch is refused with exactly this error, and nothing of it is written."""
    with pytest.raises(error) as caught:
        await store.append([event("Noted", "t"), *bad], append_id=append_id)
    assert type(caught.value) is error
    assert await read(store) == []


class LimitRules(StoreRules):
    """What is at a limit is held, what is over it is refused before anything is written."""

    @rule()
    async def test_l1_longest_names(self, bench: Bench) -> None:
        """L1: types, tags and append ids of the greatest length are held, and told apart by their last character."""
        store = await bench.open()
        one, other = LONGEST + "1", LONGEST + "2"
        batches = {name: [event(name, name)] for name in (one, other)}
        results = {name: await store.append(batch, append_id=name) for name, batch in batches.items()}
        for name, batch in batches.items():
            assert await store.append(batch, append_id=name) == results[name]
        assert [(each.type, each.tags) for each in await read(store)] == [(one, (one,)), (other, (other,))]
        assert len(await read(store, Query.of(types=one))) == 1
        assert len(await read(store, Query.of(tags=other))) == 1

    @rule()
    async def test_l2_too_long_names(self, bench: Bench) -> None:
        """L2: a type, tag or append id over the greatest length is too large."""
        store = await bench.open()
        await refuses(store, TooLarge, event(LONGEST + "12"))
        await refuses(store, TooLarge, event("Noted", "t", LONGEST + "12"))
        await refuses(store, TooLarge, append_id=LONGEST + "12")

    @rule()
    async def test_l3_names_without_characters(self, bench: Bench) -> None:
        """L3: an empty type, tag or append id is refused."""
        store = await bench.open()
        await refuses(store, InvalidEvent, event(""))
        for version in (0, 2**31, 10**30):
            await refuses(store, InvalidEvent, event("Noted", version=version))
        await refuses(store, InvalidEvent, event("Noted", "t", ""))
        await refuses(store, InvalidEvent, append_id="")

    @rule()
    async def test_l4_nul(self, bench: Bench) -> None:
        """L4: a NUL character in a type, tag or append id is refused."""
        store = await bench.open()
        await refuses(store, InvalidEvent, event("a\0b"))
        await refuses(store, InvalidEvent, event("Noted", "t", "a\0b"))
        await refuses(store, InvalidEvent, append_id="a\0b")

    @rule()
    async def test_l5_lone_surrogates(self, bench: Bench) -> None:
        """L5: half of a surrogate pair in a type, tag or append id is refused."""
        store = await bench.open()
        await refuses(store, InvalidEvent, event("a\ud800"))
        await refuses(store, InvalidEvent, event("Noted", "t", "\udfffa"))
        await refuses(store, InvalidEvent, append_id="\ud83d")

    @rule()
    async def test_l6_most_tags(self, bench: Bench) -> None:
        """L6: an event with the greatest number of tags is found by each of them; duplicates do not count."""
        store = await bench.open()
        tags = [f"tag:{n}" for n in range(MAX_TAGS)]
        await fill(store, event("Noted", *tags, *tags))
        for tag in tags:
            assert len(await read(store, Query.of(tags=tag))) == 1, tag
        assert len(await read(store, Query.of(tags=tags))) == 1

    @rule()
    async def test_l7_too_many_tags(self, bench: Bench) -> None:
        """L7: an event with more than the greatest number of tags is too large."""
        store = await bench.open()
        await refuses(store, TooLarge, event("Noted", *(f"tag:{n}" for n in range(MAX_TAGS + 1))))

    @rule()
    async def test_l8_largest_event(self, bench: Bench) -> None:
        """L8: data and metadata of the greatest size together are held."""
        store = await bench.open()
        half = MAX_EVENT_BYTES // 2
        await store.append([NewEvent("Noted", bytes(half), ("t",), metadata=b"\xff" * half)])
        (found,) = await read(store)
        assert (found.data, found.metadata) == (bytes(half), b"\xff" * half)

    @rule()
    async def test_l9_too_large_event(self, bench: Bench) -> None:
        """L9: an event over the greatest size, by a byte or by 100 MiB, is too large; data and metadata both count."""
        store = await bench.open()
        await refuses(store, TooLarge, event(data=bytes(MAX_EVENT_BYTES + 1)))
        await refuses(store, TooLarge, event(data=bytes(100 << 20)))
        await refuses(store, TooLarge, NewEvent("Noted", b"{}", metadata=bytes(MAX_EVENT_BYTES - 1)))

    @rule()
    async def test_l10_too_large_batch(self, bench: Bench) -> None:
        """L10: a batch over the greatest size is too large, though each of its events is not."""
        store = await bench.open()
        largest = event(data=bytes(MAX_EVENT_BYTES))
        await refuses(store, TooLarge, *[largest] * (MAX_BATCH_BYTES // MAX_EVENT_BYTES))

    @rule()
    async def test_l11_too_many_events(self, bench: Bench) -> None:
        """L11: a batch of more than the greatest number of events is too large."""
        store = await bench.open()
        await refuses(store, TooLarge, *[event()] * MAX_BATCH_EVENTS)

    @rule(net=True)
    async def test_l12_largest_batches(self, bench: Bench) -> None:
        """L12: a batch of the greatest size and one of the greatest number of events are held."""
        store = await bench.open()
        largest = event("Large", "t", data=bytes(MAX_EVENT_BYTES))
        await store.append([largest] * (MAX_BATCH_BYTES // MAX_EVENT_BYTES))
        sizes = [len(one.data) for page in await pages(store) for one in page]
        assert sizes == [MAX_EVENT_BYTES] * (MAX_BATCH_BYTES // MAX_EVENT_BYTES)
        result = await store.append([event("Small", "t")] * MAX_BATCH_EVENTS)
        assert result.last - result.first == MAX_BATCH_EVENTS - 1
        assert sum([len(page) async for page in store.read(Query.of(types="Small"))]) == MAX_BATCH_EVENTS

    @rule()
    async def test_l13_versions_start_at_1(self, bench: Bench) -> None:
        """L13: a version below 1 is refused."""
        store = await bench.open()
        await refuses(store, InvalidEvent, event("Noted", "t", version=0))
        await refuses(store, InvalidEvent, event("Noted", "t", version=-1))

    @rule()
    async def test_l14_large_query(self, bench: Bench) -> None:
        """L14: a query of many items, types and tags is answered, as a read and as a condition."""
        store = await bench.open()
        first, last = event("Type0000", "tag:0"), event(f"Type{MANY_ITEMS - 1:04}", f"tag:{MANY_ITEMS - 1}")
        at = await fill(store, first, event("Noted", "n"), last, event(f"Type{MANY_ITEMS:04}", f"tag:{MANY_ITEMS}"))
        many = tuple(f"Type{n:04}" for n in range(MANY_ITEMS))
        by_items = Query(tuple(QueryItem((name,), (f"tag:{n}",)) for n, name in enumerate(many)))
        assert await data(store, by_items) == [first.data, last.data]
        assert await data(store, Query.of(types=many)) == [first.data, last.data]
        with pytest.raises(Conflict):
            await store.append([event("Tried", "x")], AppendCondition(by_items, at[0]))
        others = Query(tuple(QueryItem((f"Other{name}",), ("other",)) for name in many))
        await store.append([event("Tried", "x")], AppendCondition(others, at[0]))
