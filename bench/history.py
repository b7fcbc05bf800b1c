"""The check against real history: a log of a million events of many versions, decoded, upcast and folded."""

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Self

import msgspec

from bench.measure import Options, console, missed
from bench.upcasting import (
    Customer,
    GiftAdded,
    OrderId,
    OrderPlaced,
    OrderPlacedV1,
    OrderPlacedV2,
    OrderPlacedV3,
    split,
    with_currency,
    with_lines,
)
from refold import Event, NewEvent, State
from refold.contract.found import Program
from refold.contract.history import check_history
from refold.model.message import stored_name
from refold.model.tag import tags_of
from refold.store.sqlite import SqliteStore

BATCH = 5_000
MOST_SECONDS = 15.0
"""For a million events, on one core."""


class OrderPaid(Event):
    order_id: OrderId
    customer: Customer
    amount: Decimal


class OrderShipped(Event):
    order_id: OrderId
    parcel: str


class OrderDelivered(Event):
    order_id: OrderId


class Order(State):
    order_id: OrderId
    status: str = ""
    total: Decimal = Decimal()
    gift: str = ""

    def evolve(self, event: OrderPlaced | GiftAdded | OrderPaid | OrderShipped | OrderDelivered) -> Self:
        match event:
            case OrderPlaced():
                return self.replace(status="placed", total=event.total)
            case GiftAdded():
                return self.replace(gift=event.text)
            case OrderPaid():
                return self.replace(status="paid")
            case OrderShipped():
                return self.replace(status="shipped")
            case OrderDelivered():
                return self.replace(status="delivered")


class Spent(State):
    customer: Customer
    orders: int = 0
    paid: Decimal = Decimal()

    def evolve(self, event: OrderPlaced | OrderPaid) -> Self:
        match event:
            case OrderPlaced():
                return self.replace(orders=self.orders + 1)
            case OrderPaid():
                return self.replace(paid=self.paid + event.amount)


PROGRAM = Program(
    events=(OrderPlaced, GiftAdded, OrderPaid, OrderShipped, OrderDelivered),
    upcasters=(with_lines, with_currency, split),
    states=(Order, Spent),
    kept=(Order, Spent),
)


def events(count: int) -> Iterator[Event]:
    """Give the events of orders, four each, of which the first is of an older version in three of four."""
    for number in range(count // 4):
        order, customer = f"o-{number:07}", f"c-{number % 20_000:05}"
        total, lines = Decimal("12.50"), (("tea", 1), ("cup", 2))
        match number % 4:
            case 0:
                yield OrderPlacedV1(order, customer, "tea", 1250)
            case 1:
                yield OrderPlacedV2(order, customer, lines, 1250)
            case 2:
                yield OrderPlacedV3(order, customer, lines, total, "EUR")
            case _:
                yield OrderPlaced(order, customer, lines, total, "EUR", "web")
        yield OrderPaid(order, customer, total)
        yield OrderShipped(order, f"parcel-{number}")
        yield OrderDelivered(order)


def encoded(event: Event) -> NewEvent:
    name, version = stored_name(type(event))
    return NewEvent(name, msgspec.json.encode(event), tags_of(event), version)


async def fill(path: Path, count: int) -> None:
    store = await SqliteStore.open(path, durability="relaxed")
    batch: list[NewEvent] = []
    for event in events(count):
        batch.append(encoded(event))
        if len(batch) == BATCH:
            await store.append(batch)
            batch = []
    if batch:
        await store.append(batch)
    await store.close()


async def history(options: Options) -> None:
    """Check a program against a million events: with one worker, with two, and a sample of them."""
    count = options.size(1_000_000, of=4)
    path = options.folder / "history.db"
    await fill(path, count)
    for name, more in (
        ("one worker", {}),
        ("two workers", {"workers": 2}),
        ("a sample of 1,000 and 1,000 keys", {"sample": 1_000, "keys": 1_000}),
    ):
        start, cpu = time.perf_counter(), time.process_time()
        report = await check_history(PROGRAM, f"sqlite:///{path}", **more)  # type: ignore[arg-type]
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        assert not report.failed, report.failures
        assert report.events == count
        folded = ", ".join(f"{each.keys:,} {each.name}" for each in report.folded)
        console.print(
            f"{count:,} events checked by {name} in {seconds:.1f} s ({cpu:.1f} s of this process's time): {folded}; "
            f"{seconds / count * 1e6:.1f} µs an event"
        )
        if name == "one worker" and seconds * 1e6 / count > MOST_SECONDS:
            missed.append(f"a million events take {seconds * 1e6 / count:.1f} s, to be {MOST_SECONDS:.0f}")


CASES: list[Callable[[Options], object]] = [history]
