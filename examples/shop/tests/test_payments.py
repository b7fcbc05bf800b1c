"""Payments: parts, amounts, and when an order is approved."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from examples.shop.orders import Line, NotPossible, Order, OrderApproved, Status
from examples.shop.payments import (
    AlreadyCaptured,
    ApproveOrder,
    CapturePayment,
    NotAnAmount,
    NotPaid,
    PaymentCaptured,
    Payments,
    PaymentType,
    approve_order,
    capture_payment,
)
from refold import Metadata

ORDER = Order("o-1", Status.CREATED, lines=(Line("tea", 1, Decimal(9), Decimal(3), "drinks"),))
AT = Metadata(occurred_at=datetime(2018, 3, 31, 23, 59, tzinfo=UTC))


def part(number: int, amount: str) -> CapturePayment:
    return CapturePayment("o-1", number, PaymentType.VOUCHER, 1, Decimal(amount))


def paid(*amounts: str) -> Payments:
    captured = [
        PaymentCaptured("o-1", number, PaymentType.VOUCHER, 1, Decimal(amount), "2018-03")
        for number, amount in enumerate(amounts, 1)
    ]
    return Payments("o-1").fold(captured)


def test_a_payment_is_captured_with_the_month_in_which_it_was_made() -> None:
    [captured] = capture_payment(part(1, "9.90"), ORDER, paid(), AT)
    assert captured == PaymentCaptured("o-1", 1, PaymentType.VOUCHER, 1, Decimal("9.90"), "2018-03")


def test_parts_add_up() -> None:
    assert paid("5", "7.00").paid == Decimal(12)


@pytest.mark.parametrize("amount", ["0", "-1"])
def test_a_payment_is_above_zero(amount: str) -> None:
    with pytest.raises(NotAnAmount):
        list(capture_payment(part(1, amount), ORDER, paid(), AT))


def test_a_part_is_paid_once() -> None:
    with pytest.raises(AlreadyCaptured):
        list(capture_payment(part(1, "7"), ORDER, paid("5"), AT))


def test_only_a_new_order_is_paid() -> None:
    for status in (None, Status.CANCELED, Status.DELIVERED):
        with pytest.raises(NotPossible):
            list(capture_payment(part(1, "7"), Order("o-1", status), paid(), AT))


def test_an_order_is_approved_once_its_payments_cover_it() -> None:
    with pytest.raises(NotPaid):
        list(approve_order(ApproveOrder("o-1"), ORDER, paid("5", "6.90")))
    assert list(approve_order(ApproveOrder("o-1"), ORDER, paid("5", "6.98"))) == [OrderApproved("o-1")]


def test_an_order_is_approved_only_once() -> None:
    with pytest.raises(NotPossible, match="only once"):
        list(approve_order(ApproveOrder("o-1"), ORDER.replace(approved=True), paid("12")))
