"""The log in memory: the contract in its shortest form, and the oracle for the other stores."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta

from msgspec import Struct

from refold.errors import AppendIdReused, Conflict, PositionAhead, StoreClosed
from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import (
    RETENTION,
    Appended,
    Capability,
    Clock,
    Conditions,
    Page,
    check_bounds,
    checked,
    conditions,
    digest,
    utc_now,
)

PAGE = 1_000


class _Remembered(Struct):
    digest: bytes
    result: Appended


class MemoryStore:
    """A log that is gone when the process ends."""

    capabilities = frozenset[Capability]()

    def __init__(self, *, clock: Clock = utc_now, retention: timedelta = RETENTION) -> None:
        self._clock = clock
        self._retention = retention
        self._events: list[StoredEvent] = []
        self._remembered: dict[str, _Remembered] = {}
        self._grown = asyncio.Event()
        self._closed = False

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        """Add a batch; see the port."""
        appended = await self.append_with(events, condition, append_id, lambda: True)
        assert appended is not None
        return appended

    async def append_with(
        self, events: Sequence[NewEvent], condition: Conditions, append_id: str | None, step: Callable[[], bool]
    ) -> Appended | None:
        """Add a batch, and do something else just before it; None if that returns False, and nothing is added."""
        batch = checked(events, append_id)
        self._check_open()
        if append_id is not None and (known := self._recall(append_id)):
            if known.digest != digest(batch):
                raise AppendIdReused(f"the append id {append_id!r} was used before, with other events")
            return known.result
        for one in conditions(condition):
            self._check(one)
        if not step():
            return None
        head = self._head
        recorded_at = self._clock()
        if self._events:
            recorded_at = max(recorded_at, self._events[-1].recorded_at)
        self._events += [
            StoredEvent(head + n, recorded_at, e.type, e.version, e.tags, e.data, e.metadata)
            for n, e in enumerate(batch, 1)
        ]
        result = Appended(head + 1, head + len(batch))
        if append_id is not None:
            self._remembered[append_id] = _Remembered(digest(batch), result)
        self._grown.set()
        self._grown = asyncio.Event()
        return result

    async def appended(self, append_id: str) -> Appended | None:
        """Return the result of the append that had this id."""
        self._check_open()
        known = self._recall(append_id)
        return known.result if known else None

    async def read(
        self,
        query: Query = Query(),
        *,
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Page]:
        """Read matching events page by page; see the port."""
        check_bounds(after, limit)
        self._check_open()
        end = self._head if upto is None else min(upto, self._head)
        seen = self._events[after:end] if after < end else []
        hits = [event for event in seen if query.matches(event.type, event.tags)]
        if backwards:
            hits.reverse()
        if limit is not None and limit < len(hits):
            hits = hits[:limit]
            end = end if backwards else hits[-1].position if hits else after
        for start in range(0, max(len(hits), 1), PAGE):
            rows = hits[start : start + PAGE]
            done = start + PAGE >= len(hits)
            yield Page(rows, end if done else rows[-1].position)

    async def head(self) -> int:
        """Return the last position."""
        self._check_open()
        return self._head

    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        """Read what is there, then what comes."""
        check_bounds(after)
        if after > self._head:
            raise PositionAhead(f"cannot follow after {after}: the head is {self._head}")
        while True:
            grown = self._grown
            self._check_open()
            if after < self._head:
                async for page in self.read(query, after=after):
                    yield page
                    after = page.upto
            else:
                await grown.wait()

    async def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._grown.set()

    @property
    def _head(self) -> int:
        return len(self._events)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed()

    def _check(self, condition: AppendCondition) -> None:
        if condition.after > self._head:
            raise PositionAhead(f"the condition is after {condition.after}, but the head is {self._head}")
        for event in self._events[condition.after :]:
            if condition.fail_if_match.matches(event.type, event.tags):
                raise Conflict(f"position {event.position} matches the condition", position=event.position)

    def _recall(self, append_id: str) -> _Remembered | None:
        """Look an append id up, forgetting those past the retention window first."""
        oldest = self._clock() - self._retention
        while self._remembered:
            first, known = next(iter(self._remembered.items()))
            if self._events[known.result.last - 1].recorded_at >= oldest:
                break
            del self._remembered[first]
        return self._remembered.get(append_id)
