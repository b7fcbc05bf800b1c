"""Commands that somebody wrote: what fits is taken, what does not is told field by field."""

from decimal import Decimal
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from refold import Command, Tag
from refold.errors import InvalidBody
from refold.model.body import command_of


class Line(Struct, frozen=True):
    sku: str
    price: Decimal


class Order(Command):
    order_id: Annotated[str, Tag("order")]
    lines: tuple[Line, ...]
    score: Annotated[int, Meta(ge=1, le=5)] = 1
    note: str | None = None


class Picky(Command):
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


def told(body: object, kind: type[Command] = Order) -> list[tuple[str, str]]:
    with pytest.raises(InvalidBody) as caught:
        command_of(msgspec.json.encode(body), kind)
    return [(each["path"], each["message"]) for each in caught.value.data["errors"]]


def test_every_field_that_does_not_fit_is_told() -> None:
    lines = [{"sku": "tea", "price": "1.10"}, {"sku": 3, "price": "1"}]
    assert told({"lines": lines, "score": 9, "note": None}) == [
        ("$.order_id", "Object missing required field `order_id`"),
        ("$.lines[1].sku", "Expected `str`, got `int`"),
        ("$.score", "Expected `int` <= 5"),
    ]
    assert [path for path, _ in told({"order_id": "o-1", "lines": [], "colour": 1, "size": 2})] == [
        "$.colour",
        "$.size",
    ]
    assert told([]) == [("$", "Expected `object`, got `array`")]
    assert told({"low": 2, "high": 1}, Picky) == [("$", "low is above high")]


@given(
    st.dictionaries(
        st.sampled_from(["order_id", "lines", "score", "note"]),
        st.one_of(
            st.none(),
            st.sampled_from(["", "o-1", "3"]),
            st.integers(-1, 7),
            st.just([]),
            st.just([{"sku": "a", "price": "1"}]),
        ),
    )
)
def test_it_takes_what_msgspec_takes_and_always_says_what_else_is_wrong(given: dict[str, object]) -> None:
    body = msgspec.json.encode(given)
    try:
        wanted = msgspec.json.decode(body, type=Order)
    except msgspec.ValidationError:
        found = told(given)
        assert found
        assert len({path.split("[")[0] for path, _ in found}) == len(found)
    else:
        assert command_of(body, Order) == wanted
