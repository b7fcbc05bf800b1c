"""Views as they were: from the rows that a view with history has kept, or folded from the log for the one who asks."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from refold.errors import InvalidQuery
from refold.model.record import StoredEvent
from refold.model.state import State
from refold.runtime.load import Loader, position_at
from refold.runtime.parking import Parking
from refold.runtime.project import Definition
from refold.runtime.versions import Versions
from refold.store.api import Store
from refold.store.sqlite.database import Database
from refold.view.api import Views
from refold.view.find import Condition, Find, conditions_of
from refold.view.sqlite import SqliteViews
from refold.view.table import LARGEST, Key, Table

MOST_EVENTS = 2_000_000
"""How many events are folded for one question; a view that is asked more keeps its history."""


class Travel:
    """The past of one projection."""

    def __init__(
        self,
        definition: Definition,
        versions: Versions,
        store: Store,
        loader: Loader,
        reached: Callable[[int], Any],
    ) -> None:
        self._definition = definition
        self._versions = versions
        self._store = store
        self._loader = loader
        self._reached = reached
        self._built: _Built | None = None
        self._building = asyncio.Lock()

    async def get(self, table: Table, key: Key, as_of: datetime | int) -> Any:
        """Return the row of a key as it was, or None."""
        position = await self.position(as_of)
        names = [name for name in table.key if name != "valid_to"]
        where = conditions_of(table, dict(zip(names, key, strict=True)))
        if not self._definition.how.history and issubclass(table.cls, State) and self._loader.finds(table.cls):
            return await self._folded(table, table.cls(*key), position)
        rows = await self.find(table, Find(where, limit=1), position)
        return rows[0] if rows else None

    async def find(
        self, table: Table, find: Find, as_of: datetime | int, progress: Callable[[int, int], None] | None = None
    ) -> list[Any]:
        """Return matching rows as they were."""
        position = await self.position(as_of)
        if self._definition.how.history:
            kept, views = await self._dated(table, position)
            past = (*find.where, *_valid_at(kept, position))
            rows = await views.find(kept, Find(past, find.order, find.limit, find.offset))
            return [row.row for row in rows]
        return await (await self._as_built(position, progress)).find(table, find)

    async def count(self, table: Table, where: Sequence[Condition], as_of: datetime | int) -> int:
        """Count matching rows as they were."""
        position = await self.position(as_of)
        if self._definition.how.history:
            kept, views = await self._dated(table, position)
            return await views.count(kept, (*where, *_valid_at(kept, position)))
        return await (await self._as_built(position, None)).count(table, where)

    def is_built(self, table: Table, *, by_key: bool) -> bool:
        """Tell whether a question makes a view anew from the log, rather than look at what is kept, or fold one key."""
        folds = by_key and issubclass(table.cls, State) and self._loader.finds(table.cls)
        return not self._definition.how.history and not folds

    async def position(self, as_of: datetime | int) -> int:
        """Return the last position that was known at a time, or not beyond a position."""
        if isinstance(as_of, datetime):
            if as_of.utcoffset() is None:
                raise InvalidQuery(f"as_of={as_of!r} has no time zone: use datetime(…, tzinfo=UTC)")
            return await position_at(self._store, as_of)
        if as_of < 0:
            raise InvalidQuery(f"as_of={as_of}: positions begin at 1, and 0 is before all")
        return min(as_of, await self._store.head())

    async def close(self) -> None:
        """Remove what was built for questions."""
        if self._built is not None:
            await self._built.close()
            self._built = None

    async def _folded(self, table: Table, initial: State, position: int) -> Any:
        loaded, _ = await self._loader.current([initial], position)
        [found] = loaded.values()
        return table.settled(found.state) if found.changed else None

    async def _dated(self, table: Table, position: int) -> tuple[Table, Views]:
        """Return the table of a view with history, once that has come so far."""
        await self._reached(position)
        shown = await self._versions.shown()
        tables = self._definition.tables(shown.version)
        return next(each for each in tables if each.cls is table.cls), self._versions.books.views

    async def _as_built(self, position: int, progress: Callable[[int, int], None] | None) -> "_Built":
        async with self._building:
            if self._built is None or self._built.position != position:
                await self.close()
                self._built = await _Built.at(position, self._definition, self._store, progress)
            return self._built


class _Built:
    """A view as it was at a position, in a file that is removed."""

    def __init__(self, position: int, definition: Definition) -> None:
        self.position = position
        self._definition = definition
        self._folder = tempfile.TemporaryDirectory(prefix="refold-")
        self._views = SqliteViews(Database(Path(self._folder.name) / "view.db", durability="relaxed"), own=True)

    @classmethod
    async def at(
        cls, position: int, definition: Definition, store: Store, progress: Callable[[int, int], None] | None
    ) -> "_Built":
        """Fold the log up to a position into the tables of a view."""
        built = cls(position, definition)
        try:
            await built._fold(store, progress)
        except BaseException:
            await built.close()
            raise
        return built

    async def find(self, table: Table, find: Find) -> list[Any]:
        """Return matching rows in order."""
        return await self._views.find(self._own(table), find)

    async def count(self, table: Table, where: Sequence[Condition]) -> int:
        """Count matching rows."""
        return await self._views.count(self._own(table), where)

    async def close(self) -> None:
        """Remove the file."""
        await self._views.close()
        self._folder.cleanup()

    def _own(self, table: Table) -> Table:
        return next(each for each in self._definition.tables("") if each.cls is table.cls)

    async def _fold(self, store: Store, progress: Callable[[int, int], None] | None) -> None:
        await self._views.create(self._definition.tables(""))
        worker, done = self._definition.worker(self._views, ""), 0
        refusing = _Refusing(self._definition.name)
        async for page in store.read(self._definition.query, upto=self.position):
            done += len(page)
            if done > MOST_EVENTS:
                raise InvalidQuery(
                    f"{self._definition.name} as of position {self.position} is made of more than {MOST_EVENTS:,} "
                    f"events: keep its history, kept({self._definition.name}, history=True)"
                )
            await worker.handle(page, refusing)
            await self._views.write(list(worker.take()))
            if progress is not None:
                progress(page.upto, self.position)


class _Refusing(Parking):
    """Parks nothing: a question about the past has one answer, or none."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __bool__(self) -> bool:
        return False

    def holds(self, keys: Sequence[str]) -> bool:
        """Hold nothing up."""
        return False

    def values(self, prefix: str) -> set[str]:
        """Hold nothing up."""
        return set()

    def fail(
        self,
        stored: StoredEvent,
        keys: Sequence[str],
        error: BaseException,
        state: object = None,
        *,
        by_itself: bool = True,
    ) -> None:
        """Say which event cannot be folded; what the program says of it may be nobody's business, and is the cause."""
        raise InvalidQuery(
            f"{self._name} cannot be shown as it was: the event at position {stored.position} ({stored.type}) "
            f"fails with {type(error).__name__}",
            position=stored.position,
        ) from error


def _valid_at(table: Table, position: int) -> tuple[Condition, ...]:
    bounds = {"valid_from__le": position, "valid_to__gt": min(position, LARGEST - 1)}
    return conditions_of(table, bounds)
