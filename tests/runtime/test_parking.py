"""Parking: an event that fails holds up its key and nothing else, and nothing is skipped without a word."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from refold import App, InvalidQuery, NotKept, Rejected, SubscriptionFailed, WaitTimeout, kept
from refold.runtime import mend, parking
from refold.runtime.books import PARKED, REQUESTS, SKIPPED, Parked, Request, Skipped
from refold.runtime.groups import Which
from refold.view.api import Put
from tests.conftest import Log
from tests.runtime.clicks import BROKEN, Broken, Busy, BusyPages, Clicked, Clicks, Failing, Tally, clicks

ON_POSTGRES = True


@pytest.fixture(autouse=True)
def broken() -> Iterator[Broken]:
    BROKEN.add("a")
    yield BROKEN
    BROKEN.clear()


async def test_a_failing_event_parks_its_key_and_no_other(log: Log, broken: Broken) -> None:
    async with clicks(log) as app:
        at = await app.record(Clicked("a"), Failing("a", 10), Clicked("b"), Clicked("a", 100), Failing("b"))
        await app.wait(at)
        assert await app.view(Clicks).find() == [Clicks("a", 1), Clicks("b", 2)]
        first, behind = await app.operations.parked()
        assert (first.position, first.type, first.keys, first.attempts) == (2, "Failing", ("page:a",), 1)
        assert "ValueError('a is broken')" in first.error
        assert 'raise ValueError(f"{self.page} is broken")' in first.traceback
        assert first.state == '{"page":"a","clicks":1}'
        assert (behind.position, behind.error, behind.retry_at) == (4, "", None)
        [standing] = await app.operations.standing()
        assert (standing.parked, standing.events_behind) == (1, 0)
        assert standing.oldest_parked_seconds >= 0
        broken.clear()
        assert await app.operations.retry() == []
        assert await app.view(Clicks).get("a") == Clicks("a", 111), "in order, those behind it as well"
        await app.settle()


async def test_what_is_parked_stays_so_when_the_app_opens_again(log: Log, broken: Broken) -> None:
    async with clicks(log) as app:
        await app.record(Failing("a"), Clicked("b"))
        await app.settle(parked=True)
    async with clicks(log) as app:
        at = await app.record(Clicked("a", 5), Clicked("b"))
        await app.wait(at)
        assert await app.view(Clicks).find() == [Clicks("b", 2)]
        assert [each.position for each in await app.operations.parked()] == [1, 3]
        with pytest.raises(SubscriptionFailed, match=r"has parked position 1 \(Failing\): .* In all, 1 have failed"):
            await app.settle()
        broken.clear()
        await app.operations.retry()
        assert await app.view(Clicks).get("a") == Clicks("a", 6)


async def test_it_is_tried_again_by_itself(log: Log, broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "RETRIES", (0.01, 0.01, 0.01))
    async with clicks(log) as app:
        await app.wait(await app.record(Failing("a"), Clicked("a")))
        while (await app.operations.parked())[0].attempts < 4:
            await asyncio.sleep(0.01)
        assert (await app.operations.parked())[0].retry_at is None, "now somebody has to ask"
        broken.clear()
        await asyncio.sleep(0.05)
        assert len(await app.operations.parked()) == 2
        await app.operations.retry()
        assert await app.view(Clicks).get("a") == Clicks("a", 2)
        monkeypatch.setattr(parking, "RETRIES", (0.01,) * 10_000)  # it is not given up before it is mended
        broken.add("a")
        await app.wait(await app.record(Failing("a")))
        broken.clear()
        while await app.operations.parked():
            await asyncio.sleep(0.01)
        assert await app.view(Clicks).get("a") == Clicks("a", 3)


async def test_a_retry_that_fails_leaves_all_in_order(log: Log) -> None:
    async with clicks(log) as app:
        await app.wait(await app.record(Failing("a"), Clicked("a")))
        left = await app.operations.retry()
        assert [(each.position, each.attempts) for each in left] == [(1, 2), (2, 0)]
        left = await app.operations.retry(left[1])
        assert [each.position for each in left] == [1, 2], "what waits behind another cannot go first"


async def test_skipping_needs_a_reason_which_is_kept(log: Log) -> None:
    async with clicks(log) as app:
        await app.wait(await app.record(Failing("a", 10), Clicked("a", 100), Failing("a")))
        [first, *_] = await app.operations.parked()
        with pytest.raises(InvalidQuery, match="say which"):
            await app.operations.skip(first, reason=" ")
        await app.operations.skip(first, reason="sent twice", actor="ann@shop")
        assert await app.view(Clicks).get("a") == Clicks("a", 100)
        [skipped] = await app.operations.skipped()
        assert (skipped.position, skipped.reason, skipped.actor) == (1, "sent twice", "ann@shop")
        assert datetime.now(UTC) - skipped.skipped_at < timedelta(minutes=1)
        assert [each.position for each in await app.operations.parked()] == [3]
        with pytest.raises(InvalidQuery, match="nothing is parked at position 1"):
            await app.operations.skip(first, reason="again")


async def test_another_process_asks_the_owner(log: Log, broken: Broken) -> None:
    async with clicks(log) as app, clicks(log).passive() as other:
        await app.wait(await app.record(Failing("a")))
        broken.clear()
        assert await other.operations.retry() == []
        assert await app.view(Clicks).get("a") == Clicks("a", 1)
        broken.add("a")
        await app.wait(await app.record(Failing("a")))
    async with clicks(log).passive() as other:
        with pytest.raises(InvalidQuery, match=r"nobody runs Clicks@\w+: start the app"):
            await other.operations.retry()


async def test_what_is_not_done_in_time_is_not_done_later_behind_the_back_of_who_asked(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mend, "MEND_SECONDS", 0.2)
    monkeypatch.setattr(parking, "RETRIES", ())
    busy, gate = asyncio.Event(), asyncio.Event()

    async def note(event: Clicked | Failing) -> None:
        if isinstance(event, Failing):
            raise Rejected("no such page")
        busy.set()
        await gate.wait()

    async with App(log, events=Clicked | Failing, effects=[note]) as app:
        await app.record(Failing("a"))
        await app.settle(parked=True)
        [parked] = await app.operations.parked()
        await app.record(Clicked("b"))
        await busy.wait()
        with pytest.raises(WaitTimeout, match=r"note has not done in 0.2 s all that it was asked"):
            await app.operations.skip(parked, reason="sent twice")
        assert await app._now.books[0].find(REQUESTS) == []
        gate.set()
        await app.settle(parked=True)
        assert await app.operations.parked() == [parked]
        assert await app.operations.skipped() == []
        [act] = await app.operations.audit()
        assert "has not done in 0.2 s" in act.error
        await app.operations.skip(parked, reason="sent twice")
        assert await app.operations.parked() == []


async def test_what_is_heard_again_is_kept_once(log: Log) -> None:
    async with clicks(log) as app:
        await app.wait(await app.record(Failing("a")))
        [parked] = await app.operations.parked()
        [each] = app._now.subscriptions()
        request = Request(parked.subscription, "retry", parked.position, parked.key)
        await asyncio.gather(each.ask([request]), each.ask([request]))
        assert len(each._requests) == 1


async def test_what_is_parked_of_a_version_that_nobody_builds_is_in_nobodys_way(log: Log, broken: Broken) -> None:
    async with clicks(log) as app:
        await app.wait(await app.record(Failing("a"), Failing("b")))
        [parked] = await app.operations.parked()
        left = await app._now.upkeeps["Clicks"].versions.rebuild(await app.head(), parts=1, hold=True)
        given_up = replace(parked, subscription=f"Clicks@{left.version}")
        await app._now.books[0].write(Put(PARKED, [given_up]))
        assert await app.operations.failing(Which(all=True)) == [parked]
        assert sorted(each.subscription for each in await app.operations.failing(Which(positions=(1,)))) == sorted(
            [parked.subscription, given_up.subscription]
        )
        broken.clear()
        assert await app.operations.retry() == [given_up], "and nothing is raised"
        [act] = await app.operations.audit()
        assert act.error == ""
        broken.add("a")
        await app.wait(await app.record(Failing("a")))
        [parked] = [each for each in await app.operations.parked() if each != given_up]
        with pytest.raises(InvalidQuery, match=f"nobody runs Clicks@{left.version}"):
            await app.operations.skip(parked, given_up, reason="sent twice")
        assert await app.operations.parked() == [given_up], "all that could be skipped is"
        act, *_ = await app.operations.audit()
        assert act.error.startswith(f"nobody runs Clicks@{left.version}")
        assert await app._now.books[0].find(REQUESTS) == []


async def test_too_many_stop_it_when_they_are_written(
    log: Log, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "MOST", 5)
    async with clicks(log) as app:
        at = await app.record(*[Failing("a")] * 6, Clicked("b"))
        await app.wait(at, Clicks)
        at = await app.record(Failing("a"))
        with pytest.raises(SubscriptionFailed, match=r"more than 5 events are parked.* 1 \(Failing\) by") as stop:
            await app.wait(at, Clicks)
        assert "a is broken" not in str(stop.value)
        parked = await app.operations.parked()
        assert [each.position for each in parked] == [1, 2, 3, 4, 5, 6]
        with pytest.raises(InvalidQuery, match="has stopped: see why, start the app again"):
            await app.operations.skip(*parked, reason="sent by mistake")
    broken.clear()
    async with clicks(log) as app:
        await app.operations.skip(*parked[:3], reason="sent by mistake")
        assert await app.operations.retry() == []
        await app.wait(await app.head())
        assert await app.view(Clicks).get("a") == Clicks("a", 4), "those that were retried, and the one behind"


async def test_those_who_wait_are_not_told_what_the_program_says(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may read a view may wait for it, and what an exception says may be what an event says."""

    async def tells(page: Any, parking: Any) -> int:
        raise KeyError("ann@example.org")

    async with clicks(log) as app, clicks(log).passive() as other:
        [subscription] = app._now.subscriptions()
        monkeypatch.setattr(subscription._worker, "handle", tells)
        at = await app.record(Clicked("a"))
        for each in (app, other):
            with pytest.raises((SubscriptionFailed, WaitTimeout)) as stopped:
                await each.wait(at, Clicks, timeout=5)
            assert "ann@example.org" not in str(stopped.value)
        assert "ann@example.org" in app.operations.stopped()[subscription.name]
        [standing] = await other.operations.standing()
        assert "ann@example.org" in standing.trouble


async def test_what_is_asked_is_heard_though_a_look_has_failed(
    log: Log, broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refold.runtime.running.LOOK_SECONDS", 0.01)
    async with clicks(log) as app, clicks(log).passive() as other:
        await app.wait(await app.record(Failing("a")))
        fails = asyncio.Event()

        async def look() -> None:
            fails.set()
            raise NotKept("for a moment")

        with monkeypatch.context() as patch:
            patch.setattr(app._now, "look", look)
            async with asyncio.timeout(30):
                await fails.wait()
        broken.clear()
        assert await other.operations.retry() == []


async def test_with_history_a_parked_key_goes_on_where_it_was(log: Log, broken: Broken) -> None:
    async with clicks(log, kept(Clicks, history=True)) as app:
        await app.wait(await app.record(Clicked("a"), Failing("a", 10), Clicked("b"), Clicked("a", 100)))
        broken.clear()
        await app.operations.retry()
        found = [await app.view(Clicks).get("a", as_of=position) for position in range(5)]
        assert found == [None, Clicks("a", 1), Clicks("a", 11), Clicks("a", 11), Clicks("a", 111)]


async def test_a_projection_with_tables_undoes_what_a_failing_event_has_done(log: Log, broken: Broken) -> None:
    async with clicks(log, BusyPages) as app:
        events: list[Any] = [Clicked("a", 3), Failing("a"), Clicked("b", 4), Clicked("a", 5)]
        await app.wait(await app.record(*events))
        assert await app.view(Busy).find() == [Busy("a", 3), Busy("b", 4)]
        assert await app.view(Tally).get("busy") == Tally("busy", 2)
        broken.clear()
        await app.operations.retry()
        assert await app.view(Busy).find() == [Busy("a", 9), Busy("b", 4)]


async def test_only_so_many_are_read_and_of_one_alone(log: Log) -> None:
    async with clicks(log) as app:
        now = datetime.now(UTC)
        names = ("Clicks@v1", "Clicks@v2#0/4", "Clicks2@v1", "Clicks", "Click@v1", "ClicksA", "mail")
        rows = [Parked(name, 9 - at, '["page:a"]', "Failing", now, now) for at, name in enumerate(names)]
        await app._now.books[0].write(Put(PARKED, rows))
        of = app.operations.parked
        assert [each.subscription for each in await of("Clicks")] == ["Clicks", "Clicks@v2#0/4", "Clicks@v1"]
        assert [each.subscription for each in await of("mail")] == ["mail"]
        assert [each.position for each in await of("Clicks", limit=2)] == [6, 8]
        assert [each.position for each in await of(limit=2)] == [3, 4]
        gone = [Skipped(name, at, "", "Failing", "", "", now + timedelta(seconds=at)) for at, name in enumerate(names)]
        await app._now.books[0].write(Put(SKIPPED, gone))
        assert [each.position for each in await app.operations.skipped(limit=2)] == [5, 6]


def test_what_cannot_be_written_of_an_error_is_left_out() -> None:
    now = datetime.now(UTC)
    row = Parked("s", 1, '["a:1"]', "E", now, now)
    failed = parking.failed(row, ValueError("\0 \ud800" + "x" * 50_000), object())
    assert "\0" not in failed.error
    assert len(failed.traceback) <= parking.TRACEBACK_CHARS
    failed.error.encode()
