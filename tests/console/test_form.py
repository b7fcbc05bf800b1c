"""Forms of commands: made from their types, and read back as the JSON that their types take."""

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from refold import Command, Tag
from refold.console.form import Field, Form
from refold.contract.shape import json_schema
from refold.errors import InvalidBody
from refold.model.body import command_of


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Place(Struct, frozen=True):
    city: str
    zip_code: str | None = None


class Line(Struct, frozen=True):
    sku: str
    quantity: int = 1
    gifts: tuple[str, ...] = ()


class Tree(Struct, frozen=True):
    name: str
    below: "tuple[Tree, ...]" = ()


class Everything(Command):
    """Takes one of each."""

    order_id: Annotated[str, Tag("order"), Meta(description="Which order.")]
    lines: tuple[Line, ...]
    price: Decimal
    count: Annotated[int, Meta(ge=1, le=5)]
    weight: float
    at: datetime
    day: date
    colour: Colour
    to: Place
    tree: Tree
    express: bool = False
    loud: bool | None = None
    size: Size = Size.SMALL
    note: str | None = None
    back: Place | None = None
    more: dict[str, int] = msgspec.field(default_factory=dict)
    either: int | str = 0
    tags: frozenset[str] = frozenset()
    kind: Literal["a", "b"] = "a"


SCHEMA = json_schema(Everything)
FILLED = {
    "sent": "1",
    "f.order_id": "o-1",
    "n.lines": "2",
    "f.lines.0.sku": "tea",
    "f.lines.0.quantity": "2",
    "n.lines.0.gifts": "2",
    "f.lines.0.gifts.0": "bow",
    "f.lines.0.gifts.1": "",
    "f.lines.1.sku": "cup",
    "n.lines.1.gifts": "0",
    "f.price": " 1.50 ",
    "f.count": "3",
    "f.weight": "0.5",
    "f.at": "2026-03-01T12:00",
    "f.day": "2026-03-01",
    "f.colour": '"blue"',
    "f.to.city": "Ulm",
    "f.tree.name": "oak",
    "n.tree.below": "0",
    "f.express": "true",
    "f.loud": "false",
    "f.size": "2",
    "f.more": '{"a": 1}',
    "f.either": '"x"',
    "n.tags": "1",
    "f.tags.0": "new",
    "f.kind": '"b"',
}


def kinds(fields: list[Field]) -> dict[str, str]:
    return {each.path: each.kind for each in fields} | {
        path: kind for each in fields for path, kind in kinds(each.parts).items()
    }


def test_each_type_has_the_input_that_suits_it() -> None:
    found = kinds(Form(SCHEMA, {}).fields)
    assert found == {
        "order_id": "text",
        "lines": "list",
        "lines.0": "group",
        "lines.0.sku": "text",
        "lines.0.quantity": "number",
        "lines.0.gifts": "list",
        "price": "decimal",
        "count": "number",
        "weight": "number",
        "at": "moment",
        "day": "date",
        "colour": "choice",
        "to": "group",
        "to.city": "text",
        "to.zip_code": "text",
        "tree": "group",
        "tree.name": "text",
        "tree.below": "list",
        "express": "flag",
        "loud": "choice",
        "size": "choice",
        "note": "text",
        "back": "group",
        "back.city": "text",
        "back.zip_code": "text",
        "more": "json",
        "either": "json",
        "tags": "list",
        "kind": "choice",
    }


def test_what_is_filled_in_is_the_command() -> None:
    assert command_of(Form(SCHEMA, FILLED).json(), Everything) == Everything(
        "o-1",
        (Line("tea", 2, ("bow",)), Line("cup")),
        Decimal("1.50"),
        3,
        0.5,
        datetime(2026, 3, 1, 12, tzinfo=UTC),
        date(2026, 3, 1),
        Colour.BLUE,
        Place("Ulm"),
        Tree("oak"),
        express=True,
        loud=False,
        size=Size.LARGE,
        more={"a": 1},
        either="x",
        tags=frozenset(["new"]),
        kind="b",
    )


def test_what_is_left_empty_is_as_its_default_says() -> None:
    needed = {"f.order_id", "f.price", "f.count", "f.weight", "f.at", "f.day", "f.colour", "f.to.city", "f.tree.name"}
    given = {name: value for name, value in FILLED.items() if name in needed} | {"sent": "1", "n.lines": "0"}
    command = command_of(Form(SCHEMA, given).json(), Everything)
    assert (command.lines, command.express, command.loud, command.size) == ((), False, None, Size.SMALL)
    assert (command.note, command.back, command.more, command.either, command.kind) == (None, None, {}, 0, "a")


class Gift(Struct, frozen=True):
    wrapped: bool = False
    receipt: bool = True
    colour: Colour = Colour.RED
    note: str = ""


class Give(Command):
    gift: Gift | None = None


@pytest.mark.parametrize(
    ("touched", "gift"),
    [
        ({}, None),
        ({"f.gift.wrapped": "true"}, Gift(wrapped=True)),
        ({"f.gift.receipt": ""}, Gift(receipt=False)),
        ({"f.gift.colour": '"blue"'}, Gift(colour=Colour.BLUE)),
        ({"f.gift.note": "for you"}, Gift(note="for you")),
    ],
)
def test_an_optional_group_is_there_if_anything_in_it_is_touched(touched: dict[str, str], gift: Gift | None) -> None:
    untouched = {"sent": "1", "f.gift.receipt": "true", "f.gift.colour": '"red"', "f.gift.note": ""}
    assert command_of(Form(json_schema(Give), untouched | touched).json(), Give) == Give(gift)


def test_what_is_wrong_is_told_at_its_field() -> None:
    form = Form(
        SCHEMA, FILLED | {"f.count": "9", "f.lines.1.sku": "", "f.price": "much", "f.weight": "x", "f.more": "{"}
    )
    with pytest.raises(InvalidBody) as caught:
        command_of(form.json(), Everything)
    form.tell(caught.value.data["errors"])
    errors = {each.path: each.error for each in flat(form.fields) if each.error}
    assert errors == {
        "lines.1.sku": "This has to be filled in",
        "price": "Invalid decimal string",
        "count": "Expected `int` <= 5",
        "weight": "Expected `float`, got `str`",
        "more": "Expected `object`, got `str`",
    }
    assert form.errors == []
    form.tell([{"path": "$", "message": "low is above high"}])
    assert form.errors == ["low is above high at $"]


class Counted(Command):
    counts: tuple[int, ...]
    lines: tuple[Line, ...] = ()


def test_entries_that_are_left_empty_are_gone_and_what_is_wrong_stands_at_its_own() -> None:
    given = {"sent": "1", "n.counts": "4", "f.counts.0": "", "f.counts.1": "1", "f.counts.2": "", "f.counts.3": "x"}
    given |= {"n.lines": "1", "f.lines.0.sku": "tea", "n.lines.0.gifts": "0", "f.lines.0.quantity": "y"}
    form = Form(json_schema(Counted), given)
    assert b'"counts":[1,"x"]' in form.json()
    with pytest.raises(InvalidBody) as caught:
        command_of(form.json(), Counted)
    form.tell([*caught.value.data["errors"], {"path": "$.counts[7]", "message": "nowhere"}])
    assert {each.path for each in flat(form.fields) if each.error} == {"counts.3", "lines.0.quantity", "counts"}


def test_a_form_has_only_so_many_fields_whatever_is_asked_for() -> None:
    given = {"n.lines": "40"} | {f"n.lines.{each}.gifts": "40" for each in range(40)}
    assert 1_500 <= len(flat(Form(SCHEMA, given).fields)) < 1_600


def test_entries_come_and_go() -> None:
    more = Form(SCHEMA, FILLED | {"add": "lines"}).changed()
    assert [each.path for each in field(Form(SCHEMA, more), "lines").parts] == ["lines.0", "lines.1", "lines.2"]
    less = Form(SCHEMA, FILLED | {"cut": "lines.0"}).changed()
    lines = field(Form(SCHEMA, less), "lines")
    assert [part.parts[0].raw for part in lines.parts] == ["cup"]
    assert lines.parts[0].parts[2].parts == [], "its gifts went with it"
    assert Form(SCHEMA, less).json() != Form(SCHEMA, FILLED).json()


@pytest.mark.parametrize(
    "given", [{"n.lines": "9999999"}, {"n.lines": "-1"}, {"n.lines": "²"}, {"add": "x" * 99}, {"cut": "."}]
)
def test_what_nobody_could_have_clicked_breaks_nothing(given: dict[str, str]) -> None:
    form = Form(SCHEMA, Form(SCHEMA, given).changed())
    assert len(field(form, "lines").parts) <= 40
    assert isinstance(msgspec.json.decode(form.json()), dict)


def test_what_an_author_says_is_shown() -> None:
    form = Form(SCHEMA, {})
    assert field(form, "order_id").said == "Which order"
    assert field(form, "count").said == "≥ 1, ≤ 5"
    assert (field(form, "size").default, field(form, "size").raw) == ("1", "1")
    assert [field(form, "colour").options, field(form, "size").options] == [['"blue"', '"red"'], ["1", "2"]]


def flat(fields: list[Field]) -> list[Field]:
    return [inner for each in fields for inner in (each, *flat(each.parts))]


def field(form: Form, path: str) -> Any:
    return next(each for each in flat(form.fields) if each.path == path)


def test_numbers_that_are_none_change_nothing() -> None:
    long = "9" * 5_000
    for change in ({"cut": f"lines.{long}"}, {"cut": "lines.0", f"f.lines.{long}.sku": "x"}, {"n.lines": long}):
        form = Form(SCHEMA, FILLED | change)
        assert Form(SCHEMA, form.changed()).fields
