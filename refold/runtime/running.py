"""An open app: what it works with, what keeps its views up, and what is asked of it by others."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from refold.errors import NotKept, RefoldError, StoreError, SubscriptionFailed, WaitTimeout
from refold.runtime.analyse import Analytics
from refold.runtime.books import Books, Version
from refold.runtime.effect import Effect
from refold.runtime.execute import Executor
from refold.runtime.inbox import Arrivals, Entrance
from refold.runtime.load import Loader
from refold.runtime.mend import Mending
from refold.runtime.outbox import NAME as OUTBOX
from refold.runtime.outbox import Outbox
from refold.runtime.owner import Owner
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

LOOK_SECONDS = 0.5
"""How often is looked at what others ask, and at which versions there are."""
BUILDING_SECONDS = 0.05
"""How often while a version is being built."""
COME_SECONDS = 30.0
"""How long a subscription may stand still while somebody waits for it to be at rest."""
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
        self.mending = Mending(books, lambda: [*self.subscriptions(), *self.inlets.values()])
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
            await self.mending.hear(books)
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

    async def all_reached(self, names: Sequence[str], position: int, seconds: float | None) -> None:
        """Wait until projections and processes have come to a position; raise at once if one has stopped."""
        waiting = [asyncio.ensure_future(self.reached(name, position, seconds)) for name in names]
        try:
            if waiting:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
            for each in waiting:
                if each.done():
                    each.result()
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def settled(self, names: Sequence[str], seconds: float) -> None:
        """Wait until all is at rest at the head, whatever subscriptions made each other do."""
        while True:
            head = await self.store.head()
            kept_up = self.subscriptions()
            for subscription in kept_up:
                await self.comes_to(subscription, head)
            await self.look()
            if self.subscriptions() != kept_up:  # parts have become one, which has to catch up
                continue
            await self.all_reached(names, head, seconds)
            for subscription in self.subscriptions():
                await subscription.rung()
            if head == await self.store.head():
                return

    async def reached(self, name: str, position: int, seconds: float | None) -> None:
        """Wait until a projection or process, which may run elsewhere, has come to a position."""
        if name in self.upkeeps:
            await self.upkeeps[name].reached(position, seconds)
        elif name in self.reactions:
            await self.reactions[name].reached(position, seconds)
        else:
            await self._reached_elsewhere(name, position, seconds)

    async def versions(self) -> list[Version]:
        """Return all versions of all projections."""
        return [row for books in self.books for row in await books.versions()]

    async def _look_on(self) -> None:
        while True:
            building = any(each.own is not None and each.own.status == "building" for each in self.upkeeps.values())
            await asyncio.sleep(BUILDING_SECONDS if building else LOOK_SECONDS)
            try:
                with suppress(StoreError):
                    await self.look()
            except Exception:  # whatever it is: who stops looking loses all that it owns, and hears nobody
                logger.exception("looking after what is kept up has failed, and is tried again")

    async def _reached_elsewhere(self, name: str, position: int, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        while True:
            try:
                row = await self.books[0].checkpoint(name)
            except NotKept:  # no app has run on this log yet
                row = None
            stands = row.position if row else 0
            if stands >= position:
                return
            if row is not None and row.trouble and not row.owner:
                text = f"{name} stopped after position {stands}, and operators see why"
                raise SubscriptionFailed(text, subscription=name, position=stands) from RefoldError(row.trouble)
            if end is not None and loop.time() >= end:
                raise late(name, stands, position, seconds or 0, ", as others keep it up")
            await asyncio.sleep(POLL_SECONDS)
