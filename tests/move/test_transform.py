"""Transformations: what the function says and nothing else, verified, into a log of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from refold import Event, Recorded, Tag, stored_as
from refold.errors import InvalidEvent, StoreError, UnknownEvent, WiringError
from refold.model.record import Metadata, NewEvent, StoredEvent
from refold.model.schema import Schema, decode_metadata
from refold.move import transform as module
from refold.move.positions import read_positions
from refold.move.transform import Made, decoded, transform
from refold.store.memory import MemoryStore
from refold.store.open import open_store
from refold.testing.postgres import PostgresServer
from tests.move.logs import events_of, histories, log_of, numbered, settled

OrderId = Annotated[str, Tag("order")]


@given(history=histories)
@settings(max_examples=60, deadline=None)
async def test_without_a_function_the_copy_equals_the_source(history: list[list[NewEvent]]) -> None:
    source, target = await log_of(history), MemoryStore()
    result = await transform(source, target)
    before, after = await events_of(source), await events_of(target)
    assert [settled(event) for event in after] == [settled(event) for event in before]
    assert [event.position for event in after] == [event.position for event in before]
    assert (result.kept, result.dropped, result.written, result.shifted) == (len(before), 0, len(before), False)


async def test_events_are_kept_changed_split_and_dropped(tmp_path: Path) -> None:
    source, target = await log_of([numbered(9)]), MemoryStore()

    def function(event: StoredEvent) -> Made:
        match event.position % 4:
            case 0:
                return None
            case 1:
                return event
            case 2:
                return replace(event, data=b'{"new":1}', tags=("other:1",))
            case _:
                return [event, NewEvent("Half"), NewEvent("Half", metadata=b'{"event_id":"own"}')]

    result = await transform(source, target, function, positions=tmp_path / "map.csv")
    before, after = await events_of(source), await events_of(target)
    assert [(event.type, event.data, event.tags) for event in after[:5]] == [
        (before[0].type, before[0].data, before[0].tags),
        (before[1].type, b'{"new":1}', ("other:1",)),
        (before[2].type, before[2].data, before[2].tags),
        ("Half", b"{}", ()),
        ("Half", b"{}", ()),
    ]
    told = [decode_metadata(event) for event in after]
    assert [each.event_id for each in told[:5]] == ["e-1", "e-2", "e-3", "e-3.1", "own"]
    assert told[3].actor == "counter"
    assert {each.occurred_at for each in told} == {before[0].recorded_at}
    assert (result.read, result.kept, result.dropped, result.written, result.shifted) == (9, 5, 2, 11, True)
    assert [*read_positions(tmp_path / "map.csv")] == [
        (1, 1), (2, 2), (3, 3), (3, 4), (3, 5), (4, None), (5, 6), (6, 7), (7, 8), (7, 9), (7, 10), (8, None), (9, 11)
    ]  # fmt: skip
    assert await events_of(source) == before


async def test_it_goes_on_behind_what_is_there_and_brings_what_came_since(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "BATCH_EVENTS", 10)
    source, target = await log_of([numbered(95)]), MemoryStore()
    append, calls = target.append, 0

    async def failing(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise StoreError("the connection is lost")
        return await append(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(target, "append", failing)
    with pytest.raises(StoreError, match="connection is lost"):
        await transform(source, target, split, positions=tmp_path / "map.csv")
    assert await target.head() == 40
    first = await transform(source, target, split, positions=tmp_path / "map.csv")
    assert (first.appended, first.written) == (150, 190)
    await source.append(numbered(3))
    second = await transform(source, target, split, positions=tmp_path / "map.csv")
    assert (second.appended, second.written) == (6, 196)
    assert second.sha256 != first.sha256
    assert len([*read_positions(tmp_path / "map.csv")]) == 196
    assert (await transform(source, target, split)) == replace(second, appended=0)


def split(event: StoredEvent) -> Made:
    return [event, event]


async def test_a_target_that_holds_anything_else_is_refused(tmp_path: Path) -> None:
    source = await log_of([numbered(30)])
    target = await log_of([[NewEvent("Other")]])
    with pytest.raises(StoreError, match="holds something else: at position 1 a Other"):
        await transform(source, target)
    for function in (lambda event: None, split, lambda event: replace(event, version=2)):
        target = MemoryStore()
        await transform(source, target)
        with pytest.raises(StoreError, match="holds something else"):
            await transform(source, target, function)
        assert await target.head() == 30
    await transform(source, target)
    await target.append([NewEvent("More")])
    with pytest.raises(StoreError, match="at position 31 a More"):
        await transform(source, target)


async def test_what_others_append_meanwhile_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_EVENTS", 10)
    source, target = await log_of([numbered(30)]), MemoryStore()
    number = 0

    def function(event: StoredEvent) -> StoredEvent:
        nonlocal number
        number += 1
        if number == 15:
            target._events.append(replace(event, position=11))
        return event

    with pytest.raises(StoreError, match="meanwhile"):
        await transform(source, target, function)


@pytest.mark.parametrize("drops", [True, False])
async def test_a_function_that_is_not_pure_fails_the_verification(drops: bool) -> None:
    source, calls = await log_of([numbered(30)]), 0

    def moody(event: StoredEvent) -> StoredEvent | None:
        nonlocal calls
        calls += 1
        return event if calls != 50 else None if drops else replace(event, data=b"7")

    with pytest.raises(StoreError, match="holds something else"):
        await transform(source, MemoryStore(), moody)


async def test_a_target_that_loses_an_event_fails_the_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = await log_of([numbered(30)]), MemoryStore()
    append = target.append

    async def losing(*arguments: object) -> object:
        result = await append(*arguments)  # type: ignore[arg-type]
        target._events.pop()
        return result

    monkeypatch.setattr(target, "append", losing)
    with pytest.raises(StoreError, match="lacks what the event at position 30 becomes"):
        await transform(source, target)


@pytest.mark.parametrize(
    ("function", "error", "says"),
    [
        (lambda event: 1 / 0, InvalidEvent, "ZeroDivisionError"),
        (lambda event: "text", WiringError, "position 1, .*several in a list, or None"),
        (lambda event: [7], WiringError, "neither a StoredEvent nor a NewEvent"),
        (lambda event: replace(event, type=""), InvalidEvent, "position 1, Counted: an empty event type"),
    ],
)
async def test_a_function_that_gives_no_events_is_refused(
    function: Callable[[StoredEvent], Made], error: type[Exception], says: str
) -> None:
    target = MemoryStore()
    with pytest.raises(error, match=says):
        await transform(await log_of([numbered(3)]), target, function)
    assert await target.head() == 0


class Paid(Event):
    order_id: OrderId
    euros: int


@stored_as("Charged", version=1)
class ChargedV1(Event):
    order_id: OrderId
    euros: int


@stored_as("Charged", version=2)
class Charged(Event):
    order_id: OrderId
    cents: int


def in_cents(old: ChargedV1) -> Charged:
    return Charged(old.order_id, old.euros * 100)


SCHEMA = Schema(Paid | Charged, [in_cents])


async def test_a_function_may_take_and_give_what_the_app_reads() -> None:
    metadata = Metadata(event_id="e-1", actor="me")
    paid = SCHEMA.encode(Paid("o-1", 3), metadata)
    spaced = replace(paid, data=b'{"order_id": "o-2", "euros": 4}')
    old = Schema(ChargedV1).encode(ChargedV1("o-3", 5), metadata)
    source, target = await log_of([[paid, spaced, old]]), MemoryStore()

    def function(recorded: Recorded[Paid | Charged]) -> object:
        match recorded.event:
            case Paid("o-1"):
                return [Charged("o-1", 300), Paid("o-9", 0)]
            case event:
                return event

    await transform(source, target, decoded(function, SCHEMA))
    after = await events_of(target)
    assert [(each.type, each.version, each.tags, each.data) for each in after] == [
        ("Charged", 2, ("order:o-1",), b'{"order_id":"o-1","cents":300}'),
        ("Paid", 1, ("order:o-9",), b'{"order_id":"o-9","euros":0}'),
        ("Paid", 1, paid.tags, spaced.data),
        ("Charged", 2, ("order:o-3",), b'{"order_id":"o-3","cents":500}'),
    ]
    assert [decode_metadata(each).event_id for each in after] == ["e-1", "e-1.1", "e-1", "e-1"]
    with pytest.raises(UnknownEvent, match="Counted"):
        await transform(await log_of([numbered(1)]), MemoryStore(), decoded(function, SCHEMA))
    with pytest.raises(WiringError, match="no Event"):
        await transform(source, MemoryStore(), decoded(lambda recorded: [recorded], SCHEMA))


async def test_a_log_grows_from_sqlite_into_postgres_and_back(tmp_path: Path, postgres: PostgresServer) -> None:
    small, large = await open_store(f"sqlite:///{tmp_path}/log.db"), await open_store(postgres.url("grown"))
    await small.append(numbered(2_345))
    there = await transform(small, large)
    assert (there.kept, there.shifted) == (2_345, False)
    again = await open_store(f"sqlite:///{tmp_path}/again.db")
    back = await transform(large, again)
    assert (back.kept, back.sha256) == (2_345, there.sha256)
    for store in (small, large, again):
        await store.close()
