"""The shop's contract: what other contexts see of it. They get events of these names and fields, and no code."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from examples.shop.orders import CustomerId, OrderCanceled, OrderId, OrderPlaced, OrderShipped, total_of
from refold import Event, stored_as


class _Contract:
    @stored_as("OrderPlaced")
    class Placed(Event):
        """What was ordered stays with the shop; what is to be paid does not."""

        order_id: OrderId
        customer_id: CustomerId
        total: Decimal


Placed = _Contract.Placed


def public_order(event: OrderPlaced) -> Placed:
    return Placed(event.order_id, event.customer_id, total_of(event.lines))


OUTBOX: list[type[Event] | Callable[..., Any]] = [public_order, OrderShipped, OrderCanceled]
