"""Upcasting: what a step from an old version to a newer one costs, over decoding it."""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from bench.measure import Options, console, missed
from refold import Event, Tag, stored_as
from refold.model.message import stored_name
from refold.model.record import StoredEvent
from refold.model.schema import Schema
from refold.model.tag import tags_of
from refold.store.api import utc_now

OrderId = Annotated[str, Tag("order")]
Customer = Annotated[str, Tag("customer")]
LEAST_MICROSECONDS = 3.0


@stored_as("OrderPlaced", version=1)
class OrderPlacedV1(Event):
    order_id: OrderId
    customer: Customer
    sku: str
    cents: int


@stored_as("OrderPlaced", version=2)
class OrderPlacedV2(Event):
    order_id: OrderId
    customer: Customer
    lines: tuple[tuple[str, int], ...]
    cents: int


@stored_as("OrderPlaced", version=3)
class OrderPlacedV3(Event):
    order_id: OrderId
    customer: Customer
    lines: tuple[tuple[str, int], ...]
    total: Decimal
    currency: str


@stored_as("OrderPlaced", version=4)
class OrderPlaced(Event):
    order_id: OrderId
    customer: Customer
    lines: tuple[tuple[str, int], ...]
    total: Decimal
    currency: str
    channel: str


class GiftAdded(Event):
    order_id: OrderId
    text: str


def with_lines(old: OrderPlacedV1) -> OrderPlacedV2:
    return OrderPlacedV2(old.order_id, old.customer, ((old.sku, 1),), old.cents)


def with_currency(old: OrderPlacedV2) -> OrderPlacedV3:
    return OrderPlacedV3(old.order_id, old.customer, old.lines, Decimal(old.cents).scaleb(-2), "EUR")


def with_channel(old: OrderPlacedV3) -> OrderPlaced:
    return OrderPlaced(old.order_id, old.customer, old.lines, old.total, old.currency, "web")


def split(old: OrderPlacedV3) -> tuple[OrderPlaced, GiftAdded]:
    placed = OrderPlaced(old.order_id, old.customer, old.lines, old.total, old.currency, "web")
    return placed, GiftAdded(old.order_id, "")


def stored(event: Event) -> StoredEvent:
    name, version = stored_name(type(event))
    return StoredEvent(1, utc_now(), name, version, tags_of(event), msgspec.json.encode(event), b"")


async def upcasting(options: Options) -> None:
    """Decode an event, plainly, through three versions, and through three of which the last gives two."""
    count = options.size(100_000)
    first = stored(OrderPlacedV1("o-1", "c-1", "tea", 1250))
    steps: list[Any] = [with_lines, with_currency]
    sides: dict[str, Callable[[StoredEvent], object]] = {
        "plain": Schema(OrderPlacedV1).decode,
        "through three versions": Schema(OrderPlaced, [*steps, with_channel]).decode,
        "through three, the last gives two": Schema(OrderPlaced | GiftAdded, [*steps, split]).decode,
        "the three functions alone": lambda _: with_channel(with_currency(with_lines(EXAMPLE))),
    }
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(options.rounds):
        for name, decode in sides.items():
            start = time.perf_counter()
            for _ in range(count):
                decode(first)
            best[name] = min(best[name], (time.perf_counter() - start) / count * 1e6)
    for name, microseconds in best.items():
        over = f", {microseconds - best['plain']:.2f} µs over plain" if name.startswith("through") else ""
        console.print(f"Decoding {name}: {microseconds:.2f} µs an event{over}")
    if (cost := best["through three versions"] - best["plain"]) > LEAST_MICROSECONDS:
        missed.append(f"upcasting through three versions costs {cost:.2f} µs, to be {LEAST_MICROSECONDS:.0f}")


EXAMPLE = OrderPlacedV1("o-1", "c-1", "tea", 1250)
CASES: list[Callable[[Options], object]] = [upcasting]
