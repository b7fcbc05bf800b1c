"""Rules A: what is appended is read back, whole, unchanged and in order."""

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest

from refold.errors import InvalidEvent
from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import MAX_VERSION, utc_now
from refold.testing.clock import Clock
from refold.testing.store.rule import Bench, StoreRules, rule
from refold.testing.store.tools import data, data_of, event, fill, pages, positions, read

ALL_BYTES = bytes(range(256))
NAMES = (
    "a:1",
    "with space",
    "tab\tand\nnewline",
    "'quoted' \"twice\" \\ back",
    "[1,2] {json} null",
    "ünïcödé",
    "e\u0301",
    "日本語",
    "\U0001d4b3 beyond the basic plane",
    "\uffff",
    "\U0010ffff",
    "\ufeffmark",
    "\u2028",
    "\x01\x7f",
)


class AppendRules(StoreRules):
    """What is appended is read back, whole, unchanged and in order."""

    @rule()
    async def test_a1_empty_log(self, bench: Bench) -> None:
        """A1: an empty log has head 0 and reads nothing up to 0."""
        store = await bench.open()
        assert await store.head() == 0
        assert await read(store) == []
        assert [page.upto for page in await pages(store)][-1:] in ([], [0])

    @rule()
    async def test_a2_order(self, bench: Bench) -> None:
        """A2: events are read in the order they were appended, inside a batch and across batches."""
        store = await bench.open()
        first = [event(name, "t") for name in "CADBA"]
        second = [event(name, "t") for name in "BAC"]
        await store.append(first)
        await store.append(second)
        assert await data(store) == data_of(first + second)

    @rule()
    async def test_a3_empty_batch(self, bench: Bench) -> None:
        """A3: a batch without events is refused, and leaves nothing."""
        store = await bench.open()
        with pytest.raises(InvalidEvent):
            await store.append([])
        assert await read(store) == []

    @rule()
    async def test_a4_positions(self, bench: Bench) -> None:
        """A4: positions are positive, unique and strictly increasing within and across batches."""
        store = await bench.open()
        for size in (1, 4, 2, 1):
            await store.append([event("Noted", "t") for _ in range(size)])
        found = positions(await read(store))
        assert len(found) == 8
        assert found[0] > 0
        assert all(one < other for one, other in pairwise(found)), found

    @rule()
    async def test_a5_data(self, bench: Bench) -> None:
        """A5: data is any bytes, none or a MiB of them, and comes back exactly."""
        store = await bench.open()
        contents = [b"", b"\0", ALL_BYTES, b"\xff\xfe not text", "ünïcödé".encode(), ALL_BYTES * 4096]
        for content in contents:
            await store.append([event("Noted", "t", data=content)])
        *small, large = await data(store)
        assert small == contents[:-1]
        same = large == contents[-1]  # telling where they differ would take minutes
        assert same, f"a MiB of bytes came back as {len(large):,} others, from {large[:20]!r} on"

    @rule("reopens")
    async def test_a6_reopen(self, bench: Bench) -> None:
        """A6: a store that is opened again holds the same events at the same positions."""
        store = await bench.open()
        for size in (1, 3, 1):
            await store.append([event("Noted", "t", "u") for _ in range(size)])
        before, head = await read(store), await store.head()
        store = await bench.reopen(store)
        after = await read(store)
        assert positions(after) == positions(before)
        assert data_of_stored(after) == data_of_stored(before)
        assert await store.head() == head

    @rule()
    async def test_a7_tags(self, bench: Bench) -> None:
        """A7: all tags of an event come back exactly, whatever text they are."""
        store = await bench.open()
        await fill(store, event("Noted", *NAMES), event("Noted", NAMES[0]))
        assert [sorted(one.tags) for one in await read(store)] == [sorted(NAMES), [NAMES[0]]]

    @rule()
    async def test_a8_duplicate_tags(self, bench: Bench) -> None:
        """A8: duplicate tags of an event collapse into one."""
        store = await bench.open()
        await fill(store, event("Noted", "t", "u", "t"))
        assert [sorted(one.tags) for one in await read(store)] == [["t", "u"]]

    @rule()
    async def test_a9_types(self, bench: Bench) -> None:
        """A9: types come back exactly, whatever text they are."""
        store = await bench.open()
        await fill(store, *(event(name, "t") for name in NAMES))
        assert [one.type for one in await read(store)] == list(NAMES)

    @rule()
    async def test_a10_version(self, bench: Bench) -> None:
        """A10: the version of an event comes back."""
        store = await bench.open()
        versions = [1, 2, 300, 70_000, MAX_VERSION]
        await fill(store, *(event("Noted", "t", version=version) for version in versions))
        assert [one.version for one in await read(store)] == versions

    @rule()
    async def test_a11_metadata(self, bench: Bench) -> None:
        """A11: metadata comes back exactly; none is not the same as an empty object."""
        store = await bench.open()
        given = [b"", b"{}", b"null", ALL_BYTES]
        await fill(store, *(NewEvent("Noted", b"{}", ("t",), metadata=one) for one in given))
        assert [one.metadata for one in await read(store)] == given

    @rule()
    async def test_a12_recorded_at_is_utc(self, bench: Bench) -> None:
        """A12: each event has the time it was recorded, in UTC."""
        store = await bench.open()
        await fill(store, event("Noted", "t"))
        (found,) = await read(store)
        assert found.recorded_at.utcoffset() == timedelta(0)
        assert abs(found.recorded_at - utc_now()) < timedelta(hours=1)

    @rule("clock")
    async def test_a13_recorded_at_is_the_clock_of_the_store(self, bench: Bench) -> None:
        """A13: the recorded time is what the store's clock says, to the microsecond, one for a batch."""
        clock = Clock()
        store = await bench.open(clock=clock)
        expected = [clock.advance(timedelta(seconds=n, microseconds=1)) for n in (1, 60, 86_400)]
        for now in expected:
            clock.set(now)
            await store.append([event("Noted", "t"), event("Noted", "t")])
        found = [one.recorded_at for one in await read(store)]
        assert found == [now for now in expected for _ in range(2)]

    @rule("clock")
    async def test_a14_recorded_at_never_decreases(self, bench: Bench) -> None:
        """A14: the recorded time never decreases with the position, even if the clock is set back."""
        clock = Clock()
        store = await bench.open(clock=clock)
        for hours in (0, 5, -3, -10, 9):
            clock.advance(timedelta(hours=hours))
            await fill(store, event("Noted", "t"))
        found = [one.recorded_at for one in await read(store)]
        assert found == sorted(found)

    @rule("reopens")
    async def test_a15_recorded_at_survives_reopening(self, bench: Bench) -> None:
        """A15: the recorded time is the same when the store is opened again."""
        store = await bench.open()
        await fill(store, event("Noted", "t"), event("Noted", "t"))
        before = [one.recorded_at for one in await read(store)]
        store = await bench.reopen(store)
        assert [one.recorded_at for one in await read(store)] == before

    @rule()
    async def test_a16_equal_events_stay_two(self, bench: Bench) -> None:
        """A16: equal events are two events, in one batch or in a batch that is appended again."""
        store = await bench.open()
        same = event("Noted", "t")
        await store.append([same, same])
        await store.append([same, same])
        assert await data(store) == [same.data] * 4

    @rule()
    async def test_a17_stores_share_nothing(self, bench: Bench) -> None:
        """A17: two stores share no events and no append ids."""
        store, other = await bench.open(), await bench.another()
        await store.append([event("Noted", "t")], append_id="once")
        assert await read(other) == []
        assert await other.appended("once") is None
        await other.append([event("Noted", "t")])
        assert len(await read(store)) == 1

    @rule()
    async def test_a18_own_positions(self, bench: Bench) -> None:
        """A18: an append returns the positions of its own first and last event, whoever else appends."""
        store = await bench.open()
        batches = [[event("Noted", "t") for _ in range(size)] for size in (1, 2, 3, 1, 2)]
        results = await asyncio.gather(*(store.append(batch) for batch in batches))
        log = await read(store)
        for batch, result in zip(batches, results, strict=True):
            within = [one.data for one in log if result.first <= one.position <= result.last]
            assert within == data_of(batch), result

    @rule()
    async def test_a19_contiguous(self, bench: Bench) -> None:
        """A19: positions inside a batch are contiguous."""
        store = await bench.open()
        await fill(store, event("Noted", "t"))
        result = await store.append([event("Noted", "t") for _ in range(3)])
        assert result.last - result.first == 2
        assert positions(await read(store))[1:] == [result.first, result.first + 1, result.last]

    @rule()
    async def test_a20_cancelled_append(self, bench: Bench) -> None:
        """A20: an append that is cancelled at any moment is in the log whole or not at all; the next one works."""
        store = await bench.open()
        batches = [[event("Noted", f"batch:{steps}") for _ in range(3)] for steps in range(12)]
        for steps, batch in enumerate(batches):
            task = asyncio.create_task(store.append(batch))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        last = event("Noted", "last")
        await store.append([last])
        log = await read(store)
        for steps, batch in enumerate(batches):
            assert [one.data for one in log if one.tags == (f"batch:{steps}",)] in ([], data_of(batch))
        assert log[-1].data == last.data

    @rule()
    async def test_a21_empty_batch_before_the_condition(self, bench: Bench) -> None:
        """A21: an empty batch is refused before its condition is looked at."""
        store = await bench.open()
        await fill(store, event("Noted", "t"))
        with pytest.raises(InvalidEvent):
            await store.append([], AppendCondition(Query()))

    @rule()
    async def test_a22_head(self, bench: Bench) -> None:
        """A22: the head is the position of the last event, also of a batch."""
        store = await bench.open()
        for size in (1, 3):
            result = await store.append([event("Noted", "t") for _ in range(size)])
            assert await store.head() == result.last == positions(await read(store))[-1]


def data_of_stored(events: list[StoredEvent]) -> list[tuple[str, int, list[str], bytes, bytes]]:
    """Return what must not change while an event lies in the log."""
    return [(one.type, one.version, sorted(one.tags), one.data, one.metadata) for one in events]
