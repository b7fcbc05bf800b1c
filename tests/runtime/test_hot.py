"""States that are remembered: what is decided on them is as right as if the log had been read each time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import App, Event, RefoldError, Rejected
from refold.errors import AppendIdReused
from refold.model.state import State
from refold.runtime.load import Loader
from refold.store.memory import MemoryStore
from refold.store.open import open_store
from tests.conftest import Log
from tests.runtime.bank import (
    Balance,
    BankEvent,
    Close,
    Command,
    Deposit,
    Deposited,
    Drain,
    Fee,
    FeeSet,
    LastActor,
    Note,
    Overdrawn,
    SetFee,
    Transfer,
    Withdraw,
    bank,
)
from tests.runtime.meddling import Meddled


@pytest.fixture
async def store(log: Log) -> AsyncIterator[Meddled]:
    store = await open_store(log) if isinstance(log, str) else log
    yield Meddled(store)
    await store.close()


def remembered(app: App) -> Loader:
    loader = app._now.loader
    assert isinstance(loader, Loader)
    return loader


async def test_a_hot_state_is_not_read_again(store: Meddled) -> None:
    async with bank(store) as app:
        await app.execute(Deposit("a", 1))
        store.reads = 0
        for _ in range(5):
            await app.execute(Deposit("a", 1))
        assert store.reads == 0
        assert (await app.load(Balance("a"))).amount == 6


async def test_a_stale_state_only_costs_another_attempt(store: Meddled) -> None:
    async with bank(store) as app, bank(store) as other:
        await app.execute(Deposit("a", 10))
        await other.execute(Deposit("a", 5))
        store.appends = 0
        await app.execute(Deposit("a", 1))
        assert store.appends == 2
        assert (await app.load(Balance("a"))).amount == 16


async def test_nothing_is_refused_by_what_is_stale(store: Meddled) -> None:
    async with bank(store) as app, bank(store) as other:
        await app.load(Balance("a"))
        await other.execute(Deposit("a", 5))
        await app.execute(Withdraw("a", 5))
        await other.execute(Deposit("a", 7))
        assert await app.execute(Transfer("a", "b", 7)) == 4, "doing nothing is a kind of refusal too"


async def test_nothing_fails_by_what_is_stale(log: Log) -> None:
    def share(cmd: Deposit, balance: Balance) -> Deposited:
        return Deposited(cmd.account_id, 100 // balance.amount)

    async with bank(log, decisions=[share]) as app, bank(log) as other:
        await app.load(Balance("a"))
        await other.execute(Deposit("a", 5))
        await app.execute(Deposit("a", 0))
        assert (await app.load(Balance("a"))).amount == 25


async def test_no_invalid_event_is_made_of_what_is_stale(log: Log) -> None:
    def odd(cmd: Deposit, balance: Balance) -> Event:
        return Deposited(cmd.account_id, balance.amount or "none")  # type: ignore[arg-type]

    async with bank(log, decisions=[odd]) as app, bank(log) as other:
        await app.load(Balance("a"))
        await other.execute(Deposit("a", 5))
        await app.execute(Deposit("a", 0))
        assert (await app.load(Balance("a"))).amount == 10


async def test_what_is_refused_by_the_present_is_refused(store: Meddled) -> None:
    async with bank(store) as app, bank(store) as other:
        await app.execute(Deposit("a", 5))
        await other.execute(Withdraw("a", 5))
        with pytest.raises(Overdrawn):
            await app.execute(Withdraw("a", 5))


async def test_an_event_that_is_of_both_states_is_folded_into_both(store: Meddled) -> None:
    async with bank(store) as app:
        await app.execute(Deposit("a", 5))
        await app.execute(Transfer("a", "b", 3))
        store.reads = 0
        await app.execute(Transfer("b", "a", 1))
        assert store.reads == 0
        assert [(await app.load(Balance(each))).amount for each in "ab"] == [3, 2]


async def test_events_of_others_are_not_folded_in(log: Log) -> None:
    def share(cmd: Deposit, balance: Balance) -> list[Deposited]:
        return [Deposited(account, cmd.amount + balance.amount) for account in ("a", "b", "a")]

    async with bank(log, decisions=[share]) as app:
        for amounts in ([2, 1], [8, 4]):
            await app.execute(Deposit("a", 1))
            assert [(await app.load(Balance(each))).amount for each in "ab"] == amounts


async def test_a_state_that_needs_metadata_is_read_again(log: Log) -> None:
    async with bank(log) as app, bank(log) as fresh:
        for actor in ("ann", "bo", "kim"):
            await app.execute(Note("a"), actor=actor)
            assert await app.load(LastActor("a")) == await fresh.load(LastActor("a"))
        assert (await app.load(Balance("a"))).amount == 3 + 5 + 5


async def test_what_an_id_appended_is_read_again(log: Log) -> None:
    async with bank(log) as app:
        await app.execute(Deposit("a", 1), id="1")
        await app.execute(Deposit("a", 2), id="2")
        await app.execute(Deposit("a", 2), id="2")
        await app.execute(Withdraw("a", 3))
        assert (await app.load(Balance("a"))).amount == 0


async def test_only_so_many_states_are_remembered(log: Log) -> None:
    async with bank(log, hot_states=3) as app:
        for account in "abcdef":
            await app.execute(Deposit(account, 1))
        await app.execute(Deposit("d", 1))
        await app.execute(Deposit("g", 1))
        assert [identity[1] for identity in remembered(app)._hot] == ["f", "d", "g"]
        await app.execute(Deposit("a", 1))
        assert [(await app.load(Balance(each))).amount for each in "abcdefg"] == [2, 1, 1, 2, 1, 1, 1]


async def test_none_need_be_remembered(log: Log) -> None:
    async with bank(log, hot_states=0) as app:
        await app.execute(Deposit("a", 1))
        await app.execute(Transfer("a", "b", 1))
        assert not remembered(app)._hot
        assert (await app.load(Balance("b"))).amount == 1


async def test_a_state_that_is_given_is_only_a_key(log: Log) -> None:
    async with bank(log) as app:
        await app.execute(Deposit("a", 1))
        await app.execute(Deposit("b", 1))
    async with bank(log) as app:
        assert await app.load(Balance("a", amount=1_000)) == Balance("a", 1)
        assert await app.load(await app.load(Balance("a"))) == Balance("a", 1)
        assert await app.load(Balance("b", closed=True), as_of=2) == Balance("b", 1)
        assert await app.load(Balance("b", 7), effective=datetime.now(UTC)) == Balance("b", 1)
        with pytest.raises(Overdrawn):
            await app.execute(Withdraw("a", 2))


async def test_an_evolve_that_fails_after_the_append_fails_the_next_load(log: Log) -> None:
    async with bank(log, decisions=[deposit_to_fragile]) as app:
        assert await app.execute(Deposit("a", 13)) == 1, "it is appended, so it is done"
        with pytest.raises(ValueError, match="13"):
            await app.load(Fragile("a"))
        with pytest.raises(ValueError, match="13"):
            await app.execute(Deposit("a", 1))
        assert await app.execute(Deposit("b", 1)) == 2


class Fragile(Balance):
    def evolve(self, event: Deposited) -> "Fragile":
        if event.amount == 13:
            raise ValueError("13")
        return self.replace(amount=event.amount)


def deposit_to_fragile(cmd: Deposit, state: Fragile) -> Deposited:
    return Deposited(cmd.account_id, cmd.amount)


async def test_a_cancelled_command_does_no_harm(store: Meddled) -> None:
    async with bank(store) as app:
        await app.execute(Deposit("a", 1))
        task = asyncio.create_task(app.execute(Deposit("a", 2)))

        async def cancel() -> None:
            store.before_append = None
            task.cancel()

        store.before_append = cancel
        await asyncio.wait([task])
        await app.execute(Deposit("a", 4))
        fresh = await app.load(Balance("a"), as_of=await app.head())
        assert fresh == await app.load(Balance("a"))


# Whatever is done at once, through two apps: the log, folded from its beginning, says the same.

accounts = st.sampled_from(["a", "b", "next-a"])
amounts = st.integers(1, 5)
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(Deposit, accounts, amounts),
    st.builds(Withdraw, accounts, amounts),
    st.builds(Transfer, accounts, accounts, amounts),
    st.builds(Drain, st.just("a")),
    st.builds(Note, accounts),
    st.builds(Close, st.lists(accounts, max_size=2).map(tuple)),
    st.builds(SetFee, st.integers(0, 2)),
)
KEYS: list[State] = [Balance("a"), Balance("b"), Balance("next-a"), LastActor("a"), Fee()]


async def run(log: Log, batches: list[list[tuple[bool, str | None, Command]]], hot_states: int) -> None:
    async with bank(log, hot_states=hot_states) as one, bank(log, hot_states=hot_states) as two:
        for batch in batches:
            outcomes = await asyncio.gather(
                *[(one if first else two).execute(command, id=own) for first, own, command in batch],
                return_exceptions=True,
            )
            for outcome in outcomes:
                # An id belongs to the command that came first with it.
                assert isinstance(outcome, int | Rejected | AppendIdReused), outcome
        async with bank(log) as fresh:
            history = [each async for each in fresh.events()]
            for key in KEYS:
                folded = key.fold(history)
                assert [await app.load(key) for app in (one, two, fresh)] == [folded] * 3
        check(history)


def check(history: list[object]) -> None:
    """No decision was made on a state that was not so: replay the rules over the log."""
    balances: dict[str, Balance] = {}

    def balance(account: str) -> Balance:
        return balances.get(account, Balance(account))

    for each in history:
        event: BankEvent = each.event  # type: ignore[attr-defined]
        touched = []
        match event:
            case Deposited():
                touched = [event.account_id]
            case FeeSet():
                pass
            case _ if hasattr(event, "source"):
                assert balance(event.source).amount >= event.amount
                assert not balance(event.target).closed
                touched = [event.source, event.target]
            case _ if hasattr(event, "account_ids"):
                assert not any(balance(account).amount for account in event.account_ids)
                touched = list(event.account_ids)
            case _:
                assert balance(event.account_id).amount >= event.amount
                touched = [event.account_id]
        for account in dict.fromkeys(touched):
            balances[account] = balance(account).evolve(event)


batches = st.lists(
    st.lists(st.tuples(st.booleans(), st.sampled_from([None, None, "x", "y"]), commands), max_size=5), max_size=6
)


@given(batches, st.sampled_from([0, 2, 100]))
@settings(max_examples=120, deadline=None)
def test_two_apps_at_once_are_as_one_in_memory(
    batches: list[list[tuple[bool, str | None, Command]]], hot_states: int
) -> None:
    asyncio.run(run(MemoryStore(), batches, hot_states))


@given(batches, st.sampled_from([0, 2, 100]))
@settings(max_examples=20, deadline=None)
def test_two_apps_at_once_are_as_one_on_a_file(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[bool, str | None, Command]]], hot_states: int
) -> None:
    path = tmp_path_factory.mktemp("logs") / "log.db"
    asyncio.run(run(f"sqlite:///{path}?durability=relaxed", batches, hot_states))


async def test_many_at_once_keep_the_money(log: Log) -> None:
    async with bank(log) as one, bank(log) as two:
        await one.execute(Deposit("a", 20))
        transfers = [app.execute(Transfer("a", f"to-{n % 3}", 1)) for n in range(30) for app in (one, two)]
        outcomes = await asyncio.gather(*transfers, return_exceptions=True)
        assert [each for each in outcomes if isinstance(each, RefoldError)] == []
        assert sum([(await two.load(Balance(f"to-{n}"))).amount for n in range(3)]) == 20
        assert (await two.load(Balance("a"))).amount == 0
