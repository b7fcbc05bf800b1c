"""States that are kept as rows and nothing else: read, decided on, and written in one step with the events.

The row is the truth, and only facts change it. An append folds its events into every row that they touch, asked for or
not, found by the keys that the events carry. What was read is expected to be so still, value by value as the database
holds it, so that a change by anybody is noticed, another program's SQL included; then it is all done again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct, structs

from refold.errors import InvalidQuery, MissingCapability, NotKept, WiringError
from refold.model.hints import described, hints
from refold.model.message import Event
from refold.model.record import Metadata, NewEvent, StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.model.state import Identity, State, StateKind
from refold.runtime.books import CHECKPOINTS, Books, Checkpoint
from refold.runtime.load import NEVER
from refold.runtime.project import Kept, StateProjection
from refold.store.api import Appended, Conditions, Store
from refold.view.api import Expect, Put, Write
from refold.view.open import open_views
from refold.view.table import Key, Row

_Change: TypeAlias = tuple[Identity, Event, Metadata]

FILLING = "its rows are being made of its events"
"""The trouble of a mark until all rows are there."""
VERSION = "rows"
"""Tells the table from those of projections, which are named after a fingerprint: `Account_rows`."""


class RowState:
    """A state that is kept as rows, as an app is wired with it."""

    def __init__(self, cls: type[State], schema: Schema) -> None:
        if not isinstance(cls, type) or not issubclass(cls, State):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise WiringError(f"{described(cls)} is not a state; `rows` is a list of states: rows=[Account]")
        self.projection = StateProjection(Kept(cls), schema)
        self.kind: StateKind = self.projection.kind
        self.name = self.projection.name
        self.query = self.projection.query
        self.keys = self.projection.keys
        self.mark = mark_of(cls)
        [table] = self.projection.tables(VERSION)
        self.table = structs.replace(table, made=_builder(cls))

    @property
    def blank(self) -> State:
        """A row without a key: what a column holds that rows get anew."""
        return self.kind.initial(*[None] * len(self.kind.keys))

    def identity(self, key: Key) -> Identity:
        """Return what tells the state with a key from all others."""
        return (self.kind.cls, *key)


class Seen(Struct, frozen=True):
    """A state as it was read; `held` is how the database holds its row, None if there is none."""

    of: RowState
    key: Key
    state: State
    held: Row | None

    @property
    def expect(self) -> Expect:
        """What must hold for it to be so still."""
        return Expect(self.of.table, self.key, held=self.held)


class RowStates:
    """The states of an open app that are kept as rows; there may be none."""

    def __init__(self, states: Sequence[RowState], schema: Schema, store: Store, books: Books | None) -> None:
        self._states: dict[type, RowState] = {each.kind.cls: each for each in states}
        self._schema = schema
        self._store = store
        self._books = books
        self._ready: set[str] = set()
        self._by_event: dict[type[Event], list[RowState]] = {}
        for each in states:
            for event in each.kind.events:
                self._by_event.setdefault(event, []).append(each)
        self._types = set(schema.names(self._by_event))

    def __contains__(self, cls: type) -> bool:
        return cls in self._states

    @property
    def books(self) -> Books:
        """Where the rows are."""
        assert self._books is not None, "an app with rows has books"
        return self._books

    def named(self, name: str) -> RowState:
        """Return a state by its name, or raise `InvalidQuery` saying which there are."""
        for each in self._states.values():
            if each.name == name:
                return each
        names = ", ".join(each.name for each in self._states.values()) or "none"
        raise InvalidQuery(f"no state {name!r} is kept as rows; there is {names}")

    async def open(self) -> None:
        """Make the tables exist, with all columns; refuse a state whose events are in the log, but not its rows."""
        for each in self._states.values():
            await self.make(each)

    async def make(self, state: RowState) -> None:
        """Make the table of a state exist."""
        if await self._is_there(state):
            return
        await self._check_new(state)
        await self.books.open()
        await self.books.views.create([state.table])
        await self.books.write(Put(CHECKPOINTS, [Checkpoint(state.mark)]))
        await self._is_there(state)

    async def current(self, identities: Iterable[Identity]) -> dict[Identity, Seen]:
        """Return states as their rows are now, those of one class at one moment; without a row, as they begin."""
        wanted: dict[type, list[Key]] = {}
        for identity in dict.fromkeys(identities):
            wanted.setdefault(identity[0], []).append(identity[1:])
        seen: dict[Identity, Seen] = {}
        for cls, keys in wanted.items():
            of = self._states[cls]
            if await self._is_there(of):
                found = await self.books.views.look(of.table, keys)
            else:
                await self._check_new(of)
                found = {}
            for key in keys:
                held = found.get(key)
                state = of.kind.initial(*key) if held is None else held.row
                seen[of.identity(key)] = Seen(of, key, state, None if held is None else held.values)
        return seen

    def wants_time(self, events: Iterable[Event]) -> bool:
        """Tell whether a row depends on when some events occurred, so that it has to be said before they are stored."""
        return any(each.kind.wants_metadata for event in events for each in self._by_event.get(type(event), ()))

    def touched(self, batch: Sequence[NewEvent]) -> list[Identity]:
        """Return the states that some events change."""
        return list(dict.fromkeys(identity for identity, _, _ in self._changes(batch)))

    async def append(
        self,
        batch: Sequence[NewEvent],
        condition: Conditions,
        append_id: str | None,
        seen: Mapping[Identity, Seen],
        guarded: Collection[Identity],
    ) -> Appended | None:
        """Append events, and write the rows that they touch; None if a row is not as it was seen, and nothing is done.

        Rows that were not seen are read here. Those that are guarded must be as they were seen, touched or not.
        """
        changes = self._changes(batch)
        touched = list(dict.fromkeys(identity for identity, _, _ in changes))
        if not touched and not guarded:
            return await self._store.append(batch, condition, append_id=append_id)
        for cls in {each[0] for each in (*touched, *guarded)}:
            await self.make(self._states[cls])
        unseen = [each for each in touched if each not in seen]
        known = {**seen, **(await self.current(unseen) if unseen else {})}
        # In one order, so that no two wait for each other.
        relied = sorted({*touched, *guarded}, key=lambda each: (self._states[each[0]].name, *map(str, each[1:])))
        return await self.books.views.append(
            batch,
            condition,
            append_id=append_id,
            writes=self._folded(changes, {each: known[each].state for each in touched}),
            expects=[known[each].expect for each in relied],
        )

    def _folded(self, changes: Iterable[_Change], states: dict[Identity, Any]) -> list[Write]:
        """Fold events into the states that they touch, and return how their rows are written."""
        for identity, event, metadata in changes:
            of = self._states[identity[0]]
            states[identity] = of.table.settled(of.kind.step(states[identity], event, metadata))
        rows: dict[type, list[State]] = {}
        for identity, state in states.items():
            rows.setdefault(identity[0], []).append(state)
        return [Put(self._states[cls].table, some, shared=True) for cls, some in rows.items()]

    def _changes(self, batch: Sequence[NewEvent]) -> list[_Change]:
        """Return each state that each event touches, the event as every other reader will see it."""
        changes: list[_Change] = []
        for new in batch:
            if new.type not in self._types:
                continue
            stored = StoredEvent(0, NEVER, new.type, new.version, new.tags, new.data, new.metadata)
            metadata = decode_metadata(stored)
            for event in self._schema.decode(stored):
                for each in self._by_event.get(type(event), ()):
                    changes += [(each.identity(key), event, metadata) for key in each.keys[type(event)](event)]
        return changes

    async def _is_there(self, state: RowState) -> bool:
        """Look whether a state has all its rows; if so, give them the columns that they lack."""
        if state.name in self._ready:
            return True
        try:
            mark = await self.books.checkpoint(state.mark)
            if mark is None or mark.trouble:
                return False
            await self.books.views.widen(state.table, state.blank)
        except NotKept:
            return False
        self._ready.add(state.name)
        return True

    async def _check_new(self, state: RowState) -> None:
        """Refuse to begin without rows where the log has a past."""
        async for page in self._store.read(state.query, limit=1):
            for stored in page:
                raise WiringError(
                    f"{state.name} is among `rows`, but has none yet, and the log has events of it from position "
                    f"{stored.position} on: make its rows of them first, while nothing else runs, with "
                    f"`refold rows fill APP {state.name}`, or `app.passive()` and its `operations.fill_rows`"
                )


def mark_of(cls: type[State]) -> str:
    """Return the name under which is kept, beside checkpoints, that a state is kept as rows in this log."""
    return f"rows.{cls.__name__}"


async def check_kept_as_events(store: Store, states: Iterable[type[State]]) -> None:
    """Refuse to decide by the events of states that are kept as rows in this log: not all that they are is there."""
    marks = {mark_of(cls): cls.__name__ for cls in states}
    with suppress(MissingCapability, NotKept):
        for mark in await Books(open_views(store)).checkpoints(list(marks)):
            name = marks[mark]
            raise WiringError(
                f"{name} is kept as rows in this log, but is not among the `rows` of this app: rows=[{name}]. If it is "
                f"to be kept as events from now on, stop all that has it in `rows`, and run `refold rows leave APP "
                f"{name}` with an app that still has"
            )


def _builder(cls: type[State]) -> Any:
    """Return what makes a state of the values of a row: what another program has left empty has its initial value."""
    annotations = hints(cls)
    optional = {name for name in cls.__struct_fields__ if _can_be_none(annotations[name])}

    def build(values: dict[str, Any]) -> State:
        if None in values.values():
            values = {name: value for name, value in values.items() if value is not None or name in optional}
        return cls(**values)

    return build


def _can_be_none(annotation: Any) -> bool:
    try:
        msgspec.convert(None, annotation)
    except msgspec.ValidationError:
        return False
    return True
