"""Executing commands: conditions, conflicts, retries, ids."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec import field

from refold import App, Command, Conflict, InvalidEvent, Metadata, Reader, Rejected, WiringError
from refold.errors import AppendIdReused, StoreFull
from refold.model.schema import Schema
from refold.runtime import execute
from refold.store.memory import MemoryStore
from refold.store.open import open_store
from tests.conftest import Log
from tests.runtime.bank import (
    DECISIONS,
    AccountId,
    Balance,
    Close,
    Deposit,
    Deposited,
    Drain,
    Fee,
    FeeSet,
    Note,
    Overdrawn,
    SetFee,
    Transfer,
    Withdraw,
    Withdrawn,
    bank,
)
from tests.runtime.meddling import Meddled


@pytest.fixture
async def app(log: Log) -> AsyncIterator[App]:
    async with bank(log) as app:
        yield app


@pytest.fixture
async def store(log: Log) -> AsyncIterator[Meddled]:
    store = await open_store(log) if isinstance(log, str) else log
    yield Meddled(store)
    await store.close()


async def amount(app: App, account: str = "a") -> int:
    return (await app.load(Balance(account))).amount


async def test_a_command_becomes_events(app: App) -> None:
    assert await app.execute(Deposit("a", 10)) == 1
    assert await app.execute(Withdraw("a", 3)) == 2
    assert await amount(app) == 7
    assert [each.event async for each in app.events()] == [Deposited("a", 10), Withdrawn("a", 3)]


async def test_a_refusal_passes_through_and_nothing_is_appended(app: App) -> None:
    with pytest.raises(Overdrawn, match="There is not enough money"):
        await app.execute(Withdraw("a", 1))
    assert await app.head() == 0


async def test_no_events_are_no_append_and_the_position_is_the_head(app: App) -> None:
    await app.execute(Deposit("b", 1))
    assert await app.execute(Transfer("a", "b", 5)) == 1
    assert await app.execute(Drain("a")) == 1


async def test_a_state_that_is_not_asked_for_makes_no_conflict(store: Meddled) -> None:
    async with bank(store) as app:
        await app.execute(Deposit("a", 5))

        async def others() -> None:
            store.before_append = None
            await app.record(Deposited("b", 1))

        store.before_append = others
        assert await app.execute(Withdraw("a", 5)) == 3
        assert store.appends == 3


async def test_a_conflict_is_decided_again_with_what_is_new(store: Meddled) -> None:
    async with bank(store) as app:
        await app.execute(Deposit("a", 5))

        async def others() -> None:
            store.before_append = None
            await app.record(Withdrawn("a", 1))

        store.before_append = others
        with pytest.raises(Overdrawn):
            await app.execute(Withdraw("a", 5))
        assert await amount(app) == 4


async def test_an_unguarded_state_makes_no_conflict_but_is_read_fresh(store: Meddled) -> None:
    async with bank(store) as app, bank(store) as other:
        await app.execute(Deposit("a", 100))
        await app.load(Fee())

        async def others() -> None:
            store.before_append = None
            await other.execute(SetFee(1))

        store.before_append = others
        await app.execute(Withdraw("a", 10))
        assert await amount(app) == 90
        assert store.appends == 3  # the fee's, and only one of the withdrawal
        await app.execute(Withdraw("a", 10))
        assert await amount(app) == 79


async def test_who_is_always_overtaken_gives_up(store: Meddled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "LONGEST_PAUSE", 0)
    async with bank(store) as app, bank(store) as other:

        async def others() -> None:
            hook, store.before_append = store.before_append, None
            await other.record(Deposited("a", 1))
            store.before_append = hook

        store.before_append = others
        with pytest.raises(Conflict, match="withdraw was overtaken 20 times by other events; try again later"):
            await app.execute(Withdraw("a", 0))
        store.before_append = None
        assert await amount(app) == execute.ATTEMPTS
        await app.execute(Withdraw("a", 1))


async def test_a_conflict_of_the_domain_is_not_one_of_the_log(log: Log) -> None:
    def contrary(cmd: Deposit, balance: Balance) -> None:
        raise Conflict("mine")

    async with bank(log, decisions=[contrary]) as app:
        with pytest.raises(Conflict, match=r"^mine$"):
            await app.execute(Deposit("a", 1))


async def test_several_states_of_a_kind_are_all_guarded(store: Meddled) -> None:
    async with bank(store) as app:
        for account in ("a", "b", "c"):

            async def others(account: str = account) -> None:
                store.before_append = None
                await app.record(Deposited(account, 1))

            store.before_append = others
            with pytest.raises(Rejected, match="1 are left"):
                await app.execute(Close(("a", "b", "c")))
            await app.execute(Withdraw(account, 1))
        await app.execute(Close(("a", "b", "c")))
        assert (await app.load(Balance("b"))).closed
        await app.execute(Close(()))


async def test_what_a_reader_reads_is_guarded(store: Meddled) -> None:
    async with bank(store) as app:
        await app.execute(Deposit("a", 5))

        async def others() -> None:
            store.before_append = None
            await app.execute(Close(("next-a",)))

        store.before_append = others
        with pytest.raises(Rejected, match="closed"):
            await app.execute(Drain("a"))
        assert await amount(app) == 5


async def test_a_reader_sees_the_log_where_the_decision_began(store: Meddled) -> None:
    async with bank(store) as app:
        await app.execute(Deposit("a", 5))
        seen: list[int] = []

        async def both(cmd: Note, fee: Fee, reader: Reader) -> Iterable[Deposited]:
            first = await reader.load(Balance("a"))
            if not seen:
                await app.record(Deposited("a", 1), Deposited("b", 1))
            second = await reader.load(Balance("b"))
            seen.append(first.amount + second.amount)
            return []

        async with bank(store, decisions=[both]) as reading:
            await reading.execute(Note("x"))
        assert seen == [5]


async def test_metadata_is_what_the_caller_said(app: App) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    await app.execute(Deposit("a", 1), id="c-1", actor="ann", occurred_at=noon, extra={"ip": "::1"})
    await app.execute(Deposit("a", 1), correlation_id="story", causation_id="because")
    first, second = [each async for each in app.events()]
    assert (first.metadata.actor, first.metadata.causation_id, first.metadata.correlation_id) == ("ann", "c-1", "c-1")
    assert first.metadata.extra == {"ip": "::1"}
    assert first.occurred_at == noon
    assert first.occurred_at.utcoffset() == timedelta(hours=2)
    assert (second.metadata.correlation_id, second.metadata.causation_id) == ("story", "because")
    assert second.occurred_at == second.recorded_at
    assert first.metadata.event_id < second.metadata.event_id


async def test_a_decision_may_ask_who_and_when(app: App) -> None:
    await app.execute(Note("a"), actor="ann")
    await app.execute(Note("a"), actor="bo")
    assert await amount(app) == 3 + (3 + 2)


async def test_a_decision_sees_a_time_even_if_none_is_given(log: Log) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)

    def at(cmd: Note, metadata: Metadata) -> FeeSet:
        return FeeSet(metadata.occurred_at.day)

    store = log if isinstance(log, str) else MemoryStore(clock=lambda: now)
    async with bank(store, decisions=[at], clock=lambda: now) as app:
        await app.execute(Note("a"))
        assert await app.load(Fee()) == Fee(1)


@pytest.mark.parametrize("method", ["execute", "record"])
async def test_a_time_without_a_zone_is_refused(app: App, method: str) -> None:
    given = Deposit("a", 1) if method == "execute" else Deposited("a", 1)
    with pytest.raises(InvalidEvent, match="has no time zone"):
        await getattr(app, method)(given, occurred_at=datetime(2026, 3, 1))
    assert await app.head() == 0


async def test_extra_is_taken_as_it_was_when_given(store: Meddled) -> None:
    extra = {"n": 1}

    async def change() -> None:
        extra["n"] = 2

    store.after_recall = change
    async with bank(store) as app:
        await app.execute(Deposit("a", 1), id="c", extra=extra)
        [one] = [each async for each in app.events()]
        assert one.metadata.extra == {"n": 1}


# Ids.


async def test_a_command_that_comes_again_changes_nothing(app: App) -> None:
    assert await app.execute(Deposit("a", 10), id="c-1") == 1
    assert await app.execute(Withdraw("a", 10)) == 2
    assert await app.execute(Deposit("a", 10), id="c-1") == 1
    assert await app.head() == 2


async def test_another_command_under_a_used_id_is_refused(app: App) -> None:
    await app.execute(Deposit("a", 10), id="c-1")
    with pytest.raises(AppendIdReused, match=r"'c-1' was used before, for Deposit: give Withdraw an id of its own"):
        await app.execute(Withdraw("a", 10), id="c-1")
    with pytest.raises(AppendIdReused, match="for Deposit: give Withdraw"):  # which would be refused by itself
        await app.execute(Withdraw("a", 99), id="c-1")
    with pytest.raises(AppendIdReused, match="for Deposit: give Drain"):  # which finds nothing to do
        await app.execute(Drain("b"), id="c-1")
    with pytest.raises(AppendIdReused, match="was used before, for a Deposit with other fields"):
        await app.execute(Deposit("a", 11), id="c-1")
    assert await app.execute(Deposit("a", 10), id="c-1") == await app.head() == 1


async def test_another_command_under_the_id_of_a_record_is_refused(app: App) -> None:
    await app.record(Deposited("a", 10), id="r")
    with pytest.raises(AppendIdReused, match="'r' was used before, for events recorded without a command"):
        await app.execute(Withdraw("a", 10), id="r")


async def test_the_same_command_comes_again_though_it_is_decided_otherwise(log: Log) -> None:
    class Raise(Command):
        account_id: AccountId
        to: int = 0
        why: tuple[str, ...] = ()

    def raised(cmd: Raise, balance: Balance) -> Deposited:
        return Deposited(cmd.account_id, cmd.to - balance.amount)

    class RaiseSince(Command):
        account_id: AccountId
        to: int = 0
        why: tuple[str, ...] = ()
        currency: str = "EUR"
        notes: tuple[str, ...] = field(default_factory=tuple)

    def raised_since(cmd: RaiseSince, balance: Balance) -> Deposited:
        return Deposited(cmd.account_id, cmd.to - balance.amount)

    RaiseSince.__name__ = "Raise"
    async with bank(log, decisions=[raised]) as app:
        assert await app.execute(Raise("a", 10), id="r") == 1
        assert await app.execute(Raise("a", 10), id="r") == 1
        with pytest.raises(AppendIdReused, match="for a Raise with other fields"):
            await app.execute(Raise("a", 15), id="r")
        with pytest.raises(AppendIdReused, match="for a Raise with other fields"):  # though it gives the same event
            await app.execute(Raise("a", 20), id="r")
        with pytest.raises(AppendIdReused, match="for a Raise with other fields"):
            await app.execute(Raise("a", 10, ("twice",)), id="r")
    async with bank(log, decisions=[raised_since]) as app:  # a new version, in which it has more fields
        assert await app.execute(RaiseSince("a", 10), id="r") == 1
        with pytest.raises(AppendIdReused):
            await app.execute(RaiseSince("a", 10, currency="CHF"), id="r")


async def test_of_events_from_before_their_command_is_told_by_its_name() -> None:
    before = Metadata(event_id="e", correlation_id="c", causation_id="c", command="Deposit")
    store = MemoryStore()
    async with bank(store) as app:
        await store.append([Schema([Deposited]).encode(Deposited("a", 10), before)], append_id="c")
        assert await app.execute(Deposit("a", 11), id="c") == 1
        with pytest.raises(AppendIdReused, match="for Deposit: give Withdraw"):
            await app.execute(Withdraw("a", 10), id="c")


async def test_a_command_that_json_cannot_hold_is_told_by_its_name(log: Log) -> None:
    class Odd(Command):
        account_id: AccountId
        what: object = None

    def odd(cmd: Odd, balance: Balance) -> Deposited:
        return Deposited(cmd.account_id, balance.amount + 1)

    async with bank(log, decisions=[odd, *DECISIONS]) as app:
        await app.execute(Deposit("a", 1), id="d")
        assert await app.execute(Odd("a", object()), id="c") == 2
        assert await app.execute(Odd("a", object()), id="c") == 2
        with pytest.raises(AppendIdReused, match="for Deposit: give Odd"):
            await app.execute(Odd("a", object()), id="d")


async def test_only_the_first_event_of_a_command_with_an_id_bears_what_was_asked(log: Log) -> None:
    def twice(cmd: Deposit) -> Iterable[Deposited]:
        return [Deposited(cmd.account_id, cmd.amount)] * 2

    async with bank(log, decisions=[twice]) as app:
        await app.execute(Deposit("a", 10))
        await app.execute(Deposit("a", 10), id="c")
        assert [bool(each.metadata.asked) async for each in app.events()] == [False, False, True, False]


async def test_a_command_that_comes_again_and_finds_nothing_left_to_do_returns_its_first_position(app: App) -> None:
    await app.execute(Deposit("a", 10))
    assert await app.execute(Drain("a"), id="d") == 2
    await app.execute(Deposit("b", 1))
    assert await app.execute(Drain("a"), id="d") == 2
    assert await app.execute(Drain("a"), id="other") == await app.head() == 3


async def test_a_command_that_comes_several_times_at_once_is_done_once(log: Log) -> None:
    async with bank(log) as one, bank(log) as two:
        await one.execute(Deposit("a", 10))
        done = await asyncio.gather(*[app.execute(Withdraw("a", 10), id="c") for app in (one, two) * 8])
        assert set(done) == {2}
        assert await amount(one) == 0


async def test_a_duplicate_that_overtakes_is_not_taken_for_a_refusal(store: Meddled) -> None:
    async with bank(store) as app, bank(store) as other:
        await app.execute(Deposit("a", 10))

        async def others() -> None:
            store.after_recall = None
            await other.execute(Withdraw("a", 10), id="c")

        store.after_recall = others
        assert await app.execute(Withdraw("a", 10), id="c") == 2


async def test_a_duplicate_that_would_now_decide_otherwise_is_the_first_one(store: Meddled) -> None:
    def fail_twice(cmd: Note, balance: Balance) -> Deposited:
        if balance.amount:
            raise ValueError("not again")
        return Deposited(cmd.account_id, 1)

    async with bank(store, decisions=[fail_twice]) as app, bank(store, decisions=[fail_twice]) as other:

        async def others() -> None:
            store.after_recall = None
            await other.execute(Note("a"), id="c")

        store.after_recall = others
        assert await app.execute(Note("a"), id="c") == 1
        with pytest.raises(ValueError, match="not again"):
            await app.execute(Note("a"), id="d")


async def test_a_refused_command_may_come_again(app: App) -> None:
    with pytest.raises(Overdrawn):
        await app.execute(Withdraw("a", 1), id="c")
    await app.execute(Deposit("a", 1))
    assert await app.execute(Withdraw("a", 1), id="c") == 2


async def test_a_record_that_comes_again_changes_nothing(app: App) -> None:
    assert await app.record(Deposited("a", 1), Deposited("a", 2), id="r") == 2
    assert await app.record(Deposited("a", 1), Deposited("a", 2), id="r") == 2
    with pytest.raises(AppendIdReused, match="was used before, with other events"):
        await app.record(Deposited("a", 3), id="r")
    assert await amount(app) == 3


# Mistakes.


async def test_what_a_decision_gives_must_be_events(log: Log) -> None:
    def speaks(cmd: Deposit):  # type: ignore[no-untyped-def]
        return "done"

    def commands(cmd: Withdraw):  # type: ignore[no-untyped-def]
        return [Deposit(cmd.account_id, 1)]

    def counts(cmd: SetFee):  # type: ignore[no-untyped-def]
        return 7

    async with bank(log, decisions=[speaks, commands, counts]) as app:
        with pytest.raises(WiringError, match=r"speaks gave 'd', but a decision gives events"):
            await app.execute(Deposit("a", 1))
        with pytest.raises(WiringError, match=r"commands gave Deposit\(.*\), but a decision gives events"):
            await app.execute(Withdraw("a", 1))
        with pytest.raises(WiringError, match="counts returned 7, which is no message"):
            await app.execute(SetFee(1))
        assert await app.head() == 0


async def test_commands_that_nothing_decides_are_refused(app: App) -> None:
    class Shout(Close):
        pass

    with pytest.raises(WiringError, match=r"no decision takes .*Shout: add it to `decisions`"):
        await app.execute(Shout(()))
    with pytest.raises(WiringError, match=r"is not a command: give one with its fields, as in `PlaceOrder\('o-1'\)`"):
        await app.execute(Deposit)  # type: ignore[arg-type]


async def test_a_record_takes_events_one_by_one(app: App) -> None:
    with pytest.raises(InvalidEvent, match="an append needs at least one event"):
        await app.record()
    with pytest.raises(InvalidEvent, match=r"give events one by one: `record\(first, second\)`"):
        await app.record([Deposited("a", 1)])  # type: ignore[arg-type]
    with pytest.raises(InvalidEvent, match="is not an Event"):
        await app.record(Deposit("a", 1))  # type: ignore[arg-type]
    assert await app.record(Deposited("a", 1)) == 1


async def test_the_app_is_fine_after_a_failing_decision(log: Log) -> None:
    def divides(cmd: Deposit, balance: Balance) -> Deposited:
        return Deposited(cmd.account_id, 10 // cmd.amount)

    async with bank(log, decisions=[divides]) as app:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await app.execute(Deposit("a", 0))
            await app.execute(Deposit("a", 5))
        assert await amount(app) == 6


async def test_a_disk_that_is_full_is_told_and_the_next_command_goes_through(store: Meddled) -> None:
    async with bank(store) as app:

        async def full() -> None:
            store.before_append = None
            raise StoreFull

        for own in (None, "c"):
            store.before_append = full
            with pytest.raises(StoreFull, match="No space is left for the store; nothing was written"):
                await app.execute(Deposit("a", 1), id=own)
            await app.execute(Deposit("a", 1), id=own)
        assert await amount(app) == 2
