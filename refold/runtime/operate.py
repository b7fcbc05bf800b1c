"""What operators see and do: how far everything is, what is parked, and which version of a projection is read."""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from refold.bus.api import Message
from refold.errors import InvalidQuery
from refold.model.query import Query
from refold.model.record import StoredEvent
from refold.model.schema import Schema
from refold.model.state import State
from refold.runtime.books import (
    MESSAGES,
    PARKED,
    Action,
    Books,
    Checkpoint,
    Comparison,
    Kept,
    Parked,
    Skipped,
    Status,
    Version,
)
from refold.runtime.effect import Effect
from refold.runtime.moving import Difference, Moving
from refold.runtime.outbox import NAME as OUTBOX
from refold.runtime.owner import Owner, shown
from refold.runtime.react import Kind, Process
from refold.runtime.rebuild import Progress, Rebuild, Recipe
from refold.runtime.running import Running
from refold.runtime.upkeep import Upkeep, comparison_of
from refold.runtime.waiting import Waiting, cancelled, waiting

logger = logging.getLogger("refold.app")

STALLED_SECONDS = 60.0
"""How long a subscription that is behind may stand still until that is worth saying."""
NOBODY = "nobody runs it"
"""Begins the trouble of what has no owner."""


class Standing(Struct, frozen=True):
    """How a projection, in one of its versions, or a process stands."""

    name: str
    kind: Literal["projection", "outbox", "inbox"] | Kind
    version: str
    """Empty for what is no projection."""
    status: Status
    position: int
    head: int
    events_behind: int
    """Positions between its own and the head; not all of them need be events that it handles."""
    seconds_behind: float
    """How long ago the first event was recorded that it has not handled; 0 if it has handled all."""
    owner: str
    """Host and process that run it; empty if nobody does."""
    parked: int
    """How many events have failed and wait; those that wait behind them are not counted."""
    oldest_parked_seconds: float
    rate: float = 0.0
    """While it is built: positions a second, since it was begun."""
    seconds_left: float | None = None
    trouble: str = ""
    comparison: Comparison | None = None


class Operations:
    """The operator's side of an open app; see `App.operations`."""

    def __init__(self, running: Running, schema: Schema, recipe: Callable[[str], Recipe | None]) -> None:
        self._running = running
        self._moving = Moving(running.rows, schema, running.store)
        self._recipe = recipe

    async def standing(self) -> list[Standing]:
        """Return how every projection, in each of its versions, and every process stands."""
        head = await self._running.store.head()
        kept = [
            await self._standing(upkeep, version, head)
            for upkeep in self._running.upkeeps.values()
            for version in await upkeep.versions.all()
        ]
        outbox = [await self._of_process(OUTBOX, head)] if self._running.outbox else []
        processes = [await self._of_process(name, head) for name in self._running.processes]
        return [*kept, *processes, *outbox, *[await self._of_inbox(name) for name in self._running.entrances]]

    def stopped(self) -> dict[str, str]:
        """Return what this process runs, and has stopped for good, each with why."""
        running = self._running
        every = [*running.subscriptions(), *running.inlets.values()]
        return {each.name: str(each.failure) for each in every if each.failure is not None}

    async def parked(self, name: str | None = None) -> list[Parked]:
        """Return what is parked, of one projection or process or all, in the order of positions."""
        return await self._running.parked(name)

    async def retry(self, *parked: Parked, actor: str = "") -> list[Parked]:
        """Try parked events again, all of them if none is named; return those that still wait."""
        wanted = parked or tuple(each for each in await self.parked() if each.error)
        for each in wanted:
            await self._mend(each, "retry", "", actor)
        return await self.parked()

    async def skip(self, parked: Parked, *, reason: str, actor: str = "") -> None:
        """Leave a parked event out for good; who, when and why is kept."""
        if not reason.strip():
            raise InvalidQuery("an event is skipped for a reason: say which")
        await self._mend(parked, "skip", reason, actor)

    async def waiting(self, process: str | None = None) -> list[Waiting]:
        """Return what a process, or all of them, have still to do: timers, and what is parked."""
        if process is not None and process not in self._running.processes:
            names = ", ".join(self._running.processes) or "none"
            raise InvalidQuery(f"there is no process {process!r}; there is {names}")
        processes = self._running.processes
        wanted = processes if process is None else {process: processes[process]}
        return await waiting(self._running.books[0], wanted, self._running.clock()) if wanted else []

    async def give_up(self, process: str, key: str, *, reason: str, actor: str = "") -> int:
        """Leave out all that a process has still to do for a key: what is parked, and timers; return how much."""
        if not reason.strip():
            raise InvalidQuery("a process gives up for a reason: say which")
        await self.waiting(process)
        parked = [each for each in await self.parked(process) if key in each.keys[:1]]
        # From the last on: what fails first is what the others wait behind.
        for each in reversed(parked):
            await self._mend(each, "skip", reason, actor)
        return len(parked) + await cancelled(self._running.books[0], process, key, reason, actor)

    async def events(self, *, after: int = 0, upto: int | None = None) -> AsyncIterator[StoredEvent]:
        """Go through events as they are stored, whether this program can read them or not."""
        async for page in self._running.store.read(after=after, upto=upto):
            for stored in page:
                yield stored

    async def repeat(self, effect: str, *, after: int, upto: int, reason: str) -> int:
        """Do an effect again for the events above `after` and up to `upto`, under new keys; return for how many.

        It is done here and now, one event after the other; raises at the first that fails.
        """
        found = self._running.processes.get(effect)
        if not isinstance(found, Effect):
            names = ", ".join(name for name, each in self._running.processes.items() if isinstance(each, Effect))
            raise InvalidQuery(f"there is no effect {effect!r}; there is {names or 'none'}")
        if not reason.strip():
            raise InvalidQuery("an effect is repeated for a reason: say which")
        logger.warning("%s is repeated for positions %s to %s: %s", effect, after + 1, upto, reason)
        count = 0
        async for page in self._running.store.read(found.query, after=after, upto=upto):
            for stored in page:
                await found.repeat(stored, reason)
                count += 1
        return count

    async def republish(self, *, after: int, upto: int, reason: str) -> int:
        """Publish again the events above `after` and up to `upto`, under the ids that they had; return how many.

        For when a broker, or the database of who receives, has lost some: who has them passes them over. It is done
        here and now, in the order of the log, beside what the outbox publishes; raises at the first that fails.
        """
        outbox = self._running.outbox
        if outbox is None:
            raise InvalidQuery("this app has no outbox")
        if not reason.strip():
            raise InvalidQuery("events are published again for a reason: say which")
        logger.warning("positions %s to %s are published again: %s", after + 1, upto, reason)
        count = 0
        async for page in self._running.store.read(outbox.query, after=after, upto=upto):
            await outbox.repeat(page)
            count += len(page)
        return count

    async def message(self, parked: Parked) -> Message:
        """Return what came in, byte for byte, of something that an inbox has parked."""
        context = parked.subscription.partition(".")[2]
        found: list[Kept] = await self._running.books[0].find(MESSAGES, {"context": context, "number": parked.position})
        if not found:
            raise InvalidQuery(f"{parked.subscription} has no message {parked.position} parked")
        return Message(found[0].id, found[0].key, found[0].body, found[0].headers)

    async def differences(self, state: str, *, limit: int = 1000) -> list[Difference]:
        """Return rows of a state that are not what its events add up to, up to so many, those without events too.

        If there are none, the state can be kept as events, and is the same: see `leave_rows`.
        """
        found: list[Difference] = []
        async for each in self._moving.differences(state):
            found.append(each)
            if len(found) == limit:
                break
        return found

    async def fill_rows(self, state: str) -> int:
        """Make rows of the events of a state that is to be kept as rows from now on, where there are none.

        Returns how many were made. Nothing else may write meanwhile, so it is for `app.passive()`.
        """
        return await self._moving.fill(state)

    async def leave_rows(self, state: str) -> None:
        """Keep a state as events from now on, its rows being what these add up to; else raise `InvalidQuery`.

        Whatever runs with it in `rows` must be stopped before: it would go on. Then apps open that have it not.
        """
        await self._moving.leave(state)

    async def import_rows(self, states: Iterable[State]) -> int:
        """Put states that were kept elsewhere as rows, without events; return for how many there was no row yet."""
        return await self._moving.import_rows(states)

    async def skipped(self) -> list[Skipped]:
        """Return what was skipped, when, by whom and why."""
        return await self._running.skipped()

    async def versions(self, projection: str) -> list[Version]:
        """Return the versions of a projection."""
        return await self._upkeep(projection).versions.all()

    async def rebuild(
        self,
        projection: str,
        *,
        workers: int = 1,
        hold: bool = False,
        tell: Callable[[Progress], None] = lambda _: None,
    ) -> Version:
        """Build a projection anew beside the version that is read, compare them, and switch; return the new version.

        With more than one worker its keys are shared among processes. With `hold` it is not switched to, until
        `switch` is called. One that was interrupted goes on where it was. `tell` is called with the progress.
        """
        if workers < 1:
            raise InvalidQuery(f"{workers} workers: at least one is needed")
        upkeep, owner = self._upkeep(projection), Owner()
        rebuild = Rebuild(upkeep.definition, upkeep.versions, self._running.store, owner)
        try:
            async with upkeep.aside():
                return await rebuild.run(workers, self._recipe(projection), hold=hold, tell=tell)
        finally:
            owner.close()

    async def compare(self, projection: str, version: str | None = None) -> Comparison:
        """Compare a version, the newest that is not read if none is named, with the one that is read."""
        upkeep = self._upkeep(projection)
        active = await upkeep.versions.active()
        if active is None:
            raise InvalidQuery(f"no version of {projection} is read yet")
        other = _named(await upkeep.versions.all(), version, not_active=True)
        old, new = (active, other) if other.status == "building" else (other, active)
        return await comparison_of(upkeep.versions, self._running.store, old, new)

    async def switch(self, projection: str, version: str | None = None) -> Version:
        """Let a version be the one that is read, the newest if none is named; return it."""
        upkeep = self._upkeep(projection)
        wanted = _named(await upkeep.versions.all(), version, not_active=True)
        if not await upkeep.versions.switch(wanted, pinned=True):
            raise InvalidQuery(f"{projection} was changed by somebody else at the same time; look, and try again")
        return wanted

    async def rollback(self, projection: str) -> Version:
        """Let the version that was read before be read again, at once; return it."""
        return await self._upkeep(projection).versions.rollback()

    async def drop(self, projection: str, version: str) -> None:
        """Remove a version that is not read."""
        upkeep = self._upkeep(projection)
        await upkeep.versions.drop(_named(await upkeep.versions.all(), version, not_active=False))

    async def _mend(self, parked: Parked, action: Action, reason: str, actor: str) -> None:
        await self._running.mend(parked, action, reason, actor)

    def _upkeep(self, projection: str) -> Upkeep:
        found = self._running.upkeeps.get(projection)
        if found is None:
            names = ", ".join(self._running.upkeeps) or "none"
            raise InvalidQuery(f"there is no projection {projection!r}; there is {names}")
        return found

    async def _standing(self, upkeep: Upkeep, version: Version, head: int) -> Standing:
        books, names = upkeep.versions.books, version.subscriptions()
        found = await books.checkpoints(names)
        checkpoints = [found.get(name) or Checkpoint(name) for name in names]
        live = [upkeep.subscriptions[name].position for name in names if name in upkeep.subscriptions]
        position = min(live if len(live) == len(names) else [each.position for each in checkpoints])
        started = version.started_at or datetime.now(UTC)
        rate = position / max((datetime.now(UTC) - started).total_seconds(), 0.001)
        building = version.status == "building"
        count, oldest = await _parked(books, names)
        behind = await self._seconds_behind(upkeep.definition.query, position, head)
        return Standing(
            name=version.projection,
            kind="projection",
            version=version.version,
            status=version.status,
            position=position,
            head=head,
            events_behind=max(head - position, 0),
            seconds_behind=behind,
            owner=", ".join(dict.fromkeys(shown(each.owner) for each in checkpoints if each.owner)),
            parked=count,
            oldest_parked_seconds=oldest,
            rate=rate if building else 0.0,
            seconds_left=max(head - position, 0) / rate if building and rate else None,
            trouble=_trouble(checkpoints, behind),
            comparison=version.comparison,
        )

    async def _of_process(self, name: str, head: int) -> Standing:
        books, reaction = self._running.books[0], self._running.reactions.get(name)
        checkpoint = await books.checkpoint(name) or Checkpoint(name)
        position = max(reaction.position if reaction else 0, checkpoint.position)
        count, oldest = await _parked(books, [name])
        process = self._running.processes.get(name) or self._running.outbox
        assert process is not None
        behind = await self._seconds_behind(process.query, position, head)
        return Standing(
            name=name,
            kind=process.kind if isinstance(process, Process) else "outbox",
            version="",
            status="active",
            position=position,
            head=head,
            events_behind=max(head - position, 0),
            seconds_behind=behind,
            owner=shown(checkpoint.owner),
            parked=count,
            oldest_parked_seconds=oldest,
            trouble=_trouble([checkpoint], behind),
        )

    async def _of_inbox(self, name: str) -> Standing:
        """Tell how what enters stands; its position counts messages, and only the broker knows how many are to come."""
        books = self._running.books[0]
        checkpoint = await books.checkpoint(name) or Checkpoint(name)
        count, oldest = await _parked(books, [name])
        return Standing(
            name=name,
            kind="inbox",
            version="",
            status="active",
            position=checkpoint.position,
            head=checkpoint.position,
            events_behind=0,
            seconds_behind=0.0,
            owner=shown(checkpoint.owner),
            parked=count,
            oldest_parked_seconds=oldest,
            trouble=checkpoint.trouble,
        )

    async def _seconds_behind(self, query: Query, position: int, head: int) -> float:
        """Return the age of the first event that was not handled."""
        if position >= head:
            return 0.0
        async for page in self._running.store.read(query, after=position, limit=1):
            for stored in page:
                return max((datetime.now(UTC) - stored.recorded_at).total_seconds(), 0.0)
        return 0.0


async def _parked(books: Books, subscriptions: Sequence[str]) -> tuple[int, float]:
    """Return how many events have failed and wait, and for how many seconds the oldest of them has."""
    rows: list[Parked] = await books.find(PARKED, {"subscription__in": list(subscriptions), "error__ne": ""})
    if not rows:
        return 0, 0.0
    return len(rows), (datetime.now(UTC) - min(row.parked_at for row in rows)).total_seconds()


def _trouble(checkpoints: Sequence[Checkpoint], seconds_behind: float) -> str:
    for each in checkpoints:
        if each.trouble:
            return each.trouble
        if seconds_behind > STALLED_SECONDS and not shown(each.owner):
            return f"{NOBODY}: start the app, or `refold run`; it stands at position {each.position}"
        stands = (datetime.now(UTC) - each.moved_at).total_seconds() if each.moved_at else 0.0
        if seconds_behind > STALLED_SECONDS and stands > STALLED_SECONDS:
            return f"no progress for {stands:.0f} s, after position {each.position}"
    return ""


def _named(versions: Sequence[Version], version: str | None, *, not_active: bool) -> Version:
    wanted = [row for row in versions if not (not_active and row.status == "active")]
    if version is not None:
        wanted = [row for row in versions if row.version == version]
    if not wanted:
        there = ", ".join(f"{row.version} ({row.status})" for row in versions) or "none"
        raise InvalidQuery(f"there is no such version{f' {version}' if version else ''}; there is {there}")
    return max(wanted, key=lambda row: row.started_at or datetime.min.replace(tzinfo=UTC))
