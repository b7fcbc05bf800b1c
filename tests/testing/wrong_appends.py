"""Wrong stores: events that change on their way into the log, wrong positions, limits that are not kept."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from refold.errors import InvalidEvent, TooLarge
from refold.model.query import Query, QueryItem
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import MAX_NAME_CHARS, MAX_TAGS, MAX_VERSION, Appended, Conditions, conditions, utc_now
from refold.store.memory import _Remembered
from tests.testing.bending import Bent, Odd, breaks
from tests.testing.right_stores import FileStore, GappedStore


@breaks("a1")
class HeadOfNothing(Bent):
    async def head(self) -> int:
        return await super().head() or -1


@breaks("a2")
class GroupsBatchesByType(Bent):
    def given(self, events: Sequence[NewEvent]) -> Sequence[NewEvent]:
        return sorted(events, key=lambda one: one.type)


@breaks("a3")
class TakesNothing(Bent):
    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        if not events and not conditions(condition):
            return Appended(self._head + 1, self._head)
        return await super().append(events, condition, append_id=append_id)


@breaks("a4")
class OnePositionForABatchOfFour(Bent):
    async def append(self, events: Sequence[NewEvent], *args: Any, **options: Any) -> Appended:
        result = await super().append(events, *args, **options)
        if len(events) == 4:
            self._events[-4:] = [replace(one, position=result.first) for one in self._events[-4:]]
        return result


@breaks("a5")
class KeepsDataAsText(Bent):
    def kept(self, event: StoredEvent) -> StoredEvent:
        return replace(event, data=event.data.decode(errors="replace").encode())


@breaks("a5")
class NothingIsNull(Bent):
    def kept(self, event: StoredEvent) -> StoredEvent:
        return replace(event, data=event.data or b"null")


@breaks("a6")
class LosesTagsWhenReopened(FileStore):
    def _take_in(self, new: list[StoredEvent], append_id: str | None, known: _Remembered) -> None:
        super()._take_in([replace(one, tags=one.tags[:1]) for one in new], append_id, known)


@breaks("a7")
class ReplacesNoncharactersInTags(Bent):
    def kept(self, event: StoredEvent) -> StoredEvent:
        return replace(event, tags=tuple(tag.replace("\uffff", "\ufffd") for tag in event.tags))


@breaks("a8")
class KeepsDuplicateTags(Bent):
    async def append(self, events: Sequence[NewEvent], *args: Any, **options: Any) -> Appended:
        before = self._head
        result = await super().append(events, *args, **options)
        for place, event in zip(range(before, self._head), events, strict=False):
            self._events[place] = replace(self._events[place], tags=event.tags)
        return result


@breaks("a9")
class ReplacesNoncharactersInTypes(Bent):
    def kept(self, event: StoredEvent) -> StoredEvent:
        return replace(event, type=event.type.replace("\uffff", "\ufffd"))


@breaks("a10")
class KeepsVersionsInAByte(Bent):
    def kept(self, event: StoredEvent) -> StoredEvent:
        return replace(event, version=event.version & 255)


@breaks("a11")
class NoMetadataIsAnEmptyObject(Bent):
    def kept(self, event: StoredEvent) -> StoredEvent:
        return replace(event, metadata=event.metadata or b"{}")


@breaks("a12")
class RecordsLocalTime(Bent):
    def kept(self, event: StoredEvent) -> StoredEvent:
        return replace(event, recorded_at=event.recorded_at.astimezone(timezone(timedelta(hours=2))))


@breaks("a13")
class RecordsWholeSeconds(Bent):
    def kept(self, event: StoredEvent) -> StoredEvent:
        return replace(event, recorded_at=event.recorded_at.replace(microsecond=0))


@breaks("a14")
class RecordsWhatTheClockSays(Bent):
    def kept(self, event: StoredEvent) -> StoredEvent:
        return replace(event, recorded_at=self._clock())


@breaks("a15")
class RecordsTheTimeOfReopening(FileStore):
    def _take_in(self, new: list[StoredEvent], append_id: str | None, known: _Remembered) -> None:
        super()._take_in([replace(one, recorded_at=utc_now()) for one in new], append_id, known)


@breaks("a16")
class KeepsEqualEventsOfABatchOnce(Bent):
    def given(self, events: Sequence[NewEvent]) -> Sequence[NewEvent]:
        return events[:1] if len(set(events)) == 1 else events


@breaks("a17")
class KeepsEveryStoreInOneFile(FileStore):
    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path.parent.parent / "log" if path.parent.name == "another" else path, **options)


@breaks("a18")
class ReturnsTheHead(Bent):
    """As `SELECT max(position)` after the insert does."""

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        result = await super().append(events, condition, append_id=append_id)
        if append_id is not None:
            return result
        await asyncio.sleep(0)
        return Appended(self._head - len(events) + 1, self._head)


@breaks("a19", nets=["m1"])
class GapsInsideBatches(GappedStore):
    inside = 7


@breaks("a20")
class CancelledHalfway(Bent):
    async def append(self, events: Sequence[NewEvent], *args: Any, **options: Any) -> Appended:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await super().append(events[:1])
            raise
        return await super().append(events, *args, **options)


@breaks("a21")
class ChecksConditionsFirst(Bent):
    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        if not events:
            for one in conditions(condition):
                self._check(one)
        return await super().append(events, condition, append_id=append_id)


@breaks("a22")
class HeadIsTheFirstOfTheLastBatch(Bent):
    _first = 0

    async def append(self, *args: Any, **options: Any) -> Appended:
        result = await super().append(*args, **options)
        self._first = result.first
        return result

    async def head(self) -> int:
        self._check_open()
        return self._first


@breaks("l1")
class KeepsAThousandCharacters(Bent):
    def given(self, events: Sequence[NewEvent]) -> Sequence[NewEvent]:
        return [
            NewEvent(one.type[:1000], one.data, tuple(tag[:1000] for tag in one.tags), one.version, one.metadata)
            if len(one.type) <= MAX_NAME_CHARS and all(len(tag) <= MAX_NAME_CHARS for tag in one.tags)
            else one
            for one in events
        ]


class Lenient(Bent):
    """Stores what it should refuse, if it is what `forgives` names."""

    def forgives(self, events: Sequence[NewEvent], names: list[str]) -> bool:
        return False

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        try:
            return await super().append(events, condition, append_id=append_id)
        except InvalidEvent:
            names = [name for one in events for name in (one.type, *one.tags)]
            if not self.forgives(events, [*names, append_id] if append_id is not None else names):
                raise
            self._events += [
                StoredEvent(self._head + n, utc_now(), e.type, e.version, e.tags, e.data, e.metadata)
                for n, e in enumerate(events, 1)
            ]
            return Appended(self._head, self._head)


@breaks("l2")
class TakesLongNames(Lenient):
    def forgives(self, events: Sequence[NewEvent], names: list[str]) -> bool:
        return any(len(name) > MAX_NAME_CHARS for name in names)


@breaks("l3")
class TakesEmptyNames(Lenient):
    def forgives(self, events: Sequence[NewEvent], names: list[str]) -> bool:
        return "" in names


@breaks("l4")
class TakesNul(Lenient):
    def forgives(self, events: Sequence[NewEvent], names: list[str]) -> bool:
        return any("\0" in name for name in names)


@breaks("l5")
class TakesLoneSurrogates(Lenient):
    def forgives(self, events: Sequence[NewEvent], names: list[str]) -> bool:
        return any(0xD800 <= ord(letter) <= 0xDFFF for name in names for letter in name)


@breaks("l6")
class FindsTheFirst200Tags(Bent):
    def asked(self, query: Query, **options: Any) -> Query:
        return Odd(query.items, test=lambda item, name, tags: item.matches(name, list(tags)[:200]))


@breaks("l7")
class TakesManyTags(Lenient):
    def forgives(self, events: Sequence[NewEvent], names: list[str]) -> bool:
        return any(len(one.tags) > MAX_TAGS for one in events)


@breaks("l8")
class RefusesTwoMebibytes(Bent):
    async def append(self, events: Sequence[NewEvent], *args: Any, **options: Any) -> Appended:
        if any(len(one.data) + len(one.metadata) > 2 << 20 for one in events):
            raise TooLarge
        return await super().append(events, *args, **options)


@breaks("l15")
class TakesAnyVersion(Lenient):
    def forgives(self, events: Sequence[NewEvent], names: list[str]) -> bool:
        return any(one.version > MAX_VERSION for one in events)


@breaks("l9")
class TakesLargeEvents(Lenient):
    def forgives(self, events: Sequence[NewEvent], names: list[str]) -> bool:
        return len(events) == 2 and len(events[1].data) > 4 << 20


@breaks("l9")
class WritesBeforeItRefuses(Bent):
    async def append(self, events: Sequence[NewEvent], *args: Any, **options: Any) -> Appended:
        try:
            return await super().append(events, *args, **options)
        except TooLarge:
            if len(events[-1].data) > 64 << 20:
                await super().append(events[:1])
            raise


@breaks("l10")
class TakesLargeBatches(Lenient):
    def forgives(self, events: Sequence[NewEvent], names: list[str]) -> bool:
        return 2 < len(events) < 100


@breaks("l11")
class TakesManyEvents(Lenient):
    def forgives(self, events: Sequence[NewEvent], names: list[str]) -> bool:
        return len(events) > 100_000


@breaks(nets=["l12"])
class RefusesTenThousandEvents(Bent):
    async def append(self, events: Sequence[NewEvent], *args: Any, **options: Any) -> Appended:
        if 10_000 < len(events) <= 100_000:
            raise TooLarge
        return await super().append(events, *args, **options)


@breaks("l13")
class TakesVersionZero(Lenient):
    def forgives(self, events: Sequence[NewEvent], names: list[str]) -> bool:
        return any(one.version == 0 for one in events)


@breaks("l14")
class ReadsFiveHundredItems(Bent):
    def asked(self, query: Query, **options: Any) -> Query:
        return Query(query.items[:500])


@breaks("l14")
class ReadsFiveHundredTypes(Bent):
    def asked(self, query: Query, **options: Any) -> Query:
        return Query(tuple(QueryItem(item.types[:500], item.tags) for item in query.items))
