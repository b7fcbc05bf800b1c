"""A disk that is full, that fails, a file that is held: an error that says so, nothing lost, and usable afterwards."""

import asyncio
import fcntl
import resource
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TypeAlias

import apsw
import pytest

from refold.errors import StoreBusy, StoreDamaged, StoreError, StoreFull, StoreReadOnly
from refold.model.query import Query
from refold.model.record import NewEvent
from refold.store.sqlite import SqliteStore
from refold.testing.faults import FaultyDisk, failing, nothing

SOON = timedelta(milliseconds=100)
EVENT = NewEvent("T", b"x" * 3_000, ("a", "b"))
numbers = count()


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk(f"faulty-{next(numbers)}")


@pytest.fixture
async def store(tmp_path: Path, disk: FaultyDisk) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "log.db", vfs=disk.name, busy_timeout=SOON)
    await store.append([EVENT])
    yield store
    disk.before = nothing
    await store.close()


async def positions(store: SqliteStore, query: Query = Query()) -> list[int]:
    return [event.position async for page in store.read(query) for event in page]


def sound(path: Path) -> bool:
    return bool(apsw.Connection(str(path)).pragma("integrity_check") == "ok")


# Full

Full: TypeAlias = Callable[[Path], AbstractContextManager[None]]


@contextmanager
def at_a_limit(folder: Path) -> Iterator[None]:
    """Let no file of this process grow beyond what the log has now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def with_a_big_neighbour(folder: Path) -> Iterator[None]:
    """Fill the disk but for a few pages."""
    neighbour = folder / "neighbour"
    with neighbour.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - (64 << 10))
    yield
    neighbour.unlink()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 4 MB, where we may mount one."""
    folder = Path(tempfile.mkdtemp())
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("mounting is not allowed here; the limit on file sizes stands in for a full disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # also after a failure, with files open
    folder.rmdir()


async def fill_and_free(folder: Path, full: Full) -> None:
    store = await SqliteStore.open(folder / "log.db")
    acknowledged = 0
    with full(folder):
        with pytest.raises(StoreFull, match="No space is left") as raised:  # noqa: PT012
            while acknowledged < 10_000:
                acknowledged = (await store.append([EVENT] * 3)).last
        assert "nothing was written" in str(raised.value)
        with pytest.raises(StoreFull):
            await store.append([EVENT] * 100)
        assert await positions(store) == [*range(1, acknowledged + 1)]  # reading goes on
        assert await positions(store, Query.of(tags="a")) == [*range(1, acknowledged + 1)]
    assert acknowledged
    assert (await store.append([EVENT])).first == acknowledged + 1  # and so does writing, without a restart
    await store.close()
    assert sound(folder / "log.db")


async def test_a_file_at_its_limit_is_full_until_there_is_room(tmp_path: Path) -> None:
    await fill_and_free(tmp_path, at_a_limit)


async def test_a_full_disk_is_full_until_there_is_room(small_disk: Path) -> None:
    await fill_and_free(small_disk, with_a_big_neighbour)


@pytest.mark.parametrize("events", [0, 1], ids=["new file", "file with events"])
async def test_a_disk_without_any_room_is_full_already_when_opening(small_disk: Path, events: int) -> None:
    path = small_disk / "log.db"
    if events:
        store = await SqliteStore.open(path)
        await store.append([EVENT])
        await store.close()
    neighbour = small_disk / "neighbour"
    with neighbour.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):  # noqa: PT012
        while True:
            file.write(bytes(4096))
    with pytest.raises(StoreFull):
        await SqliteStore.open(path)
    neighbour.unlink()
    store = await SqliteStore.open(path)
    assert (await store.append([EVENT])).first == 1 + events
    await store.close()
    assert sound(path)


@pytest.mark.parametrize(
    ("result", "expected"),
    [(apsw.SQLITE_FULL, StoreFull), (apsw.SQLITE_READONLY, StoreReadOnly)],
    ids=["full", "read-only"],
)
async def test_each_write_may_find_the_disk_full(
    store: SqliteStore, disk: FaultyDisk, tmp_path: Path, result: int, expected: type[StoreError]
) -> None:
    head = 1
    for nth in range(1_000):
        writes = count()

        def fail(action: str, file: str, nth: int = nth, writes: Iterator[int] = writes) -> None:
            if action == "write" and file.endswith("-wal") and next(writes) >= nth:
                raise apsw.exception_for(result)

        disk.before = fail
        try:
            head = (await store.append([EVENT] * 3, append_id=f"{nth}")).last
            break
        except expected:
            assert await positions(store) == [1]
            assert await store.appended(f"{nth}") is None
    assert nth > 3, "an append writes more than that"
    disk.before = nothing
    assert await positions(store, Query.of(tags="b")) == [*range(1, head + 1)]
    await store.close()
    assert sound(tmp_path / "log.db")


# Failing


@pytest.mark.parametrize("result", [apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_WRITE], ids=["sync", "write"])
async def test_after_an_io_error_nothing_is_acknowledged_until_it_is_opened_again(
    store: SqliteStore, disk: FaultyDisk, tmp_path: Path, result: int
) -> None:
    disk.before = failing("sync" if result == apsw.SQLITE_IOERR_FSYNC else "write", result, file="-wal")
    first = asyncio.create_task(store.append([EVENT]))
    await asyncio.sleep(0)
    queued = [asyncio.create_task(store.append([EVENT])) for _ in range(3)]
    with pytest.raises(StoreDamaged, match="its disk failed"):
        await first
    disk.before = nothing  # "works again": what the kernel dropped stays dropped
    with pytest.raises(StoreDamaged):
        await store.append([EVENT])
    for task in queued:
        with pytest.raises(StoreDamaged):
            await task
    assert await positions(store) == [1]  # reading goes on
    with pytest.raises(StoreDamaged, match="Nothing is written any more until it is opened again"):
        await store.append([EVENT])
    await store.close()

    again = await SqliteStore.open(tmp_path / "log.db")
    assert (await positions(again))[:1] == [1]  # what was not acknowledged may be there, or not
    await again.append([EVENT])
    await again.close()
    assert sound(tmp_path / "log.db")


async def test_what_was_queued_when_the_disk_failed_is_not_acknowledged(store: SqliteStore, disk: FaultyDisk) -> None:
    queued: list[asyncio.Task[object]] = []
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()

    def fail_once(action: str, file: str) -> None:
        if action == "sync":
            asyncio.run_coroutine_threadsafe(queue(), loop).result()
            disk.before = nothing
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)

    async def queue() -> None:
        queued.append(asyncio.create_task(store.append([EVENT])))
        await asyncio.sleep(0)
        ready.set()

    disk.before = fail_once
    with pytest.raises(StoreDamaged):
        await store.append([EVENT])
    await ready.wait()
    with pytest.raises(StoreDamaged):
        await queued[0]
    assert await positions(store) == [1]


# Held by another program


async def test_a_file_locked_by_another_program_is_busy_for_a_while(store: SqliteStore, tmp_path: Path) -> None:
    other = apsw.Connection(str(tmp_path / "log.db"))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy, match="Another program holds the store's file"):
        await store.append([EVENT])
    assert await positions(store) == [1]
    another = await SqliteStore.open(tmp_path / "log.db", busy_timeout=SOON)  # to read it, no lock is needed
    assert await positions(another) == [1]
    with pytest.raises(StoreBusy):
        await another.append([EVENT])
    other.execute("ROLLBACK")
    other.close()
    assert (await store.append([EVENT])).first == 2
    assert (await another.append([EVENT])).first == 3
    await another.close()


async def test_a_new_file_locked_by_another_program_is_busy(tmp_path: Path) -> None:
    other = apsw.Connection(str(tmp_path / "log.db"))
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreBusy):
        await SqliteStore.open(tmp_path / "log.db", busy_timeout=SOON)
    other.close()
    await (await SqliteStore.open(tmp_path / "log.db")).close()


@contextmanager
def suspended_in_its_turn(path: Path) -> Iterator[None]:
    """Hold the turn, as a process does that was stopped with Ctrl-Z in the middle of a commit."""
    with path.with_name(f"{path.name}-turn").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


async def test_a_process_suspended_in_its_turn_makes_the_others_busy_not_hang(
    store: SqliteStore, tmp_path: Path
) -> None:
    with suspended_in_its_turn(tmp_path / "log.db"):
        appends = [store.append([EVENT], append_id=f"{n}") for n in range(3)]
        results = await asyncio.gather(*appends, return_exceptions=True)
        assert [type(result) for result in results] == [StoreBusy] * 3
        with pytest.raises(StoreBusy):
            await store.append([EVENT])
        another = await SqliteStore.open(tmp_path / "log.db", busy_timeout=SOON)
        assert await positions(another) == [1]
        await another.close()
    assert (await store.append([EVENT])).first == 2
    assert await positions(store) == [1, 2]  # what was given up was not written later
    assert await store.appended("0") is None


async def test_closing_does_not_wait_for_a_suspended_process(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = await SqliteStore.open(path, busy_timeout=SOON)
    with suspended_in_its_turn(path):
        append = asyncio.create_task(store.append([EVENT]))
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(StoreBusy):
            await append
    store = await SqliteStore.open(path)
    assert await positions(store) == []
    await store.close()


async def test_creating_a_file_does_not_wait_for_a_suspended_process(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with suspended_in_its_turn(path), pytest.raises(StoreBusy):
        await SqliteStore.open(path, busy_timeout=SOON)
    await (await SqliteStore.open(path)).close()
