"""Checkout: what is reserved is to be paid in time. A process asks for the money, and gives back what is not paid."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Self, TypeAlias

from examples.shop.fulfilment import ShipOrder, ship_order
from examples.shop.inventory import InventoryReleased, InventoryReserved, Reservation
from examples.shop.orders import Order, OrderApproved, OrderCanceled, OrderId, OrderShipped, Status
from examples.shop.payments import PaymentCaptured, Payments, PaymentType
from examples.shop.refunds import RefundOrder, RefundRequested
from refold import Cancel, Command, Event, Later, Metadata, Rejected, State, cancel, later

PAY_WITHIN = timedelta(minutes=15)
TRY_AGAIN = (timedelta(minutes=1), timedelta(minutes=4))
"""After a payment was declined. There is one attempt more than there are pauses."""


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


class AcceptPayment(Command):
    order_id: OrderId
    attempt: int
    amount: Decimal


class CancelUnpaid(Command):
    order_id: OrderId


class DispatchOrder(Command):
    order_id: OrderId


class NotRequested(Rejected):
    """This payment was not requested."""


class Checkout(State):
    """How often an order was asked to be paid, and how often that was declined."""

    order_id: OrderId
    attempts: int = 0
    declined: int = 0

    def evolve(self, event: CheckoutEvent) -> Self:
        match event:
            case PaymentRequested():
                return self.replace(attempts=event.attempt)
            case PaymentDeclined():
                return self.replace(declined=event.attempt)


# Nobody is there to be told of a refusal when a process asks, or a timer. What was overtaken by something else (it
# was canceled, and paid, at the same moment) is no error here: each decision looks, and records what is left to do.


def request_payment(cmd: RequestPayment, order: Order, checkout: Checkout) -> Iterable[PaymentRequested]:
    if order.status is Status.CREATED and checkout.attempts == checkout.declined:
        yield PaymentRequested(cmd.order_id, checkout.attempts + 1, order.total)


def decline_payment(cmd: DeclinePayment, checkout: Checkout) -> Iterable[PaymentDeclined]:
    if checkout.declined < cmd.attempt:
        yield PaymentDeclined(cmd.order_id, cmd.attempt)


def accept_payment(
    cmd: AcceptPayment, order: Order, checkout: Checkout, payments: Payments, metadata: Metadata
) -> Iterable[PaymentCaptured | OrderApproved | RefundRequested]:
    if cmd.attempt > checkout.attempts:  # a person pays unasked, and is told
        raise NotRequested
    if cmd.attempt in payments.parts:
        return
    month = f"{metadata.occurred_at:%Y-%m}"
    yield PaymentCaptured(cmd.order_id, cmd.attempt, PaymentType.CREDIT_CARD, 1, cmd.amount, month)
    if order.status is Status.CREATED:
        yield OrderApproved(cmd.order_id)
    else:  # too late, and the money is here
        yield RefundRequested(cmd.order_id, cmd.amount)


def cancel_unpaid(cmd: CancelUnpaid, order: Order) -> Iterable[OrderCanceled]:
    if order.status is Status.CREATED:
        yield OrderCanceled(cmd.order_id)


def dispatch_order(
    cmd: DispatchOrder, order: Order, payments: Payments, reservation: Reservation
) -> Iterable[OrderShipped]:
    if order.status is Status.APPROVED:
        yield from ship_order(ShipOrder(cmd.order_id), order, payments, reservation)


Paying: TypeAlias = InventoryReserved | PaymentDeclined | OrderApproved | OrderCanceled | InventoryReleased
CheckoutCommand: TypeAlias = RequestPayment | CancelUnpaid | DispatchOrder | RefundOrder


def checking_out(
    pay_within: timedelta = PAY_WITHIN, try_again: Sequence[timedelta] = TRY_AGAIN, *, of: str = ""
) -> Callable[[Paying], Iterable[CheckoutCommand | Later | Cancel]]:
    """Return the process, with the times that it gives; of orders only whose ids begin so."""

    def check_out(event: Paying) -> Iterable[CheckoutCommand | Later | Cancel]:
        match event:
            case _ if not event.order_id.startswith(of):
                pass
            case InventoryReserved():
                yield RequestPayment(event.order_id)
                yield later(CancelUnpaid(event.order_id), after=pay_within, name=f"unpaid {event.order_id}")
            case PaymentDeclined() if event.attempt <= len(try_again):
                pause = try_again[event.attempt - 1]
                yield later(RequestPayment(event.order_id), after=pause, name=f"again {event.order_id}")
            case PaymentDeclined():
                yield CancelUnpaid(event.order_id)
            case OrderApproved():
                yield from forget(event.order_id)
                yield DispatchOrder(event.order_id)
            case OrderCanceled():  # the stock is released first, see `fulfil`, and then the money goes back
                yield from forget(event.order_id)
            case InventoryReleased():
                yield RefundOrder(event.order_id)

    return check_out


def forget(order_id: str) -> Iterable[Cancel]:
    yield cancel(f"unpaid {order_id}")
    yield cancel(f"again {order_id}")
