"""Accounts: what is owed for an order, from the day it is placed: ids, events, state, decisions."""

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self, TypeAlias

from refold import Command, Event, Indexed, State, Tag

OrderId: TypeAlias = Annotated[str, Tag("order")]


class AccountOpened(Event):
    order_id: OrderId
    customer_id: str
    total: Decimal


class InvoiceIssued(Event):
    order_id: OrderId
    customer_id: str
    total: Decimal


class InvoiceCredited(Event):
    order_id: OrderId
    total: Decimal


class AccountClosed(Event):
    order_id: OrderId


AccountEvent: TypeAlias = AccountOpened | InvoiceIssued | InvoiceCredited | AccountClosed


class Stage(StrEnum):
    OPEN = "open"
    INVOICED = "invoiced"
    CREDITED = "credited"  # invoiced, and taken back
    CLOSED = "closed"  # never invoiced


class Account(State):
    order_id: OrderId
    stage: Annotated[Stage | None, Indexed()] = None  # None until it is opened
    customer_id: str = ""
    total: Decimal = Decimal()

    def evolve(self, event: AccountEvent) -> Self:
        match event:
            case AccountOpened():
                return self.replace(stage=Stage.OPEN, customer_id=event.customer_id, total=event.total)
            case InvoiceIssued():
                return self.replace(stage=Stage.INVOICED)
            case InvoiceCredited():
                return self.replace(stage=Stage.CREDITED)
            case AccountClosed():
                return self.replace(stage=Stage.CLOSED)


class IssueInvoice(Command):
    order_id: OrderId


class CloseAccount(Command):
    order_id: OrderId


def issue_invoice(cmd: IssueInvoice, account: Account) -> Iterable[InvoiceIssued]:
    if account.stage is Stage.OPEN:
        yield InvoiceIssued(cmd.order_id, account.customer_id, account.total)


def close_account(cmd: CloseAccount, account: Account) -> Iterable[AccountClosed | InvoiceCredited]:
    match account.stage:
        case Stage.OPEN:
            yield AccountClosed(cmd.order_id)
        case Stage.INVOICED:
            yield InvoiceCredited(cmd.order_id, account.total)
        case _:
            pass
