"""Exporting: the events of a log up to where it ended at the start, as files and a manifest.

A file is complete before a manifest names it. An export into a folder that did not end goes on behind its last
complete file; one into a single file begins anew.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from refold.errors import InvalidQuery, StoreError
from refold.model.record import StoredEvent
from refold.move import manifest
from refold.move.form import Form, FormName, open_form
from refold.move.manifest import FORMAT, Count, File, Manifest, Place, Selection
from refold.store.api import Store, check_bounds

PER_FILE = 100_000
"""Events of a file, unless asked otherwise."""
FILE_BYTES = 64 << 20
"""Data and metadata after which a file ends early, so that one form or another can hold all of it in memory."""
BEGUN = "manifest.begun.json"
SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet")
EVERYTHING = Selection()


def nobody(done: int, total: int) -> None:
    """Be told how far it is, and do nothing about it."""


async def export(
    store: Store,
    path: Path | str,
    *,
    form: FormName = "jsonl",
    selection: Selection = EVERYTHING,
    source: str = "",
    per_file: int = PER_FILE,
    moved: Callable[[int, int], None] = nobody,
) -> Manifest:
    """Write the events of a log to a folder, or to one file, and return what was written.

    `source` says where they come from; it stands in the manifest. `moved` is told the position up to which it is
    done, and the last one. Raises `StoreError` if an export is there already, or another was begun.
    """
    place = Place.of(Path(path), SUFFIXES)
    how = open_form(form, source)
    if per_file < 1:
        raise InvalidQuery(f"{per_file} events in a file: there is at least 1")
    check_bounds(selection.after)
    if place.file and not how.grows:
        raise InvalidQuery(f"{form} takes a folder, for several files: {path} names one file")
    if place.manifest.exists():
        raise StoreError(f"{place.manifest} is there already: name another place, or remove that export first")
    now = Manifest(FORMAT, form, source, await store.head(), selection, per_file)
    with manifest.translated(place.folder):
        place.folder.mkdir(parents=True, exist_ok=True)
        begun = _begun(place, now)
    end = begun.head if selection.upto is None else min(begun.head, selection.upto)
    writing = _Writing(place, how, begun)
    async for page in store.read(selection.query, after=max(selection.after, begun.last), upto=end):
        await asyncio.to_thread(writing.add, page)
        moved(page.upto, end)
    return await asyncio.to_thread(writing.end)


class _Writing:
    """The files of an export, one after the other."""

    def __init__(self, place: Place, form: Form, begun: Manifest) -> None:
        self._place = place
        self._form = form
        self._manifest = begun
        self._part = place.folder / (f"{place.file}.part" if place.file else f"next{form.suffix}.part")
        with manifest.translated(place.folder):
            self._part.unlink(missing_ok=True)
        self._events = self._weight = self._first = self._last = 0
        self._counts: Counter[tuple[str, int]] = Counter()
        self._waiting: list[StoredEvent] = []

    def add(self, events: Sequence[StoredEvent]) -> None:
        """Write some events, and end each file that has enough."""
        with manifest.translated(self._place.folder):
            for event in events:
                self._first = self._first or event.position
                self._last = event.position
                self._counts[event.type, event.version] += 1
                self._events += 1
                self._weight += len(event.data) + len(event.metadata)
                self._waiting.append(event)
                full = self._events >= self._manifest.per_file or self._weight >= FILE_BYTES
                if full and not self._place.file:
                    self._end_file()
            if self._form.grows:
                self._write()

    def end(self) -> Manifest:
        """Write what is left, and the manifest, and return it."""
        with manifest.translated(self._place.folder):
            self._end_file()
            sealed = self._manifest.sealed()
            manifest.write(self._place.manifest, sealed)
            (self._place.folder / BEGUN).unlink(missing_ok=True)
        return sealed

    def _write(self) -> None:
        if self._waiting:
            self._form.write(self._part, self._waiting)
            self._waiting = []

    def _end_file(self) -> None:
        if not self._events:
            return
        self._write()
        manifest.sync(self._part)
        name = self._place.file or f"{self._first:012}-{self._last:012}{self._form.suffix}"
        size, digest = self._part.stat().st_size, manifest.hashed(self._part)
        self._part.replace(self._place.folder / name)
        manifest.sync(self._place.folder)
        file = File(name, self._events, self._first, self._last, size, digest)
        counts = [Count(kind, version, events) for (kind, version), events in self._counts.items()]
        self._manifest = self._manifest.add(file, counts)
        if not self._place.file:
            manifest.write(self._place.folder / BEGUN, self._manifest)
        self._events = self._weight = self._first = self._last = 0
        self._counts = Counter()


def _begun(place: Place, now: Manifest) -> Manifest:
    """Return the manifest of an export that was begun here and did not end; else that of a new one."""
    path = place.folder / BEGUN
    if place.file or not path.exists():
        return now
    found = manifest.read(path)
    asked = (now.form, now.source, now.selection, now.per_file)
    if (found.form, found.source, found.selection, found.per_file) != asked or found.head > now.head:
        raise StoreError(
            f"another export was begun in {place.folder}, of {found.source or 'a log'}: end that one with its own "
            f"options, name another folder, or remove {path} and what is beside it"
        )
    return found
