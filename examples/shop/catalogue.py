"""The catalogue: what the shop sells, each product in a category."""

from collections.abc import Iterable
from typing import Annotated, Self, TypeAlias

from refold import Command, Event, Rejected, State, Tag

Sku: TypeAlias = Annotated[str, Tag("product")]
Category: TypeAlias = Annotated[str, Tag("category")]


class ProductListed(Event):
    sku: Sku
    category: Category


class ListProduct(Command):
    sku: Sku
    category: str


class AlreadyListed(Rejected):
    """The product is in the catalogue already."""


class NotListed(Rejected):
    """The product is not in the catalogue."""


class Product(State):
    """A product, as an order sees it."""

    sku: Sku
    category: str = ""  # until it is listed

    def evolve(self, event: ProductListed) -> Self:
        return self.replace(category=event.category)


def list_product(cmd: ListProduct, product: Product) -> Iterable[ProductListed]:
    if product.category:
        raise AlreadyListed
    yield ProductListed(cmd.sku, cmd.category)
