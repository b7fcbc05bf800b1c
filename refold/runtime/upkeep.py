"""Keeping an app's projections up: which version, which subscriptions, and switching to a version when it is built."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from refold.errors import NotKept, RefoldError, StoreError, SubscriptionFailed, WaitTimeout
from refold.runtime.books import Version
from refold.runtime.compare import comparison_of
from refold.runtime.owner import Owner
from refold.runtime.project import Definition
from refold.runtime.subscription import POLL_SECONDS, Subscription, late
from refold.runtime.telemetry import Telemetry
from refold.runtime.versions import Versions, stands
from refold.store.api import Store

CATCH_UP_SECONDS = 0.5
"""How long is waited, before a switch, for what came while the version was built."""
GLANCE_SECONDS = 0.25
"""How often who waits for a position looks whether another version is read by now."""

logger = logging.getLogger("refold.projection")


class Upkeep:
    """One projection of an open app."""

    def __init__(
        self, definition: Definition, versions: Versions, store: Store, owner: Owner, telemetry: Telemetry
    ) -> None:
        self.definition = definition
        self.versions = versions
        self.subscriptions: dict[str, Subscription] = {}
        self._store = store
        self._owner = owner
        self._telemetry = telemetry
        self._own: Version | None = None
        self._looking = asyncio.Lock()
        self._aside = 0

    @property
    def own(self) -> Version | None:
        """The version of this program, as it was seen last; None for an app that keeps nothing up."""
        return self._own

    async def start(self) -> None:
        """Begin or go on with the version of this program."""
        await self._keep(await self.versions.prepare(await self._store.head()))

    async def stop(self) -> None:
        """Let others go on."""
        subscriptions, self.subscriptions = self.subscriptions, {}
        await asyncio.gather(*(each.stop() for each in subscriptions.values()))

    async def look(self) -> None:
        """See which version is this program's, keep it up, and switch to it if it is built."""
        async with self._looking:
            own = await self.versions.own(fresh=False)
            if own is None:  # dropped by others, who run a newer program: they keep up what is read
                await self.stop()
                self._own = None
                return
            if self._aside and own.status == "building":
                return
            if self._own is None or (own.version, own.parts) != (self._own.version, self._own.parts):
                await self.versions.books.views.create(self.definition.tables(own.version))
            await self._keep(own)
            if own.status == "building" and own.parts != self.definition.how.parts:
                if await self.versions.collapse(own) and (whole := await self.versions.own()):
                    await self._keep(whole)
            elif own.status in ("building", "kept") and await self._is_built(own):
                await self._switch(own)

    @asynccontextmanager
    async def aside(self) -> AsyncGenerator[None]:
        """Leave what is being built to somebody else meanwhile."""
        self._aside += 1
        try:
            yield
        finally:
            self._aside -= 1

    async def reached(self, position: int, seconds: float | None) -> Version:
        """Wait until the version that is read has handled everything up to a position; return it.

        Another one may be read a moment later, which has not.
        """
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        while True:
            left = GLANCE_SECONDS if end is None else min(GLANCE_SECONDS, max(end - loop.time(), 0))
            try:
                if (shown := await self._reached(position, left)) is not None:
                    return shown
            except WaitTimeout as wait:
                if end is not None and loop.time() >= end:
                    stands, why = int(wait.data["position"]), str(wait.data["why"])
                    raise late(self.definition.name, stands, position, seconds or 0, why) from None

    async def position(self) -> int:
        """Return how far the version has come that is read."""
        return await self.versions.position(await self.versions.shown())

    async def _reached(self, position: int, seconds: float) -> Version | None:
        """Wait a little; return the version that is read if it has come so far."""
        own = self._own
        try:
            shown = await self.versions.shown()
        except NotKept as error:
            await asyncio.sleep(min(POLL_SECONDS, seconds))
            raise late(self.definition.name, 0, position, seconds, f": {error}") from None
        if own is not None and shown.version == own.version:
            subscriptions = [self.subscriptions[name] for name in own.subscriptions() if name in self.subscriptions]
            if subscriptions and all(each.position >= position for each in subscriptions):
                return shown
            await asyncio.gather(*(each.reached(position, seconds) for each in subscriptions))
            return shown if subscriptions else None
        if (stands := await self.versions.position(shown)) >= position:
            return shown
        await asyncio.sleep(min(POLL_SECONDS, seconds))
        self._check_failures()
        why = ", as others keep it up"
        if own is not None:
            why = f", in version {shown.version}; this program's is {own.status}, at position {self._stands(own)}"
        raise late(self.definition.name, stands, position, seconds, why)

    def _stands(self, version: Version) -> int:
        found = [self.subscriptions[name] for name in version.subscriptions() if name in self.subscriptions]
        return min((each.position for each in found), default=0)

    def _check_failures(self) -> None:
        for each in self.subscriptions.values():
            if each.failure is not None:
                raise SubscriptionFailed(str(each.failure), **each.failure.data) from each.failure.__cause__

    async def _keep(self, version: Version) -> None:
        """Run the subscriptions of a version, and no others."""
        names = version.subscriptions()
        for name in [name for name in self.subscriptions if name not in names]:
            await self.subscriptions.pop(name).stop()
        # Parts that are to become one end at the same position.
        until = version.target if version.parts != self.definition.how.parts else None
        self._own = version
        for part, name in enumerate(names):
            if name not in self.subscriptions:
                views = self.versions.books.views
                worker = self.definition.worker(views, version.version, part, len(names))
                self.subscriptions[name] = subscription = Subscription(
                    name,
                    worker,
                    self._store,
                    self.versions.books,
                    self._owner,
                    until=until,
                    while_=stands(version),
                    telemetry=self._telemetry,
                )
                await subscription.start()

    async def _is_built(self, version: Version) -> bool:
        """Tell whether a version has caught up, as far as this process can tell and nothing of it is parked."""
        mine = [self.subscriptions[name] for name in version.subscriptions()]
        if not all(each.owned for each in mine) or any(each.parking or each.failure for each in mine):
            return False
        try:
            head = await self._store.head()
            await asyncio.gather(*(each.reached(head, CATCH_UP_SECONDS) for each in mine))
        except (WaitTimeout, SubscriptionFailed):
            return False
        return not any(each.parking for each in mine)

    async def _switch(self, own: Version) -> None:
        active = await self.versions.active()
        if own.status == "kept" and (active is None or active.pinned or not await self.versions.is_left(active)):
            return
        if active is not None and own.comparison is None:
            comparison = await comparison_of(self.versions, self._store, active, own)
            if not await self.versions.note(own, comparison=comparison):
                return
            logger.info("%s: %s", self.definition.name, comparison)
        own = await self.versions.own() or own
        if not own.hold and await self.versions.switch(own):
            logger.info("%s is read as of version %s now", self.definition.name, own.version)
            if (switched := await self.versions.own()) is not None:
                await self._keep(switched)


async def quietly(looks: Sequence[Upkeep]) -> None:
    """Look after projections; what fails is told, and tried again the next time."""
    for each in looks:
        try:
            await each.look()
        except StoreError as error:
            logger.warning("%s: %s", each.definition.name, error)
        except RefoldError:
            logger.exception("%s", each.definition.name)
