"""Checkout, on the times of real orders: who does not pay in time gets nothing, and nothing stays reserved."""

import os
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from examples.shop.catalogue import ListProduct
from examples.shop.checkout import (
    PAY_WITHIN,
    TRY_AGAIN,
    Answer,
    CancelUnpaid,
    PaymentDeclined,
    PaymentRequested,
    RequestPayment,
    checking_out,
    request_payment,
)
from examples.shop.data import FOLDER, OrderRow, read_history
from examples.shop.inventory import InventoryReleased, InventoryReserved, ReceiveStock, Stock
from examples.shop.main import make_live
from examples.shop.orders import Order, OrderCanceled, OrderPlaced, OrderShipped, PlaceOrder, Status
from examples.shop.payments import PaymentType
from refold import cancel, later
from refold.store.memory import MemoryStore
from refold.testing import Clock, given

SAMPLE = int(os.environ.get("REFOLD_ORDERS", "250"))
TICKS = (timedelta(), TRY_AGAIN[0], sum(TRY_AGAIN, timedelta()), PAY_WITHIN)
"""When, after an order was placed, something may happen by itself."""


def answer(row: OrderRow, attempt: int) -> Answer:
    """Say what the bank said: those approved in time are paid, a card after as many refusals as it has parts."""
    in_time = row.approved and row.placed and row.approved - row.placed <= PAY_WITHIN
    if not in_time:
        return Answer.PENDING if any(part.kind is PaymentType.BOLETO for part in row.payments) else Answer.DECLINED
    return Answer.DECLINED if attempt < min(len(row.payments), 3) else Answer.PAID


@pytest.mark.skipif(not FOLDER.exists(), reason=f"the real orders are not at {FOLDER}")
async def test_real_orders_are_paid_in_time_or_taken_back() -> None:
    rows = {row.order_id: row for row in read_history(FOLDER).orders if row.placed and row.items}
    rows = dict(sorted(rows.items(), key=lambda each: each[1].placed or datetime.min)[:: max(len(rows) // SAMPLE, 1)])
    charged: dict[str, tuple[str, int]] = {}

    async def provider(order_id: str, attempt: int, amount: Decimal, once: str) -> Answer:
        charged[once] = (order_id, attempt)
        return answer(rows[order_id], attempt)

    times: Counter[datetime] = Counter()
    for row in rows.values():
        assert row.placed is not None
        times.update(row.placed + tick for tick in TICKS)
    start = min(times)
    clock = Clock(start - timedelta(days=1))
    units = Counter[str]()
    for row in rows.values():
        for item in row.items:
            units[item.sku] += item.quantity
    async with make_live(MemoryStore(clock=clock), provider, clock=clock) as app:
        for sku, count in units.items():
            await app.execute(ListProduct(sku, "things"))
            await app.execute(ReceiveStock(sku, count))
        placing = sorted(rows.values(), key=lambda row: row.placed or start)
        for time in sorted(times):
            clock.set(time)
            while placing and placing[0].placed == time:
                row = placing.pop(0)
                await app.execute(PlaceOrder(row.order_id, row.customer_id, row.items))
            await app.settle()
        shipped = Counter[str]()
        for row in rows.values():
            assert row.placed is not None
            events = [each async for each in app.events(Order(row.order_id))]
            last = events[-1]
            said = [answer(row, attempt) for attempt in (1, 2, 3)]
            if Answer.PAID in said:
                assert type(last.event) is OrderShipped
                assert last.recorded_at == row.placed + TICKS[said.index(Answer.PAID)]
                for item in row.items:
                    shipped[item.sku] += item.quantity
            else:
                assert type(last.event) is OrderCanceled
                late = Answer.PENDING in said
                assert last.recorded_at == row.placed + (PAY_WITHIN if late else TICKS[2])
            attempts = [each for each in charged.values() if each[0] == row.order_id]
            assert len(attempts) == (1 if said[0] is not Answer.DECLINED else said.index(said[-1]) + 1 or 3) or (
                len(attempts) <= 3
            )
        for sku, count in units.items():
            assert (await app.load(Stock(sku))).available == count - shipped[sku]
        # What is taken back is taken back in order: first the order, then its stock.
        seen: dict[str, list[type]] = {}
        async for each in app.events([OrderPlaced, InventoryReserved, OrderCanceled, InventoryReleased, OrderShipped]):
            seen.setdefault(each.event.order_id, []).append(type(each.event))  # type: ignore[attr-defined]
        assert {tuple(each) for each in seen.values()} <= {
            (OrderPlaced, InventoryReserved, OrderShipped),
            (OrderPlaced, InventoryReserved, OrderCanceled, InventoryReleased),
        }
        assert await app.operations.waiting() == []
    assert len(charged) == len(set(charged.values()))


def test_a_process_is_a_function() -> None:
    check_out = checking_out()
    assert list(check_out(InventoryReserved("o", ()))) == [
        RequestPayment("o"),
        later(CancelUnpaid("o"), after=PAY_WITHIN, name="unpaid o"),
    ]
    assert list(check_out(PaymentDeclined("o", 2))) == [
        later(RequestPayment("o"), after=TRY_AGAIN[1], name="again o"),
    ]
    assert list(check_out(PaymentDeclined("o", 3))) == [CancelUnpaid("o")]
    assert list(check_out(OrderCanceled("o"))) == [cancel("unpaid o"), cancel("again o")]


def test_nobody_is_asked_twice_at_once() -> None:
    placed = OrderPlaced("o", "c", ())
    given(placed).when(request_payment, RequestPayment("o")).then(PaymentRequested("o", 1, Decimal()))
    asked = PaymentRequested("o", 1, Decimal())
    given(placed, asked).when(request_payment, RequestPayment("o")).then()
    given(placed, asked, PaymentDeclined("o", 1)).when(request_payment, RequestPayment("o")).then(
        PaymentRequested("o", 2, Decimal())
    )
    assert given(placed).load(Order("o")).status is Status.CREATED
