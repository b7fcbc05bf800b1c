"""A subscription for which there is always more to handle: what it has done is written, and all else has its turn."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

import pytest

from refold.model.query import Query
from refold.model.record import StoredEvent
from refold.runtime import subscription as subscriptions
from refold.runtime.books import PARKED, REQUESTS, Books, Parked, Request, parked_at
from refold.runtime.owner import Owner
from refold.runtime.parking import Parking
from refold.runtime.subscription import Subscription
from refold.store.api import Page
from refold.view.api import Put, Write
from refold.view.memory import MemoryViews

MOST = 4000
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(position: int) -> StoredEvent:
    return StoredEvent(position, NOON, "Asked", 1, (f"item:{position}",), b"{}", b"")


class Stream:
    """A log whose next page is always there, up to the last one."""

    def __init__(self) -> None:
        self.given = 0

    async def follow(self, query: Query, *, after: int = 0) -> AsyncIterator[Page]:
        for position in range(after + 1, MOST + 1):
            self.given = position
            yield Page([event(position)], position)
        await asyncio.Event().wait()

    async def read(self, query: Query = Query(), *, after: int = 0, upto: int | None = None) -> AsyncIterator[Page]:
        yield Page([event(after + 1)], after + 1)

    async def head(self) -> int:
        return self.given


class Slow:
    """Takes its time over each event."""

    query = Query()

    def __init__(self) -> None:
        self.again_at: list[int] = []

    async def handle(self, page: Page, parking: Parking) -> int:
        await asyncio.sleep(0.001)
        return len(page)

    def take(self) -> Sequence[Write]:
        return ()

    async def again(self, stored: StoredEvent, parked: Parked) -> Sequence[Write]:
        self.again_at.append(stored.position)
        return ()

    def refuse(self, stored: StoredEvent, parking: Parking, error: Exception) -> None:
        raise AssertionError

    def forget(self) -> None:
        pass


class Due:
    """Something that is due once it is set."""

    def __init__(self) -> None:
        self.set = False
        self.fired: list[int] = []

    def seconds(self) -> float | None:
        return 0.0 if self.set else None

    async def load(self) -> None:
        pass

    async def fire(self, parking: Parking, upto: int) -> list[Write]:
        self.set = False
        self.fired.append(upto)
        return []

    async def again(self, parked: Parked) -> Sequence[Write]:
        raise AssertionError


@pytest.fixture
async def books() -> Books:
    books = Books(MemoryViews())
    await books.open()
    return books


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "SAVE_SECONDS", 0.01)


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not so():
            await asyncio.sleep(0.001)


async def test_what_it_has_done_is_written_meanwhile(books: Books) -> None:
    stream = Stream()
    busy = Subscription("busy", Slow(), stream, books, Owner())
    await busy.start()
    try:
        await until(lambda: busy.position > 0)
        row = await books.checkpoint("busy")
        assert row is not None
        assert 0 < row.position <= stream.given < MOST
    finally:
        await busy.stop()


async def test_what_is_asked_for_is_done_meanwhile(books: Books) -> None:
    stream, worker = Stream(), Slow()
    await books.write(Put(PARKED, [parked_at(event(9000), "busy", ["item:9000"])]))
    busy = Subscription("busy", worker, stream, books, Owner())
    await busy.start()
    try:
        await until(lambda: stream.given > 1)
        request = Request("busy", "retry")
        await books.write(Put(REQUESTS, [request]))
        await busy.ask([request])
        await until(lambda: bool(worker.again_at))
        assert stream.given < MOST
    finally:
        await busy.stop()
    assert worker.again_at == [9000]
    assert await books.find(PARKED) == []


async def test_what_is_due_is_done_meanwhile(books: Books) -> None:
    stream, due = Stream(), Due()
    busy = Subscription("busy", Slow(), stream, books, Owner(), timers=due)
    await busy.start()
    try:
        await until(lambda: stream.given > 1)
        due.set, at = True, stream.given
        await until(lambda: bool(due.fired))
        assert at <= due.fired[0] < MOST, "after what was recorded before, and before all that comes"
        row = await books.checkpoint("busy")
        assert row is not None
        assert row.position >= due.fired[0], "what it comes after is written"
    finally:
        await busy.stop()


async def test_the_first_write_is_small(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes a large one holds up all else, so it is seen first how long a small one takes."""
    monkeypatch.setattr(subscriptions, "SAVE_SECONDS", 60.0)
    monkeypatch.setattr(subscriptions, "FIRST_BATCH", 200)
    sizes: list[int] = []

    class Counting(Slow):
        handled = 0

        async def handle(self, page: Page, parking: Parking) -> int:
            self.handled += len(page)
            return len(page)

        def take(self) -> Sequence[Write]:
            sizes.append(self.handled)
            self.handled = 0
            return ()

    running = Subscription("Counted", Counting(), Stream(), books, Owner())
    await running.start()
    await running.reached(MOST, 60)
    await running.stop()
    assert sizes[0] <= 200
    assert sum(sizes) == MOST
