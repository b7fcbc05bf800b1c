"""The check of upcasters passes the right ones, and tells of each thing that is wrong with others."""

import itertools
import random
import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import pytest
from hypothesis import given, settings
from msgspec import Struct

from refold import App, Event, Metadata, NewEvent, Tag, WiringError, stored_as
from refold.model.schema import Schema
from refold.testing import check_upcasters, events_of, upcast
from tests.model.test_upcast import SCHEMA, Deposited, PaidIn, TransferredV1, Withdrawn

COUNTER = itertools.count()


def test_right_ones_pass_whatever_is_given() -> None:
    check_upcasters(SCHEMA)
    check_upcasters(
        SCHEMA, PaidIn("a", 1), NewEvent("PaidIn", b'{"account":"a","cents":5}', ("account:a",)), examples=0
    )
    app = App("memory:", events=Withdrawn | Deposited, upcasters=[paid_in])
    check_upcasters(app)
    assert upcast(app, PaidIn("a", 100)) == (Deposited("a", Decimal(1), "EUR"),)
    then = Metadata(occurred_at=datetime.fromisoformat("1999-01-01T00:00:00Z"))
    assert [each.currency for each in upcast(SCHEMA, TransferredV1("a", "b", 1), then)] == ["DEM", "DEM"]  # type: ignore[attr-defined]


def paid_in(old: PaidIn) -> Deposited:
    return Deposited(old.account, Decimal(old.cents) / 100, "EUR")


def counting(old: PaidIn) -> Deposited:
    return Deposited(old.account, Decimal(next(COUNTER)), "EUR")


def drawing(old: PaidIn) -> Deposited:
    return Deposited(old.account, Decimal(random.randrange(10**9)), "EUR")


def equal_and_yet_another(old: PaidIn) -> Deposited:
    return Deposited(old.account, Decimal("1.0" if next(COUNTER) % 2 else "1.00"), "EUR")


def not_to_be_stored(old: PaidIn) -> Deposited:
    return Deposited(old.account, Decimal("NaN"), "EUR")


def of_another_type(old: PaidIn) -> Deposited:
    return Deposited(old.account, 0.1, "EUR")  # type: ignore[arg-type]


def failing(old: PaidIn) -> Deposited:
    return Deposited(old.account, Decimal(100 // old.cents), "EUR")


def making_up_tags(old: PaidIn) -> Deposited:
    return Deposited(f"{old.account}?", Decimal(old.cents), "EUR")


@pytest.mark.parametrize(
    ("upcaster", "why"),
    [
        (counting, "an upcaster is pure"),
        (drawing, "an upcaster is pure"),
        (equal_and_yet_another, "an upcaster is pure"),
        (not_to_be_stored, "which cannot be stored: Deposited.amount is Decimal('NaN')"),
        (of_another_type, "which cannot be stored: Deposited.amount is"),
        (failing, "failing: ZeroDivisionError"),
        (making_up_tags, "by which it is found: keep the value as it is stored"),
    ],
)
def test_wrong_ones_are_told(upcaster: Any, why: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(why)):
        check_upcasters(Schema(Withdrawn | Deposited, [upcaster]), PaidIn("a", 5))


def test_golden_events_that_no_longer_fit_are_told() -> None:
    with pytest.raises(AssertionError, match=r'PaidIn version 1 {"account":"a"} cannot be read: .* required field'):
        check_upcasters(SCHEMA, NewEvent("PaidIn", b'{"account":"a"}', ("account:a",)))
    with pytest.raises(AssertionError, match="is a Gone version 1, but this program has no such event"):
        check_upcasters(SCHEMA, NewEvent("Gone"))


# Events made up.


class Color(Enum):
    RED = "red"


class Line(Struct, frozen=True):
    sku: str
    parts: tuple["Line", ...] = ()
    other: "Line | None" = None


@dataclass(frozen=True)
class Point:
    x: float


Name = NewType("Name", str)


@stored_as("Everything")
class Everything(Event):
    id: Annotated[UUID, Tag("id")]
    number: Annotated[int, Tag("n")]
    text: str
    name: Name
    flag: bool
    raw: bytes
    amount: Decimal
    moment: datetime
    day: date
    clock: time
    length: timedelta
    color: Color
    size: Literal["s", "l"]
    lines: tuple[Line, ...]
    pair: tuple[int, str]
    points: list[Point]
    prices: dict[str, Decimal]
    colors: frozenset[Color]
    maybe: int | None
    anything: Any


@given(events_of(Everything))
@settings(max_examples=20, deadline=None)
def test_events_are_made_up_that_could_be_stored(event: Everything) -> None:
    Schema(Everything).encode(event)


def test_what_cannot_be_made_up_is_told() -> None:
    class Strange(Event):
        value: range

    with pytest.raises(WiringError, match=r"Strange: no values of <class 'range'> can be made up here"):
        events_of(Strange)
