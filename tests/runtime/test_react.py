"""Processes: each event has its commands done once, in order, whatever happens meanwhile."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import App, Command, Conflict, Event, Metadata, Reader, Rejected, State, SubscriptionFailed, Tag
from refold.errors import StoreBusy, StoreFull
from refold.runtime import subscription, turns
from refold.runtime.books import CHECKPOINTS
from refold.store.memory import MemoryStore
from refold.store.open import open_store
from refold.view.api import Delete
from tests.conftest import Log
from tests.runtime.meddling import Meddled

Item: TypeAlias = Annotated[str, Tag("item")]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

ON_POSTGRES = True


class Asked(Event):
    item: Item
    times: int = 1


class Done(Event):
    item: Item
    number: int
    seen: int


class Told(Event):
    item: Item


ItemEvent: TypeAlias = Asked | Done | Told


class Do(Command):
    item: Item
    number: int
    seen: int


class Tell(Command):
    item: Item


class Progress(State):
    item: Item
    asked: int = 0
    done: tuple[tuple[int, int], ...] = ()

    def evolve(self, event: Asked | Done) -> Self:
        if isinstance(event, Asked):
            return self.replace(asked=self.asked + 1)
        return self.replace(done=(*self.done, (event.number, event.seen)))


def do(cmd: Do, progress: Progress) -> Done:
    return Done(cmd.item, cmd.number, cmd.seen)


def tell(cmd: Tell) -> Told:
    return Told(cmd.item)


def help_out(event: Asked, progress: Progress) -> Iterable[Do]:
    """Tell how many it was asked for by then, however much later it comes to it."""
    for number in range(event.times):
        yield Do(event.item, number, progress.asked)


def tell_when_done(event: Done) -> Iterable[Tell]:
    if event.number == 0:
        yield Tell(event.item)


def helper(log: Any, *processes: Callable[..., Any], **options: Any) -> App:
    given = {"events": ItemEvent, "decisions": [do, tell], "processes": processes or [help_out, tell_when_done]}
    return App(log, **given | options)


@pytest.fixture
async def store(log: Log) -> AsyncIterator[Meddled]:
    store = await open_store(log) if isinstance(log, str) else log
    yield Meddled(store)
    await store.close()


async def events(app: App) -> list[Event]:
    return [each.event async for each in app.events()]


async def check(app: App) -> None:
    """Each event had its commands done once, in order, by what was known at it."""
    recorded = [each async for each in app.events()]
    asked: dict[str, int] = {}
    expected: dict[str, list[tuple[int, int]]] = {}
    for each in recorded:
        if isinstance(each.event, Asked):
            seen = asked[each.event.item] = asked.get(each.event.item, 0) + 1
            expected.setdefault(each.event.item, []).extend((number, seen) for number in range(each.event.times))
    for item, done in expected.items():
        assert (await app.load(Progress(item))).done == tuple(done)
    told = sum(isinstance(each.event, Told) for each in recorded)
    assert told == sum(number == 0 for done in expected.values() for number, _ in done)


async def test_events_become_commands_become_events(log: Log) -> None:
    async with helper(log) as app:
        await app.record(Asked("a", 2), Asked("b"), id="first", actor="ann", correlation_id="story")
        await app.settle()
        await check(app)
        recorded = [each async for each in app.events()]
        first = recorded[0].metadata
        done = [each.metadata for each in recorded if each.event in (Done("a", 0, 1), Done("a", 1, 1))]
        assert {each.causation_id for each in done} == {f"{first.event_id}"}
        assert {each.correlation_id for each in recorded_metadata(recorded)} == {"story"}
        assert {each.actor for each in recorded_metadata(recorded)} == {"ann"}


def recorded_metadata(recorded: list[Any]) -> list[Metadata]:
    return [each.metadata for each in recorded]


async def test_what_happened_then_is_reacted_to_then(log: Log) -> None:
    async with helper(log) as app:
        await app.record(Asked("a"), occurred_at=NOON)
        await app.record(Asked("b"))
        await app.settle()
        times = {type(each.event).__name__ + each.event.item: each async for each in app.events()}  # type: ignore[attr-defined]
        assert times["Donea"].occurred_at == times["Tolda"].occurred_at == NOON
        assert times["Doneb"].occurred_at == times["Doneb"].recorded_at


async def test_states_are_those_of_the_event(log: Log) -> None:
    async with helper(log, processes=[]) as app:
        await app.record(Asked("a"), Asked("b"), Asked("a"), Asked("a", 2))
    async with helper(log) as app:
        await app.settle()
        await check(app)
        assert (await app.load(Progress("a"))).done == ((0, 1), (0, 2), (0, 3), (1, 3))


async def test_a_reader_looks_at_the_past_too(log: Log) -> None:
    async def look(event: Asked, reader: Reader) -> Do:
        progress = await reader.load(Progress("a"))
        return Do("b", event.times, progress.asked)

    async with helper(log, processes=[]) as app:
        await app.record(Asked("a", 7), Asked("a", 8), Asked("x", 9))
    async with helper(log, look) as app:
        await app.settle()
        assert sorted((await app.load(Progress("b"))).done) == [(7, 1), (8, 2), (9, 2)]


async def test_a_second_delivery_changes_nothing(log: Log) -> None:
    async with helper(log) as app:
        await app.record(Asked("a", 3), Asked("b"))
        await app.settle()
        before = await events(app)
        for name in ("help_out", "tell_when_done"):
            await app._now.reactions[name].stop()
            await app._now.books[0].write(Delete(CHECKPOINTS, [(name,)]))
    async with helper(log) as app:
        await app.settle()
        assert await events(app) == before


async def test_what_was_done_long_ago_is_not_done_again_by_a_retry(log: Log) -> None:
    """Of two commands the first went well; the second is retried when the log knows the first one's id no more."""
    now, broken = [NOON], [True]

    def clock() -> datetime:
        return now[0]

    def tell_unless_broken(cmd: Tell) -> Told:
        if broken[0]:
            raise Rejected("not now")
        return Told(cmd.item)

    def help_and_tell(event: Asked) -> Iterable[Command]:
        yield Do(event.item, 1, 0)
        yield Tell(event.item)
        yield Do(event.item, 2, 0)

    store = log if isinstance(log, str) else MemoryStore(clock=clock)
    async with helper(store, help_and_tell, decisions=[do, tell_unless_broken], clock=clock) as app:
        await app.record(Asked("a"))
        await app.settle(parked=True)
        assert await events(app) == [Asked("a"), Done("a", 1, 0)]
        now[0] += timedelta(days=8)
        await app.record(Asked("b"))
        broken[0] = False
        assert await app.operations.retry() == []
        own = [each.event async for each in app.events([Asked, Done, Told])]
        assert [each for each in own if each.item == "a"] == [
            Asked("a"),
            Done("a", 1, 0),
            Told("a"),
            Done("a", 2, 0),
        ]


async def test_processes_go_on_when_a_passive_app_of_the_same_process_was_closed(log: Log) -> None:
    async with helper(log) as app:
        await app.record(Asked("a"))
        async with app.passive() as other:
            await other.record(Asked("b"))
            await app.settle()
        await app.record(Asked("a"), Asked("b"))
        await app.settle()
        await check(app)


async def test_two_apps_react_once(log: Log) -> None:
    async with helper(log) as one, helper(log) as two:
        for number in range(20):
            await (one, two)[number % 2].record(Asked(f"i-{number % 3}", number % 3))
        await one.settle()
        await two.settle()
        await check(one)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=12), st.integers(0, 12), st.booleans())
@settings(max_examples=40, deadline=None)
def test_whatever_is_asked_is_done_once(asked: list[tuple[str, int]], restart: int, twice: bool) -> None:
    async def run() -> None:
        log = MemoryStore()
        for part in (asked[:restart], asked[restart:]):
            async with helper(log) as one, helper(log) as two:
                for item, times in part:
                    await one.record(*[Asked(item, times)] * (1 + twice))
                await two.settle()
        async with helper(log) as app:
            await app.settle()
            await check(app)

    asyncio.run(run())


async def test_events_of_one_tag_are_handled_in_order_and_others_at_once(log: Log) -> None:
    running: set[str] = set()
    most = 0
    order: list[tuple[str, int]] = []

    async def slow(event: Asked) -> None:
        nonlocal most
        assert event.item not in running
        running.add(event.item)
        most = max(most, len(running))
        order.append((event.item, event.times))
        for _ in range(3):
            await asyncio.sleep(0)
        running.discard(event.item)

    async with helper(log, processes=[]) as app:
        await app.record(*[Asked(f"i-{n % 4}", n) for n in range(20)])
    async with helper(log, slow) as app:
        await app.settle()
    assert most == 4
    for item in {item for item, _ in order}:
        numbers = [number for other, number in order if other == item]
        assert numbers == sorted(numbers)


async def test_only_so_many_are_handled_at_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "AT_ONCE", 2)
    running = most = 0

    async def slow(event: Asked) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    async with helper(log, processes=[]) as app:
        await app.record(*[Asked(f"i-{n}", n) for n in range(9)])
    async with helper(log, slow) as app:
        await app.settle()
    assert most == 2


# What goes wrong.


async def test_a_refused_command_parks_its_key(log: Log) -> None:
    def refuse(cmd: Do, progress: Progress) -> Done:
        if cmd.item == "bad":
            raise Rejected("not this one")
        return Done(cmd.item, cmd.number, cmd.seen)

    async with helper(log, help_out, decisions=[refuse, tell]) as app:
        await app.record(Asked("good"), Asked("bad"), Asked("good", 2), Asked("bad", 3))
        await app.settle(parked=True)
        first, behind = await app.operations.parked()
        assert first.error == (
            "Do(item='bad', number=0, seen=1) was refused: not this one. "
            "Nobody is there to be told: a decision that a process calls records its refusal as an event"
        )
        assert (first.position, first.keys, behind.position, behind.error) == (2, ("item:bad",), 4, "")
        assert (await app.load(Progress("good"))).done, "others go on"
        with pytest.raises(SubscriptionFailed, match=r"help_out has parked position 2 \(Asked\)"):
            await app.settle()
    async with helper(log) as app:
        assert await app.operations.retry() == []
        await app.settle()
        await check(app)


async def test_what_comes_after_a_failure_waits_behind_it(log: Log) -> None:
    reacted: list[str] = []

    def picky(event: Asked) -> None:
        reacted.append(f"{event.item}{event.times}")
        if event.times == 0:
            raise ValueError(event.item)

    async with helper(log, processes=[]) as app:
        await app.record(Asked("a", 1), Asked("b", 0), Asked("c", 0), Asked("b", 2), Asked("a", 3))
    async with helper(log, picky) as app:
        with pytest.raises(SubscriptionFailed, match=r"has parked position 2 \(Asked\): ValueError\('b'\). In all, 2"):
            await app.settle()
        assert sorted(reacted) == ["a1", "a3", "b0", "c0"]


async def test_what_a_process_gives_must_be_commands_that_are_decided(log: Log) -> None:
    def speaks(event: Asked):  # type: ignore[no-untyped-def]
        return "done"

    def records(event: Asked):  # type: ignore[no-untyped-def]
        return [Told(event.item)]

    def shouts(event: Asked):  # type: ignore[no-untyped-def]
        return Unheard(event.item)

    async with helper(log, processes=[]) as app:
        await app.record(Asked("a"))
    for process, message in [
        (speaks, r"speaks gave 'd', but a process gives commands"),
        (records, r"records gave Told\(item='a'\), but a process gives commands"),
        (shouts, "no decision takes .*Unheard: add it to `decisions`"),
    ]:
        async with helper(log, process) as app:
            await app.settle(parked=True)
            [parked] = await app.operations.parked(process.__name__)
            assert re.search(message, parked.error)


class Unheard(Command):
    item: Item


@pytest.mark.parametrize("trouble", [StoreFull("no space"), StoreBusy("busy"), Conflict("overtaken")])
async def test_trouble_that_passes_is_only_a_delay(
    store: Meddled, trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "RETRY_SECONDS", (0.0,))
    async with helper(store._store, processes=[]) as app:
        await app.record(Asked("a", 2), Asked("b"))
    async with helper(store._store) as app:
        real, left = app._now.executor.execute, [trouble] * 3

        async def fails(*args: Any) -> int:
            if left:
                raise left.pop()
            return await real(*args)

        monkeypatch.setattr(app._now.executor, "execute", fails)
        await app.settle()
        assert not left
        await check(app)


async def test_it_stops_in_the_middle_and_goes_on(log: Log) -> None:
    entered = asyncio.Event()
    forever = asyncio.Event()

    async def stuck(event: Asked, progress: Progress) -> AsyncIterator[Do]:
        yield Do(event.item, 0, progress.asked)
        entered.set()
        await forever.wait()

    stuck.__name__ = "help_out"
    async with helper(log, stuck) as app:
        await app.record(Asked("a"), Asked("b"))
        await entered.wait()
    async with helper(log) as app:
        await app.settle()
        await check(app)
