"""Dynamic prices: who saw a price may order at it for some minutes after it changed."""

from datetime import datetime, timedelta
from typing import Annotated, Self, TypeAlias

from msgspec import Struct

from refold import Command, Event, Metadata, Rejected, State, Tag

GRACE = timedelta(minutes=10)

ProductId: TypeAlias = Annotated[str, Tag("product")]


class Item(Struct, frozen=True):
    product_id: ProductId
    price: int


class ProductDefined(Event):
    product_id: ProductId
    price: int


class ProductPriceChanged(Event):
    product_id: ProductId
    new_price: int


class ProductsOrdered(Event):
    items: tuple[Item, ...]


class OrderProducts(Command):
    items: tuple[Item, ...]


class InvalidPrice(Rejected):
    def __init__(self, product_id: str) -> None:
        super().__init__(f'invalid price for product "{product_id}"')


class PriceSince(Struct, frozen=True):
    price: int
    since: datetime


class Prices(State):
    product_id: ProductId
    history: tuple[PriceSince, ...] = ()

    def evolve(self, event: ProductDefined | ProductPriceChanged, metadata: Metadata) -> Self:
        match event:
            case ProductDefined(price=price):
                return self.replace(history=(PriceSince(price, metadata.occurred_at),))
            case ProductPriceChanged(new_price=price):
                return self.replace(history=(*self.history, PriceSince(price, metadata.occurred_at)))

    def valid(self, now: datetime) -> set[int]:
        """Return the prices within the grace period, and the last one from before it."""
        new = {each.price for each in self.history if now - each.since <= GRACE}
        old = [each.price for each in self.history if now - each.since > GRACE]
        return new | set(old[-1:])


def order_products(cmd: OrderProducts, metadata: Metadata, *prices: Prices) -> ProductsOrdered:
    valid = {each.product_id: each.valid(metadata.occurred_at) for each in prices}
    for item in cmd.items:
        if item.price not in valid[item.product_id]:
            raise InvalidPrice(item.product_id)
    return ProductsOrdered(cmd.items)
