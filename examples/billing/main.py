"""Billing: invoices what the shop has shipped. It has a log of its own, and shares no code with the shop.

The events of the shop are declared here as billing understands them: the names and fields that it needs.
"""

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self, TypeAlias

from refold import App, Command, Event, Inbox, State, Tag
from refold.bus.api import Bus
from refold.store.api import Store

OrderId: TypeAlias = Annotated[str, Tag("order")]

# From the shop.


class OrderPlaced(Event):
    order_id: OrderId
    customer_id: str
    total: Decimal


class OrderShipped(Event):
    order_id: OrderId


class OrderCanceled(Event):
    order_id: OrderId


# Our own.


class AccountOpened(Event):
    order_id: OrderId
    customer: str
    total: Decimal


class InvoiceIssued(Event):
    order_id: OrderId
    total: Decimal


class AccountClosed(Event):
    order_id: OrderId


class IssueInvoice(Command):
    order_id: OrderId


class CloseAccount(Command):
    order_id: OrderId


class Stage(StrEnum):
    NONE = "none"
    OPEN = "open"
    INVOICED = "invoiced"
    CLOSED = "closed"


class Account(State):
    """What is owed for an order."""

    order_id: OrderId
    stage: Stage = Stage.NONE
    total: Decimal = Decimal()

    def evolve(self, event: AccountOpened | InvoiceIssued | AccountClosed) -> Self:
        match event:
            case AccountOpened():
                return self.replace(stage=Stage.OPEN, total=event.total)
            case InvoiceIssued():
                return self.replace(stage=Stage.INVOICED)
            case AccountClosed():
                return self.replace(stage=Stage.CLOSED)


def issue_invoice(cmd: IssueInvoice, account: Account) -> Iterable[InvoiceIssued]:
    if account.stage is Stage.OPEN:
        yield InvoiceIssued(cmd.order_id, account.total)


def close_account(cmd: CloseAccount, account: Account) -> Iterable[AccountClosed]:
    if account.stage is Stage.OPEN:
        yield AccountClosed(cmd.order_id)


def open_account(event: OrderPlaced) -> AccountOpened:
    return AccountOpened(event.order_id, event.customer_id, event.total)


def bill(event: OrderShipped) -> IssueInvoice:
    return IssueInvoice(event.order_id)


def write_off(event: OrderCanceled) -> CloseAccount:
    return CloseAccount(event.order_id)


def make_app(store: str | Store, bus: str | Bus) -> App:
    return App(
        store,
        name="billing",
        bus=bus,
        events=AccountOpened | InvoiceIssued | AccountClosed,
        decisions=[issue_invoice, close_account],
        inbox=[Inbox("shop", [open_account, bill, write_off])],
        projections=[Account],
    )
