"""A store with somebody else at work: something happens just before an append, or a read."""

from collections.abc import Awaitable, Callable
from typing import Any

from refold.store.api import Appended, Store

Hook = Callable[[], Awaitable[Any]]


class Meddled:
    """Passes everything on to a store, and runs a hook before each append and each look for an append id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.before_append: Hook | None = None
        self.after_recall: Hook | None = None
        self.before_read: Hook | None = None
        self.appends = 0
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, *args: Any, **options: Any) -> Appended:
        self.appends += 1
        if self.before_append:
            await self.before_append()
        return await self._store.append(*args, **options)

    async def appended(self, append_id: str) -> Appended | None:
        found = await self._store.appended(append_id)
        if self.after_recall:
            await self.after_recall()
        return found

    async def read(self, *args: Any, **options: Any) -> Any:
        self.reads += 1
        if self.before_read:
            await self.before_read()
        async for page in self._store.read(*args, **options):
            yield page
