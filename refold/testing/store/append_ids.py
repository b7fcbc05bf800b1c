"""Rules I: an append that is repeated with its id happens once."""

import asyncio
from datetime import timedelta

import pytest

from refold.errors import AppendIdReused, Conflict
from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent
from refold.store.api import MAX_NAME_CHARS
from refold.testing.clock import Clock
from refold.testing.store.rule import Bench, StoreRules, rule
from refold.testing.store.tools import data, data_of, event, fill, read


class AppendIdRules(StoreRules):
    """An append that is repeated with its id happens once."""

    @rule()
    async def test_i1_repeated(self, bench: Bench) -> None:
        """I1: an append repeated with its id returns the first one's result and stores nothing."""
        store = await bench.open()
        batch = [event("Noted", "t"), event("Noted", "t")]
        first = await store.append(batch, append_id="once")
        await fill(store, event("Noted", "t"))
        assert await store.append(batch, append_id="once") == first
        assert len(await read(store)) == 3

    @rule()
    async def test_i2_repeated_with_its_condition(self, bench: Bench) -> None:
        """I2: a conditional append repeated with its id succeeds again, though its own events now break it."""
        store = await bench.open()
        (start,) = await fill(store, event("Noted", "n"))
        batch, condition = [event("Noted", "t")], AppendCondition(Query.of(tags="t"), start)
        first = await store.append(batch, condition, append_id="once")
        await fill(store, event("Noted", "t"))
        assert await store.append(batch, condition, append_id="once") == first
        assert await store.append(batch, AppendCondition(Query(), 1_000_000_000), append_id="once") == first
        assert len(await read(store)) == 3

    @rule()
    async def test_i3_ids_differ(self, bench: Bench) -> None:
        """I3: the same events under another id, or under none, are another append."""
        store = await bench.open()
        batch = [event("Noted", "t")]
        first = await store.append(batch, append_id="once")
        assert (await store.append(batch, append_id="Once")).first > first.last
        await store.append(batch)
        assert await data(store) == data_of(batch * 3)

    @rule()
    async def test_i4_other_events(self, bench: Bench) -> None:
        """I4: an id that comes again with other types, versions, tags, data or events is refused."""
        store = await bench.open()
        batch = [NewEvent("Noted", b"1", ("t", "u"), 1), NewEvent("Noted", b"2", ("t",), 1)]
        await store.append(batch, append_id="once")
        others = [
            [NewEvent("Other", b"1", ("t", "u"), 1), batch[1]],
            [NewEvent("Noted", b"9", ("t", "u"), 1), batch[1]],
            [NewEvent("Noted", b"1", ("t",), 1), batch[1]],
            [NewEvent("Noted", b"1", ("t", "u"), 2), batch[1]],
            batch[:1],
            batch[::-1],
            [*batch, batch[1]],
        ]
        for other in others:
            with pytest.raises(AppendIdReused):
                await store.append(other, append_id="once")
        assert await data(store) == data_of(batch)

    @rule()
    async def test_i5_other_metadata(self, bench: Bench) -> None:
        """I5: an append repeated with other metadata is the same append, and keeps the first one's."""
        store = await bench.open()
        first = await store.append([NewEvent("Noted", b"1", ("t",), metadata=b"first")], append_id="once")
        again = await store.append([NewEvent("Noted", b"1", ("t",), metadata=b"again")], append_id="once")
        assert again == first
        assert [one.metadata for one in await read(store)] == [b"first"]

    @rule()
    async def test_i6_looking_up(self, bench: Bench) -> None:
        """I6: the result of an append can be asked for by its id; an id that never came has none."""
        store = await bench.open()
        assert await store.appended("once") is None
        first = await store.append([event("Noted", "t"), event("Noted", "t")], append_id="once")
        assert await store.appended("once") == first
        assert await store.appended("never") is None

    @rule()
    async def test_i7_failed_append(self, bench: Bench) -> None:
        """I7: an append that failed does not use up its id."""
        store = await bench.open()
        at = await fill(store, event("Noted", "n"), event("Noted", "n"), event("Noted", "t"))
        condition = AppendCondition(Query.of(tags="t"), at[0])
        with pytest.raises(Conflict):
            await store.append([event("Noted", "x")], condition, append_id="once")
        assert await store.appended("once") is None
        noted = event("Noted", "y")
        await store.append([noted], append_id="once")
        assert (await data(store))[-1] == noted.data

    @rule()
    async def test_i8_at_the_same_time(self, bench: Bench) -> None:
        """I8: appends with the same id at the same time are one append."""
        store = await bench.open()
        batch = [event("Noted", "t")]
        results = await asyncio.gather(*(store.append(batch, append_id="once") for _ in range(8)))
        assert results == [results[0]] * 8
        assert await data(store) == data_of(batch)

    @rule("clock")
    async def test_i9_remembered_for_days(self, bench: Bench) -> None:
        """I9: an id is remembered for seven days unless the store was opened otherwise, however many came since."""
        clock = Clock()
        store = await bench.open(clock=clock)
        batch = [event("Noted", "t")]
        first = await store.append(batch, append_id="once")
        for n in range(6):
            clock.advance(timedelta(hours=27))
            await store.append([event("Noted", "t")], append_id=f"other:{n}")
        assert await store.append(batch, append_id="once") == first
        assert len(await read(store)) == 7

    @rule("clock")
    async def test_i10_not_remembered_for_ever(self, bench: Bench) -> None:
        """I10: an id may be used again when its seven days are over."""
        clock = Clock()
        store = await bench.open(clock=clock)
        first = await store.append([event("Noted", "t")], append_id="once")
        clock.advance(timedelta(days=7, seconds=1))
        await fill(store, event("Noted", "t"))
        assert await store.appended("once") is None
        batch = [event("Noted", "t")]
        again = await store.append(batch, append_id="once")
        assert again.first > first.last
        assert await store.append(batch, append_id="once") == again

    @rule()
    async def test_i11_same_tags(self, bench: Bench) -> None:
        """I11: neither duplicate tags nor their order make another append of it."""
        store = await bench.open()
        first = await store.append([NewEvent("Noted", b"1", ("t", "u"))], append_id="once")
        for tags in (("t", "u", "t"), ("u", "t")):
            assert await store.append([NewEvent("Noted", b"1", tags)], append_id="once") == first
        assert len(await read(store)) == 1

    @rule()
    async def test_i12_what_is_no_id(self, bench: Bench) -> None:
        """I12: what no append can have as its id has no result, however odd it is."""
        store = await bench.open()
        await store.append([event("Noted", "t")], append_id="once")
        for odd in ("", "once\0", "\ud83d", "once" * MAX_NAME_CHARS):
            assert await store.appended(odd) is None
