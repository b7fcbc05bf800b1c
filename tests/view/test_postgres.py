"""Views in PostgreSQL: what the views in memory do, in columns that other tools can read."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Self
from uuid import UUID

import asyncpg
import pytest

from refold import Event, Singleton, State, Tag
from refold.errors import SubscriptionFailed
from refold.store.open import open_store
from refold.store.postgres import PostgresStore
from refold.testing.postgres import PostgresServer
from refold.testing.view_contract import ViewContract
from refold.view.api import Snapshot, Table, find_of, table_of
from refold.view.memory import MemoryViews
from refold.view.open import open_views
from refold.view.postgres import PostgresViews

ItemId = Annotated[str, Tag("item")]


class Grade(Enum):
    GOOD = "good"
    BAD = "bad"


class Seen(Event):
    item_id: ItemId


class Item(State):
    item_id: ItemId
    name: str | None = None
    count: int = 0
    price: Decimal = Decimal(0)
    weight: float = 0.0
    seen_at: datetime | None = None
    day: date | None = None
    owner: UUID | None = None
    grade: Grade = Grade.GOOD
    sold: bool = False
    picture: bytes = b""
    parts: tuple[str, ...] = ()

    def evolve(self, event: Seen) -> Self:
        return self.replace(count=self.count + 1)


class Total(Singleton):
    count: int = 0

    def evolve(self, event: Seen) -> Self:
        return self.replace(count=self.count + 1)


ITEM = table_of(Item)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(durable=False) as started:
        yield started


@pytest.fixture
async def store(server: PostgresServer, tmp_path: Path) -> Any:
    opened = await open_store(server.url(blake2b(str(tmp_path).encode(), digest_size=8).hexdigest()))
    yield opened
    await opened.close()


@pytest.fixture
async def views(store: PostgresStore) -> PostgresViews:
    opened = open_views(store)
    assert isinstance(opened, PostgresViews)
    await opened.open(ITEM)
    return opened


def items(number: int) -> list[Item]:
    rng = random.Random(number)
    names = [None, "a", "A", "ä", "Z", "é", "é", "'; --", '"', "\\", "💧", ""]
    return [
        Item(
            f"i-{n}",
            name=rng.choice(names),
            count=rng.choice([0, 1, -5, 2**62]),
            price=rng.choice([Decimal("1.10"), Decimal("0.1"), Decimal(-3), Decimal("1E+3"), Decimal("9" * 30)]),
            weight=rng.choice([0.0, 1.5, -2.25, 1e300]),
            seen_at=rng.choice(
                [None, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=rng.randrange(10**12))]
            ),
            day=rng.choice([None, date(2026, 1, 1) + timedelta(days=rng.randrange(100))]),
            owner=rng.choice([None, UUID(int=rng.randrange(2**100))]),
            grade=rng.choice(list(Grade)),
            sold=rng.random() < 0.5,
            picture=rng.randbytes(rng.randrange(5)),
            parts=tuple(rng.choices(["x", "y\n", '"'], k=rng.randrange(3))),
        )
        for n in range(number)
    ]


class TestPostgresViews(ViewContract):
    keeps_notation = False  # the price of columns that other tools can count with: numeric, and jsonb

    @pytest.fixture(autouse=True)
    def _on(self, server: PostgresServer) -> None:
        self.server = server

    @asynccontextmanager
    async def views(self, tmp_path: Path) -> AsyncIterator[PostgresViews]:
        log = await open_store(self.server.url(blake2b(str(tmp_path).encode(), digest_size=8).hexdigest()))
        try:
            views = open_views(log)
            assert isinstance(views, PostgresViews)
            yield views
        finally:
            await log.close()


async def test_rows_come_back_as_they_were(views: PostgresViews) -> None:
    rows = items(60)
    assert await views.advance("Item", before=0, after=7, table=ITEM, rows=rows)
    assert await views.checkpoint("Item") == 7
    found = await views.get(ITEM, [(row.item_id,) for row in rows] + [("none",)])
    assert found == {(row.item_id,): row for row in rows}
    assert type(next(row.owner for row in found.values() if row.owner)) is UUID


async def test_a_later_row_takes_the_place_of_the_earlier(views: PostgresViews) -> None:
    one, two, three = Item("a", count=1), Item("a", count=2), Item("a", count=3)
    await views.advance("Item", before=0, after=1, table=ITEM, rows=[one, two])
    assert await views.get(ITEM, [("a",)]) == {("a",): two}
    await views.advance("Item", before=1, after=2, table=ITEM, rows=[three])
    assert await views.get(ITEM, [("a",)]) == {("a",): three}


async def test_a_checkpoint_that_moved_changes_nothing(views: PostgresViews) -> None:
    for before in (0, 5):
        assert await views.checkpoint("Item") == before
        assert not await views.advance("Item", before=3, after=9, table=ITEM, rows=[Item("a", count=9)])
        assert await views.get(ITEM, [("a",)]) == {}
        assert await views.advance("Item", before=before, after=5)


async def test_of_those_who_move_it_at_once_one_does(views: PostgresViews) -> None:
    for before in range(20):
        moved = await asyncio.gather(
            *(
                views.advance("Item", before=before, after=before + 1, table=ITEM, rows=[Item(f"{before}.{n}")])
                for n in range(4)
            )
        )
        assert sorted(moved) == [False, False, False, True]
    assert await views.count(ITEM, ()) == 20


async def test_find_is_the_find_in_memory(views: PostgresViews) -> None:
    rows, model, rng = items(80), MemoryViews(), random.Random(7)
    await model.open(ITEM)
    for each in (views, model):
        await each.advance("Item", before=0, after=1, table=ITEM, rows=rows)
    names = [column.name for column in ITEM.columns if column.form != "json"]
    for _ in range(150):
        where: dict[str, Any] = {}
        for name in rng.sample(names, rng.randrange(3)):
            value = getattr(rng.choice(rows), name)
            compare = rng.choice(["eq", "ne"] if value is None else ["eq", "ne", "lt", "le", "gt", "ge", "in"])
            choices = [getattr(row, name) for row in rng.sample(rows, 3)]
            where[f"{name}__{compare}"] = [each for each in choices if each is not None] if compare == "in" else value
        order = [rng.choice(["", "-"]) + name for name in rng.sample(names, rng.randrange(3))]
        find = find_of(ITEM, where, order, rng.choice([None, 0, 5]), rng.choice([0, 0, 2]))
        assert await views.find(ITEM, find) == await model.find(ITEM, find), find
        assert await views.count(ITEM, find.where) == await model.count(ITEM, find.where)


async def test_columns_of_json_are_compared_by_value(views: PostgresViews) -> None:
    await views.advance("Item", before=0, after=1, table=ITEM, rows=[Item("a", parts=("x", "y")), Item("b")])
    found = await views.find(ITEM, find_of(ITEM, {"parts": ("x", "y")}, (), None, 0))
    assert [row.item_id for row in found] == ["a"]


async def test_other_tools_find_real_types(views: PostgresViews, store: PostgresStore, server: PostgresServer) -> None:
    await views.advance("Item", before=0, after=1, table=ITEM, rows=items(5))
    reader = await asyncpg.connect(server.url(more="").split("?")[0] + f"?host={server.folder}")
    try:
        types = await reader.fetch(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = $1 AND table_name = 'Item'",
            store.address.view_schema,
        )
        assert dict(map(tuple, types)) == {
            "item_id": "text",
            "name": "text",
            "count": "bigint",
            "price": "numeric",
            "weight": "double precision",
            "seen_at": "timestamp with time zone",
            "day": "date",
            "owner": "uuid",
            "grade": "text",
            "sold": "boolean",
            "picture": "bytea",
            "parts": "jsonb",
        }
        total = await reader.fetchval(f'SELECT sum(price * 2) FROM "{store.address.view_schema}"."Item"')
        assert total == sum(row.price for row in items(5)) * 2
    finally:
        await reader.close()


async def test_a_state_without_a_key_has_one_row(views: PostgresViews) -> None:
    total = table_of(Total)
    await views.open(total)
    assert await views.get(total, [()]) == {}
    await views.advance("Total", before=0, after=1, table=total, rows=[Total(count=1)])
    await views.advance("Total", before=1, after=2, table=total, rows=[Total(count=2)])
    assert await views.get(total, [()]) == {(): Total(count=2)}
    assert await views.count(total, ()) == 1


def changed() -> Table:
    class Item(State):
        item_id: ItemId
        other: int = 0

        def evolve(self, event: Seen) -> Self:
            return self

    return table_of(Item)


async def test_another_definition_is_built_anew(views: PostgresViews, store: PostgresStore) -> None:
    await views.advance("Item", before=0, after=3, table=ITEM, rows=items(3))
    await views.open(ITEM)
    assert (await views.count(ITEM, ()), await views.checkpoint("Item")) == (3, 3)
    newer, other = changed(), open_views(store)
    await asyncio.gather(*(other.open(newer) for _ in range(4)))
    assert (await other.count(newer, ()), await other.checkpoint("Item")) == (0, 0)
    for use in (
        views.get(ITEM, [("i-1",)]),
        views.count(ITEM, ()),
        views.find(ITEM, find_of(ITEM, {}, (), None, 0)),
        views.advance("Item", before=0, after=1, table=ITEM, rows=items(1)),
    ):
        with pytest.raises(SubscriptionFailed):
            await use
    assert await other.checkpoint("Item") == 0


async def test_a_table_that_was_never_opened(store: PostgresStore) -> None:
    with pytest.raises(SubscriptionFailed, match="not kept yet"):
        await open_views(store).get(ITEM, [("a",)])


async def test_a_nul_is_refused(views: PostgresViews) -> None:
    for row in (Item("a\0"), Item("a", parts=("\0",))):
        with pytest.raises(ValueError, match="NUL"):
            await views.advance("Item", before=0, after=1, table=ITEM, rows=[row])
    assert await views.checkpoint("Item") == 0


async def test_snapshots(views: PostgresViews) -> None:
    assert await views.snapshot("Item", "k", "f") is None
    await views.keep_snapshot("Item", "k", "f", Snapshot(5, b"five"))
    await views.keep_snapshot("Item", "k", "f", Snapshot(4, b"four"))
    assert await views.snapshot("Item", "k", "f") == Snapshot(5, b"five")
    assert await views.snapshot("Item", "k", "g") is None
    await views.keep_snapshot("Item", "k", "g", Snapshot(1, b"one"))
    assert await views.snapshot("Item", "k", "g") == Snapshot(1, b"one")


async def test_rows_and_checkpoint_survive_lost_connections(views: PostgresViews, server: PostgresServer) -> None:
    """Whatever is cut, the number in the row is the checkpoint: each step is applied once."""
    killer = await asyncpg.connect(server.url().split("?")[0] + f"?host={server.folder}")

    async def cut() -> None:
        while position < 60:
            await asyncio.sleep(random.uniform(0.02, 0.2))
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid() "
                "AND application_name = 'refold'"
            )

    position = 0
    cutting = asyncio.create_task(cut())
    while position < 60:
        await views.advance(
            "Item", before=position, after=position + 1, table=ITEM, rows=[Item("a", count=position + 1)]
        )
        position = await views.checkpoint("Item")  # it may have been moved though the answer was lost
        assert (await views.get(ITEM, [("a",)]))[("a",)].count == position
    await cutting
    await killer.close()
