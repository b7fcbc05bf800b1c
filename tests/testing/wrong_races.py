"""Wrong stores: right as long as nobody else is about. The worst of them break many rules, and are left to the nets."""

import asyncio
import os
import pickle
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from refold.errors import Conflict, PositionAhead
from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import Appended, Conditions, Page, checked, conditions, digest
from refold.store.memory import MemoryStore
from refold.testing import Failpoint
from tests.testing.bending import Bent, breaks
from tests.testing.right_stores import FileStore


class Grouped(Bent):
    """Writes what has queued up in one go, as a group commit does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._queue: list[tuple[Any, Any, str | None, asyncio.Future[Appended]]] = []
        self._task: asyncio.Task[None] | None = None

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        self._check_open()
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._queue.append((events, condition, append_id, future))
        if len(self._queue) == 1:
            self._task = asyncio.create_task(self._flush())
        return await future

    async def _flush(self) -> None:
        group, self._queue = self._queue, []
        failed: list[Exception] = []
        checked: list[Conditions] = []
        for events, condition, append_id, future in group:
            if future.cancelled():
                continue
            try:
                rest = self.rest(condition, checked, failed)
                future.set_result(await super().append(events, rest, append_id=append_id))
                checked.append(condition)
            except Exception as error:
                failed.append(error)
                future.set_exception(error)

    def rest(self, condition: Conditions, checked: list[Conditions], failed: list[Exception]) -> Conditions:
        """Return what is still to be checked."""
        return condition


@breaks("k1", nets=["k10", "k11"])
class ChecksAConditionOncePerGroup(Grouped):
    def rest(self, condition: Conditions, checked: list[Conditions], failed: list[Exception]) -> Conditions:
        return None if condition in checked else condition


@breaks("k14")
class FailsTheRestOfTheGroup(Grouped):
    def rest(self, condition: Conditions, checked: list[Conditions], failed: list[Exception]) -> Conditions:
        if any(isinstance(error, Conflict) for error in failed):
            raise Conflict
        return condition


@breaks("k3", nets=["k13"])
class SerializationFailuresAreConflicts(Bent):
    _busy = 0

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        if condition is not None and self._busy and len(events) > 1:
            raise Conflict("could not serialize access")
        self._busy += 1
        try:
            await asyncio.sleep(0)
            return await super().append(events, condition, append_id=append_id)
        finally:
            self._busy -= 1


@breaks("k5", nets=["k2"])
class LocksTheConditionOnly(Bent):
    """As an advisory lock on what is read does, which says nothing of what is written."""

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        several = conditions(condition)
        if not several or append_id is not None or not events:
            return await super().append(events, condition, append_id=append_id)
        lock = self.__dict__.setdefault("_locks", {}).setdefault(repr(several), asyncio.Lock())
        async with lock:
            for one in several:
                self._check(one)
            await asyncio.sleep(0)
            return await super().append(events)


class Numbered(Bent):
    """Hands positions out before it stores, as a sequence does: what is stored first may have the higher one."""

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        if not events or append_id is not None:
            return await super().append(events, condition, append_id=append_id)
        self._check_open()
        for one in conditions(condition):
            self._check(one)
        first = max(self.__dict__.get("_next", 0), self._head + 1)
        batch = checked(events)
        self.__dict__["_next"] = first + len(batch)
        await self.delay(first)
        now = max([self._clock(), *(one.recorded_at for one in self._events[-1:])])
        self._events += [
            StoredEvent(first + n, now, e.type, e.version, e.tags, e.data, e.metadata) for n, e in enumerate(batch)
        ]
        self._events.sort(key=lambda one: one.position)
        self._grown.set()
        self._grown = asyncio.Event()
        return Appended(first, first + len(batch) - 1)

    async def delay(self, first: int) -> None:
        """Take some time between numbering and storing."""

    @property
    def _head(self) -> int:
        return self._events[-1].position if self._events else 0

    def _check(self, condition: AppendCondition) -> None:
        right = MemoryStore()
        right._events = self._without_holes()
        right._check(condition)

    async def read(self, query: Query = Query(), **options: Any) -> AsyncIterator[Page]:
        self._check_open()
        right = MemoryStore()
        right._events = self._without_holes()
        async for page in right.read(query, **options):
            yield Page([one for one in page if one.type != "hole"], page.upto)

    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        if after > self._head:
            raise PositionAhead
        while True:
            grown = self._grown
            self._check_open()
            if after < self._head:
                async for page in self.read(query, after=after):
                    yield page
                    after = page.upto
            else:
                await grown.wait()

    def _without_holes(self) -> list[StoredEvent]:
        at = {one.position: one for one in self._events}
        some = self._events[0] if self._events else None
        return [at.get(n) or replace(some, position=n, type="hole", tags=()) for n in range(1, self._head + 1) if some]


@breaks("k6")
class CommitsOutOfOrder(Numbered):
    before_commit: Failpoint | None

    def __init__(self, *, before_commit: Failpoint | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.before_commit = before_commit

    async def delay(self, first: int) -> None:
        if self.before_commit:
            await self.before_commit.pause()


CommitsOutOfOrder.before_commit = None


@breaks("k6")
class ShowsWhatIsNotCommitted(FileStore):
    async def _held(self, failpoint: Failpoint, before: int, *args: Any) -> None:
        await failpoint.pause()


@breaks(nets=["k2", "k4", "k9", "k12", "k13"])
class StoresOutOfOrder(Numbered):
    """The fault of a log on PostgreSQL that is read by position: one that comes later may stand earlier."""

    async def delay(self, first: int) -> None:
        for _ in range((first * 2_654_435_761 >> 7) % 5):
            await asyncio.sleep(0)


@breaks(nets=["k1", "k2", "k5", "k10", "k11", "i8"])
class ProbesThenInserts(Bent):
    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        if append_id is not None and self._recall(append_id):
            return await super().append(events, condition, append_id=append_id)
        for one in conditions(condition):
            self._check(one)
        await asyncio.sleep(0)
        if append_id is not None:
            self._remembered.pop(append_id, None)
        return await super().append(events, append_id=append_id)


@breaks(nets=["k2", "k7"])
class InsertsRowByRow(Bent):
    async def append(self, events: Sequence[NewEvent], *args: Any, **options: Any) -> Appended:
        result = await super().append(events[:1] or events, *args, **options)
        last = result.last
        for one in events[1:]:
            await asyncio.sleep(0)
            last = (await super().append([one])).last
        return Appended(result.first, last)


@breaks(nets=["k7"])
class ShowsABatchRowByRow(Bent):
    """Holds a lock, so that no batch is mixed with another; but readers do not ask for it."""

    async def append(self, events: Sequence[NewEvent], *args: Any, **options: Any) -> Appended:
        lock = self.__dict__.setdefault("_writing", asyncio.Lock())
        async with lock:
            result = await super().append(events[:1] or events, *args, **options)
            last = result.last
            for one in events[1:]:
                await asyncio.sleep(0)
                last = (await super().append([one])).last
            return Appended(result.first, last)


@breaks("i8")
class LooksIdsUpThenInserts(Bent):
    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        if append_id is not None and self._recall(append_id) is None:
            await asyncio.sleep(0)
            self._remembered.pop(append_id, None)
        return await super().append(events, condition, append_id=append_id)


@breaks(nets=["k13"])
class ReadsFromAReplica(Bent):
    """Reads are behind as long as appends are under way: right for one caller, and for no two."""

    _busy = 0
    _seen = 0

    async def append(self, *args: Any, **options: Any) -> Appended:
        if self._busy == 0:
            self._seen = self._head
        self._busy += 1
        try:
            result = await super().append(*args, **options)
            await asyncio.sleep(0)
            return result
        finally:
            self._busy -= 1

    def bounds(self, query: Query, options: dict[str, Any]) -> dict[str, Any]:
        if self._busy and options["upto"] is None:
            return options | {"upto": self._seen}
        return options


@breaks(nets=["k9"])
class FollowersMissWhatComesAtOnce(Bent):
    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        async for page in super().follow(query, after=after):
            single = len(page) < 4
            yield page if single else Page(page[1:], page.upto)


@breaks(nets=["k8_self_proving_log", "k8_one_wins"], processes=True)
class LocksNobodyOut(FileStore):
    """Takes its own conditional appends one by one, but not those of other processes."""

    _conditional = False

    @asynccontextmanager
    async def _locked(self) -> AsyncGenerator[None]:
        if self._conditional:
            async with self._turn:
                yield
        else:
            async with super()._locked():
                yield

    async def append(self, events: Sequence[NewEvent], condition: Conditions = None, **options: Any) -> Appended:
        self._conditional = condition is not None
        self._before_commit = Slow() if self._conditional else None
        return await super().append(events, condition, **options)


class Slow(Failpoint):
    """Takes its time."""

    async def pause(self) -> None:
        await asyncio.sleep(0.002)


@breaks(nets=["k8_whole_batches"], processes=True)
class WritesRowByRow(FileStore):
    def _write(self, new: list[StoredEvent], append_id: str | None, result: Appended) -> None:
        for one in new:
            super()._write([one], append_id, result)
            os.sched_yield()


@breaks(nets=["f1"], processes=True)
class AcknowledgesBeforeItWrites(FileStore):
    def _write(self, new: list[StoredEvent], append_id: str | None, result: Appended) -> None:
        late = self.__dict__.setdefault("_late", [])
        late.append((new, append_id, result))
        if len(late) == 20:
            self._flush()

    def _flush(self) -> None:
        for written in self.__dict__.pop("_late", []):
            super()._write(*written)

    async def close(self) -> None:
        if not self._closed:
            self._flush()
        await super().close()


@breaks("f2", processes=True)
class RemembersIdsBeforeItCommits(FileStore):
    async def _held(self, failpoint: Failpoint, before: int, new: list[StoredEvent], append_id: str | None) -> None:
        if append_id is not None:
            given = [NewEvent(one.type, one.data, one.tags, one.version, one.metadata) for one in new]
            record = pickle.dumps(([], append_id, digest(given), 1, 1))
            os.write(self._file, len(record).to_bytes(8, "big") + record)
        await super()._held(failpoint, before, new, append_id)
