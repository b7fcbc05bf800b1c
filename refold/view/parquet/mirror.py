"""The mirror: what follows a log and keeps its events, and snapshots of views, in Parquet files."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import polars as pl
from msgspec import Struct

from refold.errors import PositionAhead, StoreError, WiringError
from refold.model.hints import described
from refold.model.query import Query, QueryItem
from refold.model.record import StoredEvent
from refold.model.schema import Schema
from refold.store.api import Page, Store
from refold.view.parquet import files, manifest
from refold.view.parquet.ask import MEMORY, ROWS, SECONDS, Answer, Reader
from refold.view.parquet.column import Column, columns_of, frame
from refold.view.parquet.manifest import Claim, Field, File, Manifest, Table, translated
from refold.view.parquet.tables import UNREAD, EventTables, Part

T = TypeVar("T")
Moved = Callable[[int], object]

BATCH_EVENTS = 50_000
BATCH_BYTES = 64 << 20
LOOK_SECONDS = 0.2
"""How often one that waits for its turn to write looks whether it has come."""


class Mirror:
    """A folder of Parquet files that follows a log, one process at a time; anybody may read it meanwhile.

    Every event up to `position` is in it once, through crashes. What writes takes the folder for this process;
    `close`, or the end of the process, gives it back.
    """

    def __init__(
        self,
        folder: Path,
        schema: Schema,
        *,
        batch_events: int = BATCH_EVENTS,
        flush_seconds: float = 1.0,
        memory: str = MEMORY,
    ) -> None:
        """Name a folder, which is made when it is first written to.

        `batch_events` bounds what is held in memory, and `flush_seconds` how long what is new waits there when `run`
        follows the log. `memory` is what queries may use, as DuckDB writes it.
        """
        if batch_events < 1 or flush_seconds <= 0:
            raise WiringError("batch_events is at least 1, and flush_seconds more than 0")
        self._folder = folder.absolute()
        self._tables = EventTables(schema)
        self._batch_events = batch_events
        self._flush_seconds = flush_seconds
        self._reader = Reader(self._folder, memory=memory, before=Manifest(events=dict(self._tables.empty)))
        self._claim = Claim(self._folder)
        self._step = threading.Lock()
        self._manifest: Manifest | None = None
        self._waiting: list[StoredEvent] = []
        self._bytes = 0
        self._seen = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def position(self) -> int:
        """The position up to which all events can be queried."""
        return (self._manifest or manifest.read(self._folder, create=True)).position

    async def hold(self, *, wait: bool = True) -> bool:
        """Take the folder for writing, and tell whether it is ours; without `wait`, no later than now."""
        with translated(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            while not self._claim.take():
                if not wait:
                    return False
                await asyncio.sleep(LOOK_SECONDS)
        await _to_the_end(self._begin)
        return True

    async def add(self, page: Page) -> None:
        """Take in the next page of the log; its events are written once there are enough of them, or by `flush`.

        Pages are of all events, and each begins where the one before ended; events that came before are left out.
        """
        now = await self._writing()
        if now.events.keys() != self._tables.empty.keys() or self._stale(now):
            raise WiringError(
                "the events of this mirror are defined otherwise by now: `await mirror.adapt(store)` first"
            )
        after = max(now.position, self._seen)
        for event in page:
            if event.position > after:
                self._waiting.append(event)
                self._bytes += len(event.data) + len(event.metadata)
                self._seen = event.position
                if len(self._waiting) >= self._batch_events or self._bytes >= BATCH_BYTES:
                    await self.flush()
        self._seen = max(self._seen, page.upto)

    async def flush(self) -> int:
        """Write what was added, and return the position up to which all can be queried."""
        events, upto = [*self._waiting], self._seen
        if events or upto > self.position:
            await self._writing()
            await _to_the_end(lambda: self._take_in(events, upto))
            now = self.position
            self._waiting = [event for event in self._waiting if event.position > now]
            self._bytes = sum(len(event.data) + len(event.metadata) for event in self._waiting)
        return self.position

    async def catch_up(self, store: Store, *, upto: int | None = None, moved: Moved | None = None) -> int:
        """Mirror a log up to a position, or its head of now, and return how far the mirror is.

        If another process is at it, wait for that one to have come so far. `moved` is told of each position reached.
        Raises `PositionAhead` if the mirror is further than the log, `StoreError` if it is of another one.
        """
        head = await store.head()
        target = head if upto is None else min(upto, head)
        while not await self.hold(wait=False):
            if self.position >= target:
                return self.position
            await asyncio.sleep(LOOK_SECONDS)
        await self.adapt(store, moved=moved)
        after = max(self.position, self._seen)
        if after < target:
            async for page in store.read(after=after, upto=target):
                await self.add(page)
                if moved:
                    moved(page.upto)
        return await self.flush()

    async def run(self, store: Store) -> None:
        """Follow a log for ever; while another process does, wait to take over."""
        await self.hold()
        await self.catch_up(store)
        tasks = {asyncio.create_task(self._follow(store)), asyncio.create_task(self._flush_by_the_clock())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def adapt(self, store: Store, *, moved: Moved | None = None) -> bool:
        """Make the tables anew, from the log, whose events are defined otherwise than when they were written.

        Queries see the old ones until all of them are ready. Does nothing, and returns False, if none is.
        """
        now = await self._writing()
        await self._check(store, now)
        stale = self._stale(now)
        gone = now.events.keys() - self._tables.empty.keys()
        if not stale and not gone:
            return False
        made: dict[str, tuple[File, ...]] = dict.fromkeys((*stale, UNREAD), ())
        if now.position:
            types = {each for name in (*stale, *gone) if name in now.events for each in now.events[name].types}
            types.update(each for name in stale for each in self._tables.empty[name].types)
            types.update(await _to_the_end(lambda: self._unread_types(now)))
            async for events, upto in self._batches(store, types, now.position):
                found = await _to_the_end(partial(self._written, events, now, frozenset(made)))
                for name, some in found.items():
                    made[name] += some
                if moved:
                    moved(upto)
        await _to_the_end(
            lambda: self._switch({n: _with_files(self._tables.empty[n], f) for n, f in made.items()}, gone)
        )
        return True

    async def keep_rows(
        self,
        name: str,
        cls: type[Struct],
        batches: AsyncIterable[Sequence[Struct]] | Iterable[Sequence[Struct]],
        *,
        position: int,
    ) -> int:
        """Put all rows of a view, as it is at a position, in place of those that were kept; return how many.

        Queries see the old ones until all of the new ones are there.
        """
        await self._writing()
        columns = columns_of(cls)
        if not columns:
            raise WiringError(f"{described(cls)} has no fields, so it has no columns")
        fields = tuple(Field(each.name, each.form.sql) for each in columns)
        table, token = Table(fields, "", position=position), secrets.token_hex(4)
        async for rows in _rebatched(batches, self._batch_events):
            path = f"{files.views_folder(name)}/{position:012}-{len(table.files)}-{token}.parquet"
            one = await _to_the_end(partial(self._write_rows, path, columns, rows, position))
            table = _with_files(table, (*table.files, one))
        await _to_the_end(lambda: self._put_views({name: table}))
        return sum(file.rows for file in table.files)

    async def drop_rows(self, name: str) -> None:
        """Let go of a view that is not mirrored any more."""
        await self._writing()
        await _to_the_end(lambda: self._put_views({}, gone=name))

    def query(
        self,
        sql: str,
        values: Sequence[Any] | Mapping[str, Any] = (),
        *,
        limit_rows: int = ROWS,
        seconds: float = SECONDS,
        cut: bool = False,
    ) -> Answer:
        """Ask for events and rows in SQL; see `Reader.query`. It blocks: in an event loop call it in a thread."""
        return self._reader.query(sql, values, limit_rows=limit_rows, seconds=seconds, cut=cut)

    async def close(self) -> None:
        """Write what was added, and give the folder back. Closing twice is fine."""
        try:
            if self._manifest is not None:
                await self.flush()
        finally:
            with self._step:
                self._manifest = None
                self._waiting, self._bytes, self._seen = [], 0, 0
                self._claim.give()
            self._reader.close()

    async def _follow(self, store: Store) -> None:
        async for page in store.follow(after=max(self.position, self._seen)):
            await self.add(page)

    async def _flush_by_the_clock(self) -> None:
        while True:
            await asyncio.sleep(self._flush_seconds)
            await self.flush()

    async def _writing(self) -> Manifest:
        if self._manifest is None:
            await self.hold()
        assert self._manifest is not None, "only who holds the folder writes"
        return self._manifest

    def _begin(self) -> None:
        """Read the manifest that we are to go on from, and remove what a crash has left."""
        with self._step, translated(self._folder):
            if self._manifest is None:
                found = manifest.read(self._folder, create=True)
                manifest.remove_leftovers(self._folder, found)
                self._manifest = found
                if not found.generation:
                    self._replace(found, events=dict(self._tables.empty))

    def _stale(self, now: Manifest) -> list[str]:
        """Return the tables whose files, if there are any, were made by another definition."""
        return [
            name
            for name, table in self._tables.empty.items()
            if name not in now.events or _with_files(now.events[name], ()) != table
        ]

    async def _check(self, store: Store, now: Manifest) -> None:
        """Refuse a log that is not the one of this mirror."""
        head = await store.head()
        if now.position > head:
            raise PositionAhead(
                f"the mirror in {self._folder} is at position {now.position:,}, but the head of the log is {head:,}. "
                "If this is its log, restored from a backup, remove the folder, and the mirror is made anew"
            )
        async for page in store.read(upto=now.position, backwards=True, limit=1):
            if page and _mark(page[0]) != now.last:
                raise StoreError(
                    f"the mirror in {self._folder} is not of this log: there the event at position "
                    f"{page[0].position:,} is another. Name another folder, or remove this one"
                )

    async def _batches(
        self, store: Store, types: Collection[str], upto: int
    ) -> AsyncIterator[tuple[list[StoredEvent], int]]:
        if not types:
            return
        batch: list[StoredEvent] = []
        size = 0
        query = Query((QueryItem(tuple(types)),))
        async for page in store.read(query, upto=upto):
            batch += page
            size += sum(len(event.data) for event in page)
            if len(batch) >= self._batch_events or size >= BATCH_BYTES or page.upto >= upto:
                yield batch, page.upto
                batch, size = [], 0

    def _unread_types(self, now: Manifest) -> list[str]:
        paths = [self._folder / file.path for file in now.events[UNREAD].files]
        if not paths:
            return []
        return pl.scan_parquet(paths, glob=False).select(pl.col("type").unique()).collect()["type"].to_list()

    def _take_in(self, events: Sequence[StoredEvent], upto: int) -> None:
        """Write events behind those that are in the mirror, and say so."""
        with self._step, translated(self._folder):
            now = self._manifest
            assert now is not None, "only who holds the folder writes"
            fresh = [event for event in events if event.position > now.position]
            if upto <= now.position:
                return
            tables = dict(now.events)
            for name, some in self._write(self._tables.parts(fresh), now.generation + 1).items():
                all_files = files.merged(self._folder, (*tables[name].files, *some), now.generation + 1)
                tables[name] = _with_files(tables[name], all_files)
            last = _mark(fresh[-1]) if fresh else now.last
            self._replace(now, events=tables, position=upto, last=last)

    def _written(
        self, events: Sequence[StoredEvent], now: Manifest, only: frozenset[str]
    ) -> dict[str, tuple[File, ...]]:
        with translated(self._folder):
            return self._write(self._tables.parts(events, only), now.generation + 1)

    def _write(self, parts: Iterable[Part], generation: int) -> dict[str, tuple[File, ...]]:
        found: dict[str, tuple[File, ...]] = {}
        for part in parts:
            first, last = part.frame["position"][0], part.frame["position"][-1]
            path = f"{files.events_folder(part.table, part.month)}/{files.file_name(first, last, generation)}"
            size = files.write(self._folder, path, part.frame)
            one = File(path, first, last, part.frame.height, size, part.month, part.wide)
            found[part.table] = (*found.get(part.table, ()), one)
        return found

    def _write_rows(self, path: str, columns: tuple[Column, ...], rows: Sequence[Struct], position: int) -> File:
        made, wide = frame((column, [getattr(row, column.field) for row in rows]) for column in columns)
        with translated(self._folder):
            size = files.write(self._folder, path, made)
        return File(path, position, position, len(rows), size, wide=wide)

    def _switch(self, tables: Mapping[str, Table], gone: Iterable[str]) -> None:
        with self._step, translated(self._folder):
            assert self._manifest is not None, "only who holds the folder writes"
            kept = {name: table for name, table in self._manifest.events.items() if name not in gone}
            self._replace(self._manifest, events={**kept, **tables})

    def _put_views(self, views: Mapping[str, Table], gone: str = "") -> None:
        with self._step, translated(self._folder):
            assert self._manifest is not None, "only who holds the folder writes"
            kept = {name: table for name, table in self._manifest.views.items() if name != gone}
            self._replace(self._manifest, views={**kept, **views})

    def _replace(self, now: Manifest, **changes: object) -> None:
        new = manifest.next_step(now, **changes)
        manifest.sync_all(self._folder, new.paths() - now.paths())
        self._manifest = None  # if the next line fails, it has to be read which of the two is on the disk
        manifest.write(self._folder, now, new)
        self._manifest = new


async def _to_the_end(work: Callable[[], T]) -> T:
    """Work in a thread; if cancelled, wait until it is done, so that nothing goes on behind the caller's back."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def _rebatched(
    batches: AsyncIterable[Sequence[Struct]] | Iterable[Sequence[Struct]], size: int
) -> AsyncIterator[list[Struct]]:
    """Yield the rows of some batches in batches of this size, but for the last."""
    waiting: list[Struct] = []
    async for batch in batches if isinstance(batches, AsyncIterable) else _each(batches):
        waiting += batch
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting:
        yield waiting


async def _each(batches: Iterable[Sequence[Struct]]) -> AsyncIterator[Sequence[Struct]]:
    for batch in batches:
        yield batch


def _with_files(table: Table, found: tuple[File, ...]) -> Table:
    return msgspec.structs.replace(table, files=found)


def _mark(event: StoredEvent) -> str:
    """Return what tells an event from one that another log has at its position."""
    parts = (event.position, event.recorded_at.isoformat(), event.type, event.version)
    return blake2b(repr(parts).encode() + event.data + event.metadata, digest_size=16).hexdigest()
