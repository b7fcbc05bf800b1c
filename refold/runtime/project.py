"""Projections: states that are kept as rows, moved on with the log a page at a time."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

from refold.model.message import Event
from refold.model.query import Query, QueryItem
from refold.model.record import Metadata, StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.model.state import State
from refold.runtime.subscription import EventFailed
from refold.store.api import Page
from refold.view.api import Key, Table, Views, table_of

ROWS_REMEMBERED = 20_000


class Projection:
    """Folds events into rows, one for each key that an event carries."""

    def __init__(self, cls: type[State], schema: Schema) -> None:
        self.table: Table = table_of(cls)
        self.name = self.table.name
        self.query = Query((QueryItem(schema.names(self.table.kind.events)),))
        self._schema = schema
        self._views: Views | None = None
        self._rows: OrderedDict[Key, State] = OrderedDict()

    def reads_from(self, views: Views) -> None:
        """Say where its rows are."""
        self._views = views

    async def handle(self, page: Page) -> Sequence[State]:
        """Return the rows that a page changes."""
        kind = self.table.kind
        steps: list[tuple[StoredEvent, Event, list[Key]]] = []
        for stored in page:
            try:
                event = self._schema.decode(stored)
                if isinstance(event, kind.events):
                    steps.append((stored, event, kind.keys_in(event)))
            except Exception as error:
                raise EventFailed(stored) from error
        changed = await self._current({key: None for _, _, keys in steps for key in keys})
        for stored, event, keys in steps:
            try:
                metadata = decode_metadata(stored) if kind.wants_metadata else _NO_METADATA
                for key in keys:
                    changed[key] = kind.step(changed[key], event, metadata)
            except Exception as error:
                raise EventFailed(stored) from error
        self._remember(changed)
        return list(changed.values())

    def forget(self) -> None:
        """Forget the rows that are remembered."""
        self._rows.clear()

    async def _current(self, keys: dict[Key, None]) -> dict[Key, Any]:
        """Return the rows of some keys as they are, beginning those that are not."""
        unknown = [key for key in keys if key not in self._rows]
        kept = await cast(Views, self._views).get(self.table, unknown) if unknown else {}
        rows: dict[Key, Any] = {}
        for key in keys:
            row = self._rows.get(key) or kept.get(key)
            rows[key] = self.table.kind.initial(*key) if row is None else row
        return rows

    def _remember(self, rows: dict[Key, State]) -> None:
        for key, row in rows.items():
            self._rows[key] = row
            self._rows.move_to_end(key)
        while len(self._rows) > ROWS_REMEMBERED:
            self._rows.popitem(last=False)


_NO_METADATA = Metadata()
