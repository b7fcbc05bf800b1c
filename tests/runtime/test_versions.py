"""Versions of a projection: built beside what is read, compared, switched to, and back."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from refold import InvalidQuery, NotKept, WaitTimeout, WiringError, kept
from refold.runtime import compare, fold, rebuild, upkeep, versions
from refold.runtime.books import Books, Version
from tests.conftest import Log
from tests.runtime.clicks import BROKEN, Clicked, Clicks, Doubled, Failing, Widened, clicks

ON_POSTGRES = True


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "FRESH_SECONDS", -1.0)


async def statuses(app: Any) -> dict[str, str]:
    return {row.version: row.status for row in await app.operations.versions("Clicks")}


async def test_a_changed_projection_is_built_beside_the_old_one_and_then_read(log: Log) -> None:
    async with clicks(log) as old:
        await old.record(Clicked("a", 3), Clicked("b"))
        await old.settle()
        [before] = await old.operations.versions("Clicks")
    async with clicks(log, Doubled) as new:
        await new.settle()
        assert await new.view(Doubled).find() == [Doubled("a", 6), Doubled("b", 2)]
        after = await new.operations.versions("Clicks")
        assert {row.version: row.status for row in after} == {before.version: "kept", after[-1].version: "active"} or {
            row.version: row.status for row in after
        }[before.version] == "kept"
        comparison = next(row.comparison for row in after if row.status == "active")
        assert comparison is not None
        assert (comparison.old_rows, comparison.new_rows, comparison.compared, comparison.different) == (2, 2, 2, 2)
        assert "Clicks a: clicks was 3, is 6" in comparison.sample
        assert comparison.old_hash != comparison.new_hash


async def test_old_and_new_programs_side_by_side(log: Log) -> None:
    async with clicks(log) as old:
        await old.record(Clicked("a", 3))
        await old.settle()
        async with clicks(log, Doubled) as new:
            at = await new.record(Clicked("a"))
            await new.settle()
            assert await old.view(Clicks).get("a", at_least=at) == Clicks("a", 8), "all read the same version"
            assert await new.view(Doubled).get("a", at_least=at) == Doubled("a", 8)
            rolled = await new.operations.rollback("Clicks")
            assert (rolled.status, rolled.pinned) == ("active", True)
            at = await old.record(Clicked("a"))
            assert await old.view(Clicks).get("a", at_least=at) == Clicks("a", 5), "the old program has kept it up"
            assert await new.view(Doubled).get("a", at_least=at) == Doubled("a", 5)
            assert (await statuses(new))[rolled.version] == "active"
            await new._now.look()
            await old._now.look()
            assert sorted((await statuses(new)).values()) == ["active", "rejected"], "nobody switches again by itself"


async def test_what_has_other_fields_reads_its_own(log: Log) -> None:
    async with clicks(log) as old:
        await old.record(Clicked("a", 3))
        await old.settle()
        async with clicks(log, Widened) as new:
            await new.record(Clicked("a"))
            await new.settle()
            assert await new.view(Widened).get("a") == Widened("a", 4, 2)
            assert await old.view(Clicks).get("a") == Clicks("a", 4), "it has all that the old program reads"
            await new.operations.rollback("Clicks")
            assert await new.view(Widened).get("a") == Widened("a", 4, 2), "the old rows lack a field"


async def test_what_lacks_a_field_is_waited_for(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async with clicks(log) as old:
        await old.record(*[Clicked(f"p-{n}") for n in range(100)])
        await old.settle()
    async with clicks(log, Widened) as new:
        assert await new.view(Widened).get("p-3") == Widened("p-3", 1, 1), "read at once, it waits for its version"
    async with clicks(log, Doubled).passive() as other:
        assert await other.view(Doubled).get("p-3") == Doubled("p-3", 1), "what fits is read"
    async with clicks(log) as old:
        await old.settle()
        assert await old.view(Clicks).get("p-3") == Clicks("p-3", 1)


async def test_the_older_program_alone_reads_its_own_version_again(log: Log) -> None:
    async with clicks(log) as old:
        await old.record(Clicked("a", 3))
        await old.settle()
    async with clicks(log, Doubled) as new:
        await new.settle()
    async with clicks(log) as old:
        at = await old.record(Clicked("a"))
        assert await old.view(Clicks).get("a", at_least=at) == Clicks("a", 4)
        assert list((await statuses(old)).values()).count("active") == 1


async def test_versions_before_the_last_are_dropped(log: Log) -> None:
    async with clicks(log) as app:
        await app.record(Clicked("a", 3))
        await app.settle()
    for _ in range(3):
        async with clicks(log).passive() as app:
            await app.operations.rebuild("Clicks")
    async with clicks(log) as app:
        await app.settle()
        rows = await app.operations.versions("Clicks")
        assert sorted(row.status for row in rows) == ["active", "kept"]
        assert await app.view(Clicks).get("a") == Clicks("a", 3)
        stored = {shape.stored for row in rows for shape in row.tables}
        views = app._now.books[0].views
        if hasattr(views, "_tables"):
            assert {name for name in views._tables if name.startswith("Clicks_")} == stored


async def test_a_version_with_parked_events_is_not_switched_to(log: Log) -> None:
    BROKEN.add("b")
    try:
        async with clicks(log, Doubled) as old:
            await old.record(Clicked("a"), Failing("b"), Clicked("b"))
            await old.settle()
        async with clicks(log) as new:
            await new.settle(parked=True)
            await new._now.look()
            assert sorted((await statuses(new)).values()) == ["active", "building"]
            assert await new.view(Clicks).get("b") == Clicks("b", 4), "the old rows are read on"
            BROKEN.clear()
            assert await new.operations.retry() == []
            await new.settle()
            assert await new.view(Clicks).get("b") == Clicks("b", 2)
    finally:
        BROKEN.clear()


async def test_a_version_that_is_held_waits_for_a_word(log: Log) -> None:
    async with clicks(log) as app:
        await app.record(Clicked("a", 3))
        await app.settle()
    async with clicks(log, Doubled).passive() as new:
        stages: list[str] = []
        version = await new.operations.rebuild("Clicks", hold=True, tell=lambda each: stages.append(each.stage))
        assert (version.status, version.hold, stages[-1]) == ("building", True, "held")
        assert version.comparison is not None
        assert await new.view(Doubled).get("a") == Doubled("a", 3)
        assert (await new.operations.switch("Clicks")).version == version.version
        assert await new.view(Doubled).get("a") == Doubled("a", 6)
        with pytest.raises(InvalidQuery, match="is the version that is read; it stays"):
            await new.operations.drop("Clicks", version.version)
        await new.operations.rollback("Clicks")
        assert await new.view(Doubled).get("a") == Doubled("a", 3)
        await new.operations.drop("Clicks", version.version)
        with pytest.raises(InvalidQuery, match="no earlier version to go back to"):
            await new.operations.rollback("Clicks")


async def test_an_explicit_version_stands_for_the_definition(log: Log) -> None:
    async with clicks(log, kept(Clicks, version=1)) as app:
        await app.record(Clicked("a", 3))
        await app.settle()
    async with clicks(log, kept(Doubled, version=1)) as app:
        await app.record(Clicked("a", 1))
        await app.settle()
        assert await app.view(Doubled).get("a") == Doubled("a", 5), "as its author says: the same definition"
    async with clicks(log, kept(Doubled, version=2)) as app:
        await app.settle()
        assert await app.view(Doubled).get("a") == Doubled("a", 8)


async def test_workers_share_the_keys_of_a_rebuild(tmp_path: Path) -> None:
    log = f"sqlite:///{tmp_path}/log.db"
    async with clicks(log) as app:
        for batch in range(10):
            await app.record(*[Clicked(f"p-{n % 37}", batch) for n in range(100)])
        await app.settle()
        expected = await app.view(Clicks).find()
    async with clicks(log, kept(Clicks, version=7)).passive() as app:
        told: list[Any] = []
        version = await app.operations.rebuild("Clicks", workers=3, tell=told.append)
        assert (version.status, version.parts) == ("active", 1)
        assert {each.stage for each in told} >= {"building", "switched"}
        assert told[-1].done == 1001, "that it was asked for is in the log, too"
        assert await app.view(Clicks).find() == expected
        comparison = version.comparison
        assert comparison is not None
        assert (comparison.different, comparison.only_old, comparison.only_new) == (0, 0, 0)
        assert comparison.old_hash == comparison.new_hash
    async with clicks(log, kept(Clicks, version=7)) as app:
        at = await app.record(Clicked("p-0", 5))
        row = await app.view(Clicks).get("p-0", at_least=at)
        assert row is not None
        assert row.clicks == expected[0].clicks + 5


async def test_a_rebuild_by_parts_that_was_left_is_gone_on_with(tmp_path: Path) -> None:
    log = f"sqlite:///{tmp_path}/log.db"
    async with clicks(log) as app:
        await app.record(*[Clicked(f"p-{n % 37}") for n in range(500)])
        await app.settle()
        expected = await app.view(Clicks).find()
    async with clicks(log, kept(Clicks, version=7)).passive() as app:
        up = app._now.upkeeps["Clicks"]
        begun = await up.versions.rebuild(await app.head(), parts=4, hold=False)
        assert begun.subscriptions() == tuple(f"Clicks@v7#{part}/4" for part in range(4))
    async with clicks(log, kept(Clicks, version=7)) as app:  # who opens it next builds all the parts
        await app.settle()
        while (await app.operations.versions("Clicks"))[-1].status != "active":
            await asyncio.sleep(0.02)
            await app._now.look()
        assert (await statuses(app))["v7"] == "active"
        assert await app.view(Clicks).find() == expected


async def test_live_parts(log: Log) -> None:
    async with clicks(log, kept(Clicks, parts=3)) as app:
        at = await app.record(*[Clicked(f"p-{n % 7}") for n in range(70)])
        await app.wait(at)
        assert await app.view(Clicks).find() == [Clicks(f"p-{n}", 10) for n in range(7)]
        assert len(app._now.subscriptions()) == 3
    with pytest.raises(WiringError, match="0 parts: 1 to 256"):
        clicks(log, kept(Clicks, parts=0))


async def test_mistakes_of_operators(log: Log) -> None:
    async with clicks(log) as app:
        await app.settle()
        with pytest.raises(InvalidQuery, match="there is no projection 'Other'; there is Clicks"):
            await app.operations.rebuild("Other")
        with pytest.raises(InvalidQuery, match="0 workers"):
            await app.operations.rebuild("Clicks", workers=0)
        with pytest.raises(InvalidQuery, match=r"there is no such version 9; there is \w+ \(active\)"):
            await app.operations.switch("Clicks", "9")
        with pytest.raises(InvalidQuery, match="there is no such version"):
            await app.operations.compare("Clicks")
    with pytest.raises(WiringError, match="version=0: versions begin at 1"):
        clicks(log, kept(Clicks, version=0))


async def test_a_wait_says_that_it_is_being_built(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async with clicks(log) as app:
        await app.record(Clicked("a"))
        await app.settle()

    async def never(*_: Any) -> bool:
        return False

    monkeypatch.setattr(upkeep.Upkeep, "_is_built", never)
    async with clicks(log, Doubled) as app:
        at = await app.record(Clicked("a"))
        with pytest.raises(
            WaitTimeout, match=r"Clicks is at position 1 after 0.2 s, 1 short of 2, in version \w+; .* building"
        ):
            await app.wait(at, Doubled, timeout=0.2)


async def test_a_view_that_was_never_kept(log: Log) -> None:
    async with clicks(log).passive() as app:
        with pytest.raises(NotKept, match="no app has run on this log yet"):
            await app.view(Clicks).get("a")


def test_names_of_subscriptions() -> None:
    assert Version("P", "v", "f", "active", ()).subscriptions() == ("P@v",)


async def test_what_was_switched_to_by_hand_stays_though_nobody_keeps_it_up_yet(log: Log) -> None:
    async with clicks(log) as old:
        await old.record(Clicked("a", 3))
        await old.settle()
        async with clicks(log, Doubled).passive() as new:
            await new.operations.rebuild("Clicks", hold=True)
            await new.operations.switch("Clicks")
        await old._now.look()
        assert await old.view(Clicks).get("a") == Clicks("a", 6)


async def test_a_rebuild_that_stands_still_says_where_and_why(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "STALLED_SECONDS", 0.1)
    monkeypatch.setattr(rebuild, "LOOK_SECONDS", 0.02)
    async with clicks(log) as old:
        await old.record(Clicked("a"), Failing("a"))
        await old.settle()
    handle: Any = fold.Folding.handle
    told: list[Any] = []
    slept = False

    async def slowly(*args: Any) -> int:
        nonlocal slept
        if not slept:
            slept = True
            while not any(each.stalled for each in told):
                await asyncio.sleep(0.01)
        done: int = await handle(*args)
        return done

    monkeypatch.setattr(fold.Folding, "handle", slowly)
    async with clicks(log, Doubled).passive() as new:
        await new.operations.rebuild("Clicks", tell=told.append)
        stalled = [each.stalled for each in told if each.stalled]
        assert stalled
        assert re.match(r"no progress for \d+ s: at position 1, Clicked: it is being handled", stalled[0])
        assert told[-1].stage == "switched"


async def test_what_a_killed_drop_has_left_is_never_met_again(log: Log) -> None:
    async def killed(names: object) -> None:
        raise ConnectionAbortedError("killed between the version and its tables")

    async with clicks(log) as old:
        await old.record(Clicked("a", 3))
        await old.settle()
        async with clicks(log, Doubled).passive() as new:
            begun = await new.operations.rebuild("Clicks", hold=True)
            views = new._now.upkeeps["Clicks"].versions.books.views
            there = views.drop
            views.drop = killed  # type: ignore[method-assign, assignment]
            with pytest.raises(ConnectionAbortedError):
                await new.operations.drop("Clicks", begun.version)
            views.drop = there  # type: ignore[method-assign]
            assert len(await new.operations.versions("Clicks")) == 1
            again = await new.operations.rebuild("Clicks", hold=True)
            assert again.version != begun.version
            await new.operations.switch("Clicks", again.version)
            assert await new.view(Doubled).get("a") == Doubled("a", 6), "its rows are counted once"
    async with clicks(log, Doubled) as after:
        await after.settle()
        ever = await after._now.upkeeps["Clicks"].versions.books.versions("Clicks", ever=True)
        assert [each.tables for each in ever if each.version == begun.version] == [()], "its tables are gone, too"


async def test_settling_waits_for_parts_to_become_one(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async with clicks(log) as old:
        await old.record(Clicked("a", 3), Clicked("b"))
        await old.settle()
        async with clicks(log, Doubled).passive() as new:
            doubled = new._now.upkeeps["Clicks"].versions
            await doubled.rebuild(await new.head(), parts=2, hold=False)  # and then its program is killed
        await old.record(Clicked("a"))
    async with clicks(log, Doubled) as after:
        await after.settle()
        assert await after.view(Doubled).find(order="page") == [Doubled("a", 8), Doubled("b", 2)]


@pytest.fixture
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two who look at what versions there ever were go on only when both have seen the same."""
    both, read, seen = asyncio.Barrier(2), Books.versions, set[int]()

    async def together(books: Books, projection: str | None = None, *, ever: bool = False) -> list[Version]:
        found = await read(books, projection, ever=ever)
        if ever and len(seen) < 2:
            seen.add(len(seen))
            await both.wait()
        return found

    monkeypatch.setattr(Books, "versions", together)


@pytest.mark.usefixtures("two_at_once")
@pytest.mark.parametrize("other", [Clicks, Doubled], ids=["of one definition", "of two"])
async def test_of_two_programs_that_begin_at_once_one_begins_what_is_read(log: Log, other: type) -> None:
    async with AsyncExitStack() as exits:
        one, two = clicks(log), clicks(log, other)
        await asyncio.gather(exits.enter_async_context(one), exits.enter_async_context(two))
        at = await one.record(Clicked("a", 3))
        found = await one.operations.versions("Clicks")
        assert [each.status for each in found].count("active") == 1
        assert len(found) == (1 if other is Clicks else 2)
        for each, view in ((one, Clicks), (two, other)):
            row = await each.view(view).get("a", at_least=at)
            assert row is not None
            assert row.clicks in (3, 6)


async def test_what_was_waited_for_is_there_whatever_is_switched_to_meanwhile(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = upkeep.Upkeep.reached

    async def and_switched(each: upkeep.Upkeep, position: int, seconds: float | None) -> Version:
        found = await reached(each, position, seconds)
        await app.operations.switch("Clicks", behind.version)
        return found

    async with clicks(log) as app:
        await app.record(Clicked("a", 3))
        behind = await app.operations.rebuild("Clicks", hold=True)
        at = await app.record(Clicked("a"))
        await app.settle()
        monkeypatch.setattr(upkeep.Upkeep, "reached", and_switched)
        assert await app.view(Clicks).get("a", at_least=at) == Clicks("a", 4)


async def test_of_two_who_rebuild_at_once_one_is_refused(log: Log, request: pytest.FixtureRequest) -> None:
    async with clicks(log) as app, clicks(log).passive() as other:
        request.getfixturevalue("two_at_once")
        rebuilding = [each._now.upkeeps["Clicks"].versions.rebuild(0, parts=1, hold=True) for each in (app, other)]
        refused = [
            each for each in await asyncio.gather(*rebuilding, return_exceptions=True) if isinstance(each, InvalidQuery)
        ]
        assert len(refused) == 1
        assert "is being rebuilt already" in str(refused[0])
        assert len(await app.operations.versions("Clicks")) == 2


async def test_rows_that_change_while_versions_are_compared_do_not_differ(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, read = compare._rows, 0

    async def slowly(*args: Any) -> AsyncIterator[Any]:
        nonlocal read
        read += 1
        if read == 1:  # one goes on, the other, which is held, does not
            await app.record(Clicked("a"), Clicked("new"))
            await app.settle()
        for row in [each async for each in rows(*args)]:
            yield row

    async with clicks(log) as app:
        await app.record(Clicked("a", 3), Clicked("b"))
        await app.operations.rebuild("Clicks", hold=True)
        monkeypatch.setattr(compare, "_rows", slowly)
        found = await app.operations.compare("Clicks")
        assert read == 2
        assert (found.compared, found.different, found.only_old, found.only_new) == (1, 0, 0, 0), found
        assert found.old_hash == found.new_hash


async def test_of_two_who_rebuild_at_once_one_goes_on_with_what_the_other_has_begun(
    log: Log, request: pytest.FixtureRequest
) -> None:
    async with clicks(log) as app, clicks(log).passive() as other:
        request.getfixturevalue("two_at_once")
        one, two = await asyncio.gather(*[each.operations.rebuild("Clicks", hold=True) for each in (app, other)])
        assert one.version == two.version
        assert len(await app.operations.versions("Clicks")) == 2


async def test_a_drop_that_was_outrun_says_so(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    drop = versions.Versions.drop

    async def outrun(each: versions.Versions, version: Version) -> bool:
        await each.note(version, hold=not version.hold)
        return await drop(each, version)

    monkeypatch.setattr(versions.Versions, "drop", outrun)
    async with clicks(log) as app:
        begun = await app.operations.rebuild("Clicks", hold=True)
        with pytest.raises(InvalidQuery, match="Clicks was changed by somebody else at the same time"):
            await app.operations.drop("Clicks", begun.version)
        assert begun.version in await statuses(app)


async def test_whoever_still_runs_a_version_that_was_dropped_does_not_begin_it_again(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refold.runtime.running.LOOK_SECONDS", 60.0)
    monkeypatch.setattr("refold.runtime.lease.LOOK_SECONDS", 0.01)
    async with clicks(log) as old, clicks(log, Doubled) as new:
        await old.record(Clicked("a"))
        await new.settle()
        [left] = [each for each in await new.operations.versions("Clicks") if each.status == "kept"]
        await new.operations.drop("Clicks", left.version)
        await old.record(Clicked("a"))
        await asyncio.sleep(0.2)
        books = new._now.upkeeps["Clicks"].versions.books
        assert await books.checkpoint(left.subscriptions()[0]) is None
