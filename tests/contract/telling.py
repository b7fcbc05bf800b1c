"""An app whose contract has everything that documents and stubs must tell: every type, versions, hostile names."""

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal, Self, TypeAlias
from uuid import UUID

from msgspec import Meta, Struct, field

from refold import App, Command, Event, Inbox, State, Tag, stored_as
from refold.bus.memory import MemoryBus

OrderId: TypeAlias = Annotated[str, Tag("order")]
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&]]>*/`${0}"


class Colour(StrEnum):
    RED = "red"
    LIGHT_BLUE = "light blue"


class Size(Enum):
    SMALL = 1
    LARGE = 2


class Point(Struct, frozen=True, array_like=True):
    x: int
    y: int = 1


class Card(Struct, frozen=True, tag="card"):
    number: str


class Cash(Struct, frozen=True, tag="cash"):
    amount: Decimal
    given: date | None = None


class Line(Struct, frozen=True):
    sku: Annotated[str, Tag("product")]
    quantity: Annotated[int, Meta(ge=1, description="How many, *never* none.")]
    """Of one."""


class Tree(Struct, frozen=True):
    name: str
    children: "tuple[Tree, ...]" = ()


@stored_as("OrderPlaced", version=1)
class OrderPlacedV1(Event):
    order_id: OrderId


@stored_as("OrderPlaced", version=2)
class OrderPlaced(Event):
    """Somebody wants something, see `Line`.

    More of it */ \"\"\" \\ here.
    """

    order_id: OrderId
    lines: tuple[Line, ...]
    paid_by: Card | Cash
    total: Decimal
    placed_at: datetime
    due: date | None = None
    at: time | None = None
    within: timedelta = timedelta(minutes=15)
    reference: UUID | None = None
    colour: Colour = Colour.RED
    size: Size = Size.SMALL
    how: Literal["web", "phone", 3] = "web"
    where: Point | None = None
    weight: float | None = None
    score: int | float = 0
    gift: bool = False
    seal: bytes = b""
    labels: frozenset[str] = frozenset()
    notes: dict[str, Decimal] | None = None
    pair: tuple[int, str] | None = None
    tree: Tree | None = None
    more: Any = None
    class_: str = field(default="", name="class")
    odd: str = field(default="", name="a 'b'")


class Replied(Event):
    order_id: str
    to: "Replied | None" = None


@stored_as(HOSTILE)
class Hostile(Event):
    """</script><img src=x onerror=alert(1)> and ``</style>``."""

    order_id: OrderId


class Line2:
    """A place for another class of the same name."""

    class Line(Struct, frozen=True):
        text: str


class OrderNoted(Event):
    order_id: OrderId
    lines: tuple[Line2.Line, ...] = ()


class ParcelSent(Event):
    order_id: OrderId


class PlaceOrder(Command):
    order_id: OrderId


class Order(State):
    order_id: OrderId
    placed: bool = False

    def evolve(self, event: OrderPlaced | OrderNoted) -> Self:
        return self.replace(placed=True)


def upgraded(old: OrderPlacedV1) -> OrderNoted:
    return OrderNoted(old.order_id)


def place_order(cmd: PlaceOrder, order: Order) -> Iterable[OrderNoted | Replied]:
    yield OrderNoted(cmd.order_id)


def again(event: OrderPlaced | Replied) -> Iterable[PlaceOrder]:
    yield PlaceOrder(event.order_id)


def sent(event: ParcelSent) -> Hostile | PlaceOrder:
    return Hostile(event.order_id)


def make_app(store: str = "memory:", bus: MemoryBus | None = None) -> App:
    return App(
        store,
        name="shop",
        bus=bus or MemoryBus(),
        events=OrderPlaced | Replied | Hostile | OrderNoted,
        upcasters=[upgraded],
        decisions=[place_order],
        processes=[again],
        projections=[Order],
        outbox=[OrderPlaced, Replied, Hostile, OrderNoted],
        inbox=[Inbox("parcels", [sent])],
    )


PUBLISHED = (OrderPlaced, Replied, Hostile, OrderNoted)
