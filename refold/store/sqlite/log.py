"""The log in a SQLite file: appends in groups, reads by seeking, followers in this process and in others."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import apsw
import msgspec
from msgspec import Struct

from refold.errors import PositionAhead, StoreError
from refold.model.query import Query
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import (
    RETENTION,
    Appended,
    Capability,
    Clock,
    Conditions,
    Page,
    bounded,
    check_bounds,
    checked,
    conditions,
    is_name,
    utc_now,
)
from refold.store.sqlite import select
from refold.store.sqlite.append import EPOCH, MICROSECOND, Append, Appends, head_of
from refold.store.sqlite.database import BUSY, Database

PAGE = 1_000
FIRST_PAGE = 200
"""Rows that a read may take on the caller's thread; the pages after it come from another thread."""
PAGE_BYTES = 8 << 20
WATCH_SECONDS = 0.02
"""How often followers look whether another process has committed."""
NEW_TYPES = "SELECT name, type_id FROM event_type WHERE type_id > ?"
logger = logging.getLogger("refold.store")
_decode_tags = msgspec.json.Decoder(tuple[str, ...]).decode


class SqliteStore:
    """A log in one file, durable through power loss, shared by processes of one machine."""

    def __init__(self, database: Database, *, clock: Clock, retention: timedelta, durable: bool) -> None:
        self.database = database
        self._appends = Appends(clock, retention)
        self._types = _Types({}, {})
        self._grown = asyncio.Event()
        self._followers = 0
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
        busy_timeout: timedelta = BUSY,
        vfs: str | None = None,
        create: bool = True,
    ) -> "SqliteStore":
        """Open the log in a file, creating or upgrading it if need be.

        `durability="relaxed"` gives up, on power loss only, what was acknowledged since the last checkpoint.
        `busy_timeout` is how long another program may keep an append waiting; `vfs` names SQLite's access to the disk.
        Raises `StoreError`: `NotAStore` for another program's file, `StoreTooNew`, `StoreReadOnly`, `StoreBusy`; where
        it may not `create` one, also `NotAStore` if there is none, and `StoreTooOld`.
        """
        database = Database(Path(path), durability=durability, busy_timeout=busy_timeout, vfs=vfs, create=create)
        durable = durability == "durable"
        if not durable:
            logger.warning("%s is open with durability=%s: power loss may take the newest events", path, durability)
        return cls(database, clock=clock, retention=retention, durable=durable)

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        """Add a batch; see the port."""
        batch = checked(events, append_id)
        result: Appended = await self.database.submit(
            self._appends, Append(batch, conditions(condition), append_id), _cost(batch)
        )
        return result

    async def append_with(
        self,
        events: Sequence[NewEvent],
        condition: Conditions,
        append_id: str | None,
        step: Callable[[apsw.Connection], bool],
        cost: int,
    ) -> Appended | None:
        """Add a batch, and do something else of so many rows in one transaction with it.

        Returns None if that returns False, and then nothing is added. It may be called more than once.
        """
        batch = checked(events, append_id)
        item = Append(batch, conditions(condition), append_id, step)
        result: Appended | None = await self.database.submit(self._appends, item, _cost(batch) + cost)
        return result

    async def appended(self, append_id: str) -> Appended | None:
        """Return the result of the append that had this id."""
        if not is_name(append_id):
            return None
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
        check_bounds(after, limit)
        types, within, hits = await self.database.read(
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
            hits = await self.database.read_long(partial(_hits, types=types, query=query, within=within, size=size))

    async def head(self) -> int:
        """Return the last position."""
        return (await self.database.read(head_of))[0]

    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        """Read what is there, then what comes."""
        check_bounds(after)
        head = await self.head()
        if after > head:
            raise PositionAhead(f"cannot follow after {after}: the head is {head}")
        self._followers += 1
        try:
            if self._watch is None:
                self._watch = asyncio.create_task(self._watch_others(self.database.version()))
            while True:
                grown = self._grown
                if await self.head() > after:
                    async for page in self.read(query, after=after):
                        yield page
                        after = page.upto
                else:
                    await grown.wait()
        finally:
            self._followers -= 1
            if self._followers == 0 and self._watch:
                self._watch.cancel()
                self._watch = None

    async def close(self) -> None:
        """Finish what is under way and close the file."""
        if self._watch:
            self._watch.cancel()
        await self.database.close()
        self._wake()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def _watch_others(self, seen: int) -> None:
        """Wake followers when another process has committed; this one's commits wake them at once."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                version = self.database.version()
            except StoreError:
                version = -1  # the followers will meet the error, where it can be handled
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
    ) -> "tuple[_Types, select.Range, _Hits]":
        """Pin the read to the head, and read its first page."""
        head, _, newest_type = head_of(connection)
        within = select.Range(bounded(after), head if upto is None else bounded(min(upto, head)), backwards)
        types = self._types.seen(connection, newest_type)
        self._types = types
        size = FIRST_PAGE if limit is None else min(limit, FIRST_PAGE)
        return types, within, _hits(connection, types=types, query=query, within=within, size=size)


class _Types(Struct, frozen=True):
    """The ids of event types, numbered from 1; several threads read it, so it is never changed."""

    ids: dict[str, int]
    names: dict[int, str]

    def seen(self, connection: apsw.Connection, newest: int) -> "_Types":
        """Return what is known of all types up to the newest."""
        if newest <= len(self.ids):
            return self
        new: dict[str, int] = dict(connection.execute(NEW_TYPES, (len(self.ids),)))
        return _Types(self.ids | new, self.names | {type_id: name for name, type_id in new.items()})


class _Hits(Struct):
    """A page as the database gives it: `cut` is where it was cut, None if nothing is left behind it."""

    events: list[StoredEvent]
    cut: int | None


def _hits(connection: apsw.Connection, *, types: _Types, query: Query, within: select.Range, size: int) -> _Hits:
    rows = select.rows(connection, types.ids, query, within, size + 1)
    events: list[StoredEvent] = []
    if rows is None:
        return _Hits(events, None)
    names = types.names
    keeps = query.matches if select.scans(query) else None
    weight = 0
    last_micros, recorded_at = 0, EPOCH
    append = events.append
    for position, micros, type_id, version, tags, data, metadata in rows:
        if micros != last_micros:  # events of one append share their time
            last_micros, recorded_at = micros, EPOCH + micros * MICROSECOND
        event = StoredEvent(position, recorded_at, names[type_id], version, _decode_tags(tags), data, metadata)
        if keeps is not None:
            if not keeps(event.type, event.tags):
                continue
            if len(events) == size:
                rows.close()
                return _Hits(events, events[-1].position if events else within.after)
        if weight > PAGE_BYTES:
            rows.close()
            return _Hits(events, events[-1].position if events else within.after)
        append(event)
        weight += len(data) + len(metadata)
    if len(events) > size:
        events.pop()
        return _Hits(events, events[-1].position if events else within.after)
    return _Hits(events, None)


def _cost(batch: Sequence[NewEvent]) -> int:
    """Return the work of an append in rows; a page of data counts as one."""
    return sum(1 + len(event.tags) + (len(event.data) >> 12) for event in batch)
