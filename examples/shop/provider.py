"""The payment provider, outside: it takes money and gives it back. Effects ask it, again until it answers."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from examples.shop.checkout import AcceptPayment, DeclinePayment, PaymentRequested
from examples.shop.refunds import MarkRefunded, RefundRequested
from refold import IdempotencyKey


class Answer(StrEnum):
    PAID = "paid"
    DECLINED = "declined"
    PENDING = "pending"  # it will say so when the money has come


class Provider(Protocol):
    """Who is asked twice with one key does it once, and answers as before."""

    async def charge(self, order_id: str, attempt: int, amount: Decimal, once: str) -> Answer: ...

    async def refund(self, order_id: str, amount: Decimal, once: str) -> None: ...


class NoProvider:
    """One that has not made up its mind about anything, for who looks at the shop without running it."""

    async def charge(self, order_id: str, attempt: int, amount: Decimal, once: str) -> Answer:
        return Answer.PENDING

    async def refund(self, order_id: str, amount: Decimal, once: str) -> None:
        return None


def charging(
    provider: Provider,
) -> Callable[[PaymentRequested, IdempotencyKey], Awaitable[AcceptPayment | DeclinePayment | None]]:
    """Return the effect that asks for the money."""

    async def charge(event: PaymentRequested, once: IdempotencyKey) -> AcceptPayment | DeclinePayment | None:
        match await provider.charge(event.order_id, event.attempt, event.amount, once):
            case Answer.PAID:
                return AcceptPayment(event.order_id, event.attempt, event.amount)
            case Answer.DECLINED:
                return DeclinePayment(event.order_id, event.attempt)
            case Answer.PENDING:
                return None

    return charge


def refunding(provider: Provider) -> Callable[[RefundRequested, IdempotencyKey], Awaitable[MarkRefunded]]:
    """Return the effect that gives it back."""

    async def refund(event: RefundRequested, once: IdempotencyKey) -> MarkRefunded:
        await provider.refund(event.order_id, event.amount, once)
        return MarkRefunded(event.order_id, event.amount)

    return refund
