from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, NewType, TypeAlias
from uuid import UUID

import pytest
from msgspec import Struct

from refold.errors import InvalidEvent
from refold.model.message import Event
from refold.model.tag import Tag, can_be_tag, tag_paths, tags_of

Sku: TypeAlias = Annotated[str, Tag("product")]
OrderId: TypeAlias = Annotated[str, Tag("order")]
Customer = NewType("Customer", str)


class Color(Enum):
    RED = "red"


class Size(StrEnum):
    SMALL = "s"


class Rank(IntEnum):
    FIRST = 1


class Line(Struct, frozen=True):
    sku: Sku
    quantity: int = 1


class Gift(Struct, frozen=True, tag=True):
    sku: Sku
    to: Annotated[str, Tag("customer")] = "ann"


class Coupon(Struct, frozen=True, tag=True):
    code: str


class Box(Struct, frozen=True):
    lines: tuple[Line, ...]


class Everything(Event):
    text: Annotated[str, Tag("text")] = "a:b c"
    number: Annotated[int, Tag("number")] = -5
    uuid: Annotated[UUID, Tag("uuid")] = UUID(int=1)
    day: Annotated[date, Tag("day")] = date(2026, 3, 1)
    color: Annotated[Color, Tag("color")] = Color.RED
    size: Annotated[Size, Tag("size")] = Size.SMALL
    rank: Annotated[Rank, Tag("rank")] = Rank.FIRST
    new_type: Annotated[Customer, Tag("customer")] = Customer("ann")
    plain: str = "no tag"


class Plain(Event):
    text: Annotated[str, Tag("text")] = "a"
    number: Annotated[int, Tag("number")] = 0
    uuid: Annotated[UUID, Tag("uuid")] = UUID(int=1)
    day: Annotated[date, Tag("day")] = date(2026, 3, 1)


class Transferred(Event):
    source: Annotated[str, Tag("account")]
    target: Annotated[str, Tag("account")]


class Nested(Event):
    order_id: OrderId
    lines: tuple[Line, ...] = ()
    boxes: tuple[Box, ...] = ()
    best: Line | None = None
    extra: Gift | Coupon | None = None


class Collected(Event):
    many: list[Sku] = []  # noqa: RUF012 - msgspec gives each its own
    marked: Annotated[tuple[str, ...], Tag("marked")] = ()
    some: frozenset[Sku] = frozenset()
    prices: Mapping[Sku, str] = {}
    owners: dict[str, OrderId] = {}  # noqa: RUF012
    pair: tuple[Sku, str] = ("p", "no tag")
    sequence: Sequence[Sku] = ()


class Optional(Event):
    inside: Sku | None = None
    around: Annotated[str | None, Tag("order")] = None
    either: Annotated[str | int, Tag("either")] = 1


def test_values_as_the_log_holds_them() -> None:
    assert tags_of(Everything()) == (
        "text:a:b c",
        "number:-5",
        f"uuid:{UUID(int=1)}",
        "day:2026-03-01",
        "color:red",
        "size:s",
        "rank:1",
        "customer:ann",
    )


def test_plain_values_read_the_same_on_the_short_way() -> None:
    event = Plain()
    long = tuple(path.tag.text(value) for path in tag_paths(Plain) for value in path.read(event))
    assert tags_of(event) == long == ("text:a", "number:0", f"uuid:{UUID(int=1)}", "day:2026-03-01")


def test_two_fields_of_one_tag_make_two_tags_or_one() -> None:
    assert tags_of(Transferred("a", "b")) == ("account:a", "account:b")
    assert tags_of(Transferred("a", "a")) == ("account:a",)


def test_structs_collections_and_unions_are_looked_into() -> None:
    event = Nested("o", (Line("a"), Line("b")), (Box((Line("c"),)), Box((Line("a"),))), Line("d"), Gift("e"))
    assert tags_of(event) == (
        "order:o",
        "product:a",
        "product:b",
        "product:c",
        "product:d",
        "product:e",
        "customer:ann",
    )
    assert tags_of(Nested("o", extra=Coupon("x"))) == ("order:o",)


def test_each_part_of_a_collection_has_its_own_tag() -> None:
    event = Collected(["a"], ("b",), frozenset({"c"}), {"d": "no"}, {"no": "e"}, ("f", "no"), ["g"])
    assert tags_of(event) == ("product:a", "marked:b", "product:c", "product:d", "order:e", "product:f", "product:g")


def test_tags_of_a_set_do_not_depend_on_the_hash_seed() -> None:
    assert tags_of(Collected(some=frozenset("fedcba"), pair=("f", "no"))) == tuple(
        f"product:{each}" for each in "abcdef"
    )


def test_what_is_none_has_no_tag() -> None:
    assert tags_of(Optional()) == ("either:1",)
    assert tags_of(Optional("a", "b", "c")) == ("product:a", "order:b", "either:c")


def test_paths_say_where_they_are_and_whether_there_may_be_many() -> None:
    told = {path.where: (path.field, path.many) for path in (*tag_paths(Nested), *tag_paths(Collected))}
    assert told == {
        "order_id": ("order_id", False),
        "lines[].sku": ("lines", True),
        "boxes[].lines[].sku": ("boxes", True),
        "best.sku": ("best", False),
        "extra.sku": ("extra", False),
        "extra.to": ("extra", False),
        "many[]": ("many", True),
        "marked[]": ("marked", True),
        "some[]": ("some", True),
        "prices[]": ("prices", True),
        "owners[]": ("owners", True),
        "pair[0]": ("pair", False),
        "sequence[]": ("sequence", True),
    }


def test_a_recursive_struct_without_tags_is_walked_once() -> None:
    class Holder(Event):
        tree: Tree
        order_id: OrderId

    assert [path.where for path in tag_paths(Holder)] == ["order_id"]


class Tree(Struct, frozen=True):
    name: str
    children: tuple["Tree", ...] = ()


@pytest.mark.parametrize("event", [Plain(text=""), Nested("", (Line("a"),)), Nested("o", (Line(""),))])
def test_an_empty_tag_is_refused(event: Event) -> None:
    with pytest.raises(InvalidEvent, match="has an empty value"):
        tags_of(event)


@pytest.mark.parametrize(
    ("kind", "can"),
    [(str, True), (int, True), (UUID, True), (date, True), (Color, True), (Size, True), (Customer.__supertype__, True)]
    + [(kind, False) for kind in (bool, datetime, float, Decimal, bytes, Line, list, None, Any)],
)
def test_what_can_be_a_tag(kind: object, can: bool) -> None:
    assert can_be_tag(kind) is can


def test_a_tag_writes_any_of_its_values() -> None:
    assert Tag("n").text(date(2026, 1, 2)) == "n:2026-01-02"
    assert Tag("n").text(Rank.FIRST) == "n:1"
    assert Tag("n").text(0) == "n:0"
