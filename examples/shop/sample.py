"""A made-up history of the same shape as the data, for where that is not at hand; the same seed gives the same one."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

from msgspec.structs import replace

from examples.shop.data import History, OrderRow
from examples.shop.orders import Item, Status, total_of
from examples.shop.payments import CapturePayment, PaymentType
from examples.shop.reviews import SubmitReview

ORDERS = 6_000
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
A_DAY = 10
CATEGORIES = ("books", "coffee", "garden", "games", "kitchen", "lamps", "music", "tea", "tools", "toys", "")
SOLD_OUT = ("sold-out-1", "sold-out-2")

Priced = tuple[str, Decimal]


def made_up(orders: int = ORDERS, seed: int = 1) -> History:
    """Make up a history."""
    random = Random(seed)  # noqa: S311
    skus = [f"product-{number:04}" for number in range(max(20, orders * 2 // 3))]
    products = [(sku, money(random, 500, 30_000)) for sku in skus]
    categories = {sku: random.choice(CATEGORIES) for sku in [*skus, *SOLD_OUT]}
    end = orders // A_DAY * 86_400 + 86_400
    return History([order(random, number, random.randrange(end), products) for number in range(orders)], categories)


def order(random: Random, number: int, seconds: int, products: Sequence[Priced]) -> OrderRow:
    """Make up an order; one in fifty does not quite fit, as in life."""
    order_id = f"order-{number:05}"
    placed = FIRST + timedelta(seconds=seconds)
    status = random.choices(list(Status), weights=(1, 1, 35, 35, 130, 650, 75, 70))[0]
    approved = placed + timedelta(minutes=random.randrange(*random.choice(((1, 15), (15, 60), (60, 4_000)))))
    shipped = approved + timedelta(hours=random.randrange(4, 90))
    delivered = shipped + timedelta(hours=random.randrange(20, 400))
    items = items_of(random, products, status)
    row = OrderRow(
        order_id=order_id,
        customer_id=f"customer-{random.randrange(number + 100):05}",
        status=status,
        placed=placed,
        approved=approved if status is not Status.CREATED else None,
        shipped=shipped if status in (Status.SHIPPED, Status.DELIVERED) else None,
        delivered=delivered if status is Status.DELIVERED else None,
        promised=placed + timedelta(days=random.randrange(7, 30)),
        items=items,
        payments=payments_of(random, order_id, total_of(items)),
        reviews=((delivered + timedelta(days=2), SubmitReview(order_id, f"review-{number:05}", random.randint(1, 5))),),
    )
    return spoilt(random, row) if random.random() < 0.02 else row


def items_of(random: Random, products: Sequence[Priced], status: Status) -> tuple[Item, ...]:
    if status is Status.UNAVAILABLE:  # most of these come without items; the others were sold out
        return (Item(random.choice(SOLD_OUT), 1, Decimal("9.90"), Decimal(3)),) if random.random() < 0.15 else ()
    chosen = random.sample(products, random.choices((1, 2, 3), weights=(90, 8, 2))[0])
    return tuple(
        Item(sku, random.choices((1, 2, 4), weights=(90, 8, 2))[0], price, money(random, 0, 4_000))
        for sku, price in chosen
    )


def payments_of(random: Random, order_id: str, total: Decimal) -> tuple[CapturePayment, ...]:
    due = total or money(random, 1_000, 30_000)
    kind = random.choices(list(PaymentType)[:4], weights=(70, 18, 10, 2))[0]
    instalments = random.randint(1, 10) if kind is PaymentType.CREDIT_CARD else 1
    if random.random() < 0.95:
        return (CapturePayment(order_id, 1, kind, instalments, due),)
    voucher = (due / 3).quantize(Decimal("0.01"))
    return (
        CapturePayment(order_id, 1, PaymentType.VOUCHER, 1, voucher),
        CapturePayment(order_id, 2, kind, instalments, due - voucher),
    )


def spoilt(random: Random, row: OrderRow) -> OrderRow:
    """Take something from an order, or turn it round."""
    match random.randrange(5):
        case 0:
            return replace(row, delivered=None)
        case 1:
            return replace(row, shipped=row.placed and row.placed - timedelta(hours=1))
        case 2 if row.shipped:
            return replace(row, approved=row.shipped + timedelta(hours=1))
        case 3 if row.shipped:
            return replace(row, status=Status.CANCELED)
        case _:
            return replace(row, payments=(replace(row.payments[0], amount=Decimal()),))


def money(random: Random, low: int, high: int) -> Decimal:
    return Decimal(random.randint(low, high)).scaleb(-2)
