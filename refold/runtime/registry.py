"""The registry: which schemas a log's events were written by, and from where on, for readers that lack the code.

A program writes a row when it first stores an event of a type, version and schema. It does so after the event is in
the log, in a step of its own: if it ends in between, the next that starts finds what is missing. A store that cannot
keep rows has no registry, and nothing here ever makes an append fail.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from hashlib import blake2b
from typing import Any, cast

import msgspec

from refold.contract.describe import EventForm, event_forms
from refold.errors import MissingCapability, NotKept, RefoldError
from refold.model.query import Query
from refold.model.record import NewEvent, StoredEvent
from refold.model.schema import Schema
from refold.runtime.books import SCHEMAS, Books, StoredSchema
from refold.store.api import Store, utc_now
from refold.view.open import open_views

LOOK_BACK = 1_000
"""How many events of a type are looked at for an earlier one of a version, before where it seems to begin."""
CLOSE_SECONDS = 2.0
WORDS = ("description", "title")
"""What a schema says to people only."""

logger = logging.getLogger("refold.registry")
_encode = msgspec.json.Encoder(order="deterministic").encode


class Registry:
    """Writes down which schemas one program's events have."""

    def __init__(self, store: Store, schema: Schema, books: Books | None) -> None:
        self._store = store
        self._schema = schema
        self._books = books or _books(store)
        self._forms: dict[tuple[str, int], EventForm] | None = None
        self._known: set[tuple[str, int]] = set()
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, batch: Sequence[NewEvent], first: int) -> None:
        """Have what is new among events that were appended from a position on written down; nobody waits for it."""
        known = self._known
        for position, event in enumerate(batch, first):
            if (event.type, event.version) not in known:
                key = (event.type, event.version)
                known.add(key)  # tried once, whether it goes well or not
                self._start(self._note(key, position))

    def complete(self) -> None:
        """Have written down what the log has, and the program knows, but nobody has written down."""
        self._start(self._complete())

    async def settle(self) -> None:
        """Wait until what was noted is written down."""
        while self._writing:
            await asyncio.wait(self._writing)

    async def close(self) -> None:
        """Let what was noted be written down, unless that takes long: the next who starts finds it."""
        for task in (await asyncio.wait(self._writing, timeout=CLOSE_SECONDS))[1] if self._writing else ():
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if self._books is None:
            work.close()
            return
        task = asyncio.create_task(work, name="refold registry")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _note(self, key: tuple[str, int], position: int | None) -> None:
        try:
            await self._write(key, position)
        except RefoldError as error:
            logger.warning("the schema of %s version %d is not written down: %s", *key, error)

    async def _complete(self) -> None:
        try:
            there = {(row.type, row.version) for row in await _rows(self._books)}
            missing = {key for key in self._described() if key not in there}
            if missing and await self._next(Query.of(types={name for name, _ in missing}), 0):
                for key in sorted(missing):
                    if key not in self._known and await self._first(*key):
                        self._known.add(key)
                        await self._note(key, None)
        except RefoldError as error:
            logger.warning("the schemas of events are not written down: %s", error)

    def _described(self) -> dict[tuple[str, int], EventForm]:
        if self._forms is None:
            self._forms = {(form.name, form.version): form for form in event_forms(self._schema)}
        return self._forms

    async def _write(self, key: tuple[str, int], position: int | None) -> None:
        books = cast(Books, self._books)
        form = self._described()[key]
        digest = _hash(form)
        others = await _rows(books, form)
        if any(row.hash == digest for row in others):
            return
        if not others:  # it may have been used before anybody wrote it down
            position = min(filter(None, (await self._first(*key), position)))
        assert position is not None
        await books.views.create([SCHEMAS])
        row = StoredSchema(
            type=form.name,
            version=form.version,
            hash=digest,
            schema=msgspec.json.encode(form.schema).decode(),
            tags=form.tags,
            doc=form.doc,
            source=form.source,
            position=position,
            seen_at=utc_now(),
        )
        await books.put(SCHEMAS, row)

    async def _first(self, name: str, version: int) -> int | None:
        """Return the position of the first event of a type and version, with few reads.

        Versions grow along a log, but for the while in which an old and a new program wrote to it; that is taken to
        be no more than some events of the type.
        """
        query = Query.of(types=name)
        found = await self._next(query, 0)
        if found is None or found.version == version:
            return None if found is None else found.position
        low, high = found.position, await self._store.head()
        while low < high:  # at and before `low`: older; behind `high`: not older, or nothing
            middle = (low + high) // 2
            found = await self._next(query, middle)
            if found is None or found.version >= version:
                high = middle
            else:
                low = found.position
        found = await self._next(query, low)
        first = found.position if found is not None and found.version == version else None
        async for page in self._store.read(query, upto=low, backwards=True, limit=LOOK_BACK):
            for stored in page:
                first = stored.position if stored.version == version else first
        return first

    async def _next(self, query: Query, after: int) -> StoredEvent | None:
        async for page in self._store.read(query, after=after, limit=1):
            for stored in page:
                return stored
        return None


async def stored_schemas(store: Store) -> list[StoredSchema]:
    """Return the schemas that are written down beside a log, those of one type and version by where they begin."""
    return await _rows(_books(store))


def _books(store: Store) -> Books | None:
    try:
        return Books(open_views(store))
    except MissingCapability:
        return None


async def _rows(books: Books | None, form: EventForm | None = None) -> list[StoredSchema]:
    if books is None:
        return []
    where = {"type": form.name, "version": form.version} if form else None
    try:
        rows: list[StoredSchema] = await books.find(SCHEMAS, where)
    except NotKept:
        return []
    return sorted(rows, key=lambda row: (row.type, row.version, row.position))


def _hash(form: EventForm) -> str:
    """Return a short text that changes with what is stored of an event, but not with what is said about it."""
    return blake2b(_encode([_wordless(form.schema), form.tags]), digest_size=8).hexdigest()


def _wordless(part: object) -> Any:
    """Return a schema without what it says to people; a field may be called as such words are."""
    if isinstance(part, dict):
        found = cast(dict[str, object], part)
        return {name: _wordless(each) for name, each in found.items() if not (name in WORDS and isinstance(each, str))}
    return [_wordless(each) for each in cast(list[object], part)] if isinstance(part, list) else part
