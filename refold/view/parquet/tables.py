"""Tables: which there are for the events of a program, and how stored events become their rows."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
from msgspec import Struct

from refold.errors import UnreadableEvent
from refold.model.fingerprint import fingerprint_of
from refold.model.message import Event, stored_name
from refold.model.record import StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.view.parquet.column import (
    BYTES,
    INTEGER,
    JSON,
    PLACES,
    TEXT,
    TIME,
    Column,
    columns_of,
    distinct,
    frame,
    list_of,
)
from refold.view.parquet.manifest import Field, Table

UNREAD = "_unread"
"""The table of events that this program cannot decode, with their bytes."""
ALL = "events"
"""What SQL calls all events together."""
FORM = 1
"""Of the files: another number makes all of them anew."""

_POSITION = Column("position", "position", INTEGER)
_RECORDED_AT = Column("recorded_at", "recorded_at", TIME)
_VERSION = Column("version", "version", INTEGER)
_TAGS = Column("tags", "tags", list_of(TEXT))
COMMON = (
    _POSITION,
    _RECORDED_AT,
    Column("occurred_at", "occurred_at", TIME),
    *(Column(name, name, TEXT) for name in ("event_id", "correlation_id", "causation_id", "actor")),
    _VERSION,
    _TAGS,
    Column("extra", "extra", JSON),
)
"""What every event has; `version` is the stored one, before any upcaster."""
_UNREAD = (
    _POSITION,
    _RECORDED_AT,
    Column("type", "type", TEXT),
    _VERSION,
    _TAGS,
    Column("data", "data", BYTES),
    Column("metadata", "metadata", BYTES),
)
_ERROR = Column("error", "error", TEXT)

Values = tuple[Any, ...]


class EventTable:
    """The rows of one class of events."""

    def __init__(self, name: str, kind: type[Event], schema: Schema) -> None:
        self.name = name
        self.kind = kind
        self.columns = columns_of(kind, [each.name for each in COMMON])
        fields = tuple(Field(each.name, each.form.sql) for each in (*COMMON, *self.columns))
        made_by = fingerprint_of([kind], schema.upcasters([kind]))
        self.empty = Table(fields, f"{FORM}.{PLACES}.{made_by}", schema.names([kind]))

    def frame(self, rows: Sequence[tuple[Values, Event]]) -> tuple[pl.DataFrame, tuple[str, ...]]:
        """Return events as a table, and its wide columns."""
        common = [(column, [values[place] for values, _ in rows]) for place, column in enumerate(COMMON)]
        own = [(column, [getattr(event, column.field) for _, event in rows]) for column in self.columns]
        return frame([*common, *own])


class Batch:
    """Decoded events, sorted into the tables and months that they belong to."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[tuple[Values, Event]]] = defaultdict(list)
        self.unread: dict[str, list[tuple[StoredEvent, str]]] = defaultdict(list)


class Part(Struct, frozen=True):
    """The rows of one table and month, ready to be written."""

    table: str
    month: str
    frame: pl.DataFrame
    wide: tuple[str, ...] = ()


class EventTables:
    """The tables of all events of a program."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.by_name: dict[str, EventTable] = {}
        stored = [stored_name(kind) for kind in schema.events]
        twice = {each.name for each in stored if [other.name for other in stored].count(each.name) > 1}
        wanted = [f"{each.name}_v{each.version}" if each.name in twice else each.name for each in stored]
        self._names: dict[type[Event], str] = {}
        for kind, name in zip(schema.events, distinct(wanted, [ALL, UNREAD]).values(), strict=True):
            self._names[kind] = name
            self.by_name[name] = EventTable(name, kind, schema)
        self.empty: Mapping[str, Table] = {
            **{name: table.empty for name, table in self.by_name.items()},
            UNREAD: Table(tuple(Field(each.name, each.form.sql) for each in (*_UNREAD, _ERROR)), f"{FORM}"),
        }

    def parts(self, events: Iterable[StoredEvent], only: frozenset[str] | None = None) -> list[Part]:
        """Return the rows of some events, or those of them that belong to some of the tables."""
        batch = Batch()
        for event in events:
            self._sort(event, batch)
        parts = [
            Part(name, month, *self.by_name[name].frame(rows))
            for (name, month), rows in batch.rows.items()
            if only is None or name in only
        ]
        return [*parts, *(Part(UNREAD, month, _unread(rows)) for month, rows in batch.unread.items())]

    def _sort(self, stored: StoredEvent, batch: Batch) -> None:
        month = f"{stored.recorded_at.year:04}-{stored.recorded_at.month:02}"
        try:
            values = _common(stored)
            events = self._schema.decode(stored)
        except (UnreadableEvent, OverflowError) as error:
            batch.unread[month].append((stored, str(error)))
            return
        for event in events:
            batch.rows[self._names[type(event)], month].append((values, event))


def _common(stored: StoredEvent) -> Values:
    metadata = decode_metadata(stored)
    return (
        stored.position,
        stored.recorded_at,
        _utc(metadata.occurred_at),
        metadata.event_id or None,
        metadata.correlation_id or None,
        metadata.causation_id or None,
        metadata.actor or None,
        stored.version,
        stored.tags,
        metadata.extra or None,
    )


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _unread(rows: Sequence[tuple[StoredEvent, str]]) -> pl.DataFrame:
    columns = [(column, [getattr(stored, column.field) for stored, _ in rows]) for column in _UNREAD]
    made, wide = frame([*columns, (_ERROR, [error for _, error in rows])])
    assert not wide, f"{wide} are what every stored event has"
    return made
