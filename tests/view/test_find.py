"""What users may ask of a view, what becomes of their values, and what is refused."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import msgspec
import pytest
from msgspec import Struct

from refold import Event, InvalidQuery, State, Tag, WiringError
from refold.testing.view.tools import THING, Color, Noted, Part, Size
from refold.view.find import conditions_of, find_of
from refold.view.table import Form, Searched, dated, table_of


class Awkward(State):
    key: Annotated[str, Tag("thing")]
    total__ge: int = 0
    ge: int = 0
    either: int | str = 0
    mixed: Literal["a", 1] = 1
    grade: Literal[1, 2, 3] = 1
    anything: Any = None

    def evolve(self, event: Noted) -> Self:
        return self


AWKWARD = table_of(Awkward, "Awkward", ["key"])


def test_columns_are_of_the_plainest_form() -> None:
    forms: dict[str, Form] = {column.name: column.form for column in (*THING.columns, *AWKWARD.columns)}
    assert forms == {
        "thing_id": "text",
        "text": "text",
        "integer": "integer",
        "real": "real",
        "price": "decimal",
        "at": "text",
        "day": "text",
        "serial": "text",
        "flag": "integer",
        "color": "text",
        "size": "integer",
        "level": "text",
        "raw": "blob",
        "parts": "json",
        "notes": "json",
        "words": "json",
        "key": "text",
        "total__ge": "integer",
        "ge": "integer",
        "either": "json",
        "mixed": "json",
        "grade": "integer",
        "anything": "json",
    }


def test_a_field_may_be_called_like_a_comparison() -> None:
    [one] = conditions_of(AWKWARD, {"total__ge": 3})
    assert (one.column.name, one.compare) == ("total__ge", "eq")
    [one] = conditions_of(AWKWARD, {"total__ge__lt": 3})
    assert (one.column.name, one.compare) == ("total__ge", "lt")
    [one] = conditions_of(AWKWARD, {"ge__ge": 3})
    assert (one.column.name, one.compare) == ("ge", "ge")


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ({"color": Color.RED}, "red"),
        ({"color": "red"}, "red"),
        ({"size__gt": Size.SMALL}, 1),
        ({"size__gt": 1}, 1),
        ({"price": 3}, "3"),
        ({"real": 3}, 3.0),
        ({"integer__lt": 2.5}, 2.5),
        ({"flag": True}, 1),
        ({"color__in": (color for color in Color)}, ["red", "Red", "blue"]),
        ({"price__in": {Decimal("1.0")}}, ["1.0"]),
        ({"at": None}, None),
    ],
)
def test_values_are_given_in_python(where: dict[str, Any], value: object) -> None:
    [one] = conditions_of(THING, where)
    assert one.value == value
    assert type(one.value) is type(value)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"colour": 1}, "Thing has no field 'colour'; it has thing_id, text, integer"),
        ({"color__like": "r"}, "'color__like': there is no comparison 'like'; there are eq, ne, lt, le, gt, ge, in"),
        ({"color__eq__ge": "r"}, "Thing has no field 'color__eq'"),
        ({"integer__ge": None}, "'integer__ge': None can only be compared with eq and ne"),
        ({"integer__in": [1, None]}, "'integer__in': None can only be compared with eq and ne"),
        ({"integer__in": None}, "'integer__in' takes a list of values, not None"),
        ({"integer__in": 0}, "'integer__in' takes a list of values, not 0"),
        ({"color__in": "red"}, "'color__in' takes a list of values, not 'red'"),
        ({"color__in": ["red", "pink"]}, "'color__in': 'pink' is no value of Thing.color, which takes Color or str"),
        ({"color": "pink"}, "'color': 'pink' is no value of Thing.color, which takes Color or str"),
        ({"text": 5}, "'text': 5 is no value of Thing.text, which takes str"),
        ({"text": "\ud800"}, "is no value of Thing.text"),
        ({"integer": "5"}, "'integer': '5' is no value of Thing.integer, which takes int or float"),
        ({"integer": 2**63}, "is no value of Thing.integer"),
        ({"integer": float("nan")}, "'integer': nan is no value"),
        ({"real": float("nan")}, "'real': nan is no value"),
        ({"price": 1.1}, "'price': 1.1 is no value of Thing.price, which takes Decimal or int"),
        ({"price": Decimal("nan")}, "is no value of Thing.price"),
        ({"flag": 1}, "'flag': 1 is no value of Thing.flag, which takes bool"),
        ({"serial": "00000000-0000-0000-0000-000000000000"}, "is no value of Thing.serial, which takes UUID"),
        ({"at": date(2026, 3, 1)}, "is no value of Thing.at, which takes datetime"),
        ({"at": datetime(2026, 3, 1)}, "is no value of Thing.at, which takes datetime"),
        ({"at": datetime.fromisoformat("9999-12-31T23:59:59-12:00")}, "is no value of Thing.at, which takes datetime"),
        ({"day": datetime(2026, 3, 1)}, "is no value of Thing.day, which takes date"),
        ({"parts": object()}, "is no value of Thing.parts"),
        ({"integer__in": range(10_001)}, "'integer__in': 10,001 values to choose from; the limit is 10,000"),
    ],
)
def test_what_makes_no_sense_is_refused(where: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidQuery) as error:
        conditions_of(THING, where)
    assert message in str(error.value)


def test_a_field_orders_once() -> None:
    found = find_of(THING, None, ["color", "-color", "-level", "color"], None, 0)
    assert [(column.name, down) for column, down in found.order] == [("color", False), ("level", True)]


@pytest.mark.parametrize(
    ("order", "limit", "offset", "message"),
    [
        ("-colour", None, 0, "Thing has no field 'colour'"),
        (["color", "x"], None, 0, "Thing has no field 'x'"),
        ((), -1, 0, "limit and offset count rows, so they are not negative: -1, 0"),
        ((), None, -2, "limit and offset count rows, so they are not negative: None, -2"),
    ],
)
def test_orders_and_pages_that_make_no_sense(order: Any, limit: int | None, offset: int, message: str) -> None:
    with pytest.raises(InvalidQuery) as error:
        find_of(THING, None, order, limit, offset)
    assert message in str(error.value)


class Other(Struct):
    size: int


class Bad(State):
    key: Annotated[str, Tag("thing")]
    value: Part | Other | None = None

    def evolve(self, event: Noted) -> Self:
        return self


def test_a_field_that_no_row_can_hold_is_refused() -> None:
    with pytest.raises(WiringError, match=r"Bad\.value cannot be kept in a row"):
        table_of(Bad, "Bad", ["key"])


class Late(Event):
    key: Annotated[str, Tag("thing")]


class KeywordsOnly(State, kw_only=True):
    key: Annotated[str, Tag("thing")]
    serial: UUID = UUID(int=0)
    names: dict[str, int] = msgspec.field(default_factory=dict[str, int])

    def evolve(self, event: Late) -> Self:
        return self


def test_rows_of_a_class_that_takes_names_only() -> None:
    table = table_of(KeywordsOnly, "KeywordsOnly", ["key"])
    state = KeywordsOnly(key="a", serial=UUID(int=5), names={"b": 1, "a": 2})
    assert list(table.parse(table.dump(state)).names) == ["b", "a"]
    assert table.parse(table.dump(state)) == state


class Marked(State):
    key: Annotated[str, Tag("thing")]
    size: Annotated[int, Searched()] = 0

    def evolve(self, event: Noted) -> Self:
        return self


class Heavy(State):
    key: Annotated[str, Tag("thing")]
    text: Annotated[str, Searched(weight=5)] = ""

    def evolve(self, event: Noted) -> Self:
        return self


class Ending(State):
    key: Annotated[str, Tag("thing")]
    valid_to: int = 0

    def evolve(self, event: Noted) -> Self:
        return self


def test_only_texts_are_searched() -> None:
    for cls, field in ((Marked, "size"), (Heavy, "text")):
        with pytest.raises(WiringError, match=rf"{field} is Searched, so it must be a str, with a weight from 1 to 4"):
            table_of(cls, cls.__name__, ["key"])


def test_a_view_with_history_has_columns_of_its_own() -> None:
    with pytest.raises(WiringError, match=r"Ending\.valid_to: a view with history has columns of its own"):
        dated(table_of(Ending, "Ending", ["key"]))


@pytest.mark.parametrize("kind", [float, Decimal, bytes, str | None])
def test_what_cannot_be_a_key(kind: Any) -> None:
    cls = msgspec.defstruct("Odd", [("key", kind), ("text", str, "")], frozen=True)
    with pytest.raises(WiringError, match=r"Odd.key cannot be part of a key"):
        table_of(cls, "Odd", ["key"])
    assert table_of(cls, "Odd", ["text"]).key == ("text",)
