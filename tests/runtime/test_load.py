"""Loading states: now, then, and by when things happened; and from snapshots."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Self

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import App, Event, InvalidQuery, Metadata, NewEvent, Singleton, State, StoredEvent, Tag, WiringError
from refold.errors import StoreFull, UndecodableEvent, UnknownEvent
from refold.runtime.books import SNAPSHOTS, Snapshot
from refold.runtime.load import position_at
from refold.store.api import Page
from refold.store.memory import MemoryStore
from refold.store.open import open_store
from refold.testing.clock import Clock
from refold.view.api import Put
from tests.conftest import Log
from tests.runtime.bank import Balance, Deposit, Deposited, Fee, FeeSet, Withdraw, bank
from tests.runtime.meddling import Meddled

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
async def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
async def store(log: Log, clock: Clock) -> AsyncIterator[Meddled]:
    store = await open_store(log, clock=clock) if isinstance(log, str) else MemoryStore(clock=clock)
    yield Meddled(store)
    await store.close()


def amounts(*states: Balance) -> list[int]:
    return [state.amount for state in states]


# What the log knew.


async def test_as_of_a_position_or_a_time(store: Meddled, clock: Clock) -> None:
    async with bank(store) as app:
        for amount in (1, 10, 100):
            await app.execute(Deposit("a", amount))
            clock.advance(HOUR)
        key = Balance("a")
        assert amounts(*[await app.load(key, as_of=position) for position in range(5)]) == [0, 1, 11, 111, 111]
        assert amounts(*[await app.load(key, upto=position) for position in (0, 2, 99)]) == [0, 11, 111]
        assert (await app.load(key, as_of=-1)).amount == 0
        times = [NOON - HOUR, NOON, NOON + HOUR / 2, NOON + HOUR, NOON + 2 * HOUR, NOON + 99 * HOUR]
        assert amounts(*[await app.load(key, as_of=time) for time in times]) == [0, 1, 1, 11, 111, 111]
        elsewhere = (NOON + HOUR).astimezone(timezone(timedelta(hours=-8)))
        assert (await app.load(key, as_of=elsewhere)).amount == 11
        assert (await app.load(key, as_of=NOON + HOUR, upto=1)).amount == 1
        assert (await app.load(key, as_of=2, upto=3)).amount == 11
        assert (await app.load(key)).amount == 111, "the past is not taken for the present"


@pytest.mark.parametrize("name", ["as_of", "effective"])
async def test_times_without_a_zone_are_refused(log: Log, name: str) -> None:
    async with bank(log) as app:
        with pytest.raises(InvalidQuery, match=rf"{name}=datetime.datetime\(2026.* has no time zone"):
            await app.load(Balance("a"), **{name: datetime(2026, 3, 1)})  # type: ignore[arg-type]


class Gapped:
    """A log with gaps between positions, which the port allows."""

    def __init__(self, recorded_at: dict[int, datetime]) -> None:
        self._times = recorded_at
        self.reads = 0

    async def head(self) -> int:
        return max(self._times, default=0)

    async def read(self, *, after: int, upto: int, limit: int):  # type: ignore[no-untyped-def]
        self.reads += 1
        found = [at for at in sorted(self._times) if after < at <= upto][:limit]
        events = [_stored(at, self._times[at]) for at in found]
        yield Page(events, events[-1].position if events else upto)


def _stored(position: int, time: datetime) -> StoredEvent:
    return StoredEvent(position, time, "A", 1, (), b"{}", b"")


@given(
    st.dictionaries(st.integers(1, 200), st.integers(0, 9), max_size=30),
    st.integers(-1, 10),
)
def test_position_at_finds_the_last_one_in_time(minutes: dict[int, int], moment: int) -> None:
    sorted_minutes = dict(zip(sorted(minutes), sorted(minutes.values()), strict=True))
    log = Gapped({at: NOON + minute * HOUR for at, minute in sorted_minutes.items()})
    found = asyncio.run(position_at(log, NOON + moment * HOUR))  # type: ignore[arg-type]
    assert found == max([at for at, minute in sorted_minutes.items() if minute <= moment], default=0)
    assert log.reads <= 9


# What was true.


class Heard(Event):
    topic: Annotated[str, Tag("topic")]
    word: str


class Story(State):
    topic: Annotated[str, Tag("topic")]
    words: tuple[str, ...] = ()

    def evolve(self, event: Heard, metadata: Metadata) -> Self:
        return self.replace(words=(*self.words, f"{event.word}@{metadata.occurred_at}"))


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(-1, 6), st.integers(0, 13))
@settings(deadline=None)
def test_effective_folds_in_the_order_in_which_things_happened(hours: list[int], moment: int, upto: int) -> None:
    async def check() -> None:
        async with App("memory:", events=Heard) as app:
            for number, hour in enumerate(hours):
                await app.record(Heard("t", str(number)), occurred_at=NOON + hour * HOUR)
                await app.record(Heard("other", "noise"))
            happened = [(hour, number) for number, hour in enumerate(hours) if hour <= moment and 2 * number < upto]
            state = await app.load(Story("t"), effective=NOON + moment * HOUR, as_of=upto)
            assert [word.partition("@")[0] for word in state.words] == [str(number) for _, number in sorted(happened)]

    asyncio.run(check())


async def test_effective_by_what_was_known_then(log: Log) -> None:
    async with bank(log) as app:
        await app.record(Deposited("a", 1), occurred_at=NOON)
        await app.record(Deposited("a", 10), occurred_at=NOON + HOUR)
        await app.record(Deposited("a", 100), occurred_at=NOON - HOUR)
        moments = (NOON - 2 * HOUR, NOON - HOUR, NOON, NOON + HOUR)
        known = [[(await app.load(Balance("a"), effective=at, as_of=of)).amount for at in moments] for of in (0, 2, 3)]
        assert known == [[0, 0, 0, 0], [0, 0, 1, 11], [0, 100, 101, 111]]
        assert (await app.load(Balance("a"), effective=NOON)).amount == 101


async def test_what_was_recorded_as_it_happened_is_read_once(store: Meddled) -> None:
    async with bank(store) as app:
        await app.record(*[Deposited("a", 1)] * 10, occurred_at=NOON - HOUR)
        store.reads = 0
        assert (await app.load(Balance("a"), effective=NOON)).amount == 10
        assert store.reads == 1


# What cannot be read.


async def test_an_unknown_event_is_an_error_and_the_app_goes_on(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    async with bank(log) as app:
        await app.execute(Deposit("a", 1))
        await app._now.store.append([NewEvent("Deposited", b"{}", ("account:a",), version=7)])
        await app._now.store.append([NewEvent("Alien", b"{}", ("account:b",))])
        await app._now.store.append([NewEvent("Withdrawn", b'{"amount": "much"}', ("account:c",))])
        with pytest.raises(
            UnknownEvent, match=r"position 2 is a Deposited version 7, but this program knows version 1"
        ):
            await app.load(Balance("a"))
        with pytest.raises(UnknownEvent):
            await app.execute(Withdraw("a", 5))
        assert await app.load(Balance("b")) == Balance("b"), "no state is made of it"
        with pytest.raises(UndecodableEvent, match="position 4, Withdrawn version 1, does not fit"):
            await app.load(Balance("c"))
        with pytest.raises(UnknownEvent, match="position 2"):
            _ = [each async for each in app.events()]
        assert [each.position async for each in app.events(upto=1)] == [1]
        assert (await app.load(Balance("a"), as_of=1)).amount == 1
        await app.execute(Deposit("b", 4))
        assert (await app.load(Balance("b"))).amount == 4


async def test_what_is_no_state_cannot_be_loaded(log: Log) -> None:
    class Orphan(State):
        name: Annotated[str, Tag("topic")]

        def evolve(self, event: Heard) -> Self:
            return self

    async with bank(log) as app:
        with pytest.raises(InvalidQuery, match=r"is not a state: give one with its key, as in `Order\('o-1'\)`"):
            await app.load(Balance)  # type: ignore[type-var]
        with pytest.raises(InvalidQuery, match=r"Balance\.account_id is of type str, which 7 is not"):
            await app.load(Balance(7))  # type: ignore[arg-type]
        with pytest.raises(WiringError, match="Heard is not among the events of this app: add it to `events`"):
            await app.load(Orphan("t"))


# Snapshots.


async def count(app: App, total: int, snapshot_at: list[int]) -> None:
    """Deposit so many times, and note where the snapshot stands after each."""
    for _ in range(total):
        await app.execute(Deposit("a", 1))
        snapshot_at.append(await stands(app))


async def stands(app: App) -> int:
    cls, key, fingerprint = app._now.loader._named(Balance("a"))
    found = await app._now.loader._kept(cls, key)
    return found.position if found and found.fingerprint == fingerprint else 0


async def keep(app: App, position: int, data: bytes) -> None:
    """Keep a snapshot as if it had been taken."""
    await app._now.books[0].open()
    await app._now.books[0].write(Put(SNAPSHOTS, [Snapshot(*app._now.loader._named(Balance("a")), position, data)]))


async def test_a_snapshot_is_taken_every_so_many_events(log: Log) -> None:
    at: list[int] = []
    async with bank(log, snapshot_every=3) as app:
        await count(app, 8, at)
        assert at == [0, 0, 0, 3, 3, 3, 6, 6], "also of a state that is hot all the time"
        assert (await app.load(Balance("a"))).amount == 8


async def test_a_load_begins_at_the_snapshot(store: Meddled) -> None:
    with_views = store._store
    async with bank(with_views, snapshot_every=3) as app:
        await count(app, 7, [])
        await keep(app, 7, msgspec.json.encode(Balance("a", 1_000)))
    async with bank(with_views, snapshot_every=3) as app:
        await app.execute(Deposit("a", 1))
        assert (await app.load(Balance("a"))).amount == 1_001, "a lie, to see where it begins"
        assert (await app.load(Balance("a"), as_of=6)).amount == 6, "not with one of later"
        assert (await app.load(Balance("a"), as_of=7)).amount == 1_000
    async with bank(with_views) as app:
        assert (await app.load(Balance("a"))).amount == 8


async def test_a_snapshot_of_another_fingerprint_is_not_seen(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bank(log, snapshot_every=2) as app:
        await count(app, 5, at := [])
        assert at[-1] == 4
    with monkeypatch.context() as patch:
        patch.setattr("refold.runtime.load.fingerprint", lambda *_: "another")
        async with bank(log, snapshot_every=2) as app:
            assert await stands(app) == 0
            assert (await app.load(Balance("a"))).amount == 5
            assert await stands(app) == 5
    async with bank(log, snapshot_every=2) as app:
        assert await stands(app) == 0, "each state has one, so that they stay few"
        assert (await app.load(Balance("a"))).amount == 5


async def test_a_damaged_snapshot_is_not_used(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    for data in (b"{}", b"\xff\x00", b'{"account_id": "a", "amount": "x"}', b""):
        async with bank(log, snapshot_every=100) as app:
            await app.execute(Deposit("a", 1))
            await keep(app, await app.head(), data)
        async with bank(log, snapshot_every=100) as app:
            assert (await app.load(Balance("a"))).amount == await app.head()
        assert "the snapshot of Balance(account_id='a'" in caplog.text
        caplog.clear()


class Mood(Singleton):
    """What comes back from JSON is another thing than what went in."""

    seen: set[object] = msgspec.field(default_factory=set)

    def evolve(self, event: FeeSet) -> Self:
        return self.replace(seen={*self.seen, event.fee, (1, event.fee)})


async def test_what_cannot_be_a_snapshot_is_folded_each_time(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    async with bank(log, snapshot_every=1) as app:
        await app.record(FeeSet(3))
        with caplog.at_level(logging.WARNING):
            assert (await app.load(Mood())).seen == {3, (1, 3)}
        assert "no snapshot of a Mood" in caplog.text
    async with bank(log, snapshot_every=1) as app:
        assert (await app.load(Mood())).seen == {3, (1, 3)}


async def test_a_disk_that_cannot_keep_snapshots_does_not_stop_reading(
    log: Log, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise StoreFull

    async with bank(log, snapshot_every=1) as app:
        monkeypatch.setattr(app._now.books[0].views, "write", full)
        await app.execute(Deposit("a", 1))
        assert (await app.load(Balance("a"))).amount == 1
        assert "No space is left" in caplog.text


async def test_states_of_a_decision_are_read_at_one_position(store: Meddled) -> None:
    async with bank(store) as app:
        await app.record(FeeSet(1), Deposited("a", 1))

        async def others() -> None:
            store.before_read = None
            store.before_read = again

        async def again() -> None:
            store.before_read = None
            await app.record(FeeSet(2), Deposited("a", 1))

        store.before_read = others
        loaded, position = await app._now.loader.current([Fee(), Balance("a")])
        assert [each.state for each in loaded.values()] == [Fee(1), Balance("a", 1)]
        assert position == 2
        assert {each.position for each in loaded.values()} == {2}


async def test_states_of_the_past_are_read_at_one_position_too(log: Log) -> None:
    async with bank(log) as app:
        await app.record(Deposited("a", 1), Deposited("b", 1), Deposited("b", 1))
        for key in (Balance("a"), Balance("b")):
            await app.load(key)  # both are hot, and one has not changed since
        loaded, position = await app._now.loader.current([Balance("a"), Balance("b")], 2)
        assert position == 2
        assert [(each.state, each.position) for each in loaded.values()] == [(Balance("a", 1), 2), (Balance("b", 1), 2)]
        assert amounts(await app.load(Balance("b")), await app.load(Balance("a"))) == [2, 1]
