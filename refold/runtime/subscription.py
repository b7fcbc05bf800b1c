"""A subscription: something that follows the log, keeps its checkpoint, and can be waited for.

Of all the processes that run an app, one owns it at a time: see `refold.runtime.lease`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime

from refold.errors import (
    Conflict,
    NotKept,
    RefoldError,
    StoreClosed,
    StoreError,
    SubscriptionFailed,
    Unavailable,
    WaitTimeout,
)
from refold.runtime.books import REQUESTS, Books, Request
from refold.runtime.ending import ended
from refold.runtime.instruments import HANDLE_SECONDS, HANDLED, PAUSES, WRITING_SECONDS
from refold.runtime.lease import Lease, LeaseLost
from refold.runtime.owner import Owner
from refold.runtime.parking import Parking, said, told
from refold.runtime.telemetry import Telemetry, code_of, reading
from refold.runtime.worker import Alarm, Source, Worker
from refold.store.api import Page
from refold.view.api import Delete, Expect
from refold.view.table import Key

SAVE_SECONDS = 0.25
"""How long what is handled may stay unwritten while there is more to handle, and a checkpoint that has moved over
events of others only."""
RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)
"""Pauses after the store failed; the last one repeats."""
CLOCK_SECONDS = 1.0
"""How long a timer is slept for at most, since the clock may be set."""
POLL_SECONDS = 0.02
"""How often who waits for a position looks at the checkpoint of another process."""
WRITE_SECONDS = 0.05
"""How long one write should take: it holds up those of others."""
BATCH, FIRST_BATCH, LEAST_BATCH = 20_000, 2_000, 200
"""How many rows one write may have: at most, to begin with, and at least. What makes them holds up the whole app."""
STOP_SECONDS = 2.0
"""After so long what is being stopped is told once more; what is being written should be written by then."""
LARGE_PAGE, MORE_SECONDS = 200, 0.05
"""After a page of so many events behind which there are more, how long is waited for the next one."""

logger = logging.getLogger("refold.subscription")


class Subscription:
    """Runs a worker from its checkpoint to the head, and on as the log grows; or to a position, and ends there."""

    def __init__(
        self,
        name: str,
        worker: Worker,
        store: Source,
        books: Books,
        owner: Owner,
        *,
        until: int | None = None,
        timers: Alarm | None = None,
        begin: int = 0,
        step: int = 0,
        while_: Expect | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Run until a position, if one is given; begin after one, when it is run for the first time, and only while
        something is so; and write how far it has come after each step of so many events, if it should not repeat more.
        """  # noqa: D205
        self.name = name
        self.of = name.partition("@")[0]
        """The projection, process or border that it belongs to."""
        self.position = 0
        """How far it has come: everything up to here is handled."""
        self.failure: SubscriptionFailed | None = None
        """Why it has stopped for good, for everybody."""
        self.why = ""
        """The same with what the program says, which is for operators."""
        self._telemetry = telemetry or Telemetry("")
        self.parking = Parking(name, books, self._telemetry)
        self.books = books
        self._worker = worker
        self._store = store
        self.until = until
        """The position at which it ends, if it does."""
        self._timers = timers
        self._listens = False
        """Whether it knows what is due, and is not just doing it."""
        self._ring_at: int | None = None
        """What was recorded up to here comes before the timers that are due."""
        self._step = step
        self._lease = Lease(name, books, owner, begin, while_)
        self._batch = min(BATCH, FIRST_BATCH)
        self._careful = 0
        """Up to where each event is written by itself, since a batch could not be written."""
        self._failures = 0
        self._trouble = ""
        self._moved = asyncio.Event()
        self._kicked = asyncio.Event()
        self._requests: dict[Key, Request] = {}
        """What was asked and is not begun, by the keys of its rows: it is heard again until they are gone."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take it on if it is free, and begin to follow."""
        self._moved_to(await self._lease.claim_if_free())
        self._task = asyncio.create_task(self._run(), name=f"refold {self.name}")

    async def stop(self) -> None:
        """Stop, leaving what is under way for the next time, and give it up, so that others can go on at once."""
        if self._task is not None:
            await ended(self._task, STOP_SECONDS)
            self._task = None
        await self._release()

    @property
    def owned(self) -> bool:
        """Whether this app runs it."""
        return self._lease.row is not None

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
                    await self._more()
        except TimeoutError:
            trouble = f". It is held up: {self._trouble}" if self._trouble else ""
            raise late(self.name, self.position, position, seconds or 0, trouble) from None

    async def ended(self) -> None:
        """Wait until it has come to the position up to which it runs; raise `SubscriptionFailed` if it stops before."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self.failure is not None:
            raise SubscriptionFailed(str(self.failure), **self.failure.data) from self.failure.__cause__

    async def rung(self) -> None:
        """Wait until nothing is due here, by the clock of the app, that is not done or parked.

        What the program before could not read is due when this one has taken it on.
        """
        while self.owned and self.failure is None:
            idle = self._timers is None or (self._listens and self._timers.seconds() != 0)
            if idle and not self.parking.taken_on:
                break
            self._kicked.set()
            await asyncio.sleep(POLL_SECONDS / 4)

    async def ask(self, requests: Sequence[Request]) -> None:
        """Take on what others ask of the owner of this subscription."""
        if not self.owned:
            return
        self._requests |= {REQUESTS.key_of(each): each for each in requests if each.action != "beat"}
        if self._requests:
            self._kicked.set()
        try:
            await self._lease.beat(asked=any(each.action == "beat" for each in requests))
        except LeaseLost:
            self._kicked.set()  # and so it will find out

    async def _more(self) -> None:
        """Wait until it may have come further."""
        if self.owned or self.failure is not None:
            await self._moved.wait()
            return
        row = await self.books.checkpoint(self.name)
        if row is not None and row.position > self.position:
            self._moved_to(row.position)
            return
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._moved.wait()
        except TimeoutError:
            stopped = "who ran it has stopped, and operators see why" if row and row.trouble else ""
            self._trouble = stopped if row else "it has not begun"

    async def _run(self) -> None:
        while self.failure is None:
            try:
                await self._lease.claim(self._moved_to)
                logger.info("%s goes on behind position %s", self.name, self.position, extra=self._about())
                if await self._follow():
                    break
            except LeaseLost:
                logger.warning("%s was taken over by another process", self.name, extra=self._about())
            except StoreClosed:
                text = f"{self.name} stopped after position {self.position}: the log was closed"
                self._stopped(SubscriptionFailed(text))
            except (SubscriptionFailed, NotKept) as error:
                self._stopped(SubscriptionFailed(str(error), **error.data))
            except (StoreError, Conflict, Unavailable) as error:
                await self._pause(error)
            except _Unwritten as unwritten:
                self._careful = unwritten.upto
            except Exception as error:
                logger.exception("%s stopped", self.name, extra=self._about(error))
                stopped = f"{self.name} stopped after position {self.position}"
                failure = SubscriptionFailed(f"{stopped}: {told(error)}", subscription=self.name)
                failure.__cause__ = error
                self._stopped(failure, f"{stopped}: {said(error)}")
        await self._release()

    async def _follow(self) -> bool:
        """Handle what there is and what comes, writing one batch while the next one is handled; return at the end."""
        start = self._lease.mine().position
        self._listens = False
        await self.parking.load()
        self._worker.forget()
        self._ring_at = None
        if self._timers is not None:
            await self._timers.load()
        self._listens = True
        self._moved_to(start)
        pages = self._pages(start)
        coming = asyncio.ensure_future(anext(pages, None))
        batch, saving = _Batch(start), None
        try:
            while not batch.ended:
                await self._something(None if batch.cost >= self._batch else coming, saving, late=batch.upto)
                if saving is not None and saving.done():
                    await saving
                    saving = None
                if self._is_due() or await self._rings(batch.upto):
                    # Their turn comes between two writes, however much there is to handle.
                    if saving is not None:
                        await saving
                        saving = None
                    if batch.cost:
                        await self._save(batch.upto, batch.cost)
                        batch.cost = 0
                    if self._is_due():
                        await self._retry()
                    await self._ring(batch.upto)
                while coming.done() and batch.cost < self._batch and not batch.ended:
                    page = coming.result()
                    if page is None:
                        batch.ended = True
                        break
                    if page.upto <= self._careful or (page and page[0].position <= self._careful):
                        await self._handle_carefully(page)
                    elif self._step:
                        await self._handle_in_steps(page)
                    else:
                        batch.cost += await self._handle(page)
                    batch.upto = page.upto
                    # Not before: two threads that both want the interpreter are slower than one after the other.
                    coming = asyncio.ensure_future(anext(pages, None))
                    # What lies ready goes into the same batch; in the middle of a log there is more to come.
                    more = len(page) >= LARGE_PAGE and await self._store.head() > page.upto
                    await asyncio.wait([coming], timeout=MORE_SECONDS if more else 0)
                    if (saving is None or saving.done()) and (self._is_late(batch.upto) or self._is_due()):
                        break
                if saving is None:
                    if batch.cost or self._is_late(batch.upto):
                        saving = asyncio.create_task(self._save(batch.upto, batch.cost))
                        batch.cost = 0
                    else:
                        self._moved_to(batch.upto)
            if saving is not None:
                await saving
            await self._save(batch.upto, batch.cost)
        finally:
            await ended(coming, STOP_SECONDS / 5)
            if saving is not None:  # what is being written is written, even if this is cancelled
                await asyncio.gather(saving, return_exceptions=True)
            if isinstance(pages, AsyncGenerator):
                await pages.aclose()
        return True

    def _pages(self, after: int) -> AsyncIterator[Page]:
        if self.until is None:
            return self._store.follow(self._worker.query, after=after)
        return self._store.read(self._worker.query, after=after, upto=max(self.until, after))

    async def _something(
        self, coming: "asyncio.Future[Page | None] | None", saving: "asyncio.Task[None] | None", *, late: int
    ) -> None:
        """Wait until a page has come, a batch is written, somebody asks for something, or it is time for something."""
        seconds: list[float] = []
        if late > self._lease.mine().position and saving is None:
            seconds.append(self._lease.written_at + SAVE_SECONDS - _now())
        if self.parking.due is not None:
            seconds.append((self.parking.due - datetime.now(UTC)).total_seconds())
        if self._ring_at is not None:
            # What had to come before the timers that are due has just been handled: it is their turn.
            seconds += [0.0] if late >= self._ring_at else []
        elif self._timers is not None and (due := self._timers.seconds()) is not None:
            seconds.append(min(due, CLOCK_SECONDS))
        kicked = asyncio.ensure_future(self._kicked.wait())
        try:
            await asyncio.wait(
                [each for each in (kicked, coming, saving) if each is not None],
                timeout=max(min(seconds), 0) if seconds else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            kicked.cancel()
            self._kicked.clear()

    def _is_late(self, upto: int) -> bool:
        """Tell whether it is time to write how far it has come."""
        return upto > self._lease.mine().position and _now() >= self._lease.written_at + SAVE_SECONDS

    def _is_due(self) -> bool:
        """Tell whether something parked is to be tried again."""
        return bool(self._requests) or (self.parking.due is not None and self.parking.due <= datetime.now(UTC))

    async def _retry(self) -> None:
        requests, self._requests = self._requests, {}
        await self.parking.retry(self._store, list(requests.values()), self._worker, self._timers, self._lease.write)
        if requests:
            await self.books.write(Delete(REQUESTS, list(requests)))

    async def _rings(self, upto: int) -> bool:
        """Tell whether it is the turn of timers: some are due, and the events are handled that were recorded before."""
        if self._timers is None or self._timers.seconds() != 0:
            self._ring_at = None
            return False
        if self._ring_at is None:
            self._ring_at = await self._store.head()
        return upto >= self._ring_at

    async def _ring(self, upto: int) -> None:
        """Do what is due, when it is its turn."""
        while self._timers is not None and await self._rings(upto):
            self._listens = False
            writes = await self._timers.fire(self.parking, upto)
            parked = self.parking.take()
            await self._lease.write([*writes, *parked])
            self._listens, self._ring_at = True, None
            if parked:
                self.parking.check()

    async def _handle_carefully(self, page: Page) -> None:
        """Handle and write one event after the other, so that the one is found that leads to what cannot be written."""
        for stored in page:
            await self._handle(Page([stored], stored.position))
            try:
                await self._save(stored.position, 0)
            except _Unwritten as unwritten:
                self._worker.forget()
                self._worker.refuse(stored, self.parking, unwritten.error)
                await self._save(stored.position, 0)

    async def _handle_in_steps(self, page: Page) -> None:
        """Handle and write a few events at a time."""
        for start in range(0, len(page), self._step):
            part = page[start : start + self._step]
            await self._handle(Page(part, part[-1].position))
            await self._save(part[-1].position, 0)

    async def _handle(self, page: Page) -> int:
        """Have a page handled, and return what there is to write; of a projection that is one span, of all others each
        event is.
        """  # noqa: D205
        if not page:
            return await self._worker.handle(page, self.parking)
        start, figures, parked = _now(), self._telemetry.figures, self.parking.untaken
        if self.of == self.name:
            cost = await self._worker.handle(page, self.parking)
        else:
            with self._telemetry.span_of(page, f"project {self.of}", "consumer", reading("project", self.of)):
                cost = await self._worker.handle(page, self.parking)
        figures.count(HANDLED, self.of, by=len(page))
        figures.time(HANDLE_SECONDS, self.of, seconds=_now() - start)
        return cost + self.parking.untaken - parked

    async def _save(self, upto: int, cost: int) -> None:
        """Write what a batch has changed, with the checkpoint."""
        start = _now()
        try:
            parked = self.parking.take()
            await self._lease.write([*self._worker.take(), *parked], upto)
        except (RefoldError, LeaseLost):
            raise
        except Exception as error:  # a value that the database cannot hold
            raise _Unwritten(upto, error) from error
        seconds = _now() - start
        self._telemetry.figures.time(WRITING_SECONDS, self.of, seconds=seconds)
        if cost >= self._batch // 2 and seconds > WRITE_SECONDS:
            self._batch = max(self._batch // 2, LEAST_BATCH)
        elif seconds < WRITE_SECONDS / 2:
            self._batch = min(self._batch * 2, BATCH)
        self._failures, self._trouble = 0, ""
        self._moved_to(upto)
        if parked:
            self.parking.check()

    async def _release(self) -> None:
        """Give it up, with a checkpoint that also stands where it has only passed over events of others."""
        try:
            await self._lease.release(0 if self.failure else self.position, self.why)
        except (StoreError, NotKept) as error:
            logger.warning(
                "%s could not save that it is at %s: %s", self.name, self.position, error, extra=self._about(error)
            )

    async def _pause(self, error: Exception) -> None:
        """Wait before trying again, longer each time."""
        seconds = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        self._trouble = told(error)
        cause = f" ({said(error.__cause__)})" if error.__cause__ is not None else ""
        self._telemetry.figures.count(PAUSES, self.of, code_of(error))
        logger.warning("%s waits %s s: %s%s", self.name, seconds, error, cause, extra=self._about(error))
        await asyncio.sleep(seconds)
        await self._lease.refresh()

    def _about(self, error: Exception | None = None) -> dict[str, str | int]:
        """Return what a log record of it is about."""
        code = {} if error is None else {"code": code_of(error)}
        return self._telemetry.about(subscription=self.of, position=self.position, **code)

    def _moved_to(self, position: int) -> None:
        self.position = position
        self._moved.set()
        self._moved = asyncio.Event()

    def _stopped(self, failure: SubscriptionFailed, why: str = "") -> None:
        logger.error("%s", failure, extra=self._about(failure))
        self.failure, self.why = failure, why or str(failure)
        self._moved.set()


class _Unwritten(Exception):
    """What a batch led to cannot be written, and that will not pass."""

    def __init__(self, upto: int, error: Exception) -> None:
        super().__init__(upto)
        self.upto = upto
        self.error = error


class _Batch:
    """What was handled and is not written yet."""

    def __init__(self, upto: int) -> None:
        self.upto = upto
        self.cost = 0
        self.ended = False


def late(name: str, stands: int, position: int, seconds: float, why: str) -> WaitTimeout:
    """Return the error of a wait that took too long; it says how far it is, and why."""
    return WaitTimeout(
        f"{name} is at position {stands} after {seconds:g} s, {position - stands} short of {position}{why}",
        subscription=name,
        position=stands,
        why=why,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
