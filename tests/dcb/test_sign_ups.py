from datetime import timedelta

import pytest

from refold import Rejected
from refold.testing.given import given
from tests.dcb.sign_ups import (
    ConfirmSignUp,
    NoPendingSignUp,
    OtpExpired,
    OtpUsed,
    SignUpConfirmed,
    SignUpInitiated,
    confirm_sign_up,
)

PAST = given(
    SignUpInitiated("john.doe@example.com", "111111", "John Doe"),
    SignUpInitiated("jane.doe@example.com", "222222", "Jane Doe"),
    SignUpConfirmed("jane.doe@example.com", "222222", "Jane Doe"),
    (SignUpInitiated("john.doe@example.com", "333333", "John Doe"), timedelta(minutes=61)),
    SignUpInitiated("jane.doe@example.com", "444444", "Jane Doe"),
    (SignUpInitiated("jane.doe@example.com", "555555", "Jane Doe"), timedelta(minutes=60)),
)


@pytest.mark.parametrize(
    ("email_address", "otp", "reason", "message"),
    [
        ("john.doe@example.com", "000000", NoPendingSignUp, "No pending sign-up for this OTP / email address"),
        ("jane.doe@example.com", "111111", NoPendingSignUp, "No pending sign-up for this OTP / email address"),
        ("jane.doe@example.com", "222222", OtpUsed, "OTP was already used"),
        ("john.doe@example.com", "333333", OtpExpired, "OTP expired"),
    ],
)
def test_a_sign_up_is_not_confirmed(email_address: str, otp: str, reason: type[Rejected], message: str) -> None:
    outcome = PAST.when(confirm_sign_up, ConfirmSignUp(email_address, otp))
    outcome.rejected(message)
    outcome.rejected(reason)


@pytest.mark.parametrize("otp", ["444444", "555555"])
def test_a_sign_up_is_confirmed_with_the_name_it_began_with(otp: str) -> None:
    PAST.when(confirm_sign_up, ConfirmSignUp("jane.doe@example.com", otp)).then(
        SignUpConfirmed("jane.doe@example.com", otp, "Jane Doe")
    )
