"""The log in PostgreSQL: appends in groups, reads by seeking, followers woken by what any process has committed."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import asyncpg

from refold.errors import PositionAhead, StoreClosed, WiringError
from refold.model.query import Query
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import (
    MAX_POSITION,
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
)
from refold.store.postgres import select
from refold.store.postgres.address import Address, quoted, read_address
from refold.store.postgres.beside import Beside, Step
from refold.store.postgres.connections import PATIENCE, SEEKING, Connection, Connections, Retry, closed, connect
from refold.store.postgres.failure import DRIVER
from refold.store.postgres.group import Append
from refold.store.postgres.lanes import BeforeCommit, Lanes
from refold.store.postgres.migration import prepare
from refold.store.postgres.names import append_key
from refold.store.postgres.watch import HEAD, Watch

PAGE = 1_000
PAGE_BYTES = 8 << 20
FIRST_PAGE = 16
"""Most states have few events; of so many, it does not matter how large they are."""
READERS = 4
FORGET = 500
"""After so many append ids, up to twice as many past the retention window are forgotten."""

KNOWN = """
SELECT first, last FROM append
WHERE append_key = $1 AND recorded_at >= coalesce($2, clock_timestamp()) - $3::interval"""
FORGET_IDS = "SELECT forget($1, $2, $3)"
DURABILITY = "SELECT current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on'"
NEVER_OFF = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"

logger = logging.getLogger("refold.store")


class PostgresStore:
    """A log in one schema of a PostgreSQL database, shared by processes and machines."""

    def __init__(
        self,
        address: Address,
        *,
        clock: Clock | None,
        retention: timedelta,
        patience: timedelta,
        before_commit: BeforeCommit | None,
        durable: bool,
    ) -> None:
        self.address = address
        self.patience = patience
        self._clock = clock
        self._retention = retention
        self._reads = Connections(address, READERS, SEEKING, patience)
        self._watch = Watch(address, self._reads, self._wake)
        self._lanes = Lanes(
            partial(_connect_to_write, address),
            where=address,
            patience=patience,
            retention=retention,
            clock=self._now,
            committed=self._watch.committed,
            before_commit=before_commit,
        )
        self._beside = Beside(
            partial(_connect_to_write, address, path=f"{quoted(address.view_schema)}, {quoted(address.schema)}"),
            where=address,
            patience=patience,
            retention=retention,
            clock=self._now,
            committed=self._watch.committed,
            before_commit=before_commit,
        )
        self._loop = asyncio.get_running_loop()
        self._grown = asyncio.Event()
        self._ids_since_forgetting = FORGET
        self._forgetting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._on_close: list[Callable[[], Awaitable[None]]] = []
        self.capabilities = frozenset(
            {Capability.SHARED, Capability.VIEWS} | ({Capability.DURABLE} if durable else set())
        )

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Clock | None = None,
        retention: timedelta = RETENTION,
        patience: timedelta = PATIENCE,
        before_commit: BeforeCommit | None = None,
        create: bool = True,
    ) -> "PostgresStore":
        """Open the log at an address, creating or upgrading it if need be.

        Without a `clock`, events are recorded at the server's time. `patience` is how long the server may be away
        before work fails. `before_commit` is a failpoint for tests: awaited with everything written and nothing
        committed. Raises `StoreError`: `NotAStore`, `StoreTooNew`, `StoreReadOnly`; where it may not `create` one,
        also `NotAStore` if there is none, and `StoreTooOld`.
        """
        address = read_address(url)
        retry = Retry(patience, address)
        while True:
            try:
                on_disk = await _prepared(address, create=create)
                break
            except DRIVER as error:
                await retry.after(error)
        durable = address.durable and on_disk
        if not durable:
            why = "with durability=relaxed" if on_disk else "on a server that runs with fsync or full_page_writes off"
            logger.warning("%s is open %s: a crash may take the newest events", address, why)
        return cls(
            address,
            clock=clock,
            retention=retention,
            patience=patience,
            before_commit=before_commit,
            durable=durable,
        )

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        """Add a batch; see the port."""
        batch = checked(events, append_id)
        self._check_usable()
        future: asyncio.Future[Appended] = self._loop.create_future()
        item = Append(batch, conditions(condition), append_id, future, _cost(batch))
        self._lanes.submit(item)
        if append_id is not None:
            self._forget_some()
        try:
            return await future
        except asyncio.CancelledError:
            self._lanes.give_up(item)
            raise

    async def append_with(
        self, events: Sequence[NewEvent], condition: Conditions, append_id: str | None, step: Step
    ) -> Appended | None:
        """Add a batch, and do something else in one transaction with it, on a connection that finds the views first.

        Returns None if what that relies on does not hold, and then nothing is added. It may be done more than once,
        of which one counts.
        """
        batch = checked(events, append_id)
        self._check_usable()
        if append_id is not None:
            self._forget_some()
        item = Append(batch, conditions(condition), append_id, self._loop.create_future(), _cost(batch))
        return await self._beside.append(item, step)

    async def appended(self, append_id: str) -> Appended | None:
        """Return the result of the append that had this id."""
        self._check_usable()
        if not is_name(append_id):
            return None
        bound = (append_key(append_id), self._now(), self._retention)
        row = await self._reads.run(lambda connection: connection.fetchrow(KNOWN, *bound))
        return Appended(*row) if row else None

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
        self._check_usable()
        within = select.Range(bounded(after), MAX_POSITION if upto is None else bounded(upto), backwards)
        rarest = await self._rarest(query, within)
        left = limit
        end: int | None = None
        while True:
            size = min(PAGE if end is not None else FIRST_PAGE, PAGE if left is None else left)
            events, head, cut = await self._page(query, within, size, rarest, with_head=end is None)
            if end is None:
                end = head if upto is None else min(upto, head)
                within = select.Range(within.after, end, backwards)
            left = left if left is None else left - len(events)
            done = cut is None or left == 0
            if limit == 0:
                yield Page([], end if backwards else after)
                return
            if cut is not None and (not done or not backwards):
                yield Page(events, cut)
            else:
                yield Page(events, end)
            if done or cut is None:
                return
            within = within.rest(cut)

    async def head(self) -> int:
        """Return the last position."""
        self._check_usable()
        head: int = await self._reads.run(lambda connection: connection.fetchval(HEAD))
        return head

    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        """Read what is there, then what comes."""
        check_bounds(after)
        self._check_usable()
        self._watch.listen()
        while True:
            grown = self._grown
            begun = after
            async for page in self.read(query, after=after):
                if page.upto < after:
                    raise PositionAhead(f"cannot follow after {after}: the head is {page.upto}")
                if page.upto > after:
                    yield page
                    after = page.upto
            if after == begun:
                await grown.wait()

    def on_close(self, call: Callable[[], Awaitable[None]]) -> None:
        """Have `call` awaited when the log is closed."""
        self._on_close.append(call)

    async def close(self) -> None:
        """Finish what is under way and close the connections."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)  # a caller that is cancelled does not leave it half closed

    async def _close(self) -> None:
        await asyncio.gather(self._lanes.close(), self._beside.close())
        if self._forgetting is not None:
            await asyncio.wait([self._forgetting])
        await self._watch.close()
        await self._reads.close()
        for call in self._on_close:
            await call()
        self._wake()

    async def _rarest(self, query: Query, within: select.Range) -> Mapping[int, int]:
        counts = select.counts(query, within)
        if counts is None:
            return {}
        rows = await self._reads.run(lambda connection: connection.fetch(counts.sql, *counts.bound))
        return dict(map(tuple, rows))

    async def _page(
        self, query: Query, within: select.Range, size: int, rarest: Mapping[int, int], *, with_head: bool
    ) -> tuple[list[StoredEvent], int, int | None]:
        """Return events, the head if asked for, and where the page was cut: None if nothing is left behind it."""
        limit_bytes = None if with_head else PAGE_BYTES
        chosen = select.page(query, within, size + 1, limit_bytes, rarest=rarest, with_head=with_head)
        rows = await self._reads.run(lambda connection: connection.fetch(chosen.sql, *chosen.bound))
        head = 0
        if with_head:
            head = rows[0][0]
            if rows[0][1] is None:
                return [], head, None
        events, weight = _events(rows, 1 if with_head else 0)
        cut: int | None = None
        if len(events) > size:
            del events[size:]
            cut = events[-1].position if events else within.after
        elif limit_bytes is not None and weight >= limit_bytes:
            cut = events[-1].position
        if query.items:  # found through hashes
            events = [event for event in events if query.matches(event.type, event.tags)]
        return events, head, cut

    def _check_usable(self) -> None:
        if self._closing is not None:
            raise StoreClosed(f"{self.address} is closed")
        if asyncio.get_running_loop() is not self._loop:
            raise WiringError(f"{self.address} was opened in another event loop; open another handle in this one")

    def _now(self) -> datetime | None:
        return None if self._clock is None else self._clock()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _forget_some(self) -> None:
        self._ids_since_forgetting += 1
        if self._ids_since_forgetting > FORGET and (self._forgetting is None or self._forgetting.done()):
            self._ids_since_forgetting = 0
            bound = (self._now(), self._retention, 2 * FORGET)
            self._forgetting = asyncio.create_task(self._forget(bound))

    async def _forget(self, bound: tuple[Any, ...]) -> None:
        try:
            await self._reads.run(lambda connection: connection.execute(FORGET_IDS, *bound))
        except Exception:
            logger.exception("%s: cannot forget old append ids", self.address)


async def _prepared(address: Address, *, create: bool) -> bool:
    """See that the log is there and up to date; return whether the server keeps through a crash what it confirms."""
    connection = await connect(address)
    try:
        await prepare(connection, address, create=create)
        on_disk: bool = await connection.fetchval(DURABILITY)
    finally:
        await closed(connection)
    return on_disk


async def _connect_to_write(address: Address, path: str | None = None) -> Connection:
    connection = await connect(address, {} if address.durable else {"synchronous_commit": "off"}, path=path)
    if address.durable:  # whatever the role or the database says
        await connection.execute(NEVER_OFF)
    return connection


def _events(rows: Sequence[asyncpg.Record], skip: int) -> tuple[list[StoredEvent], int]:
    events: list[StoredEvent] = []
    weight = 0
    for row in rows:
        position, recorded_at, name, version, tags, data, metadata = row[skip:] if skip else row
        events.append(StoredEvent(position, recorded_at, name, version, tuple(tags), data, metadata))
        weight += len(data) + len(metadata)
    return events, weight


def _cost(batch: Sequence[NewEvent]) -> int:
    """Return the work of an append in rows; a page of data counts as one."""
    return sum(1 + len(event.tags) + (len(event.data) >> 12) for event in batch)
