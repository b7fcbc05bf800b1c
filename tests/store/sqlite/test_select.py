"""Every shape of query seeks in an index, sorts nothing, and finds exactly what `Query.matches` finds."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.errors import Conflict
from refold.model.query import AppendCondition, Query, QueryItem
from refold.model.record import NewEvent, StoredEvent
from refold.store.sqlite import SqliteStore, append, log, recent, select
from refold.store.sqlite.database import GROUP
from refold.store.sqlite.recent import Recent

ONE_TAG = Query.of(tags="a:1")
TAG_AND_TYPES = Query.of(types=("T1", "T2"), tags="a:1")
TWO_TAGS = Query.of(tags=("a:1", "b:1"))
TYPES = Query.of(types=("T1", "T2", "T3"))
MANY_ITEMS = Query(tuple(QueryItem(tags=(f"a:{n}",)) for n in range(50)))
MIXED = ONE_TAG | TAG_AND_TYPES | TWO_TAGS | TYPES | MANY_ITEMS
MOST_ITEMS = Query(tuple(QueryItem(types=(f"T{n % 5}",), tags=(f"a:{n}",)) for n in range(select.MAX_BRANCHES)))
TOO_MANY_ITEMS = Query(tuple(QueryItem(tags=(f"a:{n}",)) for n in range(select.MAX_BRANCHES + 1)))
TOO_MANY_TAGS = Query.of(tags=[f"c:{n}" for n in range(1_500)])
TOO_MANY_VALUES = Query(tuple(QueryItem(tuple(f"T{m}" for m in range(130)), (f"c:{n}",)) for n in range(300)))
SHAPES = {
    "all": Query(),
    "one tag": ONE_TAG,
    "a tag and types": TAG_AND_TYPES,
    "two tags": TWO_TAGS,
    "types": TYPES,
    "many items": MANY_ITEMS,
    "mixed": MIXED,
    "the most items": MOST_ITEMS,
}

SEEKS = {
    "SEARCH walked USING PRIMARY KEY (tag_id=? AND position>? AND position<?)",
    "SEARCH event USING COVERING INDEX event_by_type (type_id=? AND rowid>? AND rowid<?)",
}
"""How the events of a tag or a type are found, in order and no others."""
LOOKS = {
    "SEARCH probed EXISTS USING PRIMARY KEY (tag_id=? AND position=?)",
    "SEARCH event_tag USING PRIMARY KEY (tag_id=? AND position>? AND position<?)",  # counts a few, to find the rarest
    "SEARCH tag USING PRIMARY KEY (name=?)",
    "SEARCH event USING INTEGER PRIMARY KEY (rowid=?)",
    "SCAN (subquery)",  # the page that was found: it has a limit
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("select") / "log.db"
    random = Random(7)

    async def write() -> None:
        store = await SqliteStore.open(path, durability="relaxed")
        for _ in range(3):
            await store.append(
                [
                    NewEvent(
                        f"T{random.randrange(5)}", b"{}", (f"a:{random.randrange(60)}", f"b:{random.randrange(3)}")
                    )
                    for _ in range(2_000)
                ]
            )
        await store.append([NewEvent("T1", b"", tuple(f"c:{250 * n + m}" for m in range(250))) for n in range(6)])
        await store.append([NewEvent(f"T{n}") for n in range(130)])
        await store.close()

    asyncio.run(write())
    return path


@pytest.fixture
async def store(written: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(written)
    yield store
    await store.close()


def plan(connection: apsw.Connection, sql: str, bound: object) -> list[str]:
    return [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", bound)]  # type: ignore[arg-type]


async def plans(store: SqliteStore, query: Query, backwards: bool) -> list[str]:
    """Ask SQLite how it would run each statement of a read."""
    seen: list[tuple[str, object]] = []

    def trace(cursor: apsw.Cursor, sql: str, bound: object) -> bool:
        seen.append((sql, bound))
        return True

    def work(connection: apsw.Connection) -> None:
        connection.exec_trace = trace  # type: ignore[assignment]
        try:
            types: dict[str, int] = dict(connection.execute("SELECT name, type_id FROM event_type"))
            select.rows(connection, types, query, select.Range(10, 5_000, backwards), 100)
        finally:
            connection.exec_trace = None

    await store.database.read(work)
    return await store.database.read(
        lambda connection: [step for sql, bound in seen[1:] for step in plan(connection, sql, bound)]
    )


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_reads_seek_and_sort_nothing(store: SqliteStore, shape: str, backwards: bool) -> None:
    steps = await plans(store, SHAPES[shape], backwards)
    searches = {re.sub(r"-\d+", "", step) for step in steps if step.startswith(("SEARCH", "SCAN")) or "TEMP" in step}
    if shape == "all":
        assert searches == {"SEARCH event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"}
    else:
        assert searches & SEEKS
        assert searches <= SEEKS | LOOKS


@pytest.mark.parametrize(
    ("sql", "bound"),
    [
        (append.HEAD, ()),
        (append.KNOWN_IDS, ("[]", 0)),
        (append.KNOWN_TAGS, ("[]",)),
        (append.FORGET_IDS, (10, 0)),
        (log.NEW_TYPES, (3,)),
        (select.TAG_ID, ("a",)),
        (select.COUNT_TAG, (1, 2, 3, 4)),
        (f"{select.BY_TAG}{select.AND_TAG} LIMIT 1", (1, 2, 3, 4)),
    ],
)
async def test_the_other_statements_seek_too(store: SqliteStore, sql: str, bound: tuple[object, ...]) -> None:
    steps = await store.database.read(lambda connection: plan(connection, sql, bound))
    bounded = ("SCAN json_each", "SCAN (subquery", "SCAN event", "SCAN append USING COVERING INDEX append_by_last")
    assert [step for step in steps if "SCAN" in step and not step.startswith(bounded)] == []
    if any(step.startswith("SCAN event") for step in steps):
        assert sql == append.HEAD  # the last row, with LIMIT 1
    assert [step for step in steps if "ORDER BY" in step] == []


async def everything(store: SqliteStore) -> list[StoredEvent]:
    return [event for page in [page async for page in store.read()] for event in page]


async def read(store: SqliteStore, query: Query, **options: object) -> list[StoredEvent]:
    return [event async for page in store.read(query, **options) for event in page]  # type: ignore[arg-type]


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize(
    "query",
    [*SHAPES.values(), TOO_MANY_ITEMS, TOO_MANY_TAGS, TOO_MANY_TAGS | ONE_TAG],
    ids=[*SHAPES, "too many items", "too many tags", "too many tags, or one"],
)
async def test_long_reads_are_paged_and_exact(store: SqliteStore, query: Query, backwards: bool) -> None:
    expected = [event for event in await everything(store) if query.matches(event.type, event.tags)]
    expected = expected[::-1] if backwards else expected
    pages = [page async for page in store.read(query, backwards=backwards)]
    assert [event for page in pages for event in page] == expected
    assert all(len(page) <= log.PAGE for page in pages)
    within = [event for event in expected if 700 < event.position <= 5_600]
    assert await read(store, query, after=700, upto=5_600, backwards=backwards) == within
    for limit in (0, 1, 1_234, len(within)):
        found = store.read(query, after=700, upto=5_600, backwards=backwards, limit=limit)
        pages = [page async for page in found]
        assert [event for page in pages for event in page] == within[:limit]
        cut = (within[limit - 1].position if limit else 700) if limit < len(within) else 5_600
        assert pages[-1].upto == (5_600 if backwards else cut)


async def test_a_query_of_more_values_than_can_be_bound_is_exact_too(store: SqliteStore) -> None:
    found = await read(store, TOO_MANY_VALUES, after=5_990)
    assert [event.position for event in found] == [6_001, 6_002]  # with c:0 to c:249, and c:250 to c:499


@pytest.mark.parametrize("query", [TOO_MANY_ITEMS, TOO_MANY_TAGS, TOO_MANY_VALUES], ids=["items", "tags", "values"])
async def test_a_condition_below_what_is_remembered_is_exact(tmp_path: Path, query: Query) -> None:
    store = await SqliteStore.open(tmp_path / "log.db", durability="relaxed")
    await store.append([NewEvent("T1", b"{}", ("a:250",)), NewEvent("T1", b"{}", ("c",))])
    await store.close()
    store = await SqliteStore.open(tmp_path / "log.db", durability="relaxed")
    types = {"T1": 1}
    for below, first in (((0, 2), 1), ((1, 2), None)):
        expected = first if query.matches("T1", ("a:250",)) else None
        found = await store.database.read(lambda c: select.first_match(c, types, query, select.Range(*below)))  # noqa: B023
        assert found == expected
    await store.close()


def test_a_group_fits_into_what_is_remembered() -> None:
    # Else a condition could fall on events of its own group that no table holds yet.
    assert GROUP <= recent.SIZE


KINDS, NAMES = st.sampled_from("XYZ"), st.sampled_from("abcd")
EVENTS = st.lists(st.tuples(KINDS, st.frozensets(NAMES, max_size=3)), max_size=30)
SOME_TYPES = st.frozensets(KINDS, min_size=1, max_size=2).map(tuple)
SOME_TAGS = st.frozensets(NAMES, min_size=1, max_size=3).map(tuple)
ITEMS = (
    st.builds(QueryItem, types=SOME_TYPES)
    | st.builds(QueryItem, tags=SOME_TAGS)
    | st.builds(QueryItem, types=SOME_TYPES, tags=SOME_TAGS)
)
QUERIES = st.builds(lambda items: Query(tuple(items)), st.lists(ITEMS, max_size=3))


def some_query(random: Random) -> Query:
    items = [(random.choices("XYZ", k=random.randrange(3)), random.sample("abcd", random.randrange(3))) for _ in "123"]
    return Query(tuple(QueryItem(tuple(types), tuple(tags)) for types, tags in items if types or tags))


@pytest.mark.parametrize("seed", range(10))
def test_recent_agrees_with_brute_force(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(seed)
    for _ in range(300):
        monkeypatch.setattr(recent, "SIZE", random.randrange(1, 40))
        floor = random.randrange(3)
        events = [
            (random.choice("XYZ"), random.sample("abcd", random.randrange(4))) for _ in range(random.randrange(20))
        ]
        known = Recent(floor)
        for name, tags in events:
            known.add([NewEvent(name, tags=tuple(tags))], len(tags))
            if random.random() < 0.3:  # what has been asked is indexed; what comes then is not, yet
                known.match(some_query(random), floor)
        query, after = some_query(random), floor + random.randrange(len(events) + 2)
        found = known.match(query, after)
        matching = {
            position
            for position, (name, tags) in enumerate(events, floor + 1)
            if position > max(after, known.floor) and query.matches(name, tags)
        }
        assert found in matching if matching else found is None or (not query.items and after < known.floor)
        assert floor <= known.floor <= known.head == floor + len(events)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(EVENTS, QUERIES, st.integers(0, 9)), max_size=8), st.integers(1, 12))
async def test_conditions_agree_with_brute_force_also_below_what_is_remembered(
    appends: list[tuple[list[tuple[str, frozenset[str]]], Query, int]], size: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(recent, "SIZE", size)
        store = await SqliteStore.open(Path(folder, "log.db"), durability="relaxed")
        held: list[tuple[str, frozenset[str]]] = []
        for events, query, back in appends:
            after = max(0, len(held) - back)
            matches = any(query.matches(name, tags) for name, tags in held[after:])
            batch = [NewEvent(name, b"{}", tuple(tags)) for name, tags in events] or [NewEvent("W")]
            try:
                await store.append(batch, AppendCondition(query, after))
            except Conflict as conflict:
                assert matches
                position = conflict.data["position"]
                assert position > after
                assert query.matches(*held[position - 1])
            else:
                assert not matches
                held += events or [("W", frozenset())]
        await store.close()
