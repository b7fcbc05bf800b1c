"""A small shop with all that an API shows."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Self, TypeAlias

from refold import App, Command, Event, Metadata, Rejected, Searched, Singleton, State, Tag, kept

Sku: TypeAlias = Annotated[str, Tag("product")]
OrderId: TypeAlias = Annotated[str, Tag("order")]
MARCH = datetime(2026, 3, 1, tzinfo=UTC)


class StockReceived(Event):
    sku: Sku
    quantity: int
    name: str = ""


class OrderPlaced(Event):
    order_id: OrderId
    sku: Sku
    quantity: int
    total: Decimal = Decimal()


class ReceiveStock(Command):
    sku: Sku
    quantity: int
    name: str = ""


class PlaceOrder(Command):
    """Asks for so many of a product."""

    order_id: OrderId
    sku: Sku
    quantity: int
    total: Decimal = Decimal()


class Break(Command):
    """Is decided by what fails."""


class Stock(State):
    """How many there are."""

    sku: Sku
    available: int = 0
    name: Annotated[str, Searched()] = ""

    def evolve(self, event: StockReceived | OrderPlaced) -> Self:
        match event:
            case StockReceived():
                return self.replace(available=self.available + event.quantity, name=event.name or self.name)
            case OrderPlaced():
                return self.replace(available=self.available - event.quantity)


class Order(State):
    order_id: OrderId
    total: Decimal = Decimal()
    placed_at: datetime | None = None
    """In UTC."""

    def evolve(self, event: OrderPlaced, metadata: Metadata) -> Self:
        return self.replace(total=event.total, placed_at=metadata.occurred_at)


class Sales(Singleton):
    orders: int = 0

    def evolve(self, event: OrderPlaced) -> Self:
        return self.replace(orders=self.orders + 1)


class SoldOut(Rejected):
    """There is not enough of it."""


def receive_stock(command: ReceiveStock) -> StockReceived:
    return StockReceived(command.sku, command.quantity, command.name)


def place_order(command: PlaceOrder, stock: Stock) -> Iterable[OrderPlaced]:
    if stock.available < command.quantity:
        raise SoldOut(sku=command.sku, available=stock.available)
    yield OrderPlaced(command.order_id, command.sku, command.quantity, command.total)


def break_down(command: Break) -> Iterable[OrderPlaced]:
    raise RuntimeError("the password is geheim")


def shop(store: Any, **options: Any) -> App:
    given: dict[str, Any] = {"projections": [kept(Stock, history=True), Order, Sales]}
    return App(
        store,
        name="shop",
        events=StockReceived | OrderPlaced,
        decisions=[receive_stock, place_order, break_down],
        **given | options,
    )
