"""The registry: each schema that events were stored by is written down once, from the first position that used it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import pytest
from msgspec import Meta

from refold import App, Command, Event, Tag, stored_as
from refold.contract.describe import TagRule
from refold.errors import StoreError
from refold.model.record import NewEvent
from refold.model.schema import Schema
from refold.runtime import registry
from refold.runtime.books import StoredSchema
from refold.runtime.registry import Registry, stored_schemas
from refold.store.api import Appended, Capability, Conditions, Store
from refold.store.memory import MemoryStore
from tests.conftest import Log

ON_POSTGRES = True
OrderId = Annotated[str, Tag("order")]


class Placed(Event):
    """Somebody wants something."""

    order_id: OrderId
    total: Annotated[int, Meta(description="In cents.")]


class Shipped(Event):
    order_id: OrderId


@stored_as("Placed")
class PlacedOtherwise(Event):
    order_id: OrderId
    total: Annotated[int, Meta(description="In cents, with tax.")]
    note: str = ""


@stored_as("Placed")
class PlacedInOtherWords(Event):
    """A customer wants something."""

    order_id: OrderId
    total: Annotated[int, Meta(description="In cents, with tax.")]


@stored_as("Placed", version=2)
class PlacedV2(Event):
    order_id: OrderId
    euros: int


def in_euros(old: Placed) -> PlacedV2:
    return PlacedV2(old.order_id, old.total // 100)


class Ship(Command):
    order_id: OrderId


def ship(command: Ship) -> Shipped:
    return Shipped(command.order_id)


async def written_down(app: App) -> list[tuple[str, int, int]]:
    await app._now.executor.registry.settle()  # pyright: ignore[reportPrivateUsage]
    rows = await stored_schemas(app._now.store)  # pyright: ignore[reportPrivateUsage]
    return [(row.type, row.version, row.position) for row in rows]


async def test_a_schema_is_written_down_when_it_is_first_used(log: Log) -> None:
    async with App(log, events=Placed | Shipped, decisions=[ship]) as app:
        assert await written_down(app) == []
        await app.record(Placed("o-1", 100), Placed("o-2", 100))
        assert await written_down(app) == [("Placed", 1, 1)]
        await app.execute(Ship("o-1"))
        await app.record(Placed("o-3", 100))
        assert await written_down(app) == [("Placed", 1, 1), ("Shipped", 1, 3)]
        row, _ = await stored_schemas(app._now.store)  # pyright: ignore[reportPrivateUsage]
    assert json.loads(row.schema)["properties"] == {
        "order_id": {"type": "string"},
        "total": {"type": "integer", "description": "In cents."},
    }
    assert [*json.loads(row.schema)["properties"]] == ["order_id", "total"], "in their order"
    assert row.tags == (TagRule("order", "order_id", "str"),)
    assert (row.doc, row.source.rpartition(":")[2]) == ("Somebody wants something.", "Placed")
    assert abs(datetime.now(UTC) - row.seen_at).total_seconds() < 60


async def test_a_new_version_is_a_new_row_and_so_is_a_change_without_one(log: Log) -> None:
    async with App(log, events=Placed) as app:
        await app.record(Placed("o-1", 100))
    async with App(log, events=PlacedInOtherWords) as app:
        await app.record(PlacedInOtherWords("o-1", 100))
        assert await written_down(app) == [("Placed", 1, 1)], "other words are no other schema"
    async with App(log, events=PlacedOtherwise) as app:
        await app.record(PlacedOtherwise("o-1", 100))
        await app.record(PlacedOtherwise("o-1", 100))
        assert await written_down(app) == [("Placed", 1, 1), ("Placed", 1, 3)]
    async with App(log, events=PlacedV2, upcasters=[in_euros]) as app:
        await app.record(PlacedV2("o-1", 1))
        assert await written_down(app) == [("Placed", 1, 1), ("Placed", 1, 3), ("Placed", 2, 5)]


async def test_what_a_crash_left_out_is_found_by_the_next_who_starts(log: Log) -> None:
    """A program that ends between the append and the row leaves a log like one of a time before the registry."""
    async with App(log, events=Placed | Shipped).passive() as app:
        store = app._now.store  # pyright: ignore[reportPrivateUsage]
        old = [app.schema.encode(Placed(f"o-{number}", 100)) for number in range(30)]
        new = Schema(PlacedV2, [in_euros]).encode(PlacedV2("o-1", 1))
        await store.append([NewEvent("Other"), *old])
        await store.append([new, *old[:3], *[new] * 30, *old[:2], *[new] * 5])  # two programs at once, for a while
        assert await written_down(app) == []
    async with App(log, events=PlacedV2 | Shipped, upcasters=[in_euros]).passive() as app:
        assert await written_down(app) == [], "one that looks only writes nothing"
    async with App(log, events=PlacedV2 | Shipped, upcasters=[in_euros]) as app:
        assert await written_down(app) == [("Placed", 1, 2), ("Placed", 2, 32)]
        await app.record(PlacedV2("o-1", 1), Shipped("o-1"))
        assert await written_down(app) == [("Placed", 1, 2), ("Placed", 2, 32), ("Shipped", 1, 74)]


async def test_what_is_used_again_before_it_was_written_down_begins_where_it_was_first_used() -> None:
    store = MemoryStore()
    async with App(store, events=Placed) as app:
        await store.append([app.schema.encode(Placed("o-1", 1))])
        await app.record(Placed("o-1", 2))
        assert await written_down(app) == [("Placed", 1, 1)]


class Bare:
    """The port and nothing else."""

    capabilities = frozenset[Capability]()

    def __init__(self) -> None:
        self.log = MemoryStore()
        self.reads = 0

    async def append(
        self, events: Sequence[NewEvent], condition: Conditions = None, *, append_id: str | None = None
    ) -> Appended:
        return await self.log.append(events, condition, append_id=append_id)

    def __getattr__(self, name: str) -> object:
        return getattr(self.log, name)


async def test_a_store_without_rows_has_no_registry_and_works() -> None:
    store: Store = Bare()  # type: ignore[assignment]
    async with App(store, events=Placed) as app:
        assert await app.record(Placed("o-1", 1)) == 1
        assert await stored_schemas(store) == []


async def test_a_registry_that_cannot_be_written_fails_no_append(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(*_: object) -> list[StoredSchema]:
        raise StoreError("no rows today")

    monkeypatch.setattr(registry, "_rows", failing)
    async with App("memory:", events=Placed) as app:
        assert await app.record(Placed("o-1", 1)) == 1
        assert await app.record(Placed("o-1", 1)) == 2
    told = [record.getMessage() for record in caplog.records if record.name == "refold.registry"]
    assert told == [
        "the schemas of events are not written down: no rows today",
        "the schema of Placed version 1 is not written down: no rows today",
    ]


async def test_what_is_known_costs_no_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def counting(*arguments: object) -> list[StoredSchema]:
        nonlocal asked
        asked += 1
        return await rows(*arguments)  # type: ignore[arg-type]

    rows = registry._rows  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(registry, "_rows", counting)
    async with App("memory:", events=Placed | Shipped) as app:
        for _ in range(5):
            await app.record(Placed("o-1", 1), Shipped("o-1"))
    assert asked == 1 + 2


@pytest.mark.parametrize("versions", ["1", "12", "1112", "2", "3312", "1212121222", "1" * 300 + "2" * 3, "21"])
async def test_the_first_of_a_version_is_found_in_few_reads(versions: str) -> None:
    store = MemoryStore()
    await store.append([NewEvent("Placed" if each != "0" else "x", version=int(each)) for each in versions])
    reads = 0
    read = store.read

    def counting(*arguments: object, **options: object) -> object:
        nonlocal reads
        reads += 1
        return read(*arguments, **options)  # type: ignore[arg-type]

    store.read = counting  # type: ignore[method-assign,assignment]
    found = await Registry(store, Schema(Placed), None)._first("Placed", 2)  # pyright: ignore[reportPrivateUsage]
    assert found == (versions.find("2") + 1 or None)
    assert reads <= 12
