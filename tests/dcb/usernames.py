"""Unique usernames: claimed, given back, changed; and, as another decision, kept for some days after that."""

from datetime import datetime, timedelta
from typing import Annotated, Self, TypeAlias

from refold import Command, Event, Metadata, Rejected, State, Tag

RETENTION_DAYS = 3

Username: TypeAlias = Annotated[str, Tag("username")]


class AccountRegistered(Event):
    username: Username


class AccountClosed(Event):
    username: Username


class UsernameChanged(Event):
    old_username: Username
    new_username: Username


AccountEvent: TypeAlias = AccountRegistered | AccountClosed | UsernameChanged


class RegisterAccount(Command):
    username: Username


class UsernameClaimed(Rejected):
    def __init__(self, username: str) -> None:
        super().__init__(f'Username "{username}" is claimed')


class Claim(State):
    username: Username
    claimed: bool = False
    released_at: datetime | None = None

    def evolve(self, event: AccountEvent, metadata: Metadata) -> Self:
        match event:
            case AccountRegistered() | UsernameChanged(new_username=self.username):
                return self.replace(claimed=True)
            case AccountClosed() | UsernameChanged():
                return self.replace(claimed=False, released_at=metadata.occurred_at)


def register_account(cmd: RegisterAccount, claim: Claim) -> AccountRegistered:
    if claim.claimed:
        raise UsernameClaimed(cmd.username)
    return AccountRegistered(cmd.username)


def register_account_after_retention(cmd: RegisterAccount, claim: Claim, metadata: Metadata) -> AccountRegistered:
    if claim.claimed or _is_kept(claim, metadata.occurred_at):
        raise UsernameClaimed(cmd.username)
    return AccountRegistered(cmd.username)


def _is_kept(claim: Claim, now: datetime | None) -> bool:
    if now is None or claim.released_at is None:
        return False
    return now - claim.released_at < timedelta(days=RETENTION_DAYS + 1)
