"""Projections: rows are what a fold of the log from its beginning gives, each event once."""

import asyncio
import logging
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from refold import (
    App,
    Event,
    InvalidQuery,
    Metadata,
    NewEvent,
    NotKept,
    Singleton,
    State,
    SubscriptionFailed,
    Tag,
    WaitTimeout,
)
from refold.errors import StoreError, StoreFull
from refold.runtime import fold, subscription
from refold.store.memory import MemoryStore
from refold.store.open import open_store
from refold.view.memory import MemoryViews
from tests.conftest import Log

Order: TypeAlias = Annotated[str, Tag("order")]
Sku: TypeAlias = Annotated[str, Tag("sku")]
Day: TypeAlias = Annotated[date, Tag("day")]

ON_POSTGRES = True


class Color(Enum):
    RED = "red"
    BLUE = "blue"


Shade: TypeAlias = Annotated[Color, Tag("color")]


class Line(Struct, frozen=True):
    sku: Sku
    quantity: int


class Placed(Event):
    order: Order
    lines: tuple[Line, ...]
    at: datetime | None = None


class Painted(Event):
    order: Order
    color: Shade | None
    day: Day


class Cancelled(Event):
    order: Order


class Odd(Event):
    order: Order
    fails: bool = True


ShopEvent: TypeAlias = Placed | Painted | Cancelled | Odd


class OrderSummary(State):
    order: Order
    quantity: int = 0
    events: int = 0
    cancelled: bool = False
    at: datetime | None = None
    days: int = 0
    """On how many days, as the event's clock had it, something came."""

    def evolve(self, event: Placed | Cancelled) -> Self:
        match event:
            case Placed():
                new = event.at is not None and (self.at is None or event.at.date() != self.at.date())
                return self.replace(
                    quantity=self.quantity + sum(line.quantity for line in event.lines),
                    events=self.events + 1,
                    at=event.at or self.at,
                    days=self.days + new,
                )
            case Cancelled():
                return self.replace(cancelled=True, events=self.events + 1)


class Sold(State):
    sku: Sku
    quantity: int = 0
    orders: tuple[str, ...] = ()

    def evolve(self, event: Placed) -> Self:
        mine = sum(line.quantity for line in event.lines if line.sku == self.sku)
        return self.replace(quantity=self.quantity + mine, orders=(*self.orders, event.order))


class InOrder(State):
    """A composite key, one part of which is in a collection."""

    order: Order
    sku: Sku
    quantity: int = 0

    def evolve(self, event: Placed) -> Self:
        return self.replace(quantity=self.quantity + sum(each.quantity for each in event.lines if each.sku == self.sku))


class Paint(State):
    """A composite key of plain fields, one of which may be missing."""

    day: Day
    color: Shade
    orders: tuple[str, ...] = ()

    def evolve(self, event: Painted) -> Self:
        return self.replace(orders=(*self.orders, event.order))


class Total(Singleton):
    placed: int = 0
    first: str = ""
    actors: tuple[str, ...] = ()

    def evolve(self, event: Placed, metadata: Metadata) -> Self:
        return self.replace(
            placed=self.placed + 1,
            first=self.first or str(metadata.occurred_at),
            actors=tuple(sorted({*self.actors, metadata.actor})),
        )


class Careful(State):
    order: Order
    events: int = 0

    def evolve(self, event: Placed | Odd) -> Self:
        if isinstance(event, Odd) and event.fails:
            raise ValueError("this is odd")
        return self.replace(events=self.events + 1)


PROJECTIONS: list[type[State]] = [OrderSummary, Sold, InOrder, Paint, Total]


def shop(log: Log, *projections: type[State], **options: Any) -> App:
    return App(log, events=ShopEvent, projections=projections or PROJECTIONS, **options)


def placed(order: str, **quantities: int) -> Placed:
    return Placed(order, tuple(Line(sku, quantity) for sku, quantity in quantities.items()))


async def rows(app: App, projection: type[State]) -> dict[tuple[Any, ...], State]:
    view = app.view(projection)
    key = [each for each in projection.__struct_fields__ if each in ("order", "sku", "day", "color")]
    return {tuple(getattr(row, name) for name in key): row for row in await view.find()}


async def folded(app: App, projection: type[State]) -> dict[tuple[Any, ...], State]:
    """Fold the log by keys, with nothing of the code that keeps rows."""
    found: dict[tuple[Any, ...], Any] = {}
    keys = {
        OrderSummary: lambda event: [(event.order,)],
        Careful: lambda event: [(event.order,)],
        Sold: lambda event: [(line.sku,) for line in event.lines],
        InOrder: lambda event: [(event.order, line.sku) for line in event.lines],
        Paint: lambda event: [(event.day, event.color)] if event.color else [],
        Total: lambda _: [()],
    }[projection]
    takes = {Careful: (Placed, Odd), OrderSummary: (Placed, Cancelled), Paint: (Painted,)}.get(projection, (Placed,))
    async for each in app.events():
        if isinstance(each.event, takes):
            for key in dict.fromkeys(keys(each.event)):
                state = found.get(key) or projection(*key)
                wants = (each.event, each.metadata) if projection is Total else (each.event,)
                found[key] = state.evolve(*wants)
    return found


async def agree(app: App, *projections: type[State]) -> None:
    await app.settle()
    for projection in projections or PROJECTIONS:
        assert await rows(app, projection) == await folded(app, projection)


async def test_rows_follow_the_log(log: Log) -> None:
    async with shop(log) as app:
        await app.record(placed("o-1", tea=2, cup=1), actor="ann")
        at = await app.record(placed("o-2", tea=5), placed("o-1", tea=1), Cancelled("o-2"))
        summary = app.view(OrderSummary)
        assert await summary.get("o-1", at_least=at) == OrderSummary("o-1", 4, 2)
        assert await summary.get("o-2") == OrderSummary("o-2", 5, 2, cancelled=True)
        assert await summary.get("o-3") is None
        assert await app.view(Sold).find({"quantity__gt": 1}, order="-quantity", at_least=at) == [
            Sold("tea", 8, ("o-1", "o-2", "o-1"))
        ]
        assert await app.view(InOrder).get("o-1", "tea", at_least=at) == InOrder("o-1", "tea", 3)
        total = await app.view(Total).get(at_least=at)
        assert total is not None
        assert (total.placed, total.actors) == (3, ("", "ann"))
        assert await summary.count({"cancelled": True}) == 1
        await agree(app)


async def test_a_key_may_be_missing_from_an_event(log: Log) -> None:
    async with shop(log, Paint) as app:
        days = [date(2026, 3, 1), date(2026, 3, 2)]
        await app.record(*[Painted(f"o-{n}", color, day) for n, color in enumerate([*Color, None]) for day in days])
        await app.settle()
        assert await app.view(Paint).count() == 4
        assert await app.view(Paint).get(days[1], Color.BLUE) == Paint(days[1], Color.BLUE, ("o-1",))
        assert await app.view(Paint).find({"color": "red", "day__gt": days[0]}) == [Paint(days[1], Color.RED, ("o-0",))]
        await agree(app, Paint)


async def test_a_value_of_a_key_that_comes_twice_counts_once(log: Log) -> None:
    async with shop(log, Sold) as app:
        await app.record(Placed("o-1", (Line("tea", 1), Line("tea", 2))))
        await app.settle()
        assert await app.view(Sold).get("tea") == Sold("tea", 3, ("o-1",))


orders = st.sampled_from(["o-1", "o-2", "o-3"])
skus = st.sampled_from(["tea", "cup", "pot"])
zones = st.sampled_from([UTC, timezone(timedelta(hours=5)), timezone(-timedelta(hours=9))])
times = st.datetimes(datetime(2026, 3, 1), datetime(2026, 3, 3), timezones=zones)
events = st.one_of(
    st.builds(Placed, orders, st.lists(st.builds(Line, skus, st.integers(1, 3)), max_size=3).map(tuple)),
    st.builds(Painted, orders, st.none() | st.sampled_from(Color), st.just(date(2026, 3, 1))),
    st.builds(Cancelled, orders),
)


@given(st.lists(st.lists(events, min_size=1, max_size=4), max_size=6), st.integers(0, 6), st.sampled_from([0, 2, 100]))
@settings(max_examples=60, deadline=None)
def test_rows_are_a_fold_of_the_log(batches: list[list[Event]], restart: int, remembered: int) -> None:
    async def check() -> None:
        log = MemoryStore()
        for part in (batches[:restart], batches[restart:]):
            async with shop(log) as one, shop(log) as two:
                for batch in part:
                    await one.record(*batch)
                    await asyncio.sleep(0)
                await two.settle()
                await agree(one)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold, "ROWS_REMEMBERED", remembered)
        asyncio.run(check())


@given(st.lists(st.tuples(orders, times), max_size=12), st.sets(st.integers(0, 12)))
@settings(max_examples=40, deadline=None)
def test_times_are_the_same_whether_a_row_is_remembered_or_read(
    given: list[tuple[str, datetime]], restarts: set[int]
) -> None:
    async def keep(restarts: set[int]) -> list[OrderSummary]:
        log = MemoryStore()
        for number, (order, at) in enumerate(given):
            if number in restarts:
                async with shop(log, OrderSummary) as app:
                    await app.settle()
            async with App(log, events=ShopEvent) as app:
                await app.record(Placed(order, (), at))
        async with shop(log, OrderSummary) as app:
            await app.settle()
            return await app.view(OrderSummary).find()

    once = asyncio.run(keep(set()))
    assert asyncio.run(keep(restarts)) == once
    assert all(row.at is None or row.at.tzinfo is UTC for row in once)


async def test_what_is_being_written_is_folded_on(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is folded while the one before is on its way: then the database has older rows than it goes on from."""
    monkeypatch.setattr(fold, "ROWS_REMEMBERED", 0)
    async with shop(log, Sold) as app:
        views = app._now.books[0].views
        write = views.write

        async def slowly(*args: Any) -> bool:
            await asyncio.sleep(0.005)
            return await write(*args)

        monkeypatch.setattr(views, "write", slowly)
        for number in range(12):
            await app.record(placed(f"o-{number}", tea=1, **{f"s{number}": 1}))
            await asyncio.sleep(0.002)
        await agree(app, Sold)


async def test_two_apps_apply_each_event_once(log: Log) -> None:
    async with shop(log) as one, shop(log) as two:
        for number in range(40):
            await (one, two)[number % 2].record(placed(f"o-{number % 3}", tea=1))
        await agree(one)
        await agree(two)


WORKER = """
import asyncio, sys
from tests.runtime.test_project import placed, shop

async def main(url, name):
    async with shop(url) as app:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(40):
            await app.record(placed(f"o-{number % 3}", tea=1, cup=number), actor=name)
        await app.settle()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_apply_each_event_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("ann", "bo")
    ]
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.communicate("go\n", timeout=100)
        assert worker.returncode == 0
    async with shop(url) as app:
        assert await app.head() == 80
        await agree(app)


async def test_an_app_opens_again_where_it_was(log: Log) -> None:
    app = shop(log)
    for number in range(3):
        async with app:
            await app.record(placed("o-1", tea=1), Painted("o-1", None, date(2026, 3, 1)))
            if number:
                await agree(app)


# Changed code.


async def test_a_changed_projection_is_built_anew(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop(log) as app:
        await app.record(placed("o-1", tea=3))
        await agree(app)
    with monkeypatch.context() as patch:
        patch.setattr(OrderSummary, "evolve", counts_twice)
        async with shop(log) as app:
            await app.settle()
            assert await app.view(OrderSummary).get("o-1") == OrderSummary("o-1", 6)
            assert await app.view(Sold).get("tea") == Sold("tea", 3, ("o-1",)), "others stay"
    async with shop(log) as app:
        await agree(app)


def counts_twice(self: OrderSummary, event: Placed) -> OrderSummary:
    return self.replace(quantity=self.quantity + 2 * sum(line.quantity for line in event.lines))


# What goes wrong.


async def test_an_event_that_cannot_be_read_parks_its_keys(log: Log) -> None:
    async with shop(log, Careful, Paint) as app:
        await app._now.store.append([NewEvent("Odd", b"{}", ("order:o-1",), version=2)])
        await app.record(placed("o-1", tea=1), placed("o-2", tea=1))
        await app.settle(parked=True)
        assert await rows(app, Careful) == {("o-2",): Careful("o-2", 1)}
        first, second = await app.operations.parked()
        assert "version 2, but" in first.error
        assert (first.keys, second.keys, second.error) == (("order:o-1",), ("order:o-1",), "")
        with pytest.raises(SubscriptionFailed, match=r"Careful@\w+ has parked position 1 \(Odd\): .*version 2, but"):
            await app.settle()


async def test_a_store_that_fails_is_tried_again(
    log: Log, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subscription, "RETRY_SECONDS", (0.0,))
    async with shop(log, Sold) as app:
        views = app._now.books[0].views
        real = views.write
        failures = [StoreFull("no space"), StoreError("odd"), StoreFull("no space")]

        async def fails(*args: Any, **options: Any) -> bool:
            if failures:
                raise failures.pop()
            return await real(*args, **options)

        monkeypatch.setattr(views, "write", fails)
        await app.record(placed("o-1", tea=1))
        await agree(app, Sold)
        assert not failures
        assert "waits 0.0 s: no space" in caplog.text


async def test_a_store_that_goes_on_failing_is_told_to_who_waits(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "RETRY_SECONDS", (0.001,))
    async with shop(log, Sold) as app:
        views = app._now.books[0].views

        async def fails(*_: Any, **__: Any) -> bool:
            raise StoreFull("no space")

        for name in ("write", "get"):  # also while it recovers
            monkeypatch.setattr(views, name, fails)
        await app.record(placed("o-1", tea=1))
        [sold] = app._now.subscriptions()
        while not sold._trouble:
            await asyncio.sleep(0.001)
        with pytest.raises(WaitTimeout, match=r"at position 0 after .*1 short of 1. It is held up: no space") as late:
            await app.wait(1, timeout=0.1)
        assert (late.value.data["subscription"], late.value.data["position"]) == ("Sold", 0)
        monkeypatch.undo()
        await agree(app, Sold)


async def test_a_disk_that_is_full_at_the_end_does_not_fail_the_exit(
    log: Log, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with shop(log, Sold) as app:
        for _ in range(2):  # the second one is not saved at once
            await app.record(Cancelled("o-1"))
            await app.settle()

        async def fails(*_: Any, **__: Any) -> bool:
            raise StoreFull("no space")

        monkeypatch.setattr(app._now.books[0].views, "write", fails)
    assert re.search(r"Sold@\w+ could not save that it is at 2: no space", caplog.text)
    monkeypatch.undo()
    async with shop(log, Sold) as app:
        await agree(app, Sold)


class Precise(State):
    order: Order
    ratio: float = 0.0

    def evolve(self, event: Placed) -> Self:
        quantity = sum(line.quantity for line in event.lines)
        return self.replace(ratio=float("nan") if quantity == 1 else float(quantity))


async def test_a_value_that_no_row_can_hold_parks_its_key(log: Log) -> None:
    async with shop(log, Precise) as app:
        await app.record(placed("o-1", tea=1), placed("o-2", tea=3))
        await app.settle(parked=True)
        await app.record(placed("o-1", tea=3), placed("o-3"))
        await app.settle(parked=True)
        assert await app.view(Precise).find() == [Precise("o-2", 3.0), Precise("o-3", 0.0)]
        for _ in range(2):
            parked = await app.operations.retry()
            assert [(each.position, bool(each.error)) for each in parked] == [(1, True), (3, False)]
        assert "nan cannot be kept" in parked[0].error


async def test_a_store_that_closes_stops_it(log: Log) -> None:
    store = await open_store(log) if isinstance(log, str) else log
    async with shop(store, Sold) as app:
        await app.settle()
        waiting = asyncio.create_task(app.wait(5))
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(SubscriptionFailed, match=r"Sold@\w+ stopped after position 0: the log was closed"):
            await waiting


# Checkpoints.


async def test_a_checkpoint_moves_over_the_events_of_others(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop(log, Sold) as app:
        at = await app.record(*[Cancelled("o-1")] * 5)
        await app.wait(at)
    async with shop(log, Sold) as app:
        assert [each.position for each in app._now.subscriptions()] == [5]


async def test_a_checkpoint_is_saved_when_it_is_quiet(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "SAVE_SECONDS", 0.02)
    async with shop(log, Sold) as app:
        other = app.passive()
        async with other:
            at = await app.record(Cancelled("o-1"))
            await other.wait(at)


async def test_an_app_that_is_passive_disturbs_no_other(log: Log) -> None:
    async with shop(log, Sold) as app:
        async with app.passive() as other:
            await other.record(placed("o-1", tea=1))
            await other.settle()
            assert await other.view(Sold).get("tea") == Sold("tea", 1, ("o-1",))
        await app.record(placed("o-1", tea=1))
        await agree(app, Sold)


async def test_a_view_that_nobody_keeps_says_so(log: Log) -> None:
    async with shop(log, Sold).passive() as app:
        with pytest.raises(NotKept, match="no app has run on this log yet"):
            await app.view(Sold).get("tea")


async def test_memory_does_not_grow_with_the_rows() -> None:
    recent = fold.Recent(10)
    for number in range(100):
        recent.put({(number,): OrderSummary(str(number))})
        assert recent.get((number,)) is not None
    assert len(recent._newer) + len(recent._older) <= 11
    recent.put({(number,): OrderSummary("x") for number in range(50)})
    recent.put({(60,): OrderSummary("x")})
    assert recent.get((49,)) is not None


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)


# How it is asked.


async def test_mistakes_in_what_is_asked(log: Log) -> None:
    async with shop(log) as app:
        view = app.view(Paint)
        with pytest.raises(InvalidQuery, match="the key of Paint is day, color; 1 values were given"):
            await view.get(date(2026, 3, 1))
        with pytest.raises(InvalidQuery, match=r"Paint\.color is of type Color, which 'red' is not"):
            await view.get(date(2026, 3, 1), "red")
        with pytest.raises(InvalidQuery, match="the key of Total is empty; 1 values were given"):
            await app.view(Total).get("x")
        with pytest.raises(InvalidQuery, match=r"Sold has no field 'size'; it has sku, quantity, orders"):
            await app.view(Sold).find(order="size")
        with pytest.raises(InvalidQuery, match="limit and offset count rows, so they are not negative: -1, 0"):
            await app.view(Sold).find(limit=-1)


async def test_views_of_one_log_in_memory_are_shared() -> None:
    store = MemoryStore()
    async with shop(store, Sold) as one:
        await one.record(placed("o-1", tea=1))
        await one.settle()
    async with shop(store, Sold) as two:
        assert [each.position for each in two._now.subscriptions()] == [1]
        assert isinstance(two._now.books[0].views, MemoryViews)
