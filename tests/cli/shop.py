"""A small app for the command line to look at."""

from typing import Annotated, Self

from refold import App, Command, Event, State, Tag

OrderId = Annotated[str, Tag("order")]


class OrderPlaced(Event):
    order_id: OrderId
    total: int


class OrderPaid(Event):
    order_id: OrderId


class PlaceOrder(Command):
    order_id: OrderId
    total: int


class Order(State):
    order_id: OrderId
    status: str = "new"
    total: int = 0

    def evolve(self, event: OrderPlaced | OrderPaid) -> Self:
        match event:
            case OrderPlaced():
                return self.replace(status="placed", total=event.total)
            case OrderPaid():
                return self.replace(status="paid")


def place_order(command: PlaceOrder, order: Order) -> OrderPlaced | None:
    return OrderPlaced(command.order_id, command.total) if order.status == "new" else None


def make_app(store: str) -> App:
    return App(store, events=OrderPlaced | OrderPaid, decisions=[place_order], projections=[Order])


app = make_app("memory:")
not_an_app = 7


def wrong(store: str) -> App:
    return App(store, events=OrderPaid, decisions=[place_order])
