"""Views as they were: three ways to answer, one answer."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import InvalidQuery, State, kept
from refold.runtime import fold, subscription, travel
from refold.store.memory import MemoryStore
from refold.testing.clock import Clock
from tests.conftest import Log
from tests.runtime.clicks import BROKEN, Busy, BusyPages, Clicked, Clicks, Failing, clicks

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

ON_POSTGRES = True


def by_hand(events: list[Clicked], upto: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for event in events[:upto]:
        found[event.page] = found.get(event.page, 0) + event.times
    return found


@given(
    st.lists(st.builds(Clicked, st.sampled_from("abc"), st.integers(0, 2)), max_size=20),
    st.integers(1, 7),
    st.sampled_from([0, 2, 100]),
    st.sampled_from([1, 3, 1000]),
)
@settings(max_examples=40, deadline=None)
def test_all_ways_give_the_same_answer(events: list[Clicked], size: int, remembered: int, batch: int) -> None:
    """From kept history, folded from the log for one key, and built for one question: as a fold by hand."""

    async def check() -> None:
        log = MemoryStore()
        for start in range(0, len(events), size):  # in several lives, whose batches are of several sizes
            async with clicks(log, kept(Clicks, history=True)) as app:
                await app.record(*events[start : start + size])
                await app.settle()
        async with clicks(log, kept(Clicks, history=True)) as dated, clicks(log).passive() as plain:
            for upto in range(len(events) + 2):
                expected = by_hand(events, upto)
                rows = [Clicks(page, clicks) for page, clicks in sorted(expected.items())]
                for app in (dated, plain):
                    view = app.view(Clicks)
                    assert await view.find(as_of=upto) == rows
                    assert await view.count({"clicks__gt": 1}, as_of=upto) == sum(row.clicks > 1 for row in rows)
                    for page in "abcd":
                        row = Clicks(page, expected[page]) if page in expected else None
                        assert await view.get(page, as_of=upto) == row

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold, "ROWS_REMEMBERED", remembered)
        patch.setattr(subscription, "BATCH", batch)
        asyncio.run(check())


async def test_by_time() -> None:
    clock = Clock(NOON)
    store = MemoryStore(clock=clock)
    async with clicks(store, kept(Clicks, history=True)) as app:
        for _ in range(3):
            await app.record(Clicked("a"))
            clock.advance(timedelta(hours=1))
        await app.settle()
        view = app.view(Clicks)
        assert await view.get("a", as_of=NOON - timedelta(seconds=1)) is None
        assert await view.get("a", as_of=NOON + timedelta(minutes=90)) == Clicks("a", 2)
        assert await view.find(as_of=NOON + timedelta(hours=9)) == [Clicks("a", 3)]
        with pytest.raises(InvalidQuery, match="has no time zone"):
            await view.get("a", as_of=datetime(2026, 3, 1))
        with pytest.raises(InvalidQuery, match="as_of=-1: positions begin at 1"):
            await view.find(as_of=-1)


async def test_tables_as_they_were(log: Log) -> None:
    async with clicks(log, BusyPages) as app:
        await app.record(Clicked("a", 3), Clicked("b", 1), Clicked("a", -1), Clicked("c", 9))
        view = app.view(Busy)
        assert await view.find(as_of=2) == [Busy("a", 3), Busy("b", 1)]
        assert await view.get("a", as_of=2) == Busy("a", 3)
        assert await view.get("a", as_of=3) is None
        assert await view.count(as_of=4) == 2
        assert await view.find({"clicks__gt": 1}, order="-clicks", limit=1, as_of=1) == [Busy("a", 3)]


async def test_a_page_of_the_past_is_built_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async with clicks(log) as app:
        await app.record(*[Clicked(f"p-{n}") for n in range(30)])
        told: list[tuple[int, int]] = []
        view = app.view(Clicks)
        for offset in range(0, 20, 5):
            found = await view.find(as_of=20, limit=5, offset=offset, progress=lambda *at: told.append(at))
            assert len(found) == 5
        assert [at for at in told if at[0] == 20] == [(20, 20)], "however many pages there were"
        built: Any = app._now.travels["Clicks"]._built
        folder = built._folder.name
    assert not Path(folder).exists(), "nothing is left behind"


async def test_a_question_is_bounded(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(travel, "MOST_EVENTS", 5)
    async with clicks(log) as app:
        await app.record(*[Clicked("a")] * 6)
        assert await app.view(Clicks).get("a", as_of=6) == Clicks("a", 6), "one key is not"
        assert await app.view(Clicks).find(as_of=5) == [Clicks("a", 5)]
        with pytest.raises(InvalidQuery, match=r"more than 5 events: keep its history, kept\(Clicks, history=True\)"):
            await app.view(Clicks).find(as_of=6)


async def test_a_past_that_cannot_be_told(log: Log) -> None:
    async with clicks(log, BusyPages) as app:
        await app.record(Clicked("a"), Failing("a"))
        await app.settle()
        BROKEN.add("a")
        try:
            assert await app.view(Busy).find(as_of=1) == [Busy("a", 1)]
            with pytest.raises(InvalidQuery, match=r"the event at position 2 \(Failing\) fails with ValueError$"):
                await app.view(Busy).find(as_of=2)
        finally:
            BROKEN.clear()


async def test_history_goes_on_after_a_switch(log: Log) -> None:
    async with clicks(log) as app:
        await app.record(Clicked("a"), Clicked("a"))
        await app.settle()
    async with clicks(log, kept(Clicks, history=True)) as app:
        await app.record(Clicked("a"))
        await app.settle()
        found: list[State | None] = [await app.view(Clicks).get("a", as_of=position) for position in range(4)]
        assert found == [None, Clicks("a", 1), Clicks("a", 2), Clicks("a", 3)], "also of before it was kept"
        assert await app.view(Clicks).find() == [Clicks("a", 3)]
