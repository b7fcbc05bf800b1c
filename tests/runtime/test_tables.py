"""Projections with tables of their own: what a handler puts, finds and removes, batch by batch."""

import asyncio
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import App, InvalidQuery, Metadata, Projection, Row, Rows, State, WiringError, kept
from refold.runtime import subscription, tables
from refold.store.memory import MemoryStore
from tests.conftest import Log
from tests.runtime.clicks import Busy, BusyPages, Clicked, Failing, Page, Tally, clicks

ON_POSTGRES = True


async def test_rows_come_and_go(log: Log) -> None:
    async with clicks(log, BusyPages) as app:
        at = await app.record(Clicked("a", 3), Clicked("b", 1), Clicked("c", 5), Clicked("a", -1))
        assert await app.view(Busy).find(order="-clicks", at_least=at) == [Busy("c", 5), Busy("b", 1)]
        assert await app.view(Tally).get("busy") == Tally("busy", 1)
        assert await app.view(Busy).get("a") is None
        await app.record(Clicked("b", 2))
        await app.wait(await app.head(), BusyPages)
        await app.wait(await app.head(), Busy)
        assert await app.view(Tally).get("busy") == Tally("busy", 2)
    async with clicks(log, BusyPages) as app:
        assert await app.view(Busy).count() == 2


by_hand_events = st.lists(st.builds(Clicked, st.sampled_from("abc"), st.integers(-1, 3)), max_size=25)


@given(by_hand_events, st.integers(1, 6), st.sampled_from([0, 2, 100]))
@settings(max_examples=50, deadline=None)
def test_rows_are_what_a_dict_gives(events: list[Clicked], size: int, remembered: int) -> None:
    expected: dict[str, int] = {}
    for event in events:
        if event.times < 0:
            expected.pop(event.page, None)
        else:
            expected[event.page] = expected.get(event.page, 0) + event.times

    async def check() -> None:
        log = MemoryStore()
        for start in range(0, len(events), size):
            async with clicks(log, BusyPages) as app:
                await app.record(*events[start : start + size])
                await app.settle()
        async with clicks(log, BusyPages) as app:
            await app.settle()
            assert {row.page: row.clicks for row in await app.view(Busy).find()} == expected
            tally = await app.view(Tally).get("busy")
            assert (tally.pages if tally else 0) == sum(clicks > 2 for clicks in expected.values())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "ROWS_REMEMBERED", remembered)
        patch.setattr(subscription, "BATCH", 3)
        asyncio.run(check())


class Visit(Row):
    page: Page
    number: int = 0
    actor: str = ""


class Visits(Projection):
    rows = (Visit,)

    def apply(self, event: Clicked, rows: Rows, metadata: Metadata) -> None:
        rows.put(Visit(event.page, event.times, metadata.actor))


async def test_a_plain_handler_with_metadata(log: Log) -> None:
    async with clicks(log, Visits) as app:
        at = await app.record(Clicked("a", 3), actor="ann")
        assert await app.view(Visit).get("a", at_least=at) == Visit("a", 3, "ann")


class Asking(Projection):
    """Asks for everything that can be asked wrongly."""

    rows = (Visit,)
    asked: Any = None

    async def apply(self, event: Clicked, rows: Rows) -> None:
        await Asking.asked(rows)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda rows: rows.get(Visit, "a", "b"), "the key of Visit is page, not ('a', 'b')"),
        (lambda rows: rows.get(Busy, "a"), "Busy is not among the `rows` of this projection"),
        (lambda rows: rows.find(Visit, {"size": 1}), "Visit has no field 'size'"),
        (lambda rows: rows.put(Busy("a")), "Busy is not among the `rows`"),
        (lambda rows: rows.delete(Visit), "the key of Visit is page, not ()"),
    ],
)
async def test_what_a_handler_asks_wrongly_parks_the_event(log: Log, ask: Any, message: str) -> None:
    async def asked(rows: Rows) -> None:
        done = ask(rows)
        if asyncio.iscoroutine(done):
            await done

    Asking.asked = staticmethod(asked)
    async with clicks(log, Asking) as app:
        await app.record(Clicked("a"))
        await app.settle(parked=True)
        [parked] = await app.operations.parked()
        assert message in parked.error


async def test_a_handler_sees_what_it_has_changed(log: Log) -> None:
    seen: list[Any] = []

    async def asked(rows: Rows) -> None:
        rows.put(Visit("a", 1), Visit("b", 2), Visit("c", 3))
        rows.delete(Visit, "b")
        seen.append(await rows.find(Visit, {"number__ge": 2}, order="-number"))
        seen.append(await rows.get(Visit, "b"))
        seen.append(await rows.count(Visit))

    Asking.asked = staticmethod(asked)
    async with clicks(log, Asking) as app:
        await app.record(Clicked("a"))
        await app.settle()
    assert seen == [[Visit("c", 3)], None, 2]


async def test_too_many_rows_for_memory(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_FOUND", 5)

    async def asked(rows: Rows) -> None:
        rows.put(*[Visit(f"{n}") for n in range(6)])
        await rows.find(Visit)

    Asking.asked = staticmethod(asked)
    async with clicks(log, Asking) as app:
        await app.record(Clicked("a"))
        await app.settle(parked=True)
        assert "Visit: more than 5 rows" in (await app.operations.parked())[0].error


class NoRows(Projection):
    def apply(self, event: Clicked, rows: Rows) -> None: ...


class OddRows(Projection):
    rows = (int,)  # type: ignore[assignment]

    def apply(self, event: Clicked, rows: Rows) -> None: ...


class NoApply(Projection):
    rows = (Visit,)


class OddApply(Projection):
    rows = (Visit,)

    def apply(self, rows: Rows) -> None: ...


class NoEvent(Projection):
    rows = (Visit,)

    def apply(self, event: int, rows: Rows) -> None: ...


class Wanting(Projection):
    rows = (Visit,)

    def __init__(self, name: str) -> None: ...

    def apply(self, event: Clicked, rows: Rows) -> None: ...


class Keyless(Row):
    number: int = 0


class KeylessRows(Projection):
    rows = (Keyless,)

    def apply(self, event: Clicked, rows: Rows) -> None: ...


class Same(State):
    page: Page

    def evolve(self, event: Clicked) -> Self:
        return self


Same.__name__ = "Visit"


@pytest.mark.parametrize(
    ("projections", "message"),
    [
        ([NoRows], "NoRows has no tables: write `rows = (PickLine, …)`"),
        ([OddRows], "OddRows.rows holds <class 'int'>, which is not a class of `Row`"),
        ([NoApply], "NoApply has no apply. Write `async def apply("),
        ([OddApply], "takes an event, its tables, and perhaps Metadata"),
        ([NoEvent], "takes <class 'int'>, which is not a class of events"),
        ([Wanting], "Wanting is made without arguments"),
        ([KeylessRows], "Keyless has no key: give it a field without a default"),
        ([kept(Visits, history=True)], "Visits keeps no history"),
        ([kept(Visits, parts=2)], "Visits may look at any row at any event"),
        ([Visits, Same], "two projections or processes are called 'Visit'"),
        ([Visits, Visits], "two projections or processes are called 'Visits'"),
    ],
)
def test_mistakes_are_found_at_wiring(projections: list[Any], message: str) -> None:
    with pytest.raises(WiringError) as error:
        App("memory:", events=Clicked | Failing, projections=projections)
    assert message in str(error.value)


async def test_a_row_that_cannot_be_kept_fails_with_its_event(log: Log) -> None:
    async def asked(rows: Rows) -> None:
        rows.put(Visit("a", "x"))  # type: ignore[arg-type]
        rows.put(Point("a", float("nan")))

    Asking.asked = staticmethod(asked)
    Asking.rows = (Visit, Point)
    try:
        async with clicks(log, Asking) as app:
            await app.record(Clicked("a"))
            await app.settle(parked=True)
            assert "nan cannot be kept" in (await app.operations.parked())[0].error
            with pytest.raises(InvalidQuery, match="the key of Point is page"):
                await app.view(Point).get()
    finally:
        Asking.rows = (Visit,)


class Point(Row):
    page: Page
    at: float = 0.0
