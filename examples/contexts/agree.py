"""Whether three logs and the world agree on each order: nothing is missing, nothing there twice, all in order."""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

from examples.billing.accounts import (
    AccountClosed,
    AccountEvent,
    AccountOpened,
    InvoiceCredited,
    InvoiceIssued,
)
from examples.contexts.world import Request
from examples.notifications.mails import MailEvent, MailRequested, MailSent
from examples.shop.orders import OrderCanceled, OrderFoundUnavailable, OrderPlaced, OrderShipped, total_of
from refold import App

PLACED, SHIPPED, CANCELED = "placed", "shipped", "canceled"
ENDS = ((PLACED, SHIPPED), (PLACED, CANCELED), (PLACED, SHIPPED, CANCELED))
"""All that may become of an order."""
SUBJECTS = {
    "Thank you for your order": PLACED,
    "Your order is on its way": SHIPPED,
    "Your order was canceled": CANCELED,
}
Stories = dict[str, list[str]]
"""What a context knows of each order, in the shop's words."""


async def disagreements(shop: App, billing: App, notifications: App, world: Sequence[Request]) -> list[str]:
    """Return what does not fit together, for people; empty if all does."""
    truth, totals = await of_shop(shop)
    requested, sent = await of_mails(notifications)
    others = {
        "billing": await of_billing(billing),
        "the mails requested": requested,
        "the mails sent": sent,
        "the mails delivered": of_post(world),
    }
    found = [f"{order_id} is {told}, which is no end" for order_id, told in truth.items() if tuple(told) not in ENDS]
    for name, stories in others.items():
        for order_id in sorted(truth.keys() | stories.keys()):
            told, true = stories.get(order_id, []), truth.get(order_id, [])
            if told != true:
                found.append(f"{order_id} is {true} in the shop, and {told} in {name}")
    paid = held(world)
    for order_id, told in truth.items():
        due = totals[order_id] if told[-1] == SHIPPED else 0
        if paid[order_id] != due:
            found.append(f"{order_id} is {told}, and its customer has paid {paid[order_id]} where {due} is due")
    return found


async def of_shop(app: App) -> tuple[Stories, dict[str, Decimal]]:
    """Return what the shop says of its orders, and their totals."""
    told: Stories = {}
    totals: dict[str, Decimal] = {}
    async for recorded in app.events([OrderPlaced, OrderShipped, OrderCanceled, OrderFoundUnavailable]):
        match recorded.event:
            case OrderPlaced() as event:
                told[event.order_id] = [PLACED]
                totals[event.order_id] = total_of(event.lines)
            case OrderShipped() as event:
                told[event.order_id].append(SHIPPED)
            case OrderCanceled() | OrderFoundUnavailable() as event:
                told[event.order_id].append(CANCELED)
            case _:
                pass
    return told, totals


async def of_billing(app: App) -> Stories:
    """Return what billing did about each order."""
    told: Stories = {}
    async for recorded in app.events(AccountEvent):
        match recorded.event:
            case AccountOpened() as event:
                told.setdefault(event.order_id, []).append(PLACED)
            case InvoiceIssued() as event:
                told.setdefault(event.order_id, []).append(SHIPPED)
            case InvoiceCredited() | AccountClosed() as event:
                told.setdefault(event.order_id, []).append(CANCELED)
            case _:
                pass
    return told


async def of_mails(app: App) -> tuple[Stories, Stories]:
    """Return which mails were requested for each order, and which were sent."""
    requested: Stories = {}
    sent: Stories = {}
    async for recorded in app.events(MailEvent):
        match recorded.event:
            case MailRequested() as event:
                requested.setdefault(event.order_id, []).append(SUBJECTS[event.subject])
            case MailSent() as event:
                sent.setdefault(event.order_id, []).append(SUBJECTS[event.subject])
            case _:
                pass
    return requested, sent


def of_post(world: Sequence[Request]) -> Stories:
    """Return which mails were delivered for each order."""
    told: Stories = {}
    for request in world:
        if request.kind == "mail":
            told.setdefault(request.order_id, []).append(SUBJECTS[request.detail])
    return told


def held(world: Sequence[Request]) -> dict[str, Decimal]:
    """Return what each customer has paid, and not been given back."""
    paid: dict[str, Decimal] = defaultdict(Decimal)
    for request in world:
        if (request.kind, request.answer) in (("charge", "paid"), ("transfer", "done")):
            paid[request.order_id] += Decimal(request.amount)
        elif request.kind == "refund":
            paid[request.order_id] -= Decimal(request.amount)
    return paid
