"""Fulfilment: what is paid and in stock is shipped and delivered; a process has the stock reserved."""

from collections import Counter
from collections.abc import Iterable

from examples.shop.inventory import InventoryRefused, ReleaseInventory, Reservation, ReserveInventory, Units
from examples.shop.orders import (
    OPEN,
    Order,
    OrderCanceled,
    OrderDelivered,
    OrderFoundUnavailable,
    OrderId,
    OrderInvoiced,
    OrderPlaced,
    OrderShipped,
    ProcessingStarted,
    Status,
)
from examples.shop.payments import Payments
from refold import Command, Rejected


class StartProcessing(Command):
    order_id: OrderId


class InvoiceOrder(Command):
    order_id: OrderId


class ShipOrder(Command):
    order_id: OrderId


class DeliverOrder(Command):
    order_id: OrderId


class MarkUnavailable(Command):
    order_id: OrderId


class NothingOrdered(Rejected):
    """The order has no items."""


class NotReserved(Rejected):
    """The items of the order are not reserved."""


def start_processing(cmd: StartProcessing, order: Order) -> Iterable[ProcessingStarted]:
    order.must_be(Status.APPROVED, to_be="processed")
    yield ProcessingStarted(cmd.order_id)


def invoice_order(cmd: InvoiceOrder, order: Order) -> Iterable[OrderInvoiced]:
    order.must_be(Status.APPROVED, Status.PROCESSING, to_be="invoiced")
    if not order.lines:
        raise NothingOrdered
    yield OrderInvoiced(cmd.order_id)


def ship_order(cmd: ShipOrder, order: Order, payments: Payments, reservation: Reservation) -> Iterable[OrderShipped]:
    order.must_be(*OPEN, to_be="shipped")
    payments.must_cover(order.total)
    if not order.lines:
        raise NothingOrdered
    if not reservation.units:
        raise NotReserved
    yield OrderShipped(cmd.order_id)


def deliver_order(cmd: DeliverOrder, order: Order) -> Iterable[OrderDelivered]:
    order.must_be(Status.SHIPPED, to_be="delivered")
    yield OrderDelivered(cmd.order_id)


def mark_unavailable(cmd: MarkUnavailable, order: Order) -> Iterable[OrderFoundUnavailable]:
    # The process asks for this, too, when an order may be closed already: then there is nothing left to say.
    if order.status not in (Status.CANCELED, Status.UNAVAILABLE):
        order.must_be(*OPEN, to_be="found unavailable")
        yield OrderFoundUnavailable(cmd.order_id)


def fulfil(
    event: OrderPlaced | InventoryRefused | OrderCanceled | OrderFoundUnavailable,
) -> Iterable[ReserveInventory | MarkUnavailable | ReleaseInventory]:
    match event:
        case OrderPlaced() if event.lines:
            wanted = Counter[str]()
            for line in event.lines:
                wanted[line.sku] += line.quantity
            yield ReserveInventory(event.order_id, tuple(Units(sku, wanted[sku]) for sku in wanted))
        case OrderPlaced():
            pass
        case InventoryRefused():
            yield MarkUnavailable(event.order_id)
        case OrderCanceled() | OrderFoundUnavailable():
            yield ReleaseInventory(event.order_id)
