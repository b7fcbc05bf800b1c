"""Timers: what a process asks to be done later is done then, once, unless it is cancelled."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Annotated, Any, Self, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import (
    App,
    Cancel,
    Command,
    Event,
    Later,
    Metadata,
    Rejected,
    State,
    SubscriptionFailed,
    Tag,
    WiringError,
    at,
    cancel,
    later,
)
from refold.errors import StoreBusy
from refold.runtime import subscription
from refold.runtime.books import PARKED, TIMERS
from refold.runtime.waiting import Left
from refold.store.memory import MemoryStore
from refold.store.open import open_store
from refold.testing import Clock
from tests.conftest import Log

ON_POSTGRES = True

OrderId: TypeAlias = Annotated[str, Tag("order")]
MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Placed(Event):
    order_id: OrderId


class Paid(Event):
    order_id: OrderId


class Released(Event):
    order_id: OrderId
    at: datetime


class Reminded(Event):
    order_id: OrderId


class Release(Command):
    order_id: OrderId


class Remind(Command):
    order_id: OrderId


class Refuse(Command):
    order_id: OrderId


class Order(State):
    order_id: OrderId
    status: str = ""

    def evolve(self, event: Placed | Paid | Released) -> Self:
        return self.replace(status=type(event).__name__)


class Broken:
    """The orders that fail; as a mended program would, tests change them without a new definition."""

    def __init__(self) -> None:
        self.orders: set[str] = set()


BROKEN = Broken()


def release(cmd: Release, metadata: Metadata) -> Iterable[Released]:
    """Release without looking: whether it is still wanted is the timers' to know."""
    if cmd.order_id in BROKEN.orders:
        raise ValueError(f"{cmd.order_id} is broken")
    yield Released(cmd.order_id, metadata.occurred_at)


def remind(cmd: Remind) -> Reminded:
    return Reminded(cmd.order_id)


def refuse(cmd: Refuse) -> Iterable[Released]:
    raise Rejected("not today")
    yield


def wait_for_payment(event: Placed | Paid) -> Iterable[Later | Cancel]:
    if isinstance(event, Placed):
        yield later(Release(event.order_id), after=15 * MINUTE, name=f"unpaid {event.order_id}")
    else:
        yield cancel(f"unpaid {event.order_id}")


def shop(log: Any, *processes: Callable[..., Any], **options: Any) -> App:
    given: dict[str, Any] = {
        "events": Placed | Paid | Released | Reminded,
        "decisions": [release, remind, refuse],
        "processes": processes or [wait_for_payment],
    }
    return App(log, **given | options)


@pytest.fixture(autouse=True)
def mended() -> None:
    BROKEN.orders = set()


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
def log(log: Log, clock: Clock) -> Log:
    return MemoryStore(clock=clock) if isinstance(log, MemoryStore) else log


async def released(app: App) -> list[str]:
    return [each.event.order_id async for each in app.events(Released)]


async def test_it_is_done_when_it_is_due_and_not_before(log: Log, clock: Clock) -> None:
    async with shop(log, clock=clock) as app:
        await app.record(Placed("a"), actor="ann", correlation_id="story")
        await app.settle()
        clock.advance(15 * MINUTE - timedelta(microseconds=1))
        await app.settle()
        assert await released(app) == []
        clock.advance(timedelta(microseconds=1))
        await app.settle()
        placed, fired = [each async for each in app.events()]
        assert fired.event == Released("a", NOON + 15 * MINUTE)
        assert (fired.metadata.actor, fired.metadata.correlation_id) == ("ann", "story")
        assert fired.metadata.causation_id == placed.metadata.event_id
        clock.advance(60 * MINUTE)
        await app.settle()
        assert await released(app) == ["a"]


async def test_it_can_be_cancelled_by_name_and_set_anew(log: Log, clock: Clock) -> None:
    async with shop(log, clock=clock) as app:
        await app.record(Placed("paid"), Placed("again"), Placed("unpaid"))
        clock.advance(10 * MINUTE)
        await app.record(Paid("paid"), Placed("again"), Paid("never placed"))
        await app.settle()
        clock.advance(5 * MINUTE)
        await app.settle()
        assert await released(app) == ["unpaid"]
        clock.advance(10 * MINUTE)
        await app.settle()
        assert await released(app) == ["unpaid", "again"]


async def test_set_and_cancelled_in_one_page_leaves_nothing(log: Log, clock: Clock) -> None:
    async with shop(log, clock=clock) as app:
        await app.record(Placed("a"), Paid("a"), Placed("b"), Paid("b"), Placed("b"))
        await app.settle()
        clock.advance(15 * MINUTE)
        await app.settle()
        assert await released(app) == ["b"]


async def test_without_a_name_each_is_its_own(log: Log, clock: Clock) -> None:
    def remind_twice(event: Placed) -> Iterable[Later]:
        yield later(Remind(event.order_id), after=MINUTE)
        yield later(Remind(event.order_id), after=MINUTE)
        yield at(Remind(event.order_id), NOON + 5 * MINUTE)
        yield at(Remind(event.order_id), NOON - 5 * MINUTE)

    async with shop(log, remind_twice, clock=clock) as app:
        await app.record(Placed("a"))
        for expected in (1, 3, 3, 3, 3, 4):
            await app.settle()
            assert len([each async for each in app.events(Reminded)]) == expected
            clock.advance(MINUTE)


async def test_it_outlives_the_app(log: Log, clock: Clock) -> None:
    async with shop(log, clock=clock) as app:
        await app.record(Placed("a"), Placed("b"))
        await app.settle()
    clock.advance(20 * MINUTE)
    for _ in range(2):
        async with shop(log, clock=clock) as app:
            await app.settle()
            assert sorted(await released(app)) == ["a", "b"]


async def test_what_was_recorded_before_it_was_due_comes_first(log: Log, clock: Clock) -> None:
    async with shop(log, clock=clock) as app:
        await app.record(*[Placed(f"o-{number}") for number in range(50)])
        await app.settle()
    async with shop(log, clock=clock).passive() as app:  # the process does not run
        clock.advance(10 * MINUTE)
        for number in range(0, 50, 2):
            await app.record(Paid(f"o-{number}"))
    clock.advance(10 * MINUTE)
    async with shop(log, clock=clock) as app:
        await app.settle()
        assert sorted(await released(app)) == sorted(f"o-{number}" for number in range(1, 50, 2))


async def test_in_the_order_in_which_they_are_due(log: Log, clock: Clock) -> None:
    def remind_late(event: Placed | Paid) -> Iterable[Later]:
        minutes = 3 if isinstance(event, Placed) else 1
        yield later(Release(event.order_id) if minutes == 3 else Remind(event.order_id), after=minutes * MINUTE)

    async with shop(log, remind_late, clock=clock) as app:
        await app.record(Placed("a"), Paid("a"))
        await app.settle()
        clock.advance(5 * MINUTE)
        await app.settle()
        assert [type(each.event) async for each in app.events()] == [Placed, Paid, Reminded, Released]


async def test_by_the_real_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAVE_SECONDS", "CLOCK_SECONDS"):  # what else would have it look again
        monkeypatch.setattr(subscription, name, 1_000.0)

    def remind_soon(event: Placed) -> Later:
        return later(Remind(event.order_id), after=timedelta(milliseconds=80))

    async with shop(f"sqlite:///{tmp_path}/log.db", remind_soon) as app:
        await app.record(Placed("a"))
        async with asyncio.timeout(60):
            async for each in app.follow(Reminded):
                [first] = [each async for each in app.events(Placed)]
                late = each.recorded_at - first.recorded_at
                break
    assert late >= timedelta(milliseconds=80)


async def test_it_does_not_wait_for_more_than_what_came_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "SAVE_SECONDS", 1_000.0)  # what else would have it look again
    dice, count = Random(5), 200

    def soon(event: Placed) -> Later:
        return later(Remind(event.order_id), after=timedelta(milliseconds=dice.randrange(20, 300)))

    def note(cmd: Remind) -> Reminded:
        return Reminded(cmd.order_id)

    async with App(f"sqlite:///{tmp_path}/log.db", events=Placed | Reminded, decisions=[note], processes=[soon]) as app:
        for number in range(count):
            await app.record(Placed(f"o-{number}"))
            await asyncio.sleep(0.005)
        async with asyncio.timeout(60):
            while await app.head() < 2 * count:
                await asyncio.sleep(0.01)


async def test_one_that_fails_is_parked_with_its_key_alone(log: Log, clock: Clock) -> None:
    BROKEN.orders = {"a"}
    async with shop(log, clock=clock) as app:
        await app.record(Placed("a"), Placed("b"))
        await app.settle()
        clock.advance(15 * MINUTE)
        with pytest.raises(SubscriptionFailed, match="a is broken"):
            await app.settle()
        assert await released(app) == ["b"]
        await app.record(Placed("a"), Placed("c"))  # the first waits behind the timer
        await app.settle(parked=True)
        failed, waits = await app.operations.parked()
        assert (failed.type, failed.timer, bool(failed.error)) == ("Release", "unpaid a", True)
        assert (waits.type, waits.timer, waits.error) == ("Placed", "", "")
        BROKEN.orders = set()
        assert await app.operations.retry(failed) == []
        await app.settle()
        assert await released(app) == ["b", "a"]
        clock.advance(15 * MINUTE)
        await app.settle()
        assert await released(app) == ["b", "a", "a", "c"] or await released(app) == ["b", "a", "c", "a"]


async def test_it_waits_behind_a_parked_event_of_its_key(log: Log, clock: Clock) -> None:
    def only_if_mended(event: Placed | Paid) -> Iterable[Later | Cancel]:
        if isinstance(event, Paid) and event.order_id in BROKEN.orders:
            raise ValueError("no payment")
        yield from wait_for_payment(event)

    BROKEN.orders = {"a"}
    async with shop(log, only_if_mended, clock=clock) as app:
        await app.record(Placed("a"), Placed("b"))
        await app.record(Paid("a"))
        await app.settle(parked=True)
        clock.advance(15 * MINUTE)
        await app.settle(parked=True)
        assert await released(app) == ["b"]
        assert [each.type for each in await app.operations.parked()] == ["Paid", "Release"]
        BROKEN.orders = set()
        await app.operations.retry()
        await app.settle()
        # The payment, which came in time, has cancelled it.
        assert await released(app) == ["b"]
        assert await app.operations.parked() == []


async def test_a_skipped_one_is_gone_for_good(log: Log, clock: Clock) -> None:
    BROKEN.orders = {"a"}
    async with shop(log, clock=clock) as app:
        await app.record(Placed("a"))
        await app.settle()
        clock.advance(15 * MINUTE)
        await app.settle(parked=True)
        [parked] = await app.operations.parked()
        await app.operations.skip(parked, reason="the customer called", actor="ann")
        BROKEN.orders = set()
        await app.settle()
        assert await released(app) == []
        [skipped] = await app.operations.skipped()
        assert (skipped.type, skipped.reason, skipped.actor) == ("Release", "the customer called", "ann")
        assert await app.operations.waiting() == []


async def test_a_refusal_is_parked(log: Log, clock: Clock) -> None:
    def ask_in_vain(event: Placed) -> Later:
        return later(Refuse(event.order_id), after=MINUTE)

    async with shop(log, ask_in_vain, clock=clock) as app:
        await app.record(Placed("a"))
        await app.settle()
        clock.advance(MINUTE)
        await app.settle(parked=True)
        [parked] = await app.operations.parked()
        assert "was refused: not today" in parked.error


async def test_an_imported_event_is_followed_by_what_happened_then(log: Log, clock: Clock) -> None:
    async with shop(log, clock=clock) as app:
        await app.record(Placed("a"), occurred_at=datetime(2017, 5, 1, tzinfo=UTC))
        await app.settle()
        [_, each] = [each async for each in app.events()]
        assert each.occurred_at == datetime(2017, 5, 1, 0, 15, tzinfo=UTC)
        assert each.recorded_at == NOON


async def test_what_nothing_decides_is_told_when_it_is_asked_for(log: Log, clock: Clock) -> None:
    def ask_for_nothing(event: Placed) -> Later:
        return later(Refuse(event.order_id), after=MINUTE)

    async with shop(log, ask_for_nothing, decisions=[release, remind]) as app:
        await app.record(Placed("a"))
        await app.settle(parked=True)
        [parked] = await app.operations.parked()
        assert "no decision takes Refuse, which is asked for later: add one" in parked.error


async def test_a_command_that_is_not_known_any_more_is_parked(log: Log, clock: Clock) -> None:
    async with shop(log, clock=clock) as app:
        await app.record(Placed("a"))
        await app.settle()
    clock.advance(15 * MINUTE)
    async with shop(log, clock=clock, decisions=[remind]) as app:
        await app.settle(parked=True)
        [parked] = await app.operations.parked()
        assert "no decision takes Release any more" in parked.error
    async with shop(log, clock=clock) as app:
        await app.operations.retry()
        await app.settle()
        assert await released(app) == ["a"]


async def test_two_commands_of_one_name_are_refused() -> None:
    def other() -> Callable[..., Any]:
        class Release(Command):
            order_id: OrderId

        def decide(cmd: Release) -> Iterable[Released]:
            raise NotImplementedError

        decide.__annotations__["cmd"] = Release
        return decide

    with pytest.raises(WiringError, match="two commands are called Release"):
        shop("memory:", decisions=[release, remind, refuse, other()])


async def test_two_apps_do_it_once(log: Log, clock: Clock) -> None:
    async with shop(log, clock=clock) as first:
        await first.record(*[Placed(f"o-{number}") for number in range(20)])
        async with shop(log, clock=clock) as second:
            await first.settle()
            clock.advance(15 * MINUTE)
            await asyncio.gather(first.settle(), second.settle())
        await first.settle()
        assert len(await released(first)) == 20


async def test_done_but_its_row_not_removed_is_not_done_again(
    log: Log, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(log, clock=clock) if isinstance(log, str) else log
    async with shop(store, clock=clock) as app:
        await app.record(Placed("a"), Placed("b"))
        await app.settle()
    fired: list[int] = []
    async with shop(store, clock=clock) as app:
        await app.settle()
        lease = app._now.reactions["wait_for_payment"]._lease
        write = lease.write

        async def failing(writes: Any, upto: Any = None) -> None:
            fired.append(len(writes))
            if len(fired) == 1:
                raise StoreBusy
            await write(writes, upto)

        monkeypatch.setattr(lease, "write", failing)
        clock.advance(15 * MINUTE)
        await app.settle()
        await app.settle()
        assert len(fired) > 1
        assert sorted(await released(app)) == ["a", "b"]
        assert await app.operations.waiting() == []
    if isinstance(log, str):
        await store.close()


async def test_who_waits_for_what_is_told(log: Log, clock: Clock) -> None:
    BROKEN.orders = {"a"}
    async with shop(log, clock=clock) as app:
        await app.record(Placed("a"), Placed("b"))
        await app.settle()
        a, b = await app.operations.waiting()
        assert (a.process, a.key, a.name, a.command) == ("wait_for_payment", "order:a", "unpaid a", Release("a"))
        assert (a.since, a.due, a.error, b.key) == (NOON, NOON + 15 * MINUTE, "", "order:b")
        clock.advance(15 * MINUTE)
        await app.settle(parked=True)
        await app.record(Paid("a"))
        await app.settle(parked=True)
        timer, paid = await app.operations.waiting()
        assert (timer.key, timer.is_stuck, "a is broken" in timer.error) == ("order:a", True, True)
        assert (paid.key, paid.is_stuck, paid.event) == ("order:a", True, "Paid")
        assert [each.is_stuck for each in await app.operations.waiting("wait_for_payment")] == [True, True]
        await app.operations.give_up("wait_for_payment", "order:a", reason="fraud", actor="ann")
        assert await app.operations.waiting() == []
        assert {each.reason for each in await app.operations.skipped()} == {"fraud"}


async def test_the_first_of_what_is_waited_for_is_what_is_stuck_and_then_what_is_due(log: Log, clock: Clock) -> None:
    BROKEN.orders = {"b"}
    async with shop(log, clock=clock) as app:
        operations = app.operations
        await app.record(Placed("b"))
        await app.settle()
        clock.advance(15 * MINUTE)
        await app.settle(parked=True)
        await app.record(Paid("b"))
        for order in ("z", "y", "x"):
            await app.record(Placed(order))
            await app.settle(parked=True)
            clock.advance(MINUTE)
        timer, paid, *others = await operations.waiting(limit=9)
        assert [(timer.key, timer.name), paid.event] == [("order:b", "unpaid b"), "Paid"]
        assert [each.key for each in others] == ["order:z", "order:y", "order:x"], "in the order in which they are due"
        assert await operations.waiting("wait_for_payment", limit=3) == [timer, paid, others[0]]
        assert sorted(map(repr, await operations.waiting())) == sorted(map(repr, [timer, paid, *others]))
        assert await operations.left() == Left(count=5, stuck=2, timers=4)
        assert await operations.left("wait_for_payment") == Left(count=5, stuck=2, timers=4)


async def test_giving_up_cancels_what_was_to_come(log: Log, clock: Clock) -> None:
    async with shop(log, clock=clock) as app:
        await app.record(Placed("a"), Placed("b"))
        await app.settle()
        await app.operations.give_up("wait_for_payment", "order:a", reason="fraud")
        clock.advance(15 * MINUTE)
        await app.settle()
        assert await released(app) == ["b"]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["place", "pay", "settle"]), st.integers(0, 9)),
        max_size=25,
    )
)
def test_it_is_as_if_somebody_had_watched_the_clock(steps: list[tuple[str, str, int]]) -> None:
    """However seldom the process comes to run, the same is done as by one that looks every minute."""

    async def run() -> None:
        clock = Clock(NOON)
        store = MemoryStore(clock=clock)
        expected: list[str] = []
        waiting: dict[str, datetime] = {}

        def watch() -> None:
            for order, due in list(waiting.items()):
                if due <= clock():
                    expected.append(order)
                    del waiting[order]

        async with shop(store, clock=clock) as app:
            for order, step, minutes in steps:
                clock.advance(minutes * MINUTE)
                if step == "settle":
                    await app.settle()
                    watch()
                elif step == "place":
                    await app.record(Placed(order))
                    waiting.pop(order, None)  # as the process sees it: events first, then what is due
                    waiting[order] = clock() + 15 * MINUTE
                else:
                    await app.record(Paid(order))
                    waiting.pop(order, None)
                await app.settle()
                watch()
            clock.advance(60 * MINUTE)
            await app.settle()
            watch()
            assert sorted(await released(app)) == sorted(expected)
            books = app._now.books[0]
            assert await books.find(TIMERS) == []
            assert await books.find(PARKED) == []

    asyncio.run(run())
