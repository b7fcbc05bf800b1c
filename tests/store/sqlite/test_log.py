"""Reading, following and what a log in SQLite offers: long reads amid writes, big payloads, followers in and out."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from refold.errors import StoreDamaged, StoreError, TooLarge
from refold.model.query import Query
from refold.model.record import NewEvent
from refold.store.api import MAX_BATCH_BYTES, MAX_EVENT_BYTES, Capability
from refold.store.sqlite import SqliteStore, log
from refold.testing.faults import FaultyDisk, failing

EVENT = NewEvent("T", b"{}", ("a",))
MIB = 1 << 20


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "log.db")
    yield store
    await store.close()


# What it offers


async def test_a_durable_store_says_so(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    assert store.capabilities == {Capability.DURABLE, Capability.SHARED, Capability.VIEWS}
    assert not caplog.records


async def test_a_relaxed_store_warns_and_promises_less(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = await SqliteStore.open(tmp_path / "log.db", durability="relaxed")
    assert store.capabilities == {Capability.SHARED, Capability.VIEWS}
    [record] = caplog.records
    assert (record.name, record.levelno) == ("refold.store", logging.WARNING)
    assert "power loss may take the newest events" in record.getMessage()
    await store.close()


# Sizes


async def test_a_mebibyte_is_kept_to_the_byte(store: SqliteStore) -> None:
    data, metadata = os.urandom(MIB), os.urandom(MIB)
    await store.append([NewEvent("T", data, ("a",), 1, metadata)] * 3)
    events = [event async for page in store.read(Query.of(tags="a")) for event in page]
    assert [(event.data, event.metadata) for event in events] == [(data, metadata)] * 3


async def test_a_hundred_mebibytes_are_refused_before_anything_is_written(store: SqliteStore, tmp_path: Path) -> None:
    before = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    with pytest.raises(TooLarge, match=r"'T' has 104,857,600 bytes; the limit is 4,194,304"):
        await store.append([EVENT, NewEvent("T", bytes(100 * MIB))])
    with pytest.raises(TooLarge, match=r"the limit is 67,108,864\. Append in several batches"):
        await store.append([NewEvent("T", bytes(MAX_EVENT_BYTES))] * (MAX_BATCH_BYTES // MAX_EVENT_BYTES + 1))
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == before
    assert (await store.append([EVENT])).first == 1


async def test_pages_of_big_events_are_small(store: SqliteStore) -> None:
    await store.append([NewEvent("T", bytes(MIB))] * 30)
    pages = [page async for page in store.read()]
    assert sum(len(page) for page in pages) == 30
    assert max(len(page) for page in pages) * MIB <= log.PAGE_BYTES + 2 * MIB


# Long reads


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
async def test_a_long_read_sees_the_log_as_it_was_and_holds_up_nobody(store: SqliteStore, backwards: bool) -> None:
    await store.append([NewEvent("Old", b"%d" % n, (f"a:{n % 3}",)) for n in range(6_000)])
    query = Query.of(types=["Old", "New"])
    seen: list[int] = []
    pages = 0
    async for page in store.read(query, backwards=backwards):
        pages += 1
        seen += [event.position for event in page]
        await asyncio.gather(*(store.append([NewEvent("New", b"", ("a:0",))]) for _ in range(10)))
        if page.upto == 6_000:
            break
    everything = [*range(1, 6_001)]
    assert seen == (everything[::-1] if backwards else everything)
    assert pages > 5
    assert await store.head() == 6_000 + pages * 10


async def test_a_type_that_is_new_since_the_last_read_is_known(store: SqliteStore) -> None:
    other = await SqliteStore.open(store.database.path)
    for n in range(20):
        await other.append([NewEvent(f"T{n}", b"", ("a",)), NewEvent(f"U{n}", b"", ("a",))])
        names = [event.type async for page in store.read() for event in page]
        assert names == [f"{kind}{m}" for m in range(n + 1) for kind in "TU"]
        assert [event.position async for page in store.read(Query.of(types=f"U{n}")) for event in page] == [2 * n + 2]
    await other.close()


async def test_reads_on_many_threads_know_all_types(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.database, "read", store.database.read_long)
    done = False

    async def read() -> int:
        rounds = 0
        while not done or rounds == 0:
            names = [event.type async for page in store.read() for event in page]
            assert names == [f"T{n}" for n in range(len(names))]
            rounds += 1
        return rounds

    readers = [asyncio.create_task(read()) for _ in range(8)]
    for n in range(100):
        await store.append([NewEvent(f"T{n}")])
    done = True
    assert min(await asyncio.gather(*readers)) >= 1


# Following


async def test_followers_wake_at_once_and_the_watch_ends_with_the_last(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "WATCH_SECONDS", 1_000)  # this process needs no watch
    following = [store.follow(Query.of(tags="a")) for _ in range(3)]
    first = [asyncio.create_task(anext(each)) for each in following]
    await asyncio.sleep(0)
    await store.append([EVENT, NewEvent("T", b"", ("b",)), EVENT])
    for task in first:
        page = await asyncio.wait_for(task, 60)
        assert ([event.position for event in page], page.upto) == ([1, 3], 3)
    empty = asyncio.create_task(anext(following[0]))
    await asyncio.sleep(0)
    await store.append([NewEvent("T", b"", ("b",))])
    page = await asyncio.wait_for(empty, 60)
    assert (page, page.upto) == ([], 4)
    watch = store._watch
    assert watch
    for each in following:
        assert not watch.cancelled()
        await each.aclose()
    with pytest.raises(asyncio.CancelledError):
        await watch
    again = asyncio.create_task(anext(store.follow(after=3)))
    assert [event.position for event in await asyncio.wait_for(again, 60)] == [4]


async def test_another_handles_events_are_noticed_even_if_they_come_as_the_watch_begins(store: SqliteStore) -> None:
    other = await SqliteStore.open(store.database.path)
    for n in range(20):
        following = store.follow(after=n)
        page = asyncio.create_task(anext(following))
        for _ in range(n % 4):
            await asyncio.sleep(0)
        await other.append([EVENT])
        assert [event.position for event in await asyncio.wait_for(page, 60)] == [n + 1]
        await following.aclose()
    await other.close()


async def test_a_follower_meets_the_error_that_its_watch_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await SqliteStore.open(tmp_path / "log.db")
    await store.append([EVENT])
    following = store.follow(after=1)
    page = asyncio.create_task(anext(following))
    await asyncio.sleep(0)

    def broken(*args: object) -> int:
        raise StoreDamaged

    monkeypatch.setattr(store.database, "version", broken)
    monkeypatch.setattr(store, "head", broken)
    with pytest.raises(StoreDamaged):
        await asyncio.wait_for(page, 60)
    await store.close()


async def test_reading_from_a_disk_that_fails_is_an_error_of_the_store(tmp_path: Path) -> None:
    disk = FaultyDisk("unreadable")
    store = await SqliteStore.open(tmp_path / "log.db", vfs=disk.name)
    await store.append([EVENT] * 3)
    disk.before = failing("read", apsw.SQLITE_IOERR_READ)
    with pytest.raises(StoreError, match="disk"):
        await anext(store.read())
    disk.before = failing("", 0)
    assert len(await anext(store.read())) == 3
    await store.close()
