"""Accounts: a test of a decision is a call."""

from decimal import Decimal

import pytest

from examples.bank.accounts import (
    Account,
    AccountOpened,
    AccountOverdrawn,
    AlreadyOpen,
    Deposit,
    Deposited,
    NoSuchAccount,
    NotAnAmount,
    NotOurs,
    OpenAccount,
    SameAccount,
    Transfer,
    Transferred,
    Withdraw,
    Withdrawn,
    deposit,
    open_account,
    transfer,
    withdraw,
)

ANN = Account("1", opened=True, balance=Decimal(100))
BEN = Account("2", opened=True)
FOREIGN = Account("YZ/7")


def test_an_account_is_opened_once_and_here() -> None:
    assert list(open_account(OpenAccount("3"), Account("3"))) == [AccountOpened("3")]
    with pytest.raises(AlreadyOpen):
        list(open_account(OpenAccount("1"), ANN))
    with pytest.raises(NotOurs):
        list(open_account(OpenAccount("YZ/7"), FOREIGN))


def test_deposits_and_withdrawals_change_the_balance() -> None:
    events = [*deposit(Deposit("1", Decimal(50)), ANN), *withdraw(Withdraw("1", Decimal(30)), ANN)]
    assert events == [Deposited("1", Decimal(50)), Withdrawn("1", Decimal(30))]
    assert ANN.fold(events).balance == 120


@pytest.mark.parametrize("amount", [Decimal(0), Decimal("-0.01")])
def test_amounts_are_above_zero(amount: Decimal) -> None:
    with pytest.raises(NotAnAmount):
        list(deposit(Deposit("1", amount), ANN))
    with pytest.raises(NotAnAmount):
        list(withdraw(Withdraw("1", amount), ANN))
    with pytest.raises(NotAnAmount):
        list(transfer(Transfer("1", "2", amount), ANN, BEN))


def test_an_account_must_be_open() -> None:
    with pytest.raises(NoSuchAccount):
        list(deposit(Deposit("3", Decimal(1)), Account("3")))
    with pytest.raises(NoSuchAccount):
        list(withdraw(Withdraw("3", Decimal(1)), Account("3")))
    with pytest.raises(NoSuchAccount):
        list(transfer(Transfer("1", "3", Decimal(1)), ANN, Account("3")))


def test_a_transfer_is_one_fact_for_both_accounts() -> None:
    [moved] = transfer(Transfer("1", "2", Decimal(40)), ANN, BEN)
    assert moved == Transferred("1", "2", Decimal(40))
    assert ANN.fold([moved]).balance == 60
    assert BEN.fold([moved]).balance == 40


def test_a_transfer_goes_to_another_account_and_one_of_them_is_ours() -> None:
    with pytest.raises(SameAccount):
        list(transfer(Transfer("1", "1", Decimal(1)), ANN, ANN))
    with pytest.raises(NotOurs):
        list(transfer(Transfer("YZ/7", "YZ/8", Decimal(1)), FOREIGN, Account("YZ/8")))
    assert list(transfer(Transfer("YZ/7", "1", Decimal(1)), FOREIGN, ANN)) == [Transferred("YZ/7", "1", Decimal(1))]


def test_an_overdraft_is_allowed_and_flagged_when_it_begins() -> None:
    events = list(withdraw(Withdraw("1", Decimal(150)), ANN))
    assert events == [Withdrawn("1", Decimal(150)), AccountOverdrawn("1", Decimal(-50))]
    overdrawn = ANN.fold(events)
    assert list(withdraw(Withdraw("1", Decimal(1)), overdrawn)) == [Withdrawn("1", Decimal(1))]
    assert list(transfer(Transfer("2", "1", Decimal(5)), BEN, ANN))[1:] == [AccountOverdrawn("2", Decimal(-5))]
