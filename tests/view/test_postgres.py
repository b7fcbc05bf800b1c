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

from refold import Event, State, Tag
from refold.store.open import open_store
from refold.store.postgres import PostgresStore
from refold.testing.postgres import PostgresServer
from refold.testing.view.tools import Mark
from refold.testing.view_contract import ViewContract
from refold.view.api import Expect, Put
from refold.view.find import find_of
from refold.view.memory import MemoryViews
from refold.view.open import open_views
from refold.view.postgres import PostgresViews
from refold.view.table import table_of

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


ITEM = table_of(Item, "Item", ["item_id"], version="v1")
MARKS = table_of(Mark, "_mark", ["name"])


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
    await opened.create([ITEM, MARKS])
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


async def test_find_is_the_find_in_memory(views: PostgresViews) -> None:
    rows, model, rng = items(80), MemoryViews(), random.Random(7)
    await model.create([ITEM])
    for each in (views, model):
        await each.write([Put(ITEM, rows)])
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


async def test_other_tools_find_real_types(views: PostgresViews, store: PostgresStore, server: PostgresServer) -> None:
    await views.write([Put(ITEM, items(5))])
    await views.expose(ITEM)
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


async def test_a_nul_is_refused(views: PostgresViews) -> None:
    for row in (Item("a\0"), Item("a", parts=("\0",))):
        with pytest.raises(ValueError, match="NUL"):
            await views.write([Put(MARKS, [Mark("m", 1)]), Put(ITEM, [row])])
    assert await views.count(MARKS, ()) == 0


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
        expect = Expect(MARKS, ("m",), {"position": position} if position else None)
        row = Item("a", count=position + 1)
        await views.write([Put(ITEM, [row]), Put(MARKS, [Mark("m", position + 1)])], [expect])
        position = (await views.get(MARKS, [("m",)]))["m",].position  # it may have moved though the answer was lost
        assert (await views.get(ITEM, [("a",)]))[("a",)].count == position
    await cutting
    await killer.close()
