"""Accounts: ids, events, the state, and the decisions that keep it right."""

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self, TypeAlias

from refold import Command, Event, Of, Rejected, State, Tag

AccountId: TypeAlias = Annotated[str, Tag("account")]
"""`2378` is one of ours, `YZ/32839107` one of another bank, whose code stands before it."""


class Purpose(StrEnum):
    NONE = ""
    INTEREST = "interest"
    PENSION = "pension"
    HOUSEHOLD = "household"
    INSURANCE = "insurance"
    LOAN_PAYMENT = "loan_payment"
    STATEMENT_FEE = "statement_fee"
    PENALTY_INTEREST = "penalty_interest"


# Events


class AccountOpened(Event):
    account_id: AccountId


class Deposited(Event):
    account_id: AccountId
    amount: Decimal
    purpose: Purpose = Purpose.NONE


class Withdrawn(Event):
    account_id: AccountId
    amount: Decimal
    purpose: Purpose = Purpose.NONE


class Transferred(Event):
    """One fact for both accounts, so there is nothing to keep in step."""

    source: AccountId
    target: AccountId
    amount: Decimal
    purpose: Purpose = Purpose.NONE


class AccountOverdrawn(Event):
    """An account went below zero."""

    account_id: AccountId
    balance: Decimal


# The state


class Account(State):
    account_id: AccountId
    opened: bool = False
    balance: Decimal = Decimal()

    def evolve(self, event: AccountOpened | Deposited | Withdrawn | Transferred) -> Self:
        match event:
            case AccountOpened():
                return self.replace(opened=True)
            case Deposited():
                return self.replace(balance=self.balance + event.amount)
            case Withdrawn():
                return self.replace(balance=self.balance - event.amount)
            case Transferred():
                gained = event.amount if event.target == self.account_id else -event.amount
                return self.replace(balance=self.balance + gained)

    @property
    def ours(self) -> bool:
        return "/" not in self.account_id

    def must_be_open(self) -> None:
        if not self.opened:
            raise NoSuchAccount

    def overdrawn_by(self, amount: Decimal) -> Iterable[AccountOverdrawn]:
        """Flag an account that goes below zero. The bank allows it, so it is no reason to refuse."""
        if self.ours and self.balance >= 0 > self.balance - amount:
            yield AccountOverdrawn(self.account_id, self.balance - amount)


# Decisions


class NoSuchAccount(Rejected):
    """No such account was opened here."""


class AlreadyOpen(Rejected):
    """The account is open already."""


class NotAnAmount(Rejected):
    """An amount must be above zero."""


class SameAccount(Rejected):
    """A transfer needs two different accounts."""


class NotOurs(Rejected):
    """Neither of the accounts is one of ours."""


class OpenAccount(Command):
    account_id: AccountId


class Deposit(Command):
    account_id: AccountId
    amount: Decimal
    purpose: Purpose = Purpose.NONE


class Withdraw(Command):
    account_id: AccountId
    amount: Decimal
    purpose: Purpose = Purpose.NONE


class Transfer(Command):
    source: AccountId
    target: AccountId
    amount: Decimal
    purpose: Purpose = Purpose.NONE


def open_account(cmd: OpenAccount, account: Account) -> Iterable[AccountOpened]:
    if not account.ours:
        raise NotOurs
    if account.opened:
        raise AlreadyOpen
    yield AccountOpened(cmd.account_id)


def deposit(cmd: Deposit, account: Account) -> Iterable[Deposited]:
    account.must_be_open()
    must_be_positive(cmd.amount)
    yield Deposited(cmd.account_id, cmd.amount, cmd.purpose)


def withdraw(cmd: Withdraw, account: Account) -> Iterable[Withdrawn | AccountOverdrawn]:
    account.must_be_open()
    must_be_positive(cmd.amount)
    yield Withdrawn(cmd.account_id, cmd.amount, cmd.purpose)
    yield from account.overdrawn_by(cmd.amount)


def transfer(
    cmd: Transfer, source: Annotated[Account, Of("source")], target: Annotated[Account, Of("target")]
) -> Iterable[Transferred | AccountOverdrawn]:
    if cmd.source == cmd.target:
        raise SameAccount
    if not source.ours and not target.ours:
        raise NotOurs
    for account in (source, target):
        if account.ours:
            account.must_be_open()
    must_be_positive(cmd.amount)
    yield Transferred(cmd.source, cmd.target, cmd.amount, cmd.purpose)
    yield from source.overdrawn_by(cmd.amount)


def must_be_positive(amount: Decimal) -> None:
    if amount <= 0:
        raise NotAnAmount
