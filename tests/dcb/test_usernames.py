from datetime import timedelta

import pytest

from refold.testing.given import given
from tests.dcb.usernames import (
    AccountClosed,
    AccountEvent,
    AccountRegistered,
    RegisterAccount,
    UsernameChanged,
    UsernameClaimed,
    register_account,
    register_account_after_retention,
)

REGISTERED = AccountRegistered("u1")
CLOSED = AccountClosed("u1")
CHANGED = UsernameChanged("u1", "u1changed")


@pytest.mark.parametrize(
    ("events", "username"),
    [
        ((), "u1"),
        ((REGISTERED,), "u2"),
        ((REGISTERED, CLOSED), "u1"),
        ((REGISTERED, CHANGED), "u1"),
        ((REGISTERED, CHANGED, UsernameChanged("u1changed", "u3")), "u1changed"),
    ],
)
def test_a_free_username_is_registered(events: tuple[AccountEvent, ...], username: str) -> None:
    given(*events).when(register_account, RegisterAccount(username)).then(AccountRegistered(username))


@pytest.mark.parametrize(
    ("events", "username"),
    [
        ((REGISTERED,), "u1"),
        ((REGISTERED, CHANGED), "u1changed"),
        ((REGISTERED, CLOSED, REGISTERED), "u1"),
        ((REGISTERED, CHANGED, UsernameChanged("u1changed", "u1")), "u1"),
    ],
)
def test_a_claimed_username_is_not_registered(events: tuple[AccountEvent, ...], username: str) -> None:
    outcome = given(*events).when(register_account, RegisterAccount(username))
    outcome.rejected(f'Username "{username}" is claimed')
    outcome.rejected(UsernameClaimed)


def ago(event: AccountEvent, days: int) -> tuple[AccountEvent, timedelta]:
    return event, timedelta(days=days)


@pytest.mark.parametrize("released", [CLOSED, CHANGED])
def test_a_released_username_is_kept_for_three_days(released: AccountEvent) -> None:
    past = given(ago(REGISTERED, 4), ago(released, 3))
    past.when(register_account_after_retention, RegisterAccount("u1")).rejected('Username "u1" is claimed')


@pytest.mark.parametrize("released", [CLOSED, CHANGED])
def test_after_four_days_it_is_free(released: AccountEvent) -> None:
    past = given(ago(REGISTERED, 4), ago(released, 4))
    past.when(register_account_after_retention, RegisterAccount("u1")).then(REGISTERED)


def test_retention_does_not_keep_a_name_that_was_never_claimed() -> None:
    given().when(register_account_after_retention, RegisterAccount("u1")).then(REGISTERED)
    given(REGISTERED).when(register_account_after_retention, RegisterAccount("u1")).rejected(UsernameClaimed)
