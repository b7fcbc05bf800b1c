"""Wrong stores: handles that know nothing of each other, files that come back changed, stores closed by half."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from refold.errors import StoreClosed
from refold.model.query import AppendCondition
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import Appended, Capability
from refold.store.memory import _Remembered
from tests.testing.bending import Bent, breaks
from tests.testing.right_stores import FileStore


@breaks("h1")
class ReadsWhatItKnows(FileStore):
    async def read(self, *args: Any, **options: Any) -> Any:
        self._check_open()
        async for page in super(FileStore, self).read(*args, **options):
            yield page


@breaks("h2")
class RemembersTheHead(FileStore):
    async def head(self) -> int:
        return await super(FileStore, self).head()


@breaks("h2")
class HeadIsItsOwnLastEvent(FileStore):
    _own: int | None = None

    async def append(self, *args: Any, **options: Any) -> Appended:
        result = await super().append(*args, **options)
        self._own = result.last
        return result

    async def head(self) -> int:
        head = await super().head()
        return head if self._own is None else self._own


@breaks("h3")
class ChecksWhatItKnows(FileStore):
    def _check(self, condition: AppendCondition) -> None:
        known = self._others = getattr(self, "_others", [])
        everything = self._events
        self._events = [replace(one, type="?", tags=()) if one.position in known else one for one in everything]
        try:
            super()._check(condition)
        finally:
            self._events = everything

    def _take_in(self, new: list[StoredEvent], append_id: str | None, known: _Remembered) -> None:
        super()._take_in(new, append_id, known)
        if hasattr(self, "_at_opening"):
            self._others = [*getattr(self, "_others", []), *(one.position for one in new)]


@breaks("h4")
class KnowsItsOwnAppendIds(FileStore):
    def _take_in(self, new: list[StoredEvent], append_id: str | None, known: _Remembered) -> None:
        opened = hasattr(self, "_at_opening")
        super()._take_in(new, None if opened else append_id, known)


@breaks("h5")
class FollowsItself(FileStore):
    async def _wake(self) -> None:
        """Look for nobody."""


@breaks("h6")
class ClosesEveryHandle(FileStore):
    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path, **options)
        self._handles = _HANDLES.setdefault(path, [])
        self._handles.append(self)

    async def close(self) -> None:
        while self._handles:
            await FileStore.close(self._handles.pop())


_HANDLES: dict[Path, list[ClosesEveryHandle]] = {}


@breaks("h7")
class OffersWhatIsNotTested(Bent):
    capabilities = frozenset({Capability.SHARED})


@breaks("r1")
class CountsFromOneAgain(FileStore):
    async def append(self, *args: Any, **options: Any) -> Appended:
        before = len(self._events)
        result = await super().append(*args, **options)
        if self._at_opening and before < len(self._events):
            for place in range(before, len(self._events)):
                self._events[place] = replace(self._events[place], position=place + 1 - self._at_opening)
            return Appended(result.first - self._at_opening, result.last - self._at_opening)
        return result


@breaks("r2")
class ForgetsAppendIdsWhenReopened(FileStore):
    def _take_in(self, new: list[StoredEvent], append_id: str | None, known: _Remembered) -> None:
        opened = hasattr(self, "_at_opening")
        super()._take_in(new, append_id if opened else None, known)


@breaks("r3")
class AcknowledgesWhenClosed(FileStore):
    async def append(self, events: Sequence[NewEvent], *args: Any, **options: Any) -> Appended:
        self._check_open()
        await asyncio.sleep(0)
        try:
            return await super().append(events, *args, **options)
        except StoreClosed:
            return Appended(self._head + 1, self._head + len(events))


@breaks("r4")
class ChecksWhatCameSinceItWasOpened(FileStore):
    def _check(self, condition: Any) -> None:
        if condition.after < self._at_opening:
            condition = replace(condition, after=self._at_opening)
        super()._check(condition)


@breaks("s1")
class ClosesOnce(Bent):
    async def close(self) -> None:
        self._check_open()
        await super().close()


@breaks("s2")
class HasAHeadWhenClosed(Bent):
    async def head(self) -> int:
        return self._head


@breaks("s3")
class LeavesFollowersWaiting(Bent):
    async def close(self) -> None:
        self._closed = True
