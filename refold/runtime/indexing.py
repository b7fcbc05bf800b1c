"""Indexing a log: a row for each event, whatever program wrote it, by which it is found again.

A row has the ids of its event and the words in it: its type, its tags, and the texts and numbers of its data and of
what was added to its metadata, as they are written there, in their order. It is kept up as a projection is.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias, cast

import msgspec
from msgspec import Struct

from refold.errors import UnreadableEvent
from refold.model.query import Query
from refold.model.record import Metadata, StoredEvent
from refold.model.schema import decode_metadata
from refold.runtime.books import Parked
from refold.runtime.parking import Parking
from refold.runtime.project import Kept
from refold.runtime.worker import Worker
from refold.store.api import Page
from refold.view.api import Put, Views, Write
from refold.view.search import MAX_ROW_CHARS
from refold.view.table import Key, Searched, Table, table_of

NAME = "LogIndex"
FORM = "w1"
"""Which rows are made, for tables that were filled by others: to be changed with what a row holds."""
MAX_ID_CHARS = 200
"""How much of an id is in its row: PostgreSQL has an index of no longer ones."""
IDS = ("event_id", "correlation_id", "causation_id")
Id: TypeAlias = Literal["event_id", "correlation_id", "causation_id"]

_read = msgspec.json.Decoder(float_hook=str).decode


class IndexedEvent(Struct, frozen=True):
    """What is found by: the ids of an event, and its words."""

    position: int
    type: str
    tags: tuple[str, ...]
    event_id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    words: Annotated[str, Searched()] = ""


class Indexing:
    """The index of a log as an app is wired with it: a projection of all its events."""

    name = NAME
    fingerprint = FORM
    how = Kept(IndexedEvent)
    events = ()
    query = Query()
    coarse = False
    divisible = False

    def __init__(self) -> None:
        self._tables: dict[str, tuple[Table, ...]] = {}

    def tables(self, version: str) -> tuple[Table, ...]:
        """Return its one table."""
        if version not in self._tables:
            by_id = [(name, "position") for name in IDS]
            self._tables[version] = (table_of(IndexedEvent, NAME, ["position"], version=version, indexes=by_id),)
        return self._tables[version]

    def worker(self, views: Views, version: str, part: int = 0, parts: int = 1) -> Worker:
        """Return what makes a row of each event."""
        return _Indexing(self.tables(version)[0])

    def keys_of(self, page: Page) -> Sequence[Key]:
        """Return the keys of the rows that are made of some events."""
        return [(stored.position,) for stored in page]


class _Indexing:
    """Makes a row of each event; whatever is in it, that does not fail."""

    query = Query()

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows: list[IndexedEvent] = []

    def forget(self) -> None:
        """Forget the rows that are not written."""
        self._rows = []

    async def handle(self, page: Page, parking: Parking) -> int:
        """Make the rows of a page."""
        self._rows += map(indexed, page)
        return len(page)

    def take(self) -> Sequence[Write]:
        """Return the rows that are to be written."""
        rows, self._rows = self._rows, []
        return [Put(self._table, rows)] if rows else []

    def refuse(self, stored: StoredEvent, parking: Parking, error: Exception) -> None:
        """Park an event, and none that come after it."""
        parking.fail(stored, (f"@position:{stored.position}",), error)

    async def again(self, stored: StoredEvent, parked: Parked) -> Sequence[Write]:
        """Make the row of an event that was parked."""
        return [Put(self._table, [indexed(stored)])]


def indexed(stored: StoredEvent) -> IndexedEvent:
    """Return the row of an event."""
    metadata = metadata_of(stored)
    texts = [stored.type, *stored.tags, *_texts(stored.data), metadata.actor, *_within(metadata.extra)]
    return IndexedEvent(
        stored.position,
        stored.type,
        stored.tags,
        id_kept(metadata.event_id),
        id_kept(metadata.correlation_id),
        id_kept(metadata.causation_id),
        _clean(" ".join(texts)[:MAX_ROW_CHARS]),
    )


def id_kept(id: str) -> str:
    """Return an id as a row has it."""
    return _clean(id)[:MAX_ID_CHARS]


def metadata_of(stored: StoredEvent) -> Metadata:
    """Return an event's metadata; nothing where it cannot be read."""
    try:
        return decode_metadata(stored)
    except UnreadableEvent:
        return Metadata(occurred_at=stored.recorded_at)


def _texts(data: bytes) -> list[str]:
    """Return the texts and numbers in JSON; none of what is no JSON."""
    try:
        return _within(_read(data))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []


def _within(value: Any) -> list[str]:
    """Return the texts and numbers in a value, in their order."""
    texts: list[str] = []
    waiting: list[Any] = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            texts.append(each)
        elif isinstance(each, list):
            waiting += reversed(cast(Sequence[Any], each))
        elif isinstance(each, dict):
            waiting += reversed(cast(dict[str, Any], each).values())
        elif isinstance(each, int | float) and not isinstance(each, bool):
            texts.append(str(each))
    return texts


def _clean(text: str) -> str:
    """Return a text that every database can keep."""
    return text.replace("\0", " ").encode(errors="replace").decode()
