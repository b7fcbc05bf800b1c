"""An open app: what it works with, what keeps its views up, and what is asked of it by others."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from refold.errors import InvalidQuery, StoreError, SubscriptionFailed, WaitTimeout
from refold.runtime.analyse import Analytics
from refold.runtime.books import PARKED, REQUESTS, SKIPPED, Action, Books, Parked, Request, Skipped, Version
from refold.runtime.effect import Effect
from refold.runtime.execute import Executor
from refold.runtime.inbox import Arrivals, Entrance
from refold.runtime.load import Loader
from refold.runtime.outbox import NAME as OUTBOX
from refold.runtime.outbox import Outbox
from refold.runtime.owner import Owner, is_gone
from refold.runtime.pace import Pace
from refold.runtime.project import Definition
from refold.runtime.react import Process
from refold.runtime.rebuilds import Rebuilds
from refold.runtime.rows import RowStates
from refold.runtime.subscription import POLL_SECONDS, Subscription, late
from refold.runtime.travel import Travel
from refold.runtime.upkeep import Upkeep, quietly
from refold.runtime.versions import Versions
from refold.store.api import Clock, Store
from refold.view.api import Delete, Put

LOOK_SECONDS = 0.5
"""How often is looked at what others ask, and at which versions there are."""
BUILDING_SECONDS = 0.05
"""How often while a version is being built."""
COME_SECONDS = 30.0
"""How long a subscription may stand still while somebody waits for it to be at rest."""
MEND_SECONDS = 30.0
"""How long it may take until the owner of a subscription has done what was asked."""
MEND_AT_ONCE = 100
"""How much is asked of it at once."""

logger = logging.getLogger("refold.app")


class Running:
    """What an open app works with."""

    def __init__(
        self,
        store: Store,
        books: Sequence[Books],
        loader: Loader,
        rows: RowStates,
        executor: Executor,
        owner: Owner,
        clock: Clock,
    ) -> None:
        self.store = store
        self.clock = clock
        self.books = books
        """Of the log's own database first, then of the others in which views are."""
        self.loader = loader
        self.rows = rows
        self.executor = executor
        self.telemetry = executor.telemetry
        self.upkeeps: dict[str, Upkeep] = {}
        self.travels: dict[str, Travel] = {}
        self.processes: dict[str, Process] = {}
        self.reactions: dict[str, Subscription] = {}
        """The subscriptions of processes, by name; empty in an app that leaves them to others."""
        self.outbox: Outbox | None = None
        self.entrances: dict[str, tuple[Entrance, Arrivals]] = {}
        self.inlets: dict[str, Subscription] = {}
        """The subscriptions of what enters, by name; their positions count messages."""
        self.analytics: Analytics | None = None
        self.index: Versions | None = None
        self.follows = False
        self.pace = Pace()
        self.rebuilds = Rebuilds()
        self._owner = owner
        self._looker: asyncio.Task[None] | None = None

    def keep(self, definition: Definition, versions: Versions) -> None:
        """Add a projection."""
        name, store = definition.name, self.store
        self.upkeeps[name] = upkeep = Upkeep(definition, versions, store, self._owner, self.telemetry)
        self.travels[name] = Travel(definition, versions, store, self.loader, partial(upkeep.reached, seconds=None))

    async def start(self) -> None:
        """Keep up what there is to be kept up."""
        self.follows = True
        for books in self.books:
            await books.open()
        await self.rows.open()
        has_effects = any(isinstance(each, Effect) for each in self.processes.values())
        now = await self.store.head() if has_effects else 0  # before any process runs: effects see what these lead to
        for upkeep in self.upkeeps.values():
            await upkeep.start()
        for name, process in self.processes.items():
            # An effect begins with what happens from now on, unless it is said to begin with the log.
            how = process.how if isinstance(process, Effect) else None
            self.reactions[name] = Subscription(
                name,
                process,
                self.store,
                self.books[0],
                self._owner,
                timers=process.timers,
                begin=now if how and not how.from_start else 0,
                step=how.at_once if how else 0,
                telemetry=self.telemetry,
            )
            await self.reactions[name].start()
        if self.outbox is not None:
            self.reactions[OUTBOX] = Subscription(
                OUTBOX, self.outbox, self.store, self.books[0], self._owner, telemetry=self.telemetry
            )
            await self.reactions[OUTBOX].start()
        for name, (entrance, arrivals) in self.entrances.items():
            self.inlets[name] = arrivals.subscription = Subscription(
                name, entrance, arrivals, self.books[0], self._owner, telemetry=self.telemetry
            )
            await self.inlets[name].start()
        self._looker = asyncio.create_task(self._look_on(), name="refold upkeep")
        if self.analytics is not None:
            self.analytics.start()

    async def stop(self) -> None:
        """Let others go on."""
        await self.rebuilds.stop()
        if self._looker is not None:
            self._looker.cancel()
            await asyncio.wait([self._looker])
        await asyncio.gather(*(each.stop() for each in (*self.inlets.values(), *self.reactions.values())))
        await asyncio.gather(*(each.stop() for each in self.upkeeps.values()))

    async def close(self) -> None:
        """Let go of what was built for questions, and of the mirror."""
        await self.rebuilds.stop()
        if self.analytics is not None:
            await self.analytics.stop()
        await asyncio.gather(*(each.close() for each in self.travels.values()))
        self._owner.close()

    async def look(self) -> None:
        """See to what others ask, and to the versions of projections."""
        self.pace.note(asyncio.get_running_loop().time(), {each.name: each.position for each in self.subscriptions()})
        for books in self.books:
            await self._hear(books)
            versions = await books.versions()
            for upkeep in self.upkeeps.values():
                if upkeep.versions.books is books:
                    upkeep.versions.learn(versions)
        await quietly(list(self.upkeeps.values()))

    def subscriptions(self) -> list[Subscription]:
        """Return the subscriptions of this app, those of processes last."""
        kept = [each for upkeep in self.upkeeps.values() for each in upkeep.subscriptions.values()]
        return [*kept, *self.reactions.values()]

    async def comes_to(self, subscription: Subscription, position: int) -> None:
        """Wait until a subscription of this app has come to a position, or to its end; raise if it comes no further."""
        goal = position if subscription.until is None else min(position, subscription.until)
        while (before := subscription.position) < goal:
            try:
                await subscription.reached(goal, COME_SECONDS)
            except WaitTimeout:
                if subscription not in self.subscriptions():
                    return
                if subscription.position == before:
                    raise
        if goal == subscription.until:
            await subscription.ended()

    async def reached(self, name: str, position: int, seconds: float | None) -> None:
        """Wait until a projection or process, which may run elsewhere, has come to a position."""
        if name in self.upkeeps:
            await self.upkeeps[name].reached(position, seconds)
        elif name in self.reactions:
            await self.reactions[name].reached(position, seconds)
        else:
            await self._reached_elsewhere(name, position, seconds)

    async def parked(self, name: str | None = None, limit: int | None = None) -> list[Parked]:
        """Return what is parked, of one projection or process or all, the first so many in the order of positions."""
        rows: list[Parked] = []
        for books in self.books:
            for where in _of(name):
                rows += await books.find(PARKED, where, limit, order="position")
        return sorted(rows, key=lambda row: (row.position, row.subscription, row.parked_at))[:limit]

    async def skipped(self, limit: int | None = None) -> list[Skipped]:
        """Return what was skipped, when, by whom and why: the last so many."""
        rows: list[Skipped] = []
        for books in self.books:
            rows += await books.find(SKIPPED, None, limit, order="-skipped_at")
        rows.sort(key=lambda row: row.skipped_at, reverse=True)
        return rows[:limit][::-1]

    async def mend(self, parked: Sequence[Parked], action: Action, reason: str = "", actor: str = "") -> None:
        """Have the owners of subscriptions try parked events again, or skip them."""
        found: list[tuple[Books, Parked]] = []
        for each in sorted(parked, key=lambda each: (each.position, each.subscription, each.key)):
            books = await self._books_of(each)
            if books is not None:
                found.append((books, each))
            elif action != "retry":  # else it has gone well meanwhile
                raise InvalidQuery(f"nothing is parked at position {each.position} of {each.subscription}")
        parts = [found[start : start + MEND_AT_ONCE] for start in range(0, len(found), MEND_AT_ONCE)]
        # What is skipped, from the last on: what fails first is what the others wait behind.
        for part in parts if action == "retry" else reversed(parts):
            await self._mend(part, action, reason, actor)

    async def _mend(self, found: Sequence[tuple[Books, Parked]], action: Action, reason: str, actor: str) -> None:
        """Ask for it, and wait until it is done."""
        asked = [
            (books, Request(each.subscription, action, each.position, each.key, reason, actor)) for books, each in found
        ]
        for books in dict.fromkeys(books for books, _ in asked):
            await books.write(Put(REQUESTS, [request for its, request in asked if its is books]))
        for subscription in [*self.subscriptions(), *self.inlets.values()]:
            mine = [request for _, request in asked if request.subscription == subscription.name]
            if mine and subscription.owned:
                await subscription.ask(mine)
        loop = asyncio.get_running_loop()
        end = loop.time() + MEND_SECONDS
        while asked := await _open(asked):
            books, request = asked[0]
            await self._check_runs(books, request)
            if loop.time() > end:
                raise WaitTimeout(f"{request.subscription} has not done in {MEND_SECONDS:g} s what was asked of it")
            await asyncio.sleep(POLL_SECONDS)

    async def _check_runs(self, books: Books, request: Request) -> None:
        """Take a request back if there is nobody who could do it."""
        name = request.subscription
        if any(each.name == name for each in (*self.subscriptions(), *self.inlets.values())):
            return
        checkpoint = await books.checkpoint(name)
        if not checkpoint or not checkpoint.owner or is_gone(checkpoint.owner):
            requests: list[Request] = await books.find(REQUESTS, {"subscription": name, "action": request.action})
            await books.write(Delete(REQUESTS, [REQUESTS.key_of(each) for each in requests]))
            raise InvalidQuery(f"nobody runs {name}: start the app, `refold run module:app`, and ask again")

    async def versions(self) -> list[Version]:
        """Return all versions of all projections."""
        return [row for books in self.books for row in await books.versions()]

    async def _books_of(self, parked: Parked) -> Books | None:
        for books in self.books:
            if await books.views.get(PARKED, [PARKED.key_of(parked)]):
                return books
        return None

    async def _look_on(self) -> None:
        while True:
            building = any(each.own is not None and each.own.status == "building" for each in self.upkeeps.values())
            await asyncio.sleep(BUILDING_SECONDS if building else LOOK_SECONDS)
            with suppress(StoreError):
                await self.look()

    async def _hear(self, books: Books) -> None:
        """Pass on what is asked to the subscriptions that this app owns."""
        requests: list[Request] = await books.find(REQUESTS)
        heard: list[Request] = []
        for subscription in [*self.subscriptions(), *self.inlets.values()]:
            if subscription.books is books and subscription.owned:
                mine = [each for each in requests if each.subscription == subscription.name]
                await subscription.ask(mine)
                heard += [each for each in mine if each.action == "beat"]
        if heard:
            await books.write(Delete(REQUESTS, [REQUESTS.key_of(each) for each in heard]))

    async def _reached_elsewhere(self, name: str, position: int, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        while True:
            row = await self.books[0].checkpoint(name)
            stands = row.position if row else 0
            if stands >= position:
                return
            if row is not None and row.trouble and not row.owner:
                raise SubscriptionFailed(f"{name} stopped: {row.trouble}", subscription=name, position=stands)
            if end is not None and loop.time() >= end:
                raise late(name, stands, position, seconds or 0, ", as others keep it up")
            await asyncio.sleep(POLL_SECONDS)


async def _open(asked: Sequence[tuple[Books, Request]]) -> list[tuple[Books, Request]]:
    """Return what was asked and is not done yet."""
    left: list[tuple[Books, Request]] = []
    for books in dict.fromkeys(books for books, _ in asked):
        mine = [request for its, request in asked if its is books]
        there = await books.views.get(REQUESTS, [REQUESTS.key_of(each) for each in mine])
        left += [(books, each) for each in mine if REQUESTS.key_of(each) in there]
    return left


def named(subscription: str) -> str:
    """Return the name of the projection or process that a subscription belongs to."""
    return subscription.partition("@")[0]


def _of(name: str | None) -> list[dict[str, Any]]:
    """Return conditions for the subscriptions of one projection or process, or all: each row meets one of them."""
    if name is None:
        return [{}]
    return [{"subscription": name}, {"subscription__ge": f"{name}@", "subscription__lt": f"{name}A"}]  # A comes after @
