"""What processes wait for: timers that are not due yet, and what has failed and holds up its key."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from refold.model.message import Command
from refold.runtime.books import CHECKPOINTS, PARKED, SKIPPED, TIMERS, Books, Checkpoint, Parked, Skipped, Timer
from refold.runtime.owner import shown
from refold.runtime.react import Process
from refold.view.api import Delete, Put

LAST = datetime.max.replace(tzinfo=UTC)
OVERDUE_SECONDS = 60.0
"""How long a timer may be due until it is said to be stuck."""


class Waiting(Struct, frozen=True):
    """Something that a process has still to do."""

    process: str
    key: str
    """What it is about: the first tag of the event."""
    position: int
    """Of the event that led to it."""
    since: datetime
    event: str = ""
    """The type of the event that failed, or waits behind what has; empty for a timer."""
    name: str = ""
    """What the process calls the timer, or the timer's id."""
    command: Command | str | None = None
    """What the timer executes; its name alone if no decision takes it any more."""
    due: datetime | None = None
    """When; None for what is tried again only if somebody asks."""
    error: str = ""
    attempts: int = 0
    is_stuck: bool = False
    """Whether it will not be done by itself in time: it has failed, waits behind what has, or is overdue."""


class Left(Struct, frozen=True):
    """How much processes have still to do."""

    count: int
    stuck: int
    timers: int


class Pending(Struct, frozen=True):
    """How many timers a process has."""

    process: str
    timers: int
    stuck: int = 0
    """How many of them have failed or are overdue."""
    error: str = ""
    """Why one of them has failed."""


async def pending(books: Books, processes: Iterable[str], now: datetime) -> list[Pending]:
    """Count the timers of some processes, of those that have any; however many there are, none is read."""
    found: list[Pending] = []
    for name in processes:
        if not (count := await books.count(TIMERS, {"process": name})):
            continue
        failed = await books.count(TIMERS, {"process": name, "parked": True})
        late = {"process": name, "parked": False, "due__lt": now - timedelta(seconds=OVERDUE_SECONDS)}
        stuck = failed + await books.count(TIMERS, late)
        found.append(Pending(name, count, stuck, await _why(books, name) if failed else ""))
    return found


class Orphaned(Struct, frozen=True):
    """What somebody has left behind who is not part of the app any more."""

    name: str
    timers: int
    parked: int


async def orphaned(books: Books, known: Collection[str]) -> list[Orphaned]:
    """Return who else has run on this log, is run by nobody, and has timers, or events parked."""
    found: list[Orphaned] = []
    checkpoints: list[Checkpoint] = await books.find(CHECKPOINTS)
    for name in (each.subscription for each in checkpoints if not shown(each.owner)):
        if name in known or "@" in name:  # a version of a projection, which has rows, and can be dropped
            continue
        timers = await books.count(TIMERS, {"process": name})
        parked = await books.count(PARKED, {"subscription": name})
        parked -= await books.count(TIMERS, {"process": name, "parked": True})  # which are parked among the events
        if timers or parked:
            found.append(Orphaned(name, timers, parked))
    return found


async def _why(books: Books, process: str) -> str:
    """Return why a timer of a process has failed."""
    for timer in await books.find(TIMERS, {"process": process, "parked": True}, 1):
        rows: list[Parked] = await books.find(PARKED, {"subscription": process, "position": timer.position})
        return next((row.error for row in rows if row.timer == timer.name), "")
    return ""


async def left(books: Books, processes: Iterable[str], now: datetime) -> Left:
    """Count what some processes have still to do; however much that is, nothing of it is read."""
    counted = await pending(books, processes, now)
    names = list(processes)
    parked = await books.count(PARKED, {"subscription__in": names})
    failed = await books.count(TIMERS, {"process__in": names, "parked": True})  # which are parked, too
    timers, stuck = sum(each.timers for each in counted), sum(each.stuck for each in counted)
    return Left(timers + parked - failed, stuck + parked - failed, timers)


async def waiting(
    books: Books, processes: dict[str, Process], now: datetime, *, limit: int | None = None
) -> list[Waiting]:
    """Return what some processes wait for, by process and key; or the first so many, what is stuck before what is due.

    With a limit no more of it is read.
    """
    names = list(processes)
    rows: list[Parked] = await books.find(PARKED, {"subscription__in": names}, limit)
    timers: dict[tuple[str, str], Timer] = {}
    if limit is None:
        timers = {(row.process, row.name): row for row in await books.find(TIMERS, {"process__in": names})}
    else:
        timers |= await books.views.get(TIMERS, [(row.subscription, row.timer) for row in rows if row.timer])
        for name in names:
            due: list[Timer] = await books.find(TIMERS, {"process": name, "parked": False}, limit, order="due")
            timers |= {(row.process, row.name): row for row in due}
    found: list[Waiting] = []
    for row in rows:
        timer = timers.pop((row.subscription, row.timer), None) if row.timer else None
        found.append(
            Waiting(
                row.subscription,
                row.keys[0] if row.keys and not (row.timer and len(row.keys) == 1) else "",
                timer.position if timer else row.position,
                row.parked_at,
                event="" if row.timer else row.type,
                name=row.timer,
                command=processes[row.subscription].timers.command_of(timer) if timer else None,
                due=row.retry_at,
                error=row.error,
                attempts=row.attempts,
                is_stuck=True,
            )
        )
    found += [
        Waiting(
            timer.process,
            timer.key,
            timer.position,
            timer.set_at,
            name=timer.name,
            command=processes[timer.process].timers.command_of(timer),
            due=timer.due,
            is_stuck=(now - timer.due).total_seconds() > OVERDUE_SECONDS,
        )
        for timer in timers.values()
    ]
    if limit is None:
        return sorted(found, key=lambda each: (each.process, each.key, each.position, each.since))
    return sorted(found, key=lambda each: (not each.is_stuck, each.due or LAST, each.position))[:limit]


async def cancelled(books: Books, process: str, key: str, reason: str, actor: str) -> int:
    """Cancel the timers of a key that are not parked, and keep why; return how many."""
    timers: list[Timer] = await books.find(TIMERS, {"process": process, "key": key, "parked": False})
    gone = [
        Skipped(process, each.position, each.name, each.command, reason, actor, datetime.now(UTC)) for each in timers
    ]
    if gone:
        await books.write(Delete(TIMERS, [TIMERS.key_of(each) for each in timers]), Put(SKIPPED, gone))
    return len(gone)
