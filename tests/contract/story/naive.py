"""What somebody in a hurry would have done in place of each step: the same change, without a version or upcaster."""

from decimal import Decimal
from typing import Any

from msgspec import Struct

from refold import App, Event, stored_as
from tests.contract.story import y2021, y2022, y2024
from tests.contract.story.y2021 import CustomerId, OrderId, Sku


class In2022:
    """Lines in place of the product, in the same version; and a class that is renamed, and nothing else."""

    class Line(Struct, frozen=True):
        sku: Sku
        quantity: int
        amount: int

    class OrderPlaced(Event):
        order_id: OrderId
        customer_id: CustomerId
        lines: "tuple[Line, ...]"
        address: str

    class OrderCancelled(Event):
        order_id: OrderId
        customer_id: CustomerId
        reason: str


Line = In2022.Line


class In2024:
    """A currency that old orders do not have, and amounts that are whole units where they were cents."""

    class Line(Struct, frozen=True):
        sku: Sku
        quantity: int
        amount: Decimal

    @stored_as("OrderPlaced", version=2)
    class OrderPlaced(Event):
        order_id: OrderId
        customer_id: CustomerId
        lines: "tuple[MoneyLine, ...]"
        currency: str
        address: str


MoneyLine = In2024.Line


class In2026:
    """A field that is renamed in the log as in the code."""

    class OrderCancelled(Event):
        order_id: OrderId
        customer_id: CustomerId
        because: str


def app(year: int) -> App:
    """Return the program of the year before with the change of this one, done naively."""
    events: dict[int, list[Any]] = {
        2022: [In2022.OrderPlaced, In2022.OrderCancelled, y2021.OrderCounted],
        2024: [In2024.OrderPlaced, y2022.OrderCancelled, y2022.OrderCounted],
        2026: [y2024.OrderPlaced, In2026.OrderCancelled],
    }
    upcasters: dict[int, list[Any]] = {
        2022: [],
        2024: [placed_with_lines, y2022.cancelled],
        2026: [y2024.with_lines, y2024.with_currency, cancelled, y2024.drop],
    }
    return App("memory:", events=events[year], upcasters=upcasters[year])


def placed_with_lines(old: y2022.OrderPlacedV1) -> In2024.OrderPlaced:
    line = MoneyLine(old.sku, old.quantity, Decimal(old.amount))
    return In2024.OrderPlaced(old.order_id, old.customer_id, (line,), "EUR", old.address)


def cancelled(old: y2024.OrderAbortedV1) -> In2026.OrderCancelled:
    return In2026.OrderCancelled(old.order_id, old.customer_id, old.why)
