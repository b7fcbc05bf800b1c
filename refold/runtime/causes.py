"""What caused what: a command, its events, what processes gave because of them, and so on, as a tree.

An event says which command it is of, and what that was caused by: an event, or nothing but itself. Events of one
command share both, and what gave it. So a tree is put together from events alone, whatever program recorded them;
events from before commands were named are put together by their cause.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

from refold.errors import UnreadableEvent
from refold.model.query import Query
from refold.model.record import Metadata, StoredEvent
from refold.model.schema import decode_metadata
from refold.runtime.books import Books
from refold.runtime.ids import time_of
from refold.runtime.index import BEFORE, Findings, Index
from refold.runtime.load import position_at
from refold.runtime.marks import Mark, marks_of
from refold.store.api import Store

MOST = 1_000
"""How many events one tree may have."""
SECONDS = 0.8
"""How long is looked for consequences under other correlation ids, or under none."""

Kind: TypeAlias = Literal["event", "command", "elsewhere", "waiting", "failed", "skipped"]
Key: TypeAlias = tuple[str, str, str]
"""What events of one command share: its cause, its name, and what gave it."""


class Cause(Struct, frozen=True, omit_defaults=True):
    """A node of the tree."""

    id: str
    parent: str
    """The id of what caused it; empty at a root."""
    depth: int
    kind: Kind
    """`elsewhere` is a cause that is not in this log, or not shown; `waiting` is a timer; `failed` and `skipped` is
    what did not come of an event."""
    name: str = ""
    """The type of an event; the class of a command, also of one that waits, empty if nobody has noted it; the id of
    what is elsewhere."""
    by: str = ""
    """What gave a command, if anything did: `process fulfil`, `timer fulfil`, `effect send_mail`, `inbox shop/bill`,
    `call`; or what failed, as `fulfil`; or the context of what is elsewhere."""
    position: int = 0
    """Of an event; of a command its first event's; of what did not come of an event that one's."""
    at: datetime | None = None
    """When it was recorded, failed or was skipped; of what waits when it is due."""
    actor: str = ""
    tags: tuple[str, ...] = ()
    trouble: str = ""
    """Why it failed, was skipped, or is late."""
    is_stuck: bool = False
    """Whether it will not go on by itself."""


class Causes(Struct, frozen=True):
    """The tree that an event is in; several trees if several commands share its correlation id."""

    position: int
    """Of the event that was asked about."""
    correlation_id: str
    nodes: tuple[Cause, ...]
    """Each behind what caused it, and before what comes of others: as an indented list is read."""
    complete: bool
    """Whether that is all; not if there are more than `MOST` events, or not everything was looked through in time."""


async def causes(
    store: Store, index: Index, books: Sequence[Books], position: int, query: Query, now: datetime
) -> Causes | None:
    """Return what led to the event at a position, and all that came of it; see `App.causes`."""
    stored = await index.at(position)
    if stored is None or not query.matches(stored.type, stored.tags):
        return None
    found = _Gathered(store, index, query)
    await found.all_about(stored)
    events = [found.events[each] for each in sorted(found.events)]
    marks = await marks_of(books, sorted(found.events), now, told=not query.items)
    correlation_id = found.events[position].metadata.correlation_id
    return Causes(position, correlation_id, tuple(_Tree(events, marks).nodes()), found.complete)


class _Known(NamedTuple):
    """An event of a tree."""

    stored: StoredEvent
    metadata: Metadata

    @property
    def id(self) -> str:
        """How what it causes names it."""
        return self.metadata.event_id or f"@{self.stored.position}"

    @property
    def key(self) -> Key:
        """What it shares with the other events of its command; with none, if nothing is known to have caused it."""
        metadata = self.metadata
        cause = metadata.causation_id
        return (cause, metadata.command, metadata.by) if cause else ("", "", f"@{self.stored.position}")


class _Gathered:
    """The events that belong together, as they are found."""

    def __init__(self, store: Store, index: Index, query: Query) -> None:
        self.events: dict[int, _Known] = {}
        self.complete = True
        self._store = store
        self._index = index
        self._query = query
        self._by_id: dict[str, _Known] = {}
        self._correlated: set[str] = set()

    async def all_about(self, stored: StoredEvent) -> None:
        """Find what led to an event, all of its correlation, and what came of that."""
        above: StoredEvent | None = stored
        passed: dict[int, None] = {}
        while above is not None and above.position not in passed and len(passed) < MOST:
            passed[above.position] = None
            known = self._add(above)
            await self._with_correlated(known)
            above = await self._cause_of(known)
        await self._with_consequences()
        if len(self.events) > MOST:  # what led to it is kept in any case
            self.complete = False
            kept = dict.fromkeys([*passed, *sorted(self.events)])
            self.events = {position: self.events[position] for position in list(kept)[:MOST]}

    def _add(self, stored: StoredEvent) -> _Known:
        if stored.position not in self.events:
            known = _Known(stored, _metadata(stored))
            self.events[stored.position] = known
            self._by_id.setdefault(known.id, known)
        return self.events[stored.position]

    async def _cause_of(self, known: _Known) -> StoredEvent | None:
        """Return the event that led to the command which an event is of, if there is one, and it may be seen."""
        metadata = known.metadata
        cause = metadata.causation_id
        if not cause or (metadata.command and not metadata.by):  # nothing has led to it
            return None
        if cause in self._by_id:
            return self._by_id[cause].stored
        at = cause[1:] if cause.startswith("@") else ""
        is_place = at.isascii() and at.isdecimal() and len(at) < 19
        found = await (self._index.at(int(at)) if is_place else self._index.event(cause))
        return found if found is not None and self._query.matches(found.type, found.tags) else None

    async def _with_correlated(self, known: _Known) -> None:
        asked = known.metadata.correlation_id
        if asked and asked not in self._correlated:
            self._correlated.add(asked)
            await self._take(asked, await self._index.correlated(asked, query=self._query, limit=self._room()))

    async def _with_consequences(self) -> None:
        """Find what was caused under other correlation ids; of what has none, that is all that it has caused."""
        until = time.monotonic() + SECONDS
        waiting = deque(self.events.values())
        while waiting and len(self.events) <= MOST:
            known = waiting.popleft()
            is_needed = not known.metadata.correlation_id
            if time.monotonic() > until:
                self.complete = self.complete and not is_needed
            elif is_needed or self._index.kept:
                before = len(self.events)
                found = await self._index.caused_by(known.id, query=self._query, limit=self._room())
                await self._take(known.id, found)
                for each in list(self.events.values())[before:]:
                    await self._with_correlated(each)
                waiting += list(self.events.values())[before:]

    async def _take(self, asked: str, findings: Findings) -> None:
        for stored in findings.events:
            self._add(stored)
        if not findings.complete:
            # What bears an id was recorded after that was made, so that it need not have been looked for before.
            made = time_of(asked)
            first = 0 if made is None else await position_at(self._store, made - BEFORE)
            is_all = findings.after <= first and findings.upto >= await self._store.head()
            self.complete = self.complete and is_all

    def _room(self) -> int:
        return max(MOST + 1 - len(self.events), 1)


class _Place(NamedTuple):
    """Something that is to be put into the tree."""

    what: "Key | _Known | Mark"
    parent: str
    depth: int


class _Tree:
    """Puts a tree together from events in the order of the log."""

    def __init__(self, events: Sequence[_Known], marks: Sequence[Mark]) -> None:
        self._by_id: dict[str, _Known] = {}
        self._groups: dict[Key, list[_Known]] = {}
        for known in events:
            self._by_id.setdefault(known.id, known)
            self._groups.setdefault(known.key, []).append(known)
        self._because: dict[str, list[Key]] = {}
        for key in self._groups:
            self._because.setdefault(key[0], []).append(key)
        self._marks: dict[int, list[Mark]] = {}
        for mark in marks:
            self._marks.setdefault(mark.position, []).append(mark)
        self._placed: set[Key] = set()
        self._count = 0

    def nodes(self) -> Iterator[Cause]:
        """Go through the nodes, each behind what caused it."""
        for key in self._groups:
            cause, _, by = key
            if key in self._placed or cause in self._by_id:
                continue
            if cause and by:
                of_cause = [each for each in self._because[cause] if each[2]]
                elsewhere = self._elsewhere(cause, of_cause)
                yield elsewhere
                yield from self._below([_Place(each, elsewhere.id, 1) for each in of_cause])
            else:
                yield from self._below([_Place(key, "", 0)])
        # What is said to have led to itself has no root: then the first that was recorded is taken for one.
        for key in self._groups:
            if key not in self._placed:
                yield from self._below([_Place(key, "", 0)])

    def _below(self, places: Sequence[_Place]) -> Iterator[Cause]:
        stack = list(reversed(places))  # no recursion: a chain may be as long as all events
        while stack:
            place = stack.pop()
            match place.what:
                case _Known():
                    node = _event(place.what, place)
                    after: list[_Place] = self._after(place.what, node)
                    yield node
                case Mark():
                    yield _mark(place.what, place, self._id("m"))
                    continue
                case key if key in self._placed:
                    continue
                case key:
                    self._placed.add(key)
                    events, depth, parent = self._groups[key], place.depth, place.parent
                    if key[0]:
                        command = _command(events[0], place, self._id("c"))
                        yield command
                        depth, parent = depth + 1, command.id
                    after = [_Place(each, parent, depth) for each in events]
            stack += reversed(after)

    def _after(self, known: _Known, node: Cause) -> list[_Place]:
        """Return what comes of an event, and what has not."""
        because = self._because.get(known.id, ()) if self._by_id[known.id] is known else ()
        marks = self._marks.get(known.stored.position, ())
        return [_Place(each, node.id, node.depth + 1) for each in (*because, *marks)]

    def _elsewhere(self, cause: str, keys: Sequence[Key]) -> Cause:
        contexts = [by.removeprefix("inbox ").partition("/")[0] for _, _, by in keys if by.startswith("inbox ")]
        return Cause(self._id("x"), "", 0, "elsewhere", cause, by=contexts[0] if contexts else "")

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"


def _event(known: _Known, place: _Place) -> Cause:
    stored = known.stored
    return Cause(
        f"e{stored.position}",
        place.parent,
        place.depth,
        "event",
        stored.type,
        position=stored.position,
        at=stored.recorded_at,
        actor=known.metadata.actor,
        tags=stored.tags,
    )


def _command(first: _Known, place: _Place, id: str) -> Cause:
    stored, metadata = first.stored, first.metadata
    return Cause(
        id,
        place.parent,
        place.depth,
        "command",
        metadata.command,
        by=given_by(metadata.by),
        position=stored.position,
        at=stored.recorded_at,
        actor=metadata.actor,
    )


def _mark(mark: Mark, place: _Place, id: str) -> Cause:
    return Cause(
        id,
        place.parent,
        place.depth,
        mark.kind,
        mark.command,
        by=mark.who,
        position=mark.position,
        at=mark.at,
        trouble=mark.trouble,
        is_stuck=mark.is_stuck,
    )


def given_by(by: str) -> str:
    """Return what gave a command, without its place among all that was given: `process fulfil/1` is by the process."""
    kind, _, rest = by.partition(" ")
    if kind in ("", "call"):
        return kind
    parts = [part for part in rest.split("/") if not part.startswith(".")]
    return f"{kind} {'/'.join(parts[: 2 if kind == 'inbox' else 1])}"


def _metadata(stored: StoredEvent) -> Metadata:
    try:
        return decode_metadata(stored)
    except UnreadableEvent:
        return Metadata(occurred_at=stored.recorded_at)
