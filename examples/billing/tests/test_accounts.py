"""Accounts: one invoice for what was shipped, none for what was not."""

from decimal import Decimal

from examples.billing.accounts import (
    Account,
    AccountClosed,
    AccountOpened,
    CloseAccount,
    InvoiceCredited,
    InvoiceIssued,
    IssueInvoice,
    Stage,
    close_account,
    issue_invoice,
)
from refold.testing import given

TOTAL = Decimal("9.50")
OPENED = AccountOpened("o", "ann", TOTAL)


def test_what_was_shipped_is_invoiced_once() -> None:
    invoiced = given(OPENED).when(issue_invoice, IssueInvoice("o")).then(InvoiceIssued("o", "ann", TOTAL))
    invoiced.when(issue_invoice, IssueInvoice("o")).then()
    assert invoiced.load(Account("o")) == Account("o", Stage.INVOICED, "ann", TOTAL)


def test_what_was_canceled_is_not() -> None:
    closed = given(OPENED).when(close_account, CloseAccount("o")).then(AccountClosed("o"))
    closed.when(issue_invoice, IssueInvoice("o")).then()
    closed.when(close_account, CloseAccount("o")).then()


def test_what_was_invoiced_and_canceled_is_credited_once() -> None:
    invoiced = given(OPENED, InvoiceIssued("o", "ann", TOTAL))
    credited = invoiced.when(close_account, CloseAccount("o")).then(InvoiceCredited("o", TOTAL))
    credited.when(close_account, CloseAccount("o")).then()
    assert credited.load(Account("o")).stage is Stage.CREDITED


def test_nothing_is_done_about_an_order_that_nobody_has_heard_of() -> None:
    given().when(issue_invoice, IssueInvoice("o")).then()
    given().when(close_account, CloseAccount("o")).then()
