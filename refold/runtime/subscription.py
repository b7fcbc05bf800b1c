"""A subscription: something that follows the log, keeps its checkpoint, and can be waited for."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from refold.errors import Conflict, RefoldError, StoreClosed, StoreError, SubscriptionFailed, WaitTimeout
from refold.model.query import Query
from refold.model.record import StoredEvent
from refold.model.state import State
from refold.store.api import Page, Store
from refold.view.api import Table, Views

SAVE_SECONDS = 1.0
"""How long a checkpoint that has moved over events of others only may stay unsaved; reading them again costs little."""
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
        self._saved_at = 0.0
        self._trouble: Exception | None = None
        self._failures = 0
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make its table exist, and begin to follow."""
        if self._follower.table is not None:
            await self._views.open(self._follower.table)
        await self._resume()
        self._task = asyncio.create_task(self._run(), name=f"refold {self.name}")

    async def stop(self) -> None:
        """Stop, leaving what is under way for the next time, and save the checkpoint."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self.position > self._saved and self.failure is None:
            try:
                # Only ever over events of others: reading them again is all that is lost if this fails.
                await self._views.advance(self.name, before=self._saved, after=self.position)
            except StoreError as error:
                logger.warning("%s could not save that it is at %s: %s", self.name, self.position, error)

    async def reached(self, position: int, seconds: float | None) -> None:
        """Wait until it has handled everything up to a position.

        Raises `WaitTimeout` after `seconds`, saying how far it is, and `SubscriptionFailed` if it has stopped.
        """
        try:
            async with asyncio.timeout(seconds):
                while self.position < position:
                    if self.failure is not None:
                        # A copy: who waits elsewhere should not find this traceback in theirs.
                        raise SubscriptionFailed(str(self.failure), **self.failure.data) from self.failure.__cause__
                    await self._moved.wait()
        except TimeoutError:
            trouble = f". It is held up: {self._trouble}" if self._trouble else ""
            raise WaitTimeout(
                f"{self.name} is at position {self.position} after {seconds:g} s, {position - self.position} short of "
                f"{position}{trouble}",
                subscription=self.name,
                position=self.position,
            ) from None

    async def _run(self) -> None:
        while self.failure is None:
            try:
                await self._resume()
                await self._follow()
            except EventFailed as failed:
                self._fail(failed)
            except SubscriptionFailed as failure:
                self._stopped(failure)
            except StoreClosed:
                text = f"{self.name} stopped after position {self.position}: the log was closed"
                self._stopped(SubscriptionFailed(text))
            except (StoreError, Conflict) as error:
                await self._pause(error)
            except Exception as error:
                logger.exception("%s stopped", self.name)
                reason = str(error) if isinstance(error, RefoldError) else repr(error)
                self._stopped(SubscriptionFailed(f"{self.name} stopped after position {self.position}: {reason}"))

    async def _follow(self) -> None:
        """Follow the log until another process has moved the checkpoint."""
        pages = self._store.follow(self._follower.query, after=self.position)
        coming = asyncio.ensure_future(anext(pages))
        try:
            while True:
                if self.position > self._saved:
                    await asyncio.wait([coming], timeout=SAVE_SECONDS)
                    if not coming.done() and not await self._advance(Page((), self.position), ()):
                        return
                page = await coming
                rows = await self._handle(page)
                coming = asyncio.ensure_future(anext(pages))  # is read while this one is saved
                if not await self._save(page, rows):
                    return
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            if isinstance(pages, AsyncGenerator):
                await pages.aclose()

    async def _handle(self, page: Page) -> Sequence[State]:
        """Handle a page; if one of its events fails, those before it are handled and saved all the same."""
        try:
            return await self._follower.handle(page)
        except EventFailed as failed:
            upto = failed.stored.position - 1
            before = Page([stored for stored in page if stored.position <= upto], upto)
            if upto > self._saved:
                rows = await self._follower.handle(before)
                if await self._advance(before, rows):
                    self._moved_to(upto)
            raise

    async def _save(self, page: Page, rows: Sequence[State]) -> bool:
        """Save what a page has changed; return False if another process has moved the checkpoint."""
        due = self._saved_at + SAVE_SECONDS < asyncio.get_running_loop().time()
        if (page or due) and not await self._advance(page, rows):
            return False
        self._trouble, self._failures = None, 0
        self._moved_to(page.upto)
        return True

    async def _advance(self, page: Page, rows: Sequence[State]) -> bool:
        if not await self._views.advance(
            self.name, before=self._saved, after=page.upto, table=self._follower.table, rows=rows
        ):
            return False
        self._saved = page.upto
        self._saved_at = asyncio.get_running_loop().time()
        return True

    async def _resume(self) -> None:
        """Begin at the saved checkpoint, which another process may have moved."""
        self._follower.forget()
        self._saved = await self._views.checkpoint(self.name)
        self._moved_to(self._saved)

    async def _pause(self, error: Exception) -> None:
        """Wait before trying again, longer each time."""
        seconds = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        self._trouble = error
        logger.warning("%s waits %s s: %s", self.name, seconds, error)
        await asyncio.sleep(seconds)

    def _moved_to(self, position: int) -> None:
        self.position = position
        self._moved.set()
        self._moved = asyncio.Event()

    def _fail(self, failed: EventFailed) -> None:
        stored, cause = failed.stored, failed.__cause__
        logger.error("%s stopped at position %s", self.name, stored.position, exc_info=cause)
        reason = str(cause) if isinstance(cause, RefoldError) else repr(cause)
        failure = SubscriptionFailed(
            f"{self.name} stopped at position {stored.position}, at {_a(stored.type)}: {reason.rstrip('.')}. "
            "It goes on from there when the cause is mended and the app starts again",
            subscription=self.name,
            position=stored.position,
        )
        failure.__cause__ = cause
        self._stopped(failure)

    def _stopped(self, failure: SubscriptionFailed) -> None:
        self.failure = failure
        self._moved.set()


def _a(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"
