"""The port: what a log must do, and nothing that could be written on top of it.

Positions are positive integers that grow along the log; they may have gaps. Position 0 is before all events.
`after` is exclusive, `upto` inclusive. A store is used from one event loop; open another handle for another loop.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from hashlib import blake2b
from typing import Protocol, TypeAlias

from msgspec import Struct

from refold.errors import InvalidEvent, InvalidQuery, TooLarge
from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent, StoredEvent

MAX_EVENT_BYTES = 4 << 20
"""Data and metadata of one event together."""
MAX_BATCH_BYTES = 64 << 20
"""Data and metadata of all events of one append."""
MAX_BATCH_EVENTS = 100_000
MAX_TAGS = 250
"""Distinct tags of one event."""
MAX_VERSION = 2**31 - 1
MAX_NAME_CHARS = 1_024
"""A type, a tag or an append id, in characters."""

RETENTION = timedelta(days=7)
"""How long an append id is remembered unless the store is opened otherwise."""

Clock: TypeAlias = Callable[[], datetime]
Conditions: TypeAlias = AppendCondition | Sequence[AppendCondition] | None


class Capability(Enum):
    """What a store may or may not offer; `App` refuses at wiring what its store lacks."""

    DURABLE = "what is acknowledged survives power loss"
    SHARED = "several processes may open it at once"
    VIEWS = "views can live in the same database and transaction"


class Appended(Struct, frozen=True):
    """Where a batch stands in the log; positions inside it are contiguous."""

    first: int
    last: int


class Page(list[StoredEvent]):
    """Some events in the order of the read. All that match up to `upto` are in it or in the pages before it."""

    __slots__ = ("upto",)

    def __init__(self, events: Iterable[StoredEvent], upto: int) -> None:
        super().__init__(events)
        self.upto = upto


class Store(Protocol):
    """An append-only log of events with one total order."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this store offers beyond the promises below."""
        ...

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        """Add a batch at the end of the log, whole or not at all, and return its first and last position.

        When the call returns, the batch is as durable as the store is. Duplicate tags of an event collapse.

        `condition` may be one or several; all must hold at the moment of the append, and events of the batch itself
        never count. An append repeated with its `append_id` within the retention window (7 days unless the store
        was opened otherwise) returns the first one's result, whatever its condition, and stores nothing.

        Raises `Conflict` if a condition does not hold; `PositionAhead` if its `after` is beyond the head;
        `AppendIdReused` if the `append_id` came before with other types, versions, tags or data;
        `InvalidEvent` for an empty batch or a name that no log may hold; `TooLarge` over a limit of this module;
        `StoreError` if the storage fails. In every case nothing is written.
        """
        ...

    async def appended(self, append_id: str) -> Appended | None:
        """Return the result of the append that had this id, or None if none is remembered."""
        ...

    def read(
        self,
        query: Query = Query(),
        *,
        after: int = 0,
        upto: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Page]:
        """Read matching events page by page in position order, or backwards from `upto`.

        The read sees the log as it was at its start, whatever is appended meanwhile, and holds no more than a page.
        It yields at least one page, an empty one if nothing matches; the last page's `upto` is where the read ends:
        the head, or `upto` if that is lower, or the last event's position if `limit` cut it short (going backwards,
        where it began). `limit` counts matching events; 0 gives none, and so an `upto` of `after`.
        Raises `InvalidQuery` for a negative `after` or `limit`.
        """
        ...

    async def head(self) -> int:
        """Return the position up to which everything is visible: the last event's, or 0."""
        ...

    def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        """Read what is there, then what comes, for ever.

        Yields a page whenever the log has grown, an empty one if nothing in it matched, so that the follower
        knows how far it has come. Raises `PositionAhead` if `after` is beyond the head.
        """
        ...

    async def close(self) -> None:
        """Finish the appends under way and let go of the storage. Closing twice is fine."""
        ...


def checked(events: Sequence[NewEvent], append_id: str | None = None) -> list[NewEvent]:
    """Return the batch with each event's tags made distinct, or raise `InvalidEvent` or `TooLarge`."""
    if not events:
        raise InvalidEvent("an append needs at least one event")
    if len(events) > MAX_BATCH_EVENTS:
        raise TooLarge(f"{len(events):,} events in one append; the limit is {MAX_BATCH_EVENTS:,}")
    if append_id is not None:
        check_name(append_id, "append id")
    total = 0
    batch: list[NewEvent] = []
    for event in events:
        size = len(event.data) + len(event.metadata)
        total += size
        if size > MAX_EVENT_BYTES:
            raise TooLarge(f"an event of type {event.type!r} has {size:,} bytes; the limit is {MAX_EVENT_BYTES:,}")
        if not _plain(event.type):
            check_name(event.type, "event type")
        tags = event.tags
        for tag in tags:
            # `_plain`, written out: this is the busiest line of an import
            if not (tag.isascii() and 0 < len(tag) <= MAX_NAME_CHARS and "\0" not in tag):
                check_name(tag, "tag")
        if len(tags) > 1 and len(set(tags)) < len(tags):
            tags = tuple(dict.fromkeys(tags))
            event = NewEvent(event.type, event.data, tags, event.version, event.metadata)
        if len(tags) > MAX_TAGS:
            raise TooLarge(f"an event of type {event.type!r} has {len(tags)} tags; the limit is {MAX_TAGS}")
        if not 1 <= event.version <= MAX_VERSION:
            bounds = f"versions start at 1 and end at {MAX_VERSION}"
            raise InvalidEvent(f"an event of type {event.type!r} has version {event.version}; {bounds}")
        batch.append(event)
    if total > MAX_BATCH_BYTES:
        raise TooLarge(f"an append of {total:,} bytes; the limit is {MAX_BATCH_BYTES:,}. Append in several batches")
    return batch


def _plain(name: str) -> bool:
    return name.isascii() and 0 < len(name) <= MAX_NAME_CHARS and "\0" not in name


def check_name(name: str, what: str) -> None:
    """Refuse a type, tag or append id that not every store can hold exactly."""
    if not name:
        raise InvalidEvent(f"an empty {what}")
    if len(name) > MAX_NAME_CHARS:
        raise TooLarge(f"the {what} {name[:40]!r}… has {len(name):,} characters; the limit is {MAX_NAME_CHARS:,}")
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InvalidEvent(f"the {what} {name!r} holds half of a surrogate pair, which is not text") from None
    if "\0" in name:
        raise InvalidEvent(f"the {what} {name!r} holds a NUL character")


def check_bounds(after: int, limit: int | None = None) -> None:
    """Refuse bounds of a read that make no sense."""
    if after < 0:
        raise InvalidQuery(f"after={after}: positions begin at 1, and 0 is before all")
    if limit is not None and limit < 0:
        raise InvalidQuery(f"limit={limit}: a limit counts events")


def conditions(condition: Conditions) -> Sequence[AppendCondition]:
    """Return the conditions of an append as a sequence."""
    if condition is None:
        return ()
    return (condition,) if isinstance(condition, AppendCondition) else condition


def digest(events: Sequence[NewEvent]) -> bytes:
    """Return what tells one batch from another of the same append id: types, versions, tags and data."""
    hasher = blake2b(digest_size=16)
    for event in events:
        for part in (event.type, str(event.version), *sorted(event.tags)):
            hasher.update(part.encode() + b"\0")
        hasher.update(len(event.data).to_bytes(8, "big") + event.data)
    return hasher.digest()


def utc_now() -> datetime:
    """Return the time of the system clock, in UTC."""
    return datetime.now(UTC)
