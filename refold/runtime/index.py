"""Finding events again: by words, by ids, by what they were caused by; in the index of a log, and in the log itself.

What the index has not come to yet is looked at in the log, and so is everything where there is no index. That takes
time that grows with the log, so it ends after a while, and says how far it came: one goes on from there.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from refold.errors import MissingCapability, NotKept
from refold.model.query import Query
from refold.model.record import StoredEvent
from refold.runtime.books import Books
from refold.runtime.ids import time_of
from refold.runtime.indexing import IDS, Id, IndexedEvent, Indexing, id_kept
from refold.runtime.load import position_at
from refold.runtime.scan import Sought, Stretch, scan, with_id
from refold.runtime.versions import Versions
from refold.store.api import Store
from refold.view.api import Views
from refold.view.find import conditions_of, find_of
from refold.view.open import open_views
from refold.view.search import MAX_CHARS, MAX_TERMS
from refold.view.table import Table

LOOK_SECONDS = 0.4
"""How long the log itself is looked through for one answer."""
GLANCE_SECONDS = 0.1
"""How long at first, where there is an index."""
NEAR = 64
"""Events that are so near to each other in the log are read at once."""
PAGE = 500
BEFORE = timedelta(seconds=2)
"""How much earlier than an id was made its event may have been recorded, as clocks differ."""

Fetch: TypeAlias = Callable[[Stretch], Awaitable[Sequence[IndexedEvent]]]


class Findings(Struct, frozen=True):
    """What was found, and where was looked: at all positions above `after` and up to `upto`."""

    events: Sequence[StoredEvent]
    after: int
    upto: int
    complete: bool
    """Whether that is all that was to be looked at; if not, there may be more."""


class Index:
    """Finds events of a log: see `App.index`. Without an index that is kept, it looks through the log itself."""

    def __init__(self, store: Store, versions: Versions | None = None) -> None:
        self._store = store
        self._versions = versions

    @classmethod
    def beside(cls, store: Store) -> "Index":
        """Return what finds events of a log, by the index that some app keeps beside it, if one does."""
        try:
            return cls(store, Versions(Indexing(), Books(open_views(store))))
        except MissingCapability:
            return cls(store)

    @property
    def kept(self) -> bool:
        """Whether there may be an index."""
        return self._versions is not None

    async def search(
        self,
        words: str = "",
        *,
        query: Query = Query(),
        after: int = 0,
        upto: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        backwards: bool = True,
        limit: int = 50,
    ) -> Findings:
        """Return the newest events that hold all the words, or have them as an id; without words, all of the query.

        `tea*` is the beginning of a word, `"green tea"` are words that follow one another; case and accents count for
        nothing. `since` is exclusive and `until` inclusive, as positions are; both are recorded times with a zone. If
        it is not complete, ask again with `upto=findings.after` for what is older; or if you do not go backwards, with
        `after=findings.upto`.
        """
        asked = await self._asked(after, upto, since, until, backwards)
        if not words.strip():
            found, left = await scan(self._store, query, asked, _any, limit, seconds=LOOK_SECONDS)
            return _findings(found, asked, left)
        sought = Sought(words)
        kept = await self._kept()
        if kept is None:
            found, left = await scan(self._store, query, asked, sought.meets, limit, seconds=LOOK_SECONDS)
            return _findings(found, asked, left)
        # What the index has not come to is looked at first. So is what is found at once, if many events are sought, or
        # if the query is of few: the log has an index of its own for those.
        behind = Stretch(kept.position, asked.upto) if backwards else None
        found, left = await scan(self._store, query, asked, sought.meets, limit, seconds=GLANCE_SECONDS, through=behind)
        if (part := kept.part(left)) and len(found) < limit:
            positions, rest = await kept.search(sought, query, part, limit - len(found))
            found = [*found, *await self._events(positions)]
            left = rest if backwards else replace(left, after=rest.after)
            if not backwards and not rest and left and len(found) < limit:
                more, left = await scan(
                    self._store, query, left, sought.meets, limit - len(found), seconds=LOOK_SECONDS
                )
                found = [*found, *more]
        return _findings(found, asked, left)

    async def event(self, event_id: str) -> StoredEvent | None:
        """Return the event with this id; None if there is none, or without an index none was found in time."""
        found = await self._by_id("event_id", event_id, Query(), 0, None, 1)
        return found.events[0] if found.events else None

    async def at(self, position: int) -> StoredEvent | None:
        """Return the event at a position, if there is one."""
        found = await self._events([position]) if position > 0 else []
        return found[0] if found else None

    async def correlated(
        self, correlation_id: str, *, query: Query = Query(), after: int = 0, upto: int | None = None, limit: int = 100
    ) -> Findings:
        """Return the events of one story, the oldest first; ask again with `after=findings.upto` for more.

        Without an index they are looked for from `after` on; if that is 0, from when the id was made, if it says so;
        or else they are the newest, and `findings.after` says where older ones may be.
        """
        return await self._by_id("correlation_id", correlation_id, query, after, upto, limit)

    async def caused_by(
        self, causation_id: str, *, query: Query = Query(), after: int = 0, upto: int | None = None, limit: int = 100
    ) -> Findings:
        """Return what happened because of an event or command, as `correlated` does."""
        return await self._by_id("causation_id", causation_id, query, after, upto, limit)

    async def _asked(
        self, after: int, upto: int | None, since: datetime | None, until: datetime | None, backwards: bool
    ) -> Stretch:
        end = await self._store.head()
        end = end if upto is None else min(upto, end)
        if until is not None:
            end = min(end, await position_at(self._store, until))
        if since is not None:
            after = max(after, await position_at(self._store, since))
        return Stretch(after, max(end, after), backwards)

    async def _by_id(self, name: Id, value: str, query: Query, after: int, upto: int | None, limit: int) -> Findings:
        asked = await self._asked(after, upto, None, None, backwards=False)
        if not value:
            return _findings([], asked, asked.done)
        meets, kept = with_id(name, value), await self._kept()
        if kept is None:
            return await self._scan_for(value, meets, query, asked, limit)
        found: Sequence[StoredEvent] = ()
        left = asked
        if part := kept.part(asked):
            positions, rest = await kept.by_id(name, value, query, part, limit)
            found = [each for each in await self._events(positions) if meets(each)]
            left = replace(asked, after=rest.after)
            if rest or len(found) >= limit:
                return _findings(found, asked, left)
        more, left = await scan(self._store, query, left, meets, limit - len(found), seconds=LOOK_SECONDS)
        return _findings([*found, *more], asked, left)

    async def _scan_for(
        self, value: str, meets: Callable[[StoredEvent], bool], query: Query, asked: Stretch, limit: int
    ) -> Findings:
        """Look for an id in the log: from a position, or from when it was made if it says so, or the newest first."""
        start: int | None = asked.after or None
        if start is None and (made := time_of(value)) is not None:
            start = await position_at(self._store, made - BEFORE)
        if start is not None:
            part = Stretch(start, asked.upto, backwards=False)
            found, left = await scan(self._store, query, part, meets, limit, seconds=LOOK_SECONDS / 2)
            whole = start == asked.after
            if found or asked.after or (whole and not left):
                return Findings(found, start, left.after, whole and not left)
        part = Stretch(asked.after, asked.upto)
        found, left = await scan(self._store, query, part, meets, limit, seconds=LOOK_SECONDS / 2)
        return Findings(found[::-1], left.upto, asked.upto, not left)

    async def _kept(self) -> "_Kept | None":
        """Return the index, if there is one to be read."""
        if self._versions is None:
            return None
        try:
            shown = await self._versions.shown()
            position = await self._versions.position(shown)
        except NotKept:
            return None
        [table] = self._versions.definition.tables(shown.version)
        return _Kept(table, self._versions.books.views, position)

    async def _events(self, positions: Sequence[int]) -> list[StoredEvent]:
        """Return the events at some positions, which are in order, one way or the other."""
        found: list[StoredEvent] = []
        ordered = sorted(positions)
        while ordered:
            near = [each for each in ordered[:NEAR] if each - ordered[0] < NEAR]
            del ordered[: len(near)]
            async for page in self._store.read(after=near[0] - 1, upto=near[-1]):
                found += [stored for stored in page if stored.position in near]
        return found if positions == sorted(positions) else found[::-1]


class _Kept:
    """The index, as far as it has come."""

    def __init__(self, table: Table, views: Views, position: int) -> None:
        self.position = position
        self._table = table
        self._views = views

    def part(self, left: Stretch) -> Stretch | None:
        """Return the part of a stretch that is indexed, if one goes on with it; None if there is none."""
        if left.backwards and left.upto > self.position:
            return None
        part = replace(left, upto=min(left.upto, self.position))
        return part if left.after < part.upto else None

    async def search(self, sought: Sought, query: Query, within: Stretch, limit: int) -> tuple[Sequence[int], Stretch]:
        """Return the positions of events that hold the words or have the id, and what is left of the stretch."""
        text = _narrowed(sought, query)

        async def by_words(part: Stretch) -> Sequence[IndexedEvent]:
            where = conditions_of(self._table, _bounds(part))
            hits = await self._views.search(self._table, text, where, PAGE, order="last" if part.backwards else "first")
            return [hit.row for hit in hits]

        walks = [await _walk(by_words, query, within, limit)]
        if sought.id:
            walks += [await _walk(self._fetching(name, sought.id), query, within, limit) for name in IDS]
        # As far as all of them have come.
        left = max((left for _, left in walks), key=lambda left: left.upto - left.after)
        every = {each for found, _ in walks for each in found if not left.after < each <= left.upto}
        positions = sorted(every, reverse=within.backwards)[:limit]
        return positions, within.behind(positions[-1]) if len(positions) == limit else left

    async def by_id(
        self, name: Id, value: str, query: Query, within: Stretch, limit: int
    ) -> tuple[Sequence[int], Stretch]:
        """Return the positions of events that have an id in one of its places, and what is left of the stretch."""
        return await _walk(self._fetching(name, value), query, within, limit)

    def _fetching(self, name: str, value: str) -> Fetch:
        async def fetch(part: Stretch) -> Sequence[IndexedEvent]:
            where = {name: id_kept(value), **_bounds(part)}
            order = "-position" if part.backwards else "position"
            rows: list[IndexedEvent] = await self._views.find(self._table, find_of(self._table, where, order, PAGE, 0))
            return rows

        return fetch


async def _walk(fetch: Fetch, query: Query, within: Stretch, limit: int) -> tuple[Sequence[int], Stretch]:
    """Go through what the index has, a page at a time, for what belongs to a query."""
    found: list[int] = []
    start, left = time.monotonic(), within
    while left and time.monotonic() - start < LOOK_SECONDS:
        rows = await fetch(left)
        for row in rows:
            if query.matches(row.type, row.tags):
                found.append(row.position)
                if len(found) == limit:
                    return found, left.behind(row.position)
        left = left.behind(rows[-1].position) if len(rows) == PAGE else left.done
    return found, left


def _narrowed(sought: Sought, query: Query) -> str:
    """Return the words of a search, and those that every event of the query has in its tags and its type."""
    text, terms = sought.text, len(sought.terms)
    names = [{*item.tags, *(item.types if len(item.types) == 1 else ())} for item in query.items]
    for name in sorted(set[str].intersection(*names)) if names else []:
        plain = name.replace('"', " ")
        more = f'{text} "{plain}"'
        if terms < MAX_TERMS and len(more) <= MAX_CHARS:
            text, terms = more, terms + 1
    return text


def _bounds(part: Stretch) -> dict[str, Any]:
    return {"position__gt": part.after, "position__le": part.upto}


def _any(stored: StoredEvent) -> bool:
    return True


def _findings(found: Sequence[StoredEvent], asked: Stretch, left: Stretch) -> Findings:
    if asked.backwards:
        return Findings(found, left.upto, asked.upto, not left)
    return Findings(found, asked.after, left.after, not left)
