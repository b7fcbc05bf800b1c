"""The story of a thing: every step of it is what loading it at that place would give."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import App, Event, InvalidQuery, Singleton, State, Tag
from refold.model.change import FieldChange
from refold.model.record import NewEvent
from refold.runtime.story import MOST_CHANGES, MOST_STEPS, Story
from refold.store.memory import MemoryStore
from refold.store.open import open_store
from refold.sync import App as SyncApp
from refold.testing.clock import Clock
from tests.conftest import Log
from tests.model.test_upcast import SCHEMA, UPCASTERS, Corrected, Reconciled, TransferredV1
from tests.model.test_upcast import Balance as NewBalance
from tests.runtime.bank import Balance, BankEvent, Closed, Deposit, Deposited, LastActor, Transferred, Withdrawn, bank
from tests.runtime.meddling import Meddled

ON_POSTGRES = True
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
async def store(log: Log) -> AsyncIterator[Meddled]:
    clock = Clock(NOON)
    store = await open_store(log, clock=clock) if isinstance(log, str) else MemoryStore(clock=clock)
    yield Meddled(store)
    await store.close()


def positions(story: Story[Any]) -> list[int]:
    return [step.position for step in story.steps]


async def test_each_event_is_told_with_what_it_changed(log: Log) -> None:
    async with bank(log) as app:
        await app.execute(Deposit("a", 5), actor="ann")
        await app.record(Deposited("b", 1), Transferred("a", "b", 2), Transferred("b", "b", 1), Closed(("a", "b")))
        story = await app.story(Balance("a"))
    assert [(step.position, step.events, step.changes) for step in story.steps] == [
        (1, (Deposited("a", 5),), (FieldChange("amount", 0, 5),)),
        (3, (Transferred("a", "b", 2),), (FieldChange("amount", 5, 3),)),
        (5, (Closed(("a", "b")),), (FieldChange("closed", False, True),)),
    ]
    assert story.steps[0].metadata.actor == "ann"
    assert [step.state.amount for step in story.steps] == [5, 3, 3]
    assert (story.start, story.state) == (Balance("a"), Balance("a", 3, closed=True))
    assert (story.has_earlier, story.has_later, story.upto) == (False, False, 5)


async def test_a_story_is_told_in_parts(log: Log) -> None:
    async with bank(log) as app:
        for amount in range(1, 11):
            await app.record(Deposited("a", amount), Deposited("b", 1))
        newest = await app.story(Balance("a"), limit=3)
        assert positions(newest) == [15, 17, 19]
        assert (newest.start.amount, newest.state.amount) == (28, 55)
        assert (newest.has_earlier, newest.has_later) == (True, False)
        seen, after = list[int](), 0
        while True:
            part = await app.story(Balance("a"), after=after, limit=4)
            seen += positions(part)
            assert part.has_earlier == (after > 0)
            assert part.start == await app.load(Balance("a"), as_of=after)
            if not part.has_later:
                break
            after = part.steps[-1].position
        assert seen == list(range(1, 20, 2))
        then = await app.story(Balance("a"), as_of=6, limit=2)
        assert (positions(then), then.state.amount, then.has_later) == ([3, 5], 6, False)
        assert positions(await app.story(Balance("a"), as_of=7, upto=3)) == [1, 3]
        assert positions(await app.story(Balance("a"), as_of=0)) == []
        assert (await app.story(Balance("nobody"))).state == Balance("nobody")
        at_the_end = await app.story(Balance("a"), after=19)
        assert (at_the_end.steps, at_the_end.state.amount, at_the_end.has_earlier) == ((), 55, True)
        assert positions(await app.story(Balance("a"), as_of=datetime.now(UTC) + HOUR, limit=1)) == [19]
        assert positions(await app.story(Balance("a"), as_of=NOON - 100_000 * HOUR)) == []


async def test_by_the_worlds_time_it_is_told_as_it_happened(store: Meddled) -> None:
    async with bank(store) as app:
        for amount, hours in ((1, 2), (10, 1), (100, 3), (1000, 2), (10_000, 9)):
            await app.record(Deposited("a", amount), occurred_at=NOON + hours * HOUR)
        story = await app.story(Balance("a"), effective=NOON + 3 * HOUR)
        assert positions(story) == [2, 1, 4, 3], "at the same time, what was recorded first comes first"
        assert [step.state.amount for step in story.steps] == [10, 11, 1011, 1111]
        assert story.state == await app.load(Balance("a"), effective=NOON + 3 * HOUR)
        assert positions(await app.story(Balance("a"), effective=NOON + 3 * HOUR, as_of=2)) == [2, 1]
        newest = await app.story(Balance("a"), effective=NOON + 3 * HOUR, limit=2)
        assert (positions(newest), newest.start.amount, newest.has_earlier) == ([4, 3], 11, True)
        part = await app.story(Balance("a"), effective=NOON + 3 * HOUR, after=1, limit=1)
        assert (positions(part), part.start.amount, part.has_earlier, part.has_later) == ([4], 11, True, True)
        first = await app.story(Balance("a"), effective=NOON + 3 * HOUR, after=0, limit=2)
        assert (positions(first), first.has_earlier, first.has_later) == ([2, 1], False, True)
        with pytest.raises(InvalidQuery, match="after=5 is the position of no step"):
            await app.story(Balance("a"), effective=NOON + 3 * HOUR, after=5)


DAYS = st.integers(0, 4)
EVENTS = st.one_of(
    st.builds(Deposited, st.sampled_from("ab"), st.integers(0, 9)),
    st.builds(Withdrawn, st.sampled_from("ab"), st.integers(0, 9)),
    st.builds(Transferred, st.sampled_from("ab"), st.sampled_from("abc"), st.integers(0, 9)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(EVENTS, DAYS), max_size=20), st.integers(0, 20), st.integers(1, 7), DAYS)
def test_every_step_is_what_loading_it_then_would_give(
    events: list[tuple[Event, int]], as_of: int, limit: int, day: int
) -> None:
    async def tell() -> None:
        async with bank(MemoryStore()) as app:
            for event, occurred in events:
                await app.record(event, occurred_at=NOON + timedelta(days=occurred))
            as_it_is = [each.position async for each in app.events(Balance("a"))]
            for wanted in (None, as_of):
                told = await app.story(Balance("a"), as_of=wanted, limit=limit)
                assert told.state == await app.load(Balance("a"), as_of=wanted)
                assert positions(told) == [each for each in as_it_is if wanted is None or each <= wanted][-limit:]
            after = 0
            while after is not None:
                told = await app.story(Balance("a"), after=after, limit=limit)
                for step in told.steps:
                    assert step.state == await app.load(Balance("a"), as_of=step.position)
                    assert step.before == await app.load(Balance("a"), as_of=step.position - 1)
                    assert bool(step.changes) == (step.before != step.state)
                after = told.steps[-1].position if told.has_later else None
            moment = NOON + timedelta(days=day)
            told = await app.story(Balance("a"), effective=moment, as_of=as_of)
            for step in told.steps:
                of_then = [each.state for each in told.steps if each.occurred_at == step.occurred_at]
                assert of_then[-1] == await app.load(Balance("a"), effective=step.occurred_at, as_of=as_of)
            assert told.state == await app.load(Balance("a"), effective=moment, as_of=as_of)

    asyncio.run(tell())


async def test_what_cannot_be_read_or_folded_is_told_and_passed_over(store: Meddled) -> None:
    class Broken(State):
        account_id: Annotated[str, Tag("account")]
        amount: int = 0

        def evolve(self, event: Deposited) -> Self:
            if event.amount == 13:
                raise ZeroDivisionError("unlucky")
            return self.replace(amount=self.amount + event.amount)

    app = App(store, events=[Deposited])
    tags = ("account:a",)
    await store.append(
        [
            NewEvent("Deposited", b'{"account_id":"a","amount":1}', tags),
            NewEvent("Deposited", b'{"account_id":"a","amount":"lots"}', tags),
            NewEvent("Deposited", b'{"account_id":"a","amount":13}', tags),
            NewEvent("Deposited", b'{"account_id":"a","amount":4}', tags, version=2),
            NewEvent("Deposited", b'{"account_id":"a","amount":5}', tags, metadata=b"nonsense"),
            NewEvent("Deposited", b'{"account_id":"a","amount":6}', tags),
        ]
    )
    async with app as running:
        story = await running.story(Broken("a"))
        assert [(step.position, step.state.amount) for step in story.steps] == [
            (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 7)
        ]  # fmt: skip
        assert [bool(step.error) for step in story.steps] == [False, True, True, True, True, False]
        for step, said in zip(story.steps[1:5], ("lots", "unlucky", "version 2", "metadata"), strict=True):
            assert said in step.error
            assert step.changes == ()
        assert (await running.story(Broken("a"), after=5)).start.amount == 1
        assert positions(await running.story(Broken("a"), effective=NOON)) == [1, 2, 3, 4, 5, 6]


async def test_an_old_event_is_one_step_whatever_it_has_become(log: Log) -> None:
    old = App(log, events=[TransferredV1, Reconciled, Corrected])
    async with old:
        await old.record(TransferredV1("a", "a", 300), TransferredV1("a", "b", 100))
        await old.record(Reconciled("b"), Corrected("b", 3), Corrected("b", 0))
    async with App(log, events=SCHEMA.events, upcasters=UPCASTERS) as app:
        to_itself = (await app.story(NewBalance("a"))).steps
        assert [(step.position, len(step.events), step.state.amount) for step in to_itself] == [(1, 2, 0), (2, 1, -1)]
        others = (await app.story(NewBalance("b"))).steps
        assert [(step.position, len(step.events), step.state.amount) for step in others] == [(2, 1, 1), (4, 3, 4)]
        part = await app.story(NewBalance("b"), limit=1)
        assert (positions(part), part.has_earlier, part.has_later) == ([4], True, False)


async def test_one_step_tells_a_bounded_number_of_changes(log: Log) -> None:
    class Grown(Event):
        many: list[int]

    class Garden(Singleton):
        many: tuple[int, ...] = ()

        def evolve(self, event: Grown) -> Self:
            return self.replace(many=tuple(event.many))

    async with App(log, events=Grown) as app:
        await app.record(Grown(list(range(10 * MOST_CHANGES))))
        [step] = (await app.story(Garden())).steps
        assert len(step.changes) == MOST_CHANGES
        assert step.changes[0] == FieldChange("many[0]", after=0)


async def test_the_metadata_that_a_state_wants_are_given(log: Log) -> None:
    async with bank(log) as app:
        await app.execute(Deposit("a", 5), actor="ann", occurred_at=NOON)
        assert (await app.story(LastActor("a"))).state == LastActor("a", "ann", str(NOON))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"limit": 0}, "limit=0"),
        ({"limit": MOST_STEPS + 1}, "1 to 10,000 steps"),
        ({"after": -1}, "after=-1"),
        ({"effective": datetime(2026, 3, 1)}, "no time zone"),
        ({"as_of": datetime(2026, 3, 1)}, "no time zone"),
    ],
)
async def test_what_makes_no_sense_is_refused(asked: dict[str, Any], says: str) -> None:
    async with bank(MemoryStore()) as app:
        with pytest.raises(InvalidQuery, match=says):
            await app.story(Balance("a"), **asked)
        with pytest.raises(InvalidQuery, match="is not a state"):
            await app.story(Balance)  # type: ignore[type-var]


def test_scripts_are_told_too() -> None:
    with SyncApp("memory:", events=BankEvent) as app:
        app.record(Deposited("a", 5), Deposited("a", 6))
        assert app.story(Balance("a"), limit=1).state.amount == 11
