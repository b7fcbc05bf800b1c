"""Stores for testing the contract itself: right ones, with every capability that the log in memory lacks."""

import asyncio
import fcntl
import os
import pickle
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from refold.errors import Conflict
from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import Appended, Clock, Conditions, Page, check_bounds, conditions, digest, utc_now
from refold.store.memory import MemoryStore, _Remembered
from refold.testing import Failpoint


class GappedStore:
    """The log in memory with other numbers: they start at 4096, and each batch is 7 above the one before it."""

    capabilities = MemoryStore.capabilities
    start, between, inside = 4096, 7, 1

    def __init__(self, *, clock: Clock = utc_now) -> None:
        self._inner = MemoryStore(clock=clock)
        self._positions: list[int] = []

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        inner = [AppendCondition(one.fail_if_match, self._relied(one.after)) for one in conditions(condition)]
        try:
            result = await self._inner.append(events, inner, append_id=append_id)
        except Conflict as conflict:
            position = self._position(conflict.data["position"])
            raise Conflict(f"position {position} matches the condition", position=position) from None
        if result.last > len(self._positions):
            first = self._positions[-1] + self.between if self._positions else self.start
            self._positions += [first + self.inside * n for n in range(len(events))]
        return self._outside(result)

    async def appended(self, append_id: str) -> Appended | None:
        found = await self._inner.appended(append_id)
        return found and self._outside(found)

    async def read(
        self,
        query: Query = Query(),
        *,
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Page]:
        check_bounds(after, limit)
        below = None if upto is None else self._place(upto)
        end = len(self._positions) if below is None else min(below, len(self._positions))
        pages = self._inner.read(query, after=self._first(after), upto=below, backwards=backwards, limit=limit)
        async for page in pages:
            shown = self._position(page.upto)
            if upto is not None and page.upto == end and upto < self._position(len(self._positions)):
                shown = upto
            if limit == 0 and page.upto == self._first(after):
                shown = after
            yield Page(self._renumbered(page), shown)

    async def head(self) -> int:
        return self._position(await self._inner.head())

    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        async for page in self._inner.follow(query, after=self._place(after)):
            yield Page(self._renumbered(page), self._position(page.upto))

    async def close(self) -> None:
        await self._inner.close()

    def _place(self, position: int) -> int:
        """Count the events up to a position; one too many if it is beyond the head."""
        beyond = position > self._position(len(self._positions))
        return bisect_right(self._positions, position) + beyond

    def _relied(self, after: int) -> int:
        return self._place(after)

    def _first(self, after: int) -> int:
        return self._place(after)

    def _position(self, place: int) -> int:
        return self._positions[place - 1] if place else 0

    def _outside(self, result: Appended) -> Appended:
        return Appended(self._position(result.first), self._position(result.last))

    def _renumbered(self, events: list[StoredEvent]) -> list[StoredEvent]:
        return [
            StoredEvent(self._position(e.position), e.recorded_at, e.type, e.version, e.tags, e.data, e.metadata)
            for e in events
        ]


class FileStore(MemoryStore):
    """The log in memory, kept in a file that several handles and processes append to under a lock."""

    def __init__(self, path: Path, *, clock: Clock = utc_now, before_commit: Failpoint | None = None) -> None:
        super().__init__(clock=clock)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._offset = 0
        self._before_commit = before_commit
        self._turn = asyncio.Lock()
        self._catch_up()
        self._at_opening = len(self._events)

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        self._check_open()
        async with self._locked():
            self._catch_up()
            before = len(self._events)
            result = await super().append(events, condition, append_id=append_id)
            new = self._events[before:]
            if new:
                if self._before_commit:
                    await self._held(self._before_commit, before, new, append_id)
                self._write(new, append_id, result)
        return result

    async def appended(self, append_id: str) -> Appended | None:
        self._check_open()
        self._catch_up()
        return await super().appended(append_id)

    async def read(
        self,
        query: Query = Query(),
        *,
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Page]:
        self._check_open()
        self._catch_up()
        async for page in super().read(query, after=after, upto=upto, backwards=backwards, limit=limit):
            yield page

    async def head(self) -> int:
        self._check_open()
        self._catch_up()
        return await super().head()

    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        waking = asyncio.create_task(self._wake())
        try:
            self._check_open()
            self._catch_up()
            async for page in super().follow(query, after=after):
                yield page
        finally:
            waking.cancel()

    async def close(self) -> None:
        if not self._closed:
            await super().close()
            os.close(self._file)

    async def _wake(self) -> None:
        """Look now and then whether another handle has appended."""
        while not self._closed:
            await asyncio.sleep(0.001)
            before = len(self._events)
            self._catch_up()
            if len(self._events) > before:
                self._grown.set()
                self._grown = asyncio.Event()

    async def _held(self, failpoint: Failpoint, before: int, new: list[StoredEvent], append_id: str | None) -> None:
        """Take the events out of sight until the failpoint lets go."""
        del self._events[before:]
        known = self._remembered.pop(append_id) if append_id is not None else None
        await failpoint.pause()
        self._events += new
        if append_id is not None and known is not None:
            self._remembered[append_id] = known
        self._grown.set()
        self._grown = asyncio.Event()

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        async with self._turn:  # the lock on the file is the handle's: it does not keep two of its tasks apart
            self._check_open()
            while not self._try_lock():
                await asyncio.sleep(0.0005)
                self._check_open()
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _try_lock(self) -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _write(self, new: list[StoredEvent], append_id: str | None, result: Appended) -> None:
        record = pickle.dumps((new, append_id, digest([_given(one) for one in new]), result.first, result.last))
        os.write(self._file, len(record).to_bytes(8, "big") + record)
        self._offset = os.fstat(self._file).st_size

    def _catch_up(self) -> None:
        """Take in what other handles have written, as far as it is written whole."""
        size = os.fstat(self._file).st_size
        if size == self._offset:
            return
        written = os.pread(self._file, size - self._offset, self._offset)
        at = 0
        while at + 8 <= len(written):
            end = at + 8 + int.from_bytes(written[at : at + 8], "big")
            if end > len(written):
                break
            new, append_id, batch_digest, first, last = pickle.loads(written[at + 8 : end])
            self._take_in(new, append_id, _Remembered(batch_digest, Appended(first, last)))
            at = end
        self._offset += at

    def _take_in(self, new: list[StoredEvent], append_id: str | None, known: _Remembered) -> None:
        self._events += new
        if append_id is not None:
            self._remembered[append_id] = known


def _given(event: StoredEvent) -> NewEvent:
    return NewEvent(event.type, event.data, event.tags, event.version, event.metadata)
