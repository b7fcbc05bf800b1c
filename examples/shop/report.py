"""What the demo shows at its end, all of it read from views."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from msgspec import Struct
from rich.columns import Columns
from rich.console import RenderableType
from rich.table import Table

from examples.replay import MisfitFound, MisfitSummary
from examples.shop.data import History, OrderRow
from examples.shop.orders import Order
from examples.shop.payments import Payments
from examples.shop.views import CategorySummary, CustomerSummary, MonthSummary, OrderSummary, PaymentTypeSummary
from examples.terminal import amount, made
from refold import App


class Comparison(Struct, frozen=True):
    """An order whose events add up to something else than the data says, and what did not fit about it."""

    order_id: str
    oracle: str
    ours: str
    reasons: tuple[str, ...]


async def compare(app: App, orders: Iterable[OrderRow]) -> list[Comparison]:
    """Compare the status of each order with the data; return those that differ."""
    ours = {order.order_id: order for order in await app.view(OrderSummary).find()}
    reasons: dict[str, dict[str, None]] = {}
    async for recorded in app.events(MisfitFound):
        reasons.setdefault(recorded.event.about, {})[recorded.event.reason] = None
    compared: list[Comparison] = []
    for row in orders:
        found = ours.get(row.order_id)
        status = str(found.status) if found else "not placed"
        if status != row.status:
            compared.append(Comparison(row.order_id, row.status, status, tuple(reasons.get(row.order_id, {}))))
    return compared


async def show(app: App, history: History) -> Iterable[RenderableType]:
    """Return the whole report."""
    different = await compare(app, history.orders)
    parts: list[RenderableType] = [statuses(history.orders, different)]
    if different:
        parts.append(mismatches(different))
    parts.append(Columns([await by_month(app), await by_payment_type(app), await by_category(app)], padding=(0, 3)))
    parts.append(Columns([await misfits(app), await punctuality(app)], padding=(0, 3)))
    if example := example_of(history):
        parts.append(await one_order(app, example))
    return parts


def example_of(history: History) -> OrderRow | None:
    """Return an order that went all the way."""
    return next((row for row in history.orders if row.placed and row.delivered and row.status == "delivered"), None)


def statuses(orders: Iterable[OrderRow], different: Sequence[Comparison]) -> Table:
    """Show for each status of the data how many orders came to the same."""
    table = made("Final status: the data, and what the events add up to", "data says", "-orders", "-same", "-", "other")
    expected = Counter(row.status for row in orders)
    for status, count in expected.most_common():
        others = Counter(each.ours for each in different if each.oracle == status)
        same = count - others.total()
        other = ", ".join(f"{number} {ours}" for ours, number in others.most_common())
        table.add_row(status, f"{count:,}", f"{same:,}", percent(same, count), other)
    total = expected.total()
    table.add_section()
    table.add_row("all", f"{total:,}", f"{total - len(different):,}", percent(total - len(different), total), "")
    return table


def mismatches(different: Iterable[Comparison]) -> Table:
    """Show why orders came to another status."""
    table = made("Why they differ", "data says", "events say", "because", "-orders", "for example")
    table.columns[-1].no_wrap = True
    groups: dict[tuple[str, str, str], list[str]] = {}
    for each in different:
        because = "\n".join(each.reasons) or "nothing that we know of"
        groups.setdefault((each.oracle, each.ours, because), []).append(each.order_id)
    for (oracle, ours, because), orders in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        table.add_row(oracle, ours, because, str(len(orders)), orders[0])
    return table


async def misfits(app: App) -> Table:
    """Show all that did not fit."""
    table = made("What did not fit", "reason", "-refused", "-taken all the same")
    for row in sorted(await app.view(MisfitSummary).find(), key=lambda row: (-row.refused, -row.taken, row.reason)):
        table.add_row(row.reason, f"{row.refused:,}" if row.refused else "", f"{row.taken:,}" if row.taken else "")
    return table


async def by_month(app: App) -> Table:
    table = made("Revenue by month", "month", "-payments", "-paid")
    rows = await app.view(MonthSummary).find(order="month")
    for row in rows:
        table.add_row(row.month, f"{row.payments:,}", amount(row.revenue))
    return totalled(table, sum(row.payments for row in rows), sum((row.revenue for row in rows), Decimal()))


async def by_payment_type(app: App) -> Table:
    table = made("Revenue by payment type", "type", "-payments", "-paid")
    rows = await app.view(PaymentTypeSummary).find(order="-revenue")
    for row in rows:
        table.add_row(row.kind, f"{row.payments:,}", amount(row.revenue))
    return totalled(table, sum(row.payments for row in rows), sum((row.revenue for row in rows), Decimal()))


async def by_category(app: App, limit: int = 20) -> Table:
    table = made("Revenue by category, without freight", "category", "-units", "-ordered")
    rows = await app.view(CategorySummary).find(order="-revenue")
    for row in rows[:limit]:
        table.add_row(row.category, f"{row.units:,}", amount(row.revenue))
    if rest := rows[limit:]:
        units, revenue = sum(row.units for row in rest), sum((row.revenue for row in rest), Decimal())
        table.add_row(f"{len(rest)} others", f"{units:,}", amount(revenue))
    return totalled(table, sum(row.units for row in rows), sum((row.revenue for row in rows), Decimal()))


async def punctuality(app: App) -> Table:
    """Show what customers say about orders that came in time, late, or not at all; and how many came back."""
    table = made("What customers say", "their order", "-orders", "-reviewed", "-score")
    groups: dict[str, list[OrderSummary]] = {"came in time": [], "came late": [], "has not come": []}
    for row in await app.view(OrderSummary).find():
        late = row.delivered_at and row.promised and row.delivered_at > row.promised + timedelta(days=1)
        groups["came late" if late else "came in time" if row.delivered_at else "has not come"].append(row)
    for name, orders in groups.items():
        scores = [order.score for order in orders if order.score]
        score = f"{sum(scores) / len(scores):.2f}" if scores else ""
        table.add_row(name, f"{len(orders):,}", f"{len(scores):,}", score)
    faithful = await app.view(CustomerSummary).count({"orders__ge": 2})
    table.caption = f"{faithful:,} of {await app.view(CustomerSummary).count():,} customers ordered again"
    return table


async def one_order(app: App, row: OrderRow) -> Table:
    """Show an order as it was at several times."""
    table = made("Time travel: one order, as it was", "at", "status", "-total", "-paid")
    table.caption = f"order {row.order_id}"
    times = sorted(at for at in (row.placed, row.approved, row.shipped, row.delivered) if at)
    for at in (times[0] - timedelta(seconds=1), *times):
        order, payments = await look(app, row.order_id, at)
        status = str(order.status) if order.status else "not placed"
        table.add_row(f"{at:%Y-%m-%d %H:%M:%S}", status, amount(order.total), amount(payments.paid))
    return table


async def look(app: App, order_id: str, at: datetime) -> tuple[Order, Payments]:
    return await app.load(Order(order_id), effective=at), await app.load(Payments(order_id), effective=at)


def totalled(table: Table, count: int, revenue: Decimal) -> Table:
    table.add_section()
    table.add_row("all", f"{count:,}", amount(revenue))
    return table


def percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if part == whole else f"{min(part / whole, 0.999):.1%}"
