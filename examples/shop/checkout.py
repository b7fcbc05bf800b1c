"""Checkout: what is reserved is to be paid in time. A process asks for the money, and takes back what is not paid."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Self, TypeAlias

from examples.shop.fulfilment import ShipOrder
from examples.shop.inventory import InventoryReserved
from examples.shop.orders import Order, OrderApproved, OrderCanceled, OrderId, Status
from examples.shop.payments import ApproveOrder, CapturePayment, PaymentCaptured, PaymentType
from refold import Cancel, Command, Event, IdempotencyKey, State, cancel, later

PAY_WITHIN = timedelta(minutes=15)
TRY_AGAIN = (timedelta(minutes=1), timedelta(minutes=4))
"""After a card was declined. There is one attempt more than there are pauses."""


class PaymentRequested(Event):
    order_id: OrderId
    attempt: int
    amount: Decimal


class PaymentDeclined(Event):
    order_id: OrderId
    attempt: int


CheckoutEvent: TypeAlias = PaymentRequested | PaymentDeclined


class RequestPayment(Command):
    order_id: OrderId


class DeclinePayment(Command):
    order_id: OrderId
    attempt: int


class CancelUnpaid(Command):
    order_id: OrderId


class Checkout(State):
    """How often an order was asked to be paid."""

    order_id: OrderId
    attempts: int = 0
    declined: int = 0

    def evolve(self, event: CheckoutEvent) -> Self:
        if isinstance(event, PaymentRequested):
            return self.replace(attempts=event.attempt)
        return self.replace(declined=event.attempt)


def request_payment(cmd: RequestPayment, order: Order, checkout: Checkout) -> Iterable[PaymentRequested]:
    if order.status is Status.CREATED and checkout.attempts == checkout.declined:
        yield PaymentRequested(cmd.order_id, checkout.attempts + 1, order.total)


def decline_payment(cmd: DeclinePayment, checkout: Checkout) -> Iterable[PaymentDeclined]:
    if checkout.declined < cmd.attempt:
        yield PaymentDeclined(cmd.order_id, cmd.attempt)


def cancel_unpaid(cmd: CancelUnpaid, order: Order) -> Iterable[OrderCanceled]:
    # It may have been paid, or canceled, at the same moment: then there is nothing left to say.
    if order.status is Status.CREATED:
        yield OrderCanceled(cmd.order_id)


Paying: TypeAlias = InventoryReserved | PaymentDeclined | PaymentCaptured | OrderApproved | OrderCanceled


def checking_out(
    pay_within: timedelta = PAY_WITHIN, try_again: Sequence[timedelta] = TRY_AGAIN
) -> Callable[[Paying], Iterable[Command]]:
    """Return the process, with the times that it gives."""

    def check_out(event: Paying) -> Iterable[Command]:
        match event:
            case InventoryReserved():
                yield RequestPayment(event.order_id)
                yield later(CancelUnpaid(event.order_id), after=pay_within, name=f"unpaid {event.order_id}")
            case PaymentDeclined() if event.attempt <= len(try_again):
                pause = try_again[event.attempt - 1]
                yield later(RequestPayment(event.order_id), after=pause, name=f"again {event.order_id}")
            case PaymentDeclined():
                yield CancelUnpaid(event.order_id)
            case PaymentCaptured():
                yield ApproveOrder(event.order_id)
            case OrderApproved():
                yield from _forget(event.order_id)
                yield ShipOrder(event.order_id)
            case OrderCanceled():
                yield from _forget(event.order_id)

    return check_out


def _forget(order_id: str) -> Iterable[Cancel]:
    yield cancel(f"unpaid {order_id}")
    yield cancel(f"again {order_id}")


class Answer(StrEnum):
    """What a payment provider says."""

    PAID = "paid"
    DECLINED = "declined"
    PENDING = "pending"


Provider: TypeAlias = Callable[[str, int, Decimal, str], Awaitable[Answer]]
"""Takes an order, which attempt it is, an amount, and a key: of two requests with one key the second is not charged."""


def charging(provider: Provider) -> Callable[[PaymentRequested, IdempotencyKey], Awaitable[Command | None]]:
    """Return the effect that asks a provider for the money."""

    async def charge(event: PaymentRequested, once: IdempotencyKey) -> CapturePayment | DeclinePayment | None:
        match await provider(event.order_id, event.attempt, event.amount, once):
            case Answer.PAID:
                return CapturePayment(event.order_id, 1, PaymentType.CREDIT_CARD, 1, event.amount)
            case Answer.DECLINED:
                return DeclinePayment(event.order_id, event.attempt)
            case Answer.PENDING:
                return None

    return charge
