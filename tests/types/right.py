"""What a user writes, and the types that the checkers should see; both must accept every line."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self, TypeAlias, assert_type

from refold.model.handler import Of, Reader, Unguarded, read_decision
from refold.model.message import Command, Event, StoredAs, stored_as, stored_name
from refold.model.query import AppendCondition, Query, QueryItem
from refold.model.record import Metadata, NewEvent, Recorded, StoredEvent
from refold.model.schema import Schema
from refold.model.state import Singleton, State
from refold.model.tag import Tag
from refold.testing.given import Outcome, given

OrderId: TypeAlias = Annotated[str, Tag("order")]


@stored_as("OrderPlaced", version=2)
class OrderPlaced(Event):
    order_id: OrderId
    total: int
    note: str = ""


class OrderShipped(Event):
    order_id: OrderId


class OrderMoved(Event):
    source: OrderId
    target: OrderId


class ShipOrder(Command):
    order_id: OrderId


class MoveOrder(Command):
    source: OrderId
    target: OrderId


OrderEvent: TypeAlias = OrderPlaced | OrderShipped | OrderMoved


class Order(State):
    order_id: OrderId
    shipped: bool = False

    def evolve(self, event: OrderEvent) -> Self:
        match event:
            case OrderPlaced():
                return self
            case OrderShipped():
                return self.replace(shipped=True)
            case OrderMoved(target=target):
                assert_type(target, str)
                return self


class Last(Singleton):
    at: datetime | None = None

    def evolve(self, event: OrderPlaced, metadata: Metadata) -> Self:
        return self.replace(at=metadata.occurred_at)


def ship(cmd: ShipOrder, order: Order) -> Iterable[OrderShipped]:
    if not order.shipped:
        yield OrderShipped(cmd.order_id)


def either(cmd: ShipOrder | MoveOrder, metadata: Metadata) -> OrderShipped | None: ...


def move(cmd: MoveOrder, source: Annotated[Order, Of("source")], *orders: Annotated[Order, Unguarded]) -> OrderMoved:
    assert_type(source, Order)
    assert_type(orders, tuple[Order, ...])
    return OrderMoved(cmd.source, target=cmd.target)


async def read_on(cmd: ShipOrder, *, reader: Reader) -> AsyncIterator[OrderShipped]:
    assert_type(await reader.load(Order(cmd.order_id)), Order)
    assert_type(await reader.load(Last()), Last)
    yield OrderShipped(cmd.order_id)


# Messages and states take fields by position and by name.
assert_type(OrderPlaced("o-1", 5), OrderPlaced)
assert_type(OrderPlaced("o-1", total=5, note="x").note, str)
assert_type(Order("o-1").replace(shipped=True), Order)
assert_type(Order("o-1").fold([OrderShipped("o-1")]), Order)
assert_type(Last().fold([OrderPlaced("o-1", 5)]).at, datetime | None)
assert_type(stored_name(OrderPlaced), StoredAs)

# Queries.
assert_type(Query.of(types=["OrderPlaced"], tags="order:1") | Query((QueryItem(("A",)),)), Query)
assert_type(AppendCondition(Order("o-1").query(), after=7).after, int)

# Schemas.
schema = Schema([OrderPlaced, OrderShipped | OrderMoved])
assert_type(schema.encode(OrderShipped("o-1"), Metadata(actor="ann")), NewEvent)
assert_type(schema.decode(StoredEvent(1, datetime.now(UTC), "A", 1, (), b"", b"")), Sequence[Event])


def placed_at(recorded: Recorded[OrderPlaced]) -> datetime:
    assert_type(recorded.event, OrderPlaced)
    some_event: Recorded[Event] = recorded
    assert_type(some_event.occurred_at, datetime)
    return recorded.occurred_at


# Handlers are what functions are.
functions: list[Callable[..., Any]] = [ship, either, move, read_on]
names = [read_decision(function).name for function in functions]
assert_type(names, list[str])

# Tests of decisions.
past = given(OrderPlaced("o-1", 5), (OrderShipped("o-1"), timedelta(hours=1)), now=datetime.now(UTC))
assert_type(past.load(Order("o-1")), Order)
assert_type(past.when(ship, ShipOrder("o-1")), Outcome)
assert_type(past.when(ship, ShipOrder("o-1")).then(OrderShipped("o-1")), given)
past.when(either, ShipOrder("o-1"))
past.when(either, MoveOrder("o-1", "o-2"), Metadata(actor="ann"))
past.when(move, MoveOrder("o-1", "o-2"))
past.when(read_on, ShipOrder("o-1"))
