from datetime import timedelta

import pytest

from refold.model.handler import read_decision
from refold.model.tag import tags_of
from refold.testing.given import Past, given
from tests.dcb.prices import (
    InvalidPrice,
    Item,
    OrderProducts,
    ProductDefined,
    ProductPriceChanged,
    ProductsOrdered,
    order_products,
)


def defined(product_id: str, price: int, minutes: int = 0) -> Past:
    return ProductDefined(product_id, price), timedelta(minutes=minutes)


def changed(product_id: str, price: int, minutes: int = 0) -> Past:
    return ProductPriceChanged(product_id, price), timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("events", "displayed"),
    [
        ((), 100),
        ((defined("p1", 123),), 100),
        ((defined("p1", 123, 20),), 100),
        ((defined("p1", 123, 20), changed("p1", 134, 20)), 123),
        ((defined("p1", 123, 20), changed("p1", 134, 11)), 123),
    ],
)
def test_a_price_that_is_not_valid(events: tuple[Past, ...], displayed: int) -> None:
    outcome = given(*events).when(order_products, OrderProducts((Item("p1", displayed),)))
    outcome.rejected('invalid price for product "p1"')
    outcome.rejected(InvalidPrice)


@pytest.mark.parametrize(
    ("events", "displayed"),
    [
        ((defined("p1", 123),), 123),
        ((defined("p1", 123, 20),), 123),
        ((defined("p1", 123, 20), changed("p1", 134, 9)), 123),
        ((defined("p1", 123, 20), changed("p1", 134, 9)), 134),
        ((defined("p1", 123, 20), changed("p1", 134, 10)), 123),
        ((defined("p1", 123, 20), changed("p1", 134, 10)), 134),
    ],
)
def test_a_price_that_is_valid(events: tuple[Past, ...], displayed: int) -> None:
    items = (Item("p1", displayed),)
    given(*events).when(order_products, OrderProducts(items)).then(ProductsOrdered(items))


CART = (Item("p1", 123), Item("p2", 321))


def test_a_cart_is_tagged_with_each_of_its_products() -> None:
    past = given(defined("p1", 123, 20), changed("p1", 134, 9), defined("p2", 321, 8))
    past.when(order_products, OrderProducts(CART)).then(ProductsOrdered(CART))
    assert tags_of(ProductsOrdered(CART)) == ("product:p1", "product:p2")


def test_a_cart_with_one_wrong_price_names_its_product() -> None:
    past = given(defined("p1", 123, 20), defined("p2", 300, 20))
    past.when(order_products, OrderProducts(CART)).rejected('invalid price for product "p2"')


def test_other_products_are_outside_the_boundary() -> None:
    asked = read_decision(order_products).states(OrderProducts((Item("p1", 123),)))
    (query,) = [state.query() for _, states in asked for state in states]
    for product_id, inside in (("p1", True), ("p2", False)):
        event = ProductPriceChanged(product_id, 1)
        assert query.matches(type(event).__name__, tags_of(event)) is inside
