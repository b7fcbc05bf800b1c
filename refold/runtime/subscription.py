"""A subscription: something that follows the log, keeps its checkpoint, and can be waited for."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from refold.errors import RefoldError, StoreClosed, StoreError, SubscriptionFailed, WaitTimeout
from refold.model.query import Query
from refold.model.record import StoredEvent
from refold.model.state import State
from refold.store.api import Page, Store
from refold.view.api import Table, Views

SAVE_SECONDS = 1.0
"""How long a checkpoint that has moved over other events only may stay unsaved; reading them again costs little."""
RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)
"""Pauses after the store failed; the last one repeats."""

logger = logging.getLogger("refold.subscription")


class Follower(Protocol):
    """What a subscription does with the events that it reads."""

    @property
    def name(self) -> str:
        """What its checkpoint is kept under."""
        ...

    @property
    def query(self) -> Query:
        """Which events it reads."""
        ...

    @property
    def table(self) -> Table | None:
        """Where the rows go that it returns."""
        ...

    async def handle(self, page: Page) -> Sequence[State]:
        """Handle a page; return rows to be kept in one step with the checkpoint. Raises `EventFailed`."""
        ...

    def forget(self) -> None:
        """Forget what was remembered of rows: another process has written them."""
        ...


class EventFailed(Exception):
    """A follower could not handle an event; the cause says why."""

    def __init__(self, stored: StoredEvent) -> None:
        super().__init__(stored.position)
        self.stored = stored


class Subscription:
    """Runs a follower from its checkpoint to the head, and on as the log grows."""

    def __init__(self, follower: Follower, store: Store, views: Views) -> None:
        self.name = follower.name
        self.position = 0
        """How far it has come: everything up to here is handled."""
        self.failure: SubscriptionFailed | None = None
        self._follower = follower
        self._store = store
        self._views = views
        self._saved = 0
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make its table exist, and begin to follow."""
        if self._follower.table is not None:
            await self._views.open(self._follower.table)
        await self._resume()
        self._task = asyncio.create_task(self._run(), name=f"refold {self.name}")

    async def stop(self) -> None:
        """Stop after what is under way, and save the checkpoint."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self.position > self._saved and self.failure is None:
            await self._views.advance(self.name, before=self._saved, after=self.position)

    async def reached(self, position: int, seconds: float | None) -> None:
        """Wait until it has handled everything up to a position.

        Raises `WaitTimeout` after `seconds`, saying how far it is, and `SubscriptionFailed` if it has stopped.
        """
        try:
            async with asyncio.timeout(seconds):
                while self.position < position:
                    if self.failure is not None:
                        raise self.failure
                    await self._moved.wait()
        except TimeoutError:
            raise WaitTimeout(
                f"{self.name} is at position {self.position} after {seconds:g} s, {position - self.position} short of "
                f"{position}",
                subscription=self.name,
                position=self.position,
            ) from None

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._follow()
                failures = 0
            except StoreClosed:
                return
            except EventFailed as failed:
                self._fail(failed)
                return
            except StoreError as error:
                pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                failures += 1
                logger.warning("%s waits %s s: %s", self.name, pause, error)
                await asyncio.sleep(pause)
                await self._resume()
            except Exception as error:
                logger.exception("%s stopped", self.name)
                self._stopped(SubscriptionFailed(f"{self.name} stopped after position {self.position}: {error!r}"))
                return

    async def _follow(self) -> None:
        """Follow the log until another process has moved the checkpoint."""
        loop = asyncio.get_running_loop()
        saved_at = loop.time()
        async for page in self._store.follow(self._follower.query, after=self.position):
            rows = await self._follower.handle(page)
            if page or loop.time() - saved_at > SAVE_SECONDS:
                if not await self._views.advance(
                    self.name, before=self._saved, after=page.upto, table=self._follower.table, rows=rows
                ):
                    await self._resume()
                    return
                self._saved = page.upto
                saved_at = loop.time()
            self._moved_to(page.upto)

    async def _resume(self) -> None:
        """Begin at the saved checkpoint, which another process may have moved."""
        self._follower.forget()
        self._saved = await self._views.checkpoint(self.name)
        self._moved_to(self._saved)

    def _moved_to(self, position: int) -> None:
        self.position = position
        self._moved.set()
        self._moved = asyncio.Event()

    def _fail(self, failed: EventFailed) -> None:
        stored, cause = failed.stored, failed.__cause__
        logger.error("%s stopped at position %s", self.name, stored.position, exc_info=cause)
        reason = str(cause) if isinstance(cause, RefoldError) else repr(cause)
        failure = SubscriptionFailed(
            f"{self.name} stopped at position {stored.position}, a {stored.type}: {reason} "
            "It goes on from there when the cause is mended and the app starts again",
            subscription=self.name,
            position=stored.position,
        )
        failure.__cause__ = cause
        self._stopped(failure)

    def _stopped(self, failure: SubscriptionFailed) -> None:
        self.failure = failure
        self._moved.set()
