"""The log in a SQLite file: appends in groups, reads by seeking, followers in this process and in others."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import apsw
import msgspec
from msgspec import Struct

from refold.errors import PositionAhead
from refold.model.query import Query
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import (
    RETENTION,
    Appended,
    Capability,
    Clock,
    Conditions,
    Page,
    checked,
    conditions,
    utc_now,
)
from refold.store.sqlite import select
from refold.store.sqlite.append import EPOCH, MICROSECOND, Append, Appends, head_of
from refold.store.sqlite.database import Database

PAGE = 1_000
FIRST_PAGE = 200
"""Rows that a read may take on the caller's thread; the pages after it come from another thread."""
PAGE_BYTES = 8 << 20
WATCH_SECONDS = 0.02
"""How often followers look whether another process has committed."""
logger = logging.getLogger("refold.store")
_decode_tags = msgspec.json.Decoder(tuple[str, ...]).decode


class SqliteStore:
    """A log in one file, durable through power loss, shared by processes of one machine."""

    def __init__(self, database: Database, *, clock: Clock, retention: timedelta, durable: bool) -> None:
        self.database = database
        self._appends = Appends(clock, retention)
        self._types = _Types()
        self._grown = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self.capabilities = frozenset(
            {Capability.SHARED, Capability.VIEWS} | ({Capability.DURABLE} if durable else set())
        )
        database.on_commit(self._wake)

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        durability: str = "durable",
        clock: Clock = utc_now,
        retention: timedelta = RETENTION,
    ) -> "SqliteStore":
        """Open the log in a file, creating it if need be.

        `durability="relaxed"` gives up, on power loss only, what was acknowledged since the last checkpoint.
        Raises `StoreError`: `NotAStore` for another program's file, `StoreTooNew`, `StoreReadOnly`, `StoreBusy`.
        """
        durable = durability == "durable"
        if not durable:
            logger.warning("%s is open with durability=%s: power loss may take the newest events", path, durability)
        database = Database(Path(path), durability=durability)
        return cls(database, clock=clock, retention=retention, durable=durable)

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        """Add a batch; see the port."""
        batch = checked(events, append_id)
        result: Appended = await self.database.submit(
            self._appends, Append(batch, conditions(condition), append_id), len(batch)
        )
        return result

    async def appended(self, append_id: str) -> Appended | None:
        """Return the result of the append that had this id."""
        known = await self.database.read(lambda connection: self._appends.recall(connection, [append_id]))
        return known[append_id].result if append_id in known else None

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
        within, hits = await self.database.read(
            lambda connection: self._begin(connection, query, after, upto, backwards, limit)
        )
        end, left = within.upto, limit
        while True:
            left = left if left is None else left - len(hits.events)
            done = hits.cut is None or left == 0
            if hits.cut is not None and (not done or not backwards):
                yield Page(hits.events, hits.cut)
            else:
                yield Page(hits.events, end)
            if done or hits.cut is None:
                return
            within = within.rest(hits.cut)
            size = PAGE if left is None else min(left, PAGE)
            hits = await self.database.read_long(partial(self._hits, query=query, within=within, size=size))

    async def head(self) -> int:
        """Return the last position."""
        return (await self.database.read(head_of))[0]

    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        """Read what is there, then what comes."""
        head = await self.head()
        if after > head:
            raise PositionAhead(f"cannot follow after {after}: the head is {head}")
        if self._watch is None:
            self._watch = asyncio.create_task(self._watch_others())
        while True:
            grown = self._grown
            if await self.head() > after:
                async for page in self.read(query, after=after):
                    yield page
                    after = page.upto
            else:
                await grown.wait()

    async def close(self) -> None:
        """Finish what is under way and close the file."""
        if self._watch:
            self._watch.cancel()
        await self.database.close()
        self._wake()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def _watch_others(self) -> None:
        """Wake followers when another process has committed; this one's commits wake them at once."""
        seen = self.database.version()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            version = self.database.version()
            if version != seen:
                seen = version
                self._wake()

    def _begin(
        self,
        connection: apsw.Connection,
        query: Query,
        after: int,
        upto: int | None,
        backwards: bool,
        limit: int | None,
    ) -> "tuple[select.Range, _Hits]":
        """Pin the read to the head, and read its first page."""
        head, _ = head_of(connection)
        within = select.Range(after, head if upto is None else min(upto, head), backwards)
        self._types.see(connection, head)
        size = FIRST_PAGE if limit is None else min(limit, FIRST_PAGE)
        return within, self._hits(connection, query=query, within=within, size=size)

    def _hits(self, connection: apsw.Connection, *, query: Query, within: select.Range, size: int) -> "_Hits":
        if size == 0:
            return _Hits([], within.after)
        rows = select.rows(connection, self._types.ids, query, within, size + 1)
        events: list[StoredEvent] = []
        if rows is None:
            return _Hits(events, None)
        names = self._types.names
        keeps = query.matches if select.scans(query) else None
        weight = 0
        seconds, recorded_at = 0, EPOCH
        for position, micros, type_id, version, tags, data, metadata in rows:
            if weight > PAGE_BYTES or len(events) == size:
                rows.close()
                return _Hits(events, events[-1].position)
            if micros != seconds:  # events of one append share their time
                seconds, recorded_at = micros, EPOCH + micros * MICROSECOND
            event = StoredEvent(position, recorded_at, names[type_id], version, _decode_tags(tags), data, metadata)
            if keeps is None or keeps(event.type, event.tags):
                events.append(event)
                weight += len(data) + len(metadata)
        return _Hits(events, None)


class _Hits(Struct):
    """A page as the database gives it: `cut` is where it was cut, None if nothing is left behind it."""

    events: list[StoredEvent]
    cut: int | None


class _Types:
    """The ids of the event types, as the reading side knows them. New types only come with new events."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self._head = 0

    def see(self, connection: apsw.Connection, head: int) -> None:
        """Learn the types that are used up to `head`."""
        if head != self._head:
            self.ids = dict(connection.execute("SELECT name, type_id FROM event_type"))
            self.names = {type_id: name for name, type_id in self.ids.items()}
            self._head = head
