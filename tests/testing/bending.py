"""The log in memory with places to bend it, and the list of the wrong stores that are made of it."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from refold.model.query import AppendCondition, Query, QueryItem
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import Appended, Conditions, Page, conditions
from refold.store.memory import MemoryStore
from refold.testing import StoreFixture
from tests.testing.right_stores import FileStore, GappedStore

PATIENCE = 2.0
"""Seconds that a wrong store is waited for; a right one needs none."""

T = TypeVar("T", bound=type)


class Wrong(Struct):
    """A wrong store, the rules that only it fails, and the nets in which it must be caught."""

    store: type
    rules: frozenset[str]
    nets: frozenset[str]
    processes: bool

    def fixture(self, tmp_path: Path) -> StoreFixture:
        if issubclass(self.store, FileStore):
            opener: Callable[..., Any] = partial(self.store, tmp_path / "log")
            return StoreFixture(
                opener,
                handles=True,
                reopens=True,
                processes=self.processes,
                clock=True,
                failpoint=True,
                patience=10.0 if self.processes else PATIENCE,
            )
        gaps = issubclass(self.store, GappedStore)
        failpoint = hasattr(self.store, "before_commit")
        return StoreFixture(self.store, clock=True, gaps=gaps, failpoint=failpoint, patience=PATIENCE)


WRONG: list[Wrong] = []


def breaks(*rules: str, nets: Sequence[str] = (), processes: bool = False) -> Callable[[T], T]:
    """List a store as one that fails exactly these rules among the narrow ones, and is caught in these nets."""

    def listed(store: T) -> T:
        WRONG.append(Wrong(store, frozenset(rules), frozenset(nets), processes))
        return store

    return listed


class Odd(Query, frozen=True, kw_only=True):
    """A query whose items are matched by another function than theirs."""

    test: Callable[[QueryItem, str, Collection[str]], bool]

    def matches(self, type: str, tags: Collection[str]) -> bool:
        return not self.items or any(self.test(item, type, tags) for item in self.items)


def lower(name: str) -> str:
    """Make ASCII letters small, as `NOCASE` does."""
    return name.encode().lower().decode()


class Bent(MemoryStore):
    """The log in memory with places to bend it; what is not overridden is right. Following is never bent by reads."""

    def given(self, events: Sequence[NewEvent]) -> Sequence[NewEvent]:
        """Bend the batch before it is looked at."""
        return events

    def kept(self, event: StoredEvent) -> StoredEvent:
        """Bend an event as it is stored."""
        return event

    def relied(self, several: Sequence[AppendCondition]) -> Sequence[AppendCondition]:
        """Bend the conditions of an append."""
        return several

    def asked(self, query: Query, **options: Any) -> Query:
        """Bend the query of a read."""
        return query

    def bounds(self, query: Query, options: dict[str, Any]) -> dict[str, Any]:
        """Bend the options of a read."""
        return options

    def shown(self, page: Page, query: Query, options: dict[str, Any]) -> Page:
        """Bend a page of a read."""
        return page

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        before = len(self._events)
        several = conditions(condition)
        if events and (append_id is None or self._recall(append_id) is None):
            several = self.relied(several)
        result = await super().append(self.given(events), several, append_id=append_id)
        self._events[before:] = [self.kept(one) for one in self._events[before:]]
        return result

    async def read(self, query: Query = Query(), **options: Any) -> AsyncIterator[Page]:
        options = {"after": 0, "upto": None, "backwards": False, "limit": None} | options
        pages = super().read(self.asked(query, **options), **self.bounds(query, options))
        async for page in pages:
            yield self.shown(page, query, options)

    async def follow(self, query: Query = Query(), *, after: int = 0) -> AsyncIterator[Page]:
        right = MemoryStore()
        right.__dict__ = self.__dict__  # the same log, read rightly
        async for page in MemoryStore.follow(right, query, after=after):
            yield page
