"""One SQLite file: opening it safely, one thread that writes to it, and connections that read.

All writes of a process go through one thread, which takes whatever has queued up, runs it in one transaction and
commits once: the disk is asked for durability once for many callers. Reads run on the caller's thread as long as they
are short, since a look-up takes less time than a change of threads; long ones are started over on a thread of a pool.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

import apsw
from msgspec import Struct

from refold.errors import (
    NotAStore,
    RefoldError,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreTooNew,
    UnsafeDriver,
)
from refold.store.sqlite.turnstile import Turnstile

APPLICATION_ID = 0x5265666F  # "Refo"
MIGRATIONS: tuple[str, ...] = ((Path(__file__).parent / "schema.sql").read_text(),)
"""Script n brings a file from schema version n to n + 1; a new file is at version 0."""

SAFE_SQLITE = (3, 51, 3)
"""Earlier ones can lose committed pages when two connections meet at a WAL reset."""
SYNCHRONOUS = {"durable": "EXTRA", "relaxed": "NORMAL"}
"""What each durability asks of SQLite. Relaxed never corrupts, but loses what came after the last checkpoint."""
BUSY_MS = 5_000
SHORT_READ = 100_000
"""How many instructions of SQLite's machine a read may take on the caller's thread: some milliseconds."""
GROUP = 20_000
"""How much work, in rows, one transaction takes on before others get their turn."""
READERS = 4

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
            except Exception as error:
                results.append(error)
        return results

    def settled(self, *, committed: bool) -> None:
        """Remember nothing."""


class Database:
    """An open SQLite file, for one event loop."""

    def __init__(self, path: Path, *, durability: str = "durable") -> None:
        self.path = path = path.absolute()
        self._synchronous = SYNCHRONOUS[durability]
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._each = _Each()
        self._closed = False
        self._broken: StoreError | None = None
        self._committed: list[Callable[[], None]] = []
        self.before_commit: Callable[[], None] | None = None
        """A failpoint for tests: called by the writing thread with everything written and nothing committed."""
        check_sqlite(apsw.sqlitelibversion())
        try:
            with translated(path):
                self._writer = _open(path, self._synchronous)
                _check_owner(self._writer, path)
                self._turnstile = Turnstile(path)
                with self._turnstile:
                    self._writer.pragma("journal_mode", "wal")
                    _migrate(self._writer, path)
                _sync_folder(path)
                self._reader = self._connect()
                self._reader.set_progress_handler(lambda: True, SHORT_READ)
        except OSError as error:
            raise StoreReadOnly(f"cannot open {path}: {error.strerror}") from error
        self._idle: list[apsw.Connection] = []
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="refold-read")
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_all, name=f"refold-write {path.name}", daemon=True)
        self._thread.start()

    def on_commit(self, call: Callable[[], None]) -> None:
        """Have `call` called, on the loop, after every commit of this process."""
        self._committed.append(call)

    def submit(self, batch: Batch[Item], item: Item, cost: int = 1) -> "asyncio.Future[Any]":
        """Queue an item for the next transaction; the future is done when it is on disk, or failed."""
        self._check_usable()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put(_Job(batch, item, cost, future))
        return future

    async def write(self, work: Callable[[apsw.Connection], T], cost: int = 1) -> T:
        """Run a function in a transaction and commit it."""
        result: T = await self.submit(self._each, work, cost)
        return result

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run a function that only reads; it is started over if it takes long, so it must change nothing."""
        if self._closed:
            raise StoreClosed(f"{self.path} is closed")
        try:
            with translated(self.path):
                return work(self._reader)
        except apsw.InterruptError:
            return await self._loop.run_in_executor(self._pool, self._read_apart, work)

    async def read_long(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run a function that only reads, on a thread of its own from the start."""
        if self._closed:
            raise StoreClosed(f"{self.path} is closed")
        return await self._loop.run_in_executor(self._pool, self._read_apart, work)

    def version(self) -> int:
        """Return a number that changes whenever another connection, in any process, has committed."""
        with translated(self.path):
            return int(self._reader.pragma("data_version"))

    async def close(self) -> None:
        """Write what is queued, then close every connection."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._pool.shutdown()
        for connection in (*self._idle, self._reader, self._writer):
            connection.close()
        self._turnstile.close()

    def _check_usable(self) -> None:
        if self._closed:
            raise StoreClosed(f"{self.path} is closed")
        if self._broken:
            raise StoreDamaged(f"{self._broken} Nothing is written any more until it is opened again.")

    def _connect(self) -> apsw.Connection:
        connection = _open(self.path, self._synchronous)
        connection.pragma("query_only", True)
        return connection

    def _read_apart(self, work: Callable[[apsw.Connection], T]) -> T:
        with translated(self.path):
            connection = self._idle.pop() if self._idle else self._connect()
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
            if not jobs:
                return []
        return jobs

    def _transact(self, jobs: list[_Job]) -> list[object]:
        """Write jobs in one transaction; return a result or an exception for each."""
        batches: dict[Batch[Any], list[int]] = {}
        for index, job in enumerate(jobs):
            batches.setdefault(job.batch, []).append(index)
        outcomes: list[object] = [None] * len(jobs)
        committed = False
        try:
            with translated(self.path), self._turnstile:
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
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
        except Exception as error:
            if isinstance(error, StoreDamaged):
                self._broken = error
            outcomes = [_copy(error) for _ in jobs]
        for batch in batches:
            batch.settled(committed=committed)
        return outcomes

    def _deliver(self, jobs: list[_Job], outcomes: list[object]) -> None:
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.future.done():
                continue
            if isinstance(outcome, BaseException):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)
        for call in self._committed:
            call()


class translated:  # noqa: N801 - reads as a word in `with translated(path):`
    """Turns what SQLite raises into a `StoreError` that says what to do; an interrupted read passes through."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, apsw.Error) or isinstance(error, apsw.InterruptError):
            return
        for raised, translation in _TRANSLATIONS.items():
            if isinstance(error, raised):
                raise translation(f"{self._path}: {translation.__doc__} ({error})") from error
        raise StoreError(f"{self._path}: {error}") from error


_TRANSLATIONS: dict[type[apsw.Error], type[StoreError]] = {
    apsw.BusyError: StoreBusy,
    apsw.LockedError: StoreBusy,
    apsw.FullError: StoreFull,
    apsw.ReadOnlyError: StoreReadOnly,
    apsw.CantOpenError: StoreReadOnly,
    apsw.PermissionsError: StoreReadOnly,
    apsw.NotADBError: NotAStore,
    apsw.CorruptError: StoreDamaged,
    apsw.IOError: StoreDamaged,
}


def check_sqlite(version: str) -> None:
    """Refuse a SQLite that is known to lose committed data."""
    if tuple(int(part) for part in version.split(".")[:3]) < SAFE_SQLITE:
        safe = ".".join(map(str, SAFE_SQLITE))
        raise UnsafeDriver(
            f"this apsw brings SQLite {version}, and those before {safe} can lose committed pages (the WAL-reset "
            "race). Upgrade: pip install --upgrade apsw"
        )


def _open(path: Path, synchronous: str) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_MS)
    # Before the first page is written: EXTRA also syncs the folder, so that no power cut brings back the journal of
    # the file's creation and with it an empty log.
    connection.pragma("synchronous", synchronous)
    connection.pragma("mmap_size", 0)
    connection.pragma("journal_size_limit", 64 << 20)
    connection.pragma("foreign_keys", True)
    connection.pragma("trusted_schema", False)
    connection.pragma("cell_size_check", True)
    return connection


def _check_owner(connection: apsw.Connection, path: Path) -> None:
    """Refuse a file of another program, and one of a newer Refold."""
    owner, version = connection.pragma("application_id"), connection.pragma("user_version")
    if owner != APPLICATION_ID and (owner or connection.pragma("schema_version")):
        raise NotAStore(f"{path} is a SQLite database of another program; choose another file for the log")
    if version > len(MIGRATIONS):
        raise StoreTooNew(
            f"{path} has schema version {version}; this Refold knows {len(MIGRATIONS)}. Upgrade Refold to open it"
        )


def _migrate(connection: apsw.Connection, path: Path) -> None:
    """Bring the file to the schema of this program, all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        _check_owner(connection, path)
        for script in MIGRATIONS[connection.pragma("user_version") :]:
            connection.execute(script)
        connection.pragma("user_version", len(MIGRATIONS))
        connection.pragma("application_id", APPLICATION_ID)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _sync_folder(path: Path) -> None:
    """Make the file's name durable too."""
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _copy(error: Exception) -> Exception:
    """Return an exception for one of several who share a failure, so that none adds to another's traceback."""
    if isinstance(error, RefoldError):
        copy = type(error)(str(error), **error.data)
        copy.__cause__ = error.__cause__
        return copy
    return error
