"""The writing thread, the reading threads and the loop: what is cancelled, closed, forked or raised between them."""

import asyncio
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import apsw
import pytest

from refold.errors import StoreClosed, StoreError, WiringError
from refold.model.query import Query
from refold.model.record import NewEvent
from refold.store.sqlite import SqliteStore, database
from refold.store.sqlite.database import Database

EVENT = NewEvent("T", b"{}", ("a",))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "log.db")
    yield store
    await store.close()


async def head(store: SqliteStore) -> int:
    return sum([len(page) async for page in store.read()])


class Gate:
    """Holds the writing thread just before it commits."""

    def __init__(self, store: SqliteStore) -> None:
        self._loop = asyncio.get_running_loop()
        self.reached = asyncio.Event()
        self._open = threading.Event()
        store.database.before_commit = self._hold

    def _hold(self) -> None:
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self._open.wait(60)

    def open(self) -> None:
        self._open.set()


# Cancelling


async def test_an_append_cancelled_while_it_is_queued_is_not_written(store: SqliteStore) -> None:
    gate = Gate(store)
    first = asyncio.create_task(store.append([EVENT]))
    await gate.reached.wait()
    second = asyncio.create_task(store.append([EVENT], append_id="second"))
    third = asyncio.create_task(store.append([EVENT]))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    gate.open()
    assert (await first).last == 1
    assert (await third).last == 2
    assert await store.appended("second") is None


async def test_an_append_cancelled_while_it_is_written_leaves_the_store_as_it_should_be(store: SqliteStore) -> None:
    gate = Gate(store)
    task = asyncio.create_task(store.append([EVENT] * 3, append_id="cut off"))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open()
    assert (await store.append([EVENT])).first == 4
    assert (await store.append([EVENT] * 3, append_id="cut off")).last == 3  # how a caller finds out


# Closing


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "log.db")
    await store.append([EVENT])
    reading = store.read()
    await store.close()
    calls: list[Callable[[], object]] = [
        lambda: store.append([EVENT]),
        lambda: store.appended("a"),
        lambda: store.head(),
        lambda: anext(store.read()),
        lambda: anext(reading),
        lambda: anext(store.follow()),
        lambda: store.database.write(lambda connection: None),
    ]
    for call in calls:
        with pytest.raises(StoreClosed, match=r"log\.db is closed"):
            await call()  # type: ignore[misc]
    await store.close()


async def test_closing_writes_what_is_queued_and_all_who_close_wait(tmp_path: Path) -> None:
    others = threading.enumerate()
    store = await SqliteStore.open(tmp_path / "log.db")
    gate = Gate(store)
    appends = [asyncio.create_task(store.append([EVENT])) for _ in range(5)]
    await gate.reached.wait()
    closing = [asyncio.create_task(store.close()) for _ in range(3)]
    await asyncio.sleep(0)
    closing[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing[0]
    assert not any(each.done() for each in closing[1:])
    gate.open()
    await asyncio.gather(*closing[1:])
    assert sorted([(await each).last for each in appends]) == [1, 2, 3, 4, 5]
    assert not [each for each in threading.enumerate() if each.name.startswith("refold-") and each not in others]
    assert not (tmp_path / "log.db-wal").exists()


async def test_a_long_read_that_meets_the_close_ends_with_an_error(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "log.db")
    await store.append([EVENT] * 5_000)
    reading = store.read()
    await anext(reading)
    await store.close()
    with pytest.raises(StoreClosed):
        await anext(reading)


async def test_a_follower_ends_with_the_store(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "log.db")
    following = asyncio.create_task(anext(store.follow()))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreClosed):
        await following


def test_a_loop_that_ends_without_closing_takes_nobody_down(tmp_path: Path) -> None:
    async def leave() -> None:
        store = await SqliteStore.open(tmp_path / "log.db")
        gate = Gate(store)
        task = asyncio.create_task(store.append([EVENT]))
        await gate.reached.wait()
        task.cancel()
        left.append((store, gate))

    async def come_back() -> int:
        store = await SqliteStore.open(tmp_path / "log.db")
        last = (await store.append([EVENT])).last
        await store.close()
        return last

    left: list[tuple[SqliteStore, Gate]] = []
    asyncio.run(leave())
    left[0][1].open()
    assert asyncio.run(come_back()) == 2


def test_another_loop_needs_another_handle(tmp_path: Path) -> None:
    async def write(store: SqliteStore) -> None:
        await store.append([EVENT])

    async def main() -> None:
        store = await SqliteStore.open(tmp_path / "log.db")
        for use in (store.append([EVENT]), store.head()):
            with pytest.raises(WiringError, match="another event loop"):
                await asyncio.to_thread(asyncio.run, use)
        assert await store.head() == 0
        await store.close()

    asyncio.run(main())


FORKED = """
import asyncio, os, sys
from pathlib import Path
from refold.errors import StoreClosed
from refold.model.record import NewEvent
from refold.store.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(sys.argv[1])
    await store.append([NewEvent("T")])
    child = os.fork()
    if child == 0:
        for use in (lambda: store.append([NewEvent("T")]), store.head):
            try:
                await use()
            except StoreClosed as error:
                assert "before a fork" in str(error)
            else:
                os._exit(1)
        await store.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (await store.append([NewEvent("T")])).last == 2
    await store.close()

asyncio.run(main())
"""


def test_a_forked_child_opens_its_own(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED, tmp_path / "log.db"], check=True, timeout=100)


# Failing alone


def constraint(connection: apsw.Connection) -> None:
    connection.execute("INSERT INTO event_type VALUES (1, 'twice'), (1, 'twice')")


def leave(connection: apsw.Connection) -> None:
    raise SystemExit("goodbye")


def stop(connection: apsw.Connection) -> None:
    raise StopIteration


def divide(connection: apsw.Connection) -> None:
    connection.execute("INSERT INTO event_type (name) VALUES ('half done')")
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("work", "raised"),
    [(constraint, StoreError), (leave, SystemExit), (stop, RuntimeError), (divide, ZeroDivisionError)],
)
async def test_what_one_caller_does_wrong_fails_for_that_caller_only(
    store: SqliteStore, work: Callable[[apsw.Connection], None], raised: type[BaseException]
) -> None:
    async def spoil() -> type[BaseException]:
        try:
            await store.database.write(work)
        except BaseException as error:
            return type(error)
        raise AssertionError

    results = await asyncio.gather(store.append([EVENT]), spoil(), store.append([EVENT]), store.append([EVENT]))
    assert results[1] is raised
    assert [results[n].last for n in (0, 2, 3)] == [1, 2, 3]  # type: ignore[union-attr]
    names = await store.database.read(lambda connection: connection.execute("SELECT name FROM event_type").fetchall())
    assert names == [("T",)]


async def test_an_event_that_no_table_takes_fails_alone(store: SqliteStore) -> None:
    wrong = NewEvent("T", "text, not bytes")  # type: ignore[arg-type]
    huge = NewEvent("T", version=1 << 70)
    results = await asyncio.gather(
        *(store.append([event], append_id=f"{n}") for n, event in enumerate([EVENT, wrong, EVENT, huge, EVENT])),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results[0::2]] == ["Appended"] * 3
    assert all(isinstance(result, Exception) for result in results[1::2])
    assert await head(store) == 3
    assert (await store.append([EVENT])).first == 4


class Untidy:
    """A batch whose memory fails it after the commit."""

    def run(self, connection: apsw.Connection, items: object) -> list[object]:
        return ["written"]

    def settled(self, *, committed: bool) -> None:
        raise ValueError("my notes are gone")


async def test_a_batch_that_loses_its_memory_stops_the_writing_not_the_thread(store: SqliteStore) -> None:
    assert await store.database.submit(Untidy(), None) == "written"
    with pytest.raises(StoreError, match="my notes are gone"):
        await store.append([EVENT])
    assert await store.head() == 0


# Reading


async def test_a_slow_read_is_started_over_on_another_thread(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append([NewEvent(f"T{n % 7}", b"%d" % n, (f"a:{n % 3}", f"b:{n % 2}")) for n in range(3_000)])
    monkeypatch.setattr(database, "SHORT_READ", 50)
    slow = await SqliteStore.open(tmp_path / "log.db")
    threads: list[str] = []
    hits = slow._begin

    def noted(*args: object) -> object:
        threads.append(threading.current_thread().name.partition("_")[0])
        return hits(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(slow, "_begin", noted)
    for query in (Query(), Query.of(tags=["a:1", "b:1"]), Query.of(types=["T1", "T2"]), Query.of(tags="a:2")):
        for backwards in (False, True):
            expected = [event async for page in store.read(query, backwards=backwards) for event in page]
            assert [event async for page in slow.read(query, backwards=backwards) for event in page] == expected
    assert threads == ["MainThread", "refold-read"] * 8
    await slow.close()


async def test_reads_on_many_threads_share_connections(store: SqliteStore) -> None:
    await store.append([EVENT] * 100)
    counts = await asyncio.gather(
        *(
            store.database.read_long(lambda connection: connection.execute("SELECT count(*) FROM event").get)
            for _ in range(500)
        )
    )
    assert counts == [100] * 500
    assert len(store.database._idle) <= database.READERS


async def test_a_reader_holds_up_no_writer(store: SqliteStore) -> None:
    begun, done = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def dawdle(connection: apsw.Connection) -> object:
        rows = connection.execute("SELECT position FROM event")
        first = rows.fetchone()
        loop.call_soon_threadsafe(begun.set)
        assert done.wait(60)
        return [first, *rows]

    await store.append([EVENT] * 10)
    reading = asyncio.create_task(store.database.read_long(dawdle))
    await begun.wait()
    for n in range(20):
        assert (await store.append([EVENT])).last == 11 + n
    done.set()
    assert await reading == [(n,) for n in range(1, 11)]  # as it was when the read began


# Groups


async def test_a_group_is_written_in_the_order_it_came_and_is_not_unlimited(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = count()
    store.database.before_commit = lambda: next(commits) and None
    results = await asyncio.gather(*(store.append([EVENT]) for _ in range(200)))
    assert [result.first for result in results] == [*range(1, 201)]
    assert next(commits) < 50
    monkeypatch.setattr(database, "GROUP", 10)
    commits = count()
    await asyncio.gather(*(store.append([EVENT] * 5) for _ in range(20)))
    assert next(commits) >= 20


def test_databases_can_be_made_while_others_are(tmp_path: Path) -> None:
    """Opening and closing in a hurry leaves no thread and no file handle behind."""

    async def main() -> None:
        for _ in range(30):
            await Database(tmp_path / "log.db").close()

    before = len([*Path("/proc/self/fd").iterdir()])
    asyncio.run(main())
    assert len([*Path("/proc/self/fd").iterdir()]) <= before + 1
    assert multiprocessing.active_children() == []
