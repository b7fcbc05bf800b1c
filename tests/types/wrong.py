"""Mistakes that both checkers must find, on each line that says so and on no other; `(mypy)`: only that one."""

from typing import Annotated, Self, TypeAlias

from refold.model.handler import Of, Reader, Unguarded
from refold.model.message import Command, Event, stored_as
from refold.model.query import AppendCondition, Query
from refold.model.record import Metadata, Recorded
from refold.model.schema import Schema
from refold.model.state import State
from refold.model.tag import Tag
from refold.testing.given import given

OrderId: TypeAlias = Annotated[str, Tag("order")]


class OrderPlaced(Event):
    order_id: OrderId
    total: int


class OrderShipped(Event):
    order_id: OrderId


class ShipOrder(Command):
    order_id: OrderId


class CancelOrder(Command):
    order_id: OrderId


class Order(State):
    order_id: OrderId
    shipped: bool = False

    def evolve(self, event: OrderPlaced | OrderShipped) -> Self:
        return self


class Forgetful(State):
    order_id: OrderId

    def evolve(self, event: OrderPlaced | OrderShipped) -> Self:  # expect: error
        match event:  # expect: error (basedpyright)
            case OrderPlaced():
                return self


def ship(cmd: ShipOrder, order: Annotated[Order, Of("order_id"), Unguarded]) -> OrderShipped:
    return OrderShipped(cmd.order_idd)  # expect: error


async def read_on(cmd: ShipOrder, reader: Reader) -> OrderShipped:
    await reader.load(ShipOrder("o-1"))  # expect: error
    order = await reader.load(Order("o-1"))
    order.cancelled  # expect: error  # noqa: B018
    return OrderShipped("o-1")


# Fields.
OrderPlaced("o-1")  # expect: error
OrderPlaced("o-1", "5")  # expect: error
OrderPlaced("o-1", total=5, note="x")  # expect: error
OrderPlaced("o-1", 5).total = 6  # expect: error
ShipOrder("o-1").order_id = "o-2"  # expect: error
Order("o-1").shipped = True  # expect: error
Order()  # expect: error

# Marks.
Tag(5)  # expect: error
Of()  # expect: error
stored_as("A", version="2")  # expect: error
stored_as("ShipOrder")(ShipOrder)  # expect: error

# Queries and schemas.
Query.of(types=[OrderPlaced])  # expect: error
Query() | Order("o-1")  # expect: error
AppendCondition("order:1")  # expect: error
Order("o-1").fold([ShipOrder("o-1")])  # expect: error
Schema(OrderPlaced).encode(ShipOrder("o-1"))  # expect: error
Schema(OrderPlaced).encode(OrderPlaced("o-1", 5), {"actor": "ann"})  # expect: error
Schema(OrderPlaced).query(OrderPlaced("o-1", 5))  # expect: error
Metadata(occurred_at="yesterday")  # expect: error


def narrower(recorded: Recorded[Event]) -> Recorded[OrderPlaced]:
    return recorded  # expect: error


# Tests of decisions.
given(ShipOrder("o-1"))  # expect: error
given((OrderPlaced("o-1", 5), 61))  # expect: error
given().when(ship, CancelOrder("o-1"))  # expect: error
given().when(ship, OrderShipped("o-1"))  # expect: error
given().when(ship, ShipOrder("o-1")).then(ShipOrder("o-1"))  # expect: error
given().when(ship, ShipOrder("o-1")).rejected(OrderShipped)  # expect: error
given().then(OrderShipped("o-1"))  # expect: error
