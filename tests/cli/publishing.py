"""Orders that are published, for the command line to publish again."""

from typing import Annotated, TypeAlias

from refold import App, Event, Tag
from refold.bus.memory import MemoryBus

OrderId: TypeAlias = Annotated[str, Tag("order")]
BUS = MemoryBus()


class OrderPlaced(Event):
    order_id: OrderId


def app(store: str) -> App:
    return App(store, name="shop", bus=BUS, events=OrderPlaced, outbox=[OrderPlaced])
