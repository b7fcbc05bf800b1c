"""Rules about rows: how they are found, and that their values come back."""

import asyncio
from datetime import UTC, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from refold.errors import NotKept
from refold.testing.view.tools import (
    CHOICES,
    COMBINED,
    DATED,
    LARGE,
    MARKS,
    NESTED,
    NOON,
    ONLY,
    OTHER,
    TEXT,
    TEXTS,
    THING,
    Color,
    Combined,
    Mark,
    Only,
    Thing,
    ViewRules,
    by_hand,
    everything,
    fields,
    keep,
    orders,
    rule,
    values,
    wheres,
)
from refold.view.api import Delete, Expect, Put, Views
from refold.view.find import Find, conditions_of, find_of
from refold.view.table import LARGEST, Dated, narrowed


class RowRules(ViewRules):
    """How rows are kept and found."""

    @rule
    async def test_a_new_table_is_empty(self, views: Views) -> None:
        """A table that has just been made holds nothing."""
        for table in (THING, COMBINED, ONLY, TEXT, DATED):
            await views.create([table, MARKS])
            assert await views.find(table, find_of(table, None, (), None, 0)) == []
            assert await views.count(table, ()) == 0
        assert await views.get(THING, [("a",), ("b",)]) == {}
        assert await views.get(ONLY, [()]) == {}
        assert await views.get(THING, []) == {}

    @rule
    async def test_rows_take_the_place_of_those_of_their_key(self, views: Views) -> None:
        """A row replaces the one of its key, whole; others stay."""
        await views.create([THING, MARKS])
        assert await keep(views, THING, Thing("a", text="1", integer=1), Thing("b", text="2"))
        assert await keep(views, THING, Thing("a", text="3"), Thing("c"), before=1)
        assert await everything(views, THING) == [Thing("a", text="3"), Thing("b", text="2"), Thing("c")]
        assert await views.get(THING, [("a",), ("x",), ("c",)]) == {("a",): Thing("a", text="3"), ("c",): Thing("c")}

    @rule
    async def test_many_rows(self, views: Views) -> None:
        """A step may change thousands of rows, and a look may ask for as many."""
        await views.create([THING, MARKS])
        rows = [Thing(f"{n:04}", integer=n) for n in range(5_000)]
        assert await keep(views, THING, *rows)
        assert await keep(views, THING, *[replace(row, flag=True) for row in rows[::2]], before=1, after=2)
        assert await views.count(THING, conditions_of(THING, {"flag": True})) == 2_500
        found = await views.get(THING, [(row.thing_id,) for row in rows[:3_000]])
        assert len(found) == 3_000
        assert found["2999",] == rows[2_999]

    @rule
    async def test_values_come_back(self, views: Views) -> None:
        """Every value that a field may have comes back the same; a time comes back in UTC."""
        await views.create([THING, MARKS])
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
        await views.create([THING, MARKS])
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
        await views.create([COMBINED, MARKS])
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
        await views.create([ONLY, MARKS])
        assert await keep(views, ONLY, Only(1))
        assert await keep(views, ONLY, Only(2), before=1, after=2)
        assert await views.get(ONLY, [()]) == {(): Only(2)}
        assert await everything(views, ONLY) == [Only(2)]
        assert await views.count(ONLY, conditions_of(ONLY, {"total__gt": 1})) == 1

    @rule
    async def test_keys_match_exactly(self, views: Views) -> None:
        """Texts are compared by their characters: no case, accents, blanks or patterns."""
        await views.create([THING, MARKS])
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
                runner.run(views.create([THING, MARKS]))
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

    @rule
    async def test_whole_numbers_between_others(self, views: Views) -> None:
        """An integer may be compared with a number that has a fraction."""
        await views.create([THING])
        await views.write([Put(THING, [Thing(f"{n}", integer=n) for n in range(-2, 4)])])
        for where, found in {
            ("integer__gt", 1.5): [2, 3],
            ("integer__ge", 1.5): [2, 3],
            ("integer__lt", -0.5): [-2, -1],
            ("integer__le", 0.5): [-2, -1, 0],
            ("integer__ne", 1.5): [-2, -1, 0, 1, 2, 3],
            ("integer", 1.5): [],
            ("integer", 2.0): [2],
            ("integer__in", (0.5, 1.0, 3)): [1, 3],
        }.items():
            rows = await views.find(THING, find_of(THING, dict([where]), "integer", None, 0))
            assert [row.integer for row in rows] == found, where

    @rule
    async def test_what_no_row_can_hold(self, views: Views) -> None:
        """A value that no database holds is refused with an error that is the value's, not the database's."""
        await views.create([THING, MARKS])
        await keep(views, THING, Thing("a"))
        for wrong in (
            Thing("b", integer=LARGE + 1),
            Thing("b", integer=1.5),  # type: ignore[arg-type]
            Thing("b", text="\ud800"),
            Thing("\ud800"),
            Thing("b", real=float("nan")),
        ):
            for rows in ([wrong], [Thing("c"), wrong], [wrong, Thing("c")]):
                with pytest.raises((TypeError, ValueError, OverflowError)):
                    await keep(views, THING, *rows, before=1, after=2)
        assert await everything(views, THING) == [Thing("a")]
        assert await keep(views, THING, Thing("a", text="long " * 20_000), before=1, after=2)

    @rule
    async def test_rows_that_go(self, views: Views) -> None:
        """Rows are removed by their keys, those that are there; put and removed in one step, the later counts."""
        await views.create([THING, COMBINED, ONLY, MARKS])
        things = [Thing(f"{n}") for n in range(9)]
        row = Combined("a", 1, NOON.date(), Color.RED, UUID(int=1))
        assert await views.write([Put(THING, things), Put(COMBINED, [row]), Put(ONLY, [Only(1)])])
        assert await views.write([Delete(THING, [("3",), ("x",), ("5",)]), Delete(COMBINED, [COMBINED.key_of(row)])])
        assert await views.write([Put(THING, [Thing("a"), Thing("b")]), Delete(THING, [("b",)]), Delete(ONLY, [()])])
        assert await views.write([Delete(THING, [("a",)]), Put(THING, [Thing("a", text="new")])])
        expected = [*(each for each in things if each.thing_id not in "35"), Thing("a", text="new")]
        assert await everything(views, THING) == expected
        assert await views.count(COMBINED, ()) == await views.count(ONLY, ()) == 0

    @rule
    async def test_going_through_a_table_by_its_key(self, views: Views) -> None:
        """A find that begins after a key goes on behind it, also in the middle of a key of several fields."""
        await views.create([THING, COMBINED, MARKS])
        await views.write([Put(THING, [Thing(text or "-") for text in TEXTS])])
        rows = [
            Combined(text, number, NOON.date(), color, UUID(int=number + 5))
            for text in ("a", "A", "b")
            for number in (0, -5, 3)
            for color in Color
        ]
        await views.write([Put(COMBINED, rows)])
        for table, total in ((THING, len(TEXTS)), (COMBINED, len(rows))):
            whole = await views.find(table, Find())
            assert len(whole) == total
            for size in (1, 4):
                found: list[Any] = []
                after = None
                while len(found) <= total and (page := await views.find(table, Find(limit=size, after=after))):
                    found += page
                    after = table.key_of(page[-1])
                assert found == whole
        only = await views.find(THING, Find(conditions_of(THING, {"thing_id__ne": "a"}), after=("A",), limit=2))
        assert [row.thing_id for row in only] == ["O'Brien", "[1]"]

    @rule
    async def test_versions_side_by_side(self, views: Views) -> None:
        """Two versions of one table have rows of their own, of which a reader may ask for some columns."""
        await views.create([THING, OTHER, MARKS])
        await views.write([Put(THING, [Thing("a", text="one")]), Put(OTHER, [Thing("a", text="two")])])
        assert await views.get(THING, [("a",)]) == {("a",): Thing("a", text="one")}
        assert await views.get(OTHER, [("a",)]) == {("a",): Thing("a", text="two")}
        some = narrowed(THING, {"thing_id", "text", "color"}, "two")
        assert await views.find(some, find_of(some, {"text__ne": "one"}, "-color", None, 0)) == [("a", "two", None)]
        await views.expose(THING)
        await views.expose(OTHER)
        await views.drop([THING.stored, "nowhere"])
        assert await views.count(OTHER, ()) == 1
        await views.create([THING, OTHER])
        assert await views.count(THING, ()) == 0, "made anew"
        assert await views.count(OTHER, ()) == 1, "left as it is"

    @rule
    async def test_what_is_not_there_says_so(self, views: Views) -> None:
        """A table that was never made, or was dropped, is not taken for an empty one."""
        await views.create([MARKS])
        for _ in range(2):
            for use in (
                lambda: views.get(THING, [("a",)]),
                lambda: views.find(THING, Find()),
                lambda: views.count(THING, ()),
                lambda: views.write([Put(MARKS, []), Put(THING, [Thing("a")])]),
                lambda: views.write([Delete(THING, [("a",)])]),
                lambda: views.write([Put(MARKS, [Mark("m", 1)])], [Expect(THING, ("a",))]),
                lambda: views.write([Put(MARKS, [Mark("m", 1)])], [Expect(THING, ("a",), {"integer": 1})]),
                lambda: views.expose(THING),
            ):
                with pytest.raises(NotKept, match="Thing is not kept yet"):
                    await use()
            assert await views.count(MARKS, ()) == 0
            await views.create([THING])
            await views.drop([THING.stored])
        await views.expose(MARKS)  # it stands under its plain name already

    @rule
    async def test_every_row_that_there_ever_was(self, views: Views) -> None:
        """A dated table keeps rows of one key apart by their ends; the current one is found by its own."""
        await views.create([DATED])
        rows = [Dated(Thing("a", integer=n), n, n + 1) for n in range(5)]
        current = Dated(Thing("a", integer=5, at=NOON), 5, LARGEST)
        await views.write([Put(DATED, [*rows, current, Dated(Thing("b"), 3, LARGEST)])])
        assert await views.get(DATED, [("a", LARGEST), ("a", 2), ("c", LARGEST)]) == {
            ("a", LARGEST): current,
            ("a", 2): rows[1],
        }
        for position in range(1, 7):
            past = {"thing_id": "a", "valid_from__le": position, "valid_to__gt": position}
            [row] = await views.find(DATED, find_of(DATED, past, "-integer", None, 0))
            assert row.row.integer == min(position, 5)
        assert await views.count(DATED, conditions_of(DATED, {"valid_to": LARGEST})) == 2

    def test_everything_is_there_again(self, tmp_path: Path) -> None:
        """Rows are there when the views are opened again."""
        if not self.durable:
            pytest.skip("needs rows that outlive who keeps them: durable = True")

        async def run(*, again: bool) -> None:
            async with self.views(tmp_path) as views:
                await views.create([THING, MARKS])
                if not again:
                    await keep(views, THING, Thing("a", price=Decimal("1.50")), after=4)
                assert await everything(views, THING) == [Thing("a", price=Decimal("1.50"))]

        asyncio.run(run(again=False))
        asyncio.run(run(again=True))
