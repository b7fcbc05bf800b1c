"""Importing: all of an export is checked before any of it is written; then its events are appended, batch by batch.

A batch has an id made of the export's hash and its first position, so one that is in the log already is not appended
again: an import that was killed is done again from the start, and what is there is passed over. The store forgets
such ids after some days. Then a batch that is there is found by its events, of which each says when it was first
recorded. What is known of an import is in the log itself, and nowhere else.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from refold.errors import StoreDamaged, StoreError
from refold.model.query import Query, QueryItem
from refold.model.record import NewEvent, StoredEvent
from refold.move import manifest
from refold.move.exports import SUFFIXES, nobody
from refold.move.form import Form, open_form
from refold.move.manifest import Manifest, Place
from refold.move.metadata import moved as metadata_of
from refold.move.positions import Positions
from refold.store.api import Appended, Store

BATCH_EVENTS = 1_000
BATCH_BYTES = 8 << 20


class Imported(Struct, frozen=True):
    """What an import did."""

    manifest: Manifest
    appended: int
    """Events that it appended."""
    there: int
    """Events that were in the log from an earlier run."""
    positions: str
    """Where the map of positions is."""
    shifted: bool
    """Whether any event has another position than in the log that it came from."""


async def import_(
    path: Path | str,
    store: Store,
    *,
    positions: Path | str | None = None,
    checked: Callable[[int, int], None] = nobody,
    moved: Callable[[int, int], None] = nobody,
) -> Imported:
    """Append the events of an export to a log, those that are not there yet, and return what was done.

    `positions` is where the map of positions is written, beside the export unless said otherwise. `checked` and
    `moved` are told how many events are checked and written, of how many. Raises `StoreDamaged`, having written
    nothing, for an export that is not as it was written.
    """
    place = Place.of(Path(path), SUFFIXES)
    found = manifest.read(place.manifest)
    form = open_form(found.form, found.source)
    with manifest.translated(place.folder):
        await asyncio.to_thread(
            manifest.check,
            place.folder,
            found,
            form.suffix,
            lambda done: checked(done, found.events),
            alone=bool(place.file),
        )
    target = Path(positions) if positions is not None else place.positions
    importing = _Importing(store, found)
    with Positions(target) as rows, manifest.translated(place.folder):
        for batch in _batches(place, found, form):
            appended = await importing.append(batch)
            rows.add((event.position, new) for new, event in enumerate(batch, appended.first))
            moved(importing.appended + importing.there, found.events)
    return Imported(found, importing.appended, importing.there, str(target), importing.shifted)


class _Importing:
    """Appends the batches of an export that are not in the log yet."""

    def __init__(self, store: Store, found: Manifest) -> None:
        self._store = store
        self._hash = found.sha256
        self._old = True
        """Whether what was before has been in the log already, so that the next may be."""
        self._last = 0
        self.appended = self.there = 0
        self.shifted = False

    async def append(self, batch: Sequence[StoredEvent]) -> Appended:
        """Append a batch unless it is there, and return where it stands."""
        events = [NewEvent(each.type, each.data, each.tags, each.version, metadata_of(each)) for each in batch]
        append_id = f"import {self._hash} {batch[0].position}"
        appended = await self._placed(batch, events, append_id) if self._old else None
        if appended is None:
            self._old = False
            appended = await self._store.append(events, append_id=append_id)
            self.appended += len(batch)
        else:
            self.there += len(batch)
        self._last = appended.last
        self.shifted |= (appended.first, appended.last) != (batch[0].position, batch[-1].position)
        return appended

    async def _placed(
        self, batch: Sequence[StoredEvent], events: Sequence[NewEvent], append_id: str
    ) -> Appended | None:
        """Return where a batch stands in the log, if it is there."""
        if known := await self._store.appended(append_id):
            return known
        first = events[0]
        query = Query((QueryItem((first.type,), first.tags),))
        async for page in self._store.read(query, after=self._last):
            for stored in page:
                if stored == batch[0]:
                    raise StoreError(
                        f"this log has the event at position {stored.position} itself: it is the one that was exported"
                    )
                if new(stored) == first and await self._follow(stored.position, events):
                    return Appended(stored.position, stored.position + len(events) - 1)
        return None

    async def _follow(self, position: int, events: Sequence[NewEvent]) -> bool:
        """Tell whether these events stand in the log from a position on."""
        upto = position + len(events) - 1
        there = [new(each) async for page in self._store.read(after=position - 1, upto=upto) for each in page]
        return there == list(events)


def new(stored: StoredEvent) -> NewEvent:
    """Return what was appended when an event was stored."""
    return NewEvent(stored.type, stored.data, stored.tags, stored.version, stored.metadata)


def _batches(place: Place, found: Manifest, form: Form) -> Iterator[list[StoredEvent]]:
    """Read the events of an export in batches, always the same ones; one never spans two files."""
    for file in found.files:
        path = place.folder / file.name
        position = events = 0
        for batch in _cut(form.read(path)):
            for event in batch:
                if event.position <= position:
                    raise StoreDamaged(f"{path}: position {event.position} comes after {position}")
                position = event.position
            events += len(batch)
            yield batch
        if events != file.events:
            raise StoreDamaged(f"{path} has {events:,} events; the manifest says {file.events:,}")


def _cut(events: Iterable[StoredEvent]) -> Iterator[list[StoredEvent]]:
    batch: list[StoredEvent] = []
    weight = 0
    for event in events:
        batch.append(event)
        weight += len(event.data) + len(event.metadata)
        if len(batch) >= BATCH_EVENTS or weight >= BATCH_BYTES:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch
