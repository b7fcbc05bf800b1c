"""Wrong stores: appends that are repeated and happen twice, or that are told apart by too much or too little."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from refold.errors import AppendIdReused, Conflict
from refold.model.record import NewEvent
from refold.store.api import Appended, Conditions, conditions, digest
from refold.store.memory import MemoryStore, _Remembered
from tests.testing.bending import Bent, breaks


@breaks("i1")
class RepeatsTheLastPositionOnly(Bent):
    async def append(self, *args: Any, **options: Any) -> Appended:
        before = self._head
        result = await super().append(*args, **options)
        return result if before < self._head else Appended(result.last, result.last)


@breaks("i1")
class StoresRepeatedPairsAgain(Bent):
    async def append(self, events: Sequence[NewEvent], *args: Any, **options: Any) -> Appended:
        before = self._head
        result = await super().append(events, *args, **options)
        if before == self._head and len(events) == 2:
            await super().append(events)
        return result


@breaks("i2", nets=["m1"])
class ChecksRepeatedAppends(Bent):
    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        if events:
            for one in conditions(condition):
                self._check(one)
        return await super().append(events, condition, append_id=append_id)


@breaks("i3")
class IgnoresCaseOfIds(Bent):
    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        return await super().append(events, condition, append_id=append_id and append_id.lower())


@breaks("i4", nets=["m1"])
class TakesAnyBatchForAnId(Bent):
    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        if append_id and events and (known := self._recall(append_id)):
            return known.result
        return await super().append(events, condition, append_id=append_id)


class Digests(Bent):
    """Tells the batches of an id apart in a way of its own."""

    def told(self, events: Sequence[NewEvent]) -> Any:
        return digest(events)

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        seen = self.__dict__.setdefault("_told", {})
        if append_id is not None and self._recall(append_id) is None:
            seen.pop(append_id, None)
        if events and append_id in seen:
            if seen[append_id] != self.told(events):
                raise AppendIdReused
            return self._remembered[append_id].result
        result = await super().append(events, condition, append_id=append_id)
        if append_id:
            seen[append_id] = self.told(events)
        return result


@breaks("i4")
class ForgetsTypesOfAnId(Digests):
    def told(self, events: Sequence[NewEvent]) -> Any:
        return [(one.version, sorted(set(one.tags)), one.data) for one in events]


@breaks("i4")
class ForgetsVersionsOfAnId(Digests):
    def told(self, events: Sequence[NewEvent]) -> Any:
        return [(one.type, sorted(set(one.tags)), one.data) for one in events]


@breaks("i4")
class ForgetsTagsOfAnId(Digests):
    def told(self, events: Sequence[NewEvent]) -> Any:
        return [(one.type, one.version, one.data) for one in events]


@breaks("i4")
class ForgetsTheOrderOfAnId(Digests):
    def told(self, events: Sequence[NewEvent]) -> Any:
        return sorted((one.type, one.version, sorted(set(one.tags)), one.data) for one in events)


@breaks("i5")
class ComparesMetadata(Digests):
    def told(self, events: Sequence[NewEvent]) -> Any:
        return [(one.type, one.version, sorted(set(one.tags)), one.data, one.metadata) for one in events]


@breaks("i6")
class KnowsNoIds(Bent):
    async def appended(self, append_id: str) -> Appended | None:
        self._check_open()
        return None


@breaks("i7")
class FailedAppendsUseTheirId(Bent):
    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        try:
            return await super().append(events, condition, append_id=append_id)
        except Conflict:
            if append_id:
                self._remembered[append_id] = _Remembered(b"", Appended(1, 1))
            raise


@breaks("i9")
class RemembersADay(Bent):
    def __init__(self, **options: Any) -> None:
        MemoryStore.__init__(self, retention=timedelta(days=1), **options)


@breaks("i9")
class RemembersFiveIds(Bent):
    async def append(self, *args: Any, **options: Any) -> Appended:
        while len(self._remembered) > 5:
            del self._remembered[next(iter(self._remembered))]
        return await super().append(*args, **options)


@breaks("i10")
class RemembersForEver(Bent):
    def __init__(self, **options: Any) -> None:
        MemoryStore.__init__(self, retention=timedelta(days=10_000), **options)


@breaks("i11")
class ComparesDuplicateTags(Digests):
    def told(self, events: Sequence[NewEvent]) -> Any:
        return digest(events)


@breaks("i12")
class LooksForAnyId(Bent):
    async def appended(self, append_id: str) -> Appended | None:
        append_id.encode()
        return await super().appended(append_id)
