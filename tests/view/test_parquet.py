"""The mirror: every event once, typed and exact, through crashes, merges and changes of the schema; and only read."""

import asyncio
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from multiprocessing.synchronize import Event as Started
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from refold import Event, State, Tag
from refold.errors import (
    InvalidQuery,
    NotAStore,
    PositionAhead,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreTooNew,
    WiringError,
)
from refold.model.message import stored_as
from refold.model.record import Metadata, NewEvent
from refold.model.schema import Schema
from refold.store.api import Page, Store
from refold.store.memory import MemoryStore
from refold.store.sqlite import SqliteStore
from refold.testing.clock import Clock
from refold.view.parquet import Mirror, Reader, files, manifest

KILLS = int(os.environ.get("REFOLD_KILLS", "30"))
SEED = int(os.environ.get("REFOLD_SEED") or Random().randrange(1 << 32))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Size(Enum):
    SMALL = 1
    LARGE = 2


class Line(Struct, frozen=True):
    sku: str
    price: Decimal
    notes: tuple[str, ...] = ()


class OrderPlaced(Event):
    order_id: Annotated[str, Tag("order")]
    total: Decimal = Decimal(0)
    count: int = 0


class OrderPaid(Event):
    order_id: Annotated[str, Tag("order")]


class Everything(Event):
    text: str
    number: int
    real: float
    yes: bool
    money: Decimal
    moment: datetime
    day: date
    id: UUID
    data: bytes
    color: Color
    size: Size
    kind: Literal["a", "b"]
    maybe: int | None
    either: int | str
    line: Line
    lines: tuple[Line, ...]
    maybe_line: Line | None
    names: frozenset[str]
    table: list[list[int]]
    extras: dict[str, int]
    anything: Any
    Number: int = 0
    """Told from `number` by its case only."""
    position: int = -1
    """Called like a column of the log."""


EVERYTHING = Everything(
    text="a\0b 'quoted' \u202e",
    number=-(2**63),
    real=0.1,
    yes=True,
    money=Decimal("123456789012345678.0123456789"),
    moment=datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2))),
    day=date(1, 1, 1),
    id=UUID(int=7),
    data=b"\x00\xff",
    color=Color.BLUE,
    size=Size.LARGE,
    kind="b",
    maybe=None,
    either="x",
    line=Line("tea", Decimal("1.50")),
    lines=(Line("tea", Decimal("0.1"), ("hot", "sweet")), Line("cup", Decimal(2))),
    maybe_line=None,
    names=frozenset({"b", "a"}),
    table=[[1, 2], []],
    extras={"x": 1},
    anything=[1, {"a": None}],
)

SHOP = Schema(OrderPlaced | OrderPaid)


def placed(count: int, first: int = 0) -> list[NewEvent]:
    return [SHOP.encode(OrderPlaced(f"o-{n}", Decimal(n) / 4, n)) for n in range(first, first + count)]


async def filled(schema: Schema, *events: Event | NewEvent) -> MemoryStore:
    store = MemoryStore(clock=Clock(NOON))
    await store.append([each if isinstance(each, NewEvent) else schema.encode(each) for each in events])
    return store


def rows(mirror: Mirror | Reader, sql: str) -> list[tuple[Any, ...]]:
    return mirror.query(sql).rows()


def one(mirror: Mirror | Reader, sql: str) -> Any:
    [(value,)] = rows(mirror, sql)
    return value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shop.mirror"


async def test_each_field_has_the_type_that_its_annotation_names(folder: Path) -> None:
    schema = Schema(Everything)
    store = await filled(schema, EVERYTHING)
    async with Mirror(folder, schema) as mirror:
        await mirror.catch_up(store)
        found = dict(zip(mirror.query("from Everything").columns, rows(mirror, "from Everything")[0], strict=True))
        types = {name: kind for name, kind, *_ in rows(mirror, "describe Everything")}
    given = EVERYTHING
    for name in ("text", "number", "real", "yes", "money", "moment", "day", "data", "kind", "maybe"):
        assert found[name] == getattr(given, name), name
    assert found["id"] == str(given.id)
    assert (found["color"], found["size"]) == ("blue", 2)
    assert found["line"] == {"sku": "tea", "price": Decimal("1.5"), "notes": []}
    assert [each["price"] for each in found["lines"]] == [Decimal("0.1"), Decimal(2)]
    assert found["lines"][0]["notes"] == ["hot", "sweet"]
    assert found["maybe_line"] is None
    assert (found["names"], found["table"]) == (["a", "b"], [[1, 2], []])
    assert (found["either"], found["extras"], found["anything"]) == ('"x"', '{"x":1}', '[1,{"a":null}]')
    assert (found["position"], found["position_"], found["Number_"]) == (1, -1, 0)
    assert {name: types[name] for name in ("money", "moment", "day", "size", "table", "either", "data")} == {
        "money": "DECIMAL(38,10)",
        "moment": "TIMESTAMP WITH TIME ZONE",
        "day": "DATE",
        "size": "BIGINT",
        "table": "BIGINT[][]",
        "either": "JSON",
        "data": "BLOB",
    }
    assert types["lines"] == "STRUCT(sku VARCHAR, price DECIMAL(38,10), notes VARCHAR[])[]"


async def test_every_event_has_its_place_its_times_and_who_did_it(folder: Path) -> None:
    said = Metadata("e-1", "c-1", "because", "ann", NOON - timedelta(days=2), {"tenant": "x"})
    store = await filled(SHOP, SHOP.encode(OrderPaid("o-1"), said), OrderPaid("o-2"))
    async with Mirror(folder, SHOP) as mirror:
        await mirror.catch_up(store)
        names = (
            "position, recorded_at, occurred_at, event_id, correlation_id, causation_id, actor, version, tags, extra"
        )
        assert rows(mirror, f"select {names} from OrderPaid order by 1") == [
            (1, NOON, said.occurred_at, "e-1", "c-1", "because", "ann", 1, ["order:o-1"], '{"tenant":"x"}'),
            (2, NOON, NOON, None, None, None, None, 1, ["order:o-2"], None),
        ]
        assert one(mirror, "select extra->>'tenant' from OrderPaid where extra is not null") == "x"
        assert rows(mirror, "select type, data->>'order_id' from events order by position") == [
            ("OrderPaid", "o-1"),
            ("OrderPaid", "o-2"),
        ]


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        (Decimal("0.12345678901"), "0.12345678901"),
        (Decimal(10) ** 40, str(Decimal(10) ** 40)),
        (Decimal("1E+30"), "1E+30"),
    ],
)
async def test_a_decimal_that_does_not_fit_is_text_and_no_sum_passes_over_it(
    folder: Path, odd: Decimal, text: str
) -> None:
    store = await filled(SHOP, OrderPlaced("o-1", Decimal("1.5")), OrderPlaced("o-2", Decimal("2.25")))
    async with Mirror(folder, SHOP, batch_events=1) as mirror:
        await mirror.catch_up(store)
        assert one(mirror, "select sum(total) from OrderPlaced") == Decimal("3.75")
        await store.append([SHOP.encode(OrderPlaced("o-3", odd))])
        await mirror.catch_up(store)
        with pytest.raises(InvalidQuery, match="sum"):
            mirror.query("select sum(total) from OrderPlaced")
        assert one(mirror, "select total from OrderPlaced where position = 3") == text
        assert one(mirror, "select total::DECIMAL(10,2) from OrderPlaced where position = 1") == Decimal("1.5")


async def test_what_does_not_fit_inside_a_list_makes_it_json(folder: Path) -> None:
    class Counted(Event):
        counts: list[int]
        big: int

    schema = Schema(Counted)
    store = await filled(schema, Counted([1, 2], 1), Counted([2**63], 2**64))
    async with Mirror(folder, schema, batch_events=1) as mirror:
        await mirror.catch_up(store)
        assert rows(mirror, "select counts, big from Counted order by position") == [
            ("[1,2]", "1"),
            (f"[{2**63}]", str(2**64)),
        ]
        assert rows(mirror, "select counts->>0 from Counted order by position") == [("1",), (str(2**63),)]


async def test_what_cannot_be_read_is_kept_with_its_bytes_and_the_reason(folder: Path) -> None:
    store = await filled(
        SHOP,
        NewEvent("Unheard", b"\x00\xff", ("a:b",), 3, b"{"),
        NewEvent("OrderPaid", b'{"order_id":7}'),
        NewEvent("OrderPaid", b'{"order_id":"o-1"}', metadata=b"[]"),
        NewEvent("OrderPaid", b'{"order_id":"o-1"}', metadata=b'{"occurred_at":"0001-01-01T00:00:00+14:00"}'),
        OrderPaid("o-2"),
    )
    async with Mirror(folder, SHOP) as mirror:
        await mirror.catch_up(store)
        found = rows(mirror, "select position, type, version, tags, data, metadata, error from _unread order by 1")
        assert [each[0] for each in found] == [1, 2, 3, 4]
        assert found[0][1:6] == ("Unheard", 3, ["a:b"], b"\x00\xff", b"{")
        assert "does not fit" in found[1][6]
        assert one(mirror, "select count(*) from OrderPaid") == 1


async def test_pages_that_come_again_are_left_out(folder: Path) -> None:
    store = await filled(SHOP, *placed(10))
    [page] = [page async for page in store.read()]
    async with Mirror(folder, SHOP, batch_events=4) as mirror:
        for each in (page, page, Page(page[3:], 10)):
            await mirror.add(each)
        assert await mirror.flush() == 10
        await mirror.add(page)
    reader = Reader(folder)
    assert rows(reader, "select position from events order by 1") == [(n,) for n in range(1, 11)]
    reader.close()


async def test_files_lie_by_type_and_month(folder: Path) -> None:
    clock = Clock(NOON)
    store = MemoryStore(clock=clock)
    await store.append(placed(3))
    clock.set(datetime(2026, 4, 1, tzinfo=UTC))
    await store.append([*placed(2), SHOP.encode(OrderPaid("o-1"))])
    async with Mirror(folder, SHOP) as mirror:
        await mirror.catch_up(store)
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    assert found == [
        "events/type=OrderPaid/month=2026-04/000000000006-000000000006-2.parquet",
        "events/type=OrderPlaced/month=2026-03/000000000001-000000000003-2.parquet",
        "events/type=OrderPlaced/month=2026-04/000000000004-000000000005-2.parquet",
    ]


async def test_many_small_pages_make_few_files(folder: Path) -> None:
    store = await filled(SHOP, *placed(300))
    async with Mirror(folder, SHOP) as mirror:
        async for page in store.read():
            for n, event in enumerate(page, 1):
                await mirror.add(Page([event], event.position))
                if n % 3:
                    await mirror.flush()
        await mirror.flush()
        now = manifest.read(folder)
        # seven at most of each size: below 8, below 64 and below 512 rows
        assert len(now.events["OrderPlaced"].files) <= 21
        assert rows(mirror, "select position, count from OrderPlaced") == [(n + 1, n) for n in range(300)]
    assert set(on_disk(folder)) == now.paths() | now.left.keys()


async def test_small_files_of_different_forms_are_not_merged_with_each_other(folder: Path) -> None:
    odd = Decimal("0.00000000001")
    events = [OrderPlaced("o", odd if n % 20 == 0 else Decimal(n)) for n in range(60)]
    store = await filled(SHOP, *events)
    async with Mirror(folder, SHOP, batch_events=1) as mirror:
        await mirror.catch_up(store)
        found = [Decimal(text) for (text,) in rows(mirror, "select total from OrderPlaced order by position")]
        assert found == [event.total for event in events]
        assert len(manifest.read(folder).events["OrderPlaced"].files) < 40


async def test_files_that_were_merged_stay_for_queries_that_had_begun(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await filled(SHOP, *placed(8))
    async with Mirror(folder, SHOP, batch_events=1) as mirror:
        await mirror.catch_up(store)
        now = manifest.read(folder)
        assert len(now.left) == 7  # the eighth was never in a manifest
        assert now.left.keys() <= set(on_disk(folder))
        monkeypatch.setattr(manifest, "GRACE_SECONDS", 0.0)
        await store.append(placed(1))
        await mirror.catch_up(store)
        assert set(on_disk(folder)) == manifest.read(folder).paths()


async def test_queries_see_one_position_while_the_mirror_grows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "GRACE_SECONDS", 0.0)
    store = await filled(SHOP, *placed(400))
    reader, seen, stop = Reader(folder), [0], threading.Event()
    wrong: list[object] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = reader.query("select count(*), max(position) from events")
            except StoreError:
                continue
            seen.append(answer.position)
            if answer.rows() != [(answer.position, answer.position)]:
                wrong.append((answer.position, answer.rows()))

    async with Mirror(folder, SHOP, batch_events=3) as mirror:
        await mirror.catch_up(store, upto=1)
        asking = threading.Thread(target=ask)
        asking.start()
        try:
            await mirror.catch_up(store)
        finally:
            stop.set()
            await asyncio.to_thread(asking.join)
            reader.close()
    assert not wrong
    assert len(seen) > 2
    assert seen == sorted(seen)


class Crash(BaseException):
    """Ends a step as the end of the process would."""


POINTS: list[Callable[..., Any]] = [files.write, files.merged, manifest.sync_all, manifest.write, manifest.sync]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point.__module__.rpartition('.')[2]}.{point.__name__}")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_step_that_ends_anywhere_leaves_each_event_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, point: Callable[..., Any], when: str
) -> None:
    module = files if point.__module__ == files.__name__ else manifest
    left = 0

    def crashing(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if not left and when == "before":
            raise Crash
        result = point(*arguments, **named)
        if not left:
            raise Crash
        return result

    store = await filled(SHOP, *placed(12), OrderPaid("o-1"), *placed(12))
    monkeypatch.setattr(module, point.__name__, crashing)
    for crash_at in range(1, 200):
        mirror, left = Mirror(folder, SHOP, batch_events=2), crash_at
        with suppress(Crash):
            await mirror.catch_up(store)
        crashed = left <= 0
        left = 0
        mirror._claim.give()  # as the system does when a process ends; nothing else is tidied up
        reader = Reader(folder)
        position = manifest.read(folder, create=True).position
        if position:
            expected = [(n,) for n in range(1, position + 1)]
            assert rows(reader, "select position from events order by 1") == expected
        reader.close()
        if not crashed:
            break
    async with Mirror(folder, SHOP) as mirror:
        assert await mirror.catch_up(store) == 25
        assert rows(mirror, "select position from events order by 1") == [(n,) for n in range(1, 26)]
        now = manifest.read(folder)
        assert set(on_disk(folder)) == now.paths() | now.left.keys()


async def test_a_full_disk_is_told_and_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await filled(SHOP, *placed(5))
    write = files.write

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    async with Mirror(folder, SHOP) as mirror:
        monkeypatch.setattr(files, "write", full)
        with pytest.raises(StoreFull, match=r"shop\.mirror"):
            await mirror.catch_up(store)
        monkeypatch.setattr(files, "write", write)
        assert await mirror.flush() == 5
        assert one(mirror, "select count(*) from events") == 5


def on_disk(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")]


def mirror_for_ever(folder: Path, log: Path, started: Started) -> None:
    async def work() -> None:
        store = await SqliteStore.open(log)
        mirror = Mirror(folder, SHOP, batch_events=23, flush_seconds=0.005)
        await mirror.hold()
        started.set()
        running = asyncio.create_task(mirror.run(store))
        while not running.done():
            await mirror.keep_rows("Order", Order, [[Order(f"o-{n}", n) for n in range(60)]], position=mirror.position)
        await running

    asyncio.run(work())


@pytest.mark.timeout(60 + 5 * KILLS)
async def test_rows_equal_the_log_after_kill_9_at_random_moments(folder: Path, tmp_path: Path) -> None:
    print(f"REFOLD_KILLS={KILLS} REFOLD_SEED={SEED} python -m pytest {__file__} -k kill_9")
    random = Random(SEED)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    store = await SqliteStore.open(tmp_path / "shop.db")
    reached: set[int] = set()
    for kill in range(KILLS):
        await store.append([*placed(150, kill * 150), SHOP.encode(OrderPaid(f"o-{kill}")), NewEvent("Odd", b"\xff")])
        started = context.Event()
        process = context.Process(target=mirror_for_ever, args=(folder, tmp_path / "shop.db", started), daemon=True)
        begun = time.monotonic()
        process.start()
        assert await asyncio.to_thread(started.wait, 100), "the mirror could not begin"
        await asyncio.sleep(random.uniform(0, max(0.15, time.monotonic() - begun)))  # longer on a busy machine
        process.kill()
        await asyncio.to_thread(process.join)
        now = manifest.read(folder, create=True)
        reached.add(now.position)
        if now.views:
            assert one(Reader(folder), 'select count(distinct order_id) from "Order"') == 60
        await equal_to_the_log(Reader(folder), store, now.position)
    async with Mirror(folder, SHOP) as mirror:
        await mirror.catch_up(store)
        await equal_to_the_log(Reader(folder), store, await store.head())
        now = manifest.read(folder)
        assert set(on_disk(folder)) == now.paths() | now.left.keys()
    await store.close()
    assert len(reached) > KILLS / 3, f"it was hardly killed amid its work: {reached}"


async def equal_to_the_log(reader: Reader, store: Store, position: int) -> None:
    if not position:
        return
    expected: list[tuple[int, str, object]] = []
    async for page in store.read(upto=position):
        for event in page:
            count = msgspec.json.decode(event.data).get("count") if event.type == "OrderPlaced" else None
            expected.append((event.position, event.type, count))
    sql = """
        select position, type, (data->>'count')::bigint from events
        union all select position, type, null from _unread order by position
    """
    assert rows(reader, sql) == expected
    reader.close()


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 12)),
        st.tuples(st.just("odd"), st.integers(1, 2)),
        st.tuples(st.just("mirror"), st.integers(1, 9)),
        st.tuples(st.just("crash"), st.integers(1, 9)),
        st.tuples(st.just("view"), st.integers(0, 5)),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(ACTIONS)
async def test_whatever_happens_rows_equal_the_log(
    tmp_path_factory: pytest.TempPathFactory, actions: Sequence[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("mirror")
    store, mirror, view = MemoryStore(), Mirror(folder, SHOP), 0
    for action, size in actions:
        match action:
            case "append":
                await store.append(placed(size))
            case "odd":
                await store.append([NewEvent("Odd", b"\xff")] * size)
            case "mirror":
                await mirror.catch_up(store, upto=mirror.position + size)
            case "crash":
                (folder / "events" / "type=OrderPlaced").mkdir(parents=True, exist_ok=True)
                (folder / "events" / "type=OrderPlaced" / f"{size}.parquet").write_bytes(b"half")
                mirror._claim.give()
                mirror = Mirror(folder, SHOP)
            case _:
                view = await mirror.keep_rows("Order", Order, [[Order(f"o-{n}", n) for n in range(size)]], position=0)
    await mirror.catch_up(store)
    await equal_to_the_log(Reader(folder), store, await store.head())
    if view:
        assert one(mirror, 'select count(*) from "Order"') == view
    await mirror.close()


class OrderPlacedV2(Event):
    order_id: Annotated[str, Tag("order")]
    total: Decimal
    count: str
    currency: str = "EUR"


stored_as("OrderPlaced", version=2)(OrderPlacedV2)


class Refunded(Event):
    amount: int


def add_currency(old: OrderPlaced) -> OrderPlacedV2:
    return OrderPlacedV2(old.order_id, old.total, f"#{old.count}")


async def test_what_is_defined_otherwise_is_made_anew_from_the_log(folder: Path) -> None:
    store = await filled(SHOP, *placed(20), OrderPaid("o-1"), NewEvent("Refunded", b'{"amount":5}'))
    async with Mirror(folder, SHOP, batch_events=7) as mirror:
        await mirror.catch_up(store)
        assert one(mirror, "select count(*) from _unread") == 1
    changed = Schema(OrderPlacedV2 | Refunded, [add_currency])
    before = manifest.read(folder).events["OrderPlaced"].files
    async with Mirror(folder, changed, batch_events=7) as mirror:
        assert one(mirror, "select sum(count) from OrderPlaced") == 190  # the old one, until the new one is ready
        with pytest.raises(WiringError, match="adapt"):
            await mirror.add(Page([], 22))
        await mirror.catch_up(store)
        found = rows(mirror, "select position, version, count, currency from OrderPlaced order by 1")
        assert found == [(n + 1, 1, f"#{n}", "EUR") for n in range(20)]
        assert rows(mirror, "select amount from Refunded") == [(5,)]
        assert rows(mirror, "select position, type from _unread") == [(21, "OrderPaid")]
        assert "OrderPaid" not in [each.name for each in Reader(folder).tables()]
        after = manifest.read(folder).events["OrderPlaced"].files
        assert not {file.path for file in before} & {file.path for file in after}
        assert not await mirror.adapt(store)
    async with Mirror(folder, SHOP) as mirror:  # and back: version 2 was never recorded
        await mirror.catch_up(store)
        assert one(mirror, "select sum(count) from OrderPlaced") == 190
        assert one(mirror, "select count(*) from OrderPaid") == 1


async def test_a_change_that_crashes_half_way_shows_the_old_and_begins_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await filled(SHOP, *placed(20))
    async with Mirror(folder, SHOP, batch_events=7) as mirror:
        await mirror.catch_up(store)
    changed = Schema(OrderPlacedV2 | OrderPaid, [add_currency])
    mirror = Mirror(folder, changed, batch_events=7)

    def crash(*_: object) -> None:
        raise Crash

    monkeypatch.setattr(manifest, "sync_all", crash)
    with pytest.raises(Crash):
        await mirror.catch_up(store)
    mirror._claim.give()
    monkeypatch.undo()
    assert set(on_disk(folder)) > manifest.read(folder).paths(), "nothing was written before it crashed"
    async with Mirror(folder, changed, batch_events=7) as mirror:
        assert one(mirror, "select sum(count) from OrderPlaced") == 190
        await mirror.catch_up(store)
        assert one(mirror, "select max(count) from OrderPlaced") == "#9"
        now = manifest.read(folder)
        assert set(on_disk(folder)) == now.paths() | now.left.keys()


NAMES = [
    "../../../etc/passwd",
    "events",
    "_unread",
    "orderplaced",
    "a\"b'c;--",
    "*?[x]",
    "x" * 900,
    "ä ö/ü",
    "..",
    "a\nb",
]


async def test_no_name_leads_out_of_the_folder_or_is_taken_for_another(folder: Path) -> None:
    kinds = [stored_as(name)(msgspec.defstruct("Odd", [("n", int)], bases=(Event,), frozen=True)) for name in NAMES]
    schema = Schema([OrderPlaced, *kinds])
    store = await filled(schema, *placed(1), *(kind(n) for n, kind in enumerate(kinds)))
    async with Mirror(folder, schema) as mirror:
        await mirror.catch_up(store)
        tables = [each.name for each in Reader(folder).tables()]
        assert tables == ["events", "OrderPlaced", *(_shown(name) for name in NAMES), "_unread"]
        for n, name in enumerate(NAMES):
            quoted = _shown(name).replace('"', '""')
            assert rows(mirror, f'select n, position from "{quoted}"') == [(n, n + 2)]
        assert one(mirror, "select count(distinct type) from events") == len(NAMES) + 1
    assert len(on_disk(folder)) == len(NAMES) + 1
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}


def _shown(name: str) -> str:
    return f"{name}_" if name in ("events", "_unread", "orderplaced") else name


async def test_a_folder_may_be_called_anything(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s *[a] "mirror"?'
    store = await filled(SHOP, *placed(20))
    async with Mirror(folder, SHOP, batch_events=1) as mirror:
        await mirror.catch_up(store)
        assert one(mirror, "select count(*) from events") == 20


class Order(State):
    order_id: Annotated[str, Tag("order")]
    paid: int = 0
    total: Decimal = Decimal(0)
    lines: tuple[Line, ...] = ()

    def evolve(self, event: OrderPaid) -> Self:
        return self.replace(paid=self.paid + 1)


async def test_a_view_is_switched_to_its_new_rows_at_once(folder: Path) -> None:
    seen: list[list[tuple[Any, ...]]] = []
    async with Mirror(folder, SHOP, batch_events=4) as mirror:

        def batches() -> Iterator[list[Order]]:
            for n in range(5):
                if n and seen:
                    seen.append(rows(mirror, 'select count(*) from "Order"'))
                yield [Order(f"o-{n}-{m}", m, Decimal("0.5"), (Line("tea", Decimal(m)),)) for m in range(3)]

        assert await mirror.keep_rows("Order", Order, batches(), position=7) == 15
        assert rows(mirror, 'select sum(total), sum(lines[1].price) from "Order"') == [(Decimal("7.5"), Decimal(15))]
        [info] = [each for each in Reader(folder).tables() if each.kind == "view"]
        assert (info.name, info.rows, info.position) == ("Order", 15, 7)
        seen.append([])
        await mirror.keep_rows("Order", Order, batches(), position=8)
        assert seen[1:] == [[(15,)]] * 4
        assert await mirror.keep_rows("Order", Order, [], position=9) == 0
        assert rows(mirror, 'select order_id, total from "Order"') == []
        await mirror.drop_rows("Order")
        with pytest.raises(InvalidQuery, match="events, OrderPlaced, OrderPaid, _unread"):
            mirror.query('select * from "Order"')


async def test_a_view_called_like_a_type_gets_an_underscore(folder: Path) -> None:
    async with Mirror(folder, SHOP) as mirror:
        await mirror.keep_rows("orderpaid", Order, [[Order("o-1", 3)]], position=1)
        assert one(mirror, "select paid from orderpaid_") == 3
        assert rows(mirror, "from OrderPaid") == []


async def test_rows_come_from_async_iterators_too(folder: Path) -> None:
    async def batches() -> Any:
        yield [Order("o-1")]
        yield [Order("o-2")]

    async with Mirror(folder, SHOP) as mirror:
        assert await mirror.keep_rows("Order", Order, batches(), position=1) == 2


async def test_one_process_writes_and_the_next_takes_over(folder: Path) -> None:
    store = await filled(SHOP, *placed(5))
    first, second = Mirror(folder, SHOP), Mirror(folder, SHOP)
    await first.catch_up(store)
    assert not await second.hold(wait=False)
    assert await second.catch_up(store) == 5  # the first has done it
    assert rows(second, "select count(*) from events") == [(5,)]
    await store.append(placed(1))
    waiting = asyncio.create_task(second.catch_up(store))
    await asyncio.sleep(0)
    assert not waiting.done()
    await first.close()
    await first.close()
    assert await waiting == 6
    assert await second.hold(wait=False)
    await second.close()


async def test_it_follows_the_log_and_stops_when_it_is_told(folder: Path) -> None:
    store = await filled(SHOP, *placed(5))
    async with Mirror(folder, SHOP, flush_seconds=0.01) as mirror:
        running = asyncio.create_task(mirror.run(store))
        for n in range(1, 6):
            await store.append(placed(1))
            while mirror.position < 5 + n:
                await asyncio.sleep(0.005)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert one(mirror, "select count(*) from events") == 10
    assert Mirror(folder, SHOP).position == 10


async def test_what_breaks_while_it_follows_is_raised(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await filled(SHOP, *placed(5))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    mirror = Mirror(folder, SHOP, flush_seconds=0.01)
    await mirror.catch_up(store)
    running = asyncio.create_task(mirror.run(store))
    await asyncio.sleep(0)
    monkeypatch.setattr(files, "write", full)
    await store.append(placed(1))
    with pytest.raises(StoreFull):
        await running
    with pytest.raises(StoreFull):
        await mirror.close()
    assert await Mirror(folder, SHOP).hold(wait=False)


async def test_a_step_is_finished_when_its_caller_is_cancelled(folder: Path) -> None:
    store = await filled(SHOP, *placed(200))
    async with Mirror(folder, SHOP, batch_events=20) as mirror:
        for pause in (0, 0.001, 0.004, 0.01, 0.02):
            task = asyncio.create_task(mirror.catch_up(store))
            await asyncio.sleep(pause)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await mirror.catch_up(store)
        assert rows(mirror, "select position from events order by 1") == [(n,) for n in range(1, 201)]


async def test_another_log_is_refused(folder: Path) -> None:
    store = await filled(SHOP, *placed(5))
    async with Mirror(folder, SHOP) as mirror:
        await mirror.catch_up(store)
        with pytest.raises(StoreError, match="not of this log"):
            await mirror.catch_up(await filled(SHOP, *placed(6, 100)))
        with pytest.raises(PositionAhead, match="head of the log is 3"):
            await mirror.catch_up(await filled(SHOP, *placed(3)))


async def test_a_mirror_that_is_not_there_or_not_readable_is_told(folder: Path) -> None:
    with pytest.raises(NotAStore, match="no mirror at"):
        Reader(folder).query("select 1")
    folder.mkdir()
    (folder / "mirror.json").write_text('{"format": 99}')
    with pytest.raises(StoreTooNew, match=r"mirror\.json"):
        Reader(folder).query("select 1")
    (folder / "mirror.json").write_text("{half")
    with pytest.raises(StoreDamaged, match="made anew"):
        await Mirror(folder, SHOP).hold()


async def test_before_there_is_anything_there_are_empty_tables(folder: Path) -> None:
    mirror = Mirror(folder, SHOP)
    assert rows(mirror, "select position, total from OrderPlaced") == []
    assert await mirror.catch_up(MemoryStore()) == 0
    assert one(Reader(folder), "select count(*) from events") == 0
    await mirror.close()


async def test_files_that_are_gone_are_told(folder: Path) -> None:
    store = await filled(SHOP, *placed(5))
    async with Mirror(folder, SHOP) as mirror:
        await mirror.catch_up(store)
        for path in folder.rglob("*.parquet"):
            path.unlink()
        with pytest.raises(StoreDamaged, match="cannot be opened"):
            mirror.query("select * from events")


@pytest.fixture
async def small(folder: Path) -> Any:
    store = await filled(SHOP, *placed(10))
    async with Mirror(folder, SHOP, memory="200MB") as mirror:
        await mirror.catch_up(store)
        yield mirror


DENIED = """
    copy (select 1) to 'x.csv'
    copy events to 'x.parquet'
    attach 'x.db'
    attach ':memory:' as other
    install httpfs
    load httpfs
    pragma database_list
    pragma enable_profiling
    set threads = 1
    set lock_configuration = false
    reset memory_limit
    create table x(a int)
    create temp table x as select 1
    create macro f(a) as a
    create secret (type s3)
    drop view events
    insert into events values (1)
    update events set position = 1
    delete from events
    alter table events add column x int
    export database 'x'
    import database 'x'
    begin
    checkpoint
    vacuum
    use memory
    call enable_logging()
    prepare x as select 1
    execute x
    set variable x = 1
    explain analyze select 1
    detach memory
    select 1; select 2
    select 1; copy (select 1) to 'x.csv'
    select * from read_text('/etc/passwd')
    select * from read_blob('/etc/passwd')
    select * from read_csv('/etc/passwd')
    select * from read_csv_auto('/etc/passwd')
    select * from read_json('/etc/passwd')
    select * from READ_TEXT('/etc/passwd')
    select * from main.read_text('/etc/passwd')
    select * from sniff_csv('/etc/passwd')
    select * from read_parquet('*.parquet')
    select * from parquet_metadata('*.parquet')
    select * from '/etc/passwd'
    select * from 'x.parquet'
    select * from 'https://example.org/x.parquet'
    select * from glob('/etc/*')
    select * from query('select 1')
    select * from query_table('events')
    select * from enable_logging(storage = 'file', storage_path = 'log')
    select * from checkpoint()
    select * from duckdb_settings()
    select * from duckdb_secrets()
    select * from sqlite_scan('x', 'y')
    select (select content from read_text('/etc/passwd'))
    select * from events where exists (select * from read_text('/etc/passwd'))
    with a as (select * from read_text('/etc/passwd')) select * from a
    from (from read_text('/etc/passwd'))
    select * from events, lateral (select * from read_text('/etc/passwd'))
    select 1 union all select content from read_text('/etc/passwd')
    summarize read_text('/etc/passwd')
    describe select * from read_text('/etc/passwd')
    select getenv('HOME')
    select * from visible_to_python
    select nextval('x')
""".strip().splitlines()


@pytest.mark.parametrize("sql", [line.strip() for line in DENIED])
async def test_a_query_reads_the_mirror_and_nothing_else(
    small: Mirror, sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visible_to_python = pl.DataFrame({"secret": [1]})
    work = tmp_path / "work"
    work.mkdir()
    visible_to_python.write_parquet(tmp_path / "x.parquet")
    monkeypatch.chdir(work)
    with pytest.raises(InvalidQuery):
        small.query(sql)
    assert [*work.iterdir()] == []
    assert one(small, "select count(*) from events") == 10


ALLOWED = """
    select count(*) from events
    from OrderPlaced limit 1
    table OrderPaid
    values (1), (2)
    with recursive a(n) as (select 1 union all select n + 1 from a where n < 5) select sum(n) from a
    select * from range(3)
    select unnest(tags) from events
    select * from generate_series(1, 3) as t(n)
    describe events
    show tables
    summarize OrderPlaced
    select table_name from information_schema.tables
    pivot (select type, count from OrderPlaced join events using (position)) on type in ('OrderPlaced') using sum(count)
    select date_trunc('month', recorded_at) as month, count(*) from events group by all
    select a.position, row_number() over (order by a.position desc) from events a asof join events b using (position)
    select data->>'$.order_id' from events
""".strip().splitlines()


@pytest.mark.parametrize("sql", [line.strip() for line in ALLOWED])
async def test_what_a_query_may_do(small: Mirror, sql: str) -> None:
    small.query(sql)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("selec", "syntax error"),
        ("", "0 statements"),
        ("select * from nope", "There are the tables events, OrderPlaced, OrderPaid, _unread"),
        ("select posision from events", 'Candidate bindings: "position"'),
        ("select 'x'::int", "Could not convert string 'x'"),
        ("select 1 as a, 2 as a", "several columns are called a"),
        ("select * from range(11)", "more than 10 rows"),
        ("pivot events on type", "not MULTI"),
        ("copy events to 'x'", "not COPY"),
        ("select " + "(" * 5000 + "1" + ")" * 5000, ""),
    ],
)
async def test_a_query_that_makes_no_sense_is_told_why(small: Mirror, sql: str, says: str) -> None:
    with pytest.raises(InvalidQuery) as told:
        small.query(sql, limit_rows=10)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


async def test_a_query_has_its_time_and_its_memory(small: Mirror) -> None:
    with pytest.raises(InvalidQuery, match=r"longer than the 0\.1 s"):
        small.query("select sum(a.range * b.range) from range(10000000) a, range(1000000) b", seconds=0.1)
    with pytest.raises(InvalidQuery, match="more memory than the 200MB"):
        small.query("select list(range) from range(1000000000)")
    assert one(small, "select count(*) from events") == 10


async def test_rows_are_cut_only_when_asked_for(small: Mirror) -> None:
    answer = small.query("select position from events order by 1 desc", limit_rows=3, cut=True)
    assert (answer.rows(), answer.truncated, len(answer)) == ([(10,), (9,), (8,)], True, 3)
    whole = small.query("select position from events", limit_rows=10)
    assert (len(whole), whole.truncated, whole.position) == (10, False, 10)
    with pytest.raises(InvalidQuery):
        small.query("select 1", limit_rows=-1)


async def test_values_are_given_apart(small: Mirror) -> None:
    assert small.query("select count from OrderPlaced where order_id = ?", ["o-3"]).rows() == [(3,)]
    assert small.query("select count from OrderPlaced where order_id = $id", {"id": "' or 1=1 --"}).rows() == []


async def test_an_answer_is_polars_and_arrow(small: Mirror) -> None:
    answer = small.query("select position, total from OrderPlaced order by position")
    assert answer.pl().schema == {"position": pl.Int64, "total": pl.Decimal(38, 10)}
    assert pl.DataFrame(answer).equals(answer.pl())


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("interval 90 minute", "01:30:00"),
        ("'101'::bit", "101"),
        ("{'a': interval 1 day}", "{'a': 1 day}"),
        ("'00000000-0000-0000-0000-000000000007'::uuid", "00000000-0000-0000-0000-000000000007"),
        ("12345678901234567890123456789::hugeint", Decimal(12345678901234567890123456789)),
        ("union_value(a := 1)", "1"),
    ],
)
async def test_types_that_polars_lacks_are_text_or_exact(small: Mirror, sql: str, value: object) -> None:
    assert one(small, f"select {sql} as x") == value


@pytest.mark.parametrize("wrong", [{"batch_events": 0}, {"flush_seconds": 0}])
def test_bounds_that_make_no_sense_are_refused(folder: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(WiringError):
        Mirror(folder, SHOP, **wrong)
