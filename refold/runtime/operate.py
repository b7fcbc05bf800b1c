"""What operators see and do: how far everything is, what is parked, and which version of a projection is read.

What changes anything is recorded in the log before it is done; see `refold.runtime.audit`.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from refold.bus.api import Message
from refold.errors import InvalidQuery, RefoldError
from refold.model.operated import OperatorActed
from refold.model.record import StoredEvent
from refold.model.schema import Schema
from refold.model.state import State
from refold.runtime.audit import Act, Acting, Audit
from refold.runtime.books import MESSAGES, Action, Comparison, Kept, Parked, Skipped, Version
from refold.runtime.compare import comparison_of
from refold.runtime.effect import Effect
from refold.runtime.groups import Which
from refold.runtime.mend import named
from refold.runtime.moving import Difference, Moving
from refold.runtime.outbox import NAME as OUTBOX
from refold.runtime.owner import Owner
from refold.runtime.react import Process
from refold.runtime.rebuild import Progress, Rebuild, Recipe
from refold.runtime.running import Running
from refold.runtime.standing import Standing, Standings
from refold.runtime.upkeep import Upkeep
from refold.runtime.versions import changed_meanwhile
from refold.runtime.waiting import Left, Orphaned, Pending, Waiting, cancelled, left, orphaned, pending, waiting

logger = logging.getLogger("refold.app")
MOST_WORKERS = 64
"""How many processes may build a projection."""


class Operations:
    """The operator's side of an open app; see `App.operations`."""

    def __init__(self, running: Running, schema: Schema, recipe: Callable[[str], Recipe | None]) -> None:
        self._running = running
        self._moving = Moving(running.rows, schema, running.store)
        self._recipe = recipe
        self._audit = Audit(running.store, schema)

    async def standing(self) -> list[Standing]:
        """Return how every projection, in each of its versions, and every process stands."""
        return await Standings(self._running).all()

    def stopped(self) -> dict[str, str]:
        """Return what this process runs, and has stopped for good, each with why."""
        running = self._running
        every = [*running.subscriptions(), *running.inlets.values()]
        return {each.name: each.why for each in every if each.failure is not None}

    async def parked(self, name: str | None = None, *, limit: int | None = None) -> list[Parked]:
        """Return what is parked, of one projection or process or all, the first so many in the order of positions."""
        return await self._running.mending.parked(name, limit)

    async def failing(self, which: Which) -> list[Parked]:
        """Return the parked events that are meant, in the order of positions.

        Those of a version of a projection that is not read, and that nobody keeps up any more, are meant by position
        alone.
        """
        which.check()
        found = which.among(await self.parked(which.of))
        return found if which.positions else await self._running.mending.living(found)

    async def audit(
        self, *, about: str = "", actor: str = "", before: int | None = None, limit: int | None = None
    ) -> list[Act]:
        """Return what operators did, the newest first: about one projection, process or state; by one of them."""
        return await self._audit.acts(about=about, actor=actor, before=before, limit=limit)

    async def retry(self, *parked: Parked, actor: str = "") -> list[Parked]:
        """Try parked events again, all of them if none is named; return those that still wait.

        What nobody could do is in the record, and raised if it is all of it.
        """
        wanted = parked or await self.failing(Which(all=True))
        if wanted:
            async with self._acting("retry", wanted, actor) as acting:
                await self._mend(acting, wanted, "retry", "", actor)
                tried = Counter(named(each.subscription) for each in wanted)
                left = Counter(named(each.subscription) for each in still_failing(await self.parked(), wanted))
                again = {name: f"{count} of {tried[name]} fail again" for name, count in left.items()}
                acting.failures = again | acting.failures
        return await self.parked()

    async def skip(self, *parked: Parked, reason: str, actor: str = "") -> None:
        """Leave parked events out for good; who, when and why is kept.

        Raises if some were not left out, which is in the record, when all others are.
        """
        _check_reason(reason, "an event is skipped")
        if parked:
            async with self._acting("skip", parked, actor, reason=reason) as acting:
                failures = await self._mend(acting, parked, "skip", reason, actor)
            for failure in failures:
                raise failure

    async def waiting(self, process: str | None = None, *, limit: int | None = None) -> list[Waiting]:
        """Return what a process, or all of them, have still to do: timers, and what is parked.

        It is ordered by process and key; or, with a `limit`, the first so many are returned: what is stuck, and then
        what is due first.
        """
        wanted = self._wanted(process)
        return await waiting(self._running.books[0], wanted, self._running.clock(), limit=limit) if wanted else []

    async def left(self, process: str | None = None) -> Left:
        """Count what a process, or all of them, have still to do."""
        wanted = self._wanted(process)
        return await left(self._running.books[0], wanted, self._running.clock()) if wanted else Left(0, 0, 0)

    def _wanted(self, process: str | None) -> dict[str, Process]:
        if process is not None and process not in self._running.processes:
            names = ", ".join(self._running.processes) or "none"
            raise InvalidQuery(f"there is no process {process!r}; there is {names}")
        processes = self._running.processes
        return processes if process is None else {process: processes[process]}

    async def pending(self) -> list[Pending]:
        """Return how many timers each process has, and how many of them are stuck."""
        processes = self._running.processes  # without any there may be no books either
        return await pending(self._running.books[0], processes, self._running.clock()) if processes else []

    async def orphaned(self) -> list[Orphaned]:
        """Return what processes, effects and inboxes have left behind that are not part of this app any more."""
        running = self._running
        known = {*running.processes, *running.entrances, OUTBOX}
        return [each for books in running.books[:1] for each in await orphaned(books, known)]

    async def give_up(self, process: str, key: str, *, reason: str, actor: str = "") -> int:
        """Leave out all that a process has still to do for a key: what is parked, and timers; return how much."""
        _check_reason(reason, "a process gives up")
        if not any(each.key == key for each in await self.waiting(process)):
            return 0
        async with self._acting("give_up", process, actor, reason=reason, key=key) as acting:
            parked = [each for each in await self.parked(process) if key in each.keys[:1]]
            await self._mend(acting, parked, "skip", reason, actor)
            return len(parked) + await cancelled(self._running.books[0], process, key, reason, actor)

    async def events(self, *, after: int = 0, upto: int | None = None) -> AsyncIterator[StoredEvent]:
        """Go through events as they are stored, whether this program can read them or not."""
        async for page in self._running.store.read(after=after, upto=upto):
            for stored in page:
                yield stored

    async def repeat(
        self, effect: str, *, after: int, upto: int, reason: str, actor: str = "", id: str | None = None
    ) -> int:
        """Do an effect again for the events above `after` and up to `upto`, under new keys; return for how many.

        It is done here and now, one event after the other; raises at the first that fails. What comes again with the
        same `id`, even at the same time, is not done again: it returns 0, or raises `InvalidQuery` if it had failed,
        and `AppendIdReused` if it asks for something else.
        """
        found = self._running.processes.get(effect)
        if not isinstance(found, Effect):
            names = ", ".join(name for name, each in self._running.processes.items() if isinstance(each, Effect))
            raise InvalidQuery(f"there is no effect {effect!r}; there is {names or 'none'}")
        _check_reason(reason, "an effect is repeated")
        count = 0
        async with self._acting("repeat", effect, actor, id=id, reason=reason, after=after, upto=upto) as acting:
            if acting.again:
                return 0
            logger.warning("%s is repeated for positions %s to %s: %s", effect, after + 1, upto, reason)
            async for page in self._running.store.read(found.query, after=after, upto=upto):
                for stored in page:
                    await found.repeat(stored, reason)
                    count += 1
        return count

    async def republish(self, *, after: int, upto: int, reason: str, actor: str = "", id: str | None = None) -> int:
        """Publish again the events above `after` and up to `upto`, under the ids that they had; return how many.

        For when a broker, or the database of who receives, has lost some: who has them passes them over. It is done
        here and now, in the order of the log, beside what the outbox publishes; raises at the first that fails. What
        comes again with the same `id` is not done again, as with `repeat`.
        """
        outbox = self._running.outbox
        if outbox is None:
            raise InvalidQuery("this app has no outbox")
        _check_reason(reason, "events are published again")
        count = 0
        async with self._acting("republish", OUTBOX, actor, id=id, reason=reason, after=after, upto=upto) as acting:
            if acting.again:
                return 0
            logger.warning("positions %s to %s are published again: %s", after + 1, upto, reason)
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

    async def fill_rows(self, state: str, *, actor: str = "") -> int:
        """Make rows of the events of a state that is to be kept as rows from now on, where there are none.

        Returns how many were made. Nothing else may write meanwhile, so it is for `app.passive()`.
        """
        self._running.rows.named(state)
        async with self._acting("fill_rows", state, actor):
            return await self._moving.fill(state)

    async def leave_rows(self, state: str, *, actor: str = "") -> None:
        """Keep a state as events from now on, its rows being what these add up to; else raise `InvalidQuery`.

        Whatever runs with it in `rows` must be stopped before: it would go on. Then apps open that have it not.
        """
        self._running.rows.named(state)
        async with self._acting("leave_rows", state, actor):
            await self._moving.leave(state)

    async def import_rows(self, states: Iterable[State], *, actor: str = "") -> int:
        """Put states that were kept elsewhere as rows, without events; return for how many there was no row yet.

        It is recorded once, about the class of the first.
        """
        coming = iter(states)
        if (first := next(coming, None)) is None:
            return 0
        async with self._acting("import_rows", type(first).__name__, actor):
            return await self._moving.import_rows(chain([first], coming))

    async def skipped(self, *, limit: int | None = None) -> list[Skipped]:
        """Return what was skipped, when, by whom and why: the last so many, the newest at the end."""
        return await self._running.mending.skipped(limit)

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
        actor: str = "",
    ) -> Version:
        """Build a projection anew beside the version that is read, compare them, and switch; return the new version.

        With more than one worker its keys are shared among processes. With `hold` it is not switched to, until
        `switch` is called. One that was interrupted goes on where it was. `tell` is called with the progress.
        """
        if not 1 <= workers <= MOST_WORKERS:
            raise InvalidQuery(f"{workers} workers: there may be 1 to {MOST_WORKERS}")
        upkeep = self._upkeep(projection)
        async with self._acting("rebuild", projection, actor):
            owner = Owner()
            rebuild = Rebuild(upkeep.definition, upkeep.versions, self._running.store, owner)
            try:
                async with upkeep.aside():
                    return await rebuild.run(workers, self._recipe(projection), hold=hold, tell=tell)
            finally:
                owner.close()

    async def begin_rebuild(self, projection: str, *, workers: int = 1, hold: bool = False, actor: str = "") -> bool:
        """Have this process rebuild a projection in the background; return when it is under way, False if it was.

        `standing` shows how far it is. It is interrupted when the app is closed; the next one goes on from there.
        """
        self._upkeep(projection)
        return await self._running.rebuilds.begin(
            projection, lambda tell: self.rebuild(projection, workers=workers, hold=hold, tell=tell, actor=actor)
        )

    async def compare(self, projection: str, version: str | None = None) -> Comparison:
        """Compare a version, the newest that is not read if none is named, with the one that is read."""
        upkeep = self._upkeep(projection)
        active = await upkeep.versions.active()
        if active is None:
            raise InvalidQuery(f"no version of {projection} is read yet")
        other = _named(await upkeep.versions.all(), version, not_active=True)
        old, new = (active, other) if other.status == "building" else (other, active)
        return await comparison_of(upkeep.versions, self._running.store, old, new)

    async def switch(self, projection: str, version: str | None = None, *, actor: str = "") -> Version:
        """Let a version be the one that is read, the newest if none is named; return it."""
        upkeep = self._upkeep(projection)
        wanted = _named(await upkeep.versions.all(), version, not_active=True)
        if wanted.status == "active":
            return wanted
        async with self._acting("switch", projection, actor, version=wanted.version):
            if not await upkeep.versions.switch(wanted, pinned=True):
                raise changed_meanwhile(projection)
        return await upkeep.versions.named(wanted.version)

    async def rollback(self, projection: str, *, leaving: str | None = None, actor: str = "") -> Version:
        """Let the version that was read before be read again, at once; return it.

        If it is said which version is to be left, one who asks twice goes back once.
        """
        versions = self._upkeep(projection).versions
        active = await versions.active()
        if leaving is not None and active is not None and active.version != leaving:
            if any(row.version == leaving and row.status == "rejected" for row in await versions.all()):
                return active
            raise InvalidQuery(f"{projection} is read as of version {active.version}, not {leaving}")
        async with self._acting("rollback", projection, actor, version=active.version if active else ""):
            return await versions.rollback()

    async def drop(self, projection: str, version: str, *, actor: str = "") -> None:
        """Remove a version that is not read."""
        upkeep = self._upkeep(projection)
        wanted = _named(await upkeep.versions.all(), version, not_active=False)
        async with self._acting("drop", projection, actor, version=version):
            if not await upkeep.versions.drop(wanted):
                raise changed_meanwhile(projection)

    async def _mend(
        self, acting: Acting, parked: Sequence[Parked], action: Action, reason: str, actor: str
    ) -> list[RefoldError]:
        """Have it done; raise if nobody did anything, else note what was not done, and return why."""
        failures = await self._running.mending.mend(parked, action, reason, actor)
        if failures and failures.keys() >= {each.subscription for each in parked}:
            raise next(iter(failures.values()))
        acting.failures = {named(name): str(failure) for name, failure in failures.items()}
        return list(failures.values())

    def _acting(
        self, action: str, about: str | Sequence[Parked], actor: str, *, id: str | None = None, **said: Any
    ) -> AbstractAsyncContextManager[Acting]:
        """Record what is done about something, or about parked events, inside."""
        whole: dict[str, dict[int, None]] = {}
        if isinstance(about, str):
            whole[about] = {}
        else:
            for each in about:
                whole.setdefault(named(each.subscription), {})[each.position] = None
        acts = [
            OperatorActed(action, name, actor or None, positions=tuple(positions), **said)
            for name, positions in whole.items()
        ]
        return self._audit.acting(*acts, id=id)

    def _upkeep(self, projection: str) -> Upkeep:
        found = self._running.upkeeps.get(projection)
        if found is None:
            names = ", ".join(self._running.upkeeps) or "none"
            raise InvalidQuery(f"there is no projection {projection!r}; there is {names}")
        return found


def still_failing(parked: Sequence[Parked], tried: Sequence[Parked]) -> list[Parked]:
    """Return those of what is parked that were tried again, and have failed again."""
    wanted = {(each.subscription, each.position, each.key) for each in tried}
    return [each for each in parked if each.error and (each.subscription, each.position, each.key) in wanted]


def _named(versions: Sequence[Version], version: str | None, *, not_active: bool) -> Version:
    wanted = [row for row in versions if not (not_active and row.status == "active")]
    if version is not None:
        wanted = [row for row in versions if row.version == version]
    if not wanted:
        there = ", ".join(f"{row.version} ({row.status})" for row in versions) or "none"
        raise InvalidQuery(f"there is no such version{f' {version}' if version else ''}; there is {there}")
    return max(wanted, key=lambda row: row.started_at or datetime.min.replace(tzinfo=UTC))


def _check_reason(reason: str, what: str) -> None:
    if not reason.strip():
        raise InvalidQuery(f"{what} for a reason: say which")
