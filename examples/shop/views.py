"""Views: the same events in the shape of each screen, kept as rows."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self

from examples.shop.catalogue import Category, ProductListed, Sku
from examples.shop.orders import (
    OPEN,
    CustomerId,
    OrderDelivered,
    OrderEvent,
    OrderId,
    OrderPlaced,
    Status,
    status_after,
    total_of,
)
from examples.shop.payments import Month, PaymentCaptured, PaymentType
from examples.shop.reviews import ReviewSubmitted
from refold import Indexed, Metadata, Projection, Row, Rows, Searched, State, Tag


class OrderSummary(State):
    """A line in the list of orders."""

    order_id: OrderId
    status: Annotated[Status | None, Indexed()] = None
    customer_id: Annotated[str, Indexed()] = ""
    items: int = 0
    total: Annotated[Decimal, Indexed()] = Decimal()
    paid: Decimal = Decimal()
    score: int | None = None
    placed_at: Annotated[datetime | None, Indexed()] = None
    promised: datetime | None = None
    delivered_at: datetime | None = None

    def evolve(self, event: OrderEvent | PaymentCaptured | ReviewSubmitted, metadata: Metadata) -> Self:
        match event:
            case PaymentCaptured():
                return self.replace(paid=self.paid + event.amount)
            case ReviewSubmitted():
                return self.replace(score=event.score)
            case OrderPlaced():
                order = self._placed(event, metadata.occurred_at)
            case OrderDelivered():
                order = self.replace(delivered_at=metadata.occurred_at)
            case _:
                order = self
        return order.replace(status=status_after(event, self.status))

    def _placed(self, event: OrderPlaced, at: datetime | None) -> Self:
        return self.replace(
            customer_id=event.customer_id,
            items=sum(line.quantity for line in event.lines),
            total=total_of(event.lines),
            placed_at=at,
            promised=event.promised,
        )


class CustomerSummary(State):
    """How faithful a customer is."""

    customer_id: CustomerId
    orders: int = 0
    total: Decimal = Decimal()

    def evolve(self, event: OrderPlaced) -> Self:
        return self.replace(orders=self.orders + 1, total=self.total + total_of(event.lines))


class MonthSummary(State):
    """What came in in a month."""

    month: Month
    payments: int = 0
    revenue: Decimal = Decimal()

    def evolve(self, event: PaymentCaptured) -> Self:
        return self.replace(payments=self.payments + 1, revenue=self.revenue + event.amount)


class PaymentTypeSummary(State):
    """What came in by card, boleto, voucher."""

    kind: Annotated[PaymentType, Tag("payment")]
    payments: int = 0
    instalments: int = 0
    revenue: Decimal = Decimal()

    def evolve(self, event: PaymentCaptured) -> Self:
        return self.replace(
            payments=self.payments + 1,
            instalments=self.instalments + event.instalments,
            revenue=self.revenue + event.amount,
        )


class CategorySummary(State):
    """What was ordered of a category, without freight; `examples/shop/next.py` has another definition."""

    category: Category
    basis: str = "without freight"
    orders: int = 0
    units: int = 0
    revenue: Decimal = Decimal()

    def evolve(self, event: OrderPlaced) -> Self:
        lines = [line for line in event.lines if line.category == self.category]
        return self.replace(
            orders=self.orders + 1,
            units=self.units + sum(line.quantity for line in lines),
            revenue=self.revenue + sum((line.quantity * line.price for line in lines), Decimal()),
        )


class CatalogueEntry(State):
    """A product as customers look for it, by words."""

    sku: Sku
    words: Annotated[str, Searched()] = ""
    units: Annotated[int, Indexed()] = 0

    def evolve(self, event: ProductListed | OrderPlaced) -> Self:
        match event:
            case ProductListed():
                return self.replace(words=f"{event.category.replace('_', ' ')} {event.sku}")
            case OrderPlaced():
                return self.replace(units=self.units + sum(i.quantity for i in event.lines if i.sku == self.sku))


class Queued(Row):
    """An order that is not on its way yet."""

    order_id: OrderId
    status: Annotated[Status, Indexed()] = Status.CREATED
    items: int = 0
    since: datetime | None = None


class QueueLength(Row):
    """How many orders wait at a stage."""

    status: Status
    orders: int = 0


class Queue(Projection):
    """What the warehouse has to do: rows come with an order, and go when it is shipped or off."""

    rows = (Queued, QueueLength)

    async def apply(self, event: OrderEvent, rows: Rows, metadata: Metadata) -> None:
        before = await rows.get(Queued, event.order_id)
        if isinstance(event, OrderPlaced):
            items = sum(line.quantity for line in event.lines)
            rows.put(Queued(event.order_id, Status.CREATED, items, metadata.occurred_at))
            await self.count(Status.CREATED, 1, rows)
        elif before is not None:
            status = status_after(event, before.status)
            await self.count(before.status, -1, rows)
            if status in OPEN:
                rows.put(before.replace(status=status))
                await self.count(status, 1, rows)
            else:
                rows.delete(Queued, event.order_id)

    async def count(self, status: Status, change: int, rows: Rows) -> None:
        length = await rows.get(QueueLength, status) or QueueLength(status)
        rows.put(length.replace(orders=length.orders + change))
