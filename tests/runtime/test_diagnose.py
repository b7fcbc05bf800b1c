"""What is wrong is said with its cause, and with a command that exists."""

import re
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import click
import pytest

from refold import App, Command, Event, Later, Rejected, SubscriptionFailed, Tag, later
from refold.cli.main import main
from refold.runtime import parking
from refold.runtime.books import Books, Checkpoint
from refold.runtime.diagnose import RULES, Diagnosis, Seen, diagnose, judged
from refold.runtime.standing import Standing
from refold.testing import Clock
from tests.conftest import Log
from tests.runtime.clicks import BROKEN, Clicked, Doubled, Failing, clicks

OrderId: TypeAlias = Annotated[str, Tag("order")]


class Placed(Event):
    order_id: OrderId


class Released(Event):
    order_id: OrderId


class SoldOut(Rejected):
    """There is none left."""


class Release(Command):
    order_id: OrderId


def release(command: Release) -> Released:
    return Released(command.order_id)


def refuse(command: Release) -> Released:
    raise SoldOut("the till is closed")


def unpaid(event: Placed) -> Later:
    return later(Release(event.order_id), after=timedelta(minutes=15))


@pytest.fixture(autouse=True)
def broken() -> Iterator[None]:
    yield
    BROKEN.clear()


def told(found: list[Diagnosis]) -> list[tuple[str, str, str, str]]:
    return [(each.id, each.severity, each.about, each.command) for each in found]


async def test_of_an_app_that_is_well_nothing_is_said(log: Log) -> None:
    async with clicks(log) as app:
        await app.record(Clicked("a"))
        await app.settle()
        assert await diagnose(app.operations) == []


async def test_of_an_app_that_keeps_nothing_nothing_is_said(log: Log) -> None:
    async with App(log, events=Clicked) as app:
        await app.record(Clicked("a"))
        assert await diagnose(app.operations) == []


async def test_what_nobody_runs_is_named_with_how_to_run_it(log: Log) -> None:
    yesterday = Clock(datetime.now(UTC) - timedelta(days=1))
    if isinstance(log, str):
        async with clicks(log, clock=yesterday) as app:
            await app.settle()
        async with clicks(log, clock=yesterday).passive() as app:
            await app.record(Clicked("a"), Clicked("b"))
            [found] = await diagnose(app.operations, "shop.main:app")
        assert told([found]) == [("NOT_RUN", "critical", "Clicks", "refold run shop.main:app")]
        assert found.title == "Nobody runs Clicks"
        assert found.cause == "no process owns it; it is 2 positions and 24 h behind"


async def test_parked_events_are_counted(log: Log) -> None:
    BROKEN.add("a")
    async with clicks(log) as app:
        await app.record(Failing("a"), Failing("a"), Clicked("b"))
        await app.settle(parked=True)
        [found] = await diagnose(app.operations)
        assert told([found]) == [("PARKED", "warning", "Clicks", "refold parked list module:app --of Clicks")]
        assert found.cause.startswith("1 of its events failed, the first 0 s ago")


async def test_what_has_stopped_is_said_first(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "MOST", 1)
    BROKEN.add("a")
    async with clicks(log) as app:
        await app.record(Failing("a"), Failing("a"))
        with pytest.raises(SubscriptionFailed):
            await app.wait(await app.head() + 1)
        found = await diagnose(app.operations)
        assert [each.id for each in found] == ["STOPPED", "PARKED"]
        assert "more than 1 events are parked" in found[0].cause


async def test_a_timer_that_nobody_executes_is_overdue(tmp_path: Path) -> None:
    clock = Clock()
    wired: dict[str, Any] = {"events": Placed | Released, "decisions": [release], "processes": [unpaid]}
    app = App(f"sqlite:///{tmp_path}/log.db", **wired, clock=clock)
    async with app:
        await app.record(Placed("o-1"))
        await app.settle()
    clock.advance(timedelta(minutes=17))
    async with app.passive() as passive:
        [found] = await diagnose(passive.operations, "shop:app")
    assert told([found]) == [("OVERDUE", "warning", "unpaid", "refold process list shop:app unpaid --stuck")]
    assert found.cause == "1 of its 1 timers should have been executed by now"


def paid_late(event: Placed) -> Later:
    return later(Release(event.order_id), after=timedelta(minutes=15))


async def test_what_a_process_has_left_that_was_renamed_is_told(log: Log) -> None:
    def fails(event: Placed) -> None:
        raise ValueError("no")

    wired: dict[str, Any] = {"events": Placed | Released, "decisions": [release]}
    before, after = App(log, **wired, processes=[unpaid, fails]), App(log, **wired, processes=[paid_late])
    async with before:
        await before.record(Placed("o-1"), Placed("o-2"))
        await before.settle(parked=True)
        async with after.passive() as passive:
            assert await passive.operations.orphaned() == [], "another program runs it"
    async with after:
        await after.settle(parked=True)
        found = await diagnose(after.operations, "shop:app")
        assert told(found) == [
            ("ORPHANED", "warning", "fails", "refold check shop:app"),
            ("ORPHANED", "warning", "unpaid", "refold check shop:app"),
        ]
        assert found[0].cause.startswith("2 parked events of it are left, and nobody comes to them")
        assert found[1].cause.startswith("2 timers of it are left, and nobody comes to them")
        assert found[1].title == "unpaid is not part of the app any more"


async def test_timers_are_counted_as_they_are_listed(tmp_path: Path) -> None:
    clock = Clock()
    wired: dict[str, Any] = {"events": Placed | Released, "decisions": [refuse], "processes": [unpaid]}
    async with App(f"sqlite:///{tmp_path}/log.db", **wired, clock=clock) as app:
        await app.record(Placed("o-1"))
        await app.settle()
        clock.advance(timedelta(minutes=15))
        await app.settle(parked=True)
        await app.record(Placed("o-2"))
        await app.settle(parked=True)
        listed = [each for each in await app.operations.waiting() if not each.event]
        [counted] = await app.operations.pending()
        assert (counted.process, counted.timers, counted.stuck) == ("unpaid", 2, 1)
        assert (len(listed), sum(each.is_stuck for each in listed)) == (2, 1)
        assert "the till is closed" in counted.error


async def test_events_that_come_while_it_is_looked_are_no_older_copy(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    look = Books.checkpoints

    async def meanwhile(books: Books, names: Sequence[str]) -> dict[str, Checkpoint]:
        await app.wait(await app.record(Clicked("a")))
        return await look(books, names)

    async with clicks(log) as app:
        monkeypatch.setattr(Books, "checkpoints", meanwhile)
        [standing] = await app.operations.standing()
        assert (standing.position, standing.head) == (1, 1)
        assert await diagnose(app.operations) == []


async def test_a_version_that_is_held_says_how_it_differs(log: Log) -> None:
    async with clicks(log) as app:
        await app.record(Clicked("a"), Clicked("b"))
        await app.settle()
        async with clicks(log, Doubled).passive() as new:
            await new.operations.rebuild("Clicks", hold=True)
            found = await diagnose(new.operations, "shop:app")
        assert told(found) == [("HELD", "info", "Clicks", "refold projection compare shop:app Clicks")]
        assert "2 rows differ from those that are read" in found[0].cause


async def test_a_log_that_cannot_be_read_is_a_finding_too(tmp_path: Path) -> None:
    async with clicks(f"sqlite:///{tmp_path}/log.db") as app:
        await app.log.close()
        found = await diagnose(app.operations)
        assert "LOG_UNREADABLE" in [each.id for each in found]
        assert found[0].severity == "critical"


def standing(**more: Any) -> Standing:
    given: dict[str, Any] = {"position": 10, "head": 10, "events_behind": 0, "seconds_behind": 0.0, "owner": "here:1"}
    given |= {"parked": 0, "oldest_parked_seconds": 0.0, "status": "active"} | more
    return Standing(name="Sales", kind="projection", version="v1", **given)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"owner": "", "seconds_behind": 4.0}, None),
        ({"owner": "", "seconds_behind": 6.0}, "NOT_RUN"),
        ({"seconds_behind": 59.0}, None),
        ({"seconds_behind": 61.0}, "BEHIND"),
        ({"seconds_behind": 61.0, "trouble": "no progress for 61 s, after position 3"}, "STALLED"),
        ({"owner": "", "trouble": "it divides by zero"}, "STOPPED"),
        ({"position": 11}, "AHEAD_OF_LOG"),
        ({"status": "building", "owner": "", "events_behind": 3}, "NOT_BUILT"),
        ({"status": "kept", "owner": "", "seconds_behind": 999.0}, None),
    ],
)
def test_each_rule_at_its_edge(more: dict[str, Any], expected: str | None) -> None:
    assert [each.id for each in judged(Seen((standing(**more),)))] == ([expected] if expected else [])


def test_every_command_is_one_that_there_is() -> None:
    for rule in RULES:
        words = shlex.split(rule.command.format(app="shop.main:app", more="Sales"))
        assert words.pop(0) == "refold"
        command: click.Command = main
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words)  # raises if there is no such option or argument


def test_codes_are_unique_and_written_down() -> None:
    codes = [rule.id for rule in RULES]
    assert len(set(codes)) == len(codes)
    page = (Path(__file__).parents[2] / "docs/observability.md").read_text()
    assert re.findall(r"^\| `([A-Z_]+)` \| (\w+) \|", page, re.MULTILINE) == [
        (each.id, each.severity) for each in RULES
    ]


def test_the_order_is_by_severity() -> None:
    found = judged(Seen((standing(parked=1), standing(position=11))))
    assert [each.severity for each in found] == ["critical", "warning"]
