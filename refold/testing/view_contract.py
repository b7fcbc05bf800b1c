"""The contract of kept rows as tests: a backend of `refold.view.api.Views` joins by saying how it is opened.

    from refold.testing import ViewContract

    class TestMyViews(ViewContract):
        @asynccontextmanager
        async def views(self, tmp_path):
            yield await MyViews.open(tmp_path / "views")

What is opened again with the same `tmp_path` is the same views, also while others are open. pytest finds the rules in
the subclass; no plugin is needed.
"""

import asyncio
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from operator import attrgetter
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, Self, TypeAlias
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from refold.errors import SubscriptionFailed
from refold.model.message import Event
from refold.model.state import Singleton, State
from refold.model.tag import Tag
from refold.view.api import COMPARES, Snapshot, Table, Views, conditions_of, find_of, table_of

PATIENCE = 60.0
"""Seconds after which a rule that hangs has failed."""
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Color(Enum):
    """An enum of texts."""

    RED = "red"
    DARK_RED = "Red"
    BLUE = "blue"


class Size(Enum):
    """An enum of numbers."""

    SMALL = 1
    LARGE = 20


class Part(Struct, frozen=True):
    """Something nested."""

    name: str
    count: int = 0
    price: Decimal | None = None


ThingId: TypeAlias = Annotated[str, Tag("thing")]
Number: TypeAlias = Annotated[int, Tag("number")]
Day: TypeAlias = Annotated[date, Tag("day")]
Shade: TypeAlias = Annotated[Color, Tag("shade")]
Serial: TypeAlias = Annotated[UUID, Tag("serial")]


class Noted(Event):
    """What the kept states of the contract are made of."""

    thing_id: ThingId
    number: Number
    day: Day
    shade: Shade
    serial: Serial


class Thing(State):
    """A state with a field of every kind."""

    thing_id: ThingId
    text: str | None = None
    integer: int | None = None
    real: float | None = None
    price: Decimal | None = None
    at: datetime | None = None
    day: date | None = None
    serial: UUID | None = None
    flag: bool | None = None
    color: Color | None = None
    size: Size | None = None
    level: Literal["low", "high"] | None = None
    raw: bytes | None = None
    parts: tuple[Part, ...] = ()
    notes: dict[str, list[int]] = msgspec.field(default_factory=dict[str, list[int]])
    words: frozenset[str] = frozenset()

    def evolve(self, event: Noted) -> Self:
        """Stay as it is."""
        return self


class Combined(State):
    """A state with a key of several fields."""

    thing_id: ThingId
    number: Number
    day: Day
    shade: Shade
    serial: Serial
    text: str = ""

    def evolve(self, event: Noted) -> Self:
        """Stay as it is."""
        return self


class Only(Singleton):
    """A state without a key."""

    total: int = 0

    def evolve(self, event: Noted) -> Self:
        """Stay as it is."""
        return self


THING, COMBINED, ONLY = table_of(Thing), table_of(Combined), table_of(Only)
CHANGED = replace(THING, fingerprint="changed", columns=THING.columns[:2])
TEXTS = ("", "a", "A", "ä", "a ", "O'Brien", '"', "%", "日本", "\U0001f600", "\uffff", "null", "1", "a\nb", "[1]", "é")
LARGE = 2**63 - 1
Body: TypeAlias = Callable[[Any, Views], Coroutine[Any, Any, None]]


def rule(body: Body) -> Callable[[Any, Path], None]:
    """Make a test of a coroutine that takes open views."""

    def test(self: "ViewContract", tmp_path: Path) -> None:
        async def run() -> None:
            async with asyncio.timeout(PATIENCE), self.views(tmp_path) as views:
                await body(self, views)

        asyncio.run(run())

    # Not functools.wraps: pytest would follow it, and ask for a fixture named views.
    test.__name__, test.__qualname__ = body.__name__, body.__qualname__
    test.__doc__, test.__module__ = body.__doc__, body.__module__
    return test


class ViewContract(ABC):
    """Every rule that kept rows must keep; subclass it and say in `views` how they are opened."""

    keeps_notation = True
    """Whether `1E+6` comes back as it was written, and a dict in its order; they come back equal in any case."""

    durable = True
    """Whether the rows are there when they are opened again after everyone has closed them."""

    @abstractmethod
    def views(self, tmp_path: Path) -> AbstractAsyncContextManager[Views]:
        """Open the views that belong to `tmp_path`."""

    # Rows and checkpoints.

    @rule
    async def test_a_new_table_is_empty(self, views: Views) -> None:
        """A table that has just been opened holds nothing, and its subscription is at its beginning."""
        for table in (THING, COMBINED, ONLY):
            await views.open(table)
            assert await views.checkpoint(table.name) == 0
            assert await views.find(table, find_of(table, None, (), None, 0)) == []
            assert await views.count(table, ()) == 0
        assert await views.get(THING, [("a",), ("b",)]) == {}
        assert await views.get(ONLY, [()]) == {}
        assert await views.get(THING, []) == {}

    @rule
    async def test_rows_take_the_place_of_those_of_their_key(self, views: Views) -> None:
        """A row replaces the one of its key, whole; others stay."""
        await views.open(THING)
        assert await keep(views, THING, Thing("a", text="1", integer=1), Thing("b", text="2"))
        assert await keep(views, THING, Thing("a", text="3"), Thing("c"), before=1)
        assert await everything(views, THING) == [Thing("a", text="3"), Thing("b", text="2"), Thing("c")]
        assert await views.get(THING, [("a",), ("x",), ("c",)]) == {("a",): Thing("a", text="3"), ("c",): Thing("c")}

    @rule
    async def test_the_checkpoint_moves_with_the_rows(self, views: Views) -> None:
        """The checkpoint is where it was moved to; each subscription has its own."""
        await views.open(THING)
        assert await keep(views, THING, Thing("a"), after=7)
        assert await views.advance("other", before=0, after=3)
        assert [await views.checkpoint(name) for name in ("Thing", "other", "third")] == [7, 3, 0]
        assert await keep(views, THING, before=7, after=LARGE)
        assert await views.checkpoint("Thing") == LARGE
        assert await everything(views, THING) == [Thing("a")]

    @rule
    async def test_another_has_moved_the_checkpoint(self, views: Views) -> None:
        """An advance from where the checkpoint is not returns False and changes nothing."""
        await views.open(THING)
        assert not await keep(views, THING, Thing("a"), before=1, after=2)
        assert await keep(views, THING, Thing("a"), after=5)
        for before in (0, 4, 6):
            assert not await keep(views, THING, Thing("a", text="late"), Thing("b"), before=before, after=9)
        assert not await views.advance("Thing", before=0, after=9)
        assert await views.checkpoint("Thing") == 5
        assert await everything(views, THING) == [Thing("a")]

    @rule
    async def test_of_many_that_advance_at_once_one_does(self, views: Views) -> None:
        """Of several who start from one place, one wins, and its rows are the only ones."""
        await views.open(THING)
        for step in range(10):
            moved = await asyncio.gather(
                *[keep(views, THING, Thing(f"{step}-{n}"), before=step, after=step + 1) for n in range(5)]
            )
            assert sum(moved) == 1
            assert await views.get(THING, [(f"{step}-{moved.index(True)}",)])
        assert await views.count(THING, ()) == 10

    def test_of_two_handles_one_advances(self, tmp_path: Path) -> None:
        """Of several who start from one place, one wins, through whatever handle."""

        async def run() -> None:
            async with self.views(tmp_path) as one, self.views(tmp_path) as two:
                for each in (one, two):
                    await each.open(THING)
                for step in range(10):
                    handles = (one, two, one, two)
                    moved = await asyncio.gather(
                        *[
                            keep(each, THING, Thing("a", integer=n), before=step, after=step + 1)
                            for n, each in enumerate(handles)
                        ]
                    )
                    assert sum(moved) == 1
                    for each in (one, two):
                        assert await each.checkpoint("Thing") == step + 1
                        assert await everything(each, THING) == [Thing("a", integer=moved.index(True))]

        asyncio.run(run())

    @rule
    async def test_all_or_nothing(self, views: Views) -> None:
        """If one row cannot be kept, none is, and the checkpoint stays."""
        await views.open(THING)
        await keep(views, THING, Thing("a"))
        with pytest.raises((TypeError, ValueError)):
            await keep(views, THING, Thing("b"), Thing("c", real=float("nan")), before=1, after=2)
        with pytest.raises((TypeError, ValueError)):
            await keep(views, THING, Thing("b"), Thing("c", at=datetime(2026, 3, 1)), before=1, after=2)
        assert await everything(views, THING) == [Thing("a")]
        assert await views.checkpoint("Thing") == 1
        assert await keep(views, THING, Thing("b"), before=1, after=2)

    @rule
    async def test_many_rows(self, views: Views) -> None:
        """A step may change thousands of rows, and a look may ask for as many."""
        await views.open(THING)
        rows = [Thing(f"{n:04}", integer=n) for n in range(5_000)]
        assert await keep(views, THING, *rows)
        assert await keep(views, THING, *[replace(row, flag=True) for row in rows[::2]], before=1, after=2)
        assert await views.count(THING, conditions_of(THING, {"flag": True})) == 2_500
        found = await views.get(THING, [(row.thing_id,) for row in rows[:3_000]])
        assert len(found) == 3_000
        assert found["2999",] == rows[2_999]

    # Values.

    @rule
    async def test_values_come_back(self, views: Views) -> None:
        """Every value that a field may have comes back the same; a time comes back in UTC."""
        await views.open(THING)
        things = list(values())
        assert await keep(views, THING, *things)
        found = await views.get(THING, [(thing.thing_id,) for thing in things])
        for thing in things:
            kept = found[thing.thing_id,]
            assert kept == thing
            assert [type(each) for each in fields(kept)] == [type(each) for each in fields(thing)]
            assert isinstance(kept, Thing)
            if self.keeps_notation:
                assert repr(replace(kept, at=None)) == repr(replace(thing, at=None)), "to the last digit, and in order"
            assert kept.at is None or kept.at.tzinfo == UTC

    @rule
    async def test_what_is_nested_can_be_found(self, views: Views) -> None:
        """Structs and collections are found by equality; a set has no order."""
        await views.open(THING)
        words = [f"word {n}" for n in range(9)]
        thing = Thing("a", parts=NESTED[1], notes={"b": [1], "a": []}, words=frozenset(words))
        assert await keep(views, THING, thing, Thing("b", parts=NESTED[2]))
        for where in (
            {"parts": NESTED[1]},
            {"parts__ne": NESTED[2]},
            {"parts__in": [(), NESTED[1]]},
            {"notes": thing.notes},
            {"words": {*words[5:], *words[:5]}},
        ):
            assert await views.find(THING, find_of(THING, where, (), None, 0)) == [thing]

    @rule
    async def test_a_key_of_several_fields(self, views: Views) -> None:
        """Rows of a key of several fields are told apart by all of them."""
        await views.open(COMBINED)
        rows = [
            Combined(text, number, NOON.date() + timedelta(days=day), color, UUID(int=serial), f"{text}{number}")
            for text in ("a", "A", "a'b")
            for number in (0, -1, LARGE)
            for day in (0, 1)
            for color in (Color.RED, Color.DARK_RED)
            for serial in (1, 2)
        ]
        assert await keep(views, COMBINED, *rows)
        assert await views.count(COMBINED, ()) == len(rows)
        keys = [COMBINED.key_of(row) for row in rows]
        missing = ("b", 0, NOON.date(), Color.RED, UUID(int=1))
        assert await views.get(COMBINED, [*keys[::3], missing]) == dict(list(zip(keys, rows, strict=True))[::3])
        assert await keep(views, COMBINED, replace(rows[5], text="new"), before=1, after=2)
        rows[5] = replace(rows[5], text="new")
        assert await views.get(COMBINED, keys) == dict(zip(keys, rows, strict=True))

    @rule
    async def test_a_table_of_one_row(self, views: Views) -> None:
        """A state without a key has one row."""
        await views.open(ONLY)
        assert await keep(views, ONLY, Only(1))
        assert await keep(views, ONLY, Only(2), before=1, after=2)
        assert await views.get(ONLY, [()]) == {(): Only(2)}
        assert await everything(views, ONLY) == [Only(2)]
        assert await views.count(ONLY, conditions_of(ONLY, {"total__gt": 1})) == 1

    @rule
    async def test_keys_match_exactly(self, views: Views) -> None:
        """Texts are compared by their characters: no case, accents, blanks or patterns."""
        await views.open(THING)
        assert await keep(views, THING, *[Thing(text or "-", text=text) for text in TEXTS])
        for text in TEXTS:
            [found] = (await views.get(THING, [(text or "-",)])).values()
            assert found == Thing(text or "-", text=text)
            assert await views.find(THING, find_of(THING, {"text": text}, (), None, 0)) == [found]
            assert await views.find(THING, find_of(THING, {"text__in": [text, "nowhere"]}, (), None, 0)) == [found]

    def test_finding(self, tmp_path: Path) -> None:
        """Any conditions, order and page give what going through all rows by hand gives."""
        random = Random(7)  # noqa: S311
        choices = {name: list(some) for name, some in CHOICES.items()}
        rows = [
            replace(Thing(f"{n:03}"), **{name: random.choice([None, *some]) for name, some in choices.items()})
            for n in range(150)
        ]
        with asyncio.Runner() as runner:
            opened = self.views(tmp_path)
            views = runner.run(opened.__aenter__())
            try:
                runner.run(views.open(THING))
                runner.run(keep(views, THING, *rows))

                @given(wheres(), orders(), st.none() | st.integers(0, 200), st.integers(0, 160))
                @settings(max_examples=80, deadline=None)
                def check(where: dict[str, Any], order: list[str], limit: int | None, offset: int) -> None:
                    found = runner.run(views.find(THING, find_of(THING, where, order, limit, offset)))
                    expected = by_hand(rows, where, order)
                    assert found == expected[offset : None if limit is None else offset + limit]
                    assert runner.run(views.count(THING, conditions_of(THING, where))) == len(expected)

                check()
            finally:
                runner.run(opened.__aexit__(None, None, None))

    # Definitions that change.

    @rule
    async def test_a_table_of_another_fingerprint_begins_anew(self, views: Views) -> None:
        """Opened with another definition, a table is dropped with its checkpoint; other tables stay."""
        await views.open(THING)
        await views.open(ONLY)
        await keep(views, THING, Thing("a"), after=5)
        await keep(views, ONLY, Only(3), after=6)
        await views.open(THING)
        assert await views.checkpoint("Thing") == 5
        assert await everything(views, THING) == [Thing("a")]
        await views.open(CHANGED)
        assert await views.checkpoint("Thing") == 0
        assert await views.count(CHANGED, ()) == 0
        assert await views.checkpoint("Only") == 6
        assert await everything(views, ONLY) == [Only(3)]

    @rule
    async def test_who_has_another_definition_is_refused(self, views: Views) -> None:
        """Rows of two definitions are never mixed: what was opened with another since is refused."""
        everyone = find_of(THING, None, (), None, 0)
        for text in ("is not kept yet", "is kept by another version of this program"):
            for use in (
                lambda: views.get(THING, [("a",)]),
                lambda: views.find(THING, everyone),
                lambda: views.count(THING, ()),
                lambda: keep(views, THING, Thing("a"), before=1, after=2),
                lambda: keep(views, THING, Thing("a")),
            ):
                with pytest.raises(SubscriptionFailed, match=text):
                    await use()
            await views.open(THING)
            await keep(views, THING, Thing("a"))
            await views.open(CHANGED)

    # Snapshots.

    @rule
    async def test_snapshots(self, views: Views) -> None:
        """A state has one snapshot, the newest; one of another definition is not seen, and gives way."""
        assert await views.snapshot("S", "1", "x") is None
        for position in (5, 3, 9):
            await views.keep_snapshot("S", "1", "x", Snapshot(position, b"\x00%d" % position))
        assert await views.snapshot("S", "1", "x") == Snapshot(9, b"\x009")
        assert await views.snapshot("S", "2", "x") is None
        assert await views.snapshot("T", "1", "x") is None
        assert await views.snapshot("S", "1", "y") is None
        await views.keep_snapshot("S", "1", "y", Snapshot(2, b""))
        assert await views.snapshot("S", "1", "y") == Snapshot(2, b"")
        assert await views.snapshot("S", "1", "x") is None

    def test_everything_is_there_again(self, tmp_path: Path) -> None:
        """Rows, checkpoints and snapshots are there when the views are opened again."""
        if not self.durable:
            pytest.skip("needs rows that outlive who keeps them: durable = True")

        async def run(*, again: bool) -> None:
            async with self.views(tmp_path) as views:
                await views.open(THING)
                if not again:
                    await keep(views, THING, Thing("a", price=Decimal("1.50")), after=4)
                    await views.keep_snapshot("S", "1", "x", Snapshot(2, b"2"))
                assert await views.checkpoint("Thing") == 4
                assert await everything(views, THING) == [Thing("a", price=Decimal("1.50"))]
                assert await views.snapshot("S", "1", "x") == Snapshot(2, b"2")

        asyncio.run(run(again=False))
        asyncio.run(run(again=True))


async def keep(views: Views, table: Table, *rows: State, before: int = 0, after: int | None = None) -> bool:
    """Move the subscription of a table on, by one if not said otherwise."""
    after = before + 1 if after is None else after
    return await views.advance(table.name, before=before, after=after, table=table, rows=rows)


async def everything(views: Views, table: Table) -> list[State]:
    """Return all rows, by key."""
    return await views.find(table, find_of(table, None, (), None, 0))


def fields(state: State) -> list[object]:
    """Return the values of a state's fields."""
    return [getattr(state, name) for name in state.__struct_fields__]


CHOICES: dict[str, Sequence[Any]] = {
    "text": TEXTS,
    "integer": (0, 1, -1, 10, 9, LARGE, -LARGE),
    "real": (0.0, -1.5, 0.1, 1e300, -1e-300, 3.0, float("inf")),
    "price": (Decimal(0), Decimal(10), Decimal("9.5"), Decimal("-0.01"), Decimal("1E+6"), Decimal("123456789.125")),
    "at": (NOON, NOON + timedelta(microseconds=1), NOON.astimezone(timezone(timedelta(hours=9))), NOON - timedelta(99)),
    "day": (date(2026, 3, 1), date(1066, 10, 14), date(9999, 12, 31)),
    "serial": tuple(UUID(int=n) for n in (0, 1, 2**127)),
    "flag": (False, True),
    "color": tuple(Color),
    "size": tuple(Size),
    "level": ("low", "high"),
    "raw": (b"", b"\x00\xff", b"a"),
}
"""Values by field; what compares equal may be written in several ways."""
NESTED: tuple[tuple[Part, ...], ...] = ((), (Part("a", 1, Decimal("1.0")),), (Part("ü"), Part("'\"", -5)))


def values() -> Iterator[Thing]:
    """Return things that have each value at least once."""
    for name, some in CHOICES.items():
        for index, value in enumerate(some):
            yield replace(Thing(f"{name}-{index}"), **{name: value})
    for index, parts in enumerate(NESTED):
        yield Thing(f"parts-{index}", parts=parts, notes={"b": [index], "a": [], "ü'": [LARGE]})


def wheres() -> st.SearchStrategy[dict[str, Any]]:
    """Return conditions of all kinds."""

    def condition(name: str) -> st.SearchStrategy[tuple[str, Any]]:
        value = st.sampled_from(CHOICES[name])
        return st.one_of(
            st.tuples(st.just(name), st.none() | value),
            *(st.tuples(st.just(f"{name}__{compare}"), _operands(compare, value)) for compare in COMPARES),
        )

    return st.lists(st.sampled_from(sorted(CHOICES)).flatmap(condition), max_size=3).map(dict)


def _operands(compare: str, value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    if compare == "in":
        return st.lists(value, max_size=3)
    return st.none() | value if compare in ("eq", "ne") else value


def orders() -> st.SearchStrategy[list[str]]:
    """Return orders by up to three fields, in either direction."""
    names = [sign + name for name in CHOICES for sign in ("", "-")]
    return st.lists(st.sampled_from(names), max_size=3)


def by_hand(rows: Sequence[Thing], where: dict[str, Any], order: Sequence[str]) -> list[Thing]:
    """Do in plain Python what `find` does."""
    found = [row for row in rows if all(_holds(row, term, value) for term, value in where.items())]
    found.sort(key=lambda row: row.thing_id)
    for name in reversed(order):
        value = attrgetter(name.removeprefix("-"))
        found.sort(key=lambda row, value=value: _rank(value(row)), reverse=name.startswith("-"))  # type: ignore[misc]
    return found


def _holds(row: Thing, term: str, wanted: Any) -> bool:
    name, _, compare = term.partition("__")
    value, compare = _plain(getattr(row, name)), compare or "eq"
    if compare == "in":
        return value is not None and value in [_plain(each) for each in wanted]
    wanted = _plain(wanted)
    if value is None or wanted is None:
        return bool(compare in ("eq", "ne") and (value is wanted) == (compare == "eq"))
    return bool(getattr(operator, compare)(value, wanted))


def _rank(value: Any) -> tuple[bool, Any]:
    return value is not None, 0 if value is None else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, UUID) else value
