"""What the writer remembers and forgets: append ids, tags, positions; and that no event is ever overwritten."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from refold.errors import AppendIdReused, StoreError
from refold.model.query import Query
from refold.model.record import NewEvent
from refold.store.api import MAX_TAGS
from refold.store.sqlite import SqliteStore, append
from refold.testing import Clock

DAY = timedelta(days=1)
EVENT = NewEvent("T", b"first", ("a",))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "log.db", clock=clock, retention=7 * DAY)
    yield store
    await store.close()


async def positions(store: SqliteStore, query: Query) -> list[int]:
    return [event.position async for page in store.read(query) for event in page]


async def remembered(store: SqliteStore) -> int:
    return int(await store.database.read(lambda connection: connection.execute("SELECT count(*) FROM append").get))


async def test_an_append_id_past_its_window_is_new_again_and_overwrites_no_event(
    store: SqliteStore, clock: Clock
) -> None:
    old = await store.append([EVENT], append_id="monthly")
    clock.advance(7 * DAY)
    assert await store.append([EVENT], append_id="monthly") == old
    with pytest.raises(AppendIdReused):
        await store.append([NewEvent("T", b"other", ("a",))], append_id="monthly")
    clock.advance(timedelta(microseconds=1))
    assert await store.appended("monthly") is None
    new = await store.append([NewEvent("T", b"second", ("a",))], append_id="monthly")
    assert new.first == 2
    assert await store.append([NewEvent("T", b"second", ("a",))], append_id="monthly") == new
    assert [event.data async for page in store.read() for event in page] == [b"first", b"second"]


async def test_append_ids_past_their_window_are_forgotten_and_no_others(
    store: SqliteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append, "FORGET", 10)
    for n in range(25):
        await store.append([EVENT], append_id=f"old {n}")
    clock.advance(4 * DAY)
    for n in range(5):
        await store.append([EVENT], append_id=f"young {n}")
    assert await remembered(store) == 30
    clock.advance(4 * DAY)
    for n in range(30):
        await store.append([EVENT], append_id=f"new {n}")
    assert await remembered(store) == 35
    assert all([await store.appended(f"young {n}") for n in range(5)])
    assert all([await store.appended(f"new {n}") for n in range(30)])
    assert not any([await store.appended(f"old {n}") for n in range(25)])


async def test_programs_that_run_shortly_forget_too(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        store = await SqliteStore.open(tmp_path / "log.db", clock=clock, retention=7 * DAY)
        await store.append([EVENT], append_id=f"run {n}")
        clock.advance(DAY)
        if n == 19:
            assert await remembered(store) <= 8
        await store.close()


async def test_a_writer_that_is_wrong_about_the_head_overwrites_nothing(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append([EVENT])
    with monkeypatch.context() as patch:
        patch.setattr(append, "LAST", "SELECT 0")
        with pytest.raises(StoreError, match="UNIQUE"):
            await store.append([NewEvent("T", b"usurper")])
    assert [event.data async for page in store.read() for event in page] == [b"first"]
    assert (await store.append([EVENT])).first == 2


async def test_numbers_of_new_tags_never_meet(store: SqliteStore) -> None:
    many = [tuple(f"{kind}:{n}" for n in range(MAX_TAGS)) for kind in "abc"]
    await store.append([NewEvent("T", b"", tags) for tags in many])
    await store.append([NewEvent("T", b"", (*tags[:200], *(f"d:{n}" for n in range(50)))) for tags in many])
    numbers = await store.database.read(lambda c: c.execute("SELECT name, tag_id FROM tag").fetchall())
    assert len(numbers) == 3 * MAX_TAGS + 50
    assert len({number for _, number in numbers}) == len(numbers)
    for nth, tags in enumerate(many, 1):
        assert await positions(store, Query.of(tags=tags[100])) == [nth, nth + 3]
        assert await positions(store, Query.of(tags=tags)) == [nth]
        assert await positions(store, Query.of(tags=tags[249])) == [nth]
    assert await positions(store, Query.of(tags="d:49")) == [4, 5, 6]


ALIKE = [
    "é", "e\u0301", "É", "E\u0301", "ﬁ", "fi", "ß", "ss", "İ", "i̇", "\u0131", "a", "A", " a", "a ", "a\u200b",
    "\ufeffa", "ab", "a%", "a_", "1", "01", "1.0", "true", "null", '"', '""', "'", "\\", "\\u0041", "[", "]",
    '["a"]', '["ab"]', "\x01", "\x1f", "\x7f", "\u0085", "\u2028",
    "\U0001f600", "\U0001f601", "\U0010ffff", "\uffff", "\ue000",
]  # fmt: skip


async def test_names_that_look_alike_are_different(store: SqliteStore, clock: Clock) -> None:
    assert len(set(ALIKE)) == len(ALIKE)
    for name in ALIKE:
        await store.append([NewEvent(name, b"", (name, f"x{name}"))], append_id=name)
    fresh = await SqliteStore.open(store.database.path, clock=clock)  # that remembers nothing
    for nth, name in enumerate(ALIKE, 1):
        for each in (store, fresh):
            assert await positions(each, Query.of(tags=name)) == [nth]
            assert await positions(each, Query.of(types=name)) == [nth]
            done = await each.appended(name)
            assert done
            assert done.first == nth
    await fresh.append([NewEvent(name, b"", (name,)) for name in ALIKE])
    for nth, name in enumerate(ALIKE, 1):
        assert await positions(store, Query.of(types=name, tags=name)) == [nth, nth + len(ALIKE)]
    await fresh.close()


async def test_a_group_of_more_than_a_generation_of_events(store: SqliteStore) -> None:
    batch = [NewEvent(f"T{n % 3}", b"", (f"a:{n % 1_000}", f"n:{n}")) for n in range(70_000)]
    done = await store.append(batch)
    assert (done.first, done.last) == (1, 70_000)
    assert await positions(store, Query.of(tags="a:7")) == [*range(8, 70_001, 1_000)]
    assert await positions(store, Query.of(tags="n:69999")) == [70_000]


def test_forgetting_sorts_nothing() -> None:
    connection = apsw.Connection(":memory:")
    connection.execute((Path(append.__file__).parent / "schema.sql").read_text())
    steps = [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {append.FORGET_IDS}", (1, 1))]
    assert not any("TEMP B-TREE FOR ORDER" in step for step in steps)
    assert any("append_by_last" in step for step in steps)
