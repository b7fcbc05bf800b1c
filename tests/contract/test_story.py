"""The story of `docs/evolution.md`: a shop's orders in four forms over five years, in one log, right at every step."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

from refold import App, Event, NewEvent
from refold.contract.compare import compare
from refold.contract.history import check_history
from refold.model.record import Metadata, StoredEvent
from refold.model.schema import encode_metadata
from refold.testing import check_upcasters
from tests.conftest import Log
from tests.contract.story import golden, naive, y2021, y2022, y2024, y2026

ON_POSTGRES = True
CAUGHT: dict[int, set[tuple[str, str]]] = {
    2022: {
        ("OrderAborted.v1", "event-removed"),
        ("OrderPlaced.v1", "field-required"),
        ("OrderPlaced.v1", "tag-moved"),
    },
    2024: {("OrderPlaced.v2", "field-required")},
    2026: {("OrderCancelled.v1", "field-renamed")},
}
YEARS = {2021: y2021, 2022: y2022, 2024: y2024, 2026: y2026}

EXPECTED: dict[int, dict[str, list[Any]]] = {
    2021: {
        "Order": [("o-1", "placed", 900, "1 High Street"), ("o-2", "aborted: out of stock", 450, "2 Low Road")],
        "Customer": [("ann", 1, 900), ("bob", 1, 450)],
        "Sales": [("cup", 1), ("tea", 2)],
    },
    2022: {
        "Order": [
            ("o-1", "cancelled: never arrived", 900, "1 High Street"),
            ("o-2", "cancelled: out of stock", 450, "2 Low Road"),
            ("o-3", "placed", 2250, "1 High Street"),
        ],
        "Customer": [("ann", 2, 3150), ("bob", 1, 450)],
        "Sales": [("cup", 5), ("tea", 3)],
    },
    2024: {
        "Order": [
            ("o-1", "cancelled: never arrived", Decimal("9.00"), "HRK", "1 High Street"),
            ("o-2", "cancelled: out of stock", Decimal("4.50"), "HRK", "2 Low Road"),
            ("o-3", "cancelled: changed her mind", Decimal("22.50"), "HRK", "1 High Street"),
            ("o-4", "placed", Decimal("13.50"), "EUR", "3 Side Lane"),
        ],
        "Customer": [("ann", 2, Decimal("4.18")), ("bob", 1, Decimal("0.60")), ("cyd", 1, Decimal("13.50"))],
        "Sales": [("cup", 5), ("tea", 6)],
    },
    2026: {
        "Order": [
            ("o-1", "cancelled: never arrived", Decimal("9.00"), "HRK", "1 High Street"),
            ("o-2", "cancelled: out of stock", Decimal("4.50"), "HRK", "2 Low Road"),
            ("o-3", "cancelled: changed her mind", Decimal("22.50"), "HRK", "1 High Street"),
            ("o-4", "placed", Decimal("13.50"), "EUR", "4 New Square"),
            ("o-5", "placed", Decimal("39.00"), "EUR", "3 Side Lane"),
        ],
        "Customer": [("ann", 2, Decimal("4.18")), ("bob", 1, Decimal("0.60")), ("cyd", 2, Decimal("52.50"))],
        "Sales": [("cup", 7), ("pot", 1), ("tea", 6)],
    },
}
KEYS = {"Order": ["o-1", "o-2", "o-3", "o-4", "o-5"], "Customer": ["ann", "bob", "cyd"], "Sales": ["cup", "pot", "tea"]}


def values(state: Any) -> tuple[Any, ...]:
    return tuple(getattr(state, name) for name in state.__struct_fields__)


async def record(app: App, year: int) -> None:
    for event in YEARS[year].RECORDED:
        await app.record(event, occurred_at=datetime(year, 6, 1, tzinfo=UTC))


async def check(app: App, program: ModuleType, expected: dict[str, list[Any]]) -> None:
    """See that views are as expected, and loaded states as the views."""
    await app.settle()
    for name, rows in expected.items():
        cls = getattr(program, name)
        assert [values(row) for row in await app.view(cls).find()] == rows
        for key in KEYS[name]:
            kept = await app.view(cls).get(key)
            assert await app.load(cls(key)) == (kept or cls(key))


async def test_each_program_reads_all_that_those_before_it_have_recorded(log: Log) -> None:
    heads: dict[int, int] = {}
    for year, program in YEARS.items():
        async with program.app(log, snapshot_every=1) as app:
            await record(app, year)
            await check(app, program, EXPECTED[year])
            heads[year] = await app.head()
            # And as it was: by the position where an earlier year ended, in the terms of this one.
            for earlier, head in heads.items():
                known = {row[0]: row[-1] for row in EXPECTED[earlier]["Sales"]}
                assert {each.sku: each.sold for each in await app.view(program.Sales).find(as_of=head)} == known
                for sku in KEYS["Sales"]:
                    assert (await app.load(program.Sales(sku), as_of=head)).sold == known.get(sku, 0)


async def test_the_history_check_passes_at_every_step(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    for year, program in YEARS.items():
        app = program.app(url)
        async with app:
            await record(app, year)
        report = await check_history(app.program, url)
        assert (report.failed, report.failures) == (0, ())
        assert {(each.type, each.version) for each in report.types} == set(golden.forms(upto=year))
        assert {each.name: each.keys for each in report.folded} == {
            name: len(rows) for name, rows in EXPECTED[year].items()
        }


@pytest.mark.parametrize(("before", "year"), list(pairwise(YEARS)))
def test_the_comparison_passes_each_step_and_catches_what_somebody_in_a_hurry_would_do(before: int, year: int) -> None:
    locked = YEARS[before].app("memory:").contract()
    right = compare(locked, YEARS[year].app("memory:").contract())
    assert [each for each in right if each.fails("backward")] == []
    found = {(each.about, each.rule) for each in compare(locked, naive.app(year).contract()) if each.fails("backward")}
    assert found == CAUGHT[year]


async def test_the_history_check_catches_what_somebody_in_a_hurry_would_do(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    for before, year in pairwise(YEARS):
        async with YEARS[before].app(url) as app:
            await record(app, before)
        report = await check_history(naive.app(year).program, url)
        assert report.failed
        assert all(each.todo for each in report.failures)


@pytest.mark.parametrize("year", YEARS)
def test_what_each_program_stored_is_kept_as_it_was(year: int) -> None:
    schema = YEARS[year].app("memory:").schema
    stored = [schema.encode(event) for event in YEARS[year].RECORDED]
    assert stored == golden.STORED[year], "a program stores what it always has"


@pytest.mark.parametrize("year", YEARS)
def test_golden_events_of_all_years_before_are_read_by_each_program(year: int) -> None:
    program = YEARS[year]
    app = program.app("memory:")
    old = [(then, event) for then in YEARS if then <= year for event in golden.STORED[then]]
    check_upcasters(app, *(stored(then, event) for then, event in old), examples=10)
    found = [each for then, event in old for each in app.schema.decode(stored(then, event))]
    rows = EXPECTED[year]
    assert [values(state) for state in folded(program.Sales, KEYS["Sales"], found)] == rows["Sales"]
    assert [values(state) for state in folded(program.Order, KEYS["Order"], found)] == rows["Order"]


def stored(year: int, event: NewEvent) -> StoredEvent:
    moment = datetime(year, 6, 1, tzinfo=UTC)
    metadata = encode_metadata(Metadata(occurred_at=moment))
    return StoredEvent(1, moment, event.type, event.version, event.tags, event.data, metadata)


def folded(cls: Any, keys: Sequence[str], events: Iterable[Event]) -> list[Any]:
    states = [cls(key).fold(list(events)) for key in keys]
    return [state for state in states if state != cls(getattr(state, state.__struct_fields__[0]))]
