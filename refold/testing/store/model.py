"""Rule Q14 and the model: generated queries against a plain search, generated calls against the log in memory."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from refold.errors import RefoldError
from refold.model.query import AppendCondition, Query, QueryItem
from refold.model.record import NewEvent, StoredEvent
from refold.store.api import Appended, Page, Store
from refold.store.memory import MemoryStore
from refold.testing.store.fixture import StoreFixture
from refold.testing.store.rule import StoreRules, marked
from refold.testing.store.tools import pages, positions, read

types = st.sampled_from([f"Type{n}" for n in range(10)])
tags = st.sampled_from([f"tag:{n}" for n in range(10)])
few_types = st.sampled_from(["A", "B", "C", "D"])
few_tags = st.sampled_from(["t", "u", "v", "w"])


def quickly() -> settings:
    """Return how a generated rule is run; made when it is, so that a profile of Hypothesis counts."""
    return settings(
        max_examples=60,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.differing_executors],
    )


def queries(types: st.SearchStrategy[str], tags: st.SearchStrategy[str]) -> st.SearchStrategy[Query]:
    """Draw none to three items of none to four types and none to three tags."""
    names = st.tuples(st.lists(types, max_size=4), st.lists(tags, max_size=3)).filter(any)
    items = names.map(lambda drawn: QueryItem(tuple(drawn[0]), tuple(drawn[1])))
    return st.lists(items, max_size=3).map(lambda drawn: Query(tuple(drawn)))


def batches(types: st.SearchStrategy[str], tags: st.SearchStrategy[str]) -> st.SearchStrategy[list[NewEvent]]:
    """Draw one to four events."""
    events = st.builds(
        NewEvent,
        types,
        st.binary(max_size=3),
        st.lists(tags, max_size=4).map(tuple),
        st.integers(1, 3),
        st.binary(max_size=2),
    )
    return st.lists(events, min_size=1, max_size=4)


def _one_item(name: str, tags: set[str]) -> Query:
    return Query.of(types=name, tags=tags)


narrow = st.builds(_one_item, few_types, st.sets(few_tags, min_size=2))
"""Conditions that mostly hold."""


class Anchor(Struct, frozen=True):
    """A place in the log by its meaning, so that it is the same place in logs that number differently."""

    name: Literal["before all", "first", "middle", "head", "beyond"]
    below: bool = False
    """The position just below it: perhaps an event's, perhaps in a gap."""


START = Anchor("before all")
anchors = st.builds(Anchor, st.sampled_from(["before all", "first", "middle", "head", "beyond"]), st.booleans())


class Append(Struct, frozen=True):
    """An append with its conditions, each on an anchor."""

    batch: list[NewEvent]
    conditions: list[tuple[Query, Anchor]]
    append_id: str | None


class Read(Struct, frozen=True):
    """A read with all its options."""

    query: Query
    after: Anchor
    upto: Anchor | None
    backwards: bool
    limit: int | None


Step: TypeAlias = Append | Read
Check: TypeAlias = Callable[[Store], Coroutine[Any, Any, None]]

appends = st.builds(
    Append,
    batches(few_types, few_tags),
    st.just([]) | st.lists(st.tuples(queries(few_types, few_tags) | narrow, anchors), max_size=2),
    st.sampled_from([None, None, None, "id:1", "id:2"]),
)
reads = st.builds(
    Read,
    queries(few_types, few_tags),
    st.just(START) | anchors,
    st.none() | anchors,
    st.booleans(),
    st.sampled_from([None, 0, 1, 2, 5]),
)
steps = st.lists(appends | reads | reads, min_size=12, max_size=40)


class Tried(Struct, frozen=True):
    """What came of a step, with places in the log counted instead of positions, so that logs can be compared."""

    error: str = ""
    places: tuple[int, int] = (0, 0)
    events: tuple[tuple[int, str, int, tuple[str, ...], bytes, bytes], ...] = ()


class Walker:
    """Takes steps on a store, and translates between its positions and places in the log."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._positions: list[int] = []
        """Of all events: rule A19 says that those between the first and last of a batch are its own."""

    async def take(self, step: Step) -> Tried:
        """Take a step and return what came of it."""
        try:
            match step:
                case Append():
                    result = await self._append(step)
                    if result.last > max(self._positions, default=0):
                        self._positions += range(result.first, result.last + 1)
                    return Tried(places=(self._place(result.first), self._place(result.last)))
                case Read():
                    found = await self._read(step)
                    events = tuple(self._told(one) for page in found for one in page)
                    # A read of none may say `after`, or find out that nothing was left out.
                    upto = 0 if step.limit == 0 else found[-1].upto
                    return Tried(places=(0, self._place(upto)), events=events)
        except RefoldError as error:
            return Tried(error=error.code)

    async def end(self) -> Tried:
        """Return the whole log, and its head."""
        found = await read(self.store)
        assert positions(found) == self._positions
        return Tried(places=(0, self._place(await self.store.head())), events=tuple(map(self._told, found)))

    async def _append(self, step: Append) -> Appended:
        conditions = [AppendCondition(query, self._position(after)) for query, after in step.conditions]
        return await self.store.append(step.batch, conditions, append_id=step.append_id)

    async def _read(self, step: Read) -> list[Page]:
        return await pages(
            self.store,
            step.query,
            after=self._position(step.after),
            upto=None if step.upto is None else self._position(step.upto),
            backwards=step.backwards,
            limit=step.limit,
        )

    def _position(self, anchor: Anchor) -> int:
        at = [0, *self._positions]
        match anchor.name:
            case "before all":
                return 0
            case "first":
                found = at[min(1, len(at) - 1)]
            case "middle":
                found = at[len(at) // 2]
            case "head":
                found = at[-1]
            case "beyond":
                return at[-1] + 1_000
        return max(found - 1, 0) if anchor.below else found

    def _place(self, position: int) -> int:
        """Count the events up to a position; beyond the head is one more."""
        return sum(1 for one in self._positions if one <= position) + (position > max(self._positions, default=0))

    def _told(self, one: StoredEvent) -> tuple[int, str, int, tuple[str, ...], bytes, bytes]:
        return (self._place(one.position), one.type, one.version, tuple(sorted(one.tags)), one.data, one.metadata)


class ModelRules(StoreRules):
    """Generated queries against a plain search, generated calls against the log in memory."""

    @marked(net=True)
    def test_q14_random_queries(self, tmp_path: Path) -> None:
        """Q14: generated queries find what a search through all events finds."""

        @quickly()
        @given(st.lists(batches(types, tags), max_size=12), st.lists(queries(types, tags), min_size=1, max_size=12))
        def check(noted: list[list[NewEvent]], asked: list[Query]) -> None:
            self._run(tmp_path, lambda store: self._check_queries(store, noted, asked))

        check()

    @marked(net=True)
    def test_m1_model(self, tmp_path: Path) -> None:
        """M1: whatever is called in whatever order, the same comes of it as in the log in memory."""

        @quickly()
        @given(steps)
        def check(taken: list[Step]) -> None:
            self._run(tmp_path, lambda store: self._check_steps(store, taken))

        check()

    def _run(self, tmp_path: Path, check: Check) -> None:
        """Run a check on a store of its own."""
        fixture = self.fixture(Path(tempfile.mkdtemp(dir=tmp_path)))
        asyncio.run(on_store(fixture, check))

    async def _check_queries(self, store: Store, noted: Sequence[list[NewEvent]], asked: Sequence[Query]) -> None:
        for batch in noted:
            await store.append(batch)
        everything = await read(store)
        assert [one.data for one in everything] == [one.data for batch in noted for one in batch]
        for query in asked:
            expected = [one for one in everything if query.matches(one.type, one.tags)]
            assert await read(store, query) == expected
            assert await read(store, query, backwards=True) == expected[::-1]

    async def _check_steps(self, store: Store, taken: Sequence[Step]) -> None:
        tested, model = Walker(store), Walker(MemoryStore())
        for step in taken:
            assert await tested.take(step) == await model.take(step), step
        assert await tested.end() == await model.end()


async def on_store(fixture: StoreFixture, check: Check) -> None:
    """Check a store that is closed afterwards, and that may not hang."""
    async with asyncio.timeout(fixture.patience):
        store = await fixture.connect()
        try:
            await check(store)
        finally:
            await store.close()
