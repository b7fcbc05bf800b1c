"""Moving a state between rows and events: how the two differ, and rows made of events, or brought from elsewhere."""

from collections.abc import AsyncIterator, Iterable, Sequence

from msgspec import Struct

from refold.errors import InvalidQuery
from refold.model.schema import Schema
from refold.model.state import Identity, State
from refold.runtime.books import CHECKPOINTS, Checkpoint
from refold.runtime.load import Loader, checked_identity
from refold.runtime.rows import FILLING, RowState, RowStates, Seen
from refold.store.api import Store
from refold.view.api import Delete, Expect, Put
from refold.view.find import Find
from refold.view.table import Key

AT_ONCE = 500


class Difference(Struct, frozen=True):
    """A row that is not what its events add up to."""

    row: State
    """The initial state if there is none."""
    folded: State
    """The initial state if there are no events."""


class Moving:
    """Compares the rows of states with their events, and makes rows."""

    def __init__(self, rows: RowStates, schema: Schema, store: Store) -> None:
        self._rows = rows
        self._store = store
        self._loader = Loader(store, schema, hot=0, snapshot_every=None, books=None)

    async def differences(self, name: str) -> AsyncIterator[Difference]:
        """Go through the rows of a state that are not what their events add up to; others may write meanwhile."""
        of = self._rows.named(name)
        await self._rows.make(of)
        told: set[Key] = set()
        async for keys in self._all_keys(of):
            for key in keys:
                if key not in told and (found := await self._difference(of, key)):
                    told.add(key)
                    yield found

    async def fill(self, name: str) -> int:
        """Make a row of its events for each state that has none; return how many.

        Nothing else may write these states meanwhile. One that was interrupted goes on.
        """
        of, made = self._rows.named(name), 0
        books = self._rows.books
        await books.open()
        await books.views.create([of.table])
        if await books.checkpoint(of.mark) is None:
            if await books.views.find(of.table, Find(limit=1)):
                raise InvalidQuery(
                    f"there is a table {of.table.stored} already, of the time when {name} was kept as rows before: "
                    "rename it or drop it"
                )
            await books.write(Put(CHECKPOINTS, [Checkpoint(of.mark, trouble=FILLING)]))
        await books.views.widen(of.table, of.blank)
        async for page in self._store.read(of.query):
            keys = of.projection.keys_of(page)
            there = await books.views.get(of.table, keys)
            missing = [of.kind.initial(*key) for key in keys if key not in there]
            if missing:
                loaded, _ = await self._loader.current(missing)
                rows = [of.table.settled(each.state) for each in loaded.values()]
                made += await self._put_new(of, rows)
        await books.write(Put(CHECKPOINTS, [Checkpoint(of.mark)]))
        return made

    async def leave(self, name: str) -> None:
        """Keep a state as events from now on; refuse it if its events do not add up to its rows."""
        of = self._rows.named(name)
        async for each in self.differences(name):
            raise InvalidQuery(
                f"{each.row} is not what its events add up to, {each.folded}: record what has made it so first. "
                f"`refold rows check APP {name}` shows all such rows"
            )
        await self._rows.books.write(Delete(CHECKPOINTS, [(of.mark,)]))

    async def import_rows(self, states: Iterable[State]) -> int:
        """Put rows without events, where there are none yet; return how many."""
        made, some = 0, dict[Identity, State]()
        for state in states:
            some[checked_identity(state)] = state
            if len(some) == AT_ONCE:
                made += await self._import(some)
                some = {}
        return made + await self._import(some)

    async def _import(self, states: dict[Identity, State]) -> int:
        made = 0
        for cls in dict.fromkeys(map(type, states.values())):
            of = self._rows.named(cls.__name__)
            await self._rows.make(of)
            mine = {identity[1:]: of.table.settled(each) for identity, each in states.items() if type(each) is cls}
            there = await self._rows.books.views.get(of.table, list(mine))
            made += await self._put_new(of, [each for key, each in mine.items() if key not in there])
        return made

    async def _put_new(self, of: RowState, rows: Sequence[State]) -> int:
        """Put rows where there are none; if somebody has been faster with one of them, all but that."""
        write = self._rows.books.views.write

        async def put(some: Sequence[State]) -> bool:
            return await write(
                [Put(of.table, some, shared=True)], [Expect(of.table, of.table.key_of(row)) for row in some]
            )

        if not rows or await put(rows):
            return len(rows)
        return sum([await put([row]) for row in rows])

    async def _all_keys(self, of: RowState) -> AsyncIterator[Sequence[Key]]:
        """Go through the keys of all rows, and of all events that have no row."""
        views, table, after = self._rows.books.views, of.table, None
        while rows := await views.find(table, Find(limit=AT_ONCE, after=after)):
            keys = [table.key_of(row) for row in rows]
            yield keys
            after = keys[-1]
            if not table.key:
                break
        async for page in self._store.read(of.query):
            found = of.projection.keys_of(page)
            there = await views.get(table, found)
            yield [key for key in found if key not in there]

    async def _difference(self, of: RowState, key: Key) -> Difference | None:
        """Compare a row with its events, at a moment when neither changes."""
        identity = of.identity(key)
        seen: Seen | None = None
        while True:
            loaded, _ = await self._loader.current([of.kind.initial(*key)])
            before, seen = seen, (await self._rows.current([identity]))[identity]
            folded = of.table.settled(loaded[identity].state)
            if seen.state == folded:
                return None
            if before is not None and before.held == seen.held:
                return Difference(seen.state, folded)
