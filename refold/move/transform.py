"""Copying a log to another store, as it is or through a function that keeps, changes, splits or drops each event.

The target holds nothing but what this writes. So a run compares what is there with what the function makes of the
source, goes on behind it, and at the end does all of it once more, without writing: that is the verification, and a
function that is not pure fails it. Nothing is ever written to the source.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from refold.errors import Conflict, InvalidEvent, RefoldError, StoreError, WiringError
from refold.model.hints import described
from refold.model.message import Event
from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent, Recorded, StoredEvent
from refold.model.schema import Schema
from refold.move.exports import nobody
from refold.move.imports import BATCH_BYTES, BATCH_EVENTS, new
from refold.move.metadata import moved as metadata_of
from refold.move.metadata import numbered
from refold.move.positions import Positions
from refold.store.api import Store, checked

One: TypeAlias = StoredEvent | NewEvent
Made: TypeAlias = One | Iterable[One] | None
Function: TypeAlias = Callable[[StoredEvent], Made]


class Transformed(Struct, frozen=True):
    """What a transformation did, as it was verified."""

    read: int
    """Events of the source."""
    kept: int
    """Of these, events that are in the target byte for byte, but for the times that metadata takes along."""
    dropped: int
    written: int
    """Events of the target."""
    appended: int
    """Of these, events that this run has appended."""
    sha256: str
    """Over types, versions, tags, data and metadata of the target's events, in their order."""
    shifted: bool
    """Whether any event has another position than in the source."""


async def transform(
    source: Store,
    target: Store,
    function: Function | None = None,
    *,
    positions: Path | str | None = None,
    moved: Callable[[int, int], None] = nobody,
    verified: Callable[[int, int], None] = nobody,
) -> Transformed:
    """Copy the events of a log to another through a function, verify the copy, and return what was done.

    The function takes a `StoredEvent` and returns what takes its place: itself, one with other fields, `NewEvent`s,
    several in a list, or None. Of each that has no metadata of its own, or the old one's, that is taken over.
    `positions` is where the map of positions is written. Raises `StoreError` if the target holds anything else, or
    something else is appended to it meanwhile.
    """
    function = function or _same
    head = await source.head()
    copying = _Copying(source, target, function, head)
    appended = await copying.copy(moved)
    if positions is None:
        return await copying.verify(None, appended, verified)
    with Positions(Path(positions)) as rows:
        return await copying.verify(rows, appended, verified)


def decoded(function: Callable[[Recorded[Any]], object], schema: Schema) -> Function:
    """Return the transformation of stored events that a function of decoded ones is.

    It takes a `Recorded` and returns its event, another, several in a list, or None. What is returned as it came is
    kept as it is stored, unless an upcaster has changed it.
    """

    def apply(stored: StoredEvent) -> Made:
        made: list[One] = []
        for recorded in schema.recorded(stored):
            given = function(recorded)
            for each in [given] if isinstance(given, Event) or given is None else _several(given, function):
                if not isinstance(each, Event):
                    if each is not None:
                        raise WiringError(f"{described(function)} gave {each!r}, which is no Event")
                    continue
                encoded = schema.encode(each)
                same = each is recorded.event and (encoded.type, encoded.version) == (stored.type, stored.version)
                made.append(stored if same else encoded)
        return made

    return apply


class _Copying:
    """One log on its way to another."""

    def __init__(self, source: Store, target: Store, function: Function, head: int) -> None:
        self._source = source
        self._target = target
        self._function = function
        self._head = head

    async def copy(self, moved: Callable[[int, int], None]) -> int:
        """Append what the target does not have yet; return how many events that were."""
        there = _events(self._target, await self._target.head())
        last = appended = weight = 0
        waiting: list[NewEvent] = []
        async for old in _events(self._source, self._head):
            for made in self._made(old):
                if (before := await anext(there, None)) is not None:
                    _compare(before, made, old)
                    last = before.position
                    continue
                waiting.append(made)
                weight += len(made.data) + len(made.metadata)
                if len(waiting) >= BATCH_EVENTS or weight >= BATCH_BYTES:
                    last = await self._append(waiting, last)
                    appended, weight, waiting = appended + len(waiting), 0, []
            moved(old.position, self._head)
        if waiting:
            await self._append(waiting, last)
        await _end(there)
        return appended + len(waiting)

    async def verify(
        self, positions: Positions | None, appended: int, verified: Callable[[int, int], None]
    ) -> Transformed:
        """Compare all of the target with what the function makes of the source, and return what it is."""
        there = _events(self._target, await self._target.head())
        digest = hashlib.sha256()
        read = kept = dropped = written = 0
        shifted = False
        async for old in _events(self._source, self._head):
            rows: list[tuple[int, int | None]] = []
            same = replace(new(old), metadata=metadata_of(old))
            for made in self._made(old):
                before = await anext(there, None)
                if before is None:
                    raise StoreError(
                        f"the target lacks what the event at position {old.position} becomes: the function is not "
                        "pure, or something was removed from the target"
                    )
                _compare(before, made, old)
                _add(digest, before)
                rows.append((old.position, before.position))
                kept += made == same
            read, written, dropped = read + 1, written + len(rows), dropped + (not rows)
            shifted |= rows != [(old.position, old.position)]
            if positions is not None:
                positions.add(rows or [(old.position, None)])
            verified(old.position, self._head)
        await _end(there)
        return Transformed(read, kept, dropped, written, appended, digest.hexdigest(), shifted)

    async def _append(self, events: list[NewEvent], last: int) -> int:
        try:
            return (await self._target.append(events, AppendCondition(Query(), last))).last
        except Conflict as error:
            raise StoreError(
                "something else was appended to the target meanwhile: a transformation writes to a log of its own"
            ) from error

    def _made(self, old: StoredEvent) -> list[NewEvent]:
        """Return what an event becomes."""
        try:
            given = self._function(old)
            several = [given] if isinstance(given, StoredEvent | NewEvent) else _several(given, self._function)
            made = [_completed(each, old, number) for number, each in enumerate(several)]
            return checked(made) if made else []
        except RefoldError as error:
            raise type(error)(f"the event at position {old.position}, {old.type}: {error}", **error.data) from error
        except Exception as error:
            raise InvalidEvent(
                f"the event at position {old.position}, {old.type}, fails {described(self._function)}: {error!r}"
            ) from error


async def _events(store: Store, upto: int) -> AsyncIterator[StoredEvent]:
    async for page in store.read(upto=upto):
        for event in page:
            yield event


async def _end(there: AsyncIterator[StoredEvent]) -> None:
    if (more := await anext(there, None)) is not None:
        raise _foreign(more)


def _compare(there: StoredEvent, made: NewEvent, old: StoredEvent) -> None:
    if new(there) != made:
        raise _foreign(there, f", where the source's position {old.position} becomes another {made.type}")


def _foreign(there: StoredEvent, why: str = "") -> StoreError:
    return StoreError(
        f"the target holds something else: at position {there.position} a {there.type}{why}. A transformation goes "
        "into an empty log, or one that it has begun itself, with the same function"
    )


def _same(event: StoredEvent) -> StoredEvent:
    return event


def _several(given: object, function: Callable[..., Any]) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, str | bytes | Struct) or not isinstance(given, Iterable):
        raise WiringError(f"{described(function)} gave {given!r}: give an event, several in a list, or None")
    return [*given]  # pyright: ignore[reportUnknownVariableType] - each is looked at by whoever asked


def _completed(given: One, old: StoredEvent, number: int) -> NewEvent:
    """Return an event with metadata: what it does not say itself it has from the old one."""
    if not isinstance(given, StoredEvent | NewEvent):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WiringError(f"{given!r} is neither a StoredEvent nor a NewEvent")
    metadata = given.metadata
    if not metadata or metadata == old.metadata:
        metadata = numbered(old.metadata, number)
    metadata = metadata_of(replace(old, metadata=metadata))
    return NewEvent(given.type, given.data, given.tags, given.version, metadata)


def _add(digest: Any, event: StoredEvent) -> None:
    for part in (event.type, str(event.version), str(len(event.tags)), *event.tags):
        digest.update(part.encode() + b"\0")
    for data in (event.data, event.metadata):
        digest.update(len(data).to_bytes(8, "big") + data)
