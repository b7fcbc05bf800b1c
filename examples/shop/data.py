"""The data: CSV files become a history, and a history becomes commands, each with the time when it happened.

The files are of Olist's public data set (see ../shared/data/README.md). They tell when an order was placed, approved,
handed to the carrier and delivered. They do not tell when it was paid, processed, invoiced, cancelled or found
unavailable: there the comments below say what is assumed. What looks wrong is noted as a misfit, and done all the same;
whether it may be done is for the decisions to say.
"""

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from msgspec import Struct, field

from examples.replay import MisfitFound, Step
from examples.shop.catalogue import ListProduct, Sku
from examples.shop.fulfilment import DeliverOrder, InvoiceOrder, MarkUnavailable, ShipOrder, StartProcessing
from examples.shop.inventory import ReceiveStock
from examples.shop.orders import CancelOrder, Item, PlaceOrder, Status, total_of
from examples.shop.payments import ROUNDING, ApproveOrder, CapturePayment, PaymentType
from examples.shop.reviews import SubmitReview
from refold import Command

FOLDER = Path(os.environ.get("SHOP_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data" / "shop")
"""Where the files are, unless `SHOP_DATA` names another folder."""
OPENING = (ListProduct, ReceiveStock, PlaceOrder, CapturePayment)
"""With these things begin: what processes make of them is awaited before anything else of the same days is done."""
SPAN = timedelta(days=7)
"""So much of the history is replayed at a time."""
NO_CATEGORY = "(none)"


class OrderRow(Struct, frozen=True):
    """All that the files say about an order."""

    order_id: str
    customer_id: str
    status: str  # the oracle: what its events should add up to
    placed: datetime | None = None
    approved: datetime | None = None
    shipped: datetime | None = None
    delivered: datetime | None = None
    promised: datetime | None = None
    items: tuple[Item, ...] = ()
    payments: tuple[CapturePayment, ...] = ()
    reviews: tuple[tuple[datetime, SubmitReview], ...] = ()


class History(Struct, frozen=True):
    """What a folder holds."""

    orders: list[OrderRow]
    categories: dict[Sku, str]
    strays: list[MisfitFound] = field(default_factory=list[MisfitFound])


def stages(history: History) -> tuple[list[Step], list[Step]]:
    """Turn a history into commands and misfits: first the catalogue and its stock, then the orders."""
    orders = [step for row in history.orders for step in order_steps(row)]
    before = min((step.at for step in orders), default=moment("2016-01-01")) - timedelta(days=1)
    return list(catalogue_steps(history, before)), orders


def catalogue_steps(history: History, at: datetime) -> Iterator[Step]:
    for sku in history.categories:
        yield from product_steps(sku, history.categories[sku], at)
    for sku, quantity in stock_needed(history.orders).items():
        yield Step(f"{sku}/stock", sku, at, ReceiveStock(sku, quantity))
    for stray in history.strays:
        yield Step(f"{stray.about}/misfit/{stray.reason}", stray.about, at, stray)


def product_steps(sku: Sku, category: str, at: datetime) -> Iterator[Step]:
    if not category:
        yield Step(f"{sku}/misfit", sku, at, MisfitFound(sku, "A product without a category."))
    yield Step(f"{sku}/list", sku, at, ListProduct(sku, category or NO_CATEGORY))


def stock_needed(orders: Iterable[OrderRow]) -> Counter[Sku]:
    """Return how much there must have been of each product: what was ordered.

    A product whose every order was found unavailable was never there. Its orders are refused by the inventory, so
    that they become unavailable by themselves.
    """
    wanted: Counter[Sku] = Counter()
    there: set[Sku] = set()
    for row in orders:
        for item in row.items:
            wanted[item.sku] += item.quantity
            if row.status != Status.UNAVAILABLE:
                there.add(item.sku)
    return Counter({sku: wanted[sku] for sku in wanted if sku in there})


def order_steps(row: OrderRow) -> Iterator[Step]:
    """Turn an order into commands; of those at the same time, the first one comes first."""
    order_id = row.order_id
    if row.placed is None:  # a stray
        return

    def step(name: str, at: datetime, what: Command) -> Step:
        return Step(f"{order_id}/{name}", order_id, at, what)

    for doubt in doubts(row):
        yield Step(f"{order_id}/misfit/{doubt}", order_id, row.placed, MisfitFound(order_id, doubt))
    yield step("place", row.placed, PlaceOrder(order_id, row.customer_id, row.items, row.promised))
    for number, payment in enumerate(row.payments, 1):
        # A payment has no time of its own in the data. It is taken as made when the order was placed.
        yield step(f"pay/{number}", row.placed, payment)
    if row.approved:
        yield step("approve", row.approved, ApproveOrder(order_id))
    if row.shipped:
        yield step("ship", row.shipped, ShipOrder(order_id))
    untimed = UNTIMED.get(row.status)
    if untimed:
        # Nor have these. They are taken as having happened right after the last thing known before a delivery.
        last = max(at for at in (row.placed, row.approved, row.shipped) if at)
        yield step(row.status, last, untimed(order_id))
    if row.delivered:
        yield step("deliver", row.delivered, DeliverOrder(order_id))
    for number, (at, review) in enumerate(row.reviews, 1):
        yield step(f"review/{number}", at, review)


UNTIMED: Mapping[str, type[StartProcessing | InvoiceOrder | CancelOrder | MarkUnavailable]] = {
    Status.PROCESSING: StartProcessing,
    Status.INVOICED: InvoiceOrder,
    Status.CANCELED: CancelOrder,
    Status.UNAVAILABLE: MarkUnavailable,
}


def doubts(row: OrderRow) -> Iterator[str]:
    """Say what looks wrong about an order."""
    if row.status not in set(Status):
        yield f"The status {row.status!r} is unknown."
    for name, at in missing_times(row):
        if not at:
            yield f"{row.status.capitalize()}, but no time of {name}."
    if row.approved and row.shipped and row.approved > row.shipped:
        yield "Approved after it was handed to the carrier."
    if row.shipped and row.status == Status.CANCELED:
        yield "Canceled after it was handed to the carrier."
    if not row.items:
        yield "An order without items."
    if len(row.payments) > 1:
        yield "Paid in several parts."
    if row.items and sum(payment.amount for payment in row.payments) > total_of(row.items) + ROUNDING:
        yield "Paid more than the total."
    if len(row.reviews) > 1:
        yield "Reviewed more than once."


def missing_times(row: OrderRow) -> tuple[tuple[str, datetime | None], ...]:
    """Return the times that an order of this status must have."""
    times = (("approval", row.approved), ("handing over", row.shipped), ("delivery", row.delivered))
    match row.status:
        case Status.DELIVERED:
            return times
        case Status.SHIPPED:
            return times[:2]
        case Status.APPROVED | Status.PROCESSING | Status.INVOICED | Status.UNAVAILABLE:
            return times[:1]
        case _:
            return ()


def read_history(folder: Path) -> History:
    """Read the CSV files of a folder."""
    rows = read(folder / "orders.csv")
    of_orders = {name: grouped(read(folder / f"order_{name}.csv")) for name in ("items", "payments", "reviews")}
    people = {row["customer_id"]: row["customer_unique_id"] for row in read(folder / "customers.csv")}
    categories = {row["product_id"]: row["product_category_name"] for row in read(folder / "products.csv")}
    sold = dict.fromkeys(row["product_id"] for found in of_orders["items"].values() for row in found)
    orders: dict[str, OrderRow] = {}
    strays = [MisfitFound(sku, "Sold, but not in the list of products.") for sku in sold if sku not in categories]
    for row in rows:
        order_id = row["order_id"]
        if order_id in orders:
            strays.append(MisfitFound(order_id, "An order that is there twice."))
            continue
        orders[order_id] = read_order(row, people, *(found.pop(order_id, []) for found in of_orders.values()))
        if orders[order_id].placed is None:
            strays.append(MisfitFound(order_id, "An order without a time of purchase."))
    for name, left in of_orders.items():
        strays += [MisfitFound(order_id, f"{name.capitalize()} of an order that is not there.") for order_id in left]
    return History(list(orders.values()), dict.fromkeys(sold, "") | categories, strays)


def read_order(
    row: dict[str, str],
    people: Mapping[str, str],
    items: Iterable[dict[str, str]],
    payments: Iterable[dict[str, str]],
    reviews: Iterable[dict[str, str]],
) -> OrderRow:
    return OrderRow(
        order_id=row["order_id"],
        customer_id=people.get(row["customer_id"], row["customer_id"]),
        status=row["order_status"],
        placed=moment_or_none(row["order_purchase_timestamp"]),
        approved=moment_or_none(row["order_approved_at"]),
        shipped=moment_or_none(row["order_delivered_carrier_date"]),
        delivered=moment_or_none(row["order_delivered_customer_date"]),
        promised=moment_or_none(row["order_estimated_delivery_date"]),
        items=tuple(read_items(items)),
        payments=tuple(sorted(map(read_payment, payments), key=lambda payment: payment.number)),
        reviews=tuple(
            (
                moment(review["review_answer_timestamp"]),
                SubmitReview(row["order_id"], review["review_id"], int(review["review_score"])),
            )
            for review in reviews
        ),
    )


def read_items(rows: Iterable[dict[str, str]]) -> Iterator[Item]:
    """Read items; the file has a row for each piece."""
    found: dict[tuple[str, Decimal], list[Decimal]] = defaultdict(list)
    for row in rows:
        found[row["product_id"], Decimal(row["price"])].append(Decimal(row["freight_value"]))
    for (sku, price), freights in found.items():
        yield Item(sku, len(freights), price, sum(freights, Decimal()))


def read_payment(row: dict[str, str]) -> CapturePayment:
    return CapturePayment(
        order_id=row["order_id"],
        number=int(row["payment_sequential"]),
        kind=PaymentType(row["payment_type"]),
        instalments=int(row["payment_installments"]),
        amount=Decimal(row["payment_value"]),
    )


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def grouped(rows: Iterable[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Put the rows of each order together."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(row["order_id"], []).append(row)
    return found


def moment(text: str) -> datetime:
    # The data names no time zone; its times are taken as UTC.
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def moment_or_none(text: str) -> datetime | None:
    return moment(text) if text else None
