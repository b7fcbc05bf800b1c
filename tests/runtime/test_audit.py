"""What operators do is in the log: before it is done, whichever way it is asked for, and with how it failed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from refold import (
    App,
    InvalidQuery,
    OperationFailed,
    OperatorActed,
    Singleton,
    State,
    SubscriptionFailed,
    WiringError,
    stored_as,
)
from refold.contract.history import check_history
from refold.contract.lock import written
from refold.model.schema import Schema
from refold.runtime import upkeep
from refold.runtime.audit import INTERRUPTED, Act
from refold.runtime.books import Parked
from refold.sync import App as SyncApp
from tests.conftest import Log
from tests.runtime.clicks import BROKEN, Clicked, Clicks, Failing, Page, clicks

ON_POSTGRES = True


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    BROKEN.clear()


async def parked_in(app: App, *pages: str) -> list[Parked]:
    """Let an event of each page fail, with another behind it."""
    for page in pages:
        BROKEN.add(page)
    await app.record(*(kind(page) for page in pages for kind in (Failing, Clicked)))
    await app.settle(parked=True)
    return [each for each in await app.operations.parked() if each.error]


def told(acts: list[Act]) -> list[tuple[str, str, str | None, str]]:
    return [(each.acted.action, each.acted.about, each.acted.actor, each.error) for each in acts]


async def test_what_is_done_about_parked_events_is_recorded_before_it_is_done(log: Log) -> None:
    async with clicks(log) as app:
        failed = await parked_in(app, "a", "b")
        await app.operations.retry(*failed, actor="ann")
        await app.operations.skip(failed[0], reason="sent twice", actor="bob")
        BROKEN.clear()
        await app.operations.retry()
        assert told(await app.operations.audit()) == [
            ("retry", "Clicks", None, ""),
            ("skip", "Clicks", "bob", ""),
            ("retry", "Clicks", "ann", "2 of 2 fail again"),
        ]
        first, *_ = [each async for each in app.events(OperatorActed)]
        assert first.event == OperatorActed("retry", "Clicks", "ann", positions=(1, 3))
        assert first.tags == ("operated:Clicks", "operator:ann")
        assert first.metadata.actor == "ann"
        [failure] = [each async for each in app.events(OperationFailed)]
        assert failure.metadata.causation_id == first.metadata.event_id
        assert failure.metadata.correlation_id == first.metadata.correlation_id
        skip = [each.event async for each in app.events(OperatorActed)][1]
        assert (skip.reason, skip.positions) == ("sent twice", (1,))


class Broken(State):
    """Fails whatever is mended."""

    page: Page

    def evolve(self, event: Failing) -> Self:
        raise ValueError("it is broken")


async def test_each_of_several_is_told_its_own_failure(log: Log) -> None:
    async with clicks(log, Clicks, Broken) as app:
        await parked_in(app, "a", "b")
        BROKEN.clear()
        await app.operations.retry(actor="ann")
        assert sorted(told(await app.operations.audit())) == [
            ("retry", "Broken", "ann", "2 of 2 fail again"),
            ("retry", "Clicks", "ann", ""),
        ]


async def test_what_cannot_be_recorded_is_not_done(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async with clicks(log) as app:
        [failed] = await parked_in(app, "a")

        async def full(*_: Any, **__: Any) -> None:
            raise SubscriptionFailed("the disk is full")

        monkeypatch.setattr(app.log, "append", full)
        with pytest.raises(SubscriptionFailed):
            await app.operations.skip(failed, reason="why not")
        monkeypatch.undo()
        assert [each.position for each in await app.operations.parked()] == [1, 2]
        assert await app.operations.skipped() == []


async def test_what_is_asked_wrongly_is_no_act(log: Log) -> None:
    async with clicks(log) as app:
        [failed] = await parked_in(app, "a")
        asked: list[Any] = [
            app.operations.skip(failed, reason=" "),
            app.operations.rebuild("Nothing"),
            app.operations.begin_rebuild("Nothing"),
            app.operations.rebuild("Clicks", workers=0),
            app.operations.switch("Clicks", "v9"),
            app.operations.drop("Clicks", "v9"),
            app.operations.repeat("mail", after=0, upto=1, reason="x"),
            app.operations.republish(after=0, upto=1, reason="x"),
            app.operations.give_up("process", "key", reason="x"),
            app.operations.fill_rows("Clicks"),
            app.operations.leave_rows("Clicks"),
        ]
        for each in asked:
            with pytest.raises(InvalidQuery):
                await each
        assert await app.operations.audit() == []


async def test_what_fails_is_told_with_the_act(log: Log) -> None:
    async with clicks(log) as app:
        [failed] = await parked_in(app, "a")
        await app.operations.skip(failed, reason="once")
        with pytest.raises(InvalidQuery):
            await app.operations.skip(failed, reason="twice")
        with pytest.raises(InvalidQuery):
            await app.operations.rollback("Clicks", actor="ann")
        [rollback, skip, _] = await app.operations.audit()
        assert "no earlier version" in rollback.error
        assert skip.error == "nothing is parked at position 1 of Clicks@" + failed.subscription.partition("@")[2]


async def test_what_a_program_says_of_its_failures_is_not_in_the_log(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("the password is geheim")

    async with clicks(log) as app:
        await app.settle()
        monkeypatch.setattr("refold.runtime.operate.Rebuild.run", fails)
        with pytest.raises(RuntimeError):
            await app.operations.rebuild("Clicks")
        [act] = await app.operations.audit()
        assert act.error == "RuntimeError"


async def test_many_parked_events_are_mended_together_and_in_order(log: Log) -> None:
    """Several hundred, of several keys, each with others behind: they are asked for in parts."""
    async with clicks(log) as app:
        pages = [f"p-{n}" for n in range(130)]
        failed = await parked_in(app, *pages)
        assert len(failed) == 130
        everything = await app.operations.parked()
        await app.operations.skip(*everything[:220], reason="a bad import", actor="ann")
        left = await app.operations.parked()
        assert [each.position for each in left] == [each.position for each in everything[220:]]
        assert {each.reason for each in await app.operations.skipped()} == {"a bad import"}
        assert len(await app.operations.skipped()) == 220
        BROKEN.clear()
        assert await app.operations.retry() == []
        assert [len(each.acted.positions) for each in await app.operations.audit()] == [20, 220]


async def test_what_waits_behind_what_is_skipped_is_skipped_if_that_was_meant(log: Log) -> None:
    """More than are asked for at once: none of them may be let through between two parts."""
    async with clicks(log) as app:
        BROKEN.add("a")
        await app.record(Failing("a"), *(Clicked("a") for _ in range(150)), Clicked("b"))
        await app.settle(parked=True)
        everything = await app.operations.parked()
        await app.operations.skip(*everything[:140], reason="a bad import")
        assert await app.view(Clicks).get("a") == Clicks("a", 11)
        assert len(await app.operations.skipped()) == 140


async def test_a_rebuild_and_what_follows_it(log: Log) -> None:
    async with clicks(log) as app:
        await app.record(Clicked("a", 3))
        await app.settle()
        [before] = await app.operations.versions("Clicks")
        version = await app.operations.rebuild("Clicks", hold=True, actor="ann")
        assert {each.version: each.is_held for each in await app.operations.standing()} == {
            before.version: False,
            version.version: True,
        }
        assert (await app.operations.switch("Clicks", version.version, actor="ann")).version == version.version
        assert (await app.operations.switch("Clicks", version.version, actor="ann")).version == version.version
        back = await app.operations.rollback("Clicks", leaving=version.version, actor="bob")
        again = await app.operations.rollback("Clicks", leaving=version.version, actor="bob")
        assert back.version == again.version == before.version, "who asks twice goes back once"
        with pytest.raises(InvalidQuery, match="is read as of version"):
            await app.operations.rollback("Clicks", leaving="another")
        await app.operations.drop("Clicks", version.version, actor="ann")
        acts = await app.operations.audit()
        assert [(each.acted.action, each.acted.version) for each in acts] == [
            ("drop", version.version),
            ("rollback", version.version),
            ("switch", version.version),
            ("rebuild", ""),
        ]
        assert told(await app.operations.audit(actor="bob")) == [("rollback", "Clicks", "bob", "")]
        assert await app.operations.audit(about="Others") == []


async def test_pages_of_acts_keep_what_failed_behind_them(log: Log) -> None:
    async with clicks(log) as app:
        [failed] = await parked_in(app, "a")
        for number in range(5):
            await app.operations.retry(failed, actor=f"a-{number}")
        newest = await app.operations.audit(limit=2)
        older = await app.operations.audit(limit=2, before=newest[-1].position)
        assert [each.acted.actor for each in (*newest, *older)] == ["a-4", "a-3", "a-2", "a-1"]
        assert all("fail again" in each.error for each in (*newest, *older))


async def test_a_rebuild_in_the_background_is_seen_and_one_at_a_time(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    going, compare = asyncio.Event(), upkeep.comparison_of

    async def slowly(*args: Any) -> Any:
        await going.wait()
        return await compare(*args)

    monkeypatch.setattr("refold.runtime.rebuild.comparison_of", slowly)
    async with clicks(log) as app:
        await app.record(Clicked("a", 3))
        await app.settle()
        assert await app.operations.begin_rebuild("Clicks", actor="ann")
        assert not await app.operations.begin_rebuild("Clicks", actor="bob")
        async with asyncio.timeout(60):
            while (building := await _building(app)).stage != "comparing":
                await asyncio.sleep(0.01)
        assert building.trouble == ""
        going.set()
        async with asyncio.timeout(60):
            while len(await app.operations.standing()) < 2 or await _is_building(app):
                await asyncio.sleep(0.01)
        assert sorted(each.status for each in await app.operations.standing()) == ["active", "kept"]
        assert told(await app.operations.audit()) == [("rebuild", "Clicks", "ann", "")]


async def test_a_rebuild_in_the_background_ends_with_the_app_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr("refold.runtime.rebuild.comparison_of", never)
    log = f"sqlite:///{tmp_path}/log.db"
    async with clicks(log) as app:
        await app.record(Clicked("a", 3))
        await app.settle()
        assert await app.operations.begin_rebuild("Clicks", actor="ann")
        begun = (await _building(app)).version
    monkeypatch.undo()
    async with clicks(log) as app:
        assert told(await app.operations.audit()) == [("rebuild", "Clicks", "ann", INTERRUPTED)]
        assert (await app.operations.rebuild("Clicks")).version == begun
        assert (await app.view(Clicks).get("a")) == Clicks("a", 3)


async def test_why_a_rebuild_in_the_background_ended_is_seen(log: Log) -> None:
    async with clicks(log) as app:
        await parked_in(app, "a")
        await app.operations.begin_rebuild("Clicks")
        async with asyncio.timeout(60):
            while not (building := await _building(app)).trouble:
                await asyncio.sleep(0.01)
        assert "the rebuild has ended" in building.trouble
        assert "has parked events" in building.trouble
        [act] = await app.operations.audit()
        assert "has parked events" in act.error
        BROKEN.clear()
        assert await app.operations.begin_rebuild("Clicks"), "it is tried again"


async def _building(app: App) -> Any:
    return next(each for each in await app.operations.standing() if each.status == "building")


async def _is_building(app: App) -> bool:
    return any(each.status == "building" for each in await app.operations.standing())


async def test_how_fast_a_projection_goes_is_seen(log: Log) -> None:
    async with clicks(log) as app:
        await app._now.look()
        await app.record(*(Clicked("a") for _ in range(50)))
        await app.settle()
        await app._now.look()
        [standing] = await app.operations.standing()
        assert standing.rate > 1


def test_from_a_script(tmp_path: Path) -> None:
    with SyncApp(f"sqlite:///{tmp_path}/log.db", events=Clicked | Failing, projections=[Clicks]) as app:
        app.record(Clicked("a"))
        app.settle()
        app.operations.rebuild("Clicks", actor="ann")
        assert [each.event.actor for each in app.events(OperatorActed)] == ["ann"]


class Acts(Singleton):
    """Counts what operators did."""

    count: int = 0

    def evolve(self, event: OperatorActed) -> Self:
        return self.replace(count=self.count + 1)


async def test_it_can_be_folded_and_is_none_of_the_apps_own_events(tmp_path: Path) -> None:
    log = f"sqlite:///{tmp_path}/log.db"
    async with clicks(log, Clicks, Acts) as app:
        await app.operations.rebuild("Clicks", actor="ann")
        await app.settle()
        assert await app.view(Acts).get() == Acts(1) == await app.load(Acts())
        contract = app.contract()
        assert [each.name for each in contract.events] == ["Clicked", "Failing"]
        assert "OperatorActed" not in str(contract)
        assert b"refold." not in written(contract)
        assert "OperatorActed" not in app.describe()["events"]
    report = await check_history(app.program, log)
    assert (report.failed, {each.type for each in report.types}) == (0, {"refold.OperatorActed"})


def test_every_program_knows_it_and_none_has_to_list_it() -> None:
    both = Schema([Clicked, OperatorActed])
    assert both.events == (Clicked,)
    assert both.names([OperatorActed]) == Schema(Clicked).names([OperatorActed]) == ("refold.OperatorActed",)

    @stored_as("refold.OperatorActed")
    class Own(Clicked):
        pass

    with pytest.raises(WiringError, match=r"both stored as 'refold\.OperatorActed'"):
        Schema([Own])
