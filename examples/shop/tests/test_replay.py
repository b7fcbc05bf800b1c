"""The whole shop, end to end: made-up orders always, and a part of the real ones where they are."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from examples.replay import MisfitSummary
from examples.replay import replay as replay_steps
from examples.shop import report
from examples.shop.__main__ import main
from examples.shop.data import FOLDER, OPENING, History, OrderRow, doubts, order_steps, read_history, stages
from examples.shop.inventory import InventoryRefused
from examples.shop.main import make_app
from examples.shop.orders import CancelOrder, Item, Order, PlaceOrder, Status, total_of
from examples.shop.payments import CapturePayment, PaymentType
from examples.shop.sample import made_up
from examples.shop.views import CategorySummary, MonthSummary, OrderSummary, PaymentTypeSummary
from refold import App

real = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the real orders are not at {FOLDER}")
AT = datetime(2018, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUARTER = timedelta(days=90)


async def replay(app: App, history: History) -> None:
    await replay_steps(app, stages(history), span=QUARTER, opening=OPENING)
    await app.settle()


async def seen(app: App) -> dict[str, Any]:
    """Return what all runs must agree on."""
    views = (OrderSummary, MonthSummary, PaymentTypeSummary, CategorySummary, MisfitSummary)
    rows = {view.__name__: await app.view(view).find() for view in views}
    events = Counter([type(recorded.event).__name__ async for recorded in app.events()])
    return {**rows, "events": events}


def some(history: History, orders: int) -> History:
    """Return a part of a history, with something of everything in it."""
    picked: dict[str, OrderRow] = {}
    for row in history.orders:
        picked.setdefault(" ".join([row.status, *doubts(row)]), row)
    rows = [*picked.values(), *(row for row in history.orders[:orders] if row not in picked.values())][:orders]
    skus = {item.sku for row in rows for item in row.items}
    return History(rows, {sku: history.categories[sku] for sku in skus})


async def test_made_up_orders_come_to_what_they_should(tmp_path: Path) -> None:
    history = made_up(250)
    async with make_app(f"sqlite:///{tmp_path}/shop.db") as app:
        await replay(app, history)
        different = await report.compare(app, history.orders)
        assert len(different) < 0.03 * len(history.orders)
        assert all(each.reasons for each in different), "each difference has a reason"
        refused = [recorded async for recorded in app.events(InventoryRefused)]
        assert refused, "the inventory refuses what is sold out, and the process finds the order unavailable"


async def test_two_runs_agree_and_a_second_one_adds_nothing(tmp_path: Path) -> None:
    history = made_up(80)
    async with make_app(f"sqlite:///{tmp_path}/one.db") as one, make_app(f"sqlite:///{tmp_path}/two.db") as two:
        await replay(one, history)
        await replay(two, history)
        first, end = await seen(one), await one.head()
        assert first == await seen(two)
        await replay(one, history)
        assert await one.head() == end
        assert await seen(one) == first


async def test_a_run_that_was_cut_off_is_finished_by_the_next_one(tmp_path: Path) -> None:
    history = made_up(80)
    async with make_app(f"sqlite:///{tmp_path}/whole.db") as app:
        await replay(app, history)
        whole = await seen(app)
    done = 0

    def advance(number: int) -> None:
        nonlocal done
        done += number
        if done > 300:
            raise KeyError("cut off")

    async with make_app(f"sqlite:///{tmp_path}/cut.db") as app:
        with pytest.raises(ExceptionGroup):
            await replay_steps(app, stages(history), span=QUARTER, opening=OPENING, advance=advance)
    async with make_app(f"sqlite:///{tmp_path}/cut.db") as app:
        await replay(app, history)
        assert await seen(app) == whole


@real
async def test_real_orders_come_to_what_the_marketplace_says(tmp_path: Path) -> None:
    history = some(read_history(FOLDER), 300)
    async with make_app(f"sqlite:///{tmp_path}/shop.db") as app:
        await replay(app, history)
        different = await report.compare(app, history.orders)
        assert all(each.reasons for each in different), "each difference has a reason"
        assert {row.status for row in history.orders} == set(Status)
        assert len(different) <= 13
        paid = sum(payment.amount for row in history.orders for payment in row.payments)
        assert sum(row.revenue for row in await app.view(MonthSummary).find()) == paid
        assert sum(row.revenue for row in await app.view(PaymentTypeSummary).find()) == paid
        ordered = sum(item.quantity * item.price for row in history.orders for item in row.items)
        assert sum(row.revenue for row in await app.view(CategorySummary).find()) == ordered


@real
def test_the_real_data_has_all_that_is_said_of_it() -> None:
    history = read_history(FOLDER)
    assert len(history.orders) == 6_082
    assert sum(map(len, stages(history))) > 40_000
    assert not history.strays
    assert Counter(doubt for row in history.orders for doubt in doubts(row))["An order without items."] == 560


async def test_the_past_can_be_asked_for(tmp_path: Path) -> None:
    row = order_of(approved=AT + HOUR, shipped=AT + 2 * HOUR, delivered=AT + 9 * HOUR)
    async with make_app(f"sqlite:///{tmp_path}/shop.db") as app:
        await replay(app, History([row], {"tea": "drinks"}))
        for hours, status in ((-1, None), (0, Status.CREATED), (1, Status.APPROVED), (3, Status.SHIPPED)):
            order = await app.load(Order("o-1"), effective=AT + hours * HOUR)
            assert order.status == status
        assert (await app.load(Order("o-1"))).status is Status.DELIVERED


def test_what_has_no_time_in_the_data_comes_before_a_delivery() -> None:
    row = order_of(status="canceled", approved=AT + HOUR, shipped=AT + 2 * HOUR, delivered=AT + 9 * HOUR)
    [cancel] = [step for step in order_steps(row) if isinstance(step.what, CancelOrder)]
    assert cancel.at == row.shipped
    assert [type(step.what) for step in order_steps(row) if step.at == AT][-2:] == [PlaceOrder, CapturePayment]


@pytest.mark.parametrize(
    ("row", "doubt"),
    [
        ({"status": "delivered"}, "Delivered, but no time of approval."),
        ({"status": "delivered", "approved": AT, "delivered": AT}, "Delivered, but no time of handing over."),
        ({"status": "shipped", "approved": AT + HOUR, "shipped": AT}, "Approved after it was handed to the carrier."),
        ({"status": "canceled", "approved": AT, "shipped": AT}, "Canceled after it was handed to the carrier."),
        ({"status": "created", "items": ()}, "An order without items."),
        ({"status": "lost"}, "The status 'lost' is unknown."),
    ],
)
def test_what_looks_wrong_is_said(row: dict[str, Any], doubt: str) -> None:
    assert doubt in doubts(order_of(**row))


def order_of(**changes: Any) -> OrderRow:
    items = (Item("tea", 2, Decimal("4.50"), Decimal("3.00")),)
    payment = CapturePayment("o-1", 1, PaymentType.BOLETO, 1, total_of(items))
    row = OrderRow("o-1", "ann", "delivered", AT, items=items, payments=(payment,))
    return replace(row, **changes)


FILES = {
    "orders": "order_id,customer_id,order_status,order_purchase_timestamp,order_approved_at,"
    "order_delivered_carrier_date,order_delivered_customer_date,order_estimated_delivery_date\n"
    "o-1,c-1,shipped,2018-01-01 10:00:00,2018-01-01 11:00:00,2018-01-02 10:00:00,,2018-01-20 00:00:00\n"
    "o-1,c-1,created,2018-01-01 10:00:00,,,,\n"
    "o-2,c-2,delivered,,,,,\n",
    "order_items": "order_id,order_item_id,product_id,seller_id,shipping_limit_date,price,freight_value\n"
    "o-1,1,tea,s,2018-01-09 00:00:00,4.50,1.5\no-1,2,tea,s,2018-01-09 00:00:00,4.50,1.5\n"
    "o-1,3,pot,s,2018-01-09 00:00:00,10.0,0\n",
    "order_payments": "order_id,payment_sequential,payment_type,payment_installments,payment_value\n"
    "o-1,2,credit_card,3,20.0\no-1,1,voucher,1,2.0\no-1,1,voucher,1,2.0\no-9,1,voucher,1,2.0\n",
    "order_reviews": "review_id,order_id,review_score,review_creation_date,review_answer_timestamp\n"
    "r-1,o-1,5,2018-01-20 00:00:00,2018-01-21 00:00:00\n",
    "customers": "customer_id,customer_unique_id,customer_zip_code_prefix\nc-1,ann,1\n",
    "products": "product_id,product_category_name\ntea,drinks\n",
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_the_command_line_replays_a_folder_and_lists_its_orders(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / f"{name}.csv").write_text(text)
    store = f"sqlite:///{tmp_path}/shop.db"
    replayed = run("replay", "--data", str(tmp_path), "--store", store)
    assert replayed.exit_code == 0, replayed.output
    assert "Nothing to add" in run("replay", "--data", str(tmp_path), "--store", store).output
    listed = run("orders", "--store", store, "--json")
    assert json.loads(listed.stdout) == [{"order_id": "o-1", "status": "shipped", "total": 22.0, "paid": 22.0}]
    assert "o-1" in run("orders", "--store", store).output
    shown = run("demo", "--data", str(tmp_path), "--store", store)
    for reason in REASONS:
        assert reason in shown.output


REASONS = (
    "An order that is there twice.",
    "An order without a time of purchase.",
    "Payments of an order that is not there.",
    "Sold, but not in the list of products.",
    "This part was paid already.",
)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    missing = run("orders", "--store", f"sqlite:///{tmp_path}/no.db")
    assert missing.exit_code == 1
    assert "there is no store" in missing.output
    assert not (tmp_path / "no.db").exists()
    unread = run("replay", "--data", str(tmp_path), "--store", f"sqlite:///{tmp_path}/no.db")
    assert unread.exit_code == 1
    assert "cannot read the orders" in unread.output
