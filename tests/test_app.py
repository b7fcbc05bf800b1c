"""The app as its users meet it: wiring, opening and closing, reading events, waiting."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Self

import pytest

from refold import (
    App,
    Command,
    Event,
    InvalidQuery,
    Query,
    Recorded,
    State,
    StoreError,
    SubscriptionFailed,
    Tag,
    WaitTimeout,
    WiringError,
)
from refold.errors import MissingCapability, NotAStore, PositionAhead, StoreClosed
from refold.store.memory import MemoryStore
from refold.store.open import open_store
from tests.conftest import Log
from tests.runtime.bank import (
    DECISIONS,
    Balance,
    BankEvent,
    Deposit,
    Deposited,
    Fee,
    FeeSet,
    Transferred,
    Withdraw,
    Withdrawn,
    bank,
    deposit,
)

NOTED = [Deposited("a", 1), Deposited("b", 2), FeeSet(3), Transferred("a", "b", 4), Withdrawn("a", 5)]


@pytest.fixture
async def app(log: Log) -> AsyncIterator[App]:
    async with bank(log, projections=[Balance]) as app:
        yield app


# Wiring.


class Alien(Event):
    account_id: Annotated[str, Tag("account")]


class AlienCount(State):
    account_id: Annotated[str, Tag("account")]

    def evolve(self, event: Alien) -> Self:
        return self


class Unheard(Command):
    account_id: Annotated[str, Tag("account")]


def count_aliens(cmd: Deposit, aliens: AlienCount) -> None: ...


def make_aliens(cmd: Deposit) -> Alien: ...


def deposit_too(cmd: Deposit) -> Deposited: ...


def shout(event: Deposited) -> Iterable[Unheard]: ...


def see_aliens(event: Alien) -> None: ...


def balance(event: Deposited) -> None: ...


class balances(State):  # noqa: N801
    account_id: Annotated[str, Tag("account")]

    def evolve(self, event: Deposited) -> Self:
        return self


def Balances(event: Deposited) -> None: ...  # noqa: N802


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("a path", {"store": Path("shop.db")}, "is neither a store nor the address of one: write 'sqlite:///shop.db'"),
    ("no address", {"store": "shop.db"}, "'shop.db' is not the address of a store. Write sqlite:///shop.db"),
    (
        "no port",
        {"store": "postgresql://me:secret@a,b:99999/x"},
        "'postgresql://me:***@a,b:99999/x' is no address: Port",
    ),
    (
        "a slash in a password",
        {"store": "postgresql://me:geheim/7@db/x"},
        "'postgresql://me:***@db/x' is no address: in a password, / is written %2F",
    ),
    ("no host", {"store": "postgresql://[::1/x"}, "is no address: Invalid IPv6 URL"),
    ("no events", {"events": []}, "an app needs events: events=OrderPlaced | OrderShipped, or a list of their classes"),
    ("a bare decision", {"decisions": deposit}, "decisions takes a list: write decisions=[deposit]"),
    ("a bare projection", {"projections": Balance}, "projections takes a list: write projections=[Balance]"),
    ("a text of processes", {"processes": "shout"}, "processes takes a list"),
    (
        "a projection that is none",
        {"projections": [int]},
        "builtins.int is neither a state nor a Projection; `projections` is",
    ),
    ("a decision twice", {"decisions": [deposit, deposit_too]}, "both decide Deposit: a command has one decision"),
    ("an event of a decision", {"decisions": [make_aliens]}, "Alien is not among the events of this app: add it to"),
    ("a state of a decision", {"decisions": [count_aliens]}, "Alien is not among the events of this app: add it to"),
    ("an event of a projection", {"projections": [AlienCount]}, "Alien is not among the events of this app: add it"),
    ("an event of a process", {"processes": [see_aliens]}, "Alien is not among the events of this app: add it to"),
    ("a command of a process", {"processes": [shout]}, "shout emits Unheard, which no decision takes: add one to"),
    ("a name twice", {"processes": [shout, shout], "decisions": []}, "two projections or processes are called 'shout'"),
    ("nearly a name twice", {"processes": [Balances], "projections": [balances]}, "are called 'Balances'"),
    ("no snapshots", {"snapshot_every": 0}, "snapshot_every counts events, so it is at least 1"),
    ("too few states", {"hot_states": -1}, "hot_states counts states, so it is not negative"),
]


@pytest.mark.parametrize(("options", "message"), [each[1:] for each in MISTAKES], ids=[each[0] for each in MISTAKES])
def test_mistakes_are_found_at_wiring(options: dict[str, Any], message: str) -> None:
    given = {"store": "memory:", "events": BankEvent, "decisions": DECISIONS} | options
    with pytest.raises(WiringError) as error:
        App(given.pop("store"), **given)
    assert message in str(error.value)


async def test_a_store_without_views_cannot_keep_any() -> None:
    class Plain:
        capabilities = frozenset[Any]()

        async def append(self) -> None: ...

    with pytest.raises(MissingCapability, match="Plain cannot hold views, so it cannot keep projections or processes"):
        async with bank(Plain(), projections=[Balance]):  # type: ignore[arg-type]
            pass
    async with bank(Plain()):  # type: ignore[arg-type]
        pass


# Opening and closing.


USES: list[Callable[[App], Any]] = [
    lambda app: app.execute(Deposit("a", 1)),
    lambda app: app.record(Deposited("a", 1)),
    lambda app: app.load(Balance("a")),
    lambda app: anext(aiter(app.events())),
    lambda app: anext(aiter(app.follow())),
    lambda app: app.head(),
    lambda app: app.wait(1),
    lambda app: app.settle(),
]


async def test_a_closed_app_says_so(log: Log) -> None:
    app = bank(log, projections=[Balance])
    for _ in range(2):
        for use in USES:
            with pytest.raises(StoreClosed, match="the app is not open: use it inside `async with app:`"):
                await use(app)
        view = app.view(Balance)
        for look in (view.get("a"), view.find(), view.count()):
            with pytest.raises(StoreClosed):
                await look


async def test_an_app_may_be_opened_again(log: Log) -> None:
    app = bank(log, projections=[Balance])
    for times in range(1, 4):
        async with app:
            at = await app.execute(Deposit("a", 1))
            row = await app.view(Balance).get("a", at_least=at)
            assert row == Balance("a", times)


async def test_an_app_is_opened_once_at_a_time(app: App) -> None:
    with pytest.raises(WiringError, match="the app is open already; make another App to open the log twice"):
        async with app:
            pass
    await app.execute(Deposit("a", 1))


async def test_a_store_that_is_given_stays_open(log: Log) -> None:
    store = await open_store(log) if isinstance(log, str) else log
    for _ in range(2):
        async with bank(store) as app:
            await app.execute(Deposit("a", 1))
    assert await store.head() == 2
    await store.close()


async def test_a_failing_start_leaves_nothing_open(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await open_store(log) if isinstance(log, str) else log
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    async def opened(*_: Any, **__: Any) -> Any:
        return store

    def fails(*_: Any) -> None:
        raise StoreError("not today")

    with monkeypatch.context() as patch:
        patch.setattr("refold.app.open_store", opened)
        patch.setattr(store, "close", close)
        patch.setattr("refold.runtime.lease.Lease.claim_if_free", fails)
        app = bank("memory:", projections=[Balance])
        with pytest.raises(StoreError, match="not today"):
            async with app:
                pass
    assert closed == [True]
    with pytest.raises(StoreClosed):
        await app.head()
    await store.close()


async def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_bytes(b"these are my notes, not a log" * 100)
    with pytest.raises(NotAStore):
        async with bank(f"sqlite:///{tmp_path}/notes.db"):
            pass


async def test_an_error_inside_closes_the_app(log: Log) -> None:
    app = bank(log)
    with pytest.raises(ZeroDivisionError):
        async with app:
            _ = 1 // 0
    async with app:
        assert await app.head() == 0


async def test_what_is_under_way_at_the_end_is_told(tmp_path: Path) -> None:
    app = bank(f"sqlite:///{tmp_path}/log.db")
    async with app:
        tasks = [asyncio.create_task(app.execute(Deposit(f"a-{n}", 1))) for n in range(20)]
        for _ in range(3):
            await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    done = [each for each in outcomes if isinstance(each, int)]
    assert all(isinstance(each, int | StoreClosed) for each in outcomes)
    async with app:
        assert await app.head() == len(done)


# Events.


async def events(app: App, of: object = None, **bounds: Any) -> list[int]:
    return [each.position async for each in app.events(of, **bounds)]


async def test_events_are_chosen_by_state_class_or_query(app: App) -> None:
    await app.record(*NOTED)
    assert [each.event async for each in app.events()] == NOTED
    assert await events(app, Balance("a")) == [1, 4, 5]
    assert await events(app, Fee()) == [3]
    assert await events(app, Deposited) == [1, 2]
    assert await events(app, Deposited | FeeSet) == [1, 2, 3]
    assert await events(app, [Transferred, FeeSet | Withdrawn]) == [3, 4, 5]
    assert await events(app, Query.of(tags=["account:b"])) == [2, 4]
    assert await events(app, BankEvent) == [1, 2, 3, 4, 5]


async def test_events_between_bounds_in_either_direction(app: App) -> None:
    await app.record(*NOTED)
    assert await events(app, after=1, upto=3) == [2, 3]
    assert await events(app, backwards=True) == [5, 4, 3, 2, 1]
    assert await events(app, Balance("a"), backwards=True, limit=2) == [5, 4]
    assert await events(app, limit=0) == []
    assert await events(app, after=9) == []
    [first] = [each async for each in app.events(limit=1)]
    assert isinstance(first, Recorded)
    assert first.tags == ("account:a",)
    assert first.recorded_at == first.occurred_at


@pytest.mark.parametrize("of", [int, "Deposited", [], Balance, Command, 7])
async def test_what_does_not_say_which_events(app: App, of: object) -> None:
    with pytest.raises(InvalidQuery, match="does not say which events: give a state, event classes, or a Query"):
        await events(app, of)


async def test_events_that_are_not_of_the_app(app: App) -> None:
    with pytest.raises(WiringError, match="Alien is not among the events of this app"):
        await events(app, Alien)


async def test_an_iterator_may_be_left_early(app: App) -> None:
    await app.record(*NOTED)
    async for each in app.events():
        if each.position == 2:
            break
    async for each in app.follow(after=1):
        assert each.position == 2
        break
    assert await app.head() == 5


async def test_follow_waits_for_what_comes(app: App) -> None:
    seen: list[int] = []
    third = asyncio.Event()

    async def follow() -> None:
        async for each in app.follow(Deposited | FeeSet):
            seen.append(each.position)
            if each.position == 3:
                third.set()

    task = asyncio.create_task(follow())
    await app.record(*NOTED[:2])
    await app.record(*NOTED[2:])
    await third.wait()
    assert seen == [1, 2, 3]
    task.cancel()
    await asyncio.wait([task])


async def test_follow_ends_with_an_error_when_the_app_closes(tmp_path: Path) -> None:
    app = bank(f"sqlite:///{tmp_path}/log.db")
    async with app:

        async def follow() -> None:
            async for _ in app.follow():
                pass

        task = asyncio.create_task(follow())
        await app.execute(Deposit("a", 1))
        await asyncio.sleep(0)
    with pytest.raises(StoreClosed):
        await task


async def test_follow_from_beyond_the_head_is_refused(app: App) -> None:
    with pytest.raises(PositionAhead, match="cannot follow after 7: the head is 0"):
        await anext(aiter(app.follow(after=7)))


# Waiting.


async def test_a_view_shows_what_was_waited_for(app: App) -> None:
    for amount in range(1, 20):
        at = await app.execute(Deposit("a", 1))
        row = await app.view(Balance).get("a", at_least=at)
        assert row is not None
        assert row.amount == amount
        assert await app.view(Balance).count(at_least=at) == 1
        assert await app.view(Balance).find({"amount": amount}, at_least=at) == [Balance("a", amount)]


async def test_a_wait_that_takes_too_long(app: App) -> None:
    await app.execute(Deposit("a", 1))
    await app.settle()
    with pytest.raises(WaitTimeout, match=r"Balance is at position 1 after 0.01 s, 4 short of 5$") as late:
        await app.wait(5, timeout=0.01)
    assert (late.value.data["subscription"], late.value.data["position"]) == ("Balance", 1)
    await app.wait(1, Balance, timeout=0)
    await app.wait(0)


async def test_a_wait_for_what_is_not_kept(app: App) -> None:
    for strange in (Fee, deposit, int, 7):
        with pytest.raises(WiringError, match="is neither a projection nor a process of this app"):
            await app.wait(1, strange)  # type: ignore[arg-type]
    with pytest.raises(WiringError, match="Fee is not kept: add it, or the projection of its rows, to `projections`"):
        app.view(Fee)


async def test_one_may_wait_before_any_app_has_run_on_the_log(log: Log) -> None:
    def drains(event: Deposited) -> Iterable[Command]:
        yield Withdraw(event.account_id, event.amount)

    async with bank(log, processes=[drains]).passive() as passive:
        position = await passive.execute(Deposit("a", 1))
        with pytest.raises(WaitTimeout, match="drains is at position 0"):
            await passive.wait(position, timeout=0.01)
        waiting = asyncio.create_task(passive.wait(position, timeout=None))
        async with bank(log, processes=[drains]):
            await waiting


async def test_many_wait_at_once(app: App) -> None:
    waits = [asyncio.create_task(app.wait(n % 5 + 1)) for n in range(50)]
    for amount in range(5):
        await app.execute(Deposit("a", amount))
    await asyncio.gather(*waits)


async def test_a_wait_that_is_given_up_leaves_no_task(app: App) -> None:
    before = len(asyncio.all_tasks())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await app.wait(5, timeout=None)
    assert len(asyncio.all_tasks()) == before


async def test_a_checkpoint_ahead_of_the_log_is_refused(log: Log) -> None:
    """As when the log was restored from a backup, and the views were not."""
    async with bank(log, projections=[Balance]) as app:
        await app.record(*NOTED)
        await app.settle()
        [subscription] = app._now.subscriptions()
        await subscription._lease.write([], 50)
    async with bank(log, projections=[Balance]) as app:
        with pytest.raises(SubscriptionFailed, match=r"Balance@\w+ stopped after position 50: cannot follow after 50"):
            await app.wait(51)


async def test_nothing_to_wait_for(log: Log) -> None:
    async with bank(log) as app:
        await app.execute(Deposit("a", 1))
        await app.settle()
        await app.wait(99)


async def test_apps_in_memory_share_nothing() -> None:
    async with bank("memory:") as one, bank("memory:") as two:
        await one.execute(Deposit("a", 1))
        assert await two.head() == 0
    async with bank(MemoryStore()) as app:
        with pytest.raises(Exception, match="not enough money"):
            await app.execute(Withdraw("a", 1))
