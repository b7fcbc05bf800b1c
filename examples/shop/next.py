"""The shop after a change of mind: its categories count freight, too. Everything else is as in `main`."""

from decimal import Decimal
from typing import Self

from examples.shop.catalogue import Category
from examples.shop.main import PROJECTIONS, make_app
from examples.shop.orders import OrderPlaced
from examples.shop.views import CategorySummary as Before
from refold import App, State


class CategorySummary(State):
    """What was ordered of a category, with freight."""

    category: Category
    basis: str = "with freight"
    orders: int = 0
    units: int = 0
    revenue: Decimal = Decimal()

    def evolve(self, event: OrderPlaced) -> Self:
        lines = [line for line in event.lines if line.category == self.category]
        return self.replace(
            orders=self.orders + 1,
            units=self.units + sum(line.quantity for line in lines),
            revenue=self.revenue + sum((line.quantity * line.price + line.freight for line in lines), Decimal()),
        )


def make_next_app(url: str) -> App:
    return make_app(url, projections=[CategorySummary if each is Before else each for each in PROJECTIONS])
