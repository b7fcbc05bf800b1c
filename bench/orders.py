"""What is measured with: orders of five events, two tags and about 130 bytes each, and a command that adds to one."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated, Any, Self, TypeAlias

from refold import App, Command, Event, NewEvent, Rejected, State, Tag
from refold.model.schema import Schema
from refold.store.api import Store

EVENTS_OF_ORDER = 5
UNDER_WAY = 200
CUSTOMERS = 5_000

OrderId: TypeAlias = Annotated[str, Tag("order")]
CustomerId: TypeAlias = Annotated[str, Tag("customer")]


class Placed(Event):
    order_id: OrderId
    customer_id: CustomerId
    address: str


class Added(Event):
    order_id: OrderId
    customer_id: CustomerId
    sku: str
    quantity: int
    price: int
    note: str = ""


class Order(State):
    order_id: OrderId
    customer_id: str = ""
    lines: int = 0
    total: int = 0
    last_sku: str = ""

    def evolve(self, event: Placed | Added) -> Self:
        match event:
            case Placed():
                return self.replace(customer_id=event.customer_id)
            case Added():
                return self.replace(
                    lines=self.lines + 1, total=self.total + event.quantity * event.price, last_sku=event.sku
                )


class Add(Command):
    order_id: OrderId
    sku: str
    quantity: int
    price: int
    note: str = ""


def add(command: Add, order: Order) -> Added:
    if not order.customer_id:
        raise Rejected("no such order")
    return Added(order.order_id, order.customer_id, command.sku, command.quantity, command.price, command.note)


NOTE = "please leave it at the back door, dear"
SCHEMA = Schema(Placed | Added)


def open_app(store: Path | str | Store, **options: Any) -> App:
    """Make an app on a file, an address or an open store."""
    where = f"sqlite:///{store}" if isinstance(store, Path) else store
    return App(where, events=Placed | Added, decisions=[add], **options)


def open_indexed(store: str) -> App:
    """Make an app whose log is indexed."""
    return open_app(store, index=True)


def order_id(number: int) -> str:
    return f"o-{number:08d}"


def customer_of(number: int) -> str:
    """Spread orders over customers as if at random."""
    return f"c-{number * 2_654_435_761 % CUSTOMERS:06d}"


def events(number: int) -> Iterator[Placed | Added]:
    """Make the events of an order."""
    order, customer = order_id(number), customer_of(number)
    yield Placed(order, customer, f"{number} Long Street, 12345 Some Town, in the Land of Orders")
    for line in range(1, EVENTS_OF_ORDER):
        yield Added(order, customer, f"sku-{(number + line) % 997:04d}", line, 100 + line, NOTE)


class Feed:
    """Encodes ever new events of orders that are under way side by side, as they are in a real log."""

    def __init__(self, first_order: int = 1) -> None:
        self._order = first_order
        self._rest: list[NewEvent] = []
        self._dice = Random(first_order)

    def take(self, count: int) -> list[NewEvent]:
        """Return the next events; a multiple of `UNDER_WAY * EVENTS_OF_ORDER` completes every order begun."""
        while len(self._rest) < count:
            self._rest += self._some()
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def _some(self) -> list[NewEvent]:
        histories = [
            [SCHEMA.encode(event) for event in reversed(list(events(number)))]
            for number in range(self._order, self._order + UNDER_WAY)
        ]
        self._order += UNDER_WAY
        turns = [history for history in histories for _ in history]
        self._dice.shuffle(turns)
        return [history.pop() for history in turns]
