"""Views in PostgreSQL: what the views in memory do, in columns that other tools can read."""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator
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

from refold import Event, State, Tag, WiringError
from refold.store.api import Store
from refold.store.open import open_store
from refold.store.postgres import PostgresStore
from refold.testing.postgres import PostgresServer
from refold.testing.view.tools import Mark
from refold.testing.view_contract import ViewContract
from refold.view.api import Expect, Put
from refold.view.find import find_of
from refold.view.memory import MemoryViews
from refold.view.open import open_views, open_views_at
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
INDEXED = table_of(Item, "Indexed", ["item_id"], version="v1", indexes=[("count",)])
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
    await opened.create([ITEM, INDEXED, MARKS])
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
    async def beside(self, tmp_path: Path) -> AsyncGenerator[tuple[Store, PostgresViews]]:
        log = await open_store(self.server.url(blake2b(str(tmp_path).encode(), digest_size=8).hexdigest()))
        try:
            views = open_views(log)
            assert isinstance(views, PostgresViews)
            yield log, views
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
            before = position
            await asyncio.sleep(random.uniform(0.02, 0.2))
            while position == before:  # on a busy machine nothing would ever be done between
                await asyncio.sleep(0.001)
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


async def test_views_in_a_database_without_a_log(server: PostgresServer) -> None:
    views = await open_views_at(server.url("alone"))
    try:
        await views.create([ITEM])
        assert await views.write([Put(ITEM, [Item("a")])], [Expect(ITEM, ("a",))])
        again = await open_views_at(server.url("alone"))
        assert await again.get(ITEM, [("a",)]) == {("a",): Item("a")}
        await again.close()
    finally:
        await views.close()


async def test_views_opened_by_many_at_once(server: PostgresServer) -> None:
    opened = await asyncio.gather(*[open_views_at(server.url("many")) for _ in range(8)])
    await asyncio.gather(*[views.create([ITEM]) for views in opened])
    assert await opened[0].count(ITEM, ()) == 0
    for views in opened:
        await views.close()


async def test_an_index_gives_rows_in_order(views: PostgresViews, store: PostgresStore, server: PostgresServer) -> None:
    """A page of many rows, by an indexed field, does not sort them all."""
    await views.write([Put(INDEXED, [Item(f"{n:05}", name=f"{n % 50}", count=n) for n in range(5_000)])])
    reader = await asyncpg.connect(server.url().split("?")[0] + f"?host={server.folder}")
    try:
        await reader.execute(f'SET search_path = "{store.address.view_schema}"; ANALYZE "Indexed_v1"')
        for order in ("ASC NULLS FIRST", "DESC NULLS LAST"):
            lines = await reader.fetch(
                f'EXPLAIN SELECT * FROM "Indexed_v1" ORDER BY "count" {order}, "item_id" LIMIT 20'
            )
            plan = "\n".join(line[0] for line in lines)
            assert "Indexed_v1_count_idx" in plan, plan
            assert "Presorted Key" in plan, plan
    finally:
        await reader.close()


async def test_a_table_that_is_there_gets_the_indexes_that_it_lacks_from_its_owner(server: PostgresServer) -> None:
    now = table_of(Mark, "_mark", ["name"], indexes=[("position",)])
    long = table_of(Mark, "m" * 60, ["name"], indexes=[("position",)])
    owner = await open_views_at(server.url("owned"))
    await owner.create([MARKS])
    admin = await asyncpg.connect(server.url().split("?")[0] + f"?host={server.folder}")
    await admin.execute("CREATE ROLE another LOGIN; GRANT USAGE, CREATE ON SCHEMA owned_view TO another")
    another = await open_views_at(server.url("owned", user="another"))
    indexes = "SELECT indexname FROM pg_indexes WHERE schemaname = 'owned_view' AND tablename = $1 ORDER BY 1"
    try:
        for views, expected in ((another, []), (owner, ["_mark_position_idx"]), (owner, ["_mark_position_idx"])):
            await views.create([now, *([long] if views is owner else [])])
            assert [name for (name,) in await admin.fetch(indexes, "_mark")] == ["_mark_pkey", *expected]
        assert len(await admin.fetch(indexes, "m" * 60)) == 2
    finally:
        await admin.close()
        await another.close()
        await owner.close()


async def test_writers_in_opposite_order_wait_for_each_other(views: PostgresViews) -> None:
    """Two that take the same rows the other way round are one after the other, not an error."""
    rows = [Item("a"), Item("b")]
    await views.write([Put(ITEM, rows)])

    async def add(items: list[str]) -> None:
        while True:
            seen = await views.get(ITEM, [(each,) for each in items])
            expects = [Expect(ITEM, (each,), {"count": seen[each,].count}) for each in items]
            puts = [Put(ITEM, [Item(each, count=seen[each,].count + 1)]) for each in items]
            if await views.write(puts, expects):
                return

    await asyncio.gather(*[add(["a", "b"][:: 1 if n % 2 else -1]) for n in range(12)])
    assert [row.count for row in (await views.get(ITEM, [("a",), ("b",)])).values()] == [12, 12]


async def test_what_is_expected_and_not_written_holds(views: PostgresViews) -> None:
    """Who relies on a row that another changes is either before the change or does nothing."""
    await views.write([Put(MARKS, [Mark("epoch", 1)])])

    async def work(number: int) -> bool:
        return await views.write([Put(ITEM, [Item(f"{number}")])], [Expect(MARKS, ("epoch",), {"position": 1})])

    async def take_over() -> int:
        assert await views.write([Put(MARKS, [Mark("epoch", 2)])], [Expect(MARKS, ("epoch",), {"position": 1})])
        return await views.count(ITEM, ())

    early = [asyncio.create_task(work(n)) for n in range(5)]
    taking = asyncio.create_task(take_over())
    done = await asyncio.gather(*early, *[work(n) for n in range(5, 10)])
    assert await views.count(ITEM, ()) == await taking == sum(done), "nothing was written after the takeover"


async def test_what_cannot_be_kept_is_the_values_fault(views: PostgresViews) -> None:
    """An error that trying again does not heal is not taken for one of the database."""
    for row in (Item(secrets(4_000)), Item("a", count=2**63), Item("a", name="\ud800")):
        with pytest.raises(ValueError, match="PostgreSQL cannot keep"):
            await views.write([Put(MARKS, [Mark("m", 1)]), Put(ITEM, [row])])
    assert await views.count(MARKS, ()) == 0


def secrets(size: int) -> str:
    """Return a text that cannot be compressed to what an index takes."""
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=size))


async def test_a_name_that_is_too_long(views: PostgresViews) -> None:
    with pytest.raises(WiringError, match="too long a name"):
        await views.create([table_of(Item, "I" * 60, ["item_id"], version="v123")])
