"""Refunds: money that was taken for what is not delivered goes back, once."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Self, TypeAlias

from examples.shop.orders import OrderId
from examples.shop.payments import PaymentCaptured
from refold import Command, Event, State


class RefundRequested(Event):
    order_id: OrderId
    amount: Decimal


class PaymentRefunded(Event):
    order_id: OrderId
    amount: Decimal


RefundEvent: TypeAlias = RefundRequested | PaymentRefunded


class RefundOrder(Command):
    order_id: OrderId


class MarkRefunded(Command):
    order_id: OrderId
    amount: Decimal


class Held(State):
    """How much of the customer's money we have, and are not about to give back."""

    order_id: OrderId
    amount: Decimal = Decimal()

    def evolve(self, event: PaymentCaptured | RefundRequested) -> Self:
        change = event.amount if isinstance(event, PaymentCaptured) else -event.amount
        return self.replace(amount=self.amount + change)


def refund_order(cmd: RefundOrder, held: Held) -> Iterable[RefundRequested]:
    if held.amount > 0:
        yield RefundRequested(cmd.order_id, held.amount)


def mark_refunded(cmd: MarkRefunded) -> Iterable[PaymentRefunded]:
    yield PaymentRefunded(cmd.order_id, cmd.amount)
