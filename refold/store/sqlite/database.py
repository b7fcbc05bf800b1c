"""One SQLite file: one thread that writes to it, and connections that read.

All writes of a process go through one thread, which takes whatever has queued up, runs it in one transaction and
commits once: the disk is asked for durability once for many callers. Reads run on the caller's thread as long as they
are short, since a look-up takes less time than a change of threads; long ones are started over on a thread of a pool.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

import apsw
from msgspec import Struct

from refold.errors import StoreBusy, StoreClosed, StoreDamaged, StoreError, StoreReadOnly, WiringError
from refold.store.sqlite.failure import translated
from refold.store.sqlite.opening import check_owner, check_sqlite, connect, no_log, prepare
from refold.store.sqlite.turnstile import Turnstile

SYNCHRONOUS = {"durable": "EXTRA", "relaxed": "NORMAL"}
"""What each durability asks of SQLite. Relaxed never corrupts, but loses what came after the last checkpoint."""
BUSY = timedelta(seconds=5)
SHORT_READ = 100_000
"""How many instructions of SQLite's machine a read may take on the caller's thread: some milliseconds."""
GROUP = 20_000
"""How much work, in rows, one transaction takes on before others get their turn."""
READERS = 4

logger = logging.getLogger("refold.store")
T = TypeVar("T")
Item = TypeVar("Item", contravariant=True)


class Batch(Protocol[Item]):
    """Something that writes many items in one transaction, with what it remembers between transactions."""

    def run(self, connection: apsw.Connection, items: Sequence[Item]) -> list[object]:
        """Write the items; return a result for each, or the exception that only it deserves."""
        ...

    def settled(self, *, committed: bool) -> None:
        """Learn whether what was last run was committed."""
        ...


class _Job(Struct):
    batch: Batch[Any]
    item: Any
    cost: int
    future: asyncio.Future[Any]


class _Queued(Struct):
    """Jobs for which the writing thread waits until other processes let it write."""

    since: float
    jobs: list[_Job]


class _Each:
    """Runs functions that share a transaction but not their failures."""

    def run(self, connection: apsw.Connection, items: Sequence[Callable[[apsw.Connection], object]]) -> list[object]:
        results: list[object] = []
        for work in items:
            try:
                with connection:  # a savepoint
                    results.append(work(connection))
            except apsw.Error:
                raise
            except BaseException as error:
                results.append(error)
        return results

    def settled(self, *, committed: bool) -> None:
        """Remember nothing."""


class Database:
    """An open SQLite file, for one event loop."""

    def __init__(
        self,
        path: Path,
        *,
        durability: str = "durable",
        busy_timeout: timedelta = BUSY,
        vfs: str | None = None,
        create: bool = True,
    ) -> None:
        if durability not in SYNCHRONOUS:
            raise WiringError(f"there is no durability={durability!r}: it is {' or '.join(map(repr, SYNCHRONOUS))}")
        check_sqlite(apsw.sqlitelibversion())
        if not create and not path.exists():
            raise no_log(path)
        self.path = path = path.resolve()
        self._busy = busy_timeout.total_seconds()
        self._connect = partial(connect, path, synchronous=SYNCHRONOUS[durability], busy=busy_timeout, vfs=vfs)
        try:
            with translated(path), ExitStack() as undo:
                self._writer = self._connect()
                undo.callback(self._writer.close)
                check_owner(self._writer, path, create=create)
                self._turnstile = Turnstile(path)
                undo.callback(self._turnstile.close)
                prepare(self._writer, path, self._turnstile, busy_timeout)
                self._reader = self._open_reader()
                undo.pop_all()
        except OSError as error:
            raise StoreReadOnly(f"cannot open {path}: {error.strerror}") from error
        self._reader.set_busy_timeout(0)  # waiting is for other threads
        self._reader.set_progress_handler(lambda: True, SHORT_READ)
        self._idle: list[apsw.Connection] = []
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="refold-read")

        self.before_commit: Callable[[], None] | None = None
        """A failpoint for tests: called by the writing thread with everything written and nothing committed."""
        self._each = _Each()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._gathered: list[_Job] = []
        self._pending = 0
        self._queueing = threading.Lock()
        self._queued: _Queued | None = None
        self._patrol: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._unusable: StoreError | None = None
        self._broken: StoreError | None = None
        self._committed: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_all, name=f"refold-write {path.name}", daemon=True)
        self._thread.start()
        _OPEN.add(self)

    def on_commit(self, call: Callable[[], None]) -> None:
        """Have `call` called, on the loop, after every commit of this process."""
        self._committed.append(call)

    def submit(self, batch: Batch[Item], item: Item, cost: int = 1) -> "asyncio.Future[Any]":
        """Queue an item for the next transaction; the future is done when it is on disk, or failed.

        If the future is cancelled before the transaction has begun, nothing is written.
        """
        self._check_usable()
        if self._broken:
            raise _copy(self._broken)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending += 1
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(_Job(batch, item, cost, future))
        if self._patrol is None:
            self._patrol = self._loop.call_later(self._busy, self._look_after_queue)
        return future

    def _hand_over(self) -> None:
        """Give the writing thread at once what this turn of the loop has brought: it goes into one commit.

        Job by job it would wake with the first, commit that alone, and fight for the interpreter meanwhile.
        """
        for job in self._gathered:
            self._jobs.put(job)
        self._gathered.clear()

    async def write(self, work: Callable[[apsw.Connection], T], cost: int = 1) -> T:
        """Run a function in a transaction and commit it."""
        result: T = await self.submit(self._each, work, cost)
        return result

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run a function that only reads; it is started over if it takes long, so it must change nothing."""
        self._check_usable()
        try:
            with translated(self.path):
                return work(self._reader)
        except (apsw.InterruptError, StoreBusy):
            pass
        return await self.read_long(work)

    async def read_long(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run a function that only reads, on a thread of its own from the start."""
        self._check_usable()
        return await self._loop.run_in_executor(self._pool, self._read_apart, work)

    def version(self) -> int:
        """Return a number that changes whenever another connection, in any process, has committed."""
        self._check_usable()
        with translated(self.path):
            return int(self._reader.pragma("data_version"))

    async def close(self) -> None:
        """Write what is queued, then close every connection."""
        if self._closing is None:
            if self._unusable:  # inherited through a fork: the connections belong to the parent
                return
            self._unusable = StoreClosed(f"{self.path} is closed")
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)  # a caller that is cancelled does not leave it half closed

    def leave_to_parent(self) -> None:
        """Make it unusable in a forked child, which holds none of SQLite's locks, and leave the queue to the parent."""
        self._unusable = StoreClosed(f"{self.path} was opened before a fork; open it again in this process")
        self._turnstile.close()

    async def _close(self) -> None:
        _OPEN.discard(self)
        self._hand_over()
        self._jobs.put(None)
        while self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, self._busy)
            if self._give_up_overdue():
                logger.warning("%s: closed while another program held the file", self.path)
                return
        await asyncio.to_thread(self._pool.shutdown)
        for connection in (*self._idle, self._reader, self._writer):
            connection.close()
        self._turnstile.close()
        if self._patrol:
            self._patrol.cancel()

    def _check_usable(self) -> None:
        if self._unusable:
            raise _copy(self._unusable)
        if asyncio.get_running_loop() is not self._loop:
            raise WiringError(f"{self.path} was opened in another event loop; open another handle in this one")

    def _open_reader(self) -> apsw.Connection:
        connection = self._connect()
        connection.pragma("query_only", True)
        return connection

    def _read_apart(self, work: Callable[[apsw.Connection], T]) -> T:
        with translated(self.path):
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._open_reader()
            try:
                return work(connection)
            finally:
                self._idle.append(connection)

    def _write_all(self) -> None:
        """Write until closed: the body of the writing thread."""
        while jobs := self._take():
            outcomes = self._transact(jobs)
            with suppress(RuntimeError):  # the loop is gone, and with it everyone who waited
                self._loop.call_soon_threadsafe(self._deliver, jobs, outcomes)

    def _take(self) -> list[_Job]:
        """Wait for work, and take all that has queued up; nothing once closed."""
        job = self._jobs.get()
        jobs: list[_Job] = []
        cost = 0
        while job is not None:
            jobs.append(job)
            cost += job.cost
            if cost >= GROUP:
                break
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
        else:
            self._jobs.put(None)  # closed: for the next call
        return jobs

    def _transact(self, jobs: list[_Job]) -> list[object]:
        """Write jobs in one transaction; return a result or an exception for each."""
        try:
            return self._write(jobs)
        except BaseException as error:
            if isinstance(error, StoreDamaged):
                self._broken = StoreDamaged(f"{error} Nothing is written any more until it is opened again.")
                self._broken.__cause__ = error
            if len(jobs) == 1 or (isinstance(error, StoreError) and type(error) is not StoreError):
                return [_copy(error) for _ in jobs]
        return [outcome for job in jobs for outcome in self._transact([job])]  # one has spoilt it for all: find it

    def _write(self, jobs: list[_Job]) -> list[object]:
        if self._broken:  # also for what was queued before it broke
            raise self._broken
        self._wait_for_turn(jobs)
        with translated(self.path, self._writer), self._turnstile.held():
            with self._queueing:
                self._queued = None
                live = [index for index, job in enumerate(jobs) if not job.future.done()]  # nobody has given it up
            return self._write_now(jobs, live) if live else [None] * len(jobs)

    def _wait_for_turn(self, jobs: list[_Job]) -> None:
        with self._queueing:
            self._queued = _Queued(time.monotonic(), jobs)
        try:
            self._turnstile.enter()
        except OSError as error:
            self._queued = None
            raise StoreError(f"{self.path}: cannot queue with other processes: {error.strerror}") from error

    def _write_now(self, jobs: list[_Job], live: list[int]) -> list[object]:
        outcomes: list[object] = [None] * len(jobs)
        batches: dict[Batch[Any], list[int]] = {}
        for index in live:
            batches.setdefault(jobs[index].batch, []).append(index)
        committed = False
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for batch, indexes in batches.items():
                results = batch.run(self._writer, [jobs[index].item for index in indexes])
                for index, result in zip(indexes, results, strict=True):
                    outcomes[index] = result
            if self.before_commit:
                self.before_commit()
            self._writer.execute("COMMIT")
            committed = True
        finally:
            try:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            finally:
                for batch in batches:
                    self._settle(batch, committed)
        return outcomes

    def _settle(self, batch: Batch[Any], committed: bool) -> None:
        try:
            batch.settled(committed=committed)
        except Exception as error:  # what it remembers can no longer be trusted
            logger.exception("%s: nothing is written any more", self.path)
            self._broken = StoreError(f"{self.path}: nothing is written any more until it is opened again: {error!r}")

    def _deliver(self, jobs: list[_Job], outcomes: list[object]) -> None:
        self._pending -= len(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.future.done():
                continue
            if isinstance(outcome, StopIteration):  # no future may carry it
                job.future.set_exception(RuntimeError(repr(outcome)))
            elif isinstance(outcome, BaseException):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)
        for call in self._committed:
            call()

    def _look_after_queue(self) -> None:
        self._patrol = None
        if not self._give_up_overdue() and self._pending:
            self._patrol = self._loop.call_later(self._busy, self._look_after_queue)

    def _give_up_overdue(self) -> bool:
        """Give up, for their callers, the jobs that another process has kept too long from being written.

        The kernel's queue knows no time limit. The thread goes on waiting, and then leaves out what was given up.
        """
        with self._queueing:
            queued = self._queued
            if queued is None or time.monotonic() - queued.since < self._busy:
                return False
            for job in [*queued.jobs, *self._drain()]:
                if not job.future.done():
                    job.future.set_exception(StoreBusy(f"{self.path}: {StoreBusy.__doc__}"))
            return True

    def _drain(self) -> list[_Job]:
        jobs: list[_Job] = []
        with suppress(Empty):
            while job := self._jobs.get_nowait():
                jobs.append(job)
            self._jobs.put(None)
        self._pending -= len(jobs)
        return jobs


def _copy(error: BaseException) -> BaseException:
    """Return an exception for one of several who share a failure, so that none adds to another's traceback."""
    if not isinstance(error, StoreError):
        return error
    copy = type(error)(str(error), **error.data)
    copy.__cause__ = error.__cause__
    return copy


_OPEN: WeakSet[Database] = WeakSet()
_INHERITED: list[Database] = []
"""Kept for ever: closing them would close the parent's files."""


def _after_fork() -> None:
    for database in list(_OPEN):
        database.leave_to_parent()
        _INHERITED.append(database)
    _OPEN.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
