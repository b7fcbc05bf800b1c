"""Orders: a test of a decision is a call."""

from decimal import Decimal

import pytest

from examples.shop.catalogue import AlreadyListed, ListProduct, NotListed, Product, ProductListed, list_product
from examples.shop.orders import (
    BadItem,
    CancelOrder,
    Item,
    Line,
    NotPossible,
    Order,
    OrderApproved,
    OrderCanceled,
    OrderDelivered,
    OrderEvent,
    OrderPlaced,
    OrderShipped,
    PlaceOrder,
    Status,
    cancel_order,
    place_order,
    total_of,
)

TEA = Item("tea", 2, Decimal("4.50"), Decimal("3.00"))
LISTED = Product("tea", "drinks")
PLACED = OrderPlaced("o-1", "ann", (Line("tea", 2, Decimal("4.50"), Decimal("3.00"), "drinks"),))


def order(*events: OrderEvent) -> Order:
    return Order("o-1").fold(events)


def test_an_order_is_placed_with_the_categories_of_the_catalogue() -> None:
    assert list(place_order(PlaceOrder("o-1", "ann", (TEA,)), order(), LISTED)) == [PLACED]


def test_an_order_is_placed_only_once() -> None:
    with pytest.raises(NotPossible, match="only once"):
        list(place_order(PlaceOrder("o-1", "ann", (TEA,)), order(PLACED), LISTED))


def test_only_what_is_listed_can_be_ordered() -> None:
    with pytest.raises(NotListed):
        list(place_order(PlaceOrder("o-1", "ann", (TEA,)), order(), Product("tea")))


@pytest.mark.parametrize(("quantity", "price", "freight"), [(0, 1, 0), (-1, 1, 0), (1, -1, 0), (1, 1, -1)])
def test_items_need_quantities_and_prices(quantity: int, price: int, freight: int) -> None:
    item = Item("tea", quantity, Decimal(price), Decimal(freight))
    with pytest.raises(BadItem):
        list(place_order(PlaceOrder("o-1", "ann", (item,)), order(), LISTED))


def test_an_order_may_be_placed_before_its_items_are_known() -> None:
    assert list(place_order(PlaceOrder("o-1", "ann", ()), order())) == [OrderPlaced("o-1", "ann", ())]


def test_the_total_is_price_by_quantity_and_freight() -> None:
    assert order(PLACED).total == total_of([TEA]) == Decimal("12.00")


def test_the_status_is_what_the_events_add_up_to() -> None:
    assert order().status is None
    assert order(PLACED).status is Status.CREATED
    assert order(PLACED, OrderApproved("o-1")).status is Status.APPROVED
    assert order(PLACED, OrderApproved("o-1"), OrderShipped("o-1")).status is Status.SHIPPED


def test_an_approval_that_comes_late_does_not_set_an_order_back() -> None:
    assert order(PLACED, OrderShipped("o-1"), OrderApproved("o-1")).status is Status.SHIPPED


def test_an_order_can_be_canceled_until_it_is_delivered() -> None:
    shipped = order(PLACED, OrderShipped("o-1"))
    assert list(cancel_order(CancelOrder("o-1"), shipped)) == [OrderCanceled("o-1")]
    with pytest.raises(NotPossible, match="is delivered cannot be canceled"):
        list(cancel_order(CancelOrder("o-1"), shipped.fold([OrderDelivered("o-1")])))
    with pytest.raises(NotPossible, match="is not placed cannot be canceled"):
        list(cancel_order(CancelOrder("o-1"), order()))


def test_a_product_is_listed_once() -> None:
    assert list(list_product(ListProduct("tea", "drinks"), Product("tea"))) == [ProductListed("tea", "drinks")]
    with pytest.raises(AlreadyListed):
        list(list_product(ListProduct("tea", "drinks"), LISTED))
