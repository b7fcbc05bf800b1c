"""A contract says exactly what an app stores, takes and publishes, the same in every process."""

import subprocess
import sys
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypeAlias
from uuid import UUID, uuid4

import msgspec
import pytest
from msgspec import Meta, Struct

from refold import App, Command, Event, IdempotencyKey, Inbox, State, Tag, Unguarded, stored_as
from refold.bus.memory import MemoryBus
from refold.contract.describe import Contract, FollowerForm, StateForm, TagRule
from refold.contract.shape import json_schema

OrderId: TypeAlias = Annotated[str, Tag("order")]


class Line(Struct):
    sku: Annotated[str, Tag("product")]
    quantity: int


@stored_as("OrderPlaced", version=1)
class OrderPlacedV1(Event):
    order_id: OrderId


@stored_as("OrderPlaced", version=2)
class OrderPlaced(Event):
    """Somebody wants something."""

    order_id: OrderId
    lines: tuple[Line, ...] = ()


class OrderShipped(Event):
    order_id: OrderId
    by: frozenset[str] = frozenset({"post", "rail", "road", "sea", "air"})
    route: set[str] = msgspec.field(default_factory=lambda: {"north", "south", "east", "west"})
    parcel: UUID = msgspec.field(default_factory=uuid4)


class ParcelSent(Event):
    order_id: OrderId


class PlaceOrder(Command):
    order_id: OrderId


class Order(State):
    order_id: OrderId
    placed: bool = False

    def evolve(self, event: OrderPlaced | OrderShipped) -> Self:
        return self.replace(placed=True)


class Shipped(State):
    order_id: OrderId
    is_: bool = False

    def evolve(self, event: OrderShipped) -> Self:
        return self.replace(is_=True)


def with_lines(old: OrderPlacedV1) -> OrderPlaced:
    return OrderPlaced(old.order_id)


def place_order(cmd: PlaceOrder, order: Order, shipped: Annotated[Shipped, Unguarded]) -> Iterable[OrderPlaced]:
    """Decide it."""
    yield OrderPlaced(cmd.order_id)


def again(event: OrderShipped) -> Iterable[PlaceOrder]:
    """Order what was shipped once more."""
    yield PlaceOrder(event.order_id)


async def mail(event: OrderShipped, once: IdempotencyKey) -> None: ...


def sent(event: ParcelSent) -> OrderShipped:
    return OrderShipped(event.order_id)


def make_app() -> App:
    return App(
        "memory:",
        name="shop",
        bus=MemoryBus(),
        events=OrderPlaced | OrderShipped,
        upcasters=[with_lines],
        decisions=[place_order],
        processes=[again],
        effects=[mail],
        projections=[Order],
        outbox=[OrderShipped],
        inbox=[Inbox("parcels", [sent])],
    )


def test_it_says_what_is_stored_and_how_it_is_found() -> None:
    contract = make_app().contract()
    assert [each.id for each in contract.events] == ["OrderPlaced.v1", "OrderPlaced.v2", "OrderShipped.v1"]
    old, new, _ = contract.events
    assert (old.becomes, new.becomes) == (("OrderPlaced.v2",), None)
    assert new.doc == "Somebody wants something."
    assert new.source == f"{__name__}:OrderPlaced"
    assert new.tags == (TagRule("order", "order_id", "str"), TagRule("product", "lines[].sku", "str"))
    assert new.schema["properties"]["lines"] == {"type": "array", "items": {"$ref": "#/$defs/Line"}, "default": []}
    assert set(new.schema["$defs"]) == {"Line"}


def test_it_says_who_decides_who_follows_and_what_crosses_the_border() -> None:
    contract = make_app().contract()
    [command] = contract.commands
    assert (command.decided_by, command.guards, command.reads) == ("place_order", ("Order",), ("Shipped",))
    assert command.emits == ("OrderPlaced.v2",)
    assert [(each.name, each.events) for each in contract.states] == [
        ("Order", ("OrderPlaced.v2", "OrderShipped.v1")),
        ("Shipped", ("OrderShipped.v1",)),
    ]
    assert [(each.kind, each.name, each.follows, each.emits) for each in contract.followers] == [
        ("effect", "mail", ("OrderShipped.v1",), ()),
        ("process", "again", ("OrderShipped.v1",), ("PlaceOrder",)),
        ("projection", "Order", ("OrderPlaced.v2", "OrderShipped.v1"), ()),
    ]
    assert contract.followers[1].doc == "Order what was shipped once more."
    assert contract.published is not None
    assert (contract.published.topic, [each.id for each in contract.published.events]) == ("shop", ["OrderShipped.v1"])
    [taken] = contract.taken
    assert (taken.context, [each.id for each in taken.events], taken.gives) == (
        "parcels",
        ["ParcelSent.v1"],
        ("OrderShipped.v1",),
    )


def test_it_is_the_same_in_every_process() -> None:
    code = (
        f"import msgspec, sys; from {__name__} import make_app; "
        "sys.stdout.buffer.write(msgspec.json.encode(make_app().contract()))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {msgspec.json.encode(make_app().contract())}


def test_only_what_is_always_made_alike_is_written_as_a_default() -> None:
    class Settings(Struct):
        names: list[str] = []
        size: int = 2

    class Stamped(Struct):
        id: UUID = msgspec.field(default_factory=uuid4)

    class Made(Struct):
        names: list[str] = []
        settings: Settings = msgspec.field(default_factory=Settings)
        stamped: Stamped = msgspec.field(default_factory=Stamped)
        id: UUID = msgspec.field(default_factory=uuid4)
        sets: frozenset[int] = frozenset({20, 3, 100})
        unordered: frozenset[int | str] = frozenset({1, "a"})

    found = json_schema(Made)["properties"]
    assert found["names"]["default"] == []
    assert found["settings"]["default"] == {"names": [], "size": 2}
    assert found["id"] == {"type": "string", "format": "uuid", "x-default": "made anew"}
    assert found["stamped"] == {"$ref": "#/$defs/Stamped", "x-default": "made anew"}
    assert found["sets"]["default"] == [3, 20, 100]
    assert found["unordered"]["default"] == "frozenset"


def test_it_comes_back_from_json_as_it_was() -> None:
    contract = make_app().contract()
    assert msgspec.json.decode(msgspec.json.encode(contract), type=Contract) == contract
    assert isinstance(contract.followers[0], FollowerForm)
    assert isinstance(contract.states[0], StateForm)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Point(Struct, array_like=True):
    x: int
    y: int = 1


class Closed(Struct, array_like=True, forbid_unknown_fields=True):
    x: int


class Card(Struct, tag="card"):
    number: str


class Cash(Struct, tag="cash"):
    amount: Decimal


class Tree(Struct):
    children: "list[Tree]" = []


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (int, {"type": "integer"}),
        (datetime, {"type": "string", "format": "date-time"}),
        (datetime | None, {"anyOf": [{"type": "null"}, {"type": "string", "format": "date-time"}]}),
        (date, {"type": "string", "format": "date"}),
        (time, {"type": "string", "format": "time"}),
        (timedelta, {"type": "string", "format": "duration"}),
        (Decimal, {"type": "string", "format": "decimal"}),
        (UUID, {"type": "string", "format": "uuid"}),
        (bytes, {"type": "string", "contentEncoding": "base64"}),
        (Any, {}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (Colour, {"title": "Colour", "enum": ["blue", "red"]}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (
            dict[int, str],
            {
                "type": "object",
                "propertyNames": {"type": "string", "format": "integer"},
                "additionalProperties": {"type": "string"},
            },
        ),
        (
            dict[Colour, Any],
            {"type": "object", "propertyNames": {"enum": ["blue", "red"]}, "additionalProperties": {}},
        ),
        (dict[str | int, Any], {"type": "object", "additionalProperties": {}}),
        (set[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
        (
            tuple[int, str],
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        ),
        (Annotated[int, Meta(ge=1, lt=5)], {"type": "integer", "minimum": 1, "exclusiveMaximum": 5}),
        (Annotated[str, Meta(min_length=1, pattern="^a")], {"type": "string", "minLength": 1, "pattern": "^a"}),
        (Annotated[list[int], Meta(max_length=3)], {"type": "array", "items": {"type": "integer"}, "maxItems": 3}),
        (
            Point,
            {
                "title": "Point",
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "integer", "default": 1}],
                "minItems": 1,
                "x-fields": ["x", "y"],
            },
        ),
        (
            Closed,
            {
                "title": "Closed",
                "type": "array",
                "prefixItems": [{"type": "integer"}],
                "items": False,
                "minItems": 1,
                "x-fields": ["x"],
            },
        ),
        (
            Card,
            {
                "title": "Card",
                "type": "object",
                "properties": {"type": {"const": "card"}, "number": {"type": "string"}},
                "required": ["type", "number"],
            },
        ),
    ],
)
def test_the_schema_of_a_type_is_exact(kind: Any, schema: dict[str, Any]) -> None:
    assert json_schema(kind) == schema


def test_a_type_may_hold_itself_and_two_may_share_a_name() -> None:
    tree = json_schema(Tree)
    assert tree["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}

    class Other:
        class Card(Struct):
            other: int

    class Both(Struct):
        one: Card
        two: Other.Card

    found = json_schema(Both)
    assert len({found["properties"][name]["$ref"] for name in ("one", "two")}) == 2
    assert len(found["$defs"]) == 2
