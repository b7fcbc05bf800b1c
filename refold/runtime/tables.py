"""Projections that declare their tables: several, joined, with rows that come and go as a handler says."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast, dataclass_transform

import msgspec
from msgspec import Struct, field

from refold.errors import InvalidQuery, NotKept, StoreError, WiringError
from refold.model.fingerprint import fingerprint_of
from refold.model.hints import described, hints, members
from refold.model.message import Event
from refold.model.query import Query, QueryItem
from refold.model.record import Metadata, StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.runtime.books import Parked
from refold.runtime.fold import Recent
from refold.runtime.parking import Parking
from refold.runtime.project import Kept, checked, version_of
from refold.runtime.worker import Worker
from refold.store.api import Page
from refold.view.api import Delete, Put, Views, Write
from refold.view.find import conditions_of, find_of
from refold.view.memory import MemoryViews
from refold.view.table import Key, Table, table_of

ROWS_REMEMBERED = 20_000
MOST_FOUND = 10_000
"""How many rows a handler may look at in one call: all of them are in memory."""
_GONE = object()


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Row(Struct, frozen=True):
    """A row of a table that a projection declares. Fields without a default are its key."""

    if TYPE_CHECKING:

        def replace(self, **changes: Any) -> Self:
            """Return a copy with some fields changed."""
            ...
    else:
        replace = Struct.__replace__


R = TypeVar("R", bound=Row)


class Projection:
    """A projection with tables of its own: subclass it, list its classes of rows, and say what an event does to them.

        class Picking(Projection):
            rows = (PickLine, Picker)

            async def apply(self, event: OrderPlaced | OrderShipped, rows: Rows) -> None:
                match event:
                    case OrderPlaced():
                        rows.put(PickLine(event.order_id, len(event.lines)))
                    case OrderShipped():
                        rows.delete(PickLine, event.order_id)

    The annotation of the event says which ones it gets; a third parameter annotated `Metadata` gets theirs. All that
    one event does is written in one step. It may look at its own tables, and at nothing else: rows are made anew from
    the log, in the same order, when the class changes. Events with the same first tag wait behind one that fails.
    """

    rows: ClassVar[tuple[type[Row], ...]] = ()


class Rows:
    """The tables of a projection, as its handler reads and changes them; what it has changed, it sees."""

    def __init__(self, tables: Mapping[type[Row], Table], views: Views) -> None:
        self._tables = tables
        self._views = views
        self._now: dict[type[Row], dict[Key, Any]] = {}
        """What the event at hand has done; then that of the batch, what is being written, and what was read."""
        self._changed: dict[type[Row], dict[Key, Any]] = {}
        self._taken: dict[type[Row], dict[Key, Any]] = {}
        self._recent = {cls: Recent(ROWS_REMEMBERED) for cls in tables}

    async def get(self, cls: type[R], *key: Any) -> R | None:
        """Return the row with this key, or None."""
        table = self._table(cls)
        if len(key) != len(table.key):
            raise InvalidQuery(f"the key of {table.name} is {', '.join(table.key) or 'empty'}, not {key!r}")
        for layer in self._layers(cls):
            if key in layer:
                return None if layer[key] is _GONE else cast(R, layer[key])
        if (row := self._recent[cls].get(key)) is not None:
            return None if row is _GONE else cast(R, row)
        row = (await self._views.get(table, [key])).get(key)
        if row is not None:
            self._recent[cls].put({key: row})
        return cast(R | None, row)

    async def find(
        self, cls: type[R], where: Mapping[str, Any] | None = None, *, order: str | Sequence[str] = ()
    ) -> list[R]:
        """Return the rows that meet all conditions, as a view's `find` does; raise `InvalidQuery` for too many."""
        table = self._table(cls)
        kept = await self._views.find(table, find_of(table, where, (), MOST_FOUND + 1, 0))
        rows = {table.key_of(row): row for row in kept}
        for layer in reversed(self._layers(cls)):
            rows.update(layer)
        there = [row for row in rows.values() if row is not _GONE]
        if len(there) > MOST_FOUND:
            raise InvalidQuery(f"{table.name}: more than {MOST_FOUND:,} rows for {where!r}; ask for fewer")
        # What the event and the batch have changed is not in the database: all are judged again, by the same rules.
        memory = MemoryViews()
        await memory.create([table])
        await memory.write([Put(table, there)])
        return await memory.find(table, find_of(table, where, order, None, 0))

    async def count(self, cls: type[Row], where: Mapping[str, Any] | None = None) -> int:
        """Count the rows that meet all conditions."""
        if not any(self._layers(cls)):
            return await self._views.count(self._table(cls), conditions_of(self._table(cls), where))
        return len(await self.find(cls, where))

    def put(self, *rows: Row) -> None:
        """Put rows in place of those of the same key."""
        for row in rows:
            table = self._table(type(row))
            table.dump(row)  # what no database could hold fails here, with the event that brought it
            self._now.setdefault(type(row), {})[table.key_of(row)] = table.settled(row)

    def delete(self, cls: type[Row], *key: Any) -> None:
        """Remove the row with this key, if it is there."""
        if len(key) != len(self._table(cls).key):
            raise InvalidQuery(f"the key of {cls.__name__} is {', '.join(self._table(cls).key)}, not {key!r}")
        self._now.setdefault(cls, {})[key] = _GONE

    def done(self, *, well: bool) -> int:
        """Keep or undo what the event at hand has done; return how many rows it was."""
        now, self._now = self._now, {}
        if well:
            for cls, rows in now.items():
                self._changed.setdefault(cls, {}).update(rows)
        return sum(map(len, now.values()))

    def take(self) -> Sequence[Write]:
        """Return the writes of the events that were done well."""
        self._taken, self._changed = self._changed, {}
        writes: list[Write] = []
        for cls, rows in self._taken.items():
            self._recent[cls].put(rows)
            puts = [row for row in rows.values() if row is not _GONE]
            gone = [key for key, row in rows.items() if row is _GONE]
            table = self._tables[cls]
            writes += [Put(table, puts)] if puts else []
            writes += [Delete(table, gone)] if gone else []
        return writes

    def _layers(self, cls: type[Row]) -> list[dict[Key, Any]]:
        return [layer.get(cls, {}) for layer in (self._now, self._changed, self._taken)]

    def _table(self, cls: type[Row]) -> Table:
        if cls not in self._tables:
            raise InvalidQuery(f"{described(cls)} is not among the `rows` of this projection")
        return self._tables[cls]


class TableProjection:
    """A `Projection` as an app is wired with it."""

    coarse = True
    divisible = False

    def __init__(self, how: Kept, schema: Schema) -> None:
        cls = cast(type[Projection], how.projection)
        self.how = checked(how)
        self.name = cls.__name__
        self.schema = schema
        self.made = _made(cls)
        self.apply: Callable[..., Any] = getattr(self.made, "apply", lambda: None)
        self.events, self.wants_metadata = _applied(cls)
        if how.history:
            raise WiringError(f"{described(cls)} keeps no history: its tables are made anew for a question about then")
        self.query = Query((QueryItem(schema.names(self.events)),))
        own = fingerprint_of([cls, *cls.rows, *self.events], schema.upcasters(self.events))
        self.fingerprint = version_of(how, own)
        if how.parts > 1:
            raise WiringError(f"{described(cls)} may look at any row at any event, so it is kept in one part")
        self._tables: dict[str, tuple[Table, ...]] = {}
        self.tables("")

    def tables(self, version: str) -> tuple[Table, ...]:
        """Return its tables."""
        if version not in self._tables:
            self._tables[version] = tuple(table_of(row, row.__name__, _key(row), version=version) for row in self._rows)
        return self._tables[version]

    def worker(self, views: Views, version: str, part: int = 0, parts: int = 1) -> Worker:
        """Return what applies events to its tables."""
        return _Applying(self, views, version)

    def keys_of(self, page: Page) -> Sequence[Key]:
        """Return nothing: which rows an event changes is for the handler to say."""
        return ()

    @property
    def _rows(self) -> tuple[type[Row], ...]:
        return self.made.rows


class _Applying:
    """Applies events to tables, one after the other."""

    def __init__(self, projection: TableProjection, views: Views, version: str) -> None:
        self.query = projection.query
        self._projection = projection
        self._tables = {cast(type[Row], table.cls): table for table in projection.tables(version)}
        self._views = views
        self.forget()

    def forget(self) -> None:
        """Forget the rows that are remembered."""
        self._rows = Rows(self._tables, self._views)

    async def handle(self, page: Page, parking: Parking) -> int:
        """Apply the events of a page."""
        changed = 0
        for stored in page:
            key = stored.tags[:1]  # what it is about first of all
            if parking and parking.holds(key):
                parking.wait(stored, key)
                continue
            try:
                changed += await self._apply(stored)
            except (StoreError, NotKept):
                raise
            except Exception as error:
                parking.fail(stored, key, error)
        return changed + len(page) // 20 + bool(page)

    def take(self) -> Sequence[Write]:
        """Return what has changed."""
        return self._rows.take()

    def refuse(self, stored: StoredEvent, parking: Parking, error: Exception) -> None:
        """Park an event."""
        parking.fail(stored, stored.tags[:1], error)

    async def again(self, stored: StoredEvent, parked: Parked) -> Sequence[Write]:
        """Apply an event that was parked."""
        await self._apply(stored)
        return self.take()

    async def _apply(self, stored: StoredEvent) -> int:
        projection, rows, well = self._projection, self._rows, False
        try:
            for event in projection.schema.decode(stored):
                if type(event) in projection.events:
                    wants = (decode_metadata(stored),) if projection.wants_metadata else ()
                    done = projection.apply(event, rows, *wants)
                    if inspect.isawaitable(done):
                        await done
            well = True
        finally:
            changed = rows.done(well=well)
        return changed


def _made(cls: type[Projection]) -> Projection:
    if not cls.rows:
        raise WiringError(f"{described(cls)} has no tables: write `rows = (PickLine, …)`, a tuple of classes of `Row`")
    for row in cls.rows:
        if not (isinstance(row, type) and issubclass(row, Row)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise WiringError(f"{described(cls)}.rows holds {row!r}, which is not a class of `Row`")
    try:
        return cls()
    except TypeError as error:
        raise WiringError(f"{described(cls)} is made without arguments: {error}") from None


def _applied(cls: type[Projection]) -> tuple[tuple[type[Event], ...], bool]:
    """Return which events a projection takes, and whether it wants their metadata."""
    function = getattr(cls, "apply", None)
    how = "`async def apply(self, event: OrderPlaced | OrderShipped, rows: Rows) -> None`"
    if not inspect.isfunction(function):
        raise WiringError(f"{described(cls)} has no apply. Write {how}")
    annotations = hints(function)
    names = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    kinds = [annotations.get(name) for name in names]
    if len(names) not in (2, 3) or kinds[1] is not Rows or kinds[2:] not in ([], [Metadata]):
        raise WiringError(f"{described(function)} takes an event, its tables, and perhaps Metadata: {how}")
    events = tuple(dict.fromkeys(members(kinds[0])))
    for event in events:
        if not isinstance(event, type) or not issubclass(event, Event) or event is Event:
            raise WiringError(f"{described(function)} takes {event!r}, which is not a class of events")
    return events, len(names) > 2


def _key(cls: type[Row]) -> list[str]:
    key = [each.name for each in msgspec.structs.fields(cls) if each.required]
    if not key:
        raise WiringError(f"{described(cls)} has no key: give it a field without a default")
    return key
