"""States kept as rows: the same decisions as over events, and never an event without its row, nor a row without it."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refold.sync
from refold import (
    App,
    Command,
    Conflict,
    Event,
    InvalidQuery,
    Metadata,
    Query,
    Reader,
    RefoldError,
    Rejected,
    Searched,
    Singleton,
    State,
    Tag,
    Unguarded,
    WiringError,
    later,
)
from refold.bus.memory import MemoryBus, Topic
from refold.errors import AppendIdReused, MissingCapability, NotKept
from refold.model.query import AppendCondition
from refold.runtime import execute
from refold.store.memory import MemoryStore
from refold.testing.clock import Clock
from tests.conftest import Log
from tests.runtime.bank import (
    DECISIONS,
    Balance,
    BankEvent,
    Close,
    Closed,
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
    Transferred,
    Withdraw,
    Withdrawn,
    bank,
)
from tests.runtime.rowing import agree, before_append, rows_bank, views_of

ON_POSTGRES = True
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def app(log: Log) -> AsyncIterator[App]:
    async with rows_bank(log) as app:
        yield app


# The same as over events.


async def test_a_command_changes_the_row_and_is_an_event(app: App) -> None:
    assert await app.execute(Deposit("a", 10)) == 1
    assert await app.execute(Withdraw("a", 3)) == 2
    assert await app.load(Balance("a")) == Balance("a", 7)
    assert await app.load(Balance("b")) == Balance("b")
    assert [each.event async for each in app.events(Balance("a"))] == [Deposited("a", 10), Withdrawn("a", 3)]
    with pytest.raises(Overdrawn):
        await app.execute(Withdraw("a", 8))
    assert await app.execute(Transfer("b", "a", 5)) == 2, "nothing comes of it, and the position is the head"
    await agree(app)


async def test_rows_that_were_not_asked_for_are_written(app: App) -> None:
    """By `record`, and by decisions whose events touch more than they look at."""
    await app.record(Deposited("a", 3), Deposited("b", 4), Deposited("a", 1), Transferred("b", "c", 4))
    assert [row.amount for row in await app.view(Balance).find()] == [4, 0, 4]
    await app.execute(Note("b"), actor="ann")
    assert (await app.load(Balance("b"))).amount == 3
    await app.record(FeeSet(1))
    await app.record(Closed(("a", "b", "d")))
    assert [row.closed for row in await app.view(Balance).find()] == [True, True, False, True]
    await agree(app)


accounts = st.sampled_from("abc")
amounts = st.integers(-3, 20)
commands = st.one_of(
    st.builds(Deposit, accounts, amounts),
    st.builds(Withdraw, accounts, amounts),
    st.builds(Transfer, accounts, accounts, amounts),
    st.builds(Drain, accounts),
    st.builds(SetFee, st.integers(0, 2)),
    st.builds(Note, accounts),
    st.builds(Close, st.lists(accounts, max_size=3).map(tuple)),
    st.lists(
        st.one_of(st.builds(Deposited, accounts, amounts), st.builds(Transferred, accounts, accounts, amounts)),
        min_size=1,
        max_size=3,
    ),
)


async def done(app: App, asked: Any, own_id: str | None) -> tuple[str, Any]:
    """Do something, and tell what came of it."""
    try:
        if isinstance(asked, list):
            return "at", await app.record(*asked, id=own_id, actor="r")
        return "at", await app.execute(asked, id=own_id, actor="x")
    except RefoldError as error:
        return error.code, str(error)


@given(st.lists(st.tuples(commands, st.sampled_from([None, None, "one", "two"])), max_size=12), st.sampled_from([0, 5]))
@settings(max_examples=60, deadline=None)
def test_rows_and_events_are_the_same(asked: list[tuple[Any, str | None]], hot: int) -> None:
    async def check() -> None:
        now = Clock(NOON)
        kinds: list[list[type[State]]] = [[], [Balance], [Balance, Fee], [Balance, Fee, LastActor]]
        found: list[Any] = []
        for rows in kinds:
            store = MemoryStore(clock=now)
            async with bank(store, rows=rows, hot_states=hot, clock=now) as app:
                outcomes = [await done(app, each, own_id) for each, own_id in asked]
                states = [await app.load(state) for state in (*map(Balance, "abc"), *map(LastActor, "abc"), Fee())]
                found.append((outcomes, states, [each.event async for each in app.events()]))
                for each in rows:
                    await agree(app, each.__name__)
        assert found[1:] == found[:1] * 3

    asyncio.run(check())


async def test_rows_and_events_are_the_same_on_any_database(log: Log) -> None:
    rng = random.Random(3)
    async with rows_bank(log, rows=[Balance, LastActor]) as app, bank("memory:") as other:
        for _ in range(60):
            a, b = rng.choices("abcd", k=2)
            n = rng.randrange(9)
            asked = rng.choice([Deposit(a, n), Deposit(a, n), Withdraw(a, n), Transfer(a, b, n), Drain(a), Note(a)])
            assert await done(app, asked, None) == await done(other, asked, None)
        for each in "abcd":
            assert await app.load(Balance(each)) == await other.load(Balance(each))
        await agree(app, "Balance", "LastActor")


async def test_a_row_may_depend_on_when_and_who(log: Log) -> None:
    """The time is said when the event is stored, so that its fold is the same for ever."""
    async with rows_bank(log, rows=[LastActor]) as app:
        await app.execute(Note("a"), actor="ann")
        row = await app.load(LastActor("a"))
        assert row.actor == "ann"
        [recorded] = [each async for each in app.events()]
        assert row.when == str(recorded.occurred_at)
        await app.execute(Note("a"), actor="bo", occurred_at=NOON)
        assert await app.load(LastActor("a")) == LastActor("a", "bo", str(NOON))
        await agree(app, "LastActor")


# Others come in between.


async def test_a_change_in_between_is_decided_again(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    await app.execute(Deposit("a", 5))

    async def others() -> None:
        await app.record(Withdrawn("a", 1))

    before_append(app, monkeypatch, others)
    with pytest.raises(Overdrawn):
        await app.execute(Withdraw("a", 5))
    assert await app.load(Balance("a")) == Balance("a", 4)


async def test_a_record_is_folded_again(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def others() -> None:
        await app.record(Deposited("a", 1))

    tries = before_append(app, monkeypatch, others)
    await app.record(Deposited("a", 2))
    assert tries == [3]
    assert await app.load(Balance("a")) == Balance("a", 3)
    await agree(app)


async def test_who_is_always_overtaken_gives_up(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "LONGEST_PAUSE", 0)
    append = views_of(app).append

    async def others() -> None:
        rows = app._now.rows
        seen = await rows.current([(Balance, "a")])
        batch = [app.schema.encode(Deposited("a", 1), Metadata())]
        expects = [seen[Balance, "a"].expect]
        assert await append(
            batch,
            writes=rows._folded(rows._changes(batch), {(Balance, "a"): seen[Balance, "a"].state}),
            expects=expects,
        )

    tries = before_append(app, monkeypatch, others, once=False)
    for asked in (app.execute(Withdraw("a", 0)), app.record(Withdrawn("a", 0))):
        with pytest.raises(Conflict, match="was overtaken 20 times by other events; try again later"):
            await asked
    assert tries == [2 * execute.ATTEMPTS]
    assert await app.load(Balance("a")) == Balance("a", 2 * execute.ATTEMPTS)


async def test_the_condition_of_a_record_is_its_callers(app: App) -> None:
    await app.record(Deposited("a", 1))
    with pytest.raises(Conflict, match="position 1 matches the condition"):
        await app.record(Deposited("a", 1), condition=AppendCondition(Query.of(tags="account:a"), 0))
    assert await app.load(Balance("a")) == Balance("a", 1)


def limited(cmd: Withdraw, balance: Balance, fee: Fee) -> Withdrawn:
    """Look at a row and at events."""
    if balance.amount < cmd.amount + fee.fee:
        raise Overdrawn
    return Withdrawn(cmd.account_id, cmd.amount + fee.fee)


@pytest.mark.parametrize("rows", [[Balance], [Fee], [Balance, Fee]], ids=["a row and events", "the other way", "rows"])
@pytest.mark.parametrize("other", [Withdrawn("a", 1), FeeSet(1)], ids=["the account", "the fee"])
async def test_rows_and_events_are_guarded_together(
    log: Log, rows: list[type[State]], other: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rows_bank(log, rows=rows, decisions=[limited]) as app:
        await app.record(Deposited("a", 5), FeeSet(0))
        await app.execute(Withdraw("a", 0))

        async def others() -> None:
            await app.record(other)

        before_append(app, monkeypatch, others)
        with pytest.raises(Overdrawn):
            await app.execute(Withdraw("a", 5))
        assert await app.execute(Withdraw("a", 3)) == 5
        await agree(app, *[each.__name__ for each in rows])


async def test_a_row_that_is_not_guarded_makes_no_conflict(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rows_bank(log, rows=[Balance, Fee]) as app:
        await app.record(Deposited("a", 9), FeeSet(0))

        async def others() -> None:
            await app.record(FeeSet(1))

        tries = before_append(app, monkeypatch, others)
        await app.execute(Withdraw("a", 5))
        assert tries == [2], "its own write, and the other's"
        assert await app.load(Balance("a")) == Balance("a", 4)


async def test_a_row_that_is_not_guarded_but_written_is_never_overwritten(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_fee(cmd: SetFee, fee: Annotated[Fee, Unguarded]) -> FeeSet:
        return FeeSet(fee.fee + cmd.fee)

    async with rows_bank(log, rows=[Fee], decisions=[raise_fee]) as app:

        async def others() -> None:
            await app.record(FeeSet(10))

        before_append(app, monkeypatch, others)
        await app.execute(SetFee(1))
        assert await app.load(Fee()) == Fee(11)


async def test_what_a_reader_reads_is_guarded(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    await app.execute(Deposit("a", 5))

    async def others() -> None:
        await app.execute(Close(("next-a",)))

    before_append(app, monkeypatch, others)
    with pytest.raises(Rejected, match="closed"):
        await app.execute(Drain("a"))
    assert await app.load(Balance("a")) == Balance("a", 5)


async def test_an_absent_row_is_guarded_too(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async def if_absent(cmd: SetFee, reader: Reader) -> Iterable[FeeSet]:
        balance = await reader.load(Balance("a"))
        return [] if balance.amount else [FeeSet(cmd.fee)]

    async with rows_bank(log, decisions=[if_absent]) as app:

        async def others() -> None:
            await app.record(Deposited("a", 1))

        before_append(app, monkeypatch, others)
        await app.execute(SetFee(1))
        assert [each.event async for each in app.events()] == [Deposited("a", 1)]


class Moved(Event):
    account_id: Annotated[str, Tag("account")]
    amount: int


class Look(Command):
    account_id: Annotated[str, Tag("account")]


class Left(State):
    account_id: Annotated[str, Tag("account")]
    amount: int = 10

    def evolve(self, event: Moved) -> Self:
        return self.replace(amount=self.amount - event.amount)


class Right(State):
    account_id: Annotated[str, Tag("account")]
    amount: int = 0

    def evolve(self, event: Moved) -> Self:
        return self.replace(amount=self.amount + event.amount)


def ten_in_all(cmd: Look, left: Left, right: Right) -> None:
    if left.amount + right.amount != 10:
        raise Rejected(f"{left.amount} and {right.amount}")


async def ten_to_a_reader(cmd: Look, left: Left, reader: Reader) -> None:
    ten_in_all(cmd, left, await reader.load(Right(left.account_id)))


async def ten_of_a_reader(cmd: Look, right: Right, reader: Reader) -> None:
    ten_in_all(cmd, await reader.load(Left(right.account_id)), right)


@pytest.mark.parametrize("rows", [[Left], [Right], [Left, Right]], ids=["left", "right", "both"])
@pytest.mark.parametrize("decision", [ten_in_all, ten_to_a_reader, ten_of_a_reader])
async def test_a_refusal_has_seen_everything_at_one_moment(
    log: Log, rows: list[type[State]], decision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What moves from one to the other while a decision reads them is never seen in neither, or in both."""
    async with App(log, events=Moved, decisions=[decision], rows=rows) as app:
        await app.record(Moved("a", 1))
        views, current = views_of(app), app._now.loader.current
        look, moving = views.look, [False]

        async def move() -> None:
            if not moving[0]:
                moving[0] = True
                await app.record(Moved("a", 1))
                moving[0] = False

        async def slow_look(*args: Any) -> Any:
            found = await look(*args)
            if look_moves[0]:
                look_moves[0] -= 1
                await move()
            return found

        async def slow_load(*args: Any) -> Any:
            found = await current(*args)
            if load_moves[0]:
                load_moves[0] -= 1
                await move()
            return found

        monkeypatch.setattr(views, "look", slow_look)
        monkeypatch.setattr(app._now.loader, "current", slow_load)
        for look_first in (True, False):
            look_moves, load_moves = [look_first * 2], [(not look_first) * 2]
            await app.execute(Look("a"))


# Ids.


async def test_a_command_that_comes_again_changes_no_row(app: App) -> None:
    assert await app.execute(Deposit("a", 10), id="c") == 1
    assert await app.execute(Deposit("a", 10), id="c") == 1
    assert await app.record(Deposited("a", 1), id="r") == 2
    assert await app.record(Deposited("a", 1), id="r") == 2
    with pytest.raises(AppendIdReused):
        await app.record(Deposited("a", 2), id="r")
    assert await app.load(Balance("a")) == Balance("a", 11)


async def test_a_command_that_comes_several_times_at_once_is_done_once(log: Log) -> None:
    async with rows_bank(log) as one, rows_bank(log) as two:
        await one.execute(Deposit("a", 10))
        found = await asyncio.gather(*[app.execute(Withdraw("a", 10), id="c") for app in (one, two) * 8])
        assert set(found) == {2}
        assert await two.load(Balance("a")) == Balance("a", 0)


# Many at once.


async def test_no_update_is_lost(log: Log) -> None:
    """Sixty-four at once, in two apps, over a few rows: every one counts, no money appears, rows are their events."""
    async with rows_bank(log) as one, rows_bank(log) as two:
        await one.record(*[Deposited(account, 100) for account in "abc"])
        rng = random.Random(1)

        async def work(number: int) -> None:
            app = (one, two)[number % 2]
            for _ in range(3):
                source, target = rng.sample("abc", 2)
                with suppress(Overdrawn):
                    await app.execute(
                        rng.choice([Transfer(source, target, 1), Deposit(source, 1), Withdraw(source, 1)])
                    )

        await asyncio.gather(*map(work, range(64)))
        happened = [each.event async for each in one.events()]
        assert len(happened) == 3 + 64 * 3
        there = sum({Deposited: 1, Withdrawn: -1}.get(type(each), 0) * getattr(each, "amount", 0) for each in happened)
        assert sum(row.amount for row in await two.view(Balance).find()) == there
        await agree(two)


async def test_of_two_that_open_the_same_account_one_does(log: Log) -> None:
    def only_once(cmd: Deposit, balance: Balance) -> Deposited:
        if balance.amount:
            raise Rejected("there already")
        return Deposited(cmd.account_id, cmd.amount)

    async with rows_bank(log, decisions=[only_once]) as one, rows_bank(log, decisions=[only_once]) as two:
        for n in range(5):
            asked = [app.execute(Deposit(f"{n}", 1)) for app in (one, two, one, two)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert sum(isinstance(each, int) for each in found) == 1
        await agree(one)


# What rows have not.


async def test_rows_have_no_past(app: App) -> None:
    await app.execute(Deposit("a", 5))
    for options in ({"as_of": 1}, {"as_of": NOON}, {"effective": NOON}, {"upto": 1}):
        with pytest.raises(
            InvalidQuery, match="Balance is kept as rows, which have no past: there is only how it is now"
        ):
            await app.load(Balance("a"), **options)  # type: ignore[arg-type]
    view = app.view(Balance)
    for asked in (view.get("a", as_of=1), view.find(as_of=NOON), view.count(as_of=1)):
        with pytest.raises(InvalidQuery, match="Balance is kept as rows, which have no past"):
            await asked
    with pytest.raises(InvalidQuery, match="there is no projection 'Balance'; there is none"):
        await app.operations.rebuild("Balance")
    with pytest.raises(InvalidQuery, match="no state 'Fee' is kept as rows; there is Balance"):
        await app.operations.differences("Fee")
    with pytest.raises(InvalidQuery, match="account_id is of type str, which 7 is not"):
        await app.load(Balance(7))  # type: ignore[arg-type]
    assert app.describe()["rows"] == ["Balance"]


async def test_neither_memory_nor_snapshots_come_between(log: Log) -> None:
    async with rows_bank(log, snapshot_every=1, hot_states=100) as one, rows_bank(log) as two:
        for n in range(1, 4):
            await one.execute(Deposit("a", 1))
            await two.execute(Deposit("a", 1))
            assert await one.load(Balance("a")) == await two.load(Balance("a")) == Balance("a", 2 * n)


def if_paid(event: Deposited, balance: Balance) -> None: ...


async def effected(event: Deposited, balance: Balance) -> None: ...


async def through_reader(event: Deposited, reader: Reader) -> None:
    await reader.load(Balance(event.account_id))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": Balance}, "rows takes a list: write rows=[Balance]"),
        ({"rows": [Deposited]}, "Deposited is not a state; `rows` is a list of states: rows=[Account]"),
        ({"rows": [Balance, Balance]}, "two states in `rows` are called 'Balance'"),
        ({"projections": [Balance]}, "Balance is in `rows` and in `projections`"),
        ({"rows": [Left]}, "Moved is not among the events of this app"),
        ({"processes": [if_paid]}, "if_paid asks for Balance, which is kept as rows: a process sees states as they"),
        ({"effects": [effected]}, "effected asks for Balance, which is kept as rows"),
    ],
)
def test_mistakes_are_found_at_wiring(options: dict[str, Any], message: str) -> None:
    with pytest.raises(WiringError) as error:
        rows_bank("memory:", **options)
    assert message in str(error.value)


async def test_what_a_process_reads_of_rows_is_refused_too(log: Log) -> None:
    async with rows_bank(log, processes=[through_reader]) as app:
        await app.record(Deposited("a", 1))
        await app.settle(parked=True)
        [parked] = await app.operations.parked()
        assert "Balance is kept as rows, which have no past" in parked.error


async def test_a_store_without_views_has_no_rows() -> None:
    class Plain:
        capabilities = frozenset[Any]()

        async def append(self) -> None: ...

    with pytest.raises(MissingCapability, match="Plain cannot hold views"):
        async with rows_bank(Plain()):  # type: ignore[arg-type]
            pass


# Views, processes, other contexts.


async def test_the_rows_are_a_view_that_is_current_at_once(app: App) -> None:
    view = app.view(Balance)
    assert await view.get("a") is None
    at = await app.execute(Deposit("a", 5))
    assert await view.get("a", at_least=at) == Balance("a", 5)
    await app.wait(at, Balance, timeout=0)
    await app.record(Deposited("b", 7), Deposited("c", 6))
    assert await view.find({"amount__ge": 6}, order="-amount", limit=1) == [Balance("b", 7)]
    assert await view.count({"closed": False}) == 3
    changes = view.watch({"amount__ge": 6}, after=0)
    assert [(change.key, change.row) async for change, _ in _zipped(changes, 3)] == [
        (("a",), None),
        (("b",), Balance("b", 7)),
        (("c",), Balance("c", 6)),
    ]


async def _zipped(changes: Any, most: int) -> AsyncIterator[tuple[Any, int]]:
    number = 0
    async for change in changes:
        number += 1
        yield change, number
        if number == most:
            break
    await changes.aclose()


class Page(State):
    account_id: Annotated[str, Tag("account")]
    title: Annotated[str, Searched()] = "green tea"
    seen: int = 0

    def evolve(self, event: Deposited) -> Self:
        return self.replace(seen=self.seen + 1)


async def test_rows_can_be_searched(log: Log) -> None:
    async with rows_bank(log, rows=[Page]) as app:
        await app.record(Deposited("a", 5))
        await app.record(Deposited("a", 5))
        assert [hit.row for hit in await app.view(Page).search("tea")] == [Page("a", seen=2)]
        await app.operations.import_rows([Page("b", "black coffee")])
        assert [hit.row.account_id for hit in await app.view(Page).search("coffee")] == ["b"]


def again_later(event: Deposited) -> Iterable[Any]:
    if event.amount == 1:
        yield Deposit(event.account_id, 10)
        yield later(Deposit(event.account_id, 100), after=timedelta(minutes=1))


async def test_processes_timers_projections_and_the_outbox_go_on_as_they_were(log: Log) -> None:
    clock, bus = Clock(NOON), MemoryBus()

    class Seen(Singleton):
        amounts: tuple[int, ...] = ()

        def evolve(self, event: Deposited) -> Self:
            return self.replace(amounts=(*self.amounts, event.amount))

    options: dict[str, Any] = {
        "processes": [again_later], "projections": [Seen], "clock": clock,
        "name": "bank", "bus": bus, "outbox": [Deposited],
    }  # fmt: skip
    store = log if isinstance(log, str) else MemoryStore(clock=clock)
    async with rows_bank(store, **options) as app:
        await app.execute(Deposit("a", 1), actor="ann", correlation_id="story")
        await app.settle()
        clock.advance(timedelta(minutes=2))
        await app.settle()
        assert await app.load(Balance("a")) == Balance("a", 111)
        assert await app.view(Seen).get() == Seen((1, 10, 100))
        assert {each.metadata.correlation_id async for each in app.events()} == {"story"}
        topic: Topic = bus._topics["bank"]
        assert len(topic.messages) == 3
        await agree(app)


def test_scripts_have_rows_too(tmp_path: Path) -> None:
    with refold.sync.App(f"sqlite:///{tmp_path}/log.db", events=BankEvent, decisions=DECISIONS, rows=[Balance]) as app:
        app.execute(Deposit("a", 5))
        assert app.view(Balance).get("a") == app.load(Balance("a")) == Balance("a", 5)
        assert app.operations.differences("Balance") == []


async def test_who_only_executes_has_rows_too(log: Log) -> None:
    async with rows_bank(log).passive() as app:
        assert await app.load(Balance("a")) == Balance("a")
        with pytest.raises(NotKept):
            await views_of(app).count(app._wiring.rows[0].table, ())
        await app.execute(Deposit("a", 5))
        assert await app.load(Balance("a")) == Balance("a", 5)


async def test_an_event_that_no_row_can_hold_is_not_recorded(app: App) -> None:
    await app.execute(Deposit("a", 5))
    with pytest.raises((ValueError, OverflowError)):
        await app.record(Deposited("a", 2**63))
    assert await app.head() == 1
    assert await app.execute(Deposit("a", 5)) == 2
