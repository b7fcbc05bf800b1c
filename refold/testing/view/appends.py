"""Rules about rows and events that are written in one step, and about rows that other programs write too."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

import pytest

from refold.errors import AppendIdReused, Conflict, WiringError
from refold.model.query import AppendCondition, Query
from refold.model.record import NewEvent, StoredEvent
from refold.model.state import State
from refold.store.api import Appended, Store
from refold.testing.view.tools import (
    COMBINED,
    ONLY,
    PATIENCE,
    THING,
    Noted,
    Only,
    Thing,
    ThingId,
    ViewRules,
    everything,
    rule,
    values,
)
from refold.view.api import Delete, Expect, Put, Views, Write
from refold.view.find import Find
from refold.view.table import Searched, table_of

Body: TypeAlias = Callable[[Any, Store, Views], Coroutine[Any, Any, None]]


class Narrow(State):
    """What a table is made of first."""

    thing_id: ThingId
    text: str = ""

    def evolve(self, event: Noted) -> Self:
        """Stay as it is."""
        return self


class Wide(State):
    """What its class has become: with new columns, and in another order."""

    thing_id: ThingId
    level: int = 7
    note: str | None = None
    text: str = ""
    words: tuple[str, ...] = ("a",)

    def evolve(self, event: Noted) -> Self:
        """Stay as it is."""
        return self


class Retyped(State):
    """A column that holds something else."""

    thing_id: ThingId
    text: int = 0

    def evolve(self, event: Noted) -> Self:
        """Stay as it is."""
        return self


class ToSearch(State):
    """A column that is to be searched."""

    thing_id: ThingId
    text: Annotated[str, Searched()] = ""

    def evolve(self, event: Noted) -> Self:
        """Stay as it is."""
        return self


NARROW = table_of(Narrow, "Grown", ["thing_id"], version="rows")
WIDE = table_of(Wide, "Grown", ["thing_id"], version="rows")


def beside(body: Body) -> Callable[[Any, Path], None]:
    """Make a test of a coroutine that takes an open log, and the views beside it."""

    def test(self: Any, tmp_path: Path) -> None:
        async def run() -> None:
            async with asyncio.timeout(PATIENCE), self.beside(tmp_path) as (log, views):
                await body(self, log, views)

        asyncio.run(run())

    test.__name__, test.__qualname__ = body.__name__, body.__qualname__
    test.__doc__, test.__module__ = body.__doc__, body.__module__
    return test


def noted(data: object, *tags: str) -> NewEvent:
    """Return an event."""
    return NewEvent("Noted", str(data).encode(), tags)


async def events(log: Store) -> list[StoredEvent]:
    """Return all events."""
    return [each async for page in log.read() for each in page]


async def count_up(views: Views, key: str, who: object) -> int:
    """Add one to a row, with an event that says what it has become; return how often it took."""
    for attempt in range(1, 500):
        held = (await views.look(THING, [(key,)])).get((key,))
        await asyncio.sleep(0)
        number = (held.row.integer or 0) + 1 if held else 1
        expect = Expect(THING, (key,), held=held.values if held else None)
        put = Put(THING, [Thing(key, integer=number, text=str(who))], shared=True)
        if await views.append([noted(number, f"thing:{key}")], writes=[put], expects=[expect]):
            return attempt
    raise AssertionError("it never took")


class AppendRules(ViewRules):
    """What an append beside rows does, or does not."""

    @beside
    async def test_rows_and_events_are_one_step(self, log: Store, views: Views) -> None:
        """An append with writes does both, and says where the events stand; plain appends go on beside it."""
        await views.create([THING, ONLY])
        assert await log.append([noted(0)]) == Appended(1, 1)
        writes: list[Write] = [Put(THING, [Thing("a"), Thing("b")]), Delete(THING, [("b",)]), Put(ONLY, [Only(3)])]
        assert await views.append([noted(1), noted(2)], writes=writes) == Appended(2, 3)
        assert await log.append([noted(3)]) == Appended(4, 4)
        assert [each.data for each in await events(log)] == [b"0", b"1", b"2", b"3"]
        assert await log.head() == 4
        assert await everything(views, THING) == [Thing("a")]
        assert await everything(views, ONLY) == [Only(3)]
        assert await views.append([noted(4)]) == Appended(5, 5)

    @beside
    async def test_a_condition_that_fails_changes_no_row(self, log: Store, views: Views) -> None:
        """If the condition does not hold, no row is written; events of an append beside rows fail those of others."""
        await views.create([THING])
        mine = Query.of(tags="t")
        await views.append([noted(1, "t")], AppendCondition(mine, 0), writes=[Put(THING, [Thing("a")])])
        with pytest.raises(Conflict):
            await views.append([noted(2, "t")], AppendCondition(mine, 0), writes=[Put(THING, [Thing("a", text="2")])])
        with pytest.raises(Conflict):
            await log.append([noted(2, "t")], AppendCondition(mine, 0))
        assert await everything(views, THING) == [Thing("a")]
        assert await log.head() == 1

    @beside
    async def test_an_expectation_that_fails_appends_nothing(self, log: Store, views: Views) -> None:
        """If an expectation does not hold, None is returned, and there is neither event nor row."""
        await views.create([THING, ONLY])
        await views.write([Put(THING, [Thing("a", integer=1)])])
        put = Put(THING, [Thing("b")])
        for broken in (Expect(THING, ("a",)), Expect(THING, ("a",), {"integer": 2}), Expect(THING, ("c",), {})):
            assert await views.append([noted(1)], append_id="x", writes=[put], expects=[broken]) is None
        held = [Expect(THING, ("a",), {"integer": 1}), Expect(THING, ("b",)), Expect(ONLY, ())]
        assert await log.head() == 0
        assert await log.appended("x") is None
        assert await everything(views, THING) == [Thing("a", integer=1)]
        assert await views.append([noted(1)], append_id="x", writes=[put], expects=held) == Appended(1, 1)
        assert await views.count(THING, ()) == 2

    @beside
    async def test_an_append_that_is_repeated_changes_no_row(self, log: Store, views: Views) -> None:
        """An append with an id that is known returns the first one's result and writes nothing, whatever it expects."""
        await views.create([THING])
        absent, one = Expect(THING, ("a",)), Expect(THING, ("a",), {"integer": 1})
        first = await views.append([noted(1)], append_id="x", writes=[Put(THING, [Thing("a", integer=1)])])
        again = Put(THING, [Thing("a", integer=2)])
        for expects in ([], [one], [absent]):
            assert await views.append([noted(1)], append_id="x", writes=[again], expects=expects) == first
            with pytest.raises(AppendIdReused):
                await views.append([noted(2)], append_id="x", writes=[again], expects=expects)
        assert await log.append([noted(1)], append_id="x") == first
        assert await everything(views, THING) == [Thing("a", integer=1)]
        assert await log.head() == 1

    @beside
    async def test_what_no_row_can_hold_is_not_appended(self, log: Store, views: Views) -> None:
        """If one row cannot be kept, there is no event, and the log goes on."""
        await views.create([THING])
        for wrong in (Thing("b", real=float("nan")), Thing("b", integer=2**70), Thing("b", text="\ud800")):
            with pytest.raises((TypeError, ValueError, OverflowError)):
                await views.append([noted(1)], writes=[Put(THING, [Thing("a")]), Put(THING, [wrong])])
            await views.append([noted(2)])
        assert {each.data for each in await events(log)} == {b"2"}
        assert await everything(views, THING) == []

    @beside
    async def test_no_change_is_lost(self, log: Store, views: Views) -> None:
        """Of many that add to the same rows at once each counts once, and the events tell of each sum in turn."""
        await views.create([THING])
        took = await asyncio.gather(*[count_up(views, "ab"[n % 2], n) for n in range(24)])
        assert sum(took) > 24, "nobody came in between: the test says little"
        assert [(row.thing_id, row.integer) for row in await views.find(THING, Find())] == [("a", 12), ("b", 12)]
        for tag in ("thing:a", "thing:b"):
            told = [int(each.data) for each in await events(log) if each.tags == (tag,)]
            assert told == list(range(1, 13))

    def test_no_change_of_two_handles_is_lost(self, tmp_path: Path) -> None:
        """Of many that add to a row at once, through whatever handle, each counts once."""

        async def run() -> None:
            async with self.beside(tmp_path) as (log, one), self.beside(tmp_path) as (_, two):
                for each in (one, two):
                    await each.create([THING])
                await asyncio.gather(*[count_up((one, two)[n % 2], "a", n) for n in range(16)])
                for each in (one, two):
                    assert [row.integer for row in await each.find(THING, Find())] == [16]
                assert [int(each.data) for each in await events(log)] == list(range(1, 17))

        asyncio.run(run())

    @beside
    async def test_two_that_rely_on_what_the_other_puts(self, log: Store, views: Views) -> None:
        """Of two appends that each rely on a row to be absent, which the other one puts, one is done."""
        await views.create([THING])
        for step in range(12):
            one, two = f"{step}-1", f"{step}-2"
            done = await asyncio.gather(
                views.append([noted(1)], writes=[Put(THING, [Thing(one)])], expects=_absent(one, two)[::-1]),
                views.append([noted(2)], writes=[Put(THING, [Thing(two)])], expects=_absent(two, one)[::-1]),
            )
            assert len([each for each in done if each is not None]) == 1
        assert await log.head() == await views.count(THING, ()) == 12

    @rule
    async def test_what_is_looked_at_can_be_expected(self, views: Views) -> None:
        """A row can be expected just as it is held, whatever its values; not once it is another, or not there."""
        await views.create([THING, ONLY, COMBINED])
        things = list(values())
        await views.write([Put(THING, things), Put(ONLY, [Only(1)])])
        held = await views.look(THING, [(each.thing_id,) for each in things] + [("none",)])
        assert {key: each.row for key, each in held.items()} == await views.get(THING, list(held))
        assert len(held) == len(things)
        only = (await views.look(ONLY, [()]))[()]
        assert only.row == Only(1)
        expects = [Expect(THING, key, held=each.values) for key, each in held.items()]
        assert await views.write([], [*expects, Expect(ONLY, (), held=only.values)])
        key = (things[0].thing_id,)
        for changed in (Thing(things[0].thing_id, text="changed"), Thing(things[0].thing_id, words=frozenset("x"))):
            await views.write([Put(THING, [changed])])
            assert not await views.write([Put(ONLY, [Only(9)])], [Expect(THING, key, held=held[key].values)])
        await views.write([Delete(THING, [key]), Delete(ONLY, [()])])
        assert not await views.write([], [Expect(THING, key, held=held[key].values)])
        assert not await views.write([], [Expect(ONLY, (), held=only.values)])
        assert await views.look(THING, [key]) == {}

    @rule
    async def test_a_table_gets_the_columns_that_it_lacks(self, views: Views) -> None:
        """Rows stay, with the values of one that is named in new columns; who knows fewer columns changes no others."""
        await views.create([NARROW])
        await views.write([Put(NARROW, [Narrow("a", "x")])])
        for _ in range(2):
            await views.widen(WIDE, Wide("", level=5))
        wide = Wide("a", level=5, text="x")
        assert await everything(views, WIDE) == [wide]
        held = (await views.look(WIDE, [("a",)]))["a",]
        expect = Expect(WIDE, ("a",), held=held.values)
        assert await views.write([Put(WIDE, [wide.replace(level=6, note="n")], shared=True)], [expect])
        await views.widen(NARROW, Narrow(""))
        await views.write([Put(NARROW, [Narrow("a", "y"), Narrow("b")], shared=True)])
        assert await views.get(WIDE, [("a",)]) == {("a",): Wide("a", level=6, note="n", text="y")}
        assert await everything(views, NARROW) == [Narrow("a", "y"), Narrow("b")]

    @rule
    async def test_a_table_that_would_be_another_stays(self, views: Views) -> None:
        """What cannot be had by adding columns is refused, and changes nothing."""
        await views.create([NARROW])
        await views.write([Put(NARROW, [Narrow("a", "x")])])
        others = [
            (table_of(Narrow, "Grown", ["thing_id", "text"], version="rows"), Narrow("")),
            (table_of(Narrow, "Grown", [], version="rows"), Narrow("")),
            (table_of(ToSearch, "Grown", ["thing_id"], version="rows"), ToSearch("")),
            (table_of(Retyped, "Grown", ["thing_id"], version="rows"), Retyped("")),
        ]
        for table, like in others:
            with pytest.raises(WiringError, match="the rows of Grown are not those of its class"):
                await views.widen(table, like)
        assert await everything(views, NARROW) == [Narrow("a", "x")]


def _absent(*keys: str) -> list[Expect]:
    return [Expect(THING, (key,)) for key in keys]
