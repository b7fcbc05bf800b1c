"""Inventory, fulfilment and the process between them."""

from decimal import Decimal

import pytest

from examples.shop.fulfilment import (
    DeliverOrder,
    InvoiceOrder,
    MarkUnavailable,
    NothingOrdered,
    NotReserved,
    ShipOrder,
    StartProcessing,
    deliver_order,
    fulfil,
    invoice_order,
    mark_unavailable,
    ship_order,
    start_processing,
)
from examples.shop.inventory import (
    InventoryRefused,
    InventoryReleased,
    InventoryReserved,
    NothingReceived,
    ReceiveStock,
    ReleaseInventory,
    Reservation,
    ReserveInventory,
    Stock,
    StockReceived,
    Units,
    receive_stock,
    release_inventory,
    reserve_inventory,
)
from examples.shop.orders import (
    Line,
    NotPossible,
    Order,
    OrderCanceled,
    OrderDelivered,
    OrderFoundUnavailable,
    OrderInvoiced,
    OrderPlaced,
    OrderShipped,
    ProcessingStarted,
    Status,
)
from examples.shop.payments import NotPaid, Payments

LINES = (Line("tea", 1, Decimal(9), Decimal(3), "drinks"), Line("pot", 2, Decimal(4), Decimal(0), "kitchen"))
ORDER = Order("o-1", Status.APPROVED, approved=True, lines=LINES)
UNITS = (Units("tea", 1), Units("pot", 2))
PAID = Payments("o-1", paid=Decimal(20))
RESERVED = Reservation("o-1", UNITS)


def test_stock_is_what_came_in_and_was_not_promised() -> None:
    stock = Stock("pot").fold(
        [
            StockReceived("pot", 5),
            StockReceived("tea", 9),
            InventoryReserved("o-1", UNITS),
            InventoryReserved("o-2", (Units("pot", 1),)),
            InventoryReleased("o-1", UNITS),
        ]
    )
    assert stock.available == 4


def test_stock_comes_in_above_zero() -> None:
    assert list(receive_stock(ReceiveStock("tea", 1))) == [StockReceived("tea", 1)]
    with pytest.raises(NothingReceived):
        list(receive_stock(ReceiveStock("tea", 0)))


def test_all_products_are_reserved_or_none() -> None:
    reserve = ReserveInventory("o-1", UNITS)
    enough, short = Stock("pot", 2), Stock("pot", 1)
    assert list(reserve_inventory(reserve, ORDER, Reservation("o-1"), Stock("tea", 1), enough)) == [
        InventoryReserved("o-1", UNITS)
    ]
    assert list(reserve_inventory(reserve, ORDER, Reservation("o-1"), Stock("tea", 1), short)) == [
        InventoryRefused("o-1", ("pot",))
    ]


def test_nothing_is_reserved_twice_or_for_an_order_that_is_closed() -> None:
    reserve, stock = ReserveInventory("o-1", UNITS), (Stock("tea", 9), Stock("pot", 9))
    assert list(reserve_inventory(reserve, ORDER, RESERVED, *stock)) == []
    assert list(reserve_inventory(reserve, Order("o-1", Status.CANCELED), Reservation("o-1"), *stock)) == []


def test_what_is_reserved_can_be_released() -> None:
    released = list(release_inventory(ReleaseInventory("o-1"), RESERVED))
    assert released == [InventoryReleased("o-1", UNITS)]
    assert list(release_inventory(ReleaseInventory("o-1"), RESERVED.fold(released))) == []


def test_an_order_is_shipped_when_it_is_paid_and_reserved() -> None:
    assert list(ship_order(ShipOrder("o-1"), ORDER, PAID, RESERVED)) == [OrderShipped("o-1")]
    with pytest.raises(NotPaid):
        list(ship_order(ShipOrder("o-1"), ORDER, Payments("o-1"), RESERVED))
    with pytest.raises(NotReserved):
        list(ship_order(ShipOrder("o-1"), ORDER, PAID, Reservation("o-1")))
    with pytest.raises(NothingOrdered):
        list(ship_order(ShipOrder("o-1"), ORDER.replace(lines=()), PAID, Reservation("o-1")))
    with pytest.raises(NotPossible, match="is shipped cannot be shipped"):
        list(ship_order(ShipOrder("o-1"), ORDER.replace(status=Status.SHIPPED), PAID, RESERVED))


def test_only_what_was_shipped_is_delivered() -> None:
    shipped = ORDER.replace(status=Status.SHIPPED)
    assert list(deliver_order(DeliverOrder("o-1"), shipped)) == [OrderDelivered("o-1")]
    with pytest.raises(NotPossible, match="is canceled cannot be delivered"):
        list(deliver_order(DeliverOrder("o-1"), shipped.fold([OrderCanceled("o-1")])))


def test_an_approved_order_is_processed_and_invoiced() -> None:
    assert list(start_processing(StartProcessing("o-1"), ORDER)) == [ProcessingStarted("o-1")]
    assert list(invoice_order(InvoiceOrder("o-1"), ORDER)) == [OrderInvoiced("o-1")]
    with pytest.raises(NothingOrdered):
        list(invoice_order(InvoiceOrder("o-1"), ORDER.replace(lines=())))
    with pytest.raises(NotPossible):
        list(start_processing(StartProcessing("o-1"), ORDER.replace(status=Status.CREATED)))


def test_an_order_is_found_unavailable_before_it_is_shipped_and_once() -> None:
    assert list(mark_unavailable(MarkUnavailable("o-1"), ORDER)) == [OrderFoundUnavailable("o-1")]
    assert list(mark_unavailable(MarkUnavailable("o-1"), ORDER.replace(status=Status.CANCELED))) == []
    with pytest.raises(NotPossible):
        list(mark_unavailable(MarkUnavailable("o-1"), ORDER.replace(status=Status.SHIPPED)))


def test_the_process_reserves_what_was_ordered() -> None:
    twice = (*LINES, Line("tea", 3, Decimal(8), Decimal(0), "drinks"))
    assert list(fulfil(OrderPlaced("o-1", "ann", twice))) == [
        ReserveInventory("o-1", (Units("tea", 4), Units("pot", 2)))
    ]
    assert list(fulfil(OrderPlaced("o-1", "ann", ()))) == []


def test_the_process_gives_up_what_is_not_there_and_gives_back_what_is_not_wanted() -> None:
    assert list(fulfil(InventoryRefused("o-1", ("tea",)))) == [MarkUnavailable("o-1")]
    assert list(fulfil(OrderCanceled("o-1"))) == [ReleaseInventory("o-1")]
