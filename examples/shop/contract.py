"""The shop's contract: what other contexts see of it. They get events of these names, versions and fields, no code.

An `OrderShipped` is published as it is.
"""

from decimal import Decimal

from examples.shop.orders import (
    CustomerId,
    OrderCanceled,
    OrderFoundUnavailable,
    OrderId,
    OrderPlaced,
    total_of,
)
from refold import Event, stored_as


@stored_as("OrderPlaced")
class PublicOrder(Event):
    """What was ordered stays with the shop; by whom, and for how much, does not."""

    order_id: OrderId
    customer_id: CustomerId
    total: Decimal


@stored_as("OrderCanceled")
class PublicCancellation(Event):
    """To others it is all the same whether somebody changed their mind, or did not pay, or we had nothing to sell."""

    order_id: OrderId


def publish_order(event: OrderPlaced) -> PublicOrder:
    return PublicOrder(event.order_id, event.customer_id, total_of(event.lines))


def publish_cancellation(event: OrderCanceled | OrderFoundUnavailable) -> PublicCancellation:
    return PublicCancellation(event.order_id)
