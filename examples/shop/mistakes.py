"""Two mistakes, as they are made, for the console to show: what they fail at waits, and all else goes on.

A view divides by a price that may be zero, and a process has forgotten one of five scores.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Self

from examples.shop.catalogue import Category
from examples.shop.orders import OrderId, OrderPlaced
from examples.shop.reviews import ReviewSubmitted
from refold import Command, Event, State

VOUCHERS = {1: Decimal(10), 2: Decimal(5), 4: Decimal(0), 5: Decimal(0)}
SIMULATED = "sim-"
"""How the ids of orders begin that were not replayed: what happened years ago gets no vouchers."""


class FreightShare(State):
    """How much freight adds to the price, in the last order of a category."""

    category: Category
    share: Decimal = Decimal()

    def evolve(self, event: OrderPlaced) -> Self:
        lines = [line for line in event.lines if line.category == self.category]
        freight = sum((line.freight for line in lines), Decimal())
        price = sum((line.quantity * line.price for line in lines), Decimal())
        return self.replace(share=round(freight / price, 4))  # nobody thought of free samples


class VoucherGranted(Event):
    order_id: OrderId
    amount: Decimal


class GrantVoucher(Command):
    order_id: OrderId
    amount: Decimal


def grant_voucher(cmd: GrantVoucher) -> Iterable[VoucherGranted]:
    yield VoucherGranted(cmd.order_id, cmd.amount)


def make_up(event: ReviewSubmitted) -> Iterable[GrantVoucher]:
    """Make up for what a customer was not happy with."""
    if event.order_id.startswith(SIMULATED):
        amount = VOUCHERS[event.score]
        if amount:
            yield GrantVoucher(event.order_id, amount)
