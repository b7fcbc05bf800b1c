"""Payments: an order is paid in one or more parts, and approved once they cover its total."""

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self, TypeAlias

from examples.shop.orders import NotPossible, Order, OrderApproved, OrderId, Status
from refold import Command, Event, Metadata, Rejected, State, Tag

Month: TypeAlias = Annotated[str, Tag("month")]  # 2018-03
ROUNDING = Decimal("0.05")
"""By so much may the parts of a payment miss the total."""


class PaymentType(StrEnum):
    CREDIT_CARD = "credit_card"
    BOLETO = "boleto"
    VOUCHER = "voucher"
    DEBIT_CARD = "debit_card"
    OTHER = "not_defined"


class PaymentCaptured(Event):
    order_id: OrderId
    number: int  # of this part: 1, 2, ...
    kind: Annotated[PaymentType, Tag("payment")]
    instalments: int
    amount: Decimal
    month: Month


class CapturePayment(Command):
    order_id: OrderId
    number: int
    kind: PaymentType
    instalments: int
    amount: Decimal


class ApproveOrder(Command):
    order_id: OrderId


class NotAnAmount(Rejected):
    """A payment must be above zero."""


class AlreadyCaptured(Rejected):
    """This part was paid already."""


class NotPaid(Rejected):
    """The payments do not cover the total of the order."""


class Payments(State):
    """What was paid for an order."""

    order_id: OrderId
    parts: tuple[int, ...] = ()
    paid: Decimal = Decimal()

    def evolve(self, event: PaymentCaptured) -> Self:
        return self.replace(parts=(*self.parts, event.number), paid=self.paid + event.amount)

    def must_cover(self, total: Decimal) -> None:
        if self.paid + ROUNDING < total:
            raise NotPaid


def capture_payment(
    cmd: CapturePayment, order: Order, payments: Payments, metadata: Metadata
) -> Iterable[PaymentCaptured]:
    order.must_be(Status.CREATED, to_be="paid")
    if cmd.amount <= 0:
        raise NotAnAmount
    if cmd.number in payments.parts:
        raise AlreadyCaptured
    month = f"{metadata.occurred_at:%Y-%m}"
    yield PaymentCaptured(cmd.order_id, cmd.number, cmd.kind, cmd.instalments, cmd.amount, month)


def approve_order(cmd: ApproveOrder, order: Order, payments: Payments) -> Iterable[OrderApproved]:
    # What counts for shipping is the money; the approval may follow it.
    if order.approved:
        raise NotPossible("An order can be approved only once.")
    order.must_be(Status.CREATED, Status.SHIPPED, Status.DELIVERED, to_be="approved")
    payments.must_cover(order.total)
    yield OrderApproved(cmd.order_id)
