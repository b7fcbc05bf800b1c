"""2021: an order is of one product, and money is an int of cents."""

from typing import Annotated, Any, Self, TypeAlias

from refold import App, Event, State, Tag

OrderId: TypeAlias = Annotated[str, Tag("order")]
CustomerId: TypeAlias = Annotated[str, Tag("customer")]
Sku: TypeAlias = Annotated[str, Tag("product")]


class OrderPlaced(Event):
    order_id: OrderId
    customer_id: CustomerId
    sku: Sku
    quantity: int
    amount: int
    address: str


class OrderAborted(Event):
    order_id: OrderId
    customer_id: CustomerId
    why: str


class OrderCounted(Event):
    """A report of every night wrote these; nobody reads them any more."""

    order_id: OrderId


class Order(State):
    order_id: OrderId
    status: str = ""
    amount: int = 0
    address: str = ""

    def evolve(self, event: OrderPlaced | OrderAborted) -> Self:
        match event:
            case OrderPlaced():
                return self.replace(status="placed", amount=event.amount, address=event.address)
            case OrderAborted():
                return self.replace(status=f"aborted: {event.why}")


class Customer(State):
    customer_id: CustomerId
    orders: int = 0
    spent: int = 0

    def evolve(self, event: OrderPlaced) -> Self:
        return self.replace(orders=self.orders + 1, spent=self.spent + event.amount)


class Sales(State):
    sku: Sku
    sold: int = 0

    def evolve(self, event: OrderPlaced) -> Self:
        return self.replace(sold=self.sold + event.quantity)


EVENTS = [OrderPlaced, OrderAborted, OrderCounted]
RECORDED = [
    OrderPlaced("o-1", "ann", "tea", 2, 900, "1 High Street"),
    OrderPlaced("o-2", "bob", "cup", 1, 450, "2 Low Road"),
    OrderAborted("o-2", "bob", "out of stock"),
    OrderCounted("o-1"),
]


def app(log: Any, **options: Any) -> App:
    return App(log, events=EVENTS, projections=[Order, Customer, Sales], **options)
