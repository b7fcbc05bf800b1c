"""The app for scripts and threads."""

import asyncio
import gc
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

import refold
from refold import InvalidQuery, Query, SubscriptionFailed, WaitTimeout, WiringError, kept, sync
from refold.errors import NotAStore, StoreClosed
from refold.model.record import NewEvent
from refold.runtime import look
from refold.runtime.index import Index
from refold.store.api import Capability, Store
from refold.sync import App, Portal
from tests.conftest import Log
from tests.runtime.bank import DECISIONS, Balance, BankEvent, Deposit, Deposited, Overdrawn, Transfer, Withdraw
from tests.runtime.clicks import Clicked, Clicks, Failing


def bank(log: Log, **options: Any) -> App:
    return App(log, **{"events": BankEvent, "decisions": DECISIONS, "projections": [Balance]} | options)


@pytest.fixture
def url(tmp_path: Any) -> str:
    return f"sqlite:///{tmp_path}/log.db"


@pytest.fixture
def app(url: str) -> Iterator[App]:
    with bank(url) as app:
        yield app


def portals() -> int:
    return sum(thread.name == "refold-portal" for thread in threading.enumerate())


def test_everything_that_the_app_does(app: App) -> None:
    assert app.execute(Deposit("a", 5), id="1", actor="ann") == 1
    assert app.execute(Deposit("a", 5), id="1") == 1
    at = app.record(Deposited("b", 7), Deposited("a", 1))
    assert app.head() == at == 3
    assert app.load(Balance("a")) == Balance("a", 6)
    assert app.load(Balance("a"), as_of=2) == Balance("a", 5)
    assert app.load(Balance("a"), effective=datetime.now(UTC)) == Balance("a", 6)
    assert [each.position for each in app.events(Balance("a"), backwards=True)] == [3, 1]
    app.wait(at, Balance, timeout=60)
    app.settle()
    view = app.view(Balance)
    assert view.get("a", at_least=at) == Balance("a", 6)
    assert view.find({"amount__gt": 1}, order="-amount", limit=1) == [Balance("b", 7)]
    assert view.count() == 2
    [found] = app.index.search("ann").events
    assert found == app.index.at(1)
    correlation = next(iter(app.events(upto=1))).metadata.correlation_id
    assert app.index.correlated(correlation).events == [found]
    assert app.index.event("nobody's") is None
    assert app.index.caused_by("nothing").complete
    for each in app.follow(after=2):
        assert each.event == Deposited("a", 1)
        break


def test_errors_are_those_of_the_app(app: App) -> None:
    with pytest.raises(Overdrawn):
        app.execute(Withdraw("a", 1))
    with pytest.raises(InvalidQuery, match="no time zone"):
        app.load(Balance("a"), as_of=datetime(2026, 3, 1))
    with pytest.raises(WiringError, match="is not kept"):
        app.view(int)  # type: ignore[type-var]
    with pytest.raises(WiringError, match="decisions takes a list"):
        bank("memory:", decisions=7)


def test_many_events_are_iterated(app: App) -> None:
    app.record(*[Deposited("a", n) for n in range(2_500)])
    assert [each.event.amount for each in app.events()] == list(range(2_500))  # type: ignore[attr-defined]
    assert sum(1 for _ in zip(app.events(), range(700), strict=False)) == 700


def test_threads_share_it(app: App) -> None:
    app.execute(Deposit("a", 100))

    def move(n: int) -> None:
        app.execute(Transfer("a", f"to-{n % 3}", 1))
        assert app.load(Balance("a")).amount < 100
        assert sum(1 for _ in app.events(limit=5)) in (2, 3, 4, 5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(move, range(40)))
    app.settle()
    assert sum(row.amount for row in app.view(Balance).find()) == 100
    assert app.load(Balance("a")).amount == 60


def test_it_opens_again_and_leaves_no_thread(url: str) -> None:
    before = portals()
    app = bank(url)
    for times in range(1, 4):
        with app:
            app.execute(Deposit("a", 1))
            assert app.load(Balance("a")).amount == times
            with pytest.raises(WiringError, match="the app is open already"), app:
                pass
        assert portals() == before


def test_a_start_that_fails_leaves_no_thread(tmp_path: Any) -> None:
    before = portals()
    (tmp_path / "x.db").write_bytes(b"x" * 5_000)
    app = bank(f"sqlite:///{tmp_path}/x.db")
    for _ in range(2):
        with pytest.raises(Exception, match="not"), app:
            pass
    assert portals() == before


def test_a_closed_app_says_so(url: str) -> None:
    app = bank(url)
    with app:
        app.record(*[Deposited("a", n) for n in range(600)])
        view, events, follow = app.view(Balance), app.events(), app.follow()
        assert next(events).position == 1
        assert next(follow).position == 1
    for use in (
        lambda: app.head(),
        lambda: view.get("a"),
        lambda: next(follow),
        lambda: app.events(),
        lambda: list(events),
    ):
        with pytest.raises(StoreClosed):
            use()


def test_whoever_follows_is_told_of_the_end(url: str) -> None:
    app = bank(url)
    started = threading.Event()
    outcome: list[object] = []

    def follow() -> None:
        try:
            for _ in app.follow():
                started.set()
        except StoreClosed as error:
            outcome.append(error)

    thread = threading.Thread(target=follow)
    with app:
        app.execute(Deposit("a", 1))
        thread.start()
        assert started.wait(60)
    thread.join(60)
    assert len(outcome) == 1


def test_an_iterator_that_is_left_is_closed_over_there(app: App) -> None:
    app.record(*[Deposited("a", n) for n in range(10)])
    for _ in range(20):
        for _ in app.follow():
            break
    gc.collect()
    store: Any = app._app._now.store
    while store._followers != 1:  # the projection's
        app.head()


def test_an_interrupted_wait_is_cancelled(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by Ctrl-C: the main thread leaves, the loop goes on, and nothing stays behind."""
    portal = app._now
    begun, cancelled = threading.Event(), threading.Event()

    async def forever() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    real = asyncio.run_coroutine_threadsafe

    class Interrupted:
        def __init__(self, future: Any) -> None:
            self.cancel = future.cancel

        def result(self) -> None:
            assert begun.wait(60)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "run_coroutine_threadsafe", lambda *given: Interrupted(real(*given)))
        with pytest.raises(KeyboardInterrupt):
            portal.call(forever())
    assert cancelled.wait(60)
    assert app.execute(Deposit("a", 1)) == 1


def test_what_still_runs_at_the_end_is_cancelled() -> None:
    portal = Portal()
    began = threading.Event()
    outcome: list[object] = []

    async def forever() -> None:
        began.set()
        await asyncio.Event().wait()

    def call() -> None:
        try:
            portal.call(forever())
        except StoreClosed as error:
            outcome.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    assert began.wait(60)
    portal.close()
    thread.join(60)
    assert outcome == ["the app was closed meanwhile"]
    with pytest.raises(StoreClosed):
        portal.call(forever())


def test_it_is_not_for_its_own_loop(app: App) -> None:
    async def inside() -> None:
        app.head()

    with pytest.raises(WiringError, match=r"use refold\.App there, with await"):
        app._now.call(inside())


def test_a_stopped_projection_is_told(url: str) -> None:
    class Broken(Balance):
        def evolve(self, event: Deposited) -> "Broken":
            raise ValueError("broken")

    globals()["Broken"] = Broken
    with bank(url, projections=[Broken]) as app:
        app.record(Deposited("a", 1))
        with pytest.raises(SubscriptionFailed, match=r"has parked position 1 \(Deposited\)"):
            app.settle()


def test_views_and_operations(url: str) -> None:
    with App(url, events=Clicked | Failing, projections=[kept(Clicks, history=True)]) as app:
        at = app.record(Clicked("a", 2), Clicked("b"))
        view = app.view(Clicks)
        assert view.get("a", at_least=at) == Clicks("a", 2)
        assert view.find({"clicks": 1}, as_of=2) == [Clicks("b", 1)]
        assert view.count(as_of=1) == 1
        with pytest.raises(InvalidQuery, match="has no field to search in"):
            view.search("a")
        assert next(view.watch(after=1)).row == Clicks("b", 1)
        [standing] = app.operations.standing()
        assert (standing.name, standing.position) == ("Clicks", 2)
        assert app.operations.parked() == []
        app.settle(parked=True)
        app.wait(at, Clicks)


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("here", "there", "left_out"),
    [
        (App, refold.App, {"pulse"}),  # which looks at things time and again, for the console, in the app's own loop
        (sync.View, look.View, {"is_built"}),  # by which a server decides whom it lets wait
        (sync.View, look.RowsView, {"is_built"}),
        (sync.Index, Index, {"beside"}),  # which makes one of a store that is open
        (sync.Log, Store, {"close"}),  # the app does that
    ],
)
def test_it_has_all_that_the_app_has(here: type, there: type, left_out: set[str]) -> None:
    assert public(there) - public(here) == left_out
    for name in public(here) & public(there):
        mine, others = inspect.getattr_static(here, name), inspect.getattr_static(there, name)
        assert isinstance(mine, property) == isinstance(others, property), name


def test_it_tells_of_itself_before_it_is_open(url: str) -> None:
    app, asked = bank(url, name="bank"), refold.App(url, events=BankEvent, decisions=DECISIONS, projections=[Balance])
    assert (app.name, app.address) == ("bank", url)
    assert (app.describe(), app.commands, app.states) == (asked.describe(), asked.commands, asked.states)
    assert app.views == asked.views
    assert [each.name for each in app.contract().events] == [each.name for each in asked.contract().events]
    assert app.program.states == asked.program.states
    assert app.schema.events == asked.schema.events
    assert app.telemetry is not asked.telemetry


def test_its_log_is_read_and_appended_to(app: App) -> None:
    app.record(Deposited("a", 1), Deposited("a", 2))
    log = app.log
    [[first, second]] = log.read()
    assert [each.position for each in (first, second)] == [1, 2]
    done = log.append([NewEvent("Deposited", first.data, first.tags)], append_id="again")
    assert log.appended("again") == done
    assert log.head() == done.last == 3
    assert next(log.follow(Query.of(tags="account:a"), after=2))[0].position == 3
    assert Capability.DURABLE in log.capabilities
    with pytest.raises(WiringError, match="has no mirror to ask"):
        app.query("select 1")


def test_operations_that_are_no_coroutines(app: App) -> None:
    app.record(Deposited("a", 1), Deposited("a", 2))
    app.settle()
    assert app.operations.stopped() == {}
    assert [each.position for each in app.operations.events(after=1)] == [2]
    with pytest.raises(AttributeError, match="nope"):
        app.operations.nope()


def test_a_passive_twin_leaves_projections_to_others(url: str) -> None:
    asked = bank(url)
    with asked.passive() as passive:
        assert passive.execute(Deposit("a", 1)) == 1
        with pytest.raises(WaitTimeout):
            passive.wait(1, timeout=0.01)
        with asked as app:
            app.settle()
            assert passive.view(Balance).get("a", at_least=1) == Balance("a", 1)
    with pytest.raises(NotAStore), bank(f"{url}-other").passive(create=False):
        pass
