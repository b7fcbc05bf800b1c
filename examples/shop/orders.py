"""Orders, from the moment they are placed: ids, events, states, decisions."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self, TypeAlias

from msgspec import Struct

from examples.shop.catalogue import Category, NotListed, Product, Sku
from refold import Command, Event, Rejected, State, Tag

# Ids. A tag says what a message is about; it is how events find their states, and decisions theirs.

OrderId: TypeAlias = Annotated[str, Tag("order")]
CustomerId: TypeAlias = Annotated[str, Tag("customer")]

# Events: what happened.


class Item(Struct, frozen=True):
    """What a customer asks for. The price comes with it, for each seller on this marketplace has prices of its own."""

    sku: Sku
    quantity: int
    price: Decimal  # of one
    freight: Decimal  # for all


class Line(Item, frozen=True):
    """An item of an order, with the category that its product had then."""

    category: Category


class OrderPlaced(Event):
    order_id: OrderId
    customer_id: CustomerId
    lines: tuple[Line, ...]
    promised: datetime | None = None


class OrderApproved(Event):
    order_id: OrderId


class ProcessingStarted(Event):
    order_id: OrderId


class OrderInvoiced(Event):
    order_id: OrderId


class OrderShipped(Event):
    order_id: OrderId


class OrderDelivered(Event):
    order_id: OrderId


class OrderCanceled(Event):
    order_id: OrderId


class OrderFoundUnavailable(Event):
    order_id: OrderId


OrderEvent: TypeAlias = (
    OrderPlaced
    | OrderApproved
    | ProcessingStarted
    | OrderInvoiced
    | OrderShipped
    | OrderDelivered
    | OrderCanceled
    | OrderFoundUnavailable
)

# States: what the events add up to.


class Status(StrEnum):
    CREATED = "created"
    APPROVED = "approved"
    PROCESSING = "processing"
    INVOICED = "invoiced"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELED = "canceled"
    UNAVAILABLE = "unavailable"


OPEN = (Status.CREATED, Status.APPROVED, Status.PROCESSING, Status.INVOICED)


def status_after(event: OrderEvent, before: Status | None) -> Status:
    match event:
        case OrderPlaced():
            return Status.CREATED
        case OrderApproved():  # may be heard of late, when the parcel is on its way
            return before if before and before is not Status.CREATED else Status.APPROVED
        case ProcessingStarted():
            return Status.PROCESSING
        case OrderInvoiced():
            return Status.INVOICED
        case OrderShipped():
            return Status.SHIPPED
        case OrderDelivered():
            return Status.DELIVERED
        case OrderCanceled():
            return Status.CANCELED
        case OrderFoundUnavailable():
            return Status.UNAVAILABLE


class Order(State):
    """An order, as decisions need it. Fields without a default are the key."""

    order_id: OrderId
    status: Status | None = None  # None until it is placed
    approved: bool = False
    lines: tuple[Line, ...] = ()

    def evolve(self, event: OrderEvent) -> Self:
        return self.replace(
            status=status_after(event, self.status),
            approved=self.approved or isinstance(event, OrderApproved),
            lines=event.lines if isinstance(event, OrderPlaced) else self.lines,
        )

    @property
    def total(self) -> Decimal:
        return total_of(self.lines)

    def must_be(self, *allowed: Status, to_be: str) -> None:
        if self.status not in allowed:
            raise NotPossible(f"An order that is {self.status or 'not placed'} cannot be {to_be}.")


def total_of(lines: Iterable[Item]) -> Decimal:
    return sum((line.quantity * line.price + line.freight for line in lines), Decimal())


# Decisions: from a command, and the states that it depends on, to events. Nobody can append an event that would
# change one of these states between the decision and its own events.


class NotPossible(Rejected):
    """The order is at a stage where this cannot be done."""


class BadItem(Rejected):
    """An item needs a quantity above zero, and a price and freight that are not below it."""


class PlaceOrder(Command):
    order_id: OrderId
    customer_id: CustomerId
    items: tuple[Item, ...]
    promised: datetime | None = None


class CancelOrder(Command):
    order_id: OrderId


def place_order(cmd: PlaceOrder, order: Order, *products: Product) -> Iterable[OrderPlaced]:
    # Sellers confirm items later, so an order may come without any. Then nothing can be invoiced or shipped.
    if order.status:
        raise NotPossible("An order can be placed only once.")
    if any(item.quantity <= 0 or item.price < 0 or item.freight < 0 for item in cmd.items):
        raise BadItem
    categories = {product.sku: product.category for product in products}
    if not all(categories.values()):
        raise NotListed
    lines = (Line(i.sku, i.quantity, i.price, i.freight, categories[i.sku]) for i in cmd.items)
    yield OrderPlaced(cmd.order_id, cmd.customer_id, tuple(lines), cmd.promised)


def cancel_order(cmd: CancelOrder, order: Order) -> Iterable[OrderCanceled]:
    order.must_be(*OPEN, Status.SHIPPED, to_be="canceled")
    yield OrderCanceled(cmd.order_id)
