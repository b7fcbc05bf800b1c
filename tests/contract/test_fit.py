"""The law of comparing: if nothing is said to break backward, new code reads whatever old code has written.

And its mirror: if nothing is said to break forward, old code reads whatever new code writes, as consumers do.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct

from refold.contract.fit import changes
from refold.contract.shape import json_schema


class Card(Struct, tag="card"):
    number: str


class Cash(Struct, tag="cash"):
    amount: int = 0


class Point(Struct, array_like=True):
    x: int
    y: int = 0


class Line(Point, array_like=True):
    name: str = ""


class ClosedPoint(Point, array_like=True, forbid_unknown_fields=True):
    pass


class ClosedLine(Point, array_like=True, forbid_unknown_fields=True):
    name: str = ""


class Pair(NamedTuple):
    x: int
    y: int = 0


class Round(Struct, array_like=True, tag="round"):
    size: int


class Square(Struct, array_like=True, tag="square"):
    name: str


class Colour(Enum):
    RED = "a"
    BLUE = "b"


class Size(IntEnum):
    S = 1
    M = 2


Values: TypeAlias = "st.SearchStrategy[Any]"
texts, numbers = st.text(max_size=5), st.integers(-9, 9)
TYPES: list[tuple[Any, Values]] = [
    (int, numbers),
    (float, st.floats(-9, 9)),
    (str, texts),
    (bool, st.booleans()),
    (Decimal, st.decimals(-9, 9, places=2)),
    (date, st.dates()),
    (datetime, st.datetimes(timezones=st.just(UTC))),
    (bytes, st.binary(max_size=3)),
    (Any, st.none() | numbers | texts | st.lists(numbers, max_size=2)),
    (Literal["a", "b"], st.sampled_from("ab")),
    (Literal["a"], st.just("a")),
    (Literal["a", "c"], st.sampled_from("ac")),
    (Annotated[int, Meta(ge=0)], st.integers(0, 9)),
    (Annotated[int, Meta(gt=0, le=5)], st.integers(1, 5)),
    (Annotated[str, Meta(min_length=1)], st.text(min_size=1, max_size=5)),
    (Annotated[str, Meta(max_length=3)], st.text(max_size=3)),
    (Card | Cash, st.builds(Card, texts) | st.builds(Cash, numbers)),
    (Card, st.builds(Card, texts)),
    (Point, st.builds(Point, numbers, numbers)),
    (Line, st.builds(Line, numbers, numbers, texts)),
    (tuple[int, str], st.tuples(numbers, texts)),
    (tuple[int, ...], st.lists(numbers, max_size=3).map(tuple)),
    (ClosedPoint, st.builds(ClosedPoint, numbers, numbers)),
    (ClosedLine, st.builds(ClosedLine, numbers, numbers, texts)),
    (Pair, st.builds(Pair, numbers, numbers)),
    (Round, st.builds(Round, numbers)),
    (Round | Square, st.builds(Round, numbers) | st.builds(Square, texts)),
    (UUID, st.uuids()),
    (timedelta, st.timedeltas(timedelta(-9), timedelta(9))),
    (Annotated[datetime, Meta(tz=False)], st.datetimes()),
    (Annotated[datetime, Meta(tz=True)], st.datetimes(timezones=st.just(UTC))),
    (Colour, st.sampled_from(Colour)),
    (Size, st.sampled_from(Size)),
    (Literal[1, 2, 3], st.sampled_from([1, 2, 3])),
    (Annotated[float, Meta(ge=0)], st.floats(0, 9)),
    (Annotated[float, Meta(lt=5)], st.floats(-9, 4)),
    (int | float, numbers | st.floats(-9, 9)),
    (dict[str, int], st.dictionaries(texts, numbers, max_size=2)),
    (dict[int, int], st.dictionaries(numbers, numbers, max_size=2)),
    (dict[int | str, int], st.dictionaries(numbers | texts, numbers, max_size=2)),
    (dict[date, int], st.dictionaries(st.dates(), numbers, max_size=2)),
    (dict[Size, int], st.dictionaries(st.sampled_from(Size), numbers, max_size=2)),
    (dict[Literal["a", "b"], int], st.dictionaries(st.sampled_from("ab"), numbers, max_size=2)),
    (dict[Annotated[str, Meta(min_length=1)], int], st.dictionaries(st.text(min_size=1, max_size=3), numbers)),
]


MADE = [msgspec.defstruct("Made", [("it", kind)]) for kind, _ in TYPES]
SCHEMAS = [json_schema(kind) for kind in MADE]
COMPARED = {(i, j): changes(old, new) for i, old in enumerate(SCHEMAS) for j, new in enumerate(SCHEMAS)}
BACKWARD = [pair for pair, found in COMPARED.items() if not any(each.backward for each in found)]
FORWARD = [pair for pair, found in COMPARED.items() if not any(each.forward for each in found)]
"""Of which types, by number, it is said that the new one reads the old one, and the old one the new one."""


@st.composite
def types(draw: st.DrawFn) -> tuple[Any, Values]:
    kind, values = draw(st.sampled_from(TYPES))
    match draw(st.integers(0, 5)):
        case 0:
            return list[kind], st.lists(values, max_size=2)
        case 1:
            return dict[str, kind], st.dictionaries(texts, values, max_size=2)
        case 2 if kind is not Any:
            return kind | None, st.none() | values
        case _:
            return kind, values


NAMES = ["sku", "skus", "total", "note"]
Fields: TypeAlias = "dict[str, tuple[Any, Values, bool]]"
"""By name: the type, what its values may be, and whether the field may be left out."""


@st.composite
def field_types(draw: st.DrawFn) -> tuple[Any, Values, bool]:
    return (*draw(types()), draw(st.booleans()))


many_fields = st.dictionaries(st.sampled_from(NAMES), field_types(), max_size=3)


@st.composite
def changed(draw: st.DrawFn, fields: Fields) -> Fields:
    """Change one or two things about some fields: what is left alone should be left alone by the comparison."""
    found = dict(fields)
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(NAMES))
        match draw(st.integers(0, 3)):
            case 0:
                found.pop(name, None)
            case 1 if name in found:
                kind, values, optional = found[name]
                found[name] = (kind, values, not optional)
            case _:
                found[name] = draw(field_types())
    return found


def made(fields: Fields, *, closed: bool = False) -> type[Struct]:
    """Make a class; the fields that may be left out come last."""
    given_ = [
        (name, kind | None if optional and kind is not Any else kind, *((None,) if optional else ()))
        for name, (kind, _, optional) in fields.items()
    ]
    return msgspec.defstruct("Made", sorted(given_, key=len), forbid_unknown_fields=closed)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_is_said_to_be_readable_is_read(data: st.DataObject) -> None:
    fields = data.draw(many_fields)
    old, new = made(fields), made(data.draw(changed(fields)), closed=data.draw(st.booleans()))
    if not any(each.backward for each in changes(json_schema(old), json_schema(new))):
        value = data.draw(st.builds(old, **{name: values for name, (_, values, _) in fields.items()}))
        msgspec.json.decode(msgspec.json.encode(value), type=new)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_old_code_reads_what_it_is_said_to_read(data: st.DataObject) -> None:
    fields = data.draw(many_fields)
    changed_ = data.draw(changed(fields))
    old, new = made(fields, closed=data.draw(st.booleans())), made(changed_)
    if not any(each.forward for each in changes(json_schema(old), json_schema(new))):
        value = data.draw(st.builds(new, **{name: values for name, (_, values, _) in changed_.items()}))
        msgspec.json.decode(msgspec.json.encode(value), type=old)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_so_is_every_type_by_every_other(data: st.DataObject) -> None:
    assert len(BACKWARD) > 2 * len(TYPES)  # as there are more ways to read a type than as itself
    assert len(FORWARD) > 2 * len(TYPES)
    stored = [
        [msgspec.json.encode(kind(data.draw(values))) for _ in range(2)]
        for kind, (_, values) in zip(MADE, TYPES, strict=True)
    ]
    for writer, reader in {*BACKWARD, *((new, old) for old, new in FORWARD)}:
        for each in stored[writer]:
            msgspec.json.decode(each, type=MADE[reader])


@given(many_fields)
@settings(max_examples=50, deadline=None)
def test_nothing_differs_from_itself(fields: Fields) -> None:
    assert changes(json_schema(made(fields)), json_schema(made(fields))) == []


@given(many_fields)
@settings(max_examples=40, deadline=None)
def test_one_more_field_with_a_default_breaks_nobody(fields: Fields) -> None:
    more: Fields = {**fields, "one_more": (int, numbers, True)}
    [change] = changes(json_schema(made(fields)), json_schema(made(more)))
    assert (change.rule, change.backward, change.forward) == ("field-added", False, False)


def test_findings_come_in_the_order_of_the_fields() -> None:
    names = [f"field_{number}" for number in range(20)]
    old, new = (msgspec.defstruct("Made", [(name, kind) for name in names]) for kind in (int, str))
    assert [each.path for each in changes(json_schema(old), json_schema(new))] == [f"$.{name}" for name in names]


def test_a_place_that_must_be_filled_now_is_told() -> None:
    class Filled(Struct, array_like=True):
        x: int
        y: int

    there = changes(json_schema(Point), json_schema(Filled))
    assert [(each.rule, each.backward, each.forward) for each in there] == [("default-removed", True, False)]
    back = changes(json_schema(Filled), json_schema(Point))
    assert [(each.rule, each.backward, each.forward) for each in back] == [("default-added", False, True)]
