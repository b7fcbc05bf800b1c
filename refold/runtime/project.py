"""Projections: states that are kept as rows, moved on with the log a page at a time."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, cast

from refold.errors import WiringError
from refold.model.hints import described
from refold.model.message import Event
from refold.model.query import Query, QueryItem
from refold.model.record import Metadata, StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.model.state import State, StateKind, state_kind
from refold.model.tag import tag_paths
from refold.runtime.subscription import EventFailed
from refold.store.api import Page
from refold.view.api import Key, Table, Views, table_of

ROWS_REMEMBERED = 20_000
NO_METADATA = Metadata()


class Projection:
    """Folds events into rows, one for each key that an event carries."""

    def __init__(self, cls: type[State], schema: Schema) -> None:
        if not isinstance(cls, type) or not issubclass(cls, State):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise WiringError(f"{described(cls)} is not a state; `projections` is a list of classes of states")
        self.table: Table = table_of(cls, schema.upcasters(state_kind(cls).events))
        self.name = self.table.name
        self.query = Query((QueryItem(schema.names(self.table.kind.events)),))
        self._schema = schema
        self._views: Views | None = None
        self._keys = {event: _keys_of(self.table.kind, event) for event in self.table.kind.events}
        self._rows = _Recent(ROWS_REMEMBERED)

    def reads_from(self, views: Views) -> None:
        """Say where its rows are."""
        self._views = views

    async def handle(self, page: Page) -> Sequence[State]:
        """Return the rows that a page changes."""
        table = self.table
        steps = self._steps(page)
        changed = await self._current({key: None for _, _, keys in steps for key in keys})
        step, wants_metadata, settled = table.kind.step, table.kind.wants_metadata, table.settled
        for stored, event, keys in steps:
            try:
                metadata = decode_metadata(stored) if wants_metadata else NO_METADATA
                for key in keys:
                    state = step(changed[key], event, metadata)
                    changed[key] = settled(state) if table.times else state
            except Exception as error:
                raise EventFailed(stored) from error
        self._rows.put(changed)
        return list(changed.values())

    def forget(self) -> None:
        """Forget the rows that are remembered."""
        self._rows = _Recent(ROWS_REMEMBERED)

    def _steps(self, page: Page) -> list[tuple[StoredEvent, Event, Sequence[Key]]]:
        """Decode a page, and find the keys that each event carries."""
        decode, keys_of = self._schema.decode, self._keys
        steps: list[tuple[StoredEvent, Event, Sequence[Key]]] = []
        for stored in page:
            try:
                event = decode(stored)
                # Another class may be stored under the name of one that is folded.
                if keys := keys_of.get(type(event)):
                    steps.append((stored, event, keys(event)))
            except Exception as error:
                raise EventFailed(stored) from error
        return steps

    async def _current(self, keys: dict[Key, None]) -> dict[Key, Any]:
        """Return the rows of some keys as they are, beginning those that are not."""
        rows: dict[Key, Any] = {key: self._rows.get(key) for key in keys}
        unknown = [key for key, row in rows.items() if row is None]
        if unknown:
            kept = await cast(Views, self._views).get(self.table, unknown)
            for key in unknown:
                row = kept.get(key)
                rows[key] = self.table.kind.initial(*key) if row is None else row
        return rows


class _Recent:
    """The rows that changed last, in two generations of half the size: the older one goes when the newer is full."""

    def __init__(self, size: int) -> None:
        self._half = size // 2
        self._newer: dict[Key, State] = {}
        self._older: dict[Key, State] = {}

    def get(self, key: Key) -> State | None:
        row = self._newer.get(key)
        return self._older.get(key) if row is None else row

    def put(self, rows: dict[Key, State]) -> None:
        self._newer.update(rows)
        if len(self._newer) > self._half:
            self._older, self._newer = self._newer, {}


def _keys_of(kind: StateKind, event: type[Event]) -> Callable[[Event], Sequence[Key]]:
    """Return how to find the keys in an event of a class; quickly where each is one plain field."""
    paths = [[path for path in tag_paths(event) if path.tag == key.tag] for key in kind.keys]
    if not paths or any(len(places) != 1 or places[0].where != places[0].field for places in paths):
        return kind.keys_in
    fields = [places[0].field for places in paths]
    types = [places[0].kind for places in paths]
    if len(fields) == 1:
        [field], [plain] = fields, types
        get = attrgetter(field)

        def one(event: Event) -> Sequence[Key]:
            value = get(event)
            return ((value,),) if type(value) is plain else kind.keys_in(event)

        return one
    get = attrgetter(*fields)

    def all_of(event: Event) -> Sequence[Key]:
        key: Key = get(event)
        return (key,) if list(map(type, key)) == types else kind.keys_in(event)

    return all_of
