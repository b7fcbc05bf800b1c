"""Folding for the check against history: states in memory, projections with tables into a file that is removed."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from refold.contract.found import Folded, Found, Keeps, Program
from refold.errors import UnreadableEvent
from refold.model.message import Event
from refold.model.record import StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.model.state import State, StateKind, keys_by_event, state_kind
from refold.store.api import Page, Store
from refold.store.sqlite.database import Database
from refold.view.sqlite import SqliteViews
from refold.view.table import table_of

_NEW = object()


class Folding:
    """Folds states whose first tag is wanted, or all."""

    def __init__(
        self, program: Program, schema: Schema, states: Iterable[type[State]], wanted: Callable[[str], bool] | None
    ) -> None:
        """Fold states of some classes; what has one row has no tag, and is asked for as an empty one."""
        self._schema = schema
        self._upto = 0
        self._found = Found()
        self._kept = {
            cls: table_of(cls, cls.__name__, [key.name for key in state_kind(cls).keys]) for cls in program.kept
        }
        self._states = [_States(state_kind(cls), self._found, wanted) for cls in states]
        kinds = [each.kind for each in self._states]
        self._types = set(schema.names(dict.fromkeys(event for kind in kinds for event in kind.events)))
        self._by_event: dict[type[Event], list[_States]] = {}
        for each in self._states:
            for event in each.kind.events:
                self._by_event.setdefault(event, []).append(each)
        # Of what is not found by its tags every event has to be decoded to know whose it is.
        by_tags = all((kind.keys or not (wanted and wanted(""))) and schema.missed(kind) is None for kind in kinds)
        self._skims = wanted if by_tags else None

    def fold(self, page: Page) -> None:
        """Fold a page."""
        wanted = self._skims
        for stored in page:
            if stored.type not in self._types or (wanted is not None and not any(map(wanted, stored.tags))):
                continue
            try:
                events = self._schema.decode(stored)
            except UnreadableEvent:  # told by the first pass
                continue
            self.fold_events(events, stored)

    def fold_events(self, events: Iterable[Event], stored: StoredEvent) -> None:
        """Fold what a stored event has become."""
        for event in events:
            for each in self._by_event.get(type(event), ()):
                each.fold(event, stored)
        self._upto = stored.position

    @property
    def size(self) -> int:
        """How many states there are by now."""
        return sum(len(each.states) for each in self._states)

    def done(self) -> Found:
        """Return what was found, once all states of views are seen to be rows that can be kept."""
        for each in self._states:
            each.folded.keys += len(each.states)
            table = self._kept.get(each.kind.cls)
            for key, state in each.states.items() if table is not None else ():
                try:
                    if state is not None and table is not None:
                        table.dump(state)
                except Exception as error:
                    each.folded.failed += 1
                    row = StoredEvent(self._upto, datetime.now(UTC), "", 0, (), repr(state).encode(), b"")
                    self._found.fail(row, _named(each.kind, key), error, "give its fields values that a row can hold")
        return self._found


class _States:
    """The states of one class whose keys are wanted."""

    def __init__(self, kind: StateKind, found: Found, wanted: Callable[[str], bool] | None) -> None:
        self.kind = kind
        self.states: dict[Any, Any] = {}
        """By key; None for one that has failed."""
        self.folded = found.folded.setdefault(kind.cls.__name__, Folded())
        self._found = found
        self._keys = keys_by_event(kind)
        self._wanted = wanted

    def fold(self, event: Event, stored: StoredEvent) -> None:
        """Fold an event into the states that it is about."""
        kind, wanted, states = self.kind, self._wanted, self.states
        for key in self._keys[type(event)](event):
            if wanted is not None and not wanted(kind.keys[0].tag.text(key[0]) if key else ""):
                continue
            state: Any = states.get(key, _NEW)
            if state is None:
                continue
            try:
                if state is _NEW:
                    state = cast(Any, kind.initial(*key))
                new: Any = None if kind.wants_metadata else state.evolve(event)
                if type(new) is not kind.cls:  # here for the metadata, or to be told what is wrong
                    new = kind.step(state, event, decode_metadata(stored))
                states[key] = new
            except Exception as error:
                self._fail(key, event, stored, error)
            else:
                self.folded.events += 1

    def _fail(self, key: Any, event: Event, stored: StoredEvent, error: Exception) -> None:
        self.states[key] = None
        self.folded.failed += 1
        name = self.kind.cls.__name__
        todo = f"mend {name}.evolve for it, or what makes this {type(event).__name__} of what is stored"
        self._found.fail(stored, _named(self.kind, key), error, todo)


async def run_tables(projection: Keeps, store: Store, upto: int) -> Found:
    """Run a projection with tables of its own over the log."""
    noting = _Noting(projection.name)
    with tempfile.TemporaryDirectory(prefix="refold-") as folder:
        views = SqliteViews(Database(Path(folder) / "view.db", durability="relaxed"), own=True)
        try:
            await views.create(projection.tables(""))
            worker = projection.worker(views, "")
            async for page in store.read(projection.query, upto=upto):
                await worker.handle(page, noting)
                noting.folded.events += len(page)
                try:
                    await views.write(list(worker.take()))
                except Exception as error:
                    worker.forget()
                    noting.fail(page[-1], (), error)
            for table in projection.tables(""):
                noting.folded.keys += await views.count(table, ())
        finally:
            await views.close()
    return noting.found


class _Noting:
    """Stands where a projection parks what fails: notes it, and lets everything else go on."""

    def __init__(self, name: str) -> None:
        self.folded = Folded()
        self.found = Found(folded={name: self.folded})
        self._name = name
        self._keys: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._keys)

    def holds(self, keys: Sequence[str]) -> bool:
        """Tell whether an event of these keys would wait."""
        return not self._keys.isdisjoint(keys)

    def wait(self, stored: StoredEvent, keys: Sequence[str]) -> None:
        """Leave out what would wait behind a failure."""

    def fail(self, stored: StoredEvent, keys: Sequence[str], error: BaseException, state: object = None) -> None:
        """Note what fails."""
        self._keys.update(keys)
        if isinstance(error, UnreadableEvent):  # told by the first pass
            return
        self.folded.failed += 1
        self.found.fail(stored, " ".join([self._name, *keys]), error, f"mend {self._name}.apply for it")


def _named(kind: StateKind, key: tuple[Any, ...]) -> str:
    tags = [field.tag.text(value) for field, value in zip(kind.keys, key, strict=True)]
    return " ".join([kind.cls.__name__, *tags])
