"""What has changed between two values."""

from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Struct

from refold.model.change import FieldChange, changes_between


class Line(Struct, frozen=True):
    sku: str
    quantity: int = 1


class Basket(Struct, frozen=True):
    status: str = "new"
    lines: tuple[Line, ...] = ()
    prices: dict[str, Any] = {}
    first: Line | None = None
    marks: frozenset[str] = frozenset()


@dataclass
class Point:
    x: int
    y: int


TEA, MILK, JAM = Line("tea"), Line("milk"), Line("jam")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (Basket(), Basket(), []),
        (Basket(), Basket(status="paid"), [FieldChange("status", "new", "paid")]),
        (Basket(lines=(TEA,)), Basket(lines=(Line("tea", 3),)), [FieldChange("lines[0].quantity", 1, 3)]),
        (Basket(lines=(TEA,)), Basket(lines=(TEA, MILK)), [FieldChange("lines[1]", UNSET, MILK)]),
        (Basket(lines=(TEA, MILK, JAM)), Basket(lines=(TEA, JAM)), [FieldChange("lines[1]", MILK, UNSET)]),
        (Basket(lines=(MILK,)), Basket(lines=(TEA, MILK)), [FieldChange("lines[0]", UNSET, TEA)]),
        (Basket(lines=(TEA, TEA)), Basket(lines=(TEA,)), [FieldChange("lines[1]", TEA, UNSET)]),
        (Basket(prices={"tea": 1}), Basket(prices={"tea": 2}), [FieldChange("prices['tea']", 1, 2)]),
        (
            Basket(prices={"tea": 1}),
            Basket(prices={"milk": None}),
            [FieldChange("prices['tea']", 1, UNSET), FieldChange("prices['milk']", UNSET, None)],
        ),
        (
            Basket(prices={"tea": {"net": 1, "tax": 2}}),
            Basket(prices={"tea": {"net": 1, "tax": 3}}),
            [FieldChange("prices['tea']['tax']", 2, 3)],
        ),
        (Basket(), Basket(first=TEA), [FieldChange("first", None, TEA)]),
        (
            Basket(marks=frozenset("ab")),
            Basket(marks=frozenset("bc")),
            [FieldChange("marks[]", "a", UNSET), FieldChange("marks[]", UNSET, "c")],
        ),
        ({"p": Point(1, 2)}, {"p": Point(1, 3)}, [FieldChange("['p'].y", 2, 3)]),
        ({"n": 1}, {"n": [1]}, [FieldChange("['n']", 1, [1])]),
        ([1, 2], (1, 2, 3), [FieldChange("", [1, 2], (1, 2, 3))]),
        ({"n": Decimal(1)}, {"n": Decimal("1.0")}, []),
    ],
)
def test_what_has_changed_is_told_where_it_stands(before: Any, after: Any, told: list[FieldChange]) -> None:
    assert list(changes_between(before, after)) == told


def test_what_did_not_stand_there_is_not_null_in_json() -> None:
    [change] = changes_between({"a": 1}, {"a": 1, "b": None})
    assert msgspec.json.decode(msgspec.json.encode(change)) == {"path": "['b']", "after": None}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


def _put(value: Any, change: FieldChange, path: list[str | int]) -> Any:
    """Make a change in a value, as somebody would who is told of it."""
    if not path:
        return change.after
    [first, *rest] = path
    value = deepcopy(value)
    if rest:
        value[first] = _put(value[first], change, rest)
    elif change.after is UNSET:
        value[first] = UNSET  # so that the places behind it stay what they are called
    elif isinstance(value, list) and first == len(value):
        value.append(change.after)
    elif isinstance(value, list) and change.before is UNSET:
        value.insert(first, change.after)
    else:
        value[first] = change.after
    return value


def _path(change: FieldChange) -> list[str | int]:
    parts = change.path.removeprefix("[").removesuffix("]").split("][") if change.path else []
    return [part.strip("'") if part.startswith("'") else int(part) for part in parts]


def _without_gaps(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_gaps(each) for key, each in value.items() if each is not UNSET}
        case list():
            return [_without_gaps(each) for each in value if each is not UNSET]
        case _:
            return value


@given(VALUES, VALUES)
def test_the_changes_lead_from_one_value_to_the_other(before: Any, after: Any) -> None:
    value = before
    for change in changes_between(before, after):
        value = _put(value, change, _path(change))
    assert _without_gaps(value) == after
