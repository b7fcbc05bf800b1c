"""Folding events into the rows of a kept state, a page at a time."""

from collections.abc import Callable, Mapping, Sequence, Set
from operator import attrgetter
from typing import Any
from zlib import crc32

from msgspec import Struct

from refold.model.message import Event, stored_name
from refold.model.query import Query, QueryItem
from refold.model.record import Metadata, StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.model.state import StateKind, keys_by_event
from refold.model.tag import tag_paths
from refold.runtime.books import Parked
from refold.runtime.parking import Parking
from refold.store.api import Page
from refold.view.api import Put, Views, Write
from refold.view.find import Find
from refold.view.table import LARGEST, Dated, Key, Table

ROWS_REMEMBERED = 50_000
NO_METADATA = Metadata()


class _Plan(Struct, frozen=True):
    """How to fold the events of a type that are stored as they are, and carry their key in one plain field."""

    version: int
    decode: Callable[[bytes], Event]
    key: Callable[[Any], Any]
    type: type


def _plans(kind: StateKind, schema: Schema) -> Mapping[str, _Plan] | None:
    """Return how each type of a projection's events is folded, if all of them are as plain as that.

    What is upcast, always to one of them, is planned by what it becomes.
    """
    decoders = schema.decoders(kind.events)
    if decoders is None or len(kind.keys) != 1 or len(decoders) != len(kind.events) or kind.keys[0].type is not str:
        return None
    plans: dict[str, _Plan] = {}
    for event in kind.events:
        places = [path for path in tag_paths(event) if path.tag == kind.keys[0].tag]
        if len(places) != 1 or places[0].where != places[0].field:
            return None
        name = stored_name(event).name
        version, decode = decoders[name]
        plans[name] = _Plan(version, decode, attrgetter(places[0].field), places[0].kind)
    return plans


class Folding:
    """Folds events into rows. A row is remembered together with the position since which it has been so."""

    def __init__(
        self, kind: StateKind, schema: Schema, table: Table, views: Views, *, history: bool, part: int, parts: int
    ) -> None:
        self.query = Query((QueryItem(schema.names(kind.events)),))
        self._kind = kind
        self._schema = schema
        self._keys = keys_by_event(kind)
        self._history = history
        self._table = table
        self._views = views
        self._part = part
        self._parts = parts
        self._prefix = f"{self._kind.keys[0].tag.name}:" if self._kind.keys else ""
        plain = not (self._history or self._kind.wants_metadata or table.times)
        self._plans = _plans(self._kind, self._schema) if plain else None
        self.forget()

    def forget(self) -> None:
        """Forget the rows that are remembered."""
        self._recent = Recent(ROWS_REMEMBERED)
        self._new: bool | None = None
        self._changed: dict[Key, Any] = {}
        self._since: dict[Key, int] = {}
        self._ended: list[Dated] = []

    async def handle(self, page: Page, parking: Parking) -> int:
        """Fold a page into the rows that it changes."""
        before = len(self._changed) + len(self._ended)
        left = page if self._plans is None else await self._fold(page, self._plans, parking.values(self._prefix))
        if left:
            await self._fold_with_care(left, parking)
        grown = len(self._changed) + len(self._ended) - before
        return grown + len(page) // 20 + bool(page)

    async def _fold(self, page: Page, plans: Mapping[str, _Plan], held: Set[str]) -> Sequence[StoredEvent]:
        """Fold what is as plain as can be; return what is to be folded with care: held keys, and all from a place on.

        This is where a rebuild spends its time: what is done here for each event is as little as can be.
        """
        pairs: list[tuple[Key, Any, int]] = []
        left: list[StoredEvent] = []
        rest = len(page)
        shared = self._parts > 1
        for index, stored in enumerate(page):
            if shared and self._is_anothers(stored):
                continue
            plan = plans.get(stored.type)
            as_it_is = plan is not None and plan.version == stored.version
            try:
                if plan is not None and as_it_is:
                    event = plan.decode(stored.data)
                else:
                    [event] = self._schema.decode(stored)
                    plan = plans[stored_name(type(event)).name]
                value = plan.key(event)
            except Exception:  # it is told where it is met again
                plan = value = event = None
            if plan is None or type(value) is not plan.type:
                rest = index
                break
            if shared and not self._is_mine(f"{self._prefix}{value}"):
                continue
            if held and value in held:
                left.append(stored)
            else:
                pairs.append(((value,), event, index))
        rows = await self._current(dict.fromkeys([key for key, _, _ in pairs]))
        changed, cls = self._changed, self._kind.cls
        for key, event, index in pairs:
            try:
                row = rows[key].evolve(event)
            except Exception:
                row = None
            if type(row) is not cls:
                rest = index
                break
            rows[key] = changed[key] = row
        behind = page[rest:]
        return [*(stored for stored in left if not behind or stored.position < behind[0].position), *behind]

    async def _fold_with_care(self, page: Sequence[StoredEvent], parking: Parking) -> None:
        steps = self._steps(page, parking)
        rows = await self._current({key: None for _, _, keys in steps for key in keys})
        for stored, events, keys in steps:
            for key in keys:
                if parking and parking.holds(tags := self._tags(key)):
                    parking.wait(stored, tags)
                    continue
                try:
                    row = self._step(rows[key], events, stored)
                except Exception as error:
                    parking.fail(stored, self._tags(key), error, rows[key])
                    continue
                if self._history:
                    self._end(key, rows[key], row, stored.position)
                rows[key] = self._changed[key] = row

    def take(self) -> Sequence[Write]:
        """Return the rows that have changed."""
        changed, self._changed = self._changed, {}
        self._recent.put(changed)  # is being written: until the next ones are, these are remembered in any case
        if not self._history:
            return [Put(self._table, list(changed.values()))] if changed else []
        ended, self._ended = self._ended, []
        current = [Dated(row, self._since[key], LARGEST) for key, row in changed.items()]
        if len(self._since) > ROWS_REMEMBERED:
            self._since = {key: self._since[key] for key in changed}
        return [Put(self._table, [*ended, *current])] if changed else []

    async def again(self, stored: StoredEvent, parked: Parked) -> Sequence[Write]:
        """Fold an event that was parked into the row of its key."""
        for key in self._keys_in(stored):
            if parked.keys and self._tags(key) != parked.keys:
                continue
            if self._parts > 1 and not self._is_mine(self._tags(key)[0]):
                continue
            old = (await self._current({key: None}))[key]
            row = self._step(old, self._schema.decode(stored), stored)
            if self._history:
                self._end(key, old, row, stored.position)
            self._changed[key] = row
        return self.take()

    def refuse(self, stored: StoredEvent, parking: Parking, error: Exception) -> None:
        """Park an event for all its keys."""
        for tags in self._tags_in(stored):
            parking.fail(stored, tags, error)

    def _steps(
        self, page: Sequence[StoredEvent], parking: Parking
    ) -> list[tuple[StoredEvent, Sequence[Event], Sequence[Key]]]:
        """Decode a page, and find the keys that each event carries; what one has become is one step."""
        decode, keys_of = self._schema.decode, self._keys
        steps: list[tuple[StoredEvent, Sequence[Event], Sequence[Key]]] = []
        for stored in page:
            if self._parts > 1 and self._is_anothers(stored):
                continue
            try:
                events = decode(stored)
                if len(events) == 1:
                    event = events[0]
                    # Another class may be stored under the name of one that is folded.
                    keys = keys_of[type(event)](event) if type(event) in keys_of else ()
                else:
                    events = [each for each in events if type(each) in keys_of]
                    keys = tuple(dict.fromkeys(key for each in events for key in keys_of[type(each)](each)))
            except Exception as error:
                for tags in self._tags_in(stored):
                    if parking.holds(tags):
                        parking.wait(stored, tags)
                    else:
                        parking.fail(stored, tags, error)
                continue
            if self._parts > 1:
                keys = [key for key in keys if self._is_mine(self._tags(key)[0])]
            if keys:
                steps.append((stored, events, keys))
        return steps

    def _step(self, row: Any, events: Sequence[Event], stored: StoredEvent) -> Any:
        kind = self._kind
        metadata = decode_metadata(stored) if kind.wants_metadata else NO_METADATA
        if len(events) == 1:
            row = kind.step(row, events[0], metadata)
        else:
            key = self._key_of(row)
            for event in events:
                if type(event) in self._keys and key in self._keys[type(event)](event):
                    row = kind.step(row, event, metadata)
        return self._table.settled(row) if self._table.times else row

    def _end(self, key: Key, old: Any, new: Any, position: int) -> None:
        """Note that a row has been so until here, if it was there and is another now."""
        since = self._since.get(key)
        if since is None:
            self._since[key] = position
        elif old != new:
            self._ended.append(Dated(old, since, position))
            self._since[key] = position

    async def _current(self, keys: dict[Key, None]) -> dict[Key, Any]:
        """Return the rows of some keys as they are, beginning those that are not."""
        rows: dict[Key, Any] = {}
        unknown: list[Key] = []
        for key in keys:
            row = self._remembered(key)
            if row is None or (self._history and key not in self._since):
                unknown.append(key)
            else:
                rows[key] = row
        if unknown and await self._is_new():
            rows.update((key, self._kind.initial(*key)) for key in unknown)
        elif unknown:
            found = await self._views.get(self._table, [self._stored(key) for key in unknown])
            for key in unknown:
                row = found.get(self._stored(key))
                if row is None:
                    rows[key] = self._kind.initial(*key)
                elif self._history:
                    rows[key], self._since[key] = row.row, row.valid_from
                else:
                    rows[key] = row
        return rows

    async def _is_new(self) -> bool:
        """Tell whether every row that there is is remembered, as when a table is built from its beginning."""
        if self._new is None:
            self._new = not await self._views.find(self._table, Find(limit=1))
        return self._new and not self._recent.forgets

    def _remembered(self, key: Key) -> Any:
        row = self._changed.get(key)
        return self._recent.get(key) if row is None else row

    def _stored(self, key: Key) -> Key:
        return (*key, LARGEST) if self._history else key

    def _key_of(self, row: Any) -> Key:
        return tuple([getattr(row, field.name) for field in self._kind.keys])

    def _tags(self, key: Key) -> tuple[str, ...]:
        """Return by what others wait behind an event of a key; what has one row has one key, its name."""
        if not key:
            return (self._table.name,)
        return tuple([field.tag.text(value) for field, value in zip(self._kind.keys, key, strict=True)])

    def _keys_in(self, stored: StoredEvent) -> list[Key]:
        """Return the keys of the events in a stored one."""
        events = [event for event in self._schema.decode(stored) if type(event) in self._keys]
        return list(dict.fromkeys(key for event in events for key in self._keys[type(event)](event)))

    def _tags_in(self, stored: StoredEvent) -> list[tuple[str, ...]]:
        """Return the tags of the keys that an event carries which cannot be read.

        If it carries none, it may be tagged otherwise than this program knows: it waits by itself, without a key.
        """
        if not self._kind.keys:
            return [self._tags(())]
        found: list[tuple[str, ...]] = [()]
        for field in self._kind.keys:
            tags = [tag for tag in stored.tags if tag.startswith(f"{field.tag.name}:")]
            found = [(*some, tag) for some in found for tag in tags]
        if not found:
            return [()]
        return [tags for tags in found if self._parts == 1 or self._is_mine(tags[0])]

    def _is_anothers(self, stored: StoredEvent) -> bool:
        """Tell whether the tags of what is stored say that all its keys fall to other parts."""
        tags = [tag for tag in stored.tags if tag.startswith(self._prefix)]
        return bool(tags) and not any(map(self._is_mine, tags))

    def _is_mine(self, tag: str) -> bool:
        return tag.startswith(self._prefix) and crc32(tag.encode()) % self._parts == self._part


class Recent:
    """The rows that changed last, in two generations of half the size: the older one goes when the newer is full.

    Those that were put last are always there.
    """

    def __init__(self, size: int) -> None:
        self.forgets = False
        """Whether any row has been forgotten by now."""
        self._half = size // 2
        self._newer: dict[Key, Any] = {}
        self._older: dict[Key, Any] = {}

    def get(self, key: Key) -> Any:
        """Return a row, if it is remembered."""
        row = self._newer.get(key)
        return self._older.get(key) if row is None else row

    def put(self, rows: dict[Key, Any]) -> None:
        """Remember rows in place of older ones."""
        self._newer.update(rows)
        if len(self._newer) > self._half:
            self.forgets = self.forgets or bool(self._older)
            self._older, self._newer = self._newer, {}
