"""Looking at what is kept: the view of a projection, as its readers see it, now and as it was."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from msgspec import Struct

from refold.errors import InvalidQuery, NotKept
from refold.runtime.books import Version
from refold.runtime.project import Definition
from refold.runtime.rows import RowState
from refold.runtime.running import Running
from refold.runtime.travel import Travel
from refold.view.api import Views
from refold.view.find import Condition, conditions_of, find_of, meets
from refold.view.search import highlighted
from refold.view.table import LARGEST, Dated, Key, Table

R = TypeVar("R", bound=Struct)
T = TypeVar("T")
WAIT_SECONDS = 30.0
"""How long a read waits for the position that it asks for, and a new view for its first version."""


class Change(Struct, Generic[R], frozen=True):
    """A row that has changed: as it is at a position; None if it is not there, or not among those that are watched."""

    position: int
    key: Key
    row: R | None


class Found(Struct, Generic[R], frozen=True):
    """A row that a search has found, and where: each field's text in pieces, with whether they were searched for."""

    row: R
    score: float
    highlights: dict[str, list[tuple[str, bool]]]


class View(Generic[R]):
    """The rows of a projection.

    Each call can wait until they show a position: `at_least=position`. With `as_of`, a recorded time or a position,
    rows are as they were then.
    """

    def __init__(self, row: type[R], name: str, running: Callable[[], Running]) -> None:
        self._cls = row
        self._name = name
        self._running = running

    async def get(self, *key: Any, at_least: int = 0, as_of: datetime | int | None = None) -> R | None:
        """Return the row with this key, or None."""
        table = self._plain()
        names = [name for name in table.key if name != "valid_to"]
        if len(key) != len(names):
            raise InvalidQuery(
                f"the key of {table.name} is {', '.join(names) or 'empty'}; {len(key)} values were given"
            )
        for value, name in zip(key, names, strict=True):
            takes = table.column(name).takes[0]
            if not isinstance(value, takes):
                raise InvalidQuery(f"{table.name}.{name} is of type {takes.__name__}, which {value!r} is not")
            conditions_of(table, {name: value})  # refuses what no row could hold
        if as_of is not None:
            await self._reached(at_least)
            return cast(R | None, await self._past().get(table, key, as_of))

        async def got(table: Table, views: Views) -> R | None:
            whole = (*key, LARGEST) if _is_dated(table) else key
            row = (await views.get(table, [whole])).get(whole)
            return cast(R | None, row.row if row is not None and _is_dated(table) else row)

        return await self._look(got, at_least)

    async def find(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        order: str | Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
        at_least: int = 0,
        as_of: datetime | int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[R]:
        """Return the rows that meet all conditions, in order.

        `where` compares fields with values: `{"status": "paid", "total__ge": 100}`, with eq, ne, lt, le, gt, ge
        and in. `order` names fields, `"-total"` from high to low; the key decides between equals. Fields that are
        collections or structs are compared as JSON texts, Decimals to about 15 digits.

        With `as_of`, a view without history is built from the log for this call, in a temporary file; `progress` is
        then told how many events are done, and how many there are.
        """
        find = find_of(self._plain(), where, order, limit, offset)
        if as_of is not None:
            await self._reached(at_least)
            return cast(list[R], await self._past().find(self._plain(), find, as_of, progress))

        async def found(table: Table, views: Views) -> list[R]:
            rows = await views.find(table, find_of(table, _now(table, where), order, limit, offset))
            return [row.row for row in rows] if _is_dated(table) else rows

        return await self._look(found, at_least)

    async def count(
        self, where: Mapping[str, Any] | None = None, *, at_least: int = 0, as_of: datetime | int | None = None
    ) -> int:
        """Count the rows that meet all conditions."""
        conditions = conditions_of(self._plain(), where)
        if as_of is not None:
            await self._reached(at_least)
            return await self._past().count(self._plain(), conditions, as_of)

        async def counted(table: Table, views: Views) -> int:
            return await views.count(table, conditions_of(table, _now(table, where)))

        return await self._look(counted, at_least)

    async def search(
        self,
        words: str,
        *,
        where: Mapping[str, Any] | None = None,
        limit: int = 20,
        offset: int = 0,
        at_least: int = 0,
    ) -> list[Found[R]]:
        """Return the rows whose `Searched` fields hold all the words, the best first.

        `tea*` is the beginning of a word, `"green tea"` are words that follow one another. Case and accents count
        for nothing.
        """
        conditions_of(self._plain(), where)

        async def found(table: Table, views: Views) -> list[Found[R]]:
            hits = await views.search(table, words, conditions_of(table, _now(table, where)), limit, offset)
            return [
                Found(hit.row.row if _is_dated(table) else hit.row, hit.score, highlighted(table, hit.row, words))
                for hit in hits
            ]

        return await self._look(found, at_least)

    def is_built(self, *, by_key: bool = False) -> bool:
        """Tell whether a question with `as_of` makes the view anew from the log, one after another.

        A question for one row, `by_key`, mostly folds that row only.
        """
        return self._past().is_built(self._plain(), by_key=by_key)

    async def watch(
        self, where: Mapping[str, Any] | None = None, *, after: int | None = None
    ) -> AsyncIterator[Change[R]]:
        """Go on giving the rows that change, as they are once the view shows it, for ever.

        Begins after a position, or now. With `where` only rows that meet it, as in `find`: one that does not, or not
        any more, is given as if it were gone. A row that changes faster than it is watched is given once. A table
        whose rows the events alone do not tell gives a change of no key.
        """
        conditions = conditions_of(self._plain(), where)
        store, definition = self._running().store, self._definition()
        start = await store.head() if after is None else after
        pages = store.follow(definition.query, after=start)
        try:
            async for page in pages:
                if not page:
                    continue
                await self._reached(page.upto, None)
                keys = definition.keys_of(page)
                if not keys and definition.coarse:
                    yield Change(page.upto, (), None)
                for start in range(0, len(keys), 500):
                    for key, row in await self._rows(keys[start : start + 500], conditions, page.upto):
                        yield Change(page.upto, key, row)
        finally:
            if isinstance(pages, AsyncGenerator):
                await pages.aclose()

    async def _rows(
        self, keys: Sequence[Key], conditions: Sequence[Condition], position: int
    ) -> list[tuple[Key, R | None]]:
        """Return the rows of keys, as they are at a position or later; None for one that does not meet conditions."""

        async def got(table: Table, views: Views) -> list[tuple[Key, R | None]]:
            dated = _is_dated(table)
            found = await views.get(table, [(*key, LARGEST) if dated else key for key in keys])
            rows = {key[:-1] if dated else key: row.row if dated else row for key, row in found.items()}
            if conditions:
                names = [column.name for column in self._plain().columns]
                rows = {key: row for key, row in rows.items() if meets(names, self._values(row), conditions)}
            return [(key, rows.get(key)) for key in keys]

        return await self._look(got, position, None)

    async def _reached(self, position: int, seconds: float | None = WAIT_SECONDS) -> Version | None:
        running = self._running()
        return await running.upkeeps[self._name].reached(position, seconds) if position else None

    def _past(self) -> Travel:
        return self._running().travels[self._name]

    def _definition(self) -> Definition:
        return self._running().upkeeps[self._name].definition

    async def _look(
        self, work: Callable[[Table, Views], Awaitable[T]], at_least: int = 0, seconds: float | None = WAIT_SECONDS
    ) -> T:
        """Look at the version that is read, once it shows a position; wait for one that has this program's fields."""
        versions = self._running().upkeeps[self._name].versions
        end = asyncio.get_running_loop().time() + WAIT_SECONDS
        while True:
            try:
                # What is looked at is the version that was waited for: another may be read by now that is behind.
                shown = await self._reached(at_least, seconds) or await versions.shown()
                return await work(self._table(shown), versions.books.views)
            except NotKept:
                if not self._running().follows or asyncio.get_running_loop().time() > end:
                    raise
                await asyncio.sleep(0.02)
                await versions.all()

    def _values(self, row: R) -> tuple[Any, ...]:
        table = self._plain()
        return table.dump(Dated(row, 0, LARGEST) if _is_dated(table) else row)

    def _table(self, version: Version) -> Table:
        return next(table for table in self._definition().tables(version.version) if table.cls is self._cls)

    def _plain(self) -> Table:
        """Return the table by which a question is checked: the names of its columns are those of any version."""
        return next(table for table in self._definition().tables("") if table.cls is self._cls)


class RowsView(View[R]):
    """The rows of a state that is kept as rows: written with their events, and so current at once.

    They have no past. `watch` gives what events have changed, not what another program has.
    """

    def __init__(self, row: type[R], state: RowState, running: Callable[[], Running]) -> None:
        super().__init__(row, state.name, running)
        self._state = state

    async def _reached(self, position: int, seconds: float | None = WAIT_SECONDS) -> Version | None:
        self._running()
        return None

    def _past(self) -> Travel:
        raise InvalidQuery(
            f"{self._name} is kept as rows, which have no past: there is only how they are now. To ask how they were, "
            "keep it as events: take it out of `rows`"
        )

    def _definition(self) -> Definition:
        return self._state.projection

    async def _look(
        self, work: Callable[[Table, Views], Awaitable[T]], at_least: int = 0, seconds: float | None = WAIT_SECONDS
    ) -> T:
        rows = self._running().rows
        await rows.make(self._state)
        return await work(self._state.table, rows.books.views)

    def _plain(self) -> Table:
        return self._state.table


def _is_dated(table: Table) -> bool:
    return table.key[-1:] == ("valid_to",)


def _now(table: Table, where: Mapping[str, Any] | None) -> dict[str, Any]:
    """Add to what is asked that rows are the current ones."""
    return {**(where or {}), "valid_to": LARGEST} if _is_dated(table) else dict(where or {})
