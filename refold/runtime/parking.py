"""Parking: an event that fails waits, and with it all later ones of its keys, in their order; all others go on.

Nothing is skipped unless somebody says so, with a reason, which is kept. What waits is tried again by itself a few
times, each time later, and then when somebody asks. What the program could not read, such as an event of a version
that it does not know, is tried again when a program takes the subscription on, for that may be a newer one.
"""

import logging
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from refold.errors import Conflict, RefoldError, StoreError, SubscriptionFailed, Unavailable, UnreadableEvent
from refold.model.query import Query
from refold.model.record import StoredEvent
from refold.model.schema import decode_metadata
from refold.runtime.books import PARKED, REQUESTS, SKIPPED, TIMERS, Books, Parked, Request, Skipped, parked_at
from refold.runtime.instruments import FAILED
from refold.runtime.lease import LeaseLost
from refold.runtime.telemetry import Telemetry, code_of
from refold.store.api import Page
from refold.view.api import Delete, Put, Write

MOST = 10_000
"""How many events of one subscription may wait: if more do, something else is wrong than an event."""
ROOM = 1_000
"""How many more may come to wait when it is taken on with so many, so that somebody can ask for something then."""
RETRIES = (1.0, 5.0, 30.0, 120.0)
"""Seconds until the next try, after each that failed; after the last one somebody has to ask."""
TRACEBACK_CHARS = 20_000
STATE_CHARS = 20_000

logger = logging.getLogger("refold.subscription")


class Retries(Protocol):
    """What can handle a parked event again."""

    async def again(self, stored: StoredEvent, parked: Parked) -> Sequence[Write]:
        """Handle an event for its key alone; return what is to be written."""
        ...

    def forget(self) -> None:
        """Forget what was remembered of rows, and what is not written."""
        ...


class Reads(Protocol):
    """Where a parked event is found again."""

    def read(self, query: Query = ..., *, after: int = 0, upto: int | None = None) -> AsyncIterator[Page]:
        """Give what is after a position, and up to another."""
        ...


class Timed(Protocol):
    """What can execute a parked timer again."""

    async def again(self, parked: Parked) -> Sequence[Write]:
        """Execute it; return what is to be written."""
        ...


class Parking:
    """What waits of one subscription."""

    def __init__(self, subscription: str, books: Books, telemetry: Telemetry) -> None:
        self._subscription = subscription
        self._books = books
        self._telemetry = telemetry
        self._keys: Counter[str] = Counter()
        self._new: list[Parked] = []
        self._due: datetime | None = None
        self.taken_on = True
        """Whether what could not be read is still to be tried again, perhaps by another program than the last time."""
        self._count = 0
        self._most = MOST
        self._last = ""
        """What has failed last: where, and by what, without what the program says of it."""

    async def load(self) -> None:
        """Learn what waits."""
        self._new = []
        rows: list[Parked] = await self._books.find(PARKED, {"subscription": self._subscription})
        self._learn(rows)
        self._most = MOST if len(rows) <= MOST else len(rows) + ROOM
        self.taken_on = any(row.unreadable for row in rows)
        if self.taken_on:
            self._due = datetime.now(UTC)

    def __bool__(self) -> bool:
        """Tell whether anything waits."""
        return bool(self._keys)

    def holds(self, keys: Sequence[str]) -> bool:
        """Tell whether an event of these keys has to wait."""
        return any(key in self._keys for key in keys)

    def values(self, prefix: str) -> set[str]:
        """Return the values that wait of a tag, given as the beginning of its text."""
        return {key[len(prefix) :] for key in self._keys if key.startswith(prefix)}

    def wait(self, stored: StoredEvent, keys: Sequence[str]) -> None:
        """Let an event wait behind others."""
        self._add(parked_at(stored, self._subscription, keys))

    def fail(
        self,
        stored: StoredEvent,
        keys: Sequence[str],
        error: BaseException,
        state: object = None,
        *,
        by_itself: bool = True,
    ) -> None:
        """Let an event wait that has failed; it is tried again by itself, or only when somebody asks."""
        # What it says, which may be what the event says, is kept with the event, where who may can look at it.
        logger.error(
            "%s parks position %s (%s): %s",
            self._subscription,
            stored.position,
            stored.type,
            code_of(error),
            extra=self._telemetry.about(
                subscription=self._subscription.partition("@")[0],
                position=stored.position,
                correlation_id=_correlation_of(stored),
                code=code_of(error),
            ),
        )
        self._last = f"position {stored.position} ({stored.type}) by {code_of(error)}"
        self._telemetry.figures.count(FAILED, self._subscription.partition("@")[0])
        row = failed(parked_at(stored, self._subscription, keys), error, state)
        self._add(row if by_itself else replace(row, attempts=len(RETRIES), retry_at=None))

    def take(self) -> list[Write]:
        """Return what is to be written of the events that have come to wait."""
        new, self._new = self._new, []
        return [Put(PARKED, new)] if new else []

    @property
    def untaken(self) -> int:
        """How many have come to wait that are not written."""
        return len(self._new)

    def check(self) -> None:
        """Raise `SubscriptionFailed` if more wait than may; they are written by then."""
        if self._count > self._most:
            last = f"; what failed last is {self._last}" if self._last else ""
            raise SubscriptionFailed(
                f"{self._subscription} stopped: more than {self._most:,} events are parked, so that not only they are "
                f"wrong{last}",
                subscription=self._subscription,
            )

    @property
    def due(self) -> datetime | None:
        """When the next of those that wait is to be tried again by itself."""
        return self._due

    async def retry(
        self,
        store: Reads,
        requests: Sequence[Request],
        worker: Retries,
        timers: Timed | None,
        save: Callable[[Sequence[Write]], Coroutine[Any, Any, None]],
    ) -> None:
        """Try again what is due or asked for, in order; what waits behind an event that succeeds follows it."""
        now, taken_on = datetime.now(UTC), self.taken_on
        left: list[Parked] = []
        held: set[str] = set()
        named = {(each.position, each.key): each for each in requests if each.position and each.key}
        broad = [each for each in requests if not (each.position and each.key)]
        rows: list[Parked] = await self._books.find(PARKED, {"subscription": self._subscription})
        for row in sorted(rows, key=lambda row: (row.position, row.parked_at)):
            asked = named.get((row.position, row.key)) or next((each for each in broad if _means(each, row)), None)
            if asked is not None and not await self._is_still_asked(asked):
                asked = None
            if asked is not None and asked.action == "skip":
                gone = [Delete(PARKED, [PARKED.key_of(row)])]
                if row.timer:
                    gone.append(Delete(TIMERS, [(self._subscription, row.timer)]))
                await save([*gone, Put(SKIPPED, [_skipped(row, asked)])])
                continue
            waits = bool(row.error) and asked is None and (row.retry_at is None or row.retry_at > now)
            waits = waits and not (taken_on and row.unreadable)
            if waits or not held.isdisjoint(row.keys):
                held.update(row.keys)
                left.append(row)
                continue
            try:
                if row.timer and timers is not None:
                    writes = await timers.again(row)
                else:
                    writes = await worker.again(await _read(store, row.position), row)
                await save([*writes, Delete(PARKED, [PARKED.key_of(row)])])
            except (StoreError, Conflict, Unavailable, LeaseLost):
                raise
            except Exception as error:
                worker.forget()  # what it led to may be what cannot be written
                row = failed(row, error, None)
                held.update(row.keys)
                left.append(row)
                await save([Put(PARKED, [row])])
        self.taken_on = False
        self._learn(left)

    async def _is_still_asked(self, request: Request) -> bool:
        """Tell whether who has asked has not given up by now, and been told that it is not done."""
        return bool(await self._books.views.get(REQUESTS, [REQUESTS.key_of(request)]))

    def _learn(self, rows: Sequence[Parked]) -> None:
        self._keys = Counter(key for row in rows for key in row.keys)
        self._due = min((row.retry_at for row in rows if row.retry_at), default=None)
        self._count = len(rows)

    def _add(self, row: Parked) -> None:
        self._count += 1
        self._new.append(row)
        self._keys.update(row.keys)
        if row.retry_at and (self._due is None or row.retry_at < self._due):
            self._due = row.retry_at


def _correlation_of(stored: StoredEvent) -> str:
    try:
        return decode_metadata(stored).correlation_id
    except UnreadableEvent:
        return ""


async def _read(store: Reads, position: int) -> StoredEvent:
    """Return the event at a position."""
    async for page in store.read(after=position - 1, upto=position):
        for stored in page:
            return stored
    raise SubscriptionFailed(f"the log has no event at position {position} any more", position=position)


def failed(row: Parked, error: BaseException, state: object) -> Parked:
    """Return a parked event after one more try that failed."""
    pause = RETRIES[row.attempts] if row.attempts < len(RETRIES) and not isinstance(error, UnreadableEvent) else None
    return replace(
        row,
        error=said(error),
        traceback=_clean("".join(traceback.format_exception(error)))[-TRACEBACK_CHARS:],
        state=row.state if state is None else _shown(state),
        attempts=row.attempts + 1,
        retry_at=None if pause is None else datetime.now(UTC) + timedelta(seconds=pause),
    )


def said(error: BaseException) -> str:
    """Return what an error says, for people."""
    return _clean((str(error) if isinstance(error, RefoldError) else "") or repr(error)).rstrip(".")


def told(error: BaseException) -> str:
    """Return what an error is for everybody: what a program says of it may hold anything."""
    return str(error).rstrip(".") if isinstance(error, RefoldError) else type(error).__name__


def _means(request: Request, row: Parked) -> bool:
    if request.action not in ("retry", "skip"):
        return False
    return (not request.position or request.position == row.position) and (not request.key or request.key == row.key)


def _skipped(row: Parked, asked: Request) -> Skipped:
    return Skipped(
        row.subscription,
        row.position,
        row.key,
        row.type,
        asked.reason,
        asked.actor,
        datetime.now(UTC),
        row.error,
    )


def _shown(state: object) -> str:
    try:
        return _clean(msgspec.json.encode(state).decode())[:STATE_CHARS]
    except (TypeError, ValueError, RecursionError):
        return _clean(repr(state))[:STATE_CHARS]


def _clean(text: str) -> str:
    """Return a text that every database can keep."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
