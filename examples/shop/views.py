"""Views: the same events in the shape of each screen, kept as rows."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self

from examples.shop.catalogue import Category
from examples.shop.orders import (
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
from refold import Metadata, State, Tag


class OrderSummary(State):
    """A line in the list of orders."""

    order_id: OrderId
    status: Status | None = None
    customer_id: str = ""
    items: int = 0
    total: Decimal = Decimal()
    paid: Decimal = Decimal()
    score: int | None = None
    placed_at: datetime | None = None
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
    """What was ordered of a category, without freight."""

    category: Category
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
