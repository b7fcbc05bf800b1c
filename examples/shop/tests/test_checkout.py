"""Checkout: who does not pay in time gets nothing, nothing stays reserved, and no money is kept for nothing."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

import pytest

from examples.shop.catalogue import ListProduct
from examples.shop.checkout import (
    PAY_WITHIN,
    TRY_AGAIN,
    AcceptPayment,
    CancelUnpaid,
    DeclinePayment,
    DispatchOrder,
    NotRequested,
    PaymentDeclined,
    PaymentRequested,
    RequestPayment,
    accept_payment,
    cancel_unpaid,
    checking_out,
    decline_payment,
    dispatch_order,
    request_payment,
)
from examples.shop.data import FOLDER, OrderRow, read_history, stock_needed
from examples.shop.inventory import (
    InventoryRefused,
    InventoryReleased,
    InventoryReserved,
    ReceiveStock,
    Stock,
    Units,
)
from examples.shop.main import make_live
from examples.shop.orders import (
    Line,
    OrderApproved,
    OrderCanceled,
    OrderFoundUnavailable,
    OrderPlaced,
    OrderShipped,
    PlaceOrder,
    total_of,
)
from examples.shop.payments import PaymentCaptured, PaymentType
from examples.shop.provider import Answer, charging, refunding
from examples.shop.refunds import (
    MarkRefunded,
    PaymentRefunded,
    RefundOrder,
    RefundRequested,
    mark_refunded,
    refund_order,
)
from examples.shop.sample import made_up
from refold import Command, Event, IdempotencyKey, Query, cancel, later
from refold.bus.memory import MemoryBus
from refold.testing import Clock, given

Story: TypeAlias = list[tuple[timedelta, type[Event]]]
"""What happens to an order, and how long after it was placed."""

AT_ONCE = timedelta()
ASKED = (AT_ONCE, TRY_AGAIN[0], TRY_AGAIN[0] + TRY_AGAIN[1])
"""When the money is asked for, if it was declined before."""


def sample() -> list[OrderRow]:
    """Return real orders from all the time that there is, or made-up ones; `REFOLD_ORDERS=all` takes each."""
    history = read_history(FOLDER) if FOLDER.exists() else made_up(1_000)
    rows = sorted((row for row in history.orders if row.placed and row.items), key=lambda row: str(row.placed))
    size = os.environ.get("REFOLD_ORDERS", "150")
    return rows if size == "all" else rows[:: max(len(rows) // int(size), 1)][: int(size)]


def after(row: OrderRow, moment: datetime | None) -> timedelta | None:
    return moment - row.placed if moment and row.placed else None


def by_transfer(row: OrderRow) -> bool:
    """Tell whether the customer pays at a bank, which says so when the money has come; all others have a card."""
    return any(part.kind is PaymentType.BOLETO for part in row.payments)


def answers(row: OrderRow) -> list[Answer]:
    """Say how the provider answers each attempt.

    A card of which the data says that it was approved in time is declined once less than the payment has parts.
    """
    if by_transfer(row):
        return [Answer.PENDING]
    paid = after(row, row.approved)
    if paid is None or paid >= PAY_WITHIN:
        return [Answer.DECLINED] * len(ASKED)
    return [Answer.DECLINED] * min(len(row.payments) - 1, len(ASKED) - 1) + [Answer.PAID]


def story(row: OrderRow, there: Counter[str]) -> Story:
    """Work out from a row of the data what is to become of the order."""
    told: Story = [(AT_ONCE, OrderPlaced)]
    if not all(there[item.sku] for item in row.items):
        return [*told, (AT_ONCE, InventoryRefused), (AT_ONCE, OrderFoundUnavailable)]
    told.append((AT_ONCE, InventoryReserved))
    for at, answer in zip(ASKED, answers(row), strict=False):
        told.append((at, PaymentRequested))
        if answer is Answer.PAID:
            return told + [(at, each) for each in (PaymentCaptured, OrderApproved, OrderShipped)]
        if answer is Answer.DECLINED:
            told.append((at, PaymentDeclined))
    if not by_transfer(row):
        return told + [(ASKED[-1], each) for each in (OrderCanceled, InventoryReleased)]
    paid = after(row, row.approved)
    if paid is not None and paid < PAY_WITHIN:
        return told + [(paid, each) for each in (PaymentCaptured, OrderApproved, OrderShipped)]
    told += [(PAY_WITHIN, each) for each in (OrderCanceled, InventoryReleased)]
    return told + [(paid, each) for each in (PaymentCaptured, RefundRequested, PaymentRefunded) if paid is not None]


class Bank:
    """A provider that knows from the data what it has to say, and what it was asked."""

    def __init__(self, rows: dict[str, OrderRow]) -> None:
        self._rows = rows
        self.asked: dict[str, tuple[str, int]] = {}
        self.paid_back = Counter[str]()

    async def charge(self, order_id: str, attempt: int, amount: Decimal, once: str) -> Answer:
        self.asked[once] = (order_id, attempt)
        return answers(self._rows[order_id])[attempt - 1]

    async def refund(self, order_id: str, amount: Decimal, once: str) -> None:
        self.paid_back[order_id] += 1


def times(told: Story, kind: type[Event]) -> int:
    return sum(each is kind for _, each in told)


def inputs(rows: Iterable[OrderRow], told: Mapping[str, Story]) -> dict[datetime, list[Command]]:
    """Return what is done from outside, and when: orders are placed, and banks say that the money is there."""
    found: dict[datetime, list[Command]] = {}
    for row in rows:
        assert row.placed
        for at, _ in told[row.order_id]:
            found.setdefault(row.placed + at, [])
        found[row.placed].append(PlaceOrder(row.order_id, row.customer_id, row.items))
        if by_transfer(row) and row.approved and times(told[row.order_id], PaymentCaptured):
            found[row.approved].append(AcceptPayment(row.order_id, 1, total_of(row.items)))
    return found


@pytest.mark.timeout(1200 if os.environ.get("REFOLD_ORDERS") else 120)
async def test_each_order_ends_as_its_row_says(tmp_path: Path) -> None:
    rows = {row.order_id: row for row in sample()}
    there = stock_needed(rows.values())
    told = {order_id: story(row, there) for order_id, row in rows.items()}
    bank = Bank(rows)
    todo = inputs(rows.values(), told)
    clock = Clock(min(todo))
    async with make_live(f"sqlite:///{tmp_path}/shop.db?durability=relaxed", bank, MemoryBus(), clock=clock) as app:
        for sku in {item.sku for row in rows.values() for item in row.items}:
            await app.execute(ListProduct(sku, "things"))
            if there[sku]:
                await app.execute(ReceiveStock(sku, there[sku]))
        for time in sorted(todo):
            clock.set(time)
            for kind in (PlaceOrder, AcceptPayment):
                commands = [command for command in todo[time] if isinstance(command, kind)]
                if commands and kind is AcceptPayment:
                    await app.settle()  # what is due at the same moment comes first
                for command in commands:
                    await app.execute(command)
            await app.settle()
        for order_id, row in rows.items():
            events = [each async for each in app.events(Query.of(tags=f"order:{order_id}"))]
            assert [(after(row, each.recorded_at), type(each.event)) for each in events] == told[order_id]
            sold = told[order_id][-1][1] is OrderShipped
            there.subtract({item.sku: item.quantity for item in row.items if sold})
        for sku, left in there.items():
            assert (await app.load(Stock(sku))).available == left
        assert await app.operations.waiting() == [], "no timer is left, and nothing is parked"
    kinds = Counter(kind for story in told.values() for _, kind in story)
    assert Counter(bank.asked.values()).keys() == {
        (order_id, number) for order_id in rows for number in range(1, times(told[order_id], PaymentRequested) + 1)
    }
    assert len(bank.asked) == kinds[PaymentRequested], "each attempt has a key of its own"
    assert bank.paid_back == Counter(order_id for order_id in rows if times(told[order_id], PaymentRefunded))
    expected = {OrderShipped, PaymentDeclined, OrderCanceled, PaymentRefunded}
    assert expected <= kinds.keys(), "the sample has orders of each kind"
    ends = Counter(story[-1][1].__name__ for story in told.values())
    print(f"{len(rows):,} orders, {kinds.total():,} events: {dict(ends)}")


PLACED = OrderPlaced("o", "ann", (Line("tea", 2, Decimal(4), Decimal(1), "drinks"),))
RESERVED = InventoryReserved("o", (Units("tea", 2),))
ASKED_ONCE = PaymentRequested("o", 1, Decimal(9))
PAID = PaymentCaptured("o", 1, PaymentType.CREDIT_CARD, 1, Decimal(9), "2026-01")


def test_the_process_is_a_function() -> None:
    check_out = checking_out()
    forgotten = [cancel("unpaid o"), cancel("again o")]
    assert list(check_out(RESERVED)) == [
        RequestPayment("o"),
        later(CancelUnpaid("o"), after=PAY_WITHIN, name="unpaid o"),
    ]
    assert list(check_out(PaymentDeclined("o", 2))) == [
        later(RequestPayment("o"), after=TRY_AGAIN[1], name="again o"),
    ]
    assert list(check_out(PaymentDeclined("o", 3))) == [CancelUnpaid("o")]
    assert list(check_out(OrderApproved("o"))) == [*forgotten, DispatchOrder("o")]
    assert list(check_out(OrderCanceled("o"))) == forgotten
    assert list(check_out(InventoryReleased("o", ()))) == [RefundOrder("o")]


def test_nobody_is_asked_twice_at_once() -> None:
    given(PLACED).when(request_payment, RequestPayment("o")).then(ASKED_ONCE)
    given(PLACED, ASKED_ONCE).when(request_payment, RequestPayment("o")).then()
    declined = given(PLACED, ASKED_ONCE).when(decline_payment, DeclinePayment("o", 1)).then(PaymentDeclined("o", 1))
    declined.when(decline_payment, DeclinePayment("o", 1)).then()
    declined.when(request_payment, RequestPayment("o")).then(PaymentRequested("o", 2, Decimal(9)))
    given(PLACED, OrderCanceled("o")).when(request_payment, RequestPayment("o")).then()


def test_money_that_comes_in_time_has_the_order_shipped() -> None:
    paid = given(PLACED, RESERVED, ASKED_ONCE).when(accept_payment, AcceptPayment("o", 1, Decimal(9)))
    approved = paid.then(PAID, OrderApproved("o"))
    approved.when(accept_payment, AcceptPayment("o", 1, Decimal(9))).then()
    approved.when(cancel_unpaid, CancelUnpaid("o")).then()
    approved.when(dispatch_order, DispatchOrder("o")).then(OrderShipped("o"))


def test_money_that_nobody_asked_for_is_refused() -> None:
    given(PLACED).when(accept_payment, AcceptPayment("o", 1, Decimal(9))).rejected(NotRequested)


def test_money_that_comes_too_late_goes_back() -> None:
    canceled = given(PLACED, RESERVED, ASKED_ONCE).when(cancel_unpaid, CancelUnpaid("o")).then(OrderCanceled("o"))
    late = canceled.when(accept_payment, AcceptPayment("o", 1, Decimal(9))).then(PAID, RefundRequested("o", Decimal(9)))
    late.when(refund_order, RefundOrder("o")).then()
    late.when(mark_refunded, MarkRefunded("o", Decimal(9))).then(PaymentRefunded("o", Decimal(9)))


def test_money_for_what_is_canceled_afterwards_goes_back_once() -> None:
    canceled = given(PLACED, RESERVED, ASKED_ONCE, PAID, OrderApproved("o"), OrderCanceled("o"))
    canceled.when(dispatch_order, DispatchOrder("o")).then()
    back = canceled.when(refund_order, RefundOrder("o")).then(RefundRequested("o", Decimal(9)))
    back.when(refund_order, RefundOrder("o")).then()


@pytest.mark.parametrize(
    ("answer", "command"),
    [
        (Answer.PAID, AcceptPayment("o", 1, Decimal(9))),
        (Answer.DECLINED, DeclinePayment("o", 1)),
        (Answer.PENDING, None),
    ],
)
async def test_what_the_provider_says_becomes_a_command(answer: Answer, command: Command | None) -> None:
    class Says:
        async def charge(self, order_id: str, attempt: int, amount: Decimal, once: str) -> Answer:
            assert (order_id, attempt, amount, once) == ("o", 1, Decimal(9), "key")
            return answer

        async def refund(self, order_id: str, amount: Decimal, once: str) -> None:
            assert (order_id, amount, once) == ("o", Decimal(9), "key")

    assert await charging(Says())(ASKED_ONCE, IdempotencyKey("key")) == command
    assert await refunding(Says())(RefundRequested("o", Decimal(9)), IdempotencyKey("key")) == MarkRefunded(
        "o", Decimal(9)
    )
