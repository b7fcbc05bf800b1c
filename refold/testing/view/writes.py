"""Rules about writes: all of a step or nothing, and only if what it expects holds."""

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from refold.testing.view.tools import MARKS, ONLY, THING, Mark, Only, Thing, ViewRules, everything, keep, marked, rule
from refold.view.api import Delete, Expect, Put, Views


class WriteRules(ViewRules):
    """What a write does, or does not."""

    @rule
    async def test_what_does_not_hold_keeps_all_from_happening(self, views: Views) -> None:
        """A write that expects a row otherwise than it is returns False and changes nothing."""
        await views.create([THING, MARKS])
        assert not await keep(views, THING, Thing("a"), before=1, after=2)
        assert await keep(views, THING, Thing("a"), after=5)
        for before in (0, 4, 6):
            assert not await keep(views, THING, Thing("a", text="late"), Thing("b"), before=before, after=9)
        assert await marked(views, THING) == 5
        assert await everything(views, THING) == [Thing("a")]

    @rule
    async def test_of_many_that_expect_the_same_one_writes(self, views: Views) -> None:
        """Of several who start from one place, one wins, and its rows are the only ones."""
        await views.create([THING, MARKS])
        for step in range(10):
            moved = await asyncio.gather(
                *[keep(views, THING, Thing(f"{step}-{n}"), before=step, after=step + 1) for n in range(5)]
            )
            assert sum(moved) == 1
            assert await views.get(THING, [(f"{step}-{moved.index(True)}",)])
        assert await views.count(THING, ()) == 10

    def test_of_two_handles_one_writes(self, tmp_path: Path) -> None:
        """Of several who start from one place, one wins, through whatever handle."""

        async def run() -> None:
            async with self.views(tmp_path) as one, self.views(tmp_path) as two:
                for each in (one, two):
                    await each.create([THING, MARKS])
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
                        assert await marked(each, THING) == step + 1
                        assert await everything(each, THING) == [Thing("a", integer=moved.index(True))]

        asyncio.run(run())

    @rule
    async def test_all_or_nothing(self, views: Views) -> None:
        """If one row cannot be kept, none is, and the checkpoint stays."""
        await views.create([THING, MARKS])
        await keep(views, THING, Thing("a"))
        with pytest.raises((TypeError, ValueError)):
            await keep(views, THING, Thing("b"), Thing("c", real=float("nan")), before=1, after=2)
        with pytest.raises((TypeError, ValueError)):
            await keep(views, THING, Thing("b"), Thing("c", at=datetime(2026, 3, 1)), before=1, after=2)
        assert await everything(views, THING) == [Thing("a")]
        assert await marked(views, THING) == 1
        assert await keep(views, THING, Thing("b"), before=1, after=2)

    @rule
    async def test_what_can_be_expected(self, views: Views) -> None:
        """A row is expected by some of its values, None among them, or not to be there at all; all must hold."""
        await views.create([THING, ONLY, MARKS])
        await views.write([Put(THING, [Thing("a", integer=5, flag=True)]), Put(ONLY, [Only(3)])])
        held = [
            Expect(THING, ("a",), {"integer": 5, "text": None}),
            Expect(THING, ("a",), {}),
            Expect(THING, ("b",)),
            Expect(ONLY, (), {"total": 3}),
        ]
        broken = [
            Expect(THING, ("a",), {"integer": 6}),
            Expect(THING, ("a",), {"integer": 5, "text": ""}),
            Expect(THING, ("a",), {"integer": None}),
            Expect(THING, ("a",)),
            Expect(THING, ("b",), {}),
            Expect(ONLY, (), {"total": 4}),
            Expect(ONLY, ()),
        ]
        mark = Put(MARKS, [Mark("m", 1)])
        for each in broken:
            assert not await views.write([mark, Delete(THING, [("a",)])], [each]), each
            assert not await views.write([mark], [*held, each]), each
        assert await views.count(MARKS, ()) == 0
        assert await views.count(THING, ()) == 1
        assert await views.write([mark], held)
        assert await views.count(MARKS, ()) == 1

    @rule
    async def test_what_is_expected_may_be_written(self, views: Views) -> None:
        """A row that is expected can be replaced or removed in the same step, and one that must not be there put."""
        await views.create([THING])
        assert await views.write([Put(THING, [Thing("a")])], [Expect(THING, ("a",))])
        assert not await views.write([Put(THING, [Thing("a", text="late")])], [Expect(THING, ("a",))])
        assert await views.write([Put(THING, [Thing("a", text="2")])], [Expect(THING, ("a",), {"text": None})])
        assert await views.write([Delete(THING, [("a",)])], [Expect(THING, ("a",), {"text": "2"})])
        assert await everything(views, THING) == []

    @rule
    async def test_of_many_that_begin_at_once_one_does(self, views: Views) -> None:
        """Of several who put a row that must not be there, one does."""
        await views.create([THING])
        for step in range(10):
            begun = await asyncio.gather(
                *[
                    views.write([Put(THING, [Thing(f"{step}", integer=n)])], [Expect(THING, (f"{step}",))])
                    for n in range(8)
                ]
            )
            assert sum(begun) == 1
            assert (await views.get(THING, [(f"{step}",)]))[f"{step}",].integer == begun.index(True)

    @rule
    async def test_a_table_that_is_gone_is_made_anew(self, views: Views) -> None:
        """What was dropped is made again, empty, at once."""
        for step in range(3):
            await views.create([THING])
            await views.write([Put(THING, [Thing(f"{step}")])])
            assert await everything(views, THING) == [Thing(f"{step}")]
            await views.drop([THING.stored])

    @rule
    async def test_tables_are_made_by_many_at_once(self, views: Views) -> None:
        """Several may make the same tables at the same time."""
        await asyncio.gather(*[views.create([THING, ONLY, MARKS]) for _ in range(6)])
        await keep(views, THING, Thing("a"))
        await asyncio.gather(*[views.create([THING, ONLY, MARKS]) for _ in range(3)])
        assert await marked(views, THING) == 1
