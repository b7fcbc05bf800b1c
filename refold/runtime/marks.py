"""What has not come of events, or not yet: timers that wait, what has failed and is parked, and what was skipped."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from refold.errors import NotKept
from refold.runtime.books import PARKED, SKIPPED, TIMER, TIMERS, Books, Parked, Skipped, Timer
from refold.runtime.mend import named
from refold.runtime.waiting import OVERDUE_SECONDS
from refold.view.table import Table

Marking: TypeAlias = Literal["waiting", "failed", "skipped"]
AT_ONCE = 500


class Mark(Struct, frozen=True):
    """Something that has not come of an event."""

    position: int
    """Of the event."""
    kind: Marking
    who: str
    """The projection, process or effect."""
    at: datetime
    """When it failed or was skipped, or is due."""
    command: str = ""
    """Of a timer: the class of what it executes."""
    trouble: str = ""
    is_stuck: bool = False
    """Whether it will not go on by itself."""


async def marks_of(books: Iterable[Books], positions: Sequence[int], now: datetime, *, told: bool) -> list[Mark]:
    """Return what has not come of the events at some positions; `told` with why."""
    marks: list[Mark] = []
    for each in books:
        timers: list[Timer] = await _rows(each, TIMERS, positions)
        parked: list[Parked] = await _rows(each, PARKED, positions)
        skipped: list[Skipped] = await _rows(each, SKIPPED, positions)
        marks += [_waiting(timer, now) for timer in timers if not timer.parked]
        marks += await _failed_timers(each, [timer for timer in timers if timer.parked])
        # The positions of what comes in count messages, and those of parked timers say only behind what they stand.
        marks += [_failed(row) for row in parked if _is_of_event(row) and not row.timer]
        marks += [_skipped(row) for row in skipped if _is_of_event(row) and f'"{TIMER}' not in row.key]
    if not told:
        marks = [Mark(each.position, each.kind, each.who, each.at, each.command, "", each.is_stuck) for each in marks]
    return sorted(marks, key=lambda mark: (mark.position, mark.at, mark.who))


async def _rows(books: Books, table: Table, positions: Sequence[int]) -> list[Any]:
    rows: list[Any] = []
    try:
        for start in range(0, len(positions), AT_ONCE):
            rows += await books.find(table, {"position__in": positions[start : start + AT_ONCE]})
    except NotKept:  # nothing has run yet
        return []
    return rows


async def _failed_timers(books: Books, timers: Sequence[Timer]) -> list[Mark]:
    if not timers:
        return []
    rows: list[Parked] = await books.find(PARKED, {"subscription__in": sorted({timer.process for timer in timers})})
    why = {(row.subscription, row.timer): row for row in rows if row.timer}
    marks: list[Mark] = []
    for timer in timers:
        row = why.get((timer.process, timer.name))
        at, trouble = (row.parked_at, _why(row)) if row else (timer.due, "it is parked")
        marks.append(Mark(timer.position, "failed", timer.process, at, timer.command, trouble, is_stuck=True))
    return marks


def _waiting(timer: Timer, now: datetime) -> Mark:
    overdue = (now - timer.due).total_seconds() > OVERDUE_SECONDS
    trouble = "it is overdue: is the process running?" if overdue else ""
    return Mark(timer.position, "waiting", timer.process, timer.due, timer.command, trouble, is_stuck=overdue)


def _failed(row: Parked) -> Mark:
    return Mark(row.position, "failed", named(row.subscription), row.parked_at, "", _why(row), is_stuck=True)


def _why(row: Parked) -> str:
    return row.error or "it waits behind another one that has failed"


def _skipped(row: Skipped) -> Mark:
    who = f" by {row.actor}" if row.actor else ""
    return Mark(row.position, "skipped", named(row.subscription), row.skipped_at, "", f"{row.reason} (skipped{who})")


def _is_of_event(row: Parked | Skipped) -> bool:
    return not row.subscription.startswith("inbox.")
