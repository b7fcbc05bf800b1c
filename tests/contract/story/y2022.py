"""2022: an order has lines, so that it is about several products; and what was called aborted is called cancelled."""

from typing import Annotated, Any, Self, TypeAlias

from msgspec import Struct

from refold import App, Event, State, Tag, stored_as

OrderId: TypeAlias = Annotated[str, Tag("order")]
CustomerId: TypeAlias = Annotated[str, Tag("customer")]
Sku: TypeAlias = Annotated[str, Tag("product")]


@stored_as("OrderPlaced", version=1)
class OrderPlacedV1(Event):
    order_id: OrderId
    customer_id: CustomerId
    sku: Sku
    quantity: int
    amount: int
    address: str


class Line(Struct, frozen=True):
    sku: Sku
    quantity: int
    amount: int


@stored_as("OrderPlaced", version=2)
class OrderPlaced(Event):
    order_id: OrderId
    customer_id: CustomerId
    lines: tuple[Line, ...]
    address: str


@stored_as("OrderAborted")
class OrderAbortedV1(Event):
    order_id: OrderId
    customer_id: CustomerId
    why: str


class OrderCancelled(Event):
    order_id: OrderId
    customer_id: CustomerId
    reason: str


class OrderCounted(Event):
    order_id: OrderId


def with_lines(old: OrderPlacedV1) -> OrderPlaced:
    return OrderPlaced(old.order_id, old.customer_id, (Line(old.sku, old.quantity, old.amount),), old.address)


def cancelled(old: OrderAbortedV1) -> OrderCancelled:
    return OrderCancelled(old.order_id, old.customer_id, old.why)


class Order(State):
    order_id: OrderId
    status: str = ""
    amount: int = 0
    address: str = ""

    def evolve(self, event: OrderPlaced | OrderCancelled) -> Self:
        match event:
            case OrderPlaced():
                amount = sum(line.amount for line in event.lines)
                return self.replace(status="placed", amount=amount, address=event.address)
            case OrderCancelled():
                return self.replace(status=f"cancelled: {event.reason}")


class Customer(State):
    customer_id: CustomerId
    orders: int = 0
    spent: int = 0

    def evolve(self, event: OrderPlaced) -> Self:
        return self.replace(orders=self.orders + 1, spent=self.spent + sum(line.amount for line in event.lines))


class Sales(State):
    sku: Sku
    sold: int = 0

    def evolve(self, event: OrderPlaced) -> Self:
        return self.replace(sold=self.sold + sum(line.quantity for line in event.lines if line.sku == self.sku))


EVENTS = [OrderPlaced, OrderCancelled, OrderCounted]
UPCASTERS = [with_lines, cancelled]
RECORDED = [
    OrderPlaced("o-3", "ann", (Line("tea", 1, 450), Line("cup", 4, 1800)), "1 High Street"),
    OrderCancelled("o-1", "ann", "never arrived"),
    OrderCounted("o-3"),
]


def app(log: Any, **options: Any) -> App:
    return App(log, events=EVENTS, upcasters=UPCASTERS, projections=[Order, Customer, Sales], **options)
