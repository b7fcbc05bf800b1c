"""The shop, as billing understands it: its contract, declared anew, and what each of its events means here.

No code is shared. What counts is the names and versions of the events, and of their fields those that we need.
"""

from decimal import Decimal

from examples.billing.accounts import AccountOpened, CloseAccount, IssueInvoice
from refold import Event, Inbox


class OrderPlaced(Event):
    order_id: str
    customer_id: str
    total: Decimal


class OrderShipped(Event):
    order_id: str


class OrderCanceled(Event):
    order_id: str


def open_account(event: OrderPlaced) -> AccountOpened:
    return AccountOpened(event.order_id, event.customer_id, event.total)


def invoice(event: OrderShipped) -> IssueInvoice:
    return IssueInvoice(event.order_id)


def write_off(event: OrderCanceled) -> CloseAccount:
    return CloseAccount(event.order_id)


SHOP = Inbox("shop", [open_account, invoice, write_off])
