"""2024: money has a currency, and is a Decimal; what was sold before was sold in the one that the shop had then."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Self, TypeAlias

from msgspec import Struct

from refold import App, Event, Metadata, State, Tag, stored_as

OrderId: TypeAlias = Annotated[str, Tag("order")]
CustomerId: TypeAlias = Annotated[str, Tag("customer")]
Sku: TypeAlias = Annotated[str, Tag("product")]
EURO_SINCE = datetime(2023, 1, 1, tzinfo=UTC)
"""When the shop's country changed its money: the price of Kuna is fixed by law."""


@stored_as("OrderPlaced", version=1)
class OrderPlacedV1(Event):
    order_id: OrderId
    customer_id: CustomerId
    sku: Sku
    quantity: int
    amount: int
    address: str


class LineV2(Struct, frozen=True):
    sku: Sku
    quantity: int
    amount: int


@stored_as("OrderPlaced", version=2)
class OrderPlacedV2(Event):
    order_id: OrderId
    customer_id: CustomerId
    lines: tuple[LineV2, ...]
    address: str


class Line(Struct, frozen=True):
    sku: Sku
    quantity: int
    amount: Decimal


@stored_as("OrderPlaced", version=3)
class OrderPlaced(Event):
    order_id: OrderId
    customer_id: CustomerId
    lines: tuple[Line, ...]
    currency: str
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


def with_lines(old: OrderPlacedV1) -> OrderPlacedV2:
    return OrderPlacedV2(old.order_id, old.customer_id, (LineV2(old.sku, old.quantity, old.amount),), old.address)


def with_currency(old: OrderPlacedV2, metadata: Metadata) -> OrderPlaced:
    lines = tuple(Line(line.sku, line.quantity, Decimal(line.amount).scaleb(-2)) for line in old.lines)
    currency = "HRK" if metadata.occurred_at < EURO_SINCE else "EUR"
    return OrderPlaced(old.order_id, old.customer_id, lines, currency, old.address)


def cancelled(old: OrderAbortedV1) -> OrderCancelled:
    return OrderCancelled(old.order_id, old.customer_id, old.why)


def drop(old: OrderCounted) -> None:
    """The nightly report counted orders with these; it asks a view now."""


def in_euro(event: OrderPlaced) -> Decimal:
    total = sum((line.amount for line in event.lines), Decimal())
    return total if event.currency == "EUR" else (total / Decimal("7.53450")).quantize(Decimal("0.01"))


class Order(State):
    order_id: OrderId
    status: str = ""
    amount: Decimal = Decimal()
    currency: str = ""
    address: str = ""

    def evolve(self, event: OrderPlaced | OrderCancelled) -> Self:
        match event:
            case OrderPlaced():
                amount = sum((line.amount for line in event.lines), Decimal())
                return self.replace(status="placed", amount=amount, currency=event.currency, address=event.address)
            case OrderCancelled():
                return self.replace(status=f"cancelled: {event.reason}")


class Customer(State):
    customer_id: CustomerId
    orders: int = 0
    spent: Decimal = Decimal()

    def evolve(self, event: OrderPlaced) -> Self:
        return self.replace(orders=self.orders + 1, spent=self.spent + in_euro(event))


class Sales(State):
    sku: Sku
    sold: int = 0

    def evolve(self, event: OrderPlaced) -> Self:
        return self.replace(sold=self.sold + sum(line.quantity for line in event.lines if line.sku == self.sku))


EVENTS = [OrderPlaced, OrderCancelled]
UPCASTERS = [with_lines, with_currency, cancelled, drop]
RECORDED = [
    OrderPlaced("o-4", "cyd", (Line("tea", 3, Decimal("13.50")),), "EUR", "3 Side Lane"),
    OrderCancelled("o-3", "ann", "changed her mind"),
]


def app(log: Any, **options: Any) -> App:
    return App(log, events=EVENTS, upcasters=UPCASTERS, projections=[Order, Customer, Sales], **options)
