"""Opt-in tokens: a sign-up is confirmed by who has both the address and the one-time password."""

from datetime import datetime, timedelta
from typing import Annotated, Self, TypeAlias

from refold import Command, Event, Metadata, Rejected, State, Tag

VALID_FOR = timedelta(minutes=60)

EmailAddress: TypeAlias = Annotated[str, Tag("email")]
Otp: TypeAlias = Annotated[str, Tag("otp")]


class SignUpInitiated(Event):
    email_address: EmailAddress
    otp: Otp
    name: str


class SignUpConfirmed(Event):
    email_address: EmailAddress
    otp: Otp
    name: str


SignUpEvent: TypeAlias = SignUpInitiated | SignUpConfirmed


class ConfirmSignUp(Command):
    email_address: EmailAddress
    otp: Otp


class NoPendingSignUp(Rejected):
    """No pending sign-up for this OTP / email address"""


class OtpUsed(Rejected):
    """OTP was already used"""


class OtpExpired(Rejected):
    """OTP expired"""


class SignUp(State):
    email_address: EmailAddress
    otp: Otp
    name: str = ""
    initiated_at: datetime | None = None
    used: bool = False

    def evolve(self, event: SignUpEvent, metadata: Metadata) -> Self:
        match event:
            case SignUpInitiated():
                return self.replace(name=event.name, initiated_at=metadata.occurred_at)
            case SignUpConfirmed():
                return self.replace(used=True)


def confirm_sign_up(cmd: ConfirmSignUp, sign_up: SignUp, metadata: Metadata) -> SignUpConfirmed:
    if sign_up.initiated_at is None:
        raise NoPendingSignUp
    if sign_up.used:
        raise OtpUsed
    if metadata.occurred_at and metadata.occurred_at - sign_up.initiated_at > VALID_FOR:
        raise OtpExpired
    return SignUpConfirmed(cmd.email_address, cmd.otp, sign_up.name)
